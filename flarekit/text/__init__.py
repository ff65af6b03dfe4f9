"""Text: sentences, words, stop strings, and answers in canonical form."""
