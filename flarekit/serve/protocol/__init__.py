"""OpenAI's protocol: what a request asks for, and what is answered."""
