"""The pool stage: what it writes, what it records, and what it refuses."""

import hashlib

import pyarrow.parquet as pq
import pytest
from ingest_sources import write_jsonl

from pivottrace.commands.repair import repair
from pivottrace.commands.status import notes
from pivottrace.config import Config, LabelsConfig, PoolConfig
from pivottrace.errors import ConfigError, DataError, RunDirError
from pivottrace.ingest import read_questions
from pivottrace.run.directory import RunDir
from pivottrace.schemas import QUESTIONS
from pivottrace.stages import pool

WHOLE = [{"id": i, "question": f"What is {i} + 1?", "answer": i + 1} for i in range(6)]


@pytest.fixture
def questions(tmp_path):
    return write_jsonl(tmp_path / "pool.jsonl", [*WHOLE[:5], WHOLE[5] | {"answer": None}])


@pytest.fixture
def held_out(tmp_path):
    rows = [{"prompt": "what is 2 + 1 ?", "gold": "3"}, {"prompt": "What is 9 + 9?", "gold": "18"}]
    return f"{write_jsonl(tmp_path / 'test.jsonl', rows)}?answer=gold"


def make(tmp_path, name="run", **settings):
    return RunDir.create(Config(output=tmp_path / name, pool=PoolConfig(**settings)))


def test_pool_and_evaluation_are_written_and_recorded(tmp_path, questions, held_out):
    run = make(tmp_path, questions=questions, evaluation=held_out)
    pool.run(run)
    table = run.read_table("pool", made_by="run")
    assert table.schema == QUESTIONS
    assert table["id"].to_pylist() == list("012345")
    assert run.read_table("evaluation", made_by="run")["answer"].to_pylist() == ["3", "18"]
    facts = run.stage_facts("pool")
    assert (facts["num_questions"], facts["num_with_answer"]) == (6, 5)
    assert (facts["num_evaluation"], facts["num_overlap"], facts["num_dropped"]) == (2, 1, 0)
    other_id = hashlib.sha256(b"user 15\nwhat is 2 + 1 ?").hexdigest()[:16]
    assert facts["overlap"] == [["2", other_id]]
    pairs = pq.read_table(run.path / "overlap.parquet").to_pylist()
    assert pairs == [{"question_id": "2", "evaluation_id": other_id}]
    content = run.table_path("pool").read_bytes()
    assert facts["digest"] == hashlib.sha256(content).hexdigest()

    again = make(tmp_path, "again", questions=questions, evaluation=held_out)
    pool.run(again)
    assert again.table_path("pool").read_bytes() == content


def test_notes_of_both_sources_are_recorded_and_shown(tmp_path, questions):
    rows = [{"prompt": "What is 9 + 9?", "answer": "18"}] * 3
    held_out = write_jsonl(tmp_path / "test.jsonl", rows)
    twice = tmp_path / "twice.jsonl"
    twice.write_text((tmp_path / "pool.jsonl").read_text() * 2)
    run = make(tmp_path, questions=str(twice), evaluation=held_out)
    pool.run(run)
    facts = run.stage_facts("pool")
    assert (facts["num_questions"], facts["num_evaluation"]) == (6, 1)
    first, second = facts["notes"]
    assert first.startswith(f"{twice}: left out 6 of 12 rows as duplicates")
    assert second.startswith(f"{held_out}: left out 2 of 3 rows as duplicates")
    assert list(notes(run))[:2] == facts["notes"]


def test_the_template_is_for_both_sources_and_bound(tmp_path):
    rows = [{"body": "Ann has 3.", "q": f"And {i}?", "answer": i} for i in range(4)]
    source = write_jsonl(tmp_path / "pool.jsonl", rows)
    test = write_jsonl(tmp_path / "test.jsonl", [{"body": "Bo:", "q": "And 9?", "answer": 9}])
    settings = {"questions": source, "evaluation": test, "template": "{body} {q}"}
    run = make(tmp_path, **settings)
    pool.run(run)
    asked = run.read_table("evaluation", made_by="run")["prompt"][0][0]["content"].as_py()
    assert asked == "Bo: And 9?"
    with pytest.raises(ConfigError, match=r"pool\.template: was .*\(used by pool\)"):
        make(tmp_path, **settings | {"template": "{body}\n{q}"})


def test_overlap_is_dropped_or_refused(tmp_path, questions, held_out):
    run = make(tmp_path, questions=questions, evaluation=held_out, on_overlap="drop")
    pool.run(run)
    assert run.read_table("pool", made_by="run")["id"].to_pylist() == list("01345")
    facts = run.stage_facts("pool")
    assert (facts["num_questions"], facts["num_dropped"], facts["num_overlap"]) == (5, 1, 1)

    run = make(tmp_path, "refuse", questions=questions, evaluation=held_out, on_overlap="refuse")
    with pytest.raises(DataError, match=r"1 pool questions are also in .*'2' is .*on_overlap"):
        pool.run(run)
    assert not run.is_done("pool") and not run.table_path("pool").exists()

    everything = {"questions": questions, "map": {"answer": "id"}, "on_overlap": "drop"}
    run = make(tmp_path, "all", evaluation=questions, **everything)
    with pytest.raises(DataError, match="dropping the overlap leaves none"):
        pool.run(run)


def test_held_out_questions_need_answers(tmp_path, questions):
    run = make(tmp_path, questions="world:default?num=5", evaluation=questions)
    with pytest.raises(DataError, match=r"1 of 6 held-out questions have no answer.*id '5'"):
        pool.run(run)


def test_limits_and_no_evaluation(tmp_path, questions, held_out):
    run = make(tmp_path, questions=questions, evaluation=held_out, limit=2, evaluation_limit=1)
    pool.run(run)
    facts = run.stage_facts("pool")
    assert (facts["num_questions"], facts["num_evaluation"]) == (2, 1)
    run = make(tmp_path, "alone", questions=questions)
    run.table_path("evaluation").write_bytes(b"of an attempt that was killed")
    pool.run(run)
    assert not run.table_path("evaluation").exists()
    assert run.stage_facts("pool")["num_evaluation"] == 0


def test_the_world_gives_its_evaluation_split_as_evaluation(tmp_path):
    run = make(tmp_path, questions="world:default", evaluation="world:default")
    pool.run(run)
    facts = run.stage_facts("pool")
    assert (facts["num_questions"], facts["num_evaluation"]) == (600, 400)
    assert facts["overlap"] == []


def test_the_oracle_alone_knows_the_answers(tmp_path):
    source = "world:default?num=20&seed=3"
    settings = PoolConfig(questions=source, evaluation="world:default?num=5")
    config = Config(output=tmp_path / "run", pool=settings, labels=LabelsConfig(source="oracle"))
    run = RunDir.create(config)
    pool.run(run)
    table = run.read_table("pool", made_by="run")
    assert table.schema == QUESTIONS
    assert table["answer"].null_count == 20 and run.stage_facts("pool")["num_with_answer"] == 0
    assert run.read_table("evaluation", made_by="run")["answer"].null_count == 0
    # What the oracle knows, it knows by the same ids.
    assert table["id"].equals(read_questions(source)["id"])


def test_the_oracle_knows_no_other_world(tmp_path, questions):
    settings = PoolConfig(questions=questions)
    config = Config(output=tmp_path / "run", pool=settings, labels=LabelsConfig(source="oracle"))
    with pytest.raises(ConfigError, match=r"knows the embedded world only.*pool.jsonl"):
        pool.run(RunDir.create(config))


def test_a_finished_pool_is_kept_unless_its_source_changed(tmp_path, questions, held_out):
    settings = {"questions": questions, "evaluation": held_out}
    run = make(tmp_path, **settings)
    pool.run(run)
    before = run.table_path("pool").stat().st_mtime_ns, run.manifest
    pool.run(make(tmp_path, **settings))
    assert (run.table_path("pool").stat().st_mtime_ns, run.manifest) == before

    original = (tmp_path / "pool.jsonl").read_bytes()
    (tmp_path / "pool.jsonl").write_bytes(original + b'{"id": 9, "question": "New?"}\n')
    with pytest.raises(DataError, match=r"pool.jsonl has changed since .*\(pool.questions\)"):
        pool.run(make(tmp_path, **settings))
    (tmp_path / "pool.jsonl").write_bytes(original)
    pool.run(make(tmp_path, **settings))

    # The run has its own copy: a source that is gone cannot disagree with it.
    (tmp_path / "pool.jsonl").unlink()
    pool.run(make(tmp_path, **settings))
    assert run.read_table("pool", made_by="run").num_rows == 6


def test_a_killed_pool_is_made_again(tmp_path, questions):
    run = make(tmp_path, questions=questions)
    run.table_path("pool").write_bytes(b"torn")
    pool.run(run)
    assert run.read_table("pool", made_by="run").num_rows == 6
    written = run.table_path("pool").read_bytes(), run.manifest
    run.table_path("pool").unlink()
    assert list(repair(run)) == [
        "damaged: pool.parquet (it is missing)",
        f"next: pivottrace run {run.path}",
    ]
    pool.run(run)
    assert (run.table_path("pool").read_bytes(), run.manifest) == written


def test_a_pool_that_would_be_another_is_not_made_again(tmp_path, questions):
    run = make(tmp_path, questions=questions)
    pool.run(run)
    run.mark_done("greedy")
    run.table_path("pool").unlink()
    list(repair(run))
    with (tmp_path / "pool.jsonl").open("a") as file:
        file.write('{"id": 9, "question": "New?"}\n')
    with pytest.raises(RunDirError, match=r"pool.parquet was made again, and it is not what it"):
        pool.run(run)
    assert not run.table_path("pool").exists()


def test_a_pool_that_is_refused_binds_nothing(tmp_path, questions):
    """Else the cure, another file or another setting of the pool, would be refused too."""
    config = Config(
        output=tmp_path / "run",
        pool=PoolConfig(questions=questions),
        labels=LabelsConfig(source="column", budget=6),
    )
    with pytest.raises(DataError, match="5 questions with an answer, and 6 may be chosen"):
        pool.run(RunDir.create(config))
    cured = PoolConfig(questions=write_jsonl(tmp_path / "whole.jsonl", WHOLE))
    run = RunDir.create(config.model_copy(update={"pool": cured}))
    pool.run(run)
    assert run.stage_facts("pool")["num_with_answer"] == 6


def test_a_wrong_map_is_a_message_not_a_pool(tmp_path, questions):
    run = make(tmp_path, questions=questions, map={"prompt": "quest"})
    with pytest.raises(DataError, match=r"no column 'quest'.*nearest is 'question'"):
        pool.run(run)
    run = make(tmp_path, "split", questions=questions, split="train")
    with pytest.raises(ConfigError, match="a single file has no splits"):
        pool.run(run)
