"""Corpora and passages on disk."""
