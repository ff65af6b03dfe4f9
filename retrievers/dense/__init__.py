"""Retrieval by meaning: embedders, vectors, and FAISS."""
