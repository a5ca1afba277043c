"""Render report.html: the collected contents and figures, in one template that escapes all."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from markupsafe import Markup

from pivottrace.config import EMBEDDED_MODEL, dump_config
from pivottrace.errors import counted
from pivottrace.labels.budget import unanswerable
from pivottrace.labels.requests import waiting_file
from pivottrace.labels.waiting import left_open
from pivottrace.report import collect, view_places, wording
from pivottrace.report.annotators import annotators
from pivottrace.report.breakdown import breakdown
from pivottrace.report.correlations import RankCorrelation, rank_correlations
from pivottrace.report.difficulty_figure import difficulty_figure
from pivottrace.report.examples import examples
from pivottrace.report.figures import (
    calibration_figure,
    ranking_figure,
    routes_figure,
    training_figure,
)
from pivottrace.report.flows_figure import flows_figure
from pivottrace.report.svg import for_both_widths
from pivottrace.report.templating import page_environment, signed
from pivottrace.report.texts import MAX_CONFIG_CHARS, Decode, clean, cut
from pivottrace.report.verdict import verdict
from pivottrace.report.votes_figure import votes_figure
from pivottrace.rollouts.answer_reader import unread_note
from pivottrace.routing.flows import Move, count_moves, route_matrix
from pivottrace.routing.routes import ROUTES
from pivottrace.run import readings
from pivottrace.run.choices import driving_estimator, estimators_of
from pivottrace.run.directory import RunDir
from pivottrace.run.progress import in_words
from pivottrace.run.records import BESIDE_FACTS
from pivottrace.run.rounds import current_round, latest_round
from pivottrace.run.storage import write_text

# With fewer probes than this, an estimator's place among the others says almost nothing.
FEW_PROBES = 128
# An estimator that is best in at least this share of resamples is called clearly the best.
CLEARLY = 0.95


def render_report(run: RunDir, unfinished: Sequence[str], decode: Decode | None = None) -> Path:
    """Write the report; see `pivottrace.report.build_report`."""
    run.refuse_torn_tables()  # also the tables that no section shows yet
    path = collect.report_path(run)
    template = page_environment().get_template("report.html")
    write_text(path, template.render(_context(run, unfinished, decode)))
    return path


def _context(run: RunDir, unfinished: Sequence[str], decode: Decode | None) -> dict[str, Any]:
    """Everything that the template names; a section without its tables is None."""
    head, waiting = collect.headline(run), waiting_file(current_round(run))
    return {
        "name": run.path.name,
        "path": _argument(run.path),
        "round": run.round_index,
        "head": head,
        "verdict": list(verdict(run).lines()),
        "waiting": None if waiting is None else _argument(waiting),
        "unfinished": list(map(in_words, unfinished)),
        "hopeless_model": _answers_nothing(run),
        "unread": _unread(run),
        "asked": _asked(run),
        "routes": _routes(run),
        "flows": _flows(run),
        "breakdown": breakdown(run),
        "calibration": _calibration(run),
        "ranking": _ranking(run),
        "titles": wording.marked_titles(estimators_of(run.config)),
        "spent": collect.spending(run),
        "annotators": annotators(run) if run.is_done("pool") else [],
        "view": view_places.telling_page(run).is_file(),
        "training": _training(run),
        "evaluate": readings.evaluation_facts(run),
        "examples": examples(run, decode),
        "route_order": ROUTES,
        "seconds": {in_words(stage): took for stage, took in head["seconds"].items()},
        "failures": collect.failures(run),
        "has_rollouts": bool(list((run.round_path / "rollouts_greedy").glob("part-*.parquet"))),
        "versions": collect.versions(run),
        "digests": collect.digests(run),
        "config": cut(dump_config(run.config), MAX_CONFIG_CHARS),
        "paper": wording.PAPER,
        "ours": wording.OURS,
        "embedded": wording.EMBEDDED_NOTE if run.config.model.path == EMBEDDED_MODEL else None,
    }


def _argument(path: Path) -> str:
    """A path as an argument of a command: whole, and quoted if a shell would split it."""
    return clean(shlex.quote(str(path)))


def _answers_nothing(run: RunDir) -> bool:
    facts = run.stage_facts("calibrate")
    return bool(facts.get("num_probes")) and facts.get("mean_correctness") == 0


def _unread(run: RunDir) -> str | None:
    """Advice if no greedy response has an answer, made safe to show."""
    note = unread_note(run)
    return None if note is None else clean(note)


def _asked(run: RunDir) -> dict[str, Any]:
    config, greedy = run.config, run.stage_facts("greedy")
    pool = run.stage_facts("pool")
    facts = {
        "model": config.model.path,
        "revision": config.model.revision,
        "number format": greedy.get("dtype"),
        "sampled by": _sampled_by(greedy),
        "pool": config.pool.questions,
        "questions": pool.get("num_questions"),
        "with an answer column filled": pool.get("num_with_answer"),
        "samples": readings.samples_taken(run),
        "held-out questions": ", ".join(config.pool.evaluation_sources) or "none given",
        "in both pool and held-out": pool.get("num_overlap"),
        "ranked by": "combination" if readings.is_combined(run) else driving_estimator(config),
        "label budget": _budget(config.labels.budget),
        "labels from": config.labels.source,
        "seed": config.seed,
        "preset": config.preset,
    }
    return {
        "facts": {name: value for name, value in facts.items() if value is not None},
        "settings": collect.changed_settings(config),
    }


def _sampled_by(greedy: Mapping[str, Any]) -> str | None:
    """The server that gave the rollouts, by the facts of `greedy`; None if the model here did."""
    server, canary = greedy.get("server"), greedy.get("canary")
    if server is None or canary is None:
        return None
    version = "" if server["version"] is None else f" (version {server['version']})"
    return (
        f"a server{version} as {server['model']}; its log-probabilities of {canary['num_tokens']} "
        f"tokens differ from those here by {canary['mean_difference']:.4f} nats on average"
    )


def _budget(budget: float) -> str:
    return f"{100 * budget:.1f} % of the pool" if budget <= 1 else counted(int(budget), "label")


def _routes(run: RunDir) -> dict[str, Any] | None:
    triage = collect.table(run, "triage")
    if triage is None:
        return None
    routes = triage["route"].to_pylist()
    counts = Counter(routes)
    reasons = Counter(zip(routes, triage["reason"].to_pylist(), strict=True))
    ids = triage["question_id"].to_pylist()
    annotated = {i for i, route in zip(ids, routes, strict=True) if route == "annotate"}
    ranks = _floats(triage, "rank")
    mu = _floats(triage, "mu")
    return {
        "figure": _drawn(lambda: routes_figure(ranks, routes)),
        "difficulty": _drawn(lambda: difficulty_figure(mu, routes)),
        "all_tied": np.unique(ranks[~np.isnan(ranks)]).size == 1,
        "total": len(routes),
        "unranked": int(np.isnan(ranks).sum()),
        "counts": {route: counts[route] for route in ROUTES},
        "left_open": len(left_open(run)),
        "unanswerable": len(set(unanswerable(run)) & annotated),
        "reasons": {
            route: [(r[1], n) for r, n in reasons.most_common() if r[0] == route]
            for route in ROUTES
        },
    }


def _drawn(draw: Callable[[], str | None]) -> Markup | None:
    """A figure for a wide page and a phone; None if there is nothing to draw."""
    figure = for_both_widths(draw)
    return None if figure is None else Markup(figure)


def _flows(run: RunDir) -> dict[str, Any] | None:
    """The moves of questions between the rounds; None while only one round has routes."""
    flows = collect.flows(run)
    if not flows:
        return None
    moves = [count_moves(between) for _, between in flows]
    seen = [move for move in Move if any(move in counts for counts in moves)]
    picture = flows_figure([route_matrix(between) for _, between in flows])
    return {
        "figure": Markup(picture),
        "rounds": [index for index, _ in flows],
        "moves": [(move, [counts.get(move, 0) for counts in moves]) for move in seen],
        "reasons": [
            (index, flow) for index, between in flows for flow in between if flow.move != "stayed"
        ],
    }


def _calibration(run: RunDir) -> dict[str, Any] | None:
    curve, evidence = collect.table(run, "calibration"), collect.table(run, "evidence")
    if curve is None or evidence is None:
        return None
    facts, options = run.stage_facts("calibrate"), run.config.triage
    floor = run.stage_facts("triage").get("weak_floor") or {}
    curves = {name: _floats(curve, name) for name in curve.column_names}
    probes = {
        "rank": _floats(evidence, "rank"),
        "correct": _correctness(evidence),
        "vote_right": _floats(evidence, "vote_right"),
    }
    floor_line = options.vote_floor
    return {
        "figure": _drawn(
            lambda: calibration_figure(curves, probes, floor_line) if len(curve) else None
        ),
        "votes_figure": _drawn(lambda: votes_figure(evidence.to_pylist())),
        "by_value": run.config.calibrate.draw == "by_value",
        "check": (facts.get("vote_model") or {}).get("check"),
        "facts": facts,
        "floor": floor,
        "options": options,
        "level": run.config.calibrate.level,
        "num_probes": len(evidence),
        "adaptive": run.config.calibrate.draw == "adaptive",
        "window": int(np.median(_floats(curve, "window_size"))) if len(curve) else 0,
        "triaged": run.is_done("triage"),
    }


def _ranking(run: RunDir) -> dict[str, Any] | None:
    evidence = collect.table(run, "evidence")
    if evidence is None:
        return None
    correct, (ids, _) = _correctness(evidence), readings.voted(run)
    place = {question_id: i for i, question_id in enumerate(ids)}
    places = np.array([place[i] for i in evidence["question_id"].to_pylist()], dtype=np.int64)
    estimators = readings.scored_estimators(run)
    everyone = readings.estimator_scores(run, list(estimators))
    columns = {name: scores[places] for name, scores in everyone.items()}
    competing = [name for name in columns if estimators[name].competes]
    shared = [name for name in columns if estimators[name].shares_rollouts]
    titles = wording.marked_titles(estimators)
    correlations = rank_correlations(columns, correct, competing)
    driving = driving_estimator(run.config)
    if not correlations:
        return {"figure": None, "num_probes": len(evidence)}
    return {
        "figure": _drawn(
            lambda: ranking_figure(columns[driving], correct, driving, correlations, titles, shared)
        ),
        "num_probes": len(evidence),
        "few": len(evidence) < FEW_PROBES,
        "correlations": correlations,
        "driving": driving,
        "combined": readings.is_combined(run),
        "verdict": ranking_verdict(correlations, driving, titles),
        "combination": run.stage_facts("calibrate").get("combination"),
    }


def ranking_verdict(
    correlations: list[RankCorrelation], driving: str, titles: Mapping[str, str]
) -> str:
    """The probes' verdict on the choice of estimator, in a sentence that does not overstate."""
    by_name = {c.name: c for c in correlations}
    rivals = [c for c in correlations if not np.isnan(c.best_share)]
    own = by_name.get(driving)
    if own is None:
        return "The driving score is the same for all probes, so it ranks nothing."
    name = titles[driving]
    if own.low <= 0 <= own.high:
        start = f"These probes do not show that {name} ranks by correctness at all"
    elif own.low > 0:
        start = f"{name[0].upper()}{name[1:]} ranks the wrong way round (ρ = {signed(own.rho)})"
    else:
        start = f"{name[0].upper()}{name[1:]} ranks by correctness (ρ = {signed(own.rho)})"
    if not rivals or rivals[0].rho >= own.rho:  # the first may be itself; −1 is best
        return f"{start}; no other estimator does better on these probes."
    best = rivals[0]
    sure = "clearly" if best.best_share >= CLEARLY else "but not surely"
    return (
        f"{start}; {titles[best.name]} does better, {sure} the best "
        f"(ρ = {signed(best.rho)}, lowest in {best.best_share:.0%} of resamples)."
    )


def _training(run: RunDir) -> dict[str, Any] | None:
    logs, evaluate = collect.training(run), readings.evaluation_facts(run)
    steps = [float(m["step"]) for m in logs.metrics if "step" in m]
    ends = [(0.0, evaluate["before"])] if evaluate.get("before") else []
    if evaluate.get("after"):
        ends.append((max(steps, default=float(run.config.train.steps)), evaluate["after"]))
    done = {step for step, _ in ends}
    curve = [row for row in logs.curve if float(row["step"]) not in done]
    figure = _drawn(lambda: training_figure(logs.metrics, curve, ends))
    facts = {
        name.removeprefix("num_").replace("_", " "): _plain(value)
        for name, value in sorted(latest_round(run, "train").stage_facts("train").items())
        if name not in BESIDE_FACTS
    }
    if figure is None and not facts:
        return None
    return {
        "figure": figure,
        "facts": facts,
        "alarms": [event.text() for event in logs.alarms],
    }


def _plain(value: Any) -> str:
    """A fact of the manifest in words: {"annotate": 3, "weak": 4} is "annotate 3, weak 4"."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(_plain, value)) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _correctness(evidence: pa.Table) -> np.ndarray:
    share: np.ndarray = _floats(evidence, "num_correct") / _floats(evidence, "num_samples")
    return share


def _floats(table: pa.Table, name: str) -> np.ndarray:
    """A column as float64, null as NaN."""
    values: np.ndarray = (
        table[name].cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).astype(np.float64)
    )
    return values
