"""Routes and held-out accuracy by a column of the questions, worked by hand."""

import json

import pyarrow as pa
import pytest

from pivottrace.config import parse_config
from pivottrace.report import build_report
from pivottrace.report.breakdown import breakdown, kind_of_each
from pivottrace.run.directory import RunDir
from pivottrace.schemas import EVALUATION, QUESTIONS, TRIAGE


def make_run(path, pool, held_out=()):
    """A run whose questions have these extra columns."""
    run = RunDir.create(parse_config({"output": str(path)}, where="test"))
    for table, extras in (("pool", pool), ("evaluation", held_out)):
        rows = [
            {
                "id": f"q{number}",  # pool and held-out questions may have the same ids
                "prompt": [{"role": "user", "content": f"{table} {number}"}],
                "answer": "1",
                "source": "test",
                "extra": None if extra is None else json.dumps(extra),
            }
            for number, extra in enumerate(extras)
        ]
        if rows:
            run.write_table(table, pa.Table.from_pylist(rows, schema=QUESTIONS))
    run.mark_done("pool", num_questions=len(pool), num_with_answer=len(pool))
    return run


def route(run, routes):
    rows = [{"question_id": f"q{number}", "route": each} for number, each in enumerate(routes)]
    run.write_table("triage", pa.Table.from_pylist(rows, schema=TRIAGE))


def evaluate(run, when, verdicts):
    rows = [
        {"question_id": f"q{number}", "sample": sample, "correct": right}
        for number, samples in enumerate(verdicts)
        for sample, right in enumerate(samples)
    ]
    run.write_table(f"evaluation_{when}", pa.Table.from_pylist(rows, schema=EVALUATION))


SUM, GAME = {"task": "chain_sum"}, {"task": "countdown"}


def test_groups_have_their_routes_and_their_accuracy(tmp_path):
    run = make_run(tmp_path, [SUM, GAME, SUM, SUM], [SUM, SUM, GAME])
    route(run, ["weak", "defer", "weak", "annotate"])
    evaluate(run, "before", [[True, False], [False, False], [True, True]])
    evaluate(run, "after", [[True, True], [True, False], [True, True]])
    [sums, games] = breakdown(run)["task"]
    assert (sums.value, sums.num_questions, sums.num_held_out) == ("chain_sum", 3, 2)
    assert sums.routes == {"weak": 2, "annotate": 1} and games.routes == {"defer": 1}
    assert (sums.before, sums.after) == (0.25, 0.75)
    assert sums.difference.mean == pytest.approx(0.5)
    assert (games.before, games.after, games.difference.mean) == (1.0, 1.0, 0.0)


def test_a_group_of_held_out_questions_alone_is_shown_and_so_are_questions_without_a_value(
    tmp_path,
):
    run = make_run(tmp_path, [SUM, None, {}], [GAME])
    groups = breakdown(run)["task"]
    assert [(g.value, g.num_questions, g.num_held_out) for g in groups] == [
        ("", 2, 0),
        ("chain_sum", 1, 0),
        ("countdown", 0, 1),
    ]
    assert all(g.before is None and g.difference is None and not g.routes for g in groups)


def test_columns_that_tell_nothing_are_left_out(tmp_path):
    same = [{"task": "a", "level": "easy", "subject": "x"}, {"task": "b", "level": "hard"}]
    many = [{"family": str(number)} for number in range(41)]
    assert list(breakdown(make_run(tmp_path / "same", same))) == ["task"]  # level splits as task
    assert breakdown(make_run(tmp_path / "one", [SUM, SUM])) == {}
    assert breakdown(make_run(tmp_path / "many", many)) == {}
    assert list(breakdown(make_run(tmp_path / "few", many[:40]))) == ["family"]


def test_each_question_of_the_pool_has_a_kind(tmp_path):
    run = make_run(tmp_path / "two", [SUM, None, GAME], [SUM])
    assert kind_of_each(run) == ("task", {"q0": "chain_sum", "q1": "", "q2": "countdown"})
    assert kind_of_each(make_run(tmp_path / "one", [SUM, SUM], [GAME])) is None


def test_a_difficulty_is_read_as_words(tmp_path):
    levels = [{"difficulty": {"terms": [2, 6], "kinds": ["a", "b"]}}, {"difficulty": 1.0}]
    groups = breakdown(make_run(tmp_path, levels))["difficulty"]
    assert [group.value for group in groups] == ["1.0", "terms 2 to 6, kinds a, b"]


def test_hostile_values_do_nothing_on_the_page(tmp_path):
    run = make_run(tmp_path, [{"task": "<script>x</script>"}, SUM])
    page = build_report(run, []).read_text()
    assert "Kinds of questions" in page
    assert "<script>x" not in page and "&lt;script&gt;x" in page


def test_a_new_run_has_none(tmp_path):
    assert breakdown(make_run(tmp_path, [])) == {}
