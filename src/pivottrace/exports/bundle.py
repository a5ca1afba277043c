"""The parts that every folder for a trainer has: rows, reward, verifier, launch files, card."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa

from pivottrace.errors import counted
from pivottrace.exports import Written
from pivottrace.exports.training_data import TrainingData
from pivottrace.rollouts.answer_reader import AnswerReader
from pivottrace.run.directory import RunDir
from pivottrace.run.storage import write_parquet, write_text

OPTIONS = {"weights": ("reward", "thin", "ignore"), "prompt": ("formatted", "raw")}
"""The options of the formats for trainers."""

VERIFIER = "pivottrace_verifier"
"""The folder with the copy of the verifier, which needs math-verify and nothing of PivotTrace."""

# The copy has other import names, so that it never mixes with an installed PivotTrace.
_MODULES = (
    ("pivottrace.exports.kit.scoring", ".scoring"),
    ("pivottrace.verifier", ""),
    ("pivottrace.errors", ".errors"),
)
_PLACE = re.compile(r"@([A-Z_]+)@")
_FREQUENT = 5


@dataclass(frozen=True)
class Folder:
    """The files of an export that other exports for trainers do not have.

    Attributes:
        trainer: Name of the trainer with the version that the files were written for.
        tables: Rows by file name. A table without rows is not written, unless it is the first. The
            dataset card offers each parquet file as the split of its name.
        texts: Texts by file name. A file that ends in `.sh` can be executed.
        card: Name of the file of the kit with the card's part on this trainer.
        code: Folder of `reward.json`, relative to the export; empty is the export itself.
        verifier: Name of the copied verifier's folder.
        places: Further places of the card.
    """

    trainer: str
    tables: Mapping[str, pa.Table]
    texts: Mapping[str, str]
    card: str
    code: str = ""
    verifier: str = VERIFIER
    places: Mapping[str, Any] = field(default_factory=dict)


def write_folder(
    run: RunDir, folder: Path, data: TrainingData, of: Folder, *, weights: str, prompt: str
) -> Written:
    """Write an export for a trainer.

    Args:
        run: The run.
        folder: The folder of the export.
        data: Its rows.
        of: The files of this format.
        weights: The option `--weights`.
        prompt: The option `--prompt`.
    """
    kept = {n: t for n, t in of.tables.items() if t.num_rows or n == next(iter(of.tables))}
    for name, table in kept.items():
        write_rows(folder / name, table)
    texts = dict(of.texts)
    for name, text in verifier_files(of.verifier):
        texts[f"{of.verifier}/{name}"] = text
    texts[f"{of.code}reward.json"] = reward_settings(run, weights)
    texts["README.md"] = _card(run, data, of, kept, weights, prompt)
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
        if path.suffix == ".sh":
            path.chmod(0o755)
    return Written({name: table.num_rows for name, table in kept.items()}, data.left_out)


def kit_text(name: str, **places: Any) -> str:
    """A text of the kit, with its places filled.

    A value is written as it is; None leaves the whole line out.

    Raises:
        KeyError: The text has a place without a value.
    """
    text = (files("pivottrace.exports.kit") / name).read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    left = [n for n in lines if not any(places[p] is None for p in _PLACE.findall(n))]
    return _PLACE.sub(lambda found: str(places[found[1]]), "".join(left))


def kit_code(name: str, verifier: str = VERIFIER) -> str:
    """A Python file of the kit, which imports the copied verifier."""
    source = (files("pivottrace.exports.kit") / name).read_text(encoding="utf-8")
    return _renamed(source, verifier)


def write_rows(path: Path, table: pa.Table) -> None:
    """Write a table as parquet, or as JSON lines for a reader that guesses no types."""
    if path.suffix == ".parquet":
        write_parquet(path, table)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist())
    write_text(path, "".join(lines))


def verifier_files(verifier: str) -> Iterator[tuple[str, str]]:
    """The files of the copied verifier under a new name: file name and text, sorted."""
    sources = {path.name: path for path in files("pivottrace.verifier").iterdir()}
    sources["errors.py"] = files("pivottrace") / "errors.py"
    sources["scoring.py"] = files("pivottrace.exports.kit") / "scoring.py"
    for name in sorted(name for name in sources if name.endswith(".py")):
        yield name, _renamed(sources[name].read_text(encoding="utf-8"), verifier)


def _renamed(source: str, verifier: str) -> str:
    """A source that imports the copy. The longest names come first."""
    for ours, theirs in _MODULES:
        source = re.sub(rf"\b{re.escape(ours)}\b", f"{verifier}{theirs}", source)
    return source


def reward_settings(run: RunDir, weights: str) -> str:
    """The file `reward.json`: how answers are read and compared, and whether weights act."""
    reader, answers = AnswerReader.of(run.config), run.config.answers
    values = {
        "pattern": reader.pattern,
        "formats": list(reader.formats),
        "placeholders": sorted(reader.placeholders),
        "verifier": answers.verifier,
        "tolerance": answers.tolerance,
        "timeout_s": answers.timeout_s,
        "weighted": weights in ("reward", "estimator"),
    }
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _card(
    run: RunDir,
    data: TrainingData,
    of: Folder,
    tables: Mapping[str, pa.Table],
    weights: str,
    prompt: str,
) -> str:
    routes = Counter(row.route for row in data.train)
    paths = [Path(name) for name in tables if name.endswith(".parquet")]
    configs = [f"  - split: {path.stem}\n    path: {path}\n" for path in paths]
    is_scored = run.config.answers.verifier == "reasoning-gym"
    places: dict[str, Any] = {
        "TRAINER": of.trainer,
        "FRONT": kit_text("card_front.yaml", SPLITS="".join(configs).rstrip()) if configs else None,
        "NUM_ANNOTATE": counted(routes["annotate"], "row"),
        "NUM_WEAK": counted(routes["weak"], "row"),
        "NUM_HELD_OUT": counted(len(data.held_out), "row"),
        "LEFT_OUT": "; ".join(f"{n} {why}" for why, n in data.left_out.items()) or "nothing",
        "SOURCES": _sources(data),
        "WEIGHTS": weights,
        "WEIGHTS_MEAN": kit_text(f"card_weights_{weights}.md").strip(),
        "PROMPT": prompt,
        "FORMATS": run.config.answers.pattern or ", ".join(run.config.answers.formats),
        "VERIFIER": run.config.answers.verifier,
        "SCORERS": kit_text("card_scorers.md").strip() if is_scored else None,
        "COPY": of.verifier,
        "STOP": ", ".join(f"`{text!r}`" for text in run.config.rollouts.stop) or None,
    }
    part = kit_text(of.card, **places, **of.places)
    return kit_text("card.md", **places, PART=part.strip())


def _sources(data: TrainingData) -> str:
    """The origins of the questions, the most frequent first."""
    found = Counter(row.source for row in (*data.train, *data.held_out)).most_common()
    names = [f"`{name}` ({number})" for name, number in found[:_FREQUENT] if name]
    more = len(found) - _FREQUENT
    return ", ".join(names + ([f"{more} more"] if more > 0 else [])) or "not recorded"
