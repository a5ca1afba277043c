"""Hostile texts in ids, prompts, answers, model text, votes and reasons: they are shown as texts.

All are harmless here: nothing of them is run, and no browser, spreadsheet or terminal reads them.
"""

from __future__ import annotations

import csv
import json
import re
import unicodedata
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
from transformers import AutoTokenizer

from faults_bench import Bench, Row, call
from pivottrace.commands import audit
from pivottrace.labels.store import read_labels
from pivottrace.report import examples
from pivottrace.report.telling import Telling, Why
from pivottrace.run.directory import RunDir
from pivottrace.run.storage import read_parquet, write_parquet
from pivottrace.world.problems import generate

MARKUP = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></style></mark><b>bold",
    "<!-- <iframe src='http://x.example'> -->",
    "<a href='javascript:alert(1)'>a</a>",
    "<meta http-equiv=refresh content=0>",
    "<style>@import 'http://x.example'</style>",
    "&lt;script&gt; &#60;b&#62; &amp;",
    "{{ 7*7 }}{% raw %}{# a #}",
    "| a | table | **bold** [a](http://x.example)",
)
HIDDEN = (
    "\u202egnp.exe\u202c",
    "\u2066left\u2069",
    "\u200bnothing\ufeff",
    "\x1b[31mred\x1b[0m",
    "\x1b]0;a title\x07",
    "\x9b31m",
    "gone\x08\x08\x08\x08here\x7f",
    "over\rwritten",
    "a\u2028b\u2029c",
    "\U000e0041\U000e0042tags",
)
FORMULAS = (
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(1)",
    "\t=1+1",
    "\r=1+1",
    "'=1+1",
    "''=1+1",
    "＝1+1",
    "＋1+1",
    "－1+1",
    "＠SUM(1)",
    '="a,b"',
    "=1+1\n=2+2",
    "-5",
    "007",
    "1e5",
)
TEXTS = MARKUP + HIDDEN + FORMULAS
# Tags that a page of texts does not need.
LIVE = {"script", "iframe", "object", "embed", "img", "link", "form", "base", "input", "video"}
# A place in the report, or in the viewer's page beside it.
OWN_PLACE = re.compile(r"(view/[\w-]+\.html)?(#[\w-]*)?")
SHOWN = {"\n", "\t", "\u200c", "\u200d"}
UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
# Cells that begin so are run by a spreadsheet; a plain number is not.
FORMULA, NUMBER = re.compile(r"[=+\-@\t\r\n＝＋－＠]"), re.compile(r"[+-]?\d+(\.\d+)?")


def hostile_run(bench: Bench) -> Path:
    """A run whose ids are the texts. People are asked for the labels, and some are wrong."""
    return bench.other_run("hostile", lambda output: make_hostile_run(bench.folder, output))


def make_hostile_run(folder: Path, output: Path) -> None:
    """Make the run, and give its labels by a file, which goes the way of a spreadsheet."""
    problems = generate("pool", len(TEXTS), 3, "mastered")
    pool = folder / "hostile.jsonl"
    rows = [
        # A formula stands in the id alone: the model shall solve the question, for `audit`.
        {"id": text, "question": p.question if text in FORMULAS else f"{text} {p.question}"}
        for text, p in zip(TEXTS, problems, strict=True)
    ]
    pool.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    answers = {
        text: str(int(problem.answer) + (number % 2 == 0))
        for number, (text, problem) in enumerate(zip(TEXTS, problems, strict=True))
    }
    expect(
        3,
        "run",
        *("--questions", pool, "--map", "id=id", "--output", output, "--budget", len(TEXTS)),
        *("--rollouts.max-new-tokens", 64, "--rollouts.num-samples", 4, "--train.enabled", "false"),
    )
    give(output, "probes_to_label.csv", answers)
    expect(0, "run", output)
    expect(3, "label", output)
    give(output, "annotate_to_label.csv", answers)
    expect(0, "label", output)


def expect(code: int, *arguments: object) -> str:
    ended, told = call(*arguments)
    if ended != code:
        raise SystemExit(f"{arguments[0]}: {told}")
    return told


def give(run: Path, name: str, answers: dict[str, str]) -> None:
    fill(run / name, answers)
    expect(0, "label", "import", run, run / name)


def fill(path: Path, answers: dict[str, str]) -> None:
    """Fill in the answers as a spreadsheet does: read the cells, write them again."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["answer"] = answers[plain(row["id"])]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def plain(cell: str) -> str:
    """The text of a cell as a spreadsheet shows it: without the first apostrophe."""
    return cell[1:] if cell.startswith("'") and re.match(rf"'+{FORMULA.pattern}", cell) else cell


class Page(HTMLParser):
    """The tags of a page, its texts, and its text up to the end of each title."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.titles, self.text = [""], ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Keep a text."""
        self.text += data
        self.titles[-1] += data

    def handle_endtag(self, tag: str) -> None:
        """Begin the next text after a title."""
        self.titles += [""] if tag == "title" else []


def report(bench: Bench) -> Iterator[Row]:
    """The report shows every text, and none of them is markup or hides."""
    run = bench.copy(hostile_run(bench))
    everything = " ".join(TEXTS)
    tokenizer = AutoTokenizer.from_pretrained(str(files("pivottrace.world") / "reasoner"))
    tokens = tokenizer.encode(everything, add_special_tokens=False)
    says = {"text": everything, "answer": everything, "tokens": tokens, "failure": None}
    for part in run.glob("rounds/00/rollouts_greedy/*.parquet"):
        change(part, says)
    signals = {name: [0.5] * len(tokens) for name in ("far_mass", "entropy", "self_certainty")}
    for part in run.glob("rounds/00/signals/*.parquet"):
        change(part, signals)
    change(run / "rounds/00/votes.parquet", {"vote_answer": everything})
    change(run / "rounds/00/triage.parquet", {"reason": everything})
    with patch.object(examples, "telling", every_question):  # not three of each route
        code, told = call("report", run)
    failed = [told[-300:]] if code else list(faults_of((run / "report.html").read_text("utf-8")))
    note = "each as id, prompt, model text, answer, vote and reason, in one page; no browser"
    yield Row("hostile texts in the report", len(TEXTS), failed, note)


def every_question(triage: pa.Table) -> list[Telling]:
    """Every question of the table, chosen as a typical one."""
    ids, routes = triage["question_id"].to_pylist(), triage["route"].to_pylist()
    return [Telling(i, route, Why.TYPICAL) for i, route in zip(ids, routes, strict=True)]


def change(path: Path, values: dict[str, Any]) -> None:
    """Put values into every row of a table, with a checksum as the run would have written it."""
    table = read_parquet(path)
    for name, value in values.items():
        place = table.schema.get_field_index(name)
        column = pa.array([value] * len(table), table.schema.field(name).type)
        table = table.set_column(place, table.schema.field(name), column)
    write_parquet(path, table)


def faults_of(page: str) -> Iterator[str]:
    """The parts of a page that could run, fetch, hide or mislead."""
    found = Page(page)
    yield from (f"a tag {tag}" for tag, _ in found.tags if tag in LIVE)
    for tag, attributes in found.tags:
        yield from (f"{tag} {name}" for name in attributes if name.startswith("on"))
        for name in ("src", "href", "xlink:href", "srcset"):
            if not OWN_PLACE.fullmatch(attributes.get(name) or "#"):
                yield f"{tag} {name}={attributes[name]}"
    if not re.fullmatch(r"\s*PivotTrace · \w+", found.titles[0]):
        yield f"the title {found.titles[0]!r}"
    if "default-src 'none'" not in page:
        yield "no policy against fetching"
    yield from (f"a raw {character!a}" for character in sorted(hidden_in(page)))
    shown = " ".join(found.text.split())
    for text in TEXTS:
        visible = "".join(
            f"⟨U+{ord(c):04X}⟩" if hidden_in(c) else c for c in text.replace("\r\n", "\n")
        )
        if " ".join(visible.split()) not in shown:
            yield f"{text!r} is not shown"


def hidden_in(text: str) -> set[str]:
    return {c for c in text if c not in SHOWN and unicodedata.category(c) in UNSAFE}


def terminal(bench: Bench) -> Iterator[Row]:
    """No command prints a character that a terminal would obey."""
    run = bench.copy(hostile_run(bench))
    again, unknown = bench.folder / "again.csv", bench.folder / "unknown.jsonl"
    with again.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "answer", "annotator"))
        writer.writerows((text, "12345", "\x1b[1mann") for text in TEXTS)
    unknown.write_text(json.dumps({"id": "x" + TEXTS[15], "answer": "1"}) + "\n")
    commands: tuple[tuple[object, ...], ...] = (
        ("status", run),
        ("run", run),
        ("plan", run),
        ("audit", run, "--label-error", "0.3"),
        ("report", run),
        ("export", run, "--to", "jsonl"),
        ("label", "import", run, unknown),
        ("label", "import", run, again, "--redo"),
        ("label", "conflicts", run),
        ("label", "correct", run, "\x1b[31mred\x1b[0m", "\x1b[31m7"),
        ("label", "correct", run, "\x1b[5m", "7"),
        ("validate", "--questions", bench.folder / "hostile.jsonl", "--map", "id=\x1b[31m"),
        ("validate", "--questions", bench.folder / "hostile.jsonl", "--map", "prompt=question"),
        ("\x1b[31m",),
    )
    failed = []
    for arguments in commands:
        code, told = call(*arguments)
        raw = hidden_in(told)
        if code < 0 or raw:
            failed.append(f"{arguments[:2]}: {code} {sorted(raw)} {told[-200:]!a}")
    note = "escapes, bidi and other control characters in ids, prompts, files and arguments"
    yield Row("commands that print hostile texts", len(commands), failed, note)


def formulas(bench: Bench) -> Iterator[Row]:
    """No cell of a CSV is run by a spreadsheet, and an exported id comes back as it was."""
    run = bench.copy(hostile_run(bench))
    with patch.object(audit, "LIKELY", 0.0):  # any vote speaks against a label
        audit.audit(RunDir.open(run), 0.3, min_share=0.0)
    paths = [*run.glob("*_to_label.csv"), run / "audit.csv", *run.glob("rounds/00/*.csv")]
    failed, cells, suspects = [], 0, 0
    ids: set[str] = set()
    for path in paths:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
        cells += sum(map(len, rows))
        failed += [
            f"{path.name}: {cell!r}"
            for cell in (cell for row in rows for cell in row)
            if FORMULA.match(cell) and not NUMBER.fullmatch(cell)
        ]
        suspects += (len(rows) - 1) * (path.name == "audit.csv")
        if rows[0][0] == "id":
            ids |= {plain(row[0]) for row in rows[1:]}
    note = f"none begins a formula; {suspects} rows are of `audit`"
    yield Row(f"cells of {len(paths)} CSV files", cells, failed, note)
    known = read_labels(run / "labels.sqlite")
    lost = [f"{text!r} has no label" for text in ids if text not in known]
    yield Row("ids through a label file and back", len(ids), lost)


ROWS = (report, terminal, formulas)
