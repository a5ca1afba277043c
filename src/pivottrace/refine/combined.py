"""Several rules at once, as one: refinement beside an alarm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pivottrace.errors import ConfigError
from pivottrace.rewards.groups import Group, Rule


class Combined:
    """Rules that all observe, whose weights multiply, and that pass a label on in their order.

    Without a rule every weight is 1 and every label stays.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)

    def observe(self, step: int, groups: Sequence[Group]) -> None:
        """Let every rule observe."""
        for rule in self.rules:
            rule.observe(step, groups)

    def weight(self, question_id: str, route: str) -> float:
        """The product of the rules' weights."""
        return math.prod(rule.weight(question_id, route) for rule in self.rules)

    def label(self, question_id: str, label: str) -> str:
        """The label after each rule had its say."""
        for rule in self.rules:
            label = rule.label(question_id, label)
        return label

    def state_dict(self) -> dict[str, Any]:
        """The rules' states as a list, in their order."""
        return {"rules": [rule.state_dict() for rule in self.rules]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Give each rule its state.

        Raises:
            ConfigError: The state is of another number of rules.
        """
        states = state.get("rules", [])
        if len(states) != len(self.rules):
            raise ConfigError(
                f"the checkpoint holds the state of {len(states)} refinement rules and alarms, and "
                f"this run has {len(self.rules)}: set refine and alarms back to what they were, or "
                f"train into another output folder"
            )
        for rule, of_rule in zip(self.rules, states, strict=True):
            rule.load_state_dict(of_rule)
