"""TraPO: a weak question trains the model once the model learns it like the labelled questions.

Source: Yang et al., TraPO (arXiv 2512.13106, ICLR 2026), and its authors' code
(github.com/ShenzhiYang2000/TRAPO). Theirs: the pass rates, a warm-up in which only labelled rows
train, the similarity, the union of a threshold and a top share, and that selected weak questions
become references in turn. Paper and code differ in the similarity (see `similarity_to`). Ours: the
treatment of histories of unequal length, the pool that the top share is taken of, and the value of
a constant history.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pivottrace.errors import DataError
from pivottrace.refine.state import check_state
from pivottrace.rewards.groups import Group

NAME = "trapo"
DIGITS = 12  # of similarities, so that the order of a sum does not decide a tie after a resume
MAX_HISTORY = 64
"""Last pass rates kept per question: a bound on the state, four times TraPO's 15 passes."""
ZERO_NORM = 1e-9  # Pass rates are k / G, so a shorter centred trajectory is a rounded constant.

Similarity = Literal["correlation", "cosine"]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class TraPO:
    """Weight weak questions by 1 if their pass rates move like reliable ones, by 0 otherwise.

    The trajectory of a question is its pass rates, one for each time that it is seen. On annotate
    rows the pass rate is the share of right answers. On weak rows it is the share that the vote
    rewards, whichever vote that is (in the authors' code the group's majority); it is 0 at a tie or
    without answers. A question that changes its route starts a new trajectory, because the two
    shares measure different things.

    A weak question has a similarity once it and at least one reference have been seen `warm_up`
    times; until then its weight is 0. It is selected if its similarity is at least `threshold`. It
    is also selected if its similarity is positive and among the `top_share` highest of the latest
    similarities of all weak questions (at least one). The authors take the top share of one batch
    of 128 questions. In a batch of a few questions, "at least one" would let nearly everything in.

    State: at most `MAX_HISTORY` + 1 numbers per question, about 0.5 kB of JSON.

    Args:
        warm_up: Number of times that a question is seen before it is judged.
        threshold: Similarity from which a weak question is selected, in [-1, 1].
        top_share: Share of weak questions selected whatever the threshold, in [0, 1].
        similarity: Kind of similarity, see `similarity_to`.
        grow: Whether selected weak questions are references for the others.
    """

    def __init__(
        self,
        *,
        warm_up: int,
        threshold: float,
        top_share: float,
        similarity: Similarity = "correlation",
        grow: bool = True,
    ) -> None:
        self.warm_up = warm_up
        self.threshold = threshold
        self.top_share = top_share
        self.similarity = similarity
        self.grow = grow
        self._rates: dict[str, dict[str, list[float]]] = {"annotate": {}, "weak": {}}
        self._similarities: dict[str, float] = {}
        self._cut = math.inf

    def observe(self, step: int, groups: Sequence[Group]) -> None:
        """Append each group's pass rate, and judge the batch's weak questions anew."""
        for group in groups:
            self._append(group)
        # All weak questions are compared with the same references before any of them becomes one.
        weak = {g.question_id for g in groups if g.route == "weak"} & self._rates["weak"].keys()
        measured = self._measure(sorted(weak))
        for question_id, value in measured.items():
            if value is None:
                self._similarities.pop(question_id, None)
            else:
                self._similarities[question_id] = value
        self._cut = top_cut(list(self._similarities.values()), self.top_share)

    def weight(self, question_id: str, route: str) -> float:
        """Return 1.0 for annotate rows and selected weak rows, 0.0 for the others."""
        return float(route != "weak" or self._is_selected(question_id))

    def label(self, question_id: str, label: str) -> str:
        """Return the label as it is."""
        return label

    def state_dict(self) -> dict[str, Any]:
        """Return trajectories by route and question, and weak questions' latest similarities."""
        rates = {
            route: {i: list(values) for i, values in of_route.items()}
            for route, of_route in self._rates.items()
        }
        return {"rule": NAME, **rates, "similarity": dict(self._similarities)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state. Raises ConfigError if another rule wrote it."""
        check_state(state, NAME, "annotate", "weak", "similarity")
        self._rates = {
            route: {i: list(values) for i, values in state[route].items()} for route in self._rates
        }
        self._similarities = dict(state["similarity"])
        self._cut = top_cut(list(self._similarities.values()), self.top_share)

    def _append(self, group: Group) -> None:
        if group.route not in self._rates:
            raise DataError(
                f"training row {group.question_id!r}: route is {group.route!r}; only annotate and "
                f"weak rows are trained on"
            )
        for route, of_route in self._rates.items():
            if route != group.route and of_route.pop(group.question_id, None) is not None:
                self._similarities.pop(group.question_id, None)
        rates = self._rates[group.route].setdefault(group.question_id, [])
        rates.append(pass_rate(group))
        del rates[:-MAX_HISTORY]

    def _references(self) -> dict[str, list[float]]:
        """Return the reliable trajectories that are out of the warm-up, by question."""
        found = {i: r for i, r in self._rates["annotate"].items() if len(r) >= self.warm_up}
        if self.grow:
            weak = self._rates["weak"]
            found |= {i: weak[i] for i in self._similarities if self._is_selected(i)}
        return found

    def _measure(self, question_ids: Sequence[str]) -> dict[str, float | None]:
        """Return each weak question's similarity; None in the warm-up or without a reference."""
        references = self._references()
        place = {question_id: row for row, question_id in enumerate(references)}
        table, lengths = right_aligned(list(references.values()))  # (R, W), (R,)
        measured: dict[str, float | None] = {}
        for question_id in question_ids:
            rates = self._rates["weak"][question_id]
            others = np.arange(len(table)) != place.get(question_id, -1)
            measured[question_id] = (
                similarity_to(rates, table[others], lengths[others], self.similarity)
                if len(rates) >= self.warm_up and others.any()
                else None
            )
        return measured

    def _is_selected(self, question_id: str) -> bool:
        value = self._similarities.get(question_id)
        return value is not None and (value >= self.threshold or 0 < value >= self._cut)


def pass_rate(group: Group) -> float:
    """Return a group's pass rate in [0, 1]: the share of answers that the label or vote rewards."""
    return float(np.mean(group.rewards))


def similarity_to(
    rates: Sequence[float], references: FloatArray, lengths: IntArray, kind: Similarity
) -> float:
    """Return how similar a trajectory is to reliable ones, in [-1, 1]; higher is more similar.

    `correlation`, as in the authors' code, is the mean over the references of Pearson's correlation
    with each (the cosine of the two after each one's mean is subtracted). `cosine`, the paper's
    equation, is the cosine with the mean trajectory of the references. The default is the code's
    form, because pass rates are never negative: their cosine is rarely below 0.5 even if one rises
    and the other falls, and a threshold of 0.4 lets nearly all in.

    Trajectories of unequal length are compared over the last passes that both have. The authors cut
    all of them to the first passes of the shortest, so one new question leaves nothing to compare.
    If all are equally long, the two ways agree. A constant trajectory has no shape: its correlation
    is 0, as in the authors' code. The cosine of a zero trajectory is 0.

    Args:
        rates: (n,) pass rates of the trajectory, n >= 1.
        references: (R, W) reference trajectories from `right_aligned`, R >= 1.
        lengths: (R,) their lengths, each >= 1.
        kind: The kind of similarity.
    """
    width = int(lengths.max())
    own = np.asarray(rates, dtype=np.float64)[-width:]
    if kind == "cosine":
        mean = np.nanmean(references[:, -len(own) :], axis=0)
        return round(float(_cosines(own, mean[None])[0]), DIGITS)
    # Group the references by the number of passes that both have, and sum their correlations.
    shared = np.minimum(len(own), lengths)  # (R,)
    total = 0.0
    for length in np.unique(shared):
        last = references[shared == length, -length:]
        recent = own[len(own) - length :]
        centred = last - last.mean(axis=1, keepdims=True)
        total += float(_cosines(recent - recent.mean(), centred).sum())
    return round(total / len(references), DIGITS)


def right_aligned(trajectories: Sequence[Sequence[float]]) -> tuple[FloatArray, IntArray]:
    """Return (R, W) trajectories whose last passes share a column, and their lengths (R,).

    A row is NaN before its first pass. W is the longest length, or 1 without trajectories.
    """
    lengths = np.array([len(rates) for rates in trajectories], dtype=np.int64)
    width = int(lengths.max(initial=1))
    table = np.full((len(trajectories), width), np.nan)
    present = np.arange(width) >= width - lengths[:, None]
    table[present] = [rate for rates in trajectories for rate in rates]
    return table, lengths


def _cosines(vector: FloatArray, table: FloatArray) -> FloatArray:
    """Return the cosines (R,) of (n,) with the rows of (R, n); 0 if either has no length."""
    norms = np.linalg.norm(table, axis=1)
    norm = float(np.linalg.norm(vector))
    if norm <= ZERO_NORM:
        return np.zeros(len(table))
    products = table @ vector
    return np.where(norms > ZERO_NORM, products / (np.maximum(norms, ZERO_NORM) * norm), 0.0)


def top_cut(values: Sequence[float], share: float) -> float:
    """Return the lowest of the highest `share` of values, at least one; inf without values."""
    if not values or share <= 0:
        return math.inf
    # The small addition is needed because 0.29 x 100 is 28.999...
    count = max(1, math.floor(len(values) * share + 1e-9))
    return sorted(values, reverse=True)[count - 1]
