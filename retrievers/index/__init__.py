"""Indexes on disk: built, opened and described."""
