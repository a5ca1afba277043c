"""Half-labelled pools, people who differ, corrections, questions without an answer, more money."""

import csv
import shlex
import sqlite3
from contextlib import closing

import pyarrow as pa
import pytest
from report_run import make_run as fabricate

from pivottrace.cli import main
from pivottrace.commands.status import describe
from pivottrace.labels import budget, intake, requests
from pivottrace.labels.exchange import FileAnswer
from pivottrace.labels.option_answers import check_options
from pivottrace.labels.store import Given
from pivottrace.run.directory import FORGOTTEN, RunDir
from pivottrace.schemas import TRAINING_ROWS

PROBES, BUDGET = 12, 20
SECTIONS = {
    "rollouts": {"num_samples": 8, "sampling": "fixed"},
    "labels": {"budget": BUDGET, "source": "file"},
    "calibrate": {"num_probes": PROBES},
    "triage": {"hopeless": "annotate", "least_label_gain": 0.0},
    "train": {"enabled": False},
}
UNTIL = ["--until", "label"]


def make(tmp_path, **labels):
    sections = SECTIONS | {"labels": SECTIONS["labels"] | labels}
    return fabricate(tmp_path / "run", "sample", 60, **sections)


@pytest.fixture
def run(tmp_path):
    return make(tmp_path)


def truths_of(run):
    pool = run.read_table("pool", made_by="run").to_pylist()
    return {row["id"]: row["answer"] for row in pool}


def asked(run, purpose="probe"):
    names = sorted(run.path.glob(requests.FILES[purpose].replace(".csv", "*.csv")))
    with names[-1].open(encoding="utf-8-sig", newline="") as file:
        return [row["id"] for row in csv.DictReader(file)]


def take_in(run, answers, *flags, annotator=""):
    path = run.path.parent / "filled.csv"
    rows = "".join(f"{i},{answer},{annotator}\n" for i, answer in answers.items())
    path.write_text("id,answer,annotator\n" + rows)
    return main(["label", "import", str(run.path), str(path), *flags])


def answer_all(run, purpose, truths):
    assert take_in(run, {i: truths[i] for i in asked(run, purpose)}) == 0


def labelled(run):
    """The run after both requests were answered in full, and the truths."""
    truths = truths_of(run)
    for purpose in ("probe", "annotation"):
        assert main(["run", str(run.path), *UNTIL]) == 3
        answer_all(run, purpose, truths)
    assert main(["run", str(run.path), *UNTIL]) == 0
    return truths


def triage_of(run):
    rows = run.read_table("triage", made_by="triage").to_pylist()
    return {row["question_id"]: row for row in rows}


def test_a_half_labelled_pool_uses_its_answers_and_asks_for_the_rest(tmp_path, capsys):
    run = make(tmp_path, source=None)
    truths = truths_of(run)
    owned = {i for n, i in enumerate(truths) if n % 2}
    pool = run.read_table("pool", made_by="run")
    answers = pa.array([a if i in owned else None for i, a in truths.items()], pa.string())
    place = pool.schema.get_field_index("answer")
    run.write_table("pool", pool.set_column(place, "answer", answers))
    facts = run.stage_facts("pool") | {"num_questions": 60, "num_with_answer": len(owned)}
    run.mark_done("pool", **{k: v for k, v in facts.items() if k != "settings"})
    rollouts = {p: p.stat().st_mtime_ns for p in run.round_path.glob("*/part-*")}

    assert main(["run", str(run.path), *UNTIL]) == 3
    drawn = set(run.read_table("probes", made_by="calibrate")["question_id"].to_pylist())
    assert set(asked(run)) == drawn - owned and len(drawn) == PROBES
    answer_all(run, "probe", truths)
    assert main(["run", str(run.path), *UNTIL]) == 3
    assert not set(asked(run, "annotation")) & owned
    answer_all(run, "annotation", truths)
    assert main(["run", str(run.path), *UNTIL]) == 0
    assert len(budget.bought(run)) == BUDGET  # all of it was left for other questions
    assert budget.true_answers(run).keys() >= owned
    assert run.stage_facts("label")["labels_owned"] == len(owned)
    reasons = {row["reason"] for i, row in triage_of(run).items() if i in owned - drawn}
    known = {"annotate_labelled", "labelled_mastered", "labelled_hopeless"}
    assert {reason for reason in reasons if not reason.startswith("failed")} <= known
    assert {p: p.stat().st_mtime_ns for p in run.round_path.glob("*/part-*")} == rollouts


def test_people_who_differ_wait_for_somebody_who_settles_it(run, capsys):
    assert main(["run", str(run.path), *UNTIL]) == 3
    truths, first = truths_of(run), asked(run)[0]
    answer_all(run, "probe", truths)
    assert take_in(run, {first: "999"}, annotator="Bob") == 0
    assert "1 answer differs" in capsys.readouterr().out
    assert main(["label", "conflicts", str(run.path)]) == 0
    listed = capsys.readouterr().out
    assert first in listed and "999  by Bob" in listed and f"{truths[first]}  by" in listed
    assert listed.endswith(f"to settle: pivottrace label correct {run.path} {first} ANSWER\n")
    assert main(["run", str(run.path), *UNTIL]) == 3
    waiting = capsys.readouterr().err
    assert "1 question has answers that differ" in waiting
    assert f"pivottrace label correct {run.path} {first} ANSWER" in waiting
    assert main(["status", str(run.path)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"next: settle 1 question: pivottrace label conflicts {run.path}"
    settle = ["label", "correct", str(run.path), first, truths[first], "--by", "Cy"]
    assert main(settle) == 0
    assert budget.labels_of(run)[first].annotator == "Cy"
    assert main(["run", str(run.path), "--until", "calibrate"]) == 0
    assert main(["label", "conflicts", str(run.path)]) == 0
    assert "no answers differ" in capsys.readouterr().out


def test_a_question_that_cannot_be_answered_leaves_the_pool(run, capsys):
    truths = truths_of(run)
    assert main(["run", str(run.path), *UNTIL]) == 3
    probe = asked(run)[0]
    assert take_in(run, {i: truths[i] for i in asked(run)} | {probe: "cannot be answered"}) == 0
    assert '1 of them "cannot be answered"' in capsys.readouterr().out
    assert main(["run", str(run.path), *UNTIL]) == 3
    assert triage_of(run)[probe]["route"] == "discard"
    assert triage_of(run)[probe]["reason"] == "cannot_be_answered"
    assert run.stage_facts("calibrate")["num_probes"] == PROBES - 1
    assert len(asked(run, "annotation")) == BUDGET - PROBES  # it was paid for
    late = asked(run, "annotation")[0]
    answers = {i: truths[i] for i in asked(run, "annotation")} | {late: "unanswerable"}
    assert take_in(run, answers) == 0
    assert main(["run", str(run.path), *UNTIL]) == 0
    assert late not in budget.true_answers(run) and len(budget.bought(run)) == BUDGET


def test_a_label_is_corrected_and_what_used_it_is_made_again(run, capsys):
    truths = labelled(run)
    probe = asked(run)[0]
    before = run.read_table("evidence", made_by="calibrate").to_pylist()
    rollouts = {p: p.stat().st_mtime_ns for p in run.round_path.glob("rollouts*/part-*")}
    command = ["label", "correct", str(run.path), probe, "999"]
    capsys.readouterr()
    assert main(command) == 2
    message = capsys.readouterr().err
    assert "made again: calibrate, triage, label." in message
    assert message.endswith(f": pivottrace {shlex.join(command)} --redo\n")
    assert budget.true_answers(run)[probe] == truths[probe]
    spent = sum(run.seconds().values())
    assert main([*command, "--redo"]) == 0
    assert not run.is_done("calibrate") and not run.table_path("triage").exists()
    # A forgotten stage shows no time, and what it took still counts as spent.
    lines = {line.strip() for line in describe(run)}
    assert {"to do calibrate", "to do triage"} <= lines
    assert sum(run.seconds().values()) == pytest.approx(spent) and run.seconds()[FORGOTTEN]
    assert main(["run", str(run.path), *UNTIL]) in (0, 3)
    after = run.read_table("evidence", made_by="calibrate").to_pylist()
    assert [r["question_id"] for r in after] == [r["question_id"] for r in before]
    assert next(r for r in after if r["question_id"] == probe)["num_correct"] == 0
    assert {p: p.stat().st_mtime_ns for p in run.round_path.glob("rollouts*/part-*")} == rollouts
    assert len(budget.bought(run)) == BUDGET
    # The correction is taken back: the routes of before come again.
    assert main(["label", "correct", str(run.path), probe, truths[probe], "--redo"]) == 0
    assert main(["run", str(run.path), *UNTIL]) == 0


def test_a_file_replaces_labels_if_asked_to(run, capsys):
    assert main(["run", str(run.path), *UNTIL]) == 3
    truths, first = truths_of(run), asked(run)[0]
    answer_all(run, "probe", truths)
    capsys.readouterr()
    assert take_in(run, {first: "999"}, "--replace") == 0
    assert "0 new labels taken in, 1 replaced" in capsys.readouterr().out
    assert budget.true_answers(run)[first] == "999"
    path = run.path.parent / "two.csv"
    path.write_text(f"id,answer\n{first},1\n{first},2\n")
    assert main(["label", "import", str(run.path), str(path), "--replace"]) == 2
    assert "with --replace, keep one of them" in capsys.readouterr().err


def test_text_where_the_model_gives_numbers_is_refused_unless_confirmed(tmp_path, capsys):
    run = fabricate(tmp_path / "run", "sample", 60, answers={"verifier": "math"}, **SECTIONS)
    assert main(["run", str(run.path), *UNTIL]) == 3
    votes = run.read_table("votes", made_by="sample").to_pylist()
    voted = {row["question_id"] for row in votes if row["vote_answer"]}
    first = next(i for i in asked(run) if i in voted)
    capsys.readouterr()
    assert take_in(run, {first: "not answerable at all"}) == 2
    message = capsys.readouterr().err
    assert "row 1" in message and "reads as text" in message and "--confirm" in message
    assert "Write it in that form, such as 1235, 1235.50 or 1235 CHF, or confirm" in message
    assert take_in(run, {first: "not answerable at all"}, "--confirm") == 0
    assert budget.true_answers(run)[first] == "not answerable at all"


@pytest.mark.parametrize("verifier", ["choice", "math"])
def test_answers_are_compared_with_the_options_of_their_question(verifier):
    question = "Which is tin?\nA) Na\nB) 50\nC) Sn\nD) K"
    answers = ("B", "E", "50", "K", "Sb")
    rows = [FileAnswer("q", answer, None, f"row {i}") for i, answer in enumerate(answers)]
    found = check_options(rows, {"q": question}, verifier)
    refused = [problem.split(":")[0] for problem in found.problems]
    if verifier == "math":
        assert refused == ["row 1"]
        assert [row.answer for row in found.rows] == ["B", "50", "K", "Sb"]
        return
    assert refused == ["row 1", "row 4"]
    assert "'E' is no option of question 'q', which has A to D" in found.problems[0]
    assert [row.answer for row in found.rows] == ["B", "B", "D"]
    assert found.notes == ["question 'q': '50' is option B", "question 'q': 'K' is option D"]
    assert check_options(rows, {"q": "Which is tin?"}, verifier).rows == rows


def test_a_letter_that_looks_like_a_digit_is_refused_and_another_form_is_told(tmp_path, capsys):
    run = fabricate(tmp_path / "run", "sample", 60, answers={"verifier": "math"}, **SECTIONS)
    assert main(["run", str(run.path), *UNTIL]) == 3
    votes = run.read_table("votes", made_by="sample").to_pylist()
    voted = {row["question_id"] for row in votes if row["vote_answer"]}
    first, second = [i for i in asked(run) if i in voted][:2]
    for slip in ("4o", "1O coins", "l2"):
        capsys.readouterr()
        assert take_in(run, {first: slip}) == 2
        assert "a letter that looks like a digit" in capsys.readouterr().err
    assert take_in(run, {first: "40p", second: "7"}) == 0
    told = capsys.readouterr().out
    assert f"question {first}: '40p' reads as expression, and the model's answers as number" in told
    assert second not in told


def test_more_money_after_triage_is_taken(run, capsys):
    truths = truths_of(run)
    assert main(["run", str(run.path), *UNTIL]) == 3
    answer_all(run, "probe", truths)
    assert main(["run", str(run.path), *UNTIL]) == 3
    chosen = asked(run, "annotation")
    assert take_in(run, {i: truths[i] for i in chosen[:3]}) == 0
    assert main(["run", str(run.path), *UNTIL, "--budget", "30"]) == 3
    assert "labels.budget was 20 and is 30" in capsys.readouterr().err
    assert len(budget.bought(run)) == PROBES + 3
    answer_all(run, "annotation", truths)
    assert main(["run", str(run.path), *UNTIL]) == 0
    assert len(budget.bought(run)) == 30


def test_after_training_a_changed_setting_says_what_can_be_made_again(run, capsys):
    truths = labelled(run)
    rows = [{"question_id": next(iter(truths)), "route": "annotate", "weight": 1.0}]
    run.write_table("training_rows", pa.Table.from_pylist(rows, schema=TRAINING_ROWS))
    run.mark_done("train", trained=False)
    (run.round_path / "train" / "model").mkdir(parents=True)
    capsys.readouterr()
    assert main(["run", str(run.path), "--budget", "30"]) == 2
    message = capsys.readouterr().err
    command = f"pivottrace redo {run.path} calibrate --labels.budget 30"
    assert message.endswith(f": {command}\n")
    assert main(command.split()[1:]) == 0
    assert "forgotten: calibrate, triage, label, train" in capsys.readouterr().out
    read = RunDir.open(run.path)
    assert read.config.labels.budget == 30 and not (run.round_path / "train").exists()
    assert main(["redo", str(run.path), "score"]) == 2
    assert main(["run", str(run.path), *UNTIL]) == 3


@pytest.mark.parametrize("answer", ["cannot be answered", ""])
def test_a_file_without_any_answer_to_compare_is_taken_in(run, answer):
    assert main(["run", str(run.path), *UNTIL]) == 3
    assert take_in(run, dict.fromkeys(asked(run)[:2], answer)) == 0
    assert main(["label", "correct", str(run.path), asked(run)[0], "cannot be answered"]) == 0


@pytest.mark.parametrize(
    "wrong",
    [("nobody", "5"), (None, "don't know"), (None, "5?")],
)
def test_an_answer_that_is_refused_forgets_no_stage(run, wrong):
    labelled(run)
    question_id, answer = wrong[0] or asked(run)[0], wrong[1]
    assert main(["label", "correct", str(run.path), question_id, answer, "--redo"]) == 2
    file = run.path.parent / "wrong.csv"
    file.write_text(f"id,answer\n{asked(run)[0]},999\n{question_id},25?\n")
    assert main(["label", "import", str(run.path), str(file), "--replace", "--redo"]) == 2
    assert run.is_done("calibrate") and run.is_done("label")


def test_a_lost_table_does_not_let_a_used_label_change_unseen(run, capsys):
    truths = labelled(run)
    probe = next(iter(set(truths) & set(asked(run))))
    run.table_path("evidence").unlink()
    for _ in range(2):  # before the repair, and after it
        assert main(["label", "correct", str(run.path), probe, "9999"]) == 2
        assert "calibrate has used this label already" in capsys.readouterr().err
        assert main(["repair", str(run.path)]) == 0
    assert main(["run", str(run.path), *UNTIL]) == 0
    assert budget.true_answers(run)[probe] == truths[probe]


def test_a_budget_below_the_labels_forgets_no_stage(run, capsys):
    labelled(run)
    before = run.manifest["rounds"]
    assert main(["run", str(run.path), *UNTIL, "--budget", str(BUDGET - 1)]) == 2
    assert f"{BUDGET} are bought already" in capsys.readouterr().err
    assert run.manifest["rounds"] == before and run.table_path("triage").is_file()


def test_a_redo_keeps_the_number_of_probes_of_a_draw_in_two_stages(tmp_path):
    sections = SECTIONS | {"calibrate": {"num_probes": PROBES, "draw": "adaptive"}}
    run = fabricate(tmp_path / "run", "sample", 60, **sections)
    assert main(["run", str(run.path), *UNTIL]) == 3
    first, truths = asked(run)[0], truths_of(run)
    assert take_in(run, {first: truths[first]}) == 0
    assert main(["redo", str(run.path), "calibrate"]) == 0
    assert run.begun_facts("calibrate")["probes_wanted"] == PROBES


def test_settling_for_the_label_that_was_used_makes_nothing_again(run, capsys):
    truths = labelled(run)
    probe = run.read_table("evidence", made_by="calibrate")["question_id"].to_pylist()[0]
    assert take_in(run, {probe: "999"}, annotator="Bob") == 0
    assert "answers that differ: pivottrace label conflicts" in "\n".join(describe(run))
    assert main(["label", "correct", str(run.path), probe, truths[probe]]) == 0
    assert run.is_done("triage") and budget.true_answers(run)[probe] == truths[probe]


def test_paid_labels_that_are_lost_are_missed_beside_owned_ones(run, capsys):
    labelled(run)
    labels = budget.labels_of(run)
    with closing(sqlite3.connect(run.path / budget.STORE)) as store, store:
        store.execute("DELETE FROM answers")
    owned = [
        Given(i, label.answer, "column", "annotation", owned=True) for i, label in labels.items()
    ]
    intake.open_store(run).add_many(owned)
    assert main(["run", str(run.path), *UNTIL]) == 2
    assert f"holds 0 labels, and the run has paid for {BUDGET}" in capsys.readouterr().err


def test_a_confirmed_answer_leaves_the_reading_of_the_others_as_it_is():
    question = "Which is tin?\nA) Na\nB) Sn"
    rows = [FileAnswer("q", answer, None, "row") for answer in ("Sn", "E")]
    found = check_options(rows, {"q": question}, "choice", confirmed=True)
    assert [row.answer for row in found.rows] == ["B", "E"] and not found.problems
