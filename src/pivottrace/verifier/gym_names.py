"""Source strings whose questions are of reasoning-gym: only these rows have a scorer's entry."""

GYM_PREFIX = "reasoning-gym:"
GYM_SUFFIX = ".toml"


def is_gym(text: str) -> bool:
    """Whether a source string without its options names questions of reasoning-gym."""
    return text.startswith(GYM_PREFIX) or text.endswith(GYM_SUFFIX)
