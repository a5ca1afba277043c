"""How much a candidate signal adds to the chance that a vote is right, on one labelled pool.

The model is a conditional logit over a question's answer classes and "none of them". With n_c of V
samples in class c, the greedy answer g and an uncertainty x = u . lambda of the trace,

    eta_c = gamma ln(n_c + 0.5) + delta [c = g] - x/2 [c = g] + f_c . nu,   eta_none = kappa + x/2.

u are normal scores of the estimators' ranks; f_c are candidates that differ between classes. All
parameters have normal priors, and Newton's method finds the mode. Gains are differences of the log
loss of "the vote is right", in thousandths of a nat per question; higher is better.

Axes: Q questions, K classes of the question with most, M estimators, C candidates by class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import norm, rankdata
from scipy.stats import t as student

# The present combination: the pivot estimator that ranks a run, then the other trace estimators.
PRESENT = (
    "peak_count",
    "onset_count",
    "onset_density",
    "peak_density",
    "neg_log_prob_mean",
    "entropy_mean",
    "entropy_top",
    "self_certainty",
    "coe_r",
    "length",
    "recheck_words",
)
# Priors (mean, standard deviation) that were chosen on development pools before this study.
GAMMA, DELTA, KAPPA, PIVOTS = (1.6, 0.5), (0.3, 0.5), (1.0, 1.0), (1.0, 0.5)
WIDTH, CLASS_WIDTH = 0.2, 0.3
FOLDS, FEW_LABELS, FEW_DRAWS = 10, 64, 24
# A run's labels, for `labelled_gain`: first drawn by value and then bought by value.
BUDGET, FIRST, PURCHASES = 140, 24, 8
LEAST_VALUE, LEAST_RATE = 0.01, 0.02
LEADER_PSEUDO_COUNT, OTHER_PSEUDO_COUNT = 1.0, 0.2


@dataclass(eq=False)
class Pool:
    """One labelled pool.

    Attributes:
        name: Name of its run directory.
        counts: (Q, K) samples of each class, most first; -1 where the question has fewer classes.
        greedy: (Q, K) whether the class has the greedy answer.
        truth: (Q,) index of the right class; K if none is.
        tie: (Q,) whether the samples have no majority.
        correctness: (Q,) share of right answers among fresh samples.
        num_fresh: Number of fresh samples.
        present: (Q, M) normal scores of the present combination's estimators.
        by_question: Candidate to (Q,) normal scores.
        by_class: Candidate to (Q, K), 0 where a class has no sample.
    """

    name: str
    counts: np.ndarray
    greedy: np.ndarray
    truth: np.ndarray
    tie: np.ndarray
    correctness: np.ndarray
    num_fresh: int
    present: np.ndarray
    by_question: dict[str, np.ndarray] = field(default_factory=dict)
    by_class: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Q."""
        return len(self.truth)


def joined(pools: Sequence[Pool]) -> Pool:
    """All questions of several pools as one pool, to learn a prior from."""
    width = max(pool.counts.shape[1] for pool in pools)

    def wide(values: np.ndarray, fill: float) -> np.ndarray:
        spare = ((0, 0), (0, width - values.shape[1]))
        return np.pad(values, spare, constant_values=fill)

    def together(arrays: list[np.ndarray]) -> np.ndarray:
        return np.concatenate(arrays)

    none = [pool.truth == pool.counts.shape[1] for pool in pools]
    return Pool(
        name="+".join(pool.name for pool in pools),
        counts=together([wide(pool.counts, -1.0) for pool in pools]),
        greedy=together([wide(pool.greedy, 0.0) for pool in pools]),
        truth=together([np.where(no, width, p.truth) for no, p in zip(none, pools, strict=True)]),
        tie=together([pool.tie for pool in pools]),
        correctness=together([pool.correctness for pool in pools]),
        num_fresh=pools[0].num_fresh,
        present=together([pool.present for pool in pools]),
        by_question={
            name: together([pool.by_question[name] for pool in pools])
            for name in pools[0].by_question
        },
        by_class={
            name: together([wide(pool.by_class[name], 0.0) for pool in pools])
            for name in pools[0].by_class
        },
    )


class Model:
    """The conditional logit of a pool with some candidates added.

    Args:
        pool: The pool.
        added: Candidates beside the present combination.
        width: Standard deviation of the priors of the estimators other than the pivots.
        prior: Means of all priors, as `fit` of the same candidates gives them; None for our own.
    """

    def __init__(
        self,
        pool: Pool,
        added: Sequence[str] = (),
        width: float = WIDTH,
        prior: np.ndarray | None = None,
    ):
        questions = [name for name in added if name in pool.by_question]
        classes = [name for name in added if name in pool.by_class]
        new = [pool.by_question[name][:, None] for name in questions]
        self.pool, num_classes = pool, pool.counts.shape[1]
        self.u = np.concatenate([pool.present, *new], axis=1)  # (Q, M + added)
        # (Q, K + 1, 3 + C + 1): ln(n + 0.5), greedy, none, candidates by class, place of x.
        z = np.zeros((pool.size, num_classes + 1, 4 + len(classes)))
        z[:, :-1, 0] = np.where(pool.counts >= 0, np.log(pool.counts.clip(0) + 0.5), 0.0)
        z[:, :-1, 1], z[:, -1, 2] = pool.greedy, 1.0
        for i, name in enumerate(classes):
            z[:, :-1, 3 + i] = pool.by_class[name]
        z[:, :-1, -1], z[:, -1, -1] = -pool.greedy / 2, 0.5
        self.z = z
        self.absent = np.zeros(z.shape[:2])
        self.absent[:, :-1][pool.counts < 0] = -np.inf
        others = self.u.shape[1] - 1
        known = pool.present.shape[1] - 1
        widths = [width] * known + [WIDTH] * (others - known)
        priors = [GAMMA, DELTA, KAPPA, *[(0.0, CLASS_WIDTH)] * len(classes), PIVOTS]
        mean = np.array([mean for mean, _ in priors] + [0.0] * others)
        self.mean = mean if prior is None else prior
        self.width = np.array([sd for _, sd in priors] + widths)

    def chances(self, parameters: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """(rows, K + 1) chance of each class, and of none, to be right."""
        own = self.z.shape[2] - 1
        x = self.u[rows] @ parameters[own:]
        eta = self.z[rows, :, :own] @ parameters[:own] + self.z[rows, :, own] * x[:, None]
        eta += self.absent[rows]
        eta = np.exp(eta - eta.max(axis=1, keepdims=True))
        return eta / eta.sum(axis=1, keepdims=True)

    def fit(self, rows: np.ndarray) -> np.ndarray:
        """Return the mode of the posterior, given the labels of these rows."""
        z, u, own = self.z[rows], self.u[rows], self.z.shape[2] - 1
        index, truth = np.arange(len(rows)), self.pool.truth[rows]
        precision, parameters = 1 / self.width**2, self.mean.copy()

        def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
            chances = self.chances(at, rows)
            prior = (precision * (at - self.mean) ** 2).sum() / 2
            return prior - np.log(chances[index, truth].clip(1e-300)).sum(), chances

        value, chances = loss(parameters)
        for _ in range(40):
            mean = np.einsum("qk,qkf->qf", chances, z)
            spread = np.einsum("qk,qkf,qkg->qfg", chances, z, z) - mean[:, :, None] * mean[:, None]
            rest = z[index, truth] - mean
            gradient = np.r_[rest[:, :own].sum(0), rest[:, own] @ u]
            gradient -= precision * (parameters - self.mean)
            curvature = np.diag(precision)
            cross = spread[:, :own, own].T @ u
            curvature[:own, :own] += spread[:, :own, :own].sum(0)
            curvature[:own, own:] += cross
            curvature[own:, :own] += cross.T
            curvature[own:, own:] += (u * spread[:, own, own][:, None]).T @ u
            step = np.linalg.solve(curvature, gradient)
            while (found := loss(parameters + step))[0] > value + 1e-12 and abs(step).max() > 1e-6:
                step /= 2
            parameters, gain = parameters + step, value - found[0]
            value, chances = found
            if abs(gain) < 1e-7:
                break
        return parameters

    def log_loss(self, fitted: np.ndarray, judged: np.ndarray) -> np.ndarray:
        """Log loss of "the vote is right", nats, of the judged rows after a fit on others."""
        chance = self.chances(self.fit(fitted), judged)[:, 0].clip(1e-6, 1 - 1e-6)
        return -np.log(np.where(self.pool.truth[judged] == 0, chance, 1 - chance))


def log_losses(model: Model) -> tuple[float, float]:
    """Mean log loss, nats, out of fold with all labels, and after fits on 64 random labels.

    Folds and draws depend on the pool's size only, so that models are compared on the same ones.
    """
    size = model.pool.size
    rng = np.random.default_rng(7)
    fold, everyone = rng.permutation(size) % FOLDS, np.arange(size)
    folds = [model.log_loss(everyone[fold != j], everyone[fold == j]) for j in range(FOLDS)]
    drawn = [rng.permutation(size)[:FEW_LABELS] for _ in range(FEW_DRAWS)]
    few = [model.log_loss(rows, np.setdiff1d(everyone, rows)).mean() for rows in drawn]
    return float(np.concatenate(folds).mean()), float(np.mean(few))


def labelled_gain(model: Model) -> float:
    """Share of the learnable wrong votes that get one of 140 labels, in [0, 1], weighted by gain.

    A question whose vote is wrong, or missing, weighs n/(n-1) mu(1-mu), its gain from a label; mu
    is its correctness on n fresh samples. The sum over the labelled is divided by the greatest sum
    that 140 labels can reach. Labels are bought as a run would: a systematic draw of 24 along the
    ranking by pivots, then the rest by expected value under the fit on these. Mean of 8 draws.
    """
    pool = model.pool
    mu, everyone = pool.correctness, np.arange(pool.size)
    learnable = mu * (1 - mu) * pool.num_fresh / (pool.num_fresh - 1)
    learnable = np.where(pool.tie | (pool.truth != 0), learnable, 0.0)
    reach = np.sort(learnable)[::-1][:BUDGET].sum()
    rate = np.sqrt(_value(model, model.mean).clip(0)) + LEAST_RATE
    order = np.argsort(pool.present[:, 0], kind="stable")
    places = np.cumsum(rate[order]) / rate.sum() * FIRST
    shares = []
    for seed in range(PURCHASES):
        points = np.random.default_rng(seed).random() + np.arange(FIRST)
        labelled = np.zeros(pool.size, bool)
        labelled[order[np.searchsorted(places, points, side="right")]] = True
        value = _value(model, model.fit(everyone[labelled]))
        value[labelled] = -1.0
        best = np.argsort(-value, kind="stable")[: BUDGET - labelled.sum()]
        labelled[best[value[best] > LEAST_VALUE]] = True
        shares.append(learnable[labelled].sum() / reach)
    return float(np.mean(shares))


def _value(model: Model, parameters: np.ndarray) -> np.ndarray:
    """(Q,) expected gain of a label beyond that of the vote, by smoothed shares of the classes."""
    pool = model.pool
    chances = model.chances(parameters, np.arange(pool.size))
    counts, present = pool.counts.clip(0), pool.counts >= 0
    total = counts.sum(axis=1, keepdims=True).max() + LEADER_PSEUDO_COUNT + OTHER_PSEUDO_COUNT
    scale = total * (total + 1)
    shares = counts + OTHER_PSEUDO_COUNT
    shares[:, 0] = counts[:, 0] + LEADER_PSEUDO_COUNT
    spread = np.where(present, shares * (total - shares) / scale, 0.0)  # E p(1-p)
    nothing = OTHER_PSEUDO_COUNT * (total - OTHER_PSEUDO_COUNT) / scale
    label = (chances[:, :-1] * spread).sum(axis=1) + chances[:, -1] * nothing
    leader = shares[:, 0]
    harm = np.where(present, leader[:, None] * shares / scale, 0.0)
    harm[:, 0] = 0.0
    vote = chances[:, 0] * spread[:, 0] - (chances[:, :-1] * harm).sum(axis=1)
    vote -= chances[:, -1] * leader * OTHER_PSEUDO_COUNT / scale
    return label - np.where(pool.tie, 0.0, vote).clip(0)


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Normal scores of ranks; what is not finite gets 0, the middle."""
    values = np.asarray(values, float)
    finite = np.isfinite(values)
    places = np.full(values.shape, 0.5)
    if finite.any():
        places[finite] = (rankdata(values[finite]) - 0.5) / finite.sum()
    return norm.ppf(places)


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean over pools with Student's 95 % interval."""
    mean = float(np.mean(values))
    reach = float(student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    return mean, mean - reach, mean + reach
