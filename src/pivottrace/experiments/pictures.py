"""The experiment's pictures: learning curves, and accuracy by labels with paired differences."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pivottrace.report.svg import COLOURS, drawing, new_figure
from pivottrace.stats.arms import NOT_WORSE_MARGIN

COLUMNS, PANEL_HEIGHT, WIDTH = 4, 1.9, 9.4
DODGE = 0.012  # share of the pool, between arms with the same number of labels
_OFFSET: dict[str, Any] = {
    "textcoords": "offset points",
    "fontsize": 7.5,
    "color": COLOURS["soft"],
}
_PERCENT = PercentFormatter(1.0, decimals=0)


def curves_picture(figures: Mapping[str, Any]) -> str | None:
    """Draw a panel per arm: the learning curves of arm and reference, with a standard error each.

    Both curves and the target are of the arm's own seeds.

    Returns:
        The SVG's text, the same for the same figures; None if the reference has no curve.
    """
    arms = {name: arm for name, arm in figures["arms"].items() if arm["curve"]}
    reference = arms.get(figures["reference"])
    if reference is None:
        return None
    others = [arm for arm in arms.values() if arm is not reference] or [reference]
    columns = min(COLUMNS, len(others))
    rows = -(-len(others) // columns)
    with drawing():
        figure = new_figure(WIDTH, 0.4 + PANEL_HEIGHT * rows)
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for panel, arm in zip(panels, others, strict=False):
            if arm["reference_curve"] is not None:
                _curve(panel, arm["reference_curve"], "soft")
            if arm is not reference:
                _curve(panel, arm["curve"], "annotate")
            if arm["speed"] is not None:
                panel.axhline(arm["speed"]["target"], color=COLOURS["ink"], lw=0.8, ls="--")
            panel.set_title(arm["title"], fontsize=8)
            panel.yaxis.set_major_formatter(_PERCENT)
            panel.yaxis.set_major_locator(_whole_percents())
        for place, panel in enumerate(panels):
            panel.set_visible(place < len(others))
            if place + columns >= len(others):  # the lowest panel of its column
                panel.set_xlabel("training step")
                panel.tick_params(labelbottom=True)
        _legend(figure, reference["title"], has_target=reference["speed"] is not None)
        figure.supylabel("held-out accuracy", fontsize=8.5, color=COLOURS["soft"])
        return _svg(figure)


def labels_picture(figures: Mapping[str, Any]) -> str:
    """Draw accuracy against labels, and each arm's paired difference from the reference."""
    arms = list(figures["arms"].values())
    with drawing():
        figure = new_figure(WIDTH, max(3.2, 1.0 + 0.27 * len(arms)))
        left, right = figure.subplots(1, 2)
        _by_labels(left, arms)
        _differences(right, arms, figures["arms"][figures["reference"]]["title"])
        return _svg(figure)


def _curve(axes: Axes, curve: Mapping[str, Any], role: str) -> None:
    steps, accuracy, error = (np.array(curve[k]) for k in ("step", "accuracy", "error"))
    axes.fill_between(
        steps, accuracy - error, accuracy + error, color=COLOURS[role], alpha=0.16, lw=0
    )
    axes.plot(steps, accuracy, color=COLOURS[role], lw=1.8)


def _legend(figure: Figure, reference: str, *, has_target: bool) -> None:
    """Name the lines of all panels, above them."""
    looks = [
        (f"{reference}, same seeds", "soft", "-", 1.8),
        ("the arm above the panel", "annotate", "-", 1.8),
    ]
    if has_target:
        looks.append(("target of the speed-up", "ink", "--", 0.8))
    lines = [
        Line2D([], [], color=COLOURS[role], ls=style, lw=width, label=label)
        for label, role, style, width in looks
    ]
    figure.legend(handles=lines, loc="outside upper center", ncols=len(lines))


def _by_labels(axes: Axes, arms: list[Mapping[str, Any]]) -> None:
    """Draw accuracy by labels; arms with equally many labels stand side by side."""
    shares = [round(arm["label_share"], 2) for arm in arms]
    for i, (arm, share) in enumerate(zip(arms, shares, strict=True)):
        place = shares[:i].count(share) - (shares.count(share) - 1) / 2
        x, found = arm["label_share"] + DODGE * place, arm["accuracy"]
        colour = COLOURS[_role(i)]
        axes.plot([x, x], [found["low"], found["high"]], color=colour, lw=1.4)
        axes.plot(x, found["mean"], "o", color=colour, ms=5)
        axes.annotate(str(i + 1), (x, found["high"]), xytext=(0, 2), ha="center", **_OFFSET)
    axes.set(
        title="accuracy by labels (95 %)",
        xlabel="share of the pool that is labelled (equal shares: side by side)",
        ylabel="held-out accuracy",
    )
    axes.xaxis.set_major_formatter(_PERCENT)
    axes.yaxis.set_major_formatter(_PERCENT)
    axes.yaxis.set_major_locator(_whole_percents())


def _whole_percents() -> MaxNLocator:
    """Ticks without one at 72.5 %, which would be shown as 72 %."""
    return MaxNLocator(steps=[1, 2, 5, 10])


def _differences(axes: Axes, arms: list[Mapping[str, Any]], reference: str) -> None:
    places = np.arange(len(arms))[::-1]
    for i, (place, arm) in enumerate(zip(places, arms, strict=True)):
        gap = arm["difference"] or {"low": 0.0, "mean": 0.0, "high": 0.0}
        low, mean, high = (100 * gap[key] for key in ("low", "mean", "high"))
        axes.plot([low, high], [place, place], color=COLOURS[_role(i)], lw=1.6)
        axes.plot(mean, place, "o", color=COLOURS[_role(i)], ms=5)
    axes.axvline(0, color=COLOURS["soft"], lw=0.9)
    margin = -100 * NOT_WORSE_MARGIN
    axes.axvline(margin, color=COLOURS["soft"], lw=0.8, ls="--")
    axes.annotate(
        "not worse: right of this line", (margin, -0.55), xytext=(-3, 0), ha="right", **_OFFSET
    )
    names = [f"{number}  {arm['title']}" for number, arm in enumerate(arms, start=1)]
    axes.set_yticks(places, names)
    axes.set(title=f"difference to {reference}, points (95 %)", ylim=(-0.6, len(arms) - 0.4))
    axes.grid(axis="y", visible=False)


def _role(index: int) -> str:
    """The colour of an arm: the reference, which comes first, has its own."""
    return "annotate" if index == 0 else "weak"


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None})
    # Trailing blanks are removed, because the checks of a repository refuse them.
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"
