"""The study's results as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pivottrace.report.texts import field
from pivottrace.report.wording import EMBEDDED_NOTE, estimator_title
from pivottrace.study.estimator_metrics import ORACLE
from pivottrace.study.sensitivity import NAMES
from pivottrace.study.study_verdict import verdict_lines

Figure = Mapping[str, Any]
HEADERS = {
    "auroc": "AUROC",
    "auroc_within_kinds": "… within kinds",
    "auprc": "AUPRC",
    "spearman": "Spearman",
    "spearman_given_length": "… given length",
    "spearman_given_controls": "… and re-checks",
    "spearman_given_kinds": "… and kinds",
    "ece": "ECE",
    "brier": "Brier",
    "aurc": "AURC",
    "overlap": "overlap",
    "overlap_fractions": "overlap, paper's shares",
}
RANKING = (
    "auroc",
    "auroc_within_kinds",
    "auprc",
    "spearman",
    "spearman_given_length",
    "spearman_given_controls",
    "spearman_given_kinds",
)
USE = ("aurc", "ece", "brier", "overlap", "overlap_fractions")
ADVANTAGES = ("auroc", "auprc", "spearman", "aurc", "overlap")
SYMBOLS = {"zeta": "ζ", "psi": "ψ", "window": "Δ"}


def markdown(results: Figure) -> str:
    """Return the page. The user names runs and sources, and kinds come from the data."""
    parts = [
        *_head(results),
        *composition_table(results),
        *rankings(results),
        *_by_pool(results),
        *_advantages(results),
        *_calibrations(results["calibrations"]),
        *_sensitivity(results),
        *_grid(results.get("grid")),
    ]
    return "\n".join(parts) + "\n"


def name_of(estimator: str) -> str:
    """Return the name of an estimator in tables and pictures."""
    if estimator == ORACLE:
        return "true correctness (the best possible)"
    return estimator_title(estimator)


def _head(results: Figure) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    yield "# Estimator study\n"
    yield f"    {results['command']}\n"
    yield "".join(f"* **{line[0].upper()}{line[1:]}.**\n" for line in verdict_lines(results))
    yield (
        f"{results['date']}; {versions}; seed {results['seed']}. Truth: mean correctness of "
        f"{results['truth_samples']} samples that no estimator has seen. AUROC and AUPRC are for "
        f"“the greedy answer is wrong”. Metrics are computed within a pool and averaged, by the "
        f"number of questions. Brackets: 95 % intervals of a paired bootstrap over questions, "
        f"{results['resamples']} resamples. Default: {name_of(results['default'])}.\n"
    )
    if any(pool["questions"].startswith("world:") for pool in results["pools"]):
        yield f"{EMBEDDED_NOTE}\n"
    yield _table(
        (
            "pool",
            "questions from",
            "questions",
            "failed",
            "greedy wrong",
            "mean correctness",
            "majority right",
        ),
        [
            (
                p["name"],
                f"`{p['questions']}`",
                p["num_questions"],
                p["num_failed"],
                _share(p["greedy_wrong"]),
                _share(p["mean_correctness"]),
                _share(p["majority_right"]),
            )
            for p in results["pools"]
        ],
    )


def composition_table(results: Figure) -> Iterator[str]:
    """Yield the table of the questions by kind. `results` is the content of study.json."""
    yield "\n## What the questions are like\n"
    yield _table(
        (
            "pool",
            "kind",
            "questions",
            "greedy wrong",
            "mean correctness",
            "never right",
            "always right",
            "tokens (middle 80 %)",
            "ended",
        ),
        [
            (
                row["pool"],
                "whole pool" if row["kind"] is None else _kind(row["kind"]),
                row["num_questions"],
                *(
                    _share(row[name])
                    for name in ("greedy_wrong", "mean_correctness", "never_right", "always_right")
                ),
                "{:.0f} ({:.0f} to {:.0f})".format(*row["tokens"]),
                _share(row["ended"]),
            )
            for row in results["composition"]
        ],
    )
    yield (
        "\nThe unseen samples say which questions are never right, and which always. Tokens are "
        "the mean of the greedy responses. A response has ended if it did so by itself, and not at "
        "the limit of its length."
    )


def _kind(name: str) -> str:
    return re.sub(r"([\\|<\[])", r"\\\1", field(name)) or "(none)"  # texts of the data


def _shown(results: Figure) -> list[str]:
    """The metrics of a ranking that these pools have columns for."""
    left_out = set()
    if "recheck_words" not in results["estimators"]:
        left_out.add("spearman_given_controls")
    if not any(pool["kind_column"] for pool in results["pools"]):
        left_out |= {"auroc_within_kinds", "spearman_given_kinds"}
    return [metric for metric in RANKING if metric not in left_out]


def rankings(results: Figure) -> Iterator[str]:
    """Yield the tables of all estimators. `results` is the content of study.json."""
    estimators = results["estimators"]
    order = sorted(estimators, key=lambda n: (n == ORACLE, -(estimators[n]["auroc"]["value"] or 0)))
    yield "\n## How well each ranks\n"
    shown = _shown(results)
    rows = [
        (
            name_of(n),
            *(_cell(estimators[n][m]) for m in shown),
            estimators[n].get("inferences"),
            _seconds(estimators[n].get("seconds")),
        )
        for n in order
    ]
    headers = ("estimator", *(HEADERS[m] for m in shown), "inferences", "seconds a question")
    yield _table(headers, rows)
    for name in order:
        if "reason" in estimators[name]:
            yield f"\n{name_of(name)}: not everything is defined: {estimators[name]['reason']}."
    ratio = results["ratio_to_consistency"]
    if ratio:
        yield (
            f"\nSpearman of {name_of(results['default'])}, as a share of that of consistency: "
            f"{_cell(ratio)}."
        )
    columns = sorted({pool["kind_column"] for pool in results["pools"]} - {None})
    if columns:
        yield (
            f"\nKinds are the values of {' and '.join(f'`{c}`' for c in columns)}. A score that "
            f"only tells kinds apart is worth 0.5 within kinds."
        )
    yield "\n## What each is worth in use\n"
    yield _table(
        ("estimator", *(HEADERS[m] for m in USE)),
        [(name_of(n), *(_cell(estimators[n][m]) for m in USE)) for n in order],
    )
    yield (
        f"\nOverlap of random routes with the oracle's routes: {results['chance_overlap']:.3f}. "
        f"ECE and Brier are for the chance of being wrong, which isotonic regression, cross-fitted "
        f"in ten folds, reads off the score. A useless score is calibrated at the base rate, so "
        f"read them together."
    )
    yield "\n![AUROC of each estimator, and risk by coverage](study.svg)"


def _by_pool(results: Figure) -> Iterator[str]:
    if len(results["pools"]) < 2:
        return
    yield "\n## By pool: AUROC, Spearman\n"
    names = [pool["name"] for pool in results["pools"]]
    yield _table(
        ("estimator", *names),
        [
            (
                name_of(name),
                *(
                    f"{_number(a)}, {_number(s)}"
                    for a, s in zip(
                        figures["auroc"]["pools"], figures["spearman"]["pools"], strict=True
                    )
                ),
            )
            for name, figures in results["estimators"].items()
        ],
    )


def _advantages(results: Figure) -> Iterator[str]:
    yield f"\n## Advantage over {name_of(results['default'])}\n"
    yield "Paired on the same resamples. Above 0: better than the default, whatever the metric.\n"
    yield _table(
        ("estimator", *(HEADERS[m] for m in ADVANTAGES)),
        [
            (name_of(name), *(_cell(figures[m], signed=True) for m in ADVANTAGES))
            for name, figures in results["advantages"].items()
        ],
    )


def _calibrations(comparison: Figure) -> Iterator[str]:
    if not comparison["ways"]:
        return
    yield "\n## Reading correctness off probes\n"
    yield (
        f"{comparison['num_probes']} probes along the default's ranking, judged on all other "
        f"questions; mean of {comparison['num_draws']} draws of the probes per pool. Brackets "
        f"hold 95 % of the draws.\n"
    )
    yield _table(
        ("calibration", "Brier", "log loss, nats"),
        [
            (way, _cell(losses["brier"], digits=4), _cell(losses["log_loss"], digits=4))
            for way, losses in comparison["ways"].items()
        ],
    )


def _sensitivity(results: Figure) -> Iterator[str]:
    yield "\n## Sensitivity to ζ, ψ and Δ\n"
    yield (
        "Spearman similarity of the ranking to that of the settings at the head of each table, one "
        "of them changed. The paper calls its measure “similarity” and does not name it.\n"
    )
    for table in results["sensitivity"]:
        yield (
            f"From ζ {table['zeta']:g}, ψ {100 * table['psi']:g} %, Δ {table['window']}, "
            f"heads: {table['heads'].replace('_', '-')}:\n"
        )
        yield _table(
            ("setting", "paper", *(name_of(name) for name in NAMES)),
            [
                (_setting(row), f"{row['paper']:.3f}", *(_cell(row.get(name)) for name in NAMES))
                for row in table["rows"]
            ],
        )
        yield ""


def _setting(row: Figure) -> str:
    value = f"{100 * row['value']:g} %" if row["setting"] == "psi" else f"{row['value']:g}"
    return f"{SYMBOLS[row['setting']]} {value}"


def _grid(rows: Sequence[Figure] | None) -> Iterator[str]:
    if not rows:
        return
    yield "\n## The best settings on these questions\n"
    yield (
        "Chosen on these questions, so these figures flatter: report them on others. All "
        "combinations are in grid.csv.\n"
    )
    columns = tuple(rows[0])
    yield _table(
        columns,
        [tuple(_number(v) if isinstance(v, float) else v for v in row.values()) for row in rows],
    )


def _table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(headers) + " |", "|---" * len(headers) + "|"]
    lines += ["| " + " | ".join("–" if c is None else str(c) for c in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(figure: Figure | None, signed: bool = False, digits: int = 3) -> str | None:
    if figure is None or figure["value"] is None:
        return None
    sign = "+" if signed else ""
    value, low, high = (f"{figure[k]:{sign}.{digits}f}" for k in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}".rstrip("0").rstrip(".")


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{value:.3g}"
