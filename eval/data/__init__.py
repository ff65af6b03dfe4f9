"""Questions, answers and passages: datasets, metrics, and the built-in world."""
