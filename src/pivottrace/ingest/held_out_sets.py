"""Held-out questions: every source of `pool.evaluation` is a set with a name of its own.

Any source may end in `?k=32` (samples per question) and `?verifier=choice`. A benchmark has its own
prompt and verifier; with `?prompt=run` it is asked as the pool is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from pivottrace.config import Config
from pivottrace.errors import ConfigError, counted
from pivottrace.ingest.benchmark_source import benchmark_named
from pivottrace.ingest.benchmark_table import BENCH_PREFIX, Benchmark
from pivottrace.ingest.prompts import last_user_message
from pivottrace.ingest.question_template import parse_template
from pivottrace.ingest.questions import Reading, read_source, settings_of_reading
from pivottrace.ingest.sources import split_options
from pivottrace.schemas import HELD_OUT
from pivottrace.verifier.gym_names import GYM_PREFIX
from pivottrace.world import WORLD_PREFIX

RUN_PROMPT = "run"


@dataclass(frozen=True)
class SetSource:
    """A source of `pool.evaluation`, without the options that speak of the set.

    Attributes:
        text: The source as the user wrote it.
        source: The source string that is read.
        name: The set's name.
        num_samples: `k`; None means `evaluate.num_samples`.
        verifier: The set's own verifier; None means `answers.verifier`.
        benchmark: The benchmark; None for any other source.
        own_prompt: Whether the benchmark's own prompt asks.
    """

    text: str
    source: str
    name: str
    num_samples: int | None
    verifier: str | None
    benchmark: Benchmark | None
    own_prompt: bool


@dataclass(frozen=True)
class SetReading:
    """A set that was read.

    Attributes:
        origin: Its source.
        reading: Its questions as the source has them, with the decisions that reading took.
        table: The questions with the schema `HELD_OUT`.
    """

    origin: SetSource
    reading: Reading
    table: pa.Table

    def facts(self) -> dict[str, Any]:
        """The facts to record of the set, in plain values."""
        origin = self.origin
        return {
            "name": origin.name,
            "source": origin.text,
            "num_questions": self.table.num_rows,
            "num_samples": origin.num_samples,
            "verifier": origin.verifier,
            "prompt": "its own" if origin.own_prompt else RUN_PROMPT,
            "revision": self.reading.revision,
        }


def set_sources(texts: Sequence[str]) -> list[SetSource]:
    """Read the source strings of `pool.evaluation`. Names that occur twice get a number.

    Raises:
        ConfigError: An option is wrong, or there is no such benchmark.
    """
    found: list[SetSource] = []
    taken: set[str] = set()
    for text in texts:
        base, options = split_options(text)
        benchmark = benchmark_named(text, base) if base.startswith(BENCH_PREFIX) else None
        own = ("k", "verifier") if benchmark is None else ("k", "verifier", "prompt")
        name = _unused(_name(base), taken)
        taken.add(name)
        found.append(
            SetSource(
                text=text,
                source=_without_options(text, own) if options else text,
                name=name,
                num_samples=_num_samples(text, options.get("k")),
                verifier=options.get("verifier") or (benchmark.verifier if benchmark else None),
                benchmark=benchmark,
                own_prompt=benchmark is not None and not _asks_as_the_run(text, options),
            )
        )
    return found


def read_sets(config: Config) -> list[SetReading]:
    """Read the sets of `pool.evaluation`, each with at most `pool.evaluation_limit` questions.

    `pool.split` is the pool's alone: a held-out source names its own (`...?split=test`), and the
    embedded world gives its evaluation split. The other settings of `pool` are for every source but
    benchmarks, which know their own columns. With several sets, the ids begin with the set's name.

    Returns:
        The sets in order; empty if the settings name none.

    Raises:
        DataError: As `read_source`.
        ConfigError: As `read_source`, and as `set_sources`.
    """
    origins = set_sources(config.pool.evaluation_sources)
    one = len(origins) == 1
    return [_read(origin, config, "" if one else f"{origin.name}/") for origin in origins]


def held_out_table(sets: Sequence[SetReading]) -> pa.Table:
    """Return the questions of all sets in one table, set by set."""
    return pa.concat_tables([each.table for each in sets])


def _read(origin: SetSource, config: Config, id_prefix: str) -> SetReading:
    settings = settings_of_reading(config)
    if origin.verifier is not None:
        settings["verifier"] = origin.verifier
    if origin.benchmark is not None:
        settings["answer_pattern"] = None  # the pattern is of the pool's answers
    split = "evaluation" if origin.source.startswith(WORLD_PREFIX) else None
    limit = config.pool.evaluation_limit
    reading = read_source(origin.source, split=split, limit=limit, **settings)
    reading = replace(reading, notes=(*reading.notes, *_count_note(origin, reading, limit)))
    rows = reading.table.to_pylist()
    asked = _asked(origin, rows)
    for row, messages in zip(rows, asked, strict=True):
        row |= {
            "id": f"{id_prefix}{row['id']}",
            "set": origin.name,
            "asked": messages,
            "num_samples": origin.num_samples,
            "verifier": origin.verifier,
        }
    return SetReading(origin, reading, pa.Table.from_pylist(rows, schema=HELD_OUT))


def _count_note(origin: SetSource, reading: Reading, limit: int | None) -> Iterator[str]:
    """Yield a note if a benchmark has another number of questions than the published one."""
    published, read = origin.benchmark, reading.table.num_rows
    if published is not None and limit is None and read != published.num_questions:
        yield (
            f"{origin.text}: it has {counted(read, 'question')}, and the published benchmark has "
            f"{published.num_questions:,}. Published figures are of another set"
        )


def _asked(origin: SetSource, rows: list[dict[str, Any]]) -> Iterator[list[dict[str, str]] | None]:
    """Yield the messages of a benchmark's own prompt; None where the run's settings ask."""
    if origin.benchmark is None or not origin.own_prompt:
        yield from (None for _ in rows)
        return
    names = ("question", "letters", *origin.benchmark.kept)
    template = parse_template(origin.text, origin.benchmark.prompt.text, names)
    for row in rows:
        values = {"question": last_user_message(row["prompt"]), **json.loads(row["extra"])}
        yield [{"role": "user", "content": template.fill(values).text}]


def _without_options(text: str, names: Sequence[str]) -> str:
    """A source string without some of its options, and otherwise letter by letter the same."""
    base, _, query = text.partition("?")
    left = [option for option in query.split("&") if option.partition("=")[0] not in names]
    return f"{base}?{'&'.join(left)}" if left else base


def _num_samples(text: str, k: str | None) -> int | None:
    if k is None:
        return None
    if not k.isdecimal() or int(k) < 1:
        raise ConfigError(f"{text}: k = {k!r} must be a whole number of samples, from 1")
    return int(k)


def _asks_as_the_run(text: str, options: dict[str, str]) -> bool:
    prompt = options.get("prompt")
    if prompt in (None, RUN_PROMPT):
        return prompt is not None
    raise ConfigError(
        f"{text}: prompt = {prompt!r} is not an option of a benchmark. Write prompt=run to ask as "
        "the pool is asked, or leave it out for the benchmark's own prompt"
    )


def _name(base: str) -> str:
    """The name of a benchmark, preset or task; a file's stem; or the Hub's short name."""
    for prefix in (BENCH_PREFIX, WORLD_PREFIX, GYM_PREFIX):
        if base.startswith(prefix):
            return base.removeprefix(prefix)
    path = Path(base)
    return path.stem if path.exists() else path.name.partition(":")[0] or base


def _unused(name: str, taken: set[str]) -> str:
    """The name, with the first number from 2 on behind it that makes it another one."""
    if name not in taken:
        return name
    number = 2
    while f"{name}-{number}" in taken:
        number += 1
    return f"{name}-{number}"
