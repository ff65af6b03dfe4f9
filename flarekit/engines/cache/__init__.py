"""A cache of completions that requests only the tokens that no earlier stream holds."""
