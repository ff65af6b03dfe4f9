"""Analyses of results: differences, frontiers, information curves, budgets and verdicts."""
