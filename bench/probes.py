"""How many probes are enough, and how to draw them: simulated pools, one row per way and number.

    python bench/probes.py [--pools 200] [--questions 2000] [--seed 0]

A pool has one of five curves of correctness along its ranking, and questions that scatter about it
(all-or-nothing, in between, alike). Its wrong answers agree with each other more or less often.
Each row has means over the pools with 95 % intervals:

- off: share of right votes that the probes show, each counted for one over its chance of having
  been drawn, less the pool's own share. A draw whose chances are honest has 0.
- share covered: share of pools in which the 90 % interval of that share holds the pool's own.
- mu covered, vote covered: share of ranks at which the 90 % band holds the true curve; width: mean
  width of mu's band. Probes by value give no curve, and adaptive probes no share.
- weak held: among the pools whose floor opens a weak route, the share whose weak rows' votes are
  right at least as often as the promised floor (exact interval); weak pools: share of pools with a
  weak route. Only evenly drawn probes can promise a floor.
- regret: 1 - the learning from the triage's routes, without a floor, over the learning from the
  same triage if it knows the label of every question. Both have the same budget, 29.3 %, and the
  first pays its probes from it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from pivottrace.routing.adaptive_draw import draw_more, num_first_probes, probe_need
from pivottrace.routing.agreement import Agreement
from pivottrace.routing.answer_counts import answer_counts
from pivottrace.routing.auction import QuestionEvidence
from pivottrace.routing.curves import ProbeEvidence, calibrate
from pivottrace.routing.probes import draw_by_value, draw_probes, rank_fractions
from pivottrace.routing.routes import TriageOptions
from pivottrace.routing.vote_check import weighted_mean
from pivottrace.routing.vote_model import NONE, fit_votes
from pivottrace.run.pool_routes import agreement_of, expectations, route_pool
from pivottrace.run.scored_pool import Scored, standardised
from pivottrace.stages.calibrate import DECIDED_AT
from pivottrace.stats.intervals import share_interval

G = 16
NUMBERS = (16, 32, 64, 128, 256)
DRAWS = ("by_value", "systematic", "strata", "adaptive")
BUDGET_SHARE, FLOOR = 0.293, 0.6
SHAPES = ("linear", "logistic", "steep", "dip", "nearly all right")


@dataclass(frozen=True)
class Pool:
    """Q questions in the order of their ranks, with the truth about them."""

    mu: np.ndarray  # the true curve at each rank: mean correctness of questions there
    vote: np.ndarray  # the true curve of votes that are right
    chance: np.ndarray  # each question's own correctness
    evidence: ProbeEvidence  # evidence of every question, to draw from
    scored: Scored  # the same as the pipeline reads it, with every label's class
    agreement: Agreement


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
    share = np.where(tie, np.nan, np.maximum(correct, rival) / G)
    samples = np.full(size, G)
    rows = ProbeEvidence(ranks, correct, samples, (correct > rival) & ~tie, tie, share)
    scored = _scored(ranks, correct, rival, rng.random(size) < chance, share, tie)
    return Pool(mu, vote, chance, rows, scored, agreement_of(scored))


def _scored(
    ranks: np.ndarray,
    correct: np.ndarray,
    rival: np.ndarray,
    greedy_right: np.ndarray,
    share: np.ndarray,
    tie: np.ndarray,
) -> Scored:
    """The pool as the pipeline reads it. A wrong greedy answer is the rival."""
    class_counts, greedy, right = [], [], []
    for num_right, num_rival, is_right in zip(correct, rival, greedy_right, strict=True):
        sizes = {"right": num_right, "rival": num_rival, "rest": G - num_right - num_rival}
        names = sorted((n for n in sizes if sizes[n]), key=lambda n, s=sizes: -s[n])
        own = "right" if is_right else "rival"
        class_counts.append([int(sizes[name]) for name in names])
        places = {name: place for place, name in enumerate([*names, own])} | {
            name: place for place, name in enumerate(names)
        }
        greedy.append(places[own])
        right.append(places.get("right", NONE))
    size = ranks.size
    evidence = QuestionEvidence(
        vote_share=share, vote_abstained=tie, num_samples=np.full(size, G)
    ).filled(size)
    return Scored(
        scores=ranks,
        probe=np.full(size, -1),
        evidence=evidence,
        counts=answer_counts(class_counts, greedy, [G] * size),
        names=("rank",),
        features=standardised(ranks.astype(np.float32), np.ones(size, bool))[:, None],
        right=np.array(right, dtype=np.int64),
    )


def chosen_of(evidence: ProbeEvidence, chosen: np.ndarray) -> ProbeEvidence:
    return ProbeEvidence(**{name: values[chosen] for name, values in vars(evidence).items()})


def draw(pool: Pool, how: str, number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The probes, and the chance that each had; NaN for adaptive ones."""
    ranks = pool.scored.scores
    if how == "by_value":
        expected = _expected(pool, np.empty(0, np.int64), pool.scored)
        value = expected.label_gain - np.fmax(expected.vote_gain, 0.0)
        return draw_by_value(ranks, value, number, seed)
    if how != "adaptive":
        drawn = draw_probes(ranks, number, seed, how)
        return drawn, np.full(drawn.size, drawn.size / ranks.size)
    first = draw_probes(ranks, num_first_probes(number), seed)
    need = probe_need(calibrate(chosen_of(pool.evidence, first)), ranks, DECIDED_AT)
    more = draw_more(ranks, first, need, number - first.size, seed)
    return np.concatenate([first, more]), np.full(number, np.nan)


def _expected(pool: Pool, labels: np.ndarray, scored: Scored):
    names, counts = scored.names, pool.scored.counts.rows(labels)
    model = fit_votes(names, counts, pool.scored.features[labels], pool.scored.right[labels])
    return expectations(scored, model, pool.agreement)


def routes(
    pool: Pool, labels: np.ndarray, paid: np.ndarray, floor: float | None = None
) -> np.ndarray:
    """Route every question by a fit on `labels`; the budget has paid for `paid`."""
    size = pool.scored.scores.size
    labelled = np.zeros(size, dtype=bool)
    labelled[paid] = True
    known = np.where(labelled, pool.evidence.num_correct / G, np.nan)
    scored = replace(
        pool.scored,
        evidence=replace(pool.scored.evidence, labelled=labelled, correctness=known),
        right=np.where(labelled, pool.scored.right, NONE),
    )
    routed = route_pool(
        scored,
        budget=max(0, round(BUDGET_SHARE * size) - paid.size),
        expected=_expected(pool, labels, scored),
        probes=chosen_of(pool.evidence, labels),
        options=TriageOptions(vote_floor=floor),
        ranks=rank_fractions(scored.scores),
    )
    return np.array(routed.result.routes())


def taught(pool: Pool, route: np.ndarray) -> float:
    """Return the true learning from the routes, by each question's own correctness and vote."""
    right = pool.chance * (1 - pool.chance)
    harm = np.nan_to_num(pool.evidence.vote_share) * pool.chance
    weak = np.where(pool.evidence.vote_right, right, -harm)
    return float(right[route == "annotate"].sum() + weak[route == "weak"].sum())


def measure(pool: Pool, how: str, number: int, seed: int, best: float) -> dict[str, float]:
    probes, chance = draw(pool, how, number, seed)
    found = dict.fromkeys(
        (
            "off",
            "share covered",
            "mu covered",
            "vote covered",
            "width",
            "weak held",
            "weak pools",
            "regret",
        ),
        np.nan,
    )
    right = pool.evidence.vote_right
    if how != "adaptive":
        share, half = weighted_mean(right[probes].astype(np.float64), 1 / chance)
        found["off"] = share - right.mean()
        found["share covered"] = float(abs(share - right.mean()) <= half)
    if how != "by_value":
        band = calibrate(chosen_of(pool.evidence, probes)).at(pool.scored.scores)
        found["mu covered"] = np.mean((band.mu_low <= pool.mu) & (pool.mu <= band.mu_high))
        found["vote covered"] = np.mean(
            (band.vote_low <= pool.vote) & (pool.vote <= band.vote_high)
        )
        found["width"] = np.mean(band.mu_high - band.mu_low)
        weak = routes(pool, probes, probes, FLOOR) == "weak"
        found["weak held"] = right[weak].mean() >= FLOOR if weak.any() else np.nan
        found["weak pools"] = float(weak.any())
    if best > 0:
        found["regret"] = 1 - taught(pool, routes(pool, probes, probes)) / best
    return found


def cells(rows: list[dict[str, float]]) -> Iterator[str]:
    for name in rows[0]:
        values = np.array([row[name] for row in rows], dtype=float)
        values = values[~np.isnan(values)]
        if not values.size:
            yield "–"
            continue
        mean = values.mean()
        if name in ("weak held", "weak pools", "share covered"):
            low, high = (float(v) for v in share_interval(values.sum(), values.size, 0.95))
        else:
            half = 1.96 * values.std() / max(values.size - 1, 1) ** 0.5
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
        everything, nothing = np.arange(arguments.questions), np.empty(0, np.int64)
        best = taught(pool, routes(pool, everything, nothing))
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
