"""The commands that run, compare and plan evaluations."""
