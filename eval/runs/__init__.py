"""Runs: policies on the questions of a dataset, recorded as they finish, and read back."""
