"""Alarms of collapse: signs during training that a model has begun to teach itself nonsense.

A vote rewards agreement, right or wrong, so a model can raise its reward by agreeing with itself.
Questions with a bought label show this, because their group's vote can be compared with the truth.
If such votes go wrong, the weak route is paused, or training stops. Three further signs are only
reported: answers become alike, or the length or the entropy of responses drifts away. A model that
simply learns shows these signs too.

All of it is ours; the paper's fragments say nothing about collapse.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Literal

from pivottrace.errors import ConfigError
from pivottrace.rewards.groups import Group
from pivottrace.stats.intervals import share_lower_bound

Action = Literal["report", "pause", "stop"]
# An alarm ends only if its value comes back this far inside the limit, so that it does not flicker.
RECOVERY = 1.1


@dataclass(frozen=True)
class AlarmEvent:
    """An alarm that went off, or ended.

    Attributes:
        step: Number of optimizer steps done, including the step that showed it, as in
            `metrics.jsonl`.
        what: One of votes, diversity, length and entropy.
        value: The value over the window.
        threshold: The limit that the value passed, or came back to.
        action: One of report, pause and stop; resume or end if the alarm ended.
    """

    step: int
    what: str
    value: float
    threshold: float
    action: str

    def row(self) -> dict[str, Any]:
        """Return the event as a JSON object."""
        return asdict(self)

    def text(self) -> str:
        """Return the event in words, for the log."""
        name = {
            "votes": "share of right votes on labelled questions",
            "diversity": "distinct answers over answered completions",
            "length": "tokens per completion",
            "entropy": "entropy per token (nats)",
        }[self.what]
        then = {
            "report": "reported only",
            "pause": "the weak route is paused",
            "stop": "training stops",
            "resume": "the weak route goes on",
            "end": "the alarm has ended",
        }[self.action]
        return f"step {self.step}: {name} is {self.value:.3g}, limit {self.threshold:.3g}: {then}"


class CollapseAlarms:
    """A rule that watches every step, and leaves weak rows out while votes are wrong.

    - votes: the share of right winners, in [0, 1], among the last `window` labelled groups whose
      vote had a winner; high is good. The alarm goes off if even the exact one-sided upper bound of
      the share (at confidence 1 - alpha) is below the floor. It ends if the share itself is back at
      the floor. The gap between the two conditions keeps the alarm from flickering.
    - diversity: distinct classes over answered completions of a group, in (0, 1], as a mean over
      the last `window` groups. The alarm goes off below `diversity_ratio` times the mean of the
      first full window.
    - length: tokens per completion, as a mean over the last `window` groups. The alarm goes off
      above `length_ratio` times the mean of the first full window, or below that mean divided by
      `length_ratio`.
    - entropy: entropy of the policy's tokens, in nats, as a mean over a step (from the trainer) and
      over the last `entropy_steps` steps. The alarm goes off below `entropy_ratio` times the first
      such mean.

    Without `vote_floor` the floor is the share in the first full window minus `vote_fall`. The
    model was unsure of the labelled questions, so their votes may be poor from the start; only a
    decline matters. The bound is tested at every step, so over a long training
    the chance of a false alarm is higher than alpha.

    Args:
        action: The reaction to wrong votes: only report them, leave weak rows out until the votes
            have recovered, or stop training.
        window: Number of groups in a moving window, at least 8.
        vote_floor: Share of right votes below which the rule acts, in (0, 1).
        vote_fall: Fall of the share that is allowed if there is no `vote_floor`, in (0, 1).
        alpha: Chance that one test takes a vote share at the floor to be below it.
        diversity_ratio: Limit of the alarm for diversity, in [0, 1); 0 switches it off.
        length_ratio: Limit of the alarm for length, above 1; 0 switches it off.
        entropy_ratio: Limit of the alarm for entropy, in [0, 1); 0 switches it off.
        entropy_steps: Number of steps in the window of entropy.

    Raises:
        ConfigError: A number is out of its range.
    """

    def __init__(
        self,
        *,
        action: Action = "pause",
        window: int = 64,
        vote_floor: float | None = None,
        vote_fall: float = 0.1,
        alpha: float = 0.01,
        diversity_ratio: float = 0.5,
        length_ratio: float = 2.0,
        entropy_ratio: float = 0.1,
        entropy_steps: int = 8,
    ) -> None:
        if window < 8:
            raise ConfigError(f"alarms.window = {window}: a share of so few votes says nothing")
        if 0 < length_ratio <= 1:
            raise ConfigError(f"alarms.length_ratio = {length_ratio}: give more than 1, or 0 (off)")
        self._action = action
        self._window = window
        self._floor = vote_floor
        self._fall = vote_fall
        self._alpha = alpha
        self._votes: list[bool] = []
        self._votes_wrong = False
        self._stop_reason: str | None = None
        self._events: list[AlarmEvent] = []
        self._drifts = {
            "diversity": _Drift(window, diversity_ratio, 0.0),
            "length": _Drift(window, 1 / length_ratio if length_ratio else 0.0, length_ratio),
            "entropy": _Drift(entropy_steps, entropy_ratio, 0.0),
        }

    def observe(self, step: int, groups: Sequence[Group]) -> None:
        """Take in the groups of a step (counted from 0), before `weight` is called for them."""
        for group in groups:
            right = vote_is_right(group)
            # A label that the model gave itself does not show whether its votes are right.
            is_bought = group.route == "annotate" and not group.relabelled
            if right is not None and is_bought:
                self._votes.append(right)
            classes = [c for c in group.classes if c >= 0]
            if classes:
                self._drifts["diversity"].add(len(set(classes)) / len(classes))
            if group.num_tokens:
                self._drifts["length"].add(fmean(group.num_tokens))
        del self._votes[: -self._window]
        self._look_at_votes(step + 1)
        self._look_at_drifts(step + 1, "diversity", "length")

    def observe_entropy(self, step: int, entropy: float) -> None:
        """Take in the mean entropy of a step's tokens, in nats; `step` is as in `metrics.jsonl`."""
        self._drifts["entropy"].add(entropy)
        self._look_at_drifts(step, "entropy")

    def weight(self, question_id: str, route: str) -> float:
        """Return 0 for weak rows while the route is paused, else 1."""
        return 0.0 if route == "weak" and self.is_paused else 1.0

    def label(self, question_id: str, label: str) -> str:
        """Return the label as it is: alarms do not change labels."""
        return label

    @property
    def is_paused(self) -> bool:
        """Whether weak rows are left out at the moment."""
        return self._votes_wrong and self._action != "report"

    @property
    def stop_reason(self) -> str | None:
        """Why training should stop; None if it should go on."""
        return self._stop_reason

    def take_events(self) -> list[AlarmEvent]:
        """Return the events since the last call; each event is returned once."""
        events, self._events = self._events, []
        return events

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        return {
            "votes": self._votes,
            "votes_wrong": self._votes_wrong,
            "floor": self._floor,
            "stop_reason": self._stop_reason,
            "drifts": {name: drift.state() for name, drift in self._drifts.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` returned."""
        self._votes = list(state["votes"])
        self._votes_wrong = state["votes_wrong"]
        self._floor = state["floor"]
        self._stop_reason = state["stop_reason"]
        self._events = []
        for name, drift in self._drifts.items():
            drift.load(state["drifts"][name])

    def _look_at_votes(self, step: int) -> None:
        if len(self._votes) < self._window:
            return
        share = fmean(self._votes)
        if self._floor is None:
            self._floor = max(0.0, share - self._fall)
        wrong = self._window - sum(self._votes)
        upper = 1.0 - float(share_lower_bound(wrong, self._window, self._alpha))
        if not self._votes_wrong and upper < self._floor:
            self._votes_wrong = True
            event = AlarmEvent(step, "votes", share, self._floor, self._action)
            self._events.append(event)
            if self._action == "stop":
                self._stop_reason = event.text()
        elif self._votes_wrong and share >= self._floor:
            self._votes_wrong = False
            ended = "resume" if self._action == "pause" else "end"
            self._events.append(AlarmEvent(step, "votes", share, self._floor, ended))

    def _look_at_drifts(self, step: int, *names: str) -> None:
        for name in names:
            change = self._drifts[name].change()
            if change is not None:
                went_off, value, threshold = change
                action = "report" if went_off else "end"
                self._events.append(AlarmEvent(step, name, value, threshold, action))


class _Drift:
    """A moving mean; its limits are `low` and `high` times the mean of the first full window."""

    def __init__(self, window: int, low: float, high: float) -> None:
        self._window = window
        self._low = low
        self._high = high
        self._values: list[float] = []
        self._reference: float | None = None
        self._off: str | None = None  # the side on which the mean is outside: low or high

    def add(self, value: float) -> None:
        self._values.append(value)
        del self._values[: -self._window]

    def change(self) -> tuple[bool, float, float] | None:
        """Return (went off, mean, threshold) if the alarm has just gone off or ended, else None."""
        if len(self._values) < self._window:
            return None
        mean = fmean(self._values)
        if self._reference is None:
            self._reference = mean
        low = self._low * self._reference
        high = self._high * self._reference if self._high else math.inf
        if self._off is None:
            self._off = "low" if mean < low else "high" if mean > high else None
            if self._off is None:
                return None
            return True, mean, low if self._off == "low" else high
        threshold = low * RECOVERY if self._off == "low" else high / RECOVERY
        if mean < threshold if self._off == "low" else mean > threshold:
            return None
        self._off = None
        return False, mean, threshold

    def state(self) -> dict[str, Any]:
        return {"values": self._values, "reference": self._reference, "off": self._off}

    def load(self, state: dict[str, Any]) -> None:
        self._values = list(state["values"])
        self._reference = state["reference"]
        self._off = state["off"]


def vote_is_right(group: Group) -> bool | None:
    """Return whether a labelled group's largest class was rewarded; None at a tie or no answer.

    A weak row whose vote abstains learns nothing from it, so an abstention is no vote here.
    """
    sizes = Counter(c for c in group.classes if c >= 0).most_common(2)
    if not sizes or (len(sizes) == 2 and sizes[0][1] == sizes[1][1]):
        return None
    winner = sizes[0][0]
    rewards = [r for r, c in zip(group.rewards, group.classes, strict=True) if c == winner]
    return fmean(rewards) > 0.5
