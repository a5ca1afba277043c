"""The embedded world: word problems, the tiny reasoner that was trained on them, experiments."""
