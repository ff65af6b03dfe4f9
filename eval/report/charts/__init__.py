"""Charts, each drawn from what an analysis holds."""
