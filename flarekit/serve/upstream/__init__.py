"""The vLLM servers behind the server: connections, and several servers of one model."""
