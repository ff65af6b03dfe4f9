"""Arms as points and mixtures of cost and score, compared at equal cost and at equal score."""
