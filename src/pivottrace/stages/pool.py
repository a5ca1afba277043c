"""The pool: questions and held-out questions, read once into the run directory."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from pivottrace.config import Config, PoolConfig
from pivottrace.errors import DataError
from pivottrace.ingest import find_overlap, source_digest
from pivottrace.ingest.held_out_sets import SetReading, held_out_table, read_sets
from pivottrace.ingest.questions import Reading, read_pool
from pivottrace.label_sources import label_source
from pivottrace.label_sources.column import COLUMN
from pivottrace.run.directory import RunDir
from pivottrace.run.storage import digest_file, write_parquet
from pivottrace.stages.preconditions import WITHOUT_GPU, refuse_the_impossible, trainer_of
from pivottrace.verifier import Verifier

OVERLAP = pa.schema([("question_id", pa.string()), ("evaluation_id", pa.string())])
SHOWN_PAIRS = 3  # in a message
RECORDED_PAIRS = 1_000  # in the manifest, which every stage reads; overlap.parquet has all of them


def run(run: RunDir) -> None:
    """Write the table `pool` and, with held-out questions, `evaluation` and `overlap`.

    A finished pool is kept. The run directory has its own copy, so the sources may be gone, but a
    source that still exists must not have changed. The stage records `num_questions`,
    `num_with_answer`, `num_left_out` (by `pool.only_answered`), `num_evaluation`, `evaluation_sets`
    (`SetReading.facts`), `num_overlap` (pool questions), `overlap` (the first pairs of ids),
    `num_dropped`, `notes` (what reading settled, in words), `digest` (of pool.parquet) and
    `source_digests`.

    Raises:
        DataError: A source is wrong or has changed, a held-out question has no answer, or pool and
            held-out questions overlap and `on_overlap` is `refuse`.
        ConfigError: A source string, split or column map is wrong.
        PivotTraceError: The run would fail later; see `stages.preconditions`.
    """
    if run.is_done("pool"):
        _refuse_changed_sources(run)
        facts = run.stage_facts("pool")
        refuse_the_impossible(run.config, facts["num_questions"], facts["num_with_answer"])
    else:
        _write_tables(run)


def _write_tables(run: RunDir) -> None:
    settings = run.config.pool
    # We take the digests before reading, so that a change while we read is noticed next time.
    digests = {key: source_digest(source) for key, source in _sources(settings).items()}
    read, held_out = read_sources(run.config)
    pool, pairs = read.table, overlap_of(read, held_out)
    kept = _apply_overlap(pool, pairs, settings)
    num_with_answer = kept.num_rows - kept["answer"].null_count
    # Before the pool is bound: the cure may be another column, or a changed file.
    refuse_the_impossible(run.config, kept.num_rows, num_with_answer)
    if run.config.train.enabled:
        _, lacking = trainer_of(run.config)
        if lacking is not None:
            print(f"note: {lacking}. {WITHOUT_GPU}", file=sys.stderr, flush=True)

    if held_out:
        run.write_table("evaluation", held_out_table(held_out))
        write_parquet(run.path / "overlap.parquet", _overlap_table(pairs))
    else:
        # A killed attempt may have left this table, before the setting pool.evaluation was removed.
        run.table_path("evaluation").unlink(missing_ok=True)
    run.write_table("pool", kept)
    run.mark_done(
        "pool",
        num_questions=kept.num_rows,
        num_with_answer=num_with_answer,
        num_left_out=read.num_left_out,
        num_evaluation=sum(each.table.num_rows for each in held_out),
        evaluation_sets=[each.facts() for each in held_out],
        num_overlap=len({ours for ours, _ in pairs}),
        overlap=[list(pair) for pair in pairs[:RECORDED_PAIRS]],
        num_dropped=pool.num_rows - kept.num_rows,
        notes=[*read.notes, *(note for each in held_out for note in each.reading.notes)],
        digest=digest_file(run.table_path("pool")),
        source_digests=digests,
    )


def read_sources(config: Config) -> tuple[Reading, list[SetReading]]:
    """Read the pool and, if the settings name them, the held-out questions.

    A label source may withhold the pool's answers, as the oracle does: the pool is then made
    without them.

    Returns:
        (pool, sets of held-out questions, in their order).

    Raises:
        DataError: A source is wrong, or a held-out question has no answer.
        ConfigError: A source string, split, column map or template is wrong, or the label source
            cannot answer such questions.
    """
    # Without a name, the source follows from the pool, and it withholds nothing.
    source = label_source(config.labels.source or COLUMN.name)
    if source.check_pool is not None:
        source.check_pool(config.pool.questions)
    pool = read_pool(config)
    if source.withholds_answers:
        column = pool.table.schema.get_field_index("answer")
        blank = pa.nulls(pool.table.num_rows, pa.string())
        pool = replace(pool, table=pool.table.set_column(column, "answer", blank), golds=())
    sets = read_sets(config)
    for each in sets:
        _refuse_without_answers(each)
        if each.origin.verifier is not None:
            with Verifier(each.origin.verifier, config.answers.timeout_s) as verifier:
                verifier.load()  # a user's function that is wrong is refused now, not hours later
    return pool, sets


def _refuse_without_answers(held_out: SetReading) -> None:
    source, table = held_out.origin.text, held_out.reading.table
    if not table["answer"].null_count:
        return
    first = table.filter(pc.is_null(table["answer"]))["id"][0].as_py()
    why = "".join(f" ({u.cell!r} {u.problem})" for u in held_out.reading.unreadable[:1])
    raise DataError(
        f"{source}: {table['answer'].null_count} of {table.num_rows} held-out questions have "
        f"no answer, and the first of these has id {first!r}{why}. Give their answers (name the "
        f"column with {source}?answer=COLUMN), or take them out"
    )


def overlap_of(pool: Reading, sets: Sequence[SetReading]) -> list[tuple[str, str]]:
    """Find pool questions that are also held-out ones, set by set, as `find_overlap`.

    Each set is compared alone, because a question that two sets share would else count as an
    instruction that questions share.
    """
    return [pair for each in sets for pair in find_overlap(pool.table, each.table)]


def _sources(settings: PoolConfig) -> dict[str, str]:
    """The sources by their keys in the record: `questions`, `evaluation`, `evaluation.2` and on."""
    found = {"questions": settings.questions}
    for number, source in enumerate(settings.evaluation_sources, 1):
        found["evaluation" if number == 1 else f"evaluation.{number}"] = source
    return found


def _apply_overlap(pool: pa.Table, pairs: list[tuple[str, str]], settings: PoolConfig) -> pa.Table:
    if not pairs or settings.on_overlap == "report":
        return pool
    if settings.on_overlap == "refuse":
        shown = "; ".join(f"{ours!r} is {theirs!r}" for ours, theirs in pairs[:SHOWN_PAIRS])
        more = "; ..." if len(pairs) > SHOWN_PAIRS else ""
        raise DataError(
            f"{settings.questions}: {len({ours for ours, _ in pairs})} pool questions are also in "
            f"{', '.join(settings.evaluation_sources)}: {shown}{more}. Take them out, or set "
            'pool.on_overlap = "drop"'
        )
    overlapping = pa.array(sorted({ours for ours, _ in pairs}), pa.string())
    kept = pool.filter(pc.invert(pc.is_in(pool["id"], value_set=overlapping)))
    if not kept.num_rows:
        raise DataError(
            f"{settings.questions}: every question is also in "
            f"{', '.join(settings.evaluation_sources)}, so dropping the overlap leaves none. Give "
            "other held-out questions"
        )
    return kept


def _overlap_table(pairs: list[tuple[str, str]]) -> pa.Table:
    rows = [dict(zip(OVERLAP.names, pair, strict=True)) for pair in pairs]
    return pa.Table.from_pylist(rows, schema=OVERLAP)


def _refuse_changed_sources(run: RunDir) -> None:
    recorded = run.stage_facts("pool").get("source_digests", {})
    for key, source in _sources(run.config.pool).items():
        now = source_digest(source)
        if now is not None and now != recorded.get(key):
            raise DataError(
                f"{source} has changed since {run.path} read it (pool.{key.partition('.')[0]}). "
                "Put the old version back, or start again with another output directory (--output)"
            )
