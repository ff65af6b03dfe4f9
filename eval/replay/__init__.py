"""Recorded traces replayed: every signal's value on every prefix, without asking a model."""
