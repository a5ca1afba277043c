"""The report of an experiment: one markdown page, two pictures and every figure as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from pivottrace.experiments.analysis import analyse
from pivottrace.experiments.definition import BASE, Experiment
from pivottrace.experiments.pictures import curves_picture, labels_picture
from pivottrace.run.storage import write_text

Figures = Mapping[str, Any]


def write_experiment_report(experiment: Experiment, output: Path | None = None) -> Path:
    """Write `NAME.md`, `NAME.json`, `NAME-curves.svg` and `NAME-labels.svg`; return the page.

    For further held-out questions it also writes `NAME-SET-labels.svg`.

    Args:
        experiment: The experiment; only its stored results are read.
        output: Folder for the files; by default the experiment's results.

    Raises:
        RunDirError: The reference arm has no result yet.
    """
    figures = analyse(experiment)
    folder, name = output or experiment.results, experiment.name
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {f"{name}-labels.svg": labels_picture(figures)}
    curves = curves_picture(figures)
    if curves is not None:
        pictures[f"{name}-curves.svg"] = curves
    for there, found in figures["elsewhere"].items():
        if found is not None:
            further = f"{name}-{there}-labels.svg"
            write_text(folder / further, labels_picture(_on(figures, there)))
    for file, svg in pictures.items():
        write_text(folder / file, svg)
    write_text(folder / f"{name}.json", json.dumps(figures, indent=1) + "\n")
    page = folder / f"{name}.md"
    write_text(page, "\n".join(_lines(figures, list(pictures))) + "\n")
    return page


def _lines(figures: Figures, pictures: Sequence[str]) -> Iterator[str]:
    held, arms = figures["held_out"], figures["arms"]
    reference = arms[figures["reference"]]
    yield f"# {figures['experiment']}\n"
    yield (
        f"Made by `pivottrace lab run {figures['file']}` and `pivottrace lab report` from the "
        f"results beside this page{_versions(figures)}.\n"
    )
    yield (
        f"A pool of {figures['pool']} questions, {_span(held['steps'])} steps per arm; avg@"
        f"{held['samples']} on {held['questions']} held-out questions; before training "
        f"{_percent(figures['before'])}. Brackets: 95 % intervals over seeds and questions"
        f"{_clustered(figures)}, differences paired by both. *Not worse*: the lower end is above "
        f"−1 point; *better*: above 0; *no* is not shown.\n"
    )
    if any(len(arm["seeds"]) == 1 for arm in arms.values()):
        yield "An arm with one seed has an interval over its questions only.\n"
    yield from _accuracy_lines(figures)
    if reference["speed"] is not None:
        yield from _speed_lines(figures)
    yield "\n## What each arm trained on\n"
    routes = ("annotated", "weak", "discarded", "deferred")
    yield _header("arm", *routes, "training tokens", "own rollouts' tokens", "alarms (runs)")
    for arm in arms.values():
        routes, tokens = arm["routes"], arm["tokens"]
        counts = [f"{routes[name]:.0f}" for name in ("annotate", "weak", "discard", "defer")]
        cells = [arm["title"], *counts, *(f"{tokens[k] / 1e6:.2f} M" for k in ("training", "own"))]
        alarms = ", ".join(f"{what} ({runs})" for what, runs in arm["alarms"].items())
        yield f"| {' | '.join([*cells, alarms or '–'])} |"
    for file in pictures:
        yield _picture(file)
    for name, there in figures["elsewhere"].items():
        yield f"\n## On {name}\n"
        if there is None:
            yield f"Not finished: {reference['title']} has no result there."
            continue
        versions = "" if there["versions"] == figures["versions"] else _versions(there)
        yield (
            f"The same models on {there['questions']} questions of `{there['source']}`, asked as "
            f"those above{versions}; before training {_percent(there['before'])}.\n"
        )
        yield from _accuracy_lines(_on(figures, name))
        yield _picture(f"{figures['experiment']}-{name}-labels.svg")


def _on(figures: Figures, name: str) -> Figures:
    """Return the figures on further held-out questions, with the training figures unchanged."""
    there = figures["elsewhere"][name]
    arms = {arm: figures["arms"][arm] | found for arm, found in there["arms"].items()}
    return {**figures, **there, "arms": arms}


def _versions(figures: Figures) -> str:
    return f" ({', '.join(f'{name} {number}' for name, number in figures['versions'].items())})"


def _picture(file: str) -> str:
    return f"\n![{file.removesuffix('.svg')}]({file})"


def _accuracy_lines(figures: Figures) -> Iterator[str]:
    """Yield the table of all arms, the table of compared pairs, and the unfinished arms."""
    arms = figures["arms"]
    gap = f"− {arms[figures['reference']]['title']}, points"
    yield _header("arm", "seeds", "labels", "accuracy", gap, "not worse", "better")
    for arm in arms.values():
        yield f"| {' | '.join(_accuracy_cells(arm))} |"
    yield from _fewer_seeds_lines(figures)
    yield from _compared_lines(figures)
    for name, seeds in figures["missing"].items():
        yield f"\nNot finished: `{name}`, seeds {', '.join(map(str, seeds))}."


def _fewer_seeds_lines(figures: Figures) -> Iterator[str]:
    """Yield the accuracy of arms with all seeds on the seeds that other arms are limited to."""
    arms = figures["arms"].values()
    whole = figures["arms"][figures["reference"]]["seeds"]
    for seeds in sorted({tuple(arm["seeds"]) for arm in arms if set(arm["seeds"]) < set(whole)}):
        means = [
            f"{arm['title']}: {100 * fmean(arm['accuracy_by_seed'][s] for s in seeds):.1f} %"
            for arm in arms
            if set(arm["seeds"]) > set(seeds)
        ]
        yield f"\nOn seeds {', '.join(map(str, seeds))} alone: {'; '.join(means)}."


def _compared_lines(figures: Figures) -> Iterator[str]:
    if not figures["compared"]:
        return
    title_of = {name: arm["title"] for name, arm in figures["arms"].items()}
    title_of[BASE] = "before training"
    yield ""
    yield _header("arm", "less", "seeds", "points", "not worse", "better")
    for gap in figures["compared"]:
        titles = [title_of[gap[key]] for key in ("arm", "other")]
        verdicts = ["yes" if gap[key] else "no" for key in ("not_worse", "better")]
        yield f"| {' | '.join([*titles, str(len(gap['seeds'])), _points(gap), *verdicts])} |"


def _accuracy_cells(arm: Figures) -> list[str]:
    cells = [
        arm["title"],
        str(len(arm["seeds"])),
        f"{100 * arm['label_share']:.1f} %",
        _percent(arm["accuracy"]),
    ]
    gap = arm["difference"]
    if gap is None:
        return [*cells, "–", "–", "–"]
    verdicts = ["yes" if gap[key] else "no" for key in ("not_worse", "better")]
    return [*cells, _points(gap), *verdicts]


def _speed_lines(figures: Figures) -> Iterator[str]:
    held, reference = figures["held_out"], figures["arms"][figures["reference"]]
    yield f"\n## How soon each gets where {reference['title']} ends\n"
    yield (
        f"The target is the final mean of {reference['title']} minus one standard error over "
        f"seeds. It is measured on the {held['curve_questions']} held-out questions of the "
        f"learning curve; these are the first ones, and may be easier or harder than all. An arm "
        f"with fewer seeds is compared on its own seeds, so its target differs. Curves are means "
        f"over seeds, smoothed over three points. The speed-up is the step at which "
        f"{reference['title']} first reaches the target, divided by the arm's own step. The "
        f"brackets give the range if any one seed is left out. The next column gives the speed-up "
        f"for a target one standard error lower and higher. Tokens include the rollouts that an "
        f"arm's routes needed: the pool's traces and all its samples.\n"
    )
    yield _header(
        "arm",
        "target",
        f"{reference['title']}: step",
        "its own step",
        "speed-up in steps",
        "target lower, higher",
        "speed-up in tokens",
    )
    for arm in figures["arms"].values():
        speed = arm["speed"]
        if speed is None:
            continue
        in_steps = _ratio(speed["by_steps"]) + _range(speed["by_steps_without_a_seed"])
        cells = [
            f"{100 * speed['target']:.1f} %",
            *(_step(speed[key]) for key in ("reference_steps", "steps")),
            in_steps,
            ", ".join(
                "not reached" if ratio is None else _ratio(ratio)
                for ratio in speed["by_steps_at_lower_and_higher_target"]
            ),
            _ratio(speed["by_tokens"]),
        ]
        yield f"| {' | '.join([arm['title'], *cells])} |"
    if reference["speed"]["steps"] is None:
        yield f"\nThe smoothed curve of {reference['title']} does not reach it: there is no ratio."


def _clustered(figures: Figures) -> str:
    column = figures["clustered_by"]
    return "" if column is None else f" (alike where they have the same {column})"


def _header(*names: str) -> str:
    return f"| {' | '.join(names)} |\n|{'---|' * len(names)}"


def _percent(interval: Figures) -> str:
    low, high = 100 * max(interval["low"], 0.0), 100 * min(interval["high"], 1.0)
    return f"{100 * interval['mean']:.1f} % [{low:.1f}, {high:.1f}]"


def _points(interval: Figures) -> str:
    mean, low, high = (100 * interval[key] for key in ("mean", "low", "high"))
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]".replace("-", "−")


def _span(ends: Sequence[int]) -> str:
    return " to ".join(map(str, dict.fromkeys(ends)))


def _step(value: float | None) -> str:
    return "not reached" if value is None else f"{value:.0f}"


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}x"


def _range(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not values:
        return ""
    if len(known) < len(values):
        return f" [not reached without {len(values) - len(known)} of the seeds]"
    return f" [{min(known):.2f}, {max(known):.2f}]"
