"""A benchmark as a source of questions: `bench:NAME`, from the Hub or from a copy of its files.

    bench:aime24                             from the Hub, at the commit of the table
    bench:aime24?revision=main               at another commit, branch or tag
    bench:gsm8k?path=data/gsm8k.parquet      a file or a `datasets` folder with the same columns

The same columns are read, wherever they come from.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pivottrace.errors import ConfigError, DataError
from pivottrace.ingest.benchmark_options import lettered
from pivottrace.ingest.benchmark_table import BENCH_PREFIX, BENCHMARKS, Benchmark
from pivottrace.ingest.building import short_id
from pivottrace.ingest.columns import look_up, path_of, what_there_is
from pivottrace.ingest.question_files import open_file
from pivottrace.ingest.question_template import Template, is_empty, parse_template
from pivottrace.ingest.rows import Row, Source
from pivottrace.ingest.values import to_id

# A column of a template that may not be empty; "{context?}" may be.
_ALWAYS_NAMED = re.compile(r"\{([^{}?]+)\}")


def benchmark_named(text: str, base: str) -> Benchmark:
    """Return the benchmark of a source string, whose base it is.

    Raises:
        ConfigError: There is no such benchmark; the message has the nearest one and all names.
    """
    name = base.removeprefix(BENCH_PREFIX)
    if name not in BENCHMARKS:
        near = difflib.get_close_matches(name.lower(), BENCHMARKS, n=1, cutoff=0.0)[0]
        raise ConfigError(
            f"{text}: there is no benchmark {name!r}. The nearest one is {near}; there are "
            f"{', '.join(BENCHMARKS)}"
        )
    return BENCHMARKS[name]


def open_benchmark(text: str, base: str, options: Mapping[str, str], limit: int | None) -> Source:
    """Open a benchmark. Its rows have an id, a prompt without instructions, and an answer.

    Args:
        text: The source string, for messages.
        base: The string without its options.
        options: `path`, a file or folder in place of the Hub, or `revision`, a commit, branch or
            tag of the Hub in place of that of the table.
        limit: Number of rows that will be read, from the first one; None means all.

    Raises:
        ConfigError: The name or an option is unknown, or the benchmark is on no Hub.
        DataError: It cannot be loaded, or a column is missing.
    """
    benchmark = benchmark_named(text, base)
    for option in options:
        if option not in ("path", "revision"):
            raise ConfigError(
                f"{text}: {option!r} is not an option of a benchmark; there are path and revision, "
                "and in pool.evaluation also k, verifier and prompt"
            )
    raw = _raw(text, base, benchmark, options, limit)
    _refuse_other_columns(text, base, benchmark, raw)
    template = parse_template(text, benchmark.question, raw.columns)

    def rows() -> Iterator[Row]:
        for number, values in raw.rows():
            try:
                yield number, _question(benchmark, template, values)
            except DataError as error:
                raise DataError(f"{text}: {raw.unit} {number}: {error}") from None

    columns = ("id", "prompt", "answer", "letters", *benchmark.kept)
    return replace(raw, name=text, columns=columns, rows=rows, fixed_columns=True)


def _raw(
    text: str, base: str, benchmark: Benchmark, options: Mapping[str, str], limit: int | None
) -> Source:
    """Open the benchmark's own rows."""
    if "path" in options:
        if "revision" in options:
            raise ConfigError(f"{text}: path and revision exclude each other; take one of them out")
        return _copy(text, Path(options["path"]).expanduser(), benchmark, limit)
    if benchmark.hub_id is None:
        raise ConfigError(
            f"{text}: this benchmark is on no Hub that can be loaded. Take {benchmark.home}, and "
            f"write {base}?path=FILE"
        )
    from pivottrace.ingest.hub import open_hub

    revision = options.get("revision", benchmark.revision)
    return open_hub(text, benchmark.hub_id, benchmark.split, {}, revision)


def _copy(text: str, path: Path, benchmark: Benchmark, limit: int | None) -> Source:
    """Open a file, or a folder of `save_to_disk`, whose split is chosen if it has several."""
    if not path.is_dir():
        return open_file(text, path, {}, limit)
    from pivottrace.ingest.hub import open_folder

    splits = _splits(path)
    if len(splits) > 1 and benchmark.split not in splits:
        raise ConfigError(
            f"{text}: the benchmark is the split {benchmark.split!r}, and the folder has "
            f"{', '.join(splits)}. Save that split alone"
        )
    return open_folder(text, path, benchmark.split if benchmark.split in splits else None, {})


def _splits(folder: Path) -> list[str]:
    """The names of the splits in a folder of several; empty for any other folder."""
    path = folder / "dataset_dict.json"
    if not path.is_file():
        return []
    try:
        splits = json.loads(path.read_text(encoding="utf-8"))["splits"]
    except (ValueError, KeyError, TypeError):
        return []  # `open_folder` says that the folder is broken
    return splits if isinstance(splits, list) else []


def _refuse_other_columns(text: str, base: str, benchmark: Benchmark, raw: Source) -> None:
    needed = [*_ALWAYS_NAMED.findall(benchmark.question), benchmark.answer, *benchmark.wrong]
    needed += {*_ALWAYS_NAMED.findall(benchmark.prompt.text)} & {*benchmark.kept}
    needed += [benchmark.options] if benchmark.options is not None else []
    tops = dict.fromkeys(column.partition(".")[0] for column in needed)
    missing = next((column for column in tops if column not in raw.columns), None)
    if missing is not None:
        raise DataError(
            f"{text}: {base} reads the column {missing!r}, and it is not there. "
            f"{what_there_is(raw.columns, missing)} Give a copy of "
            f"{benchmark.hub_id or benchmark.home}, or name the file itself as the source"
        )


def _question(benchmark: Benchmark, template: Template, values: dict[str, Any]) -> dict[str, Any]:
    try:
        question = template.fill(values).text
    except DataError as error:
        raise DataError(f"the question: {error}") from None
    question_id = _id(benchmark, values, question)
    row = {"id": question_id, "prompt": question}
    if benchmark.verifier == "choice":
        options = lettered(benchmark, values, question_id)
        row |= {
            "prompt": f"{question}\n\n{options.text}",
            "answer": options.gold,
            "letters": options.letters,
        }
    else:
        path = path_of(benchmark.answer, tuple(values))
        row["answer"] = benchmark.gold(look_up(values, path))
    return row | {column: values[column] for column in benchmark.kept if column in values}


def _id(benchmark: Benchmark, values: Mapping[str, Any], question: str) -> str:
    """The benchmark's own id, or one made from the question, as `building` does."""
    given = None if benchmark.id is None else values.get(benchmark.id)
    if is_empty(given):
        return short_id(hashlib.sha256(question.encode()).hexdigest())
    return to_id(given)
