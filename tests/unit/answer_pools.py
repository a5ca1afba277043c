"""Random counts of answers, random vote models, and the formulas on them in plain numbers."""

import math

import numpy as np

from pivottrace.routing.answer_counts import AnswerCounts, answer_counts
from pivottrace.routing.vote_model import ALPHA, NONE, VoteModel, answer_chances, prior

Lists = tuple[list[list[int]], list[int], list[int]]


def some_lists(rng: np.random.Generator, size: int, most: tuple[int, ...] = (0, 4, 8)) -> Lists:
    """class_counts, greedy_class and num_samples of `size` questions, the rare cases among them."""
    class_counts, greedy, samples = [], [], []
    for _ in range(size):
        number = int(rng.choice(most))
        answered = rng.binomial(number, rng.choice([0.0, 0.8, 1.0]))
        shares = rng.dirichlet(np.full(4, rng.choice([0.1, 1.0])))
        sizes = sorted((n for n in rng.multinomial(answered, shares).tolist() if n), reverse=True)
        class_counts.append(sizes)
        greedy.append(int(rng.integers(-1, len(sizes) + 1)))
        samples.append(number)
    return class_counts, greedy, samples


def some_counts(rng: np.random.Generator, size: int, **options) -> AnswerCounts:
    return answer_counts(*some_lists(rng, size, **options))


def some_features(rng: np.random.Generator, size: int, number: int) -> np.ndarray:
    return rng.normal(size=(size, number)).clip(-3, 3)


def some_model(rng: np.random.Generator, num_features: int) -> VoteModel:
    """Values about their priors, and any covariance."""
    mean, sd = prior(num_features)
    root = rng.normal(size=(mean.size, mean.size)) * 0.2
    names = tuple(f"f{i}" for i in range(num_features))
    return VoteModel(names, mean + sd * rng.normal(size=mean.size), root @ root.T, 9)


def some_right(rng: np.random.Generator, counts: AnswerCounts) -> np.ndarray:
    """A place of the right class of each question, or `NONE`."""
    places = [
        int(rng.integers(NONE, int(counts.is_class[p].sum()))) for p in counts.pattern.tolist()
    ]
    return np.array(places, dtype=np.int64)


def right_by(rng: np.random.Generator, model: VoteModel, counts: AnswerCounts, x) -> np.ndarray:
    """Right classes drawn from the model's own chances."""
    drawn = []
    for i in range(len(x)):
        *classes, none = slow_chances(model.values, *one_of(counts, i), x[i], steps_of(counts))
        drawn.append(rng.choice([*range(len(classes)), NONE], p=[*classes, none]))
    return np.array(drawn, dtype=np.int64)


def one_of(counts: AnswerCounts, i: int) -> tuple[list[int], int, int]:
    """Sizes (with 0 for a greedy answer that no sample gave), its place, number of samples."""
    p = counts.pattern[i]
    sizes = [int(n) for n in counts.sizes[p] if not math.isnan(n)]
    return sizes, int(counts.greedy[p]), int(counts.num_samples[p])


def steps_of(counts: AnswerCounts) -> int:
    """The most samples of a question; 0 if all whose samples have an answer have equally many."""
    pairs = zip(counts.num_samples, counts.sizes, strict=True)
    numbers = {int(n) for n, sizes in pairs if np.nansum(sizes)}
    return max(numbers) if len(numbers) > 1 else 0


def slow_chances(values, sizes: list[int], greedy: int, samples: int, x, steps: int) -> list[float]:
    """The chance of each class, and of none of them at the end, by the formula."""
    gamma, delta, kappa, rho, *weights = (float(v) for v in values)
    doubt = sum(w * float(f) for w, f in zip(weights, x, strict=True))
    scale = 1.0
    if steps and sum(sizes):
        scale = steps / samples
        doubt += rho * (math.log2(samples / steps) + 1.0)
    etas = [
        gamma * math.log(n * scale + ALPHA) + (delta - doubt / 2 if place == greedy else 0.0)
        for place, n in enumerate(sizes)
    ]
    etas.append(kappa + doubt / 2)
    top = max(etas)
    total = sum(math.exp(eta - top) for eta in etas)
    return [math.exp(eta - top) / total for eta in etas]


def slow_alphas(sizes: list[int], greedy: int, samples: int, a: float, b: float):
    """Dirichlet counts of each class, and of an answer that no sample gave, and their total."""
    others = sum(place != greedy for place in range(len(sizes)))
    own, rest = (a, b) if greedy >= 0 else (0.0, a + b)
    each = rest / (others + 1)
    alphas = [n + (own if place == greedy else each) for place, n in enumerate(sizes)]
    return alphas, each / 2, samples + a + b


def slow_expect(
    values, one, x, a: float, b: float, steps: int
) -> tuple[float, float, float, float]:
    """(mu, label_gain, vote_gain, vote_weight) of one question, by a loop over the right answer."""
    alphas, unseen, total = slow_alphas(*one, a, b)
    chances = slow_chances(values, *one, x, steps)
    spread = total * (total + 1)
    mu = label = vote = 0.0
    ranked = sorted(one[0], reverse=True)
    wins = bool(ranked) and ranked[0] > (ranked[1] if len(ranked) > 1 else 0)
    for place, (alpha, chance) in enumerate(zip([*alphas, unseen], chances, strict=True)):
        mu += chance * alpha / total
        label += chance * alpha * (total - alpha) / spread
        if wins:
            taught = alpha * (total - alpha) if place == 0 else -alphas[0] * alpha
            vote += chance * taught / spread
    slope = max(vote, 0.0) / (alphas[0] * (total - alphas[0]) / spread) if wins else 0.0
    return mu, label, vote, slope


def vote_chance(model: VoteModel, counts: AnswerCounts, x, values=None) -> np.ndarray:
    return answer_chances(model, counts, np.asarray(x, np.float64), values).vote
