"""Retrieval by words: BM25 in memory and on disk."""
