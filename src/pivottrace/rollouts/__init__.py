"""Questions put to a model: the pool's, held-out ones, rewritten ones."""
