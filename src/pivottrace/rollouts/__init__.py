"""Questions are put to a model: questions of the pool, held-out and rewritten questions."""
