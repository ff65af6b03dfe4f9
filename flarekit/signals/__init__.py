"""Signals of uncertainty: from tokens, online along a stream, from the question, and from a finished answer."""
