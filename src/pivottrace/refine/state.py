"""The check of a rule's state in a checkpoint before it is loaded."""

from __future__ import annotations

from typing import Any

from pivottrace.errors import ConfigError


def check_state(state: dict[str, Any], rule: str, *keys: str) -> None:
    """Refuse a state that another rule, or another version of this rule, wrote.

    Raises:
        ConfigError: The state has another rule's name, or a key is missing.
    """
    found = state.get("rule")
    if found != rule:
        raise ConfigError(
            f"the checkpoint holds the state of refinement rule {found!r}, and this run uses "
            f"{rule!r}: set refine.rule back to it, or train into another output folder"
        )
    missing = [key for key in keys if key not in state]
    if missing:
        raise ConfigError(
            f"the checkpoint's state of refinement rule {rule!r} lacks {', '.join(missing)}: "
            f"another version wrote it; train into another output folder"
        )
