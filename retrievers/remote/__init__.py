"""Search engines that run elsewhere."""
