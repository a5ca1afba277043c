"""What is bought or asked of people, in which order, and what `labels.partial` does without."""

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from report_run import make_run as fabricate

import pivottrace.label_sources.oracle
from pivottrace.errors import BudgetError, DataError, LabelsNeeded, RunDirError
from pivottrace.label_sources import label_sources
from pivottrace.labels import budget, buying, importing, intake, requests
from pivottrace.labels.store import Given
from pivottrace.schemas import TRIAGE
from pivottrace.stages import calibrate, label, train, triage
from pivottrace.verifier import Verifier

PROBES, BUDGET = 12, 20


@pytest.fixture
def scored(tmp_path):
    """A run of 60 questions that is scored, and so about to ask for its probes' labels."""

    def make(source="file", partial=False):
        sections = {
            "labels": {"budget": BUDGET, "source": source, "partial": partial},
            "calibrate": {"num_probes": PROBES},
            "triage": {
                "hopeless": "annotate",
                "least_label_gain": 0.0,
            },  # so that the whole budget is asked for
        }
        return fabricate(tmp_path / "run", "sample", 60, **sections)

    return make


def answer(run, ids):
    """People answer these questions: an import of a file of their own."""
    pool = run.read_table("pool", made_by="run").to_pylist()
    truths = {row["id"]: row["answer"] for row in pool}
    path = run.path / "answers.jsonl"
    path.write_text("".join(json.dumps({"id": i, "answer": truths[i]}) + "\n" for i in ids))
    found = importing.store_file(run, importing.read_file(run, path))
    return found.new, found.blank


def asked(run, purpose):
    """Ids in the file that was written for people, in its order."""
    text = (run.path / requests.FILES[purpose]).read_text(encoding="utf-8-sig")
    return [line.split(",")[0] for line in text.splitlines()[1:]]


def to_the_labels(run, answered):
    """Calibrate on the first so many probes and triage; returns what annotation then asks for."""
    with pytest.raises(LabelsNeeded, match="12 probe questions"):
        calibrate.run(run)
    answer(run, asked(run, "probe")[:answered])
    calibrate.run(run)
    triage.run(run)
    with pytest.raises(LabelsNeeded):
        label.run(run)
    return asked(run, "annotation")


def test_without_partial_each_request_is_answered_in_full(scored):
    run = scored()
    for missing, given in ((12, 1), (11, 10), (1, 1)):
        with pytest.raises(LabelsNeeded, match=f"^{missing} probe question"):
            calibrate.run(run)
        answer(run, asked(run, "probe")[:given])
    calibrate.run(run)
    triage.run(run)
    with pytest.raises(LabelsNeeded):
        label.run(run)
    rows = asked(run, "annotation")
    assert len(rows) == BUDGET - PROBES
    answer(run, rows[:-1])
    with pytest.raises(LabelsNeeded, match=r"^1 question waits"):
        label.run(run)
    answer(run, rows)
    label.run(run)
    assert len(budget.bought(run)) == BUDGET


def test_partial_still_asks_for_both_purposes(scored):
    run = scored(partial=True)
    for _ in range(2):  # going on without any answer is not going on with what there is
        with pytest.raises(LabelsNeeded, match="12 probe questions"):
            calibrate.run(run)
    assert answer(run, asked(run, "probe")[:3]) == (3, 0)
    calibrate.run(run)
    assert run.stage_facts("calibrate")["num_probes"] == 3
    assert run.stage_facts("calibrate")["labels_asked"] == PROBES
    triage.run(run)
    for _ in range(2):  # the probes' labels are not answers to this request
        with pytest.raises(LabelsNeeded):
            label.run(run)
        assert not run.is_done("label")
    rows = asked(run, "annotation")
    assert len(rows) == BUDGET - 3
    assert answer(run, rows[:2]) == (2, 0)
    label.run(run)
    facts = run.stage_facts("label")
    assert (facts["labels_asked"], facts["labels_used"]) == (len(rows), 5)
    _, left_out = train.read_training_rows(run)
    assert left_out["unlabelled"] == len(rows) - 2


def test_a_probe_that_nobody_labelled_may_be_asked_for_again(scored):
    run = scored(partial=True)
    rows = to_the_labels(run, answered=3)
    again = set(rows) & set(asked(run, "probe"))
    assert again
    answer(run, again)
    label.run(run)  # answers to this request, though they were probes once
    labels = budget.bought(run)
    assert {labels[i].purpose for i in again} == {"annotation"}


def test_late_probes_are_refused_and_the_budget_stays_whole(scored):
    run = scored(partial=True)
    rows = to_the_labels(run, answered=3)
    probes = asked(run, "probe")
    late = [i for i in probes[3:] if i not in rows]
    assert late
    with pytest.raises(DataError, match=f"{late[0]}.*does not wait for a label"):
        answer(run, [*rows, *late])
    assert len(budget.bought(run)) == 3
    assert answer(run, [*probes[:3], *rows]) == (BUDGET - 3, 0)  # what is there already may return
    assert len(budget.bought(run)) == BUDGET
    label.run(run)


def test_an_import_beyond_the_budget_takes_nothing_in(scored):
    run = scored()
    rows = to_the_labels(run, answered=PROBES)
    other = next(
        i for i in (f"q-{k:04d}" for k in range(60)) if i not in {*rows, *asked(run, "probe")}
    )
    intake.open_store(run).add_many([Given(other, "1", "oracle", "annotation")])
    with pytest.raises(BudgetError, match="8 new labels on top of 13 pass the budget of 20"):
        answer(run, rows)
    assert len(budget.bought(run)) == PROBES + 1
    with pytest.raises(BudgetError, match="8 labels are needed and 7 are left"):
        label.run(run)


def test_export_asks_for_what_waits_now(scored):
    run = scored(partial=True)
    with pytest.raises(RunDirError, match="no question waits for a label"):
        requests.export(run)
    rows = to_the_labels(run, answered=3)
    path = requests.export(run, run.path / "again.csv")
    lines = path.read_text(encoding="utf-8-sig").splitlines()[1:]
    assert [line.split(",")[0] for line in lines] == rows
    assert {line.split(",")[-1] for line in lines} == {"annotation"}


def without_answers(run, ids):
    """Empty the pool's answer column at these questions."""
    pool = run.read_table("pool", made_by="run")
    answers = [
        None if i in ids else a
        for i, a in zip(pool["id"].to_pylist(), pool["answer"].to_pylist(), strict=True)
    ]
    index = pool.schema.get_field_index("answer")
    run.write_table("pool", pool.set_column(index, "answer", pa.array(answers, pa.string())))


def test_a_column_with_gaps_is_an_error_or_partial(scored):
    run = scored("column")
    without_answers(run, {f"q-{i:04d}" for i in range(30)})
    with pytest.raises(DataError, match=r"q-00\d\d.*no answer in its answer column \(\d+ of 12"):
        calibrate.run(run)
    assert len(budget.bought(run)) == 0
    run.config.labels.partial = True
    for stage in (calibrate, triage, label):
        stage.run(run)
    probes, rows = run.stage_facts("calibrate"), run.stage_facts("label")
    assert 0 < probes["num_probes"] < probes["labels_asked"] == PROBES
    assert probes["num_probes"] < rows["labels_used"] <= BUDGET


def test_a_column_without_any_answer_is_an_error_with_partial_too(scored):
    run = scored("column", partial=True)
    everything = {f"q-{i:04d}" for i in range(60)}
    whole = run.read_table("pool", made_by="run")
    without_answers(run, everything)
    with pytest.raises(DataError, match=r"12 of 12 chosen.*one answer is needed at least"):
        calibrate.run(run)
    # Once there are probes it goes on: nobody could add to the column's answers.
    run.write_table("pool", whole)
    calibrate.run(run)
    triage.run(run)
    without_answers(run, everything)
    label.run(run)
    assert run.stage_facts("label")["labels_used"] == PROBES


@pytest.fixture
def oracle(monkeypatch):
    """An oracle that keeps a list of what it was asked."""
    heard = []

    def answers(asked):
        heard.extend(asked.question_ids)
        return dict.fromkeys(asked.question_ids, "7")

    fake = replace(label_sources()["oracle"], answers=answers)
    monkeypatch.setattr(pivottrace.label_sources.oracle, "ORACLE", fake)
    return heard


@pytest.mark.parametrize("partial", [False, True])
def test_the_oracle_is_asked_for_the_labels_that_are_bought(scored, oracle, partial):
    run = scored("oracle", partial)
    for stage in (calibrate, triage, label):
        stage.run(run)
    labels = budget.bought(run)
    assert sorted(oracle) == list(labels)
    counts = [run.stage_facts(stage)["labels_asked"] for stage in ("calibrate", "label")]
    assert counts[0] == PROBES and sum(counts) == len(labels) == len(oracle) == BUDGET


def test_the_oracle_is_not_asked_beyond_the_budget(scored, oracle):
    run = scored("oracle")
    with pytest.raises(BudgetError, match="21 labels are needed and 20 are left"):
        buying.obtain(run, [f"q-{i:04d}" for i in range(21)], "probe")
    assert oracle == []


ROWS = {"a": (0.1, 0.9), "b": (0.4, 0.2), "d": (0.4, 0.7), "c": (0.4, 0.7), "e": (None, 0.95)}
BY_VALUE = ["c", "d", "b", "a", "e"]


def test_the_most_valuable_label_is_asked_for_first(make_run):
    run = make_run("run", labels={"source": "file", "budget": 5})
    run.mark_done("pool", num_questions=5)
    pool = [{"id": i, "prompt": [{"role": "user", "content": "?"}], "source": "test"} for i in ROWS]
    run.write_table("pool", pa.Table.from_pylist(pool))
    rows = [
        {"question_id": i, "route": "annotate", "priority": priority, "rank": rank}
        for i, (priority, rank) in ROWS.items()
    ]
    run.write_table("triage", pa.Table.from_pylist(rows, schema=TRIAGE))
    with pytest.raises(LabelsNeeded):
        label.run(run)
    assert asked(run, "annotation") == BY_VALUE
    triage.write_route_files(run)
    path = run.round_path / "routes" / "annotate.parquet"
    assert pq.read_table(path)["id"].to_pylist() == BY_VALUE
    lines = path.with_suffix(".jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == BY_VALUE


def test_what_the_verifier_gave_up_on_is_recorded(scored, monkeypatch):
    facts = {"verifier_timeouts": 3, "verifier_crashes": 2}
    monkeypatch.setattr(Verifier, "facts", lambda self: facts)
    run = scored("column")
    calibrate.run(run)
    for stage in ("sample", "calibrate"):
        assert facts.items() <= run.stage_facts(stage).items()
