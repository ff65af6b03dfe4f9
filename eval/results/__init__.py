"""Results: scores and costs of every question by every arm, and outcomes that routers learn from."""
