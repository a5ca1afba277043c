"""How good are the routes? Measured against the world's truth on many pools, without any training.

    python bench/triage_quality.py [--seeds 40-49] [--presets default hard mastered] [--arms new …]
    python bench/triage_quality.py --report [--seeds 40-49]
    python bench/triage_quality.py --model FOLDER --seeds 60-62 --presets default
    python bench/triage_quality.py --file FILE --seeds 11-13 --presets judged

Each pool (a preset and a seed) gets one base run: traces, 16 samples per question, and 32 fresh
samples that no arm sees (about five minutes; kept under runs/). Each arm of the file is forked from
it and runs calibration and triage as `pivottrace run` does. Arms that sample otherwise share a base
of their own. Results are kept as JSON under docs/results/triage-quality/, one file per preset and
arm, so a further arm takes seconds per pool. Two processes may not share a preset. With `--model`
another model answers in place of the embedded one, and runs and results are kept under the name of
its folder. Another file may have other pools: a preset is what stands in it for `{preset}`.

Definitions, with mu the share of right fresh samples of a question and n their number:

- *Label gain*: n/(n-1) mu(1-mu), what a labelled row teaches. A weak row teaches the same if its
  vote is right. If it is wrong, it takes p mu away, p being the fresh share of the vote's answer.
- *Learning captured*: the sum over the rows that an arm trains on, divided by the sum of perfect
  routes under the same budget. Perfect routes are chosen on one half of the fresh samples, and
  everything is measured on the other half, both ways round. *Rows* is the number of rows, divided
  by that of perfect routes.
- *New answers*: the label gain of the labelled questions whose most frequent fresh answer is wrong,
  divided by the most that the budget could reach. Of all these figures it foretells best
  what accuracy training gains (docs/results/triage-quality.md).
- *Teachable wrong vote*: the vote is wrong, and at least one fresh sample is right. *Mastered,
  hopeless*: all fresh samples are right, none is.
- *Wasted*: labels bought for mastered or hopeless questions, as a share of the budget.
- *Tokens*: response tokens that the arm's routes needed, divided by the tokens of 16 samples each.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from scipy.stats import t as student

from pivottrace.config import AnswersConfig
from pivottrace.experiments.definition import Arm, Experiment, load_experiment, merged
from pivottrace.experiments.forking import fork, link
from pivottrace.experiments.rival_routes import RIVALS
from pivottrace.labels.budget import allowed_labels
from pivottrace.labels.buying import every_answer
from pivottrace.pipeline import run_step
from pivottrace.run.directory import RunDir
from pivottrace.run.storage import read_parquet
from pivottrace.stages import truth
from pivottrace.verifier import Verifier

FILE = Path("bench/triage-quality.toml")
STAGES = ("pool", "greedy", "trace", "score", "sample")
PRESETS = ("default", "hard", "mastered")
HALVES = ((slice(0, None, 2), slice(1, None, 2)), (slice(1, None, 2), slice(0, None, 2)))
# Arms that triage_before.py and triage_rounds.py measure.
MADE_ELSEWHERE = {
    "today": "the default before this work (5851f10)",
    "today-consistency": "the same by consistency",
    "rounds-2": "PivotTrace, 16 samples, two rounds",
}
# Arms whose figures are subtracted pool by pool.
PAIRS = (
    ("new", "without-trace"),
    ("new-15", "without-trace-15"),
    ("new", "bare"),
    ("new", "random"),
    ("new", "fractions"),
    ("new", "paper"),
    ("new", "today"),
    ("stepwise", "new"),
    ("stepwise-15", "new-15"),
)
FIGURES = (
    ("captured", "learning captured"),
    ("new_answers", "new answers"),
    ("rows", "rows"),
    ("wasted", "wasted labels"),
    ("teachable", "teachable wrong votes labelled"),
    ("weak_right", "weak votes right"),
    ("tokens", "tokens"),
)
DIFFERENCES = tuple(each for each in FIGURES if each[0] in ("captured", "new_answers", "teachable"))


@dataclass(frozen=True)
class Fresh:
    """The truth of one pool of Q questions.

    Attributes:
        ids: Q ids, in the pool's order.
        answers: Per question the n answers of its fresh samples.
        truths: Q true answers.
        right: (Q, n) whether each fresh sample is right.
        vote_right: (Q,) whether the vote of the base's 16 samples is right.
        vote_share: (Q, n) whether each fresh sample gives the answer of that vote.
        has_vote: (Q,) whether it has a winner.
        mode_right: (Q,) whether the most frequent fresh answer is right.
        tokens: Response tokens of the base's rollouts, greedy ones included.
        comparing: How answers are compared.
    """

    ids: list[str]
    answers: list[list[str | None]]
    truths: list[str]
    right: np.ndarray
    vote_right: np.ndarray
    vote_share: np.ndarray
    has_vote: np.ndarray
    mode_right: np.ndarray
    tokens: int
    comparing: AnswersConfig


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--file", type=Path, default=FILE)
    parser.add_argument("--presets", nargs="+", default=list(PRESETS))
    parser.add_argument("--seeds", default="40-49", help="for instance 40-49, or 60")
    parser.add_argument("--arms", nargs="+", help="names; all by default")
    parser.add_argument("--model", type=Path, help="folder of a model in place of the embedded one")
    parser.add_argument("--report", action="store_true", help="print the table of stored results")
    options = parser.parse_args()
    seeds = seeds_in(options.seeds)
    experiment = of_model(load_experiment(options.file), options.model)
    arms = [arm for arm in experiment.arms if not options.arms or arm.name in options.arms]
    if not options.report:
        for seed in seeds:
            for preset in options.presets:
                measure_pool(of_preset(experiment, preset), arms, preset, seed)
    if not options.arms:
        arms += [Arm(name, title, ()) for name, title in MADE_ELSEWHERE.items()]
    for preset in options.presets:
        print("\n".join(table(experiment, arms, preset, seeds)), flush=True)
        print("\n".join(differences(experiment, preset, seeds)), flush=True)


def seeds_in(text: str) -> range:
    """The seeds of "40-49", or of "60"."""
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def of_model(experiment: Experiment, model: Path | None) -> Experiment:
    """The experiment with another model, whose runs and results have folders of their own."""
    if model is None:
        return experiment
    return replace(
        experiment,
        output=experiment.output / model.name,
        results=experiment.results / model.name,
        base=merged(experiment.base, {"model": {"path": str(model)}}),
    )


def of_preset(experiment: Experiment, preset: str) -> Experiment:
    """The experiment on pools of one preset, with run directories of its own."""
    sources = ("questions", "evaluation")
    pool = {key: experiment.base["pool"][key].replace("{preset}", preset) for key in sources}
    return replace(
        experiment,
        output=experiment.output / preset,
        base=merged(experiment.base, {"pool": pool}),
    )


def results_of(experiment: Experiment, arm: str, preset: str) -> dict[str, dict[str, Any]]:
    """The stored figures of an arm on the pools of a preset, by seed."""
    path = _results_path(experiment, arm, preset)
    return json.loads(path.read_text()) if path.is_file() else {}


def store(
    experiment: Experiment, arm: str, preset: str, seed: int, figures: dict[str, Any]
) -> None:
    """Add the figures of an arm on one pool to its stored ones."""
    path = _results_path(experiment, arm, preset)
    path.parent.mkdir(parents=True, exist_ok=True)
    found = results_of(experiment, arm, preset) | {str(seed): figures}
    path.write_text(json.dumps(dict(sorted(found.items())), indent=1) + "\n")


def is_measured(experiment: Experiment, arm: str, preset: str, seed: int) -> bool:
    return str(seed) in results_of(experiment, arm, preset)


def _results_path(experiment: Experiment, arm: str, preset: str) -> Path:
    return experiment.results / "arms" / f"{preset}-{arm}.json"


def measure_pool(experiment: Experiment, arms: Sequence[Arm], preset: str, seed: int) -> None:
    """Measure the arms of one pool that have no result yet."""
    missing = [each for each in arms if not is_measured(experiment, each.name, preset, seed)]
    if not missing:
        return
    base = prepared(experiment, seed)
    with base.locked():
        truth.run(base)
    fresh = read_fresh(base)
    for arm in missing:
        started = time.perf_counter()
        shared = sampling_alike(experiment, arm)
        if shared is not experiment:
            prepared(shared, seed)
        run = fork(shared, arm, seed)
        # An arm that traces otherwise would draw the same samples again.
        samples = "rollouts_sampled"
        if shared is experiment and not run.part_path(samples, 0).exists():
            link(base.part_path(samples, 0).parent, run.part_path(samples, 0).parent)
        with run.locked():
            for stage in STAGES:
                run_step(run, stage)
        route(run, arm)
        store(experiment, arm.name, preset, seed, measured(run, fresh))
        shutil.rmtree(run.path)
        print(f"{preset} {seed} {arm.name}: {time.perf_counter() - started:.0f} s", flush=True)


def route(run: RunDir, arm: Arm) -> None:
    """Route the pool of a sampled run by the arm's rule."""
    if arm.routes != "triage":
        RIVALS[arm.routes](run)
        return
    with run.locked():
        for stage in ("calibrate", "triage"):
            run_step(run, stage)


def sampling_alike(experiment: Experiment, arm: Arm) -> Experiment:
    """The experiment whose base has the arm's samples."""
    own = arm.changes.get("rollouts")
    if own is None:
        return experiment
    name = "-".join(str(value) for value in own.values())
    base = merged(experiment.base, {"rollouts": own})
    return replace(experiment, output=experiment.output / name, base=base)


def prepared(experiment: Experiment, seed: int) -> RunDir:
    """The base run of a seed, up to its votes. Finished stages are kept."""
    run = RunDir.create(experiment.base_config(seed))
    with run.locked():
        for stage in STAGES:
            run_step(run, stage)
    return run


def read_fresh(run: RunDir) -> Fresh:
    """Read the truth of a base run."""
    truths = every_answer(run)
    samples: dict[str, list[str | None]] = {question_id: [] for question_id in truths}
    for index in range(run.stage_facts("truth")["num_parts"]):
        part = read_parquet(run.part_path("rollouts_truth", index), ["question_id", "answer"])
        for question_id, answer in zip(*(c.to_pylist() for c in part.columns), strict=True):
            samples[question_id].append(answer)
    votes = run.read_table("votes", "sample", ["question_id", "vote_answer"]).to_pylist()
    with Verifier.of(run.config.answers) as verifier:
        right, share, vote_right, mode_right = [], [], [], []
        for row in votes:
            given, answer = samples[row["question_id"]], truths[row["question_id"]]
            *of_samples, of_vote = verifier.check_many(
                [*given, row["vote_answer"]], [answer] * (len(given) + 1)
            )
            right.append(of_samples)
            vote_right.append(of_vote)
            share.append(agreeing(verifier, row["vote_answer"], given))
            mode_right.append(_mode_is_right(verifier.group(given), of_samples))
    return Fresh(
        ids=list(truths),
        answers=list(samples.values()),
        truths=list(truths.values()),
        right=np.array(right, dtype=bool),
        vote_right=np.array(vote_right, dtype=bool),
        vote_share=np.array(share, dtype=bool),
        has_vote=np.array([row["vote_answer"] is not None for row in votes]),
        mode_right=np.array(mode_right, dtype=bool),
        tokens=tokens_of(run),
        comparing=run.config.answers,
    )


def _mode_is_right(classes: Sequence[int], right: Sequence[bool]) -> bool:
    """Whether the most frequent answer is right; the first of several as frequent ones counts."""
    answered = [each for each in classes if each >= 0]
    if not answered:
        return False
    mode = max(dict.fromkeys(answered), key=answered.count)
    return right[list(classes).index(mode)]


def agreeing(verifier: Verifier, vote: str | None, answers: Sequence[str | None]) -> list[bool]:
    """Whether each answer is in the vote's class."""
    own, *others = verifier.group([vote, *answers])
    return [own >= 0 and each == own for each in others]


def tokens_of(run: RunDir) -> int:
    """Response tokens of a run's greedy traces and samples."""
    total = 0
    for name, made_by in (("rollouts_greedy", "greedy"), ("rollouts_sampled", "sample")):
        for part in run.iter_parts(name, made_by, ["tokens"]):
            total += pc.sum(pc.list_value_length(part["tokens"])).as_py() or 0
    return total


def measured(run: RunDir, fresh: Fresh) -> dict[str, Any]:
    """The figures of the routes of a run of this code."""
    table = run.read_table("triage", made_by="triage")
    probes = run.read_table("probes", made_by="calibrate")["question_id"].to_pylist()
    figures = figures_of(table.to_pylist(), probes, allowed_labels(run), fresh)
    return figures | {
        "tokens": tokens_of(run) / fresh.tokens,
        "vote_check": (run.stage_facts("calibrate").get("vote_model") or {}).get("check"),
    }


def figures_of(
    rows: Sequence[dict[str, Any]], paid: Sequence[str], budget: int, fresh: Fresh
) -> dict[str, Any]:
    """The figures of an arm's routes, by the definitions at the head of this file.

    Args:
        rows: Rows of the arm's table `triage`.
        paid: Ids of the questions whose labels are paid for already, such as the probes.
        budget: Labels that the arm may buy.
        fresh: The truth of the pool.
    """
    assert [row["question_id"] for row in rows] == fresh.ids
    routes = np.array([row["route"] for row in rows])
    labelled, weak = routes == "annotate", routes == "weak"
    bought = labelled | np.isin(fresh.ids, paid)
    # An arm that samples anew has votes of its own.
    own_right, own_share = fresh.vote_right.copy(), fresh.vote_share.copy()
    with Verifier.of(fresh.comparing) as verifier:
        for place in np.flatnonzero(weak).tolist():
            vote = rows[place]["pseudo_label"]
            own_right[place] = verifier.check_many([vote], [fresh.truths[place]])[0]
            own_share[place] = agreeing(verifier, vote, fresh.answers[place])
    gained = perfect = num_perfect = 0.0
    for chosen_on, measured_on in HALVES:
        label, vote = gains(fresh.right, fresh.vote_share, fresh.vote_right, chosen_on)
        best_labelled, best_weak = perfect_routes(label, np.where(fresh.has_vote, vote, 0), budget)
        label, vote = gains(fresh.right, fresh.vote_share, fresh.vote_right, measured_on)
        perfect += label[best_labelled].sum() + vote[best_weak].sum()
        num_perfect += best_labelled.sum() + best_weak.sum()
        label, vote = gains(fresh.right, own_share, own_right, measured_on)
        gained += label[labelled].sum() + vote[weak].sum()
    correct = fresh.right.mean(axis=1)
    extreme, teachable = (correct == 0) | (correct == 1), ~fresh.vote_right & (correct > 0)
    label, _ = gains(fresh.right, fresh.vote_share, fresh.vote_right, slice(None))
    new = np.where(fresh.mode_right, 0.0, label)
    reachable = min(budget, int(teachable.sum()))
    return {
        "captured": float(gained / perfect),
        "new_answers": float(new[bought].sum() / np.sort(new)[::-1][:budget].sum()),
        "rows": float(2 * (labelled.sum() + weak.sum()) / num_perfect),
        "wasted": float((bought & extreme).sum() / budget),
        "teachable": float((bought & teachable).sum() / max(reachable, 1)),
        "weak_right": float(own_right[weak].mean()) if weak.any() else None,
        "labels": int(bought.sum()),
        "budget": budget,
        "routes": {name: int((routes == name).sum()) for name in np.unique(routes).tolist()},
    }


def gains(
    right: np.ndarray, vote_share: np.ndarray, vote_right: np.ndarray, part: slice
) -> tuple[np.ndarray, np.ndarray]:
    """The gains of a label and of a vote, (Q,) each, by a part of the fresh samples."""
    correct, share = right[:, part], vote_share[:, part]
    n, mu = correct.shape[1], correct.mean(axis=1)
    label = n / (n - 1) * mu * (1 - mu)
    return label, np.where(vote_right, label, -share.mean(axis=1) * mu)


def perfect_routes(
    label: np.ndarray, vote: np.ndarray, budget: int
) -> tuple[np.ndarray, np.ndarray]:
    """The labelled and the weak questions, (Q,) bool each, that teach most under the budget."""
    beyond = label - np.maximum(vote, 0)
    best = np.argsort(-beyond, kind="stable")[:budget]
    labelled = np.zeros(label.size, dtype=bool)
    labelled[best[beyond[best] > 0]] = True
    return labelled, (vote > 0) & ~labelled


def table(
    experiment: Experiment, arms: Sequence[Arm], preset: str, seeds: Sequence[int]
) -> Iterator[str]:
    """The Markdown table of a preset: medians over its pools, with the worst pool's capture."""
    yield f"\n**{preset}**\n"
    yield "| arm | pools | " + " | ".join(title for _, title in FIGURES) + " |"
    yield "|---|---|" + "---|" * len(FIGURES)
    for arm in arms:
        stored = results_of(experiment, arm.name, preset)
        found = [stored[str(seed)] for seed in seeds if str(seed) in stored]
        if found:
            cells = " | ".join(_cell(found, name) for name, _ in FIGURES)
            yield f"| {arm.title} | {len(found)} | {cells} |"


def differences(experiment: Experiment, preset: str, seeds: Sequence[int]) -> Iterator[str]:
    """The Markdown table of the differences of `PAIRS`, with 95 % intervals over the pools."""
    yield f"\n**{preset}, differences pool by pool**\n"
    titles = " | ".join(title for _, title in DIFFERENCES)
    yield f"| arm | less | pools | {titles} | learning captured, median ratio |"
    yield "|---|---|---|---|" + "---|" * len(DIFFERENCES)
    for one, other in PAIRS:
        ones, others = (results_of(experiment, name, preset) for name in (one, other))
        both = [str(seed) for seed in seeds if str(seed) in ones.keys() & others.keys()]
        found = [(ones[seed], others[seed]) for seed in both]
        if len(found) > 1:
            cells = " | ".join(_difference(found, name) for name, _ in DIFFERENCES)
            ratio = statistics.median(a["captured"] / b["captured"] for a, b in found)
            yield f"| {one} | {other} | {len(found)} | {cells} | {ratio:.2f} |"


def _difference(found: Sequence[Sequence[dict[str, Any]]], name: str) -> str:
    """Mean and 95 % interval (Student) of one arm's figure less another's, pool by pool."""
    values = [one[name] - other[name] for one, other in found]
    mean = statistics.fmean(values)
    half = student.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]"


def _cell(found: Sequence[dict[str, Any]], name: str) -> str:
    values = [each[name] for each in found if each[name] is not None]
    if not values:
        return "–"
    middle = f"{statistics.median(values):.2f}"
    return f"{middle} (worst {min(values):.2f})" if name == "captured" else middle


if __name__ == "__main__":
    main()
