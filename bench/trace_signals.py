"""What else can the trace say? Candidate signals, judged by their gain over the combination.

    python bench/trace_signals.py --runs runs/triage-quality --output runs/trace-signals \
        --choose default-40 mastered-40 hard-40 --confirm default-43 mastered-43 hard-41

Each name is a pool of the embedded world, its preset and its seed. A run directory of that name in
`--runs` is read, and never changed; it has been prepared as `pivottrace study` does, with
`study.truth_samples` fresh samples. The readings of the traces (about a minute per pool on one
core) are kept in `--output`, so that a second call goes on from there.

Three figures are compared with the same figures of the present combination, paired over pools
(`trace_model`): log loss of "the vote is right" out of fold with all labels, the same after 64
random labels, and the share of learnable wrong votes that get one of 140 labels. The two best
candidates of each group (`trace_features`, `trace_samples`) by the second figure on the pools of
`--choose` are judged on the pools of `--confirm`. A candidate adds something if the intervals of
all three figures lie above 0 there. All candidates go into `candidates.csv`.
"""

from __future__ import annotations

import argparse
import csv
import functools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pivottrace.config import ModelConfig
from pivottrace.errors import RunDirError
from pivottrace.labels.buying import every_answer
from pivottrace.models.load import load_model
from pivottrace.run.directory import RunDir
from pivottrace.verifier import Verifier
from trace_features import candidates
from trace_model import (
    PRESENT,
    Model,
    Pool,
    interval,
    joined,
    labelled_gain,
    log_losses,
    normal_scores,
)
from trace_samples import by_class, by_question, sampled_traces

GROUPS = "abcdefg"
BEST_OF_GROUP = 2
# Estimators that runs have and the present combination leaves out, and two references: noise, and
# an estimator that is in the combination already, which only widens its prior.
LEFT_OUT = ("entropy_sum", "neg_log_prob_sum", "question_onset_count", "coe_c", "cot_kinetics")
REFERENCES = ("noise", "self_certainty_again")
WIDER = (0.3, 0.4, 0.6)
TO_MILLINATS = -1000.0  # a lower loss is a gain


def main() -> None:
    """Read the pools that are missing in the output folder, then judge and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--choose", nargs="+", required=True)
    parser.add_argument("--confirm", nargs="+", required=True)
    arguments = parser.parse_args()
    if min(len(arguments.choose), len(arguments.confirm)) < 2:
        parser.error("give at least two pools to each half: intervals are over pools.")
    arguments.output.mkdir(parents=True, exist_ok=True)
    halves = {
        half: [_pool(arguments.runs / name, arguments.output) for name in names]
        for half, names in (("choose", arguments.choose), ("confirm", arguments.confirm))
    }
    _judge(halves, arguments.output / "candidates.csv")
    _print_learnt(halves["choose"], halves["confirm"])


def _judge(halves: dict[str, list[Pool]], path: Path) -> None:
    """Judge every candidate on both halves, and print the best of each group."""
    one = halves["choose"][0]
    names = [*one.by_question, *one.by_class]
    gains = {
        half: {name: _loss_gains([Model(pool, [name]) for pool in pools]) for name in names}
        for half, pools in halves.items()
    }
    _write(path, gains)
    for half, pools in halves.items():
        losses, share = (np.mean(part, axis=0) for part in zip(*map(_present, pools), strict=True))
        print(
            f"{half}: {', '.join(pool.name for pool in pools)}. The present combination: log loss"
        )
        print(f"{losses[0]:.4f} with all labels, {losses[1]:.4f} with 64; labelled {share:.4f}.")
    print("\n| added | all labels | 64 labels | wrong votes labelled |\n|---|---|---|---|")
    for name in [*_best(gains["choose"]), *LEFT_OUT, *REFERENCES]:
        for half, pools in halves.items():
            _print_line(f"{name}, {half}", [Model(pool, [name]) for pool in pools])
    for width in WIDER:
        for half, pools in halves.items():
            models = [Model(pool, width=width) for pool in pools]
            _print_line(f"nothing, prior {width} wide, {half}", models)


def _print_learnt(choose: Sequence[Pool], confirm: Sequence[Pool]) -> None:
    """Print the gains on one half if the other half's labels are the prior: a ceiling."""
    everything = joined(choose)
    names = [*everything.by_question, *everything.by_class]
    groups = {f"group {g}": [n for n in names if n.startswith(f"{g}_")] for g in GROUPS}
    everyone = [name for group in groups.values() for name in group]
    for title, added in {"nothing": [], **groups, "all groups": everyone}.items():
        prior = Model(everything, added).fit(np.arange(everything.size))
        models = [Model(pool, added, prior=prior) for pool in confirm]
        _print_line(f"{title}, weights learnt on the choosing half, confirm", models)


def _best(gains: dict[str, np.ndarray]) -> list[str]:
    """The best candidates of each group by their gain with 64 labels."""
    ranked = sorted(gains, key=lambda name: -gains[name][:, 1].mean())
    of_group = [[name for name in ranked if name.startswith(f"{group}_")] for group in GROUPS]
    return [name for names in of_group for name in names[:BEST_OF_GROUP]]


@functools.cache
def _present(pool: Pool) -> tuple[np.ndarray, float]:
    """Log losses (2,) and the share of labelled wrong votes, of the present combination."""
    model = Model(pool)
    return np.array(log_losses(model)), labelled_gain(model)


def _loss_gains(models: Sequence[Model]) -> np.ndarray:
    """Gains (models, 2): out of fold with all labels, and with 64."""
    losses = [np.array(log_losses(model)) - _present(model.pool)[0] for model in models]
    return TO_MILLINATS * np.array(losses)


def _print_line(title: str, models: Sequence[Model]) -> None:
    shares = np.array([labelled_gain(model) - _present(model.pool)[1] for model in models])
    cells = ["{:+.1f} [{:+.1f}, {:+.1f}]".format(*interval(x)) for x in _loss_gains(models).T]
    cells.append("{:+.4f} [{:+.4f}, {:+.4f}]".format(*interval(shares)))
    print(f"| {title} | {' | '.join(cells)} |", flush=True)


def _write(path: Path, gains: dict[str, dict[str, np.ndarray]]) -> None:
    """Write every candidate's gains with their intervals, thousandths of a nat per question."""
    header = ["candidate"]
    for half in gains:
        for figure in ("all_labels", "64_labels"):
            header += [f"{half}_{figure}{end}" for end in ("", "_low", "_high")]
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for name in next(iter(gains.values())):
            columns = [column for half in gains.values() for column in half[name].T]
            writer.writerow([name, *(f"{v:.2f}" for c in columns for v in interval(c))])


def _pool(path: Path, output: Path) -> Pool:
    """One pool with all candidates, read off its run directory."""
    if not (path / "rounds" / "00" / "truth.parquet").is_file():
        raise RunDirError(f"{path} has no truth samples: prepare it with `pivottrace study` first.")
    run = RunDir.open(path)
    kept = output / f"{path.name}.npz"
    if not kept.is_file():
        np.savez(kept, **_read(run, output / "seconds.jsonl"))
    found = dict(np.load(kept))
    classes, greedy = found.pop("classes"), found.pop("greedy")
    sampled = {name[8:]: found.pop(name) for name in list(found) if name.startswith("sampled_")}
    scores = run.read_table("scores", made_by="study")
    estimates = {name: scores[name].to_numpy(zero_copy_only=False) for name in scores.column_names}
    found |= by_question(sampled) | {name: estimates[name] for name in LEFT_OUT}
    found["noise"] = np.random.default_rng(run.config.seed).normal(size=len(greedy))
    found["self_certainty_again"] = estimates["self_certainty"]
    counts, is_greedy, right, member = _classes(classes, greedy)
    leaders = np.sort(counts, axis=1)[:, ::-1]
    truth = run.read_table("truth", made_by="study")
    num_fresh = truth["num_samples"].to_numpy()
    return Pool(
        name=path.name,
        counts=counts,
        greedy=is_greedy,
        truth=right,
        tie=(leaders[:, 0] <= 0) | (leaders[:, 0] == leaders[:, 1]),
        correctness=truth["num_correct"].to_numpy() / num_fresh,
        num_fresh=int(num_fresh[0]),
        present=np.stack([normal_scores(estimates[name]) for name in PRESENT], axis=1),
        by_question={name: normal_scores(values) for name, values in found.items()},
        by_class=by_class(sampled, member),
    )


def _read(run: RunDir, seconds: Path) -> dict[str, Any]:
    """Classes of all answers (the truth is class 0), and the readings of the traces."""
    answers: dict[str, list[str | None]] = {}
    for table, stage in (("rollouts_sampled", "sample"), ("rollouts_greedy", "greedy")):
        rows = run.read_parts(table, stage, ["question_id", "answer"])
        for question_id, answer in zip(*(c.to_pylist() for c in rows.columns), strict=True):
            answers.setdefault(question_id, []).append(answer)
    truths = every_answer(run)
    ids = run.read_table("scores", made_by="study", columns=["question_id"])[0].to_pylist()
    with Verifier.of(run.config.answers) as verifier:
        classes = np.array([verifier.group([truths[i], *answers[i]])[1:] for i in ids])
    model, tokenizer = load_model(ModelConfig())
    model.eval()
    started = time.perf_counter()
    sampled = sampled_traces(run, model, tokenizer)
    between = time.perf_counter()
    found = candidates(run, model, tokenizer)
    spent = {
        "pool": run.path.name,
        "questions": len(ids),
        "samples": between - started,
        "greedy": time.perf_counter() - between,
    }
    with seconds.open("a") as file:
        file.write(json.dumps(spent) + "\n")
    found |= {f"sampled_{name}": values for name, values in sampled.items()}
    return found | {"classes": classes[:, :-1], "greedy": classes[:, -1]}


def _classes(classes: np.ndarray, greedy: np.ndarray) -> tuple[np.ndarray, ...]:
    """Counts, greedy's class, index of the truth, and members: (Q, K), (Q, K), (Q,), (Q, K, V)."""
    ordered = []
    for row, own in zip(classes, greedy, strict=True):
        found, first, number = np.unique(row[row >= 0], return_index=True, return_counts=True)
        ids = found[np.lexsort((first, -number))].tolist()
        ordered.append(ids + [int(own)] * int(own >= 0 and own not in ids))
    width = max(2, max(map(len, ordered)))
    ids = np.array([row + [-9] * (width - len(row)) for row in ordered])  # (Q, K)
    member = ids[:, :, None] == classes[:, None]  # (Q, K, V)
    counts = np.where(ids > -9, member.sum(axis=-1), -1).astype(float)
    is_right = ids == 0
    right = np.where(is_right.any(axis=1), is_right.argmax(axis=1), width)
    return counts, (ids == greedy[:, None]).astype(float), right, member.astype(float)


if __name__ == "__main__":
    main()
