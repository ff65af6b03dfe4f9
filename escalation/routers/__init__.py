"""The routers, one module a published method."""
