"""A session runs one policy on one question: the loop, its monitor, and its transcript."""
