r"""Agreement with the test data of public graders, and every pair on which we disagree.

    git clone https://github.com/huggingface/Math-Verify
    python bench/graders.py Math-Verify [CLONE ...] [--page docs/results/answers.md]

Each argument is a clone. Its test tables are read and never run:

- parametrised pytest tables with the columns `gold`, `pred` and `expected` or `result` (as in
  Math-Verify's `tests/`);
- tables of one column `output_pair` in tests whose name says "correct" or "incorrect" (as in
  NeMo-Skills' `tests/test_math_equal.py`), in both directions;
- `scoring_examples.json`: items of `GT` and `Ans` (as in OlympiadBench's `eval/`).

A gold is read as in a pool's column. An answer is read as in a response; where it has none of our
formats, its whole text is the answer. A table's own precision becomes the gold's own tolerance.
Rows that hold something else than constants, or that set an option that we do not have, are left
out and counted.

Other graders decide some pairs by other rules, so a disagreement is no error. But the page must
explain each one: it names their places, as in "`test_all.py` 70, 71". The exit status is 1 if a
disagreement is not explained there, or if a place on the page is no disagreement any more.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pivottrace.ingest.values import to_answer
from pivottrace.verifier import Verifier
from pivottrace.verifier.answers import extract_answer

GOLD, ANSWER, VERDICTS, PAIR = "gold", "pred", ("expected", "result"), "output_pair"
# Columns of options. A row is read only if they have these values, which are what we do.
OPTIONS = {"strict": True, "allow_set_relation_comp": True}
PLACES = "precision"  # column of decimal places
USUAL_PLACES = 6
SPARE = 1.01  # OlympiadBench's judge allows 1 % more than the precision, for rounding
WRITTEN = re.compile(r"\$?(-?\d+(?:\.\d+)?)(?:\s*\\(?:times|cdot)\s*10\^\{?(-?\d+)\}?)?\$?")
SHOWN = 160  # characters of a text
PAGE = Path(__file__).parents[1] / "docs" / "results" / "answers.md"
PLACES_ON_PAGE = re.compile(r"`([\w.]+)` (\d+(?:, \d+)*)")


@dataclass(frozen=True)
class Pair:
    """One row of test data.

    Attributes:
        line: Its first line in the file; in a JSON file, the item's number from 1.
        gold: The gold's text.
        answer: The text of the answer or response; None counts as wrong.
        equal: Their verdict.
        tolerance: Relative, of this row; None is the usual one.
    """

    line: int
    gold: str
    answer: str | None
    equal: bool
    tolerance: float | None = None


@dataclass
class Table:
    """The pairs of one file, and how many of its rows were left out."""

    name: str
    pairs: list[Pair]
    left_out: int = 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clone", type=Path, nargs="+", help="a clone of a grader's repository")
    parser.add_argument("--page", type=Path, default=PAGE, help="where disagreements are explained")
    arguments = parser.parse_args()
    tables = [table for clone in arguments.clone for table in tables_of(clone)]
    if not any(table.pairs for table in tables):
        parser.error("no test table found; give the root of a clone that has the files named above")
    print("| file | pairs | agree | equal only for them | equal only for us | left out |")
    print("|---|---|---|---|---|---|")
    disagreements: dict[str, list[tuple[int, str]]] = {}
    with Verifier("math") as verifier:
        total = [0] * 5
        for table in tables:
            counts, disagreements[table.name] = compared(table, verifier)
            total = [a + b for a, b in zip(total, counts, strict=True)]
            print_row(table.name, counts)
        print_row("all", total)
        print(f"\n{total[2] + total[3]} disagreements; {verifier.facts()}\n")
    for name, found in disagreements.items():
        print("".join(f"{name}:{line}: {text}\n" for line, text in found), end="")
    lines = {name: {line for line, _ in found} for name, found in disagreements.items()}
    return compare_with_page(lines, explained(arguments.page))


def compare_with_page(found: dict[str, set[int]], named: dict[str, set[int]]) -> int:
    """Print the places that only one side has. Return 1 if some do, else 0."""
    differ = False
    for name, lines in found.items():
        on_page = named.get(Path(name).name, set())
        for what, left in (("not explained", lines - on_page), ("agree now", on_page - lines)):
            if left:
                print(f"{what}: `{Path(name).name}` {', '.join(map(str, sorted(left)))}")
                differ = True
    return int(differ)


def explained(page: Path) -> dict[str, set[int]]:
    """The places that the page names: numbers of lines or items by file."""
    places: dict[str, set[int]] = {}
    for name, numbers in PLACES_ON_PAGE.findall(page.read_text(encoding="utf-8")):
        places.setdefault(name, set()).update(map(int, numbers.split(",")))
    return places


def print_row(name: str, counts: list[int]) -> None:
    pairs, agree, theirs, ours, left_out = counts
    share = f"{agree} ({agree / pairs:.1%})" if pairs else "–"
    print(f"| {name} | {pairs} | {share} | {theirs} | {ours} | {left_out} |", flush=True)


def compared(table: Table, verifier: Verifier) -> tuple[list[int], list[tuple[int, str]]]:
    """Counts of a table's row, and the line and text of each disagreement."""
    golds = [gold_as_read(pair) for pair in table.pairs]
    answers = [
        None if pair.answer is None else extract_answer(pair.answer) or pair.answer.strip()
        for pair in table.pairs
    ]
    known = [index for index, gold in enumerate(golds) if gold is not None]
    verdicts = verifier.check_many([answers[i] for i in known], [golds[i] or "" for i in known])
    equal = dict(zip(known, verdicts, strict=True))
    theirs = ours = 0
    found = []
    for index, pair in enumerate(table.pairs):
        if equal.get(index, False) == pair.equal:
            continue
        theirs += pair.equal
        ours += not pair.equal
        text = (
            f"equal only for {'them' if pair.equal else 'us'}\n"
            f"    gold    {shown(pair.gold, golds[index])}\n"
            f"    answer  {shown(pair.answer, answers[index])}"
        )
        found.append((pair.line, text))
    pairs = len(table.pairs)
    return [pairs, pairs - theirs - ours, theirs, ours, table.left_out], found


def gold_as_read(pair: Pair) -> str | None:
    gold = to_answer(pair.gold)
    if gold is None or pair.tolerance is None:
        return gold
    return f"{gold} [tolerance {pair.tolerance:.6g}]"


def shown(text: str | None, read: str | None) -> str:
    """A text on one line. The answer that was read follows if it differs."""
    short = " ".join(str(text).split())
    if len(short) > SHOWN:
        short = "… " + short[-SHOWN:]
    return short if read == text else f"{short}    [read as: {read}]"


def tables_of(clone: Path) -> Iterator[Table]:
    """The files of a clone that hold test data."""
    for path in sorted((clone / "tests").rglob("test_*.py")):
        table = python_table(path, f"{clone.name}/{path.relative_to(clone)}")
        if table.pairs or table.left_out:
            yield table
    for path in sorted(clone.rglob("scoring_examples.json")):
        yield scoring_examples(path, f"{clone.name}/{path.relative_to(clone)}")


def python_table(path: Path, name: str) -> Table:
    """The parametrised tables of one Python file."""
    table = Table(name, [])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # their escapes
        tree = ast.parse(path.read_text(encoding="utf-8"))
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        for columns, rows in parametrised(function):
            for row in rows:
                pairs = pairs_of(row, columns, function.name)
                table.pairs += pairs
                table.left_out += not pairs
    return table


def parametrised(function: ast.FunctionDef) -> Iterator[tuple[list[str], list[ast.expr]]]:
    """Names of the columns and the rows of each table that we can read."""
    for decorator in function.decorator_list:
        if not (isinstance(decorator, ast.Call) and len(decorator.args) >= 2):
            continue
        head, body = decorator.args[:2]
        if not (
            isinstance(decorator.func, ast.Attribute)
            and decorator.func.attr == "parametrize"
            and isinstance(head, ast.Constant)
            and isinstance(head.value, str)
            and isinstance(body, ast.List | ast.Tuple)
        ):
            continue
        columns = [column.strip() for column in head.value.split(",")]
        of_pairs = columns == [PAIR] and "correct" in function.name
        if of_pairs or ({GOLD, ANSWER} <= set(columns) and set(VERDICTS) & set(columns)):
            yield columns, body.elts


def pairs_of(row: ast.expr, columns: list[str], function: str) -> list[Pair]:
    """The pairs of one row; none if it is left out."""
    try:
        values = ast.literal_eval(row)
    except ValueError:  # an f-string or a calculation
        return []
    if columns == [PAIR]:
        equal = "incorrect" not in function
        sides = [None if value is None else str(value) for value in values]
        turns = (sides, sides[::-1])
        return [Pair(row.lineno, gold, answer, equal) for gold, answer in turns if gold is not None]
    cells: dict[str, Any] = dict(zip(columns, values, strict=True))
    if any(cells.get(option, ours) != ours for option, ours in OPTIONS.items()):
        return []
    places = cells.get(PLACES, USUAL_PLACES)
    tolerance = None if places == USUAL_PLACES else SPARE * 10.0**-places
    verdict = next(cells[column] for column in VERDICTS if column in cells)
    return [Pair(row.lineno, cells[GOLD], cells[ANSWER], bool(verdict), tolerance)]


def scoring_examples(path: Path, name: str) -> Table:
    """The items of OlympiadBench's examples, whose precision is an absolute difference."""
    table = Table(name, [])
    for number, item in enumerate(json.loads(path.read_text(encoding="utf-8")), 1):
        for answer in item["Ans"]:
            precision = answer.get("precision")
            if isinstance(precision, list) and len(precision) == 1:
                precision = precision[0]
            if isinstance(precision, list):  # a precision for each value
                table.left_out += 1
                continue
            relative = None
            if precision is not None:
                relative = SPARE * float(precision) / size_of(item["GT"], answer["answer"])
            table.pairs.append(
                Pair(number, item["GT"], answer["answer"], answer["equal"], relative)
            )
    return table


def size_of(gold: str, answer: str) -> float:
    """Size of the gold, or else of the answer: the first of them that is a written number."""
    for text in (gold, answer):
        # Of several values the smallest counts, so that none gets more than its precision.
        found = [WRITTEN.fullmatch(part.strip()) for part in text.split(",")]
        if all(found):
            sizes = [abs(float(f[1]) * 10.0 ** int(f[2] or 0)) for f in found if f]
            return min(size for size in sizes if size) if any(sizes) else math.inf
    return math.inf


if __name__ == "__main__":
    sys.exit(main())
