"""vLLM on this machine: start and end a server, small models, and `flarekit doctor`."""
