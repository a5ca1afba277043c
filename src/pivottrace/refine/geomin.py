"""GeoMin: a vote counts by how close its completions lie to the right labelled completions.

Source: Zhu et al., GeoMin: Data-Efficient Semi-Supervised RLVR via Geometric Distribution Modeling
(arXiv 2606.04516). We have only its abstract, and its repository (github.com/gczhu/GeoMin) has no
code yet. The abstract says that the distributions of features of right and of wrong labelled
rollouts are modelled, and that they show how reliable a self-made reward is. **Everything below is
a reconstruction** from the abstract and a one-line description: directions, their affinity, and a
two-component mixture of affinities.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pivottrace.errors import DataError
from pivottrace.refine.state import check_state
from pivottrace.rewards.groups import Group
from pivottrace.stats.mixture import fit_two_normals

NAME = "geomin"
MIN_POINTS = 16
"""Fewest affinities that a mixture is fitted to: two components have four parameters. Ours."""
ZERO_NORM = 1e-12
RIGHT = 0.5  # A verified reward above this value means a right answer.

FloatArray = npt.NDArray[np.float64]


class GeoMin:
    """Weight a weak question by the chance that the supporters of its vote are of the right kind.

    Let u be a completion's hidden direction at length 1. Let r and w be the exponential moving
    averages, over steps, of the mean u of right and of wrong labelled completions. Then

        affinity a = cos(u, r) - cos(u, w), in [-2, 2]; higher is more like a right completion
        weight of a weak question = mean over its vote's supporters of P(upper component | a)

    The two components are fitted (`fit_two_normals`) to the last `memory` affinities of supporters
    of all weak questions, including this step, because one step has too few.

    A weak row without evidence has weight 0. This holds for a vote without a winner, and for
    supporters whose hidden states are zero or not finite. It holds for every weak row in the
    warm-up, which lasts until `warm_up` right and as many wrong labelled completions, and
    `MIN_POINTS` affinities, were seen. A run without labelled rows never leaves the warm-up. If all
    affinities are equal, the two components are one, and every weight is 0.5. A step without
    labelled rows leaves the directions as they are.

    State: 2 d + `memory` numbers and one per weak question; about 20 bytes of JSON each.

    Args:
        decay: Part of the averages that stays at each step, in [0, 1).
        warm_up: Number of labelled completions of each kind before any weak row counts.
        memory: Number of affinities that the mixture is fitted to.
    """

    def __init__(self, *, decay: float, warm_up: int, memory: int) -> None:
        self.decay = decay
        self.warm_up = warm_up
        self.memory = memory
        self._means: dict[str, FloatArray | None] = {"right": None, "wrong": None}  # (d,) each
        self._counts = {"right": 0, "wrong": 0}
        self._affinities: list[float] = []
        self._weights: dict[str, float] = {}

    def observe(self, step: int, groups: Sequence[Group]) -> None:
        """Move the directions by the labelled groups, then weigh the weak ones by them.

        Raises:
            DataError: A group has no hidden directions, or they have another width than before.
        """
        directions = [unit_rows(self._hidden(group)) for group in groups]
        self._move(groups, directions)
        supporters: dict[str, FloatArray] = {}
        for group, rows in zip(groups, directions, strict=True):
            if group.route == "weak":  # may occur twice, when one pass ends and the next begins
                found = self._affinity(rows[np.array(group.rewards) > 0])
                before = supporters.get(group.question_id, found[:0])
                supporters[group.question_id] = np.concatenate([before, found])
        for affinities in supporters.values():
            self._affinities += affinities.tolist()
        del self._affinities[: -self.memory]
        self._weigh(supporters)

    def weight(self, question_id: str, route: str) -> float:
        """Return 1.0 for annotate rows; for weak rows their posterior when last seen, in [0, 1]."""
        return self._weights.get(question_id, 0.0) if route == "weak" else 1.0

    def label(self, question_id: str, label: str) -> str:
        """Return the label as it is."""
        return label

    def state_dict(self) -> dict[str, Any]:
        """Return both means and their counts, the remembered affinities, and the weights."""
        means = {k: None if m is None else m.tolist() for k, m in self._means.items()}
        return {
            "rule": NAME,
            "means": means,
            "counts": dict(self._counts),
            "affinities": list(self._affinities),
            "weights": dict(self._weights),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state. Raises ConfigError if another rule wrote it."""
        check_state(state, NAME, "means", "counts", "affinities", "weights")
        self._means = {
            kind: None if mean is None else np.asarray(mean, dtype=np.float64)
            for kind, mean in state["means"].items()
        }
        self._counts = dict(state["counts"])
        self._affinities = list(state["affinities"])
        self._weights = dict(state["weights"])

    def _hidden(self, group: Group) -> npt.NDArray[np.float32]:
        if group.hidden is None:
            raise DataError(
                f"question {group.question_id!r}: refine.rule = geomin needs a hidden direction of "
                f"each completion, and this trainer gives none; train with the trl backend, or set "
                f"refine.rule to another rule"
            )
        width = next((len(m) for m in self._means.values() if m is not None), None)
        rows = len(group.answers)
        if group.hidden.shape[0] != rows or width not in (None, group.hidden.shape[1]):
            raise DataError(
                f"question {group.question_id!r}: hidden directions have the shape "
                f"{group.hidden.shape}, not ({rows}, {width or 'd'}): one row per completion, as "
                f"wide as before; was the state made with another model?"
            )
        return group.hidden

    def _move(self, groups: Sequence[Group], directions: Sequence[FloatArray]) -> None:
        # Labelled groups with their directions (G, d). Each kind's mean moves towards its new rows.
        labelled = [(g, d) for g, d in zip(groups, directions, strict=True) if g.route != "weak"]
        for kind in self._means:
            rows = [
                d[np.asarray(g.rewards) > RIGHT]
                if kind == "right"
                else d[np.asarray(g.rewards) <= RIGHT]
                for g, d in labelled
            ]
            finite = [row for of_group in rows for row in of_group if np.isfinite(row).all()]
            if finite:
                new, old = np.mean(finite, axis=0), self._means[kind]
                mean = new if old is None else self.decay * old + (1 - self.decay) * new
                self._means[kind] = mean
                self._counts[kind] += len(finite)

    def _affinity(self, rows: FloatArray) -> FloatArray:
        """Return the affinities (S,) of the finite rows of (K, d); none in the warm-up."""
        right, wrong = self._means["right"], self._means["wrong"]
        if right is None or wrong is None or min(self._counts.values()) < self.warm_up:
            return np.empty(0)
        between = _unit(right) - _unit(wrong)
        return rows[np.isfinite(rows).all(axis=1)] @ between

    def _weigh(self, supporters: dict[str, FloatArray]) -> None:
        enough = len(self._affinities) >= min(MIN_POINTS, self.memory)
        mixture = fit_two_normals(self._affinities) if enough else None
        for question_id, affinities in supporters.items():
            if not enough or not affinities.size:
                self._weights[question_id] = 0.0
            elif mixture is None:
                self._weights[question_id] = 0.5
            else:
                self._weights[question_id] = float(mixture.upper_posterior(affinities).mean())


def unit_rows(hidden: npt.NDArray[np.float32]) -> FloatArray:
    """Return the (G, d) rows at length 1; a row that is not finite or has no length becomes NaN."""
    rows = hidden.astype(np.float64)
    rows[~np.isfinite(rows).all(axis=1)] = np.nan
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    norms[norms <= ZERO_NORM] = np.nan
    unit: FloatArray = rows / norms
    return unit


def _unit(mean: FloatArray) -> FloatArray:
    """Return a mean as a direction; zeros (cosine 0 with all rows) if opposite rows cancelled."""
    norm = float(np.linalg.norm(mean))
    return mean / norm if norm > ZERO_NORM else np.zeros_like(mean)
