"""The verdict on a run in words: what was decided, what it cost, whether it helped, what limits it.

It comes first, in the closing lines of a command and on the report's first screen.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pivottrace.config import EMBEDDED_MODEL
from pivottrace.errors import counted
from pivottrace.labels.budget import (
    FEW_TO_CHOOSE,
    allowed_labels,
    bought,
    labels_of,
    unanswerable,
)
from pivottrace.labels.waiting import left_open
from pivottrace.report.correlations import rank_correlations
from pivottrace.report.held_out_verdict import helped, of_sets
from pivottrace.routing.routes import ROUTES, Reason
from pivottrace.run.choices import driving_estimator
from pivottrace.run.directory import RunDir
from pivottrace.run.readings import is_combined
from pivottrace.run.rounds import latest_round
from pivottrace.run.storage import read_parquet

# GRPO learns nothing from groups that are all right or all wrong. A pool is too easy or too hard if
# fewer of its questions teach anything, and too hard if fewer of the samples are right.
FEW_TEACH = 0.15
FEW_RIGHT = 0.1
# A ranking with more of its questions at one place tells too few apart (ours). In the quick start,
# 72 % have no pivot, and that is usual in the embedded world, where pivots carry information.
MANY_TIED = 0.8
# A correlation this many standard errors from 0 is beyond chance, even if it is the best of some
# fifteen estimators (5 % over all of them).
SURE = 3.0
ROUTE_WORDS = {  # of one question, and of several
    "annotate": ("gets a true answer", "get a true answer"),
    "weak": ("trains on the model's own vote", "train on the model's own vote"),
    "discard": ("is dropped", "are dropped"),
    "defer": ("is put off", "are put off"),
}


@dataclass(frozen=True)
class Verdict:
    """The verdict, in whole sentences; None where the run does not know yet.

    Attributes:
        decided: The routes, with their numbers of questions.
        labels: Labels spent, and how many of them fell where a label teaches.
        cost: Responses, tokens and hours.
        helped: Whether training helped on held-out questions, beyond chance.
        sets: The figures of each held-out set, where there are several.
        limits: The limits of the result, the gravest first, each with its cure.
    """

    decided: str | None
    labels: str | None
    cost: str | None
    helped: str | None
    sets: tuple[str, ...]
    limits: tuple[str, ...]

    def lines(self) -> Iterator[tuple[str, str]]:
        """Each sentence with its title."""
        for title, text in (
            ("decided", self.decided),
            ("labels", self.labels),
            ("cost", self.cost),
            ("held-out", self.helped),
        ):
            if text is not None:
                yield title, text
        yield from (("held-out", text) for text in self.sets)
        yield from (("limited by", text) for text in self.limits)


def verdict(run: RunDir) -> Verdict:
    """The verdict on a run, as far as it has come.

    Raises:
        RunDirError: A table is torn.
    """
    run = latest_round(run, "triage")
    triage = None
    if run.is_done("triage"):
        triage = read_parquet(
            run.table_path("triage"),
            ["question_id", "route", "reason", "score", "mu", "label_gain", "priority"],
        )
    return Verdict(
        decided=_decided(run, triage),
        labels=_labels(run, triage),
        cost=_cost(run),
        helped=helped(run),
        sets=tuple(of_sets(run)),
        limits=tuple(_limits(run, triage)),
    )


def _decided(run: RunDir, triage: pa.Table | None) -> str | None:
    """The routes. A question that people found to have no answer is on none of them."""
    if triage is None:
        return None
    none = pa.array(unanswerable(run), pa.string())
    without = pc.and_(
        pc.is_in(triage["question_id"], none), pc.not_equal(triage["route"], "discard")
    )
    left = triage.filter(pc.invert(without))
    counts = {row["values"]: row["counts"] for row in left["route"].value_counts().to_pylist()}
    without, disputed = len(left_open(run)), _num_disputed(run, left)
    counts["annotate"] = counts.get("annotate", 0) - without - disputed
    parts = [
        f"{counts[route]:,} {ROUTE_WORDS[route][counts[route] != 1]}"
        + (_why_dropped(left) if route == "discard" else "")
        for route in ROUTES
        if counts.get(route)
    ]
    unanswered = triage.num_rows - left.num_rows
    parts += [f"{without:,} chosen for a true answer stayed without one"] if without else []
    parts += [f"{disputed:,} have true answers that differ"] if disputed else []
    parts += [f"{unanswered:,} cannot be answered"] if unanswered else []
    return f"of {counted(triage.num_rows, 'question')}, {_listed(parts)}"


def _num_disputed(run: RunDir, triage: pa.Table) -> int:
    """Questions chosen for a true answer whose answers differ, so that no stage uses them."""
    known = labels_of(run)
    chosen = triage.filter(pc.field("route") == "annotate")["question_id"].to_pylist()
    return sum(i in known and known[i].disputed for i in chosen) if run.is_done("label") else 0


def _why_dropped(triage: pa.Table) -> str:
    """How many dropped questions are mastered, and how many are out of reach."""
    reasons = triage.filter(pc.field("route") == "discard")["reason"]
    found = {
        words: pc.sum(pc.ends_with(reasons, kind)).as_py() or 0
        for kind, words in (("mastered", "mastered"), ("hopeless", "out of reach"))
    }
    parts = [f"{count:,} {words}" for words, count in found.items() if count]
    return f" ({', '.join(parts)})" if parts else ""


def _labels(run: RunDir, triage: pa.Table | None) -> str | None:
    if not run.is_done("pool"):
        return None
    paid, allowed = bought(run), allowed_labels(run)
    num_probes = sum(label.purpose == "probe" for label in paid.values())
    text = f"{len(paid):,} of {allowed:,} used"
    if paid:
        text += f", {num_probes:,} of them for probes"
    owned = len(labels_of(run)) - len(paid)
    if owned:
        text += f"; {owned:,} more were in the pool already, at no cost"
    if triage is None or not run.stage_facts("calibrate").get("num_probes") or not paid:
        return text
    teaches = np.nan_to_num(_numbers(triage, "priority")) > run.config.triage.least_label_gain
    is_paid = pc.is_in(triage["question_id"], pa.array(list(paid), pa.string())).to_numpy()
    chosen, at_random = int((teaches & is_paid).sum()), len(paid) * teaches.mean()
    text = (
        f"{text}. {chosen:,} fell where a label is expected to teach more than the vote; of as "
        f"many random ones, about {at_random:.0f} would have"
    )
    return f"{text}, so the choice gained nothing" if chosen <= round(at_random) else text


def _cost(run: RunDir) -> str | None:
    greedy, sample = run.stage_facts("greedy"), run.stage_facts("sample")
    if "response_tokens" not in greedy or "response_tokens" not in sample:
        return None
    responses = greedy["num_questions"] + sample["samples_taken"]
    tokens = greedy["response_tokens"] + sample["response_tokens"]
    per_question = responses / max(greedy["num_questions"], 1)
    text = (
        f"{counted(responses, 'response')} on the pool ({per_question:.1f} per question, "
        f"{tokens:,} tokens)"
    )
    trained = latest_round(run, "train").stage_facts("train").get("rollouts")
    if trained:
        text += f", {trained:,} in training"
    device = run.config.model.device
    where = "this machine" if device == "auto" else device
    return f"{text}; {_duration(run)} on {where}"


def _duration(run: RunDir) -> str:
    """The time of all stages: seconds, minutes or hours."""
    seconds = sum(took for stage, took in run.seconds().items() if stage != "report")
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def _limits(run: RunDir, triage: pa.Table | None) -> Iterator[str]:
    yield from _of_the_model(run, triage)
    yield from _of_the_ranking(run, triage)
    yield from _of_the_budget(run)


def _of_the_model(run: RunDir, triage: pa.Table | None) -> Iterator[str]:
    """Whether the pool is too hard or too easy, and how many responses were cut or unread."""
    if triage is None:
        weak = too_weak(run)
        yield from () if weak is None else (weak,)
    else:
        yield from _strength(run, triage)
    yield from _of_the_responses(run)


def too_weak(run: RunDir) -> str | None:
    """A sentence about a model that is too weak for the pool, by the probes; None if it is not.

    Calibration knows it, so it can be said before further labels or training cost anything.
    """
    num_probes = run.stage_facts("calibrate").get("num_probes")
    if not num_probes or (right := _observed(run)) >= FEW_RIGHT:
        return None
    found = f"on {counted(num_probes, 'probe')} {_share_right(right)}"
    return _too_weak(found, run.config.model.path)


def _too_weak(found: str, model: str) -> str:
    return (
        f"the model is too weak for these questions: {found}. Take a stronger model or easier "
        f"questions, or train it first on worked solutions{_of_another_world(model)}"
    )


def _of_another_world(model: str) -> str:
    """The reason that is the most frequent one with the embedded model."""
    if model != EMBEDDED_MODEL:
        return ""
    return ". The embedded model knows only the questions of its own world (model.path)"


def _share_right(right: float) -> str:
    if right == 0:
        return "none of its samples is right"
    return f"it is right in about {100 * right:.0f} % of its samples"


def _of_the_responses(run: RunDir) -> Iterator[str]:
    """How many greedy responses were cut or unread."""
    failures, asked = run.stage_facts("greedy").get("failures", {}), run.stage_facts("greedy")
    for reason, what, cure in (
        ("truncated", "were cut at the token limit", "raise rollouts.max_new_tokens"),
        (
            "no_answer",
            "have no answer that could be read",
            "set pool.prompt_suffix so that the model states one, or answers.pattern",
        ),
    ):
        share = failures.get(reason, 0) / max(asked.get("num_questions", 0), 1)
        if share > 0.25:
            yield f"{100 * share:.0f} % of the greedy responses {what}: {cure}"


def _strength(run: RunDir, triage: pa.Table) -> Iterator[str]:
    """Whether the pool is too hard or too easy, by the expectation of all its questions."""
    mu, gain = _numbers(triage, "mu"), _numbers(triage, "label_gain")
    known = ~np.isnan(mu)
    if not known.any():
        return
    expected, teach = float(mu[known].mean()), gain[known] > run.config.triage.least_gain
    # The expectation leans on its prior. If next to nothing is right on the probes, they count.
    right = min(expected, _observed(run)) if expected < 0.5 else expected
    found = _share_right(right)
    if right >= FEW_RIGHT:
        found += f", and {teach.sum():,} of {counted(teach.size, 'question')} can teach it anything"
    if right < FEW_RIGHT or (teach.mean() < FEW_TEACH and right < 0.5):
        yield _too_weak(found, run.config.model.path)
    elif teach.mean() < FEW_TEACH:
        yield f"the model is too strong for these questions: {found}. Take harder questions"


def _observed(run: RunDir) -> float:
    """The share of right samples on the probes, each weighted by one over its chance; 1 if none."""
    rows = run.read_table("evidence", made_by="calibrate").to_pylist()
    weights = [1.0 / (row["chance"] or 1.0) for row in rows]
    shares = [row["num_correct"] / row["num_samples"] for row in rows]
    return float(np.average(shares, weights=weights)) if rows else 1.0


def _of_the_ranking(run: RunDir, triage: pa.Table | None) -> Iterator[str]:
    """Whether the trace tells questions apart, and whether votes can be trained on."""
    if triage is None:
        return
    scores = _numbers(triage, "score")
    known = scores[~np.isnan(scores)]
    tied = int(np.unique(known, return_counts=True)[1].max()) if known.size > 1 else 0
    if tied == known.size > 1:
        yield (
            f"the ranking says nothing: {driving_estimator(run.config)} is the same for all "
            f"questions, so the votes alone decide"
        )
    elif tied > MANY_TIED * known.size:
        yield (
            f"the ranking says little: {driving_estimator(run.config)} is the same for {tied:,} of "
            f"{counted(known.size, 'question')}, so the votes alone tell these apart. Another "
            f"score.estimator may do better; the report compares them"
        )
    else:
        yield from _of_the_estimator(run)
    facts = run.stage_facts("triage")
    if not facts["counts"].get("weak") and run.config.triage.mode == "calibrated":
        if facts["put_off"].get(Reason.DEFER_NO_PLACE):
            why = "votes find no place beside the labelled questions (triage.most_rows)"
        else:
            why = "no vote was safe enough to train on"
        yield f"{why}, so only labelled questions are trained on"


def _of_the_estimator(run: RunDir) -> Iterator[str]:
    """Whether the probes show that another estimator ranks, and not that the driving one does."""
    found, driving = run.stage_facts("calibrate").get("combination"), driving_estimator(run.config)
    if found is None or is_combined(run) or found["best_single"] == driving:
        return
    # An offered combination was better than the best single estimator, beyond chance.
    best, rho = found["best_single"], found["single_rho"]
    if found["offered"]:
        best, rho = "combination", found["rho"]
    rows = run.read_table("evidence", made_by="calibrate").to_pylist()
    if rho * math.sqrt(len(rows) - 1) < SURE:  # before the resamples, which take longest
        return
    right = [row["num_correct"] / row["num_samples"] for row in rows]
    own = rank_correlations({driving: [row["score"] for row in rows]}, right, [])
    if own and own[0].high < 0:
        return
    of_own = f"{-own[0].rho:.2f}" if own else "none"  # without one, its probes are all alike
    yield (
        f"{driving} is not shown to rank the probes by errors, and {best} is (rank correlations "
        f"{of_own} and {rho:.2f} on {len(rows):,} probes). A new run with --score.estimator {best} "
        f"ranks by it"
    )


def _of_the_budget(run: RunDir) -> Iterator[str]:
    """Whether labels were left to choose with."""
    facts = run.stage_facts("calibrate")
    if not facts or run.round_index or run.config.triage.mode != "calibrated":
        return
    allowed, probes = facts["labels_allowed"], facts["labels_asked"]
    if probes and allowed - probes < FEW_TO_CHOOSE * allowed:
        left = max(0, allowed - probes)
        place = shlex.quote(str(run.path))
        how = f"pivottrace redo {place} calibrate"
        if not run.begun_facts("train"):
            how = f"pivottrace run {place}"
        cure = f". Raise labels.budget ({how} takes a new value)"
        if allowed >= run.stage_facts("pool")["num_questions"]:
            cure = ", and the budget is the whole pool: take more questions"
        yield (
            f"the budget is small: {probes:,} of {allowed:,} labels were probes, which leaves "
            f"{left:,} to choose with{cure}"
        )


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    column: np.ndarray = table[name].cast(pa.float64()).to_numpy(zero_copy_only=False)
    return column


def _listed(parts: list[str]) -> str:
    """Words in a row: "a, b and c"."""
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last
