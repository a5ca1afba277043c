"""Labels through the commands, on a fabricated run that is about to ask for its probes."""

import csv
import sqlite3
from contextlib import closing

import pyarrow as pa
import pytest
from report_run import make_run as fabricate

from pivottrace.cli import main
from pivottrace.commands.status import describe
from pivottrace.ingest.prompts import last_user_message
from pivottrace.labels import budget
from pivottrace.labels.store import LabelStore
from pivottrace.pipeline import unfinished
from pivottrace.report import build_report
from pivottrace.run.directory import RunDir

PROBES, BUDGET = 12, 20


@pytest.fixture
def run(tmp_path):
    return fabricate(
        tmp_path / "run",
        "sample",
        60,
        # So the ranking may change until the first label: stepwise sampling stops by it.
        rollouts={"num_samples": 8, "sampling": "fixed"},
        labels={"budget": BUDGET, "source": "file"},
        calibrate={"num_probes": PROBES},
        triage={"hopeless": "annotate", "least_label_gain": 0.0},
        train={"enabled": False},
    )


def ids_of(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return [row["id"] for row in csv.DictReader(file)]


def unasked_of(asked):
    """Two questions of the run that do not wait for a label."""
    return [i for i in (f"q-{n:04d}" for n in range(60)) if i not in asked][:2]


def fill(run, path, ids=None, **wrong):
    """A file of answers to the questions of `path`, beside the run."""
    pool = run.read_table("pool", made_by="run").to_pylist()
    truths = {row["id"]: row["answer"] for row in pool} | wrong
    filled = run.path.parent / "filled.csv"
    rows = [f"{i},{truths.get(i, '1')}\n" for i in (ids_of(path) if ids is None else ids)]
    filled.write_text("id,answer\n" + "".join(rows))
    return filled


def test_both_stops_say_what_to_fill_in_and_the_run_goes_on(run, capsys):
    until = ["--until", "label"]
    for name, what, number in (
        ("probes_to_label.csv", f"{PROBES} probe questions wait", PROBES),
        ("annotate_to_label.csv", f"{BUDGET - PROBES} questions wait", BUDGET - PROBES),
    ):
        assert main(["run", str(run.path), *until]) == 3
        waiting = capsys.readouterr().err
        assert what in waiting and f"pivottrace label import {run.path}" in waiting
        asked = run.path / name
        assert len(ids_of(asked)) == number
        assert (run.path / "report.html").is_file()

        assert main(["status", str(run.path)]) == 0
        last = capsys.readouterr().out.splitlines()[-1]
        command = f"pivottrace label import {run.path} {asked}"
        page = f"or answer in the browser: pivottrace label serve {run.path}"
        assert last == f"next: fill in `answer` in {asked}, then: {command}; {page}"
        assert f"pivottrace label serve {run.path}" in waiting

        again = run.path.parent / f"again-{name}"
        assert main(["label", "export", str(run.path), str(again)]) == 0
        assert f"pivottrace label import {run.path} {again}" in capsys.readouterr().out
        assert ids_of(again) == ids_of(asked)

        assert main(["label", "import", str(run.path), str(fill(run, asked))]) == 0
        assert f"{number} new labels" in capsys.readouterr().out
        assert main(["status", str(run.path)]) == 0
        assert "label import" not in capsys.readouterr().out
    assert main(["run", str(run.path), *until]) == 0
    assert RunDir.open(run.path).stage_facts("label")["labels_used"] == BUDGET
    assert main(["label", "export", str(run.path)]) == 1
    assert "no question waits for a label" in capsys.readouterr().err


def test_wrong_rows_are_refused_by_file_and_row_and_nothing_is_taken_in(run, capsys):
    assert main(["calibrate", str(run.path)]) == 3
    asked = ids_of(run.path / "probes_to_label.csv")
    stranger, other = unasked_of(asked)
    assert main(["label", "import", str(run.path), str(fill(run, None, asked[:2]))]) == 0
    capsys.readouterr()
    for ids, wrong, words in (
        ([asked[2], "nobody"], {}, "row 2 (line 3), column id: 'nobody' is not a question"),
        ([asked[2], stranger], {}, f"row 2 (line 3): question '{stranger}' does not wait for"),
        ([stranger, asked[2], other], {}, f"the same holds for row 3 (line 4) '{other}'. Fill in"),
        ([asked[2], asked[0]], {asked[0]: "9?"}, "row 2 (line 3), column answer: '9?' is a guess"),
    ):
        file = fill(run, None, ids, **wrong)
        assert main(["label", "import", str(run.path), str(file)]) == 2
        message = capsys.readouterr().err
        assert str(file) in message and words in message
        assert budget.bought(run).keys() == set(asked[:2])


def test_rows_that_nobody_asked_for_are_skipped_on_request(run, capsys):
    assert main(["calibrate", str(run.path)]) == 3
    asked = ids_of(run.path / "probes_to_label.csv")
    stranger, other = unasked_of(asked)
    # A row that is skipped may be as wrong as it likes; the others are still checked.
    unread = {stranger: "9?", "nobody": ""}
    file = fill(run, None, [stranger, asked[0], "nobody", other, asked[1]], **unread)
    command = ["label", "import", str(run.path), str(file)]
    assert main(command) == 2
    capsys.readouterr()
    assert main([*command, "--skip-unasked"]) == 0
    printed = capsys.readouterr().out
    assert f"2 new labels taken in, 3 rows skipped ({stranger}, nobody, {other}); next" in printed
    assert budget.bought(run).keys() == set(asked[:2])
    file = fill(run, None, [stranger, asked[2]], **{asked[2]: "9?"})
    assert main([*command, "--skip-unasked"]) == 2
    assert "row 2 (line 3), column answer: '9?' is a guess" in capsys.readouterr().err


def test_a_stored_answer_may_come_again_in_another_form(run, capsys):
    assert main(["calibrate", str(run.path)]) == 3
    first, second, third = ids_of(run.path / "probes_to_label.csv")[:3]
    assert main(["label", "import", str(run.path), str(fill(run, None, [first]))]) == 0
    stored = budget.bought(run)[first].answer
    again = {first: f"The answer is {stored}.", second: "don't know", third: "7"}
    file = fill(run, None, [first, second, third], **again)
    capsys.readouterr()
    assert main(["label", "import", str(run.path), str(file)]) == 0
    assert "1 new label taken in, 1 row has no answer yet" in capsys.readouterr().out
    answers = {question_id: label.answer for question_id, label in budget.bought(run).items()}
    assert answers == {first: stored, third: "7"}


def test_probes_follow_the_settings_until_the_first_label(run, capsys):
    def ask(*settings):
        code = main(["run", str(run.path), "--until", "calibrate", *settings])
        return code, capsys.readouterr().err

    code, message = ask("--calibrate.num-probes", "4", "--budget", "4")
    assert code == 3 and "4 probe questions wait" in message
    code, message = ask("--calibrate.num-probes", "9", "--budget", "20")
    assert code == 3 and "9 probe questions wait" in message
    asked = run.path / "probes_to_label.csv"
    assert len(ids_of(asked)) == 9
    assert main(["label", "import", str(run.path), str(fill(run, None, ids_of(asked)[:1]))]) == 0
    code, message = ask("--calibrate.num-probes", "8")
    assert code == 2 and "calibrate.num_probes: was 9, now 8 (used by calibrate)" in message
    code, message = ask()
    assert code == 3 and "8 probe questions wait" in message  # those of the nine without a label


@pytest.mark.parametrize(
    ("settings", "changed"),
    [
        (
            ["--score.estimator", "entropy_mean"],
            "score.estimator: was 'pivots', now 'entropy_mean'",
        ),
        (["--pivots.statistic", "density"], "pivots.statistic: was 'count', now 'density'"),
        (["--calibrate.num-probes", "9"], "probes_wanted: was 12, now 9"),
    ],
)
def test_labels_of_probes_that_another_setting_drew_are_refused(run, capsys, settings, changed):
    assert main(["calibrate", str(run.path)]) == 3
    answers = fill(run, run.path / "probes_to_label.csv")
    assert main(["score", str(run.path), *settings]) == 0  # allowed: no label is bought yet
    capsys.readouterr()
    assert main(["label", "import", str(run.path), str(answers)]) == 2
    message = capsys.readouterr().err
    assert changed in message and f"draw them anew: pivottrace calibrate {run.path}" in message
    assert not budget.bought(run)
    assert main(["calibrate", str(run.path)]) == 3
    answers = fill(run, run.path / "probes_to_label.csv")
    assert main(["label", "import", str(run.path), str(answers)]) == 0
    assert main(["calibrate", str(run.path)]) == 0


def test_a_budget_below_the_probes_that_people_are_labelling_says_how_many(run, capsys):
    assert main(["calibrate", str(run.path)]) == 3
    asked = ids_of(run.path / "probes_to_label.csv")
    assert main(["label", "import", str(run.path), str(fill(run, None, asked[:3]))]) == 0
    capsys.readouterr()
    assert main(["calibrate", str(run.path), "--budget", "6"]) == 2
    message = capsys.readouterr().err
    assert "labels.budget allows 6 labels, and 12 probes were drawn" in message
    assert "Give at least 12" in message
    assert main(["calibrate", str(run.path), "--budget", "12"]) == 3


def test_people_may_take_over_from_a_column(run, capsys):
    settings = ["--until", "calibrate", "--labels.source"]
    whole = run.read_table("pool", made_by="run")
    gaps = pa.array([None if i % 2 else "1" for i in range(60)], pa.string())
    run.write_table(
        "pool", whole.set_column(whole.schema.get_field_index("answer"), "answer", gaps)
    )
    rollouts = {p: p.stat().st_mtime_ns for p in run.round_path.glob("*/part-*")}
    assert main(["run", str(run.path), *settings, "column"]) == 2
    assert "no answer in its answer column" in capsys.readouterr().err
    assert main(["run", str(run.path), *settings, "file"]) == 3
    assert {p: p.stat().st_mtime_ns for p in run.round_path.glob("*/part-*")} == rollouts
    run.write_table("pool", whole)
    assert main(["run", str(run.path), *settings, "column"]) == 0
    assert main(["run", str(run.path), *settings, "file"]) == 0
    assert main(["run", str(run.path), *settings, "oracle"]) == 2
    assert "labels.source: was 'column', now 'oracle'" in capsys.readouterr().err


def test_without_training_a_run_ends_with_its_route_files(run, capsys):
    assert main(["run", str(run.path), "--labels.source", "column"]) == 0
    printed = capsys.readouterr()
    assert not {"· label", "· evaluate before", "· train"} & set(printed.err.splitlines())
    assert printed.out.splitlines()[-1] == f"next: open {run.path / 'report.html'}"
    assert len(budget.bought(run)) == PROBES
    lines = list(describe(RunDir.open(run.path)))
    assert {
        f"  off   {name}" for name in ("label", "evaluate before", "train", "evaluate after")
    } <= set(lines)
    assert lines[-1] == f"next: open {run.path / 'report.html'}"
    assert main(["label", str(run.path)]) == 0  # whoever wants the labels asks for them
    assert len(budget.bought(run)) == BUDGET


def test_status_and_report_only_read_the_labels(run, monkeypatch):
    assert main(["run", str(run.path), "--labels.source", "column"]) == 0

    def refuse(self, path, allowed):
        raise AssertionError("the store was opened to write")

    monkeypatch.setattr(LabelStore, "__init__", refuse)
    read = RunDir.open(run.path)
    assert f"labels: {PROBES} of {BUDGET} allowed" in list(describe(read))
    build_report(read, unfinished(read))


def test_the_users_last_message_is_what_people_are_shown():
    asked = [{"role": "user", "content": "How many?"}]
    assert last_user_message([*asked, {"role": "assistant", "content": "So,"}]) == "How many?"
    assert last_user_message([{"role": "system", "content": "Rules."}, *asked]) == "How many?"


@pytest.mark.parametrize("torn", ["rounds/00/scores.parquet", "pool.parquet", "manifest.json"])
@pytest.mark.parametrize("command", ["run", "status", "report"])
def test_a_torn_file_is_named_with_its_cure(run, capsys, torn, command):
    assert main(["run", str(run.path), "--labels.source", "column", "--until", "sample"]) == 0
    path = run.path / torn
    path.write_bytes(path.read_bytes()[:-20])
    capsys.readouterr()
    assert main([command, str(run.path)]) == 1
    message = capsys.readouterr().err
    again = "start again" if torn == "manifest.json" else f"pivottrace repair {run.path}"
    assert f"{path} is torn" in message and "from a copy, or " in message and again in message


@pytest.mark.parametrize("found", ["nothing", "an empty file", "another program's table"])
def test_labels_that_were_used_and_are_gone_are_not_asked_for_again(run, capsys, found):
    store, command = run.path / "labels.sqlite", ["run", str(run.path), "--until", "label"]
    assert main(command) == 3
    filled = fill(run, run.path / "probes_to_label.csv")
    assert main(["label", "import", str(run.path), str(filled)]) == 0
    assert main(command) == 3
    kept = store.read_bytes()
    store.unlink()
    if found == "an empty file":
        store.touch()
    elif found != "nothing":
        with closing(sqlite3.connect(store)) as connection:
            connection.execute("CREATE TABLE labels (id INTEGER, name TEXT)")
    capsys.readouterr()
    for arguments in (command, ["label", "import", str(run.path), str(filled)]):
        assert main(arguments) == 2
        message = capsys.readouterr().err
        assert "from a copy" in message and str(store) in message
        if found != "another program's table":
            assert f"holds 0 labels, and the run has paid for {PROBES}" in message
    store.write_bytes(kept)
    assert main(command) == 3


def blank(run, asked, answered=(), name="blank.csv"):
    """A file that gives these questions back, all without an answer but the `answered` ones."""
    path = run.path.parent / name
    path.write_text("id,answer\n" + "".join(f"{i},{'1' * (i in answered)}\n" for i in asked))
    return path


WITHOUT = "go on without the rest: pivottrace run {} --labels.partial true"
PARTIAL = ("--labels.partial", "true")


def test_a_request_is_over_once_all_its_rows_came_back_blank(run, capsys):
    assert main(["run", str(run.path), "--until", "calibrate"]) == 3
    asked = ids_of(run.path / "probes_to_label.csv")
    capsys.readouterr()
    assert main(["label", "import", str(run.path), str(blank(run, asked[1:]))]) == 0
    assert "--labels.partial" not in capsys.readouterr().out  # one row is still out
    assert main(["run", str(run.path), "--until", "calibrate", *PARTIAL]) == 3
    assert "once one answer is in, or all rows came back" in capsys.readouterr().err
    assert main(["status", str(run.path)]) == 0
    assert f"waits for: {PROBES} true answers" in capsys.readouterr().out
    assert main(["label", "import", str(run.path), str(blank(run, asked[:1]))]) == 0
    assert capsys.readouterr().out.endswith(f"next: pivottrace run {run.path}\n")
    assert main(["run", str(run.path), "--until", "calibrate"]) == 0
    assert RunDir.open(run.path).stage_facts("calibrate")["num_probes"] == 0


def test_both_ways_on_are_named_as_soon_as_both_work(run, capsys):
    assert main(["run", str(run.path), "--until", "calibrate"]) == 3
    asked = ids_of(run.path / "probes_to_label.csv")
    capsys.readouterr()
    assert main(["label", "import", str(run.path), str(blank(run, asked))]) == 0
    assert WITHOUT.format(run.path) in capsys.readouterr().out
    assert main(["status", str(run.path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(WITHOUT.format(run.path))
    assert main(["run", str(run.path), "--until", "calibrate", *PARTIAL]) == 0


def test_chosen_questions_without_an_answer_are_counted_and_not_asked_for_ever(run, capsys):
    until = ["--until", "label"]
    assert main(["run", str(run.path), *until]) == 3
    probes = run.path / "probes_to_label.csv"
    assert main(["label", "import", str(run.path), str(fill(run, probes))]) == 0
    assert main(["run", str(run.path), *until]) == 3
    asked = ids_of(run.path / "annotate_to_label.csv")
    given = str(blank(run, asked, answered=asked[:-2]))
    assert main(["label", "import", str(run.path), given, "--confirm"]) == 0
    capsys.readouterr()
    assert main(["run", str(run.path), *until, *PARTIAL]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "2 questions chosen for a true answer stayed without one" in printed
    assert "2 chosen for a true answer stayed without one" in printed
    # The second time they are all that is asked, and they came back already.
    assert main(["redo", str(run.path), "calibrate"]) == 0
    assert main(["run", str(run.path), *until]) == 0


def test_the_choice_to_stop_comes_first_if_the_model_is_too_weak(run, capsys):
    until = ["--until", "label"]
    assert main(["run", str(run.path), *until]) == 3
    assert main(["plan", str(run.path)]) == 0
    steps = f"next: fill in `answer` in {run.path / 'probes_to_label.csv'}, then: "
    assert steps in capsys.readouterr().out  # people have been asked already
    asked = ids_of(run.path / "probes_to_label.csv")
    wrong = fill(run, None, asked, **dict.fromkeys(asked, "-987654"))
    assert main(["label", "import", str(run.path), str(wrong)]) == 0
    capsys.readouterr()
    assert main(["run", str(run.path), *until, "--triage.hopeless", "annotate"]) == 3
    printed = capsys.readouterr().err
    choice, steps = printed.index("You may stop here"), printed.index("wait for true answers")
    assert choice < steps and "To go on all the same:" in printed


def test_answers_without_names_are_told_apart_by_their_time(run, capsys):
    assert main(["run", str(run.path), "--until", "calibrate"]) == 3
    first = ids_of(run.path / "probes_to_label.csv")[0]
    for answer in ("12", "13"):
        own = str(fill(run, None, [first], **{first: answer}))
        assert main(["label", "import", str(run.path), own]) == 0
    capsys.readouterr()
    assert main(["label", "conflicts", str(run.path)]) == 0
    listed = capsys.readouterr().out
    assert listed.count("by somebody at 20") == 2
    assert listed.endswith(f"pivottrace label import {run.path} FILE --replace\n")
