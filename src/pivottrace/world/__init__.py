"""The embedded world: word problems, the tiny reasoner that was trained on them, experiments."""

WORLD_PREFIX = "world:"
"""How `pool.questions` and `pool.evaluation` name a preset of the world."""
