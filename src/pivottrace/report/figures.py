"""The report's figures: each draws arrays as one inline SVG, without any text from a model."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pivottrace.report.correlations import RankCorrelation, route_mix
from pivottrace.report.svg import COLOURS, drawing, is_narrow, new_figure, panels, to_svg
from pivottrace.routing.routes import ROUTES

FloatArray = npt.NDArray[np.float64]

WIDTH = 9.4
NUM_BINS = 100
_PERCENT = PercentFormatter(1.0, decimals=0)


def rank_edges() -> dict[str, float]:
    """The edges of figures along the ranking: one stands exactly below the other."""
    if is_narrow():
        return {"left": 0.15, "right": 0.97}
    return {"left": 0.065, "right": 0.885}


def routes_figure(ranks: npt.ArrayLike, routes: Sequence[str]) -> str:
    """Draw the routes' shares along the ranking, stacked. Ties spread evenly over their places.

    Args:
        ranks: (Q,) places in [0, 1]; a question without a score has NaN and is left out.
        routes: (Q,) names.
    """
    mix = route_mix(ranks, routes, ROUTES, NUM_BINS)
    with drawing():
        figure = new_figure(WIDTH, 2.2, layout=None)
        axes = figure.subplots(gridspec_kw={**rank_edges(), "top": 0.96, "bottom": 0.22})
        edges = np.linspace(0, 1, NUM_BINS + 1)
        base = np.zeros(NUM_BINS)
        for route, share in zip(ROUTES, mix.T, strict=True):
            axes.stairs(base + share, edges, baseline=base, fill=True, color=COLOURS[route], lw=0)
            base = base + share
        axes.set(ylim=(0, 1), yticks=[0, 0.5, 1], ylabel="questions")
        axes.yaxis.set_major_formatter(_PERCENT)
        axes.grid(False)
        _rank_axis(axes)
        return to_svg(figure, "routes", "share of each route along the ranking")


def calibration_figure(
    curve: Mapping[str, FloatArray],
    probes: Mapping[str, FloatArray],
    vote_floor: float | None,
) -> str:
    """Correctness and vote reliability along the ranking, with intervals, floor and probes.

    Args:
        curve: Columns of CALIBRATION, each (K,).
        probes: `rank`, `correct` (share of right rollouts), `vote_right` (0 or 1), each (n,).
        vote_floor: Reliability that the weak route holds; None if none is promised.
    """
    with drawing():
        figure = new_figure(WIDTH, 4.1, layout=None, narrow_height=5.4)
        edges = {"top": 0.98, "bottom": 0.34} if is_narrow() else {"top": 0.91, "bottom": 0.12}
        axes = figure.subplots(gridspec_kw={**rank_edges(), **edges})
        for name, label, style in (("mu", "correctness μ", "-"), ("vote", "vote right", "--")):
            colour = COLOURS[name]
            axes.fill_between(
                curve["rank"],
                curve[f"{name}_low"],
                curve[f"{name}_high"],
                color=colour,
                alpha=0.14,
                lw=0,
            )
            axes.plot(curve["rank"], curve[name], style, color=colour, lw=2.2, label=label)
        _bubbles(axes, probes["rank"], probes["correct"])
        _vote_rug(axes, probes)
        if vote_floor is not None:
            _floor(axes, vote_floor, "vote floor", "vote")
        axes.set(ylim=(-0.11, 1.11), yticks=np.linspace(0, 1, 6))
        axes.yaxis.set_major_formatter(_PERCENT)
        if is_narrow():
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=1)
        else:
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.13), ncols=4)
        _rank_axis(axes)
        return to_svg(figure, "calibration", "correctness and vote reliability along the ranking")


def ranking_figure(
    scores: FloatArray,
    correct: FloatArray,
    driving: str,
    correlations: Sequence[RankCorrelation],
    titles: Mapping[str, str],
    shared: Collection[str],
) -> str:
    """Probes' correctness against the driving score, and every estimator's rank correlation.

    Args:
        scores: (n,) driving estimator's scores of the probes.
        correct: (n,) share of right rollouts.
        driving: Name of that estimator.
        correlations: Best first.
        titles: Titles of the estimators, by name.
        shared: Estimators that share their rollouts with correctness, drawn apart.
    """
    with drawing():
        height = max(3.5, 1.0 + 0.22 * len(correlations))
        figure = new_figure(WIDTH, height, narrow_height=2.6 + height)
        left, right = panels(figure, 2, [1, 1.25])
        _bubbles(left, scores, correct)
        _binned_means(left, scores, correct)
        left.set(
            title="The score against correctness",
            xlabel=titles.get(driving, driving),
            ylabel="share of right rollouts",
            ylim=(-0.05, 1.05),
        )
        left.yaxis.set_major_formatter(_PERCENT)
        places = np.arange(len(correlations))[::-1]
        for place, found in zip(places, correlations, strict=True):
            colour = COLOURS["annotate"] if found.name == driving else COLOURS["ink"]
            colour = COLOURS["discard"] if found.name in shared else colour
            right.plot([found.low, found.high], [place, place], color=colour, lw=2)
            right.plot([found.rho], [place], "o", color=colour, ms=6)
        right.axvline(0, color=COLOURS["soft"], lw=0.9)
        right.set_yticks(places, [titles.get(c.name, c.name) for c in correlations])
        right.set(
            title="Every estimator on the probes",
            xlabel="rank correlation with correctness  ← better",
        )
        right.grid(axis="y", visible=False)
        right.margins(y=0.08)
        return to_svg(figure, "ranking", "scores against correctness on the probes")


def training_figure(
    metrics: Sequence[Mapping[str, Any]],
    curve: Sequence[Mapping[str, float]],
    ends: Sequence[tuple[float, Mapping[str, float]]],
) -> str | None:
    """Draw the rewards by route, the held-out accuracy, and further measures of training.

    Args:
        metrics: One mapping per logged step; any key may be missing.
        curve: `step`, `accuracy`, `low`, `high` during training.
        ends: (step, {accuracy, low, high}) of the evaluations before and after.

    Returns:
        The figure, or None without data.
    """
    drawn: list[Any] = []
    if any("reward/annotate" in m or "reward/weak" in m or "reward" in m for m in metrics):
        drawn.append(lambda axes: _rewards(axes, metrics))
    if len(curve) + len(ends) > 1:
        drawn.append(lambda axes: _held_out(axes, curve, ends))
    vital = [(k, label) for k, label in _VITAL if any(_is_number(m.get(k)) for m in metrics)]
    if not drawn and not vital:
        return None
    with drawing():
        below = is_narrow()  # each other, else beside
        tall = {2.9: len(drawn), 1.7: len(vital)}
        heights = [each * (count if below else 1) for each, count in tall.items() if count]
        figure = new_figure(WIDTH, sum(heights), narrow_height=sum(heights))
        both = len(heights) == 2
        rows: Any = figure.subfigures(2, 1, height_ratios=heights) if both else [figure] * 2
        for draw, axes in zip(drawn, _row(rows[0], len(drawn)), strict=True):
            draw(axes)
        for (key, label), axes in zip(vital, _row(rows[1], len(vital)), strict=True):
            steps, values = _series(metrics, key)
            axes.plot(steps, values, color=COLOURS["soft"], lw=1.2)
            axes.set_title(label, fontsize=8.5, fontweight="normal")
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(3))
        return to_svg(figure, "training", "learning curves")


_VITAL = (
    ("entropy", "entropy, nats"),
    ("completions/mean_length", "response, tokens"),
    ("vote_share", "vote share"),
    ("kl", "KL to the start"),
    ("rows_effective", "effective number of rows"),
)


def smoothed(values: npt.ArrayLike, width: int) -> FloatArray:
    """Centred running mean over `width` values, fewer at the ends, without NaN."""
    series = np.asarray(values, np.float64)
    half = width // 2
    windows = [series[max(0, i - half) : i + half + 1] for i in range(series.size)]
    return np.array([np.nanmean(w) if not np.isnan(w).all() else np.nan for w in windows])


def _row(figure: Any, count: int) -> list[Axes]:
    return panels(figure, count) if count else []


def _rewards(axes: Axes, metrics: Sequence[Mapping[str, Any]]) -> None:
    drawn = [
        ("reward/annotate", "annotate (verified)", "annotate"),
        ("reward/weak", "weak (majority)", "weak"),
    ]
    if not any(key in m for m in metrics for key, _, _ in drawn):
        drawn = [("reward", "all rows", "ink")]
    for key, label, colour in drawn:
        steps, values = _series(metrics, key)
        if not len(steps):
            continue
        axes.plot(steps, values, color=COLOURS[colour], lw=0.8, alpha=0.3)
        width = max(3, len(steps) // 12)
        axes.plot(steps, smoothed(values, width), color=COLOURS[colour], lw=2.2, label=label)
    axes.set(title="Reward by route", xlabel="step", ylim=(-0.03, 1.03))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_formatter(_PERCENT)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)


def _held_out(
    axes: Axes,
    curve: Sequence[Mapping[str, float]],
    ends: Sequence[tuple[float, Mapping[str, float]]],
) -> None:
    rows = sorted([(float(row["step"]), row) for row in curve] + list(ends), key=lambda r: r[0])
    steps = np.array([step for step, _ in rows])
    mean, low, high = (
        np.array([float(row[key]) for _, row in rows]) for key in ("accuracy", "low", "high")
    )
    axes.errorbar(
        steps,
        mean,
        yerr=[mean - low, high - mean],
        color=COLOURS["mu"],
        lw=1.8,
        marker="o",
        ms=5,
        elinewidth=1.4,
        capsize=3,
    )
    # Room for an interval: a span of less than ten points would make noise look like a trend.
    middle, half = (low.min() + high.max()) / 2, max(0.05, 0.6 * (high.max() - low.min()))
    axes.set(title="Held-out accuracy, 95 % interval", xlabel="step")
    axes.set_ylim(max(0.0, middle - half), min(1.0, middle + half))
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))


def _series(metrics: Sequence[Mapping[str, Any]], key: str) -> tuple[FloatArray, FloatArray]:
    found = [
        (float(m.get("step", i + 1)), float(m[key]))
        for i, m in enumerate(metrics)
        if _is_number(m.get(key))
    ]
    pairs = np.array(found, dtype=np.float64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))


def _rank_axis(axes: Axes) -> None:
    name = "place" if is_narrow() else "place in the ranking"
    axes.set(xlim=(0, 1), xlabel=name, xticks=np.linspace(0, 1, 6))
    axes.xaxis.set_major_formatter(_PERCENT)
    axes.grid(axis="x", visible=False)
    for place, text, side in ((0, "← certain", "left"), (1, "uncertain →", "right")):
        axes.annotate(
            text,
            (place, 0),
            xycoords="axes fraction",
            xytext=(0, -16),
            ha=side,
            va="top",
            textcoords="offset points",
            color=COLOURS["soft"],
        )


def _bubbles(axes: Axes, places: FloatArray, correct: FloatArray) -> None:
    """Draw one dot per spot, with an area for its number of probes, since tied dots would hide."""
    known = ~np.isnan(places)
    spots, counts = np.unique(
        np.stack([places[known], correct[known]], axis=1), axis=0, return_counts=True
    )
    axes.scatter(
        spots[:, 0],
        spots[:, 1],
        s=15.0 * counts,
        color=COLOURS["mu"],
        alpha=0.7,
        linewidths=0,
        label="right rollouts of a probe (larger: of several)",
    )


def _vote_rug(axes: Axes, probes: Mapping[str, FloatArray]) -> None:
    """Draw a tick per probe: above if its vote is right, else below."""
    right = probes["vote_right"] > 0
    for chosen, height in ((right, 1.06), (~right, -0.06)):
        axes.plot(
            probes["rank"][chosen],
            np.full(int(chosen.sum()), height),
            "|",
            ms=6,
            mew=1.1,
            color=COLOURS["vote"],
            label="vote right (above), not (below)" if height > 1 else None,
        )


def _floor(axes: Axes, height: float, label: str, colour: str) -> None:
    """Draw a dashed line and its name beside the axes, where nothing covers the name."""
    axes.axhline(height, color=COLOURS[colour], lw=1, ls=(0, (2, 3)))
    axes.annotate(
        f"{label} {height:.0%}",
        (1, height),
        xytext=(4, 0),
        textcoords="offset points",
        fontsize=7.5,
        color=COLOURS[colour],
        ha="left",
        va="center",
        annotation_clip=False,
    )


def _binned_means(axes: Axes, scores: FloatArray, correct: FloatArray, num_bins: int = 5) -> None:
    """Draw the mean correctness of equal groups by score, as a line through the dots."""
    known = ~np.isnan(scores)
    if known.sum() < 2 * num_bins:
        return
    groups = np.array_split(np.argsort(scores[known], kind="stable"), num_bins)
    means = [(scores[known][g].mean(), correct[known][g].mean()) for g in groups]
    xs, ys = zip(*means, strict=True)
    axes.plot(xs, ys, "-", color=COLOURS["ink"], lw=1.6)
