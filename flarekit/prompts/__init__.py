"""Prompts: the few-shot prompt, chat templates, the evidence in them, and the answers read back out."""
