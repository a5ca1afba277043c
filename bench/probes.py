"""How many probes are enough, and how to draw them: simulated pools, one row per way and number.

    python bench/probes.py [--pools 200] [--questions 2000] [--seed 0]

A pool has one of five curves of correctness along its ranking, and questions that scatter about it
(all-or-nothing, in between, alike). Its ranking is good or poor, and its wrong answers agree with
each other more or less often. Each row has means over the pools with 95 % intervals:

- mu covered, vote covered: share of ranks at which the 90 % band holds the true curve.
- width: mean width of mu's band.
- weak held: among the pools with a weak route, the share whose weak rows' votes are right at least
  as often as the promised floor (exact interval); weak pools: share of pools with a weak route.
- regret: 1 - the learning from the triage's routes over the learning from the same triage
  calibrated on every question of the pool. Both have the same budget, 29.3 %, with the probes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pivottrace.routing.adaptive_draw import draw_more, num_first_probes, probe_need
from pivottrace.routing.auction import QuestionEvidence, triage
from pivottrace.routing.curves import ProbeEvidence, calibrate
from pivottrace.routing.probes import draw_probes, rank_fractions
from pivottrace.routing.routes import TriageOptions
from pivottrace.routing.vote_floor import vote_risk, weak_route, with_own_votes
from pivottrace.stats.intervals import share_interval

G = 16
NUMBERS = (16, 32, 64, 128, 256)
DRAWS = ("systematic", "strata", "adaptive")
BUDGET_SHARE = 0.293
OPTIONS = TriageOptions()
SHAPES = ("linear", "logistic", "steep", "dip", "nearly all right")


@dataclass(frozen=True)
class Pool:
    """Q questions in the order of their ranks, with the truth about them."""

    ranks: np.ndarray
    mu: np.ndarray  # the true curve at each rank: mean correctness of questions there
    vote: np.ndarray  # the true curve of votes that are right
    chance: np.ndarray  # each question's own correctness
    evidence: ProbeEvidence  # evidence of every question, to draw from


def curve(shape: str, u: np.ndarray) -> np.ndarray:
    return {
        "linear": 0.98 - 0.8 * u,
        "logistic": 1 / (1 + np.exp(10 * (u - 0.55))),
        "steep": 0.97 / (1 + np.exp(25 * (u - 0.6))),
        "dip": 0.95 - 0.6 * np.exp(-(((u - 0.7) / 0.15) ** 2)),
        "nearly all right": np.full(u.size, 0.995),
    }[shape]


def simulate(seed: int, size: int) -> Pool:
    rng = np.random.default_rng(seed)
    ranks = (np.arange(size) + 0.5) / size
    mu = curve(SHAPES[seed % len(SHAPES)], ranks)
    spread, stubborn = ((0.3, 0.1), (1.0, 0.3), (5.0, 0.1))[seed // len(SHAPES) % 3]

    def draw(mean: np.ndarray) -> tuple[np.ndarray, ...]:
        chance = rng.beta(mean * spread, (1 - mean) * spread)
        correct = rng.binomial(G, chance)
        # Wrong answers agree with each other on stubborn questions, which gives confidently wrong
        # votes.
        together = rng.random(mean.size) < stubborn
        rival = np.where(together, G - correct, (G - correct) // 2)
        return chance, correct, rival

    chance, correct, rival = draw(mu)
    # The vote's true curve has no formula, so many further questions are drawn at a grid of ranks.
    grid = np.linspace(0, 1, 101)
    _, many, rivals = draw(np.repeat(curve(SHAPES[seed % len(SHAPES)], grid), 400))
    vote = np.interp(ranks, grid, (many > rivals).reshape(101, 400).mean(axis=1))
    tie = correct == rival
    evidence = ProbeEvidence(
        ranks,
        correct,
        np.full(size, G),
        (correct > rival) & ~tie,
        tie,
        np.where(tie, np.nan, np.maximum(correct, rival) / G),
    )
    return Pool(ranks, mu, vote, chance, evidence)


def chosen_of(evidence: ProbeEvidence, chosen: np.ndarray) -> ProbeEvidence:
    return ProbeEvidence(**{name: values[chosen] for name, values in vars(evidence).items()})


def draw(pool: Pool, how: str, number: int, seed: int) -> np.ndarray:
    if how != "adaptive":
        return draw_probes(pool.ranks, number, seed, how)
    first = draw_probes(pool.ranks, num_first_probes(number), seed)
    need = probe_need(
        calibrate(chosen_of(pool.evidence, first)),
        pool.ranks,
        (OPTIONS.mastered_floor, OPTIONS.hopeless_ceiling),
    )
    more = draw_more(pool.ranks, first, need, number - first.size, seed)
    return np.concatenate([first, more])


def routes(pool: Pool, probes: np.ndarray, paid: np.ndarray) -> np.ndarray:
    """Route every question, calibrated on `probes`; the budget has paid for `paid`."""
    rows, everyone = chosen_of(pool.evidence, probes), pool.evidence
    fitted = calibrate(rows)
    labelled = np.zeros(pool.ranks.size, dtype=bool)
    labelled[paid] = True
    result = triage(
        rank_fractions(pool.ranks),
        budget=max(0, round(BUDGET_SHARE * pool.ranks.size) - paid.size),
        curve=with_own_votes(fitted.at(pool.ranks), rows, pool.ranks, everyone.vote_share),
        vote_holds=vote_risk(pool.ranks, everyone.vote_share) <= weak_route(rows, fitted).end,
        evidence=QuestionEvidence(
            vote_share=everyone.vote_share,
            vote_abstained=everyone.vote_abstained,
            num_samples=everyone.num_samples,
            labelled=labelled,
            correctness=everyone.num_correct / G,
        ),
    )
    return np.array(result.routes())


def taught(pool: Pool, route: np.ndarray) -> float:
    """Return the true learning from the routes, by each question's own correctness and vote."""
    right = np.sqrt(pool.chance * (1 - pool.chance))
    share = np.nan_to_num(pool.evidence.vote_share, nan=0.5)
    rest = 1 - share
    odds = np.sqrt(np.divide(share, rest, out=np.zeros_like(share), where=rest > 0))
    wrong = np.minimum(pool.chance, np.minimum(share, rest)) * odds
    weak = np.where(pool.evidence.vote_right, right, -wrong)
    return float(right[route == "annotate"].sum() + weak[route == "weak"].sum())


def measure(pool: Pool, how: str, number: int, seed: int, best: float) -> dict[str, float]:
    probes = draw(pool, how, number, seed)
    band = calibrate(chosen_of(pool.evidence, probes)).at(pool.ranks)
    route = routes(pool, probes, probes)
    weak = route == "weak"
    accuracy = pool.evidence.vote_right[weak].mean() if weak.any() else np.nan
    return {
        "mu covered": np.mean((band.mu_low <= pool.mu) & (pool.mu <= band.mu_high)),
        "vote covered": np.mean((band.vote_low <= pool.vote) & (pool.vote <= band.vote_high)),
        "width": np.mean(band.mu_high - band.mu_low),
        "weak held": accuracy >= OPTIONS.vote_floor if weak.any() else np.nan,
        "weak pools": float(weak.any()),
        "regret": 1 - taught(pool, route) / best if best > 0 else np.nan,
    }


def cells(rows: list[dict[str, float]]) -> Iterator[str]:
    for name in rows[0]:
        values = np.array([row[name] for row in rows], dtype=float)
        values = values[~np.isnan(values)]
        mean = values.mean() if values.size else np.nan
        if name.startswith("weak"):
            low, high = (float(v) for v in share_interval(values.sum(), values.size, 0.95))
        else:
            half = 1.96 * values.std(ddof=1) / values.size**0.5
            low, high = mean - half, mean + half
        yield f"{100 * mean:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pools", type=int, default=200)
    parser.add_argument("--questions", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    found: dict[tuple[int, str], list[dict[str, float]]] = {
        (number, how): [] for number in NUMBERS for how in DRAWS
    }
    for index in range(arguments.pools):
        seed = arguments.seed + index
        pool = simulate(seed, arguments.questions)
        everything = np.arange(arguments.questions)
        # The rival knows every curve, and has paid only for its own 64 probes.
        best = taught(pool, routes(pool, everything, draw_probes(pool.ranks, 64, seed)))
        for number, how in found:
            found[number, how].append(measure(pool, how, number, seed, best))
    names = list(found[NUMBERS[0], DRAWS[0]][0])
    print(f"{arguments.pools} pools of {arguments.questions} questions; %, 95 % intervals")
    print("| probes | drawn | " + " | ".join(names) + " |")
    print("|---|---|" + "---|" * len(names))
    for (number, how), rows in found.items():
        print(f"| {number} | {how} | " + " | ".join(cells(rows)) + " |")


if __name__ == "__main__":
    main()
