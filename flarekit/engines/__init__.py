"""Language models: what an engine is, vLLM over HTTP, a cache of its completions, and local servers."""
