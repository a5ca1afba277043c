"""Label Studio's tasks and annotations: what a task says, and which annotations are answers."""

import json
from itertools import pairwise

import pytest
from report_run import make_waiting_run

from pivottrace.cli import main
from pivottrace.errors import DataError
from pivottrace.ingest.options import options_in, read_options
from pivottrace.labels import budget
from pivottrace.labels import label_studio as studio
from pivottrace.labels.exchange import Request
from pivottrace.labels.store import read_answers

HOSTILE = "<b>Bold</b> <script>alert(1)</script>\r\n  {x} $question & \0\u202e007"


def text(answer, name="answer"):
    value = {"text": answer} if name != "choice" else {"choices": answer}
    kind = "choices" if name == "choice" else "textarea"
    return {"from_name": name, "to_name": "question", "type": kind, "value": value}


def annotation(*results, number=1, by=1, **more):
    return {"id": number, "result": [*results], "completed_by": by, "was_cancelled": False} | more


def task(*annotations, question_id="q1", question="Why?", number=7):
    data = {"question_id": question_id, "question": question}
    return {"id": number, "data": data, "annotations": [*annotations], "drafts": [], "meta": {}}


def cells(*tasks, people=None):
    found = studio.rows("there", studio.tasks_in("there", [*tasks]), people or {})
    return [(row.id, row.cell, row.annotator) for row in found]


def test_a_task_shows_the_question_as_text_and_never_the_vote():
    made = studio.task_of(Request("007", HOSTILE, "probe"), 0.5, "my run")
    shown = "<b>Bold</b> <script>alert(1)</script>\n  {x} $question & \u202e007"
    assert made == {
        "data": {
            "question_id": "007",
            "question": shown,
            "choices": [{"value": "cannot be answered"}],
            "purpose": "probe",
            "run": "my run",
        },
        "predictions": [{"model_version": "pivottrace", "score": 0.5, "result": []}],
    }
    assert "HyperText" not in studio.CONFIGURATION


@pytest.mark.parametrize(
    ("question", "letters"),
    [
        ("How many?\nA) 20\nB) 25", "AB"),
        ("How many?\n(A) 20\n(B) 25\n   or more\n(C) none", "ABC"),
        ("A. Smith asks\nwhy.\nA: yes\nB: no", "AB"),
        ("How many? A) 20 B) 25", ""),
        ("A) alone", ""),
        ("B) 1\nC) 2", ""),
        ("A) 1\nC) 2", ""),
        (f"Which?\n{read_options([*range(26)]).text}", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    ],
)
def test_options_are_choices(question, letters):
    options = options_in(question)
    assert "".join(options.labels if options else ()) == letters
    choices = studio.task_of(Request("q", question, "annotation"), 0.1, "r")["data"]["choices"]
    assert [c["value"] for c in choices] == [*letters, "cannot be answered"]


def test_scores_rise_in_the_order_of_asking_and_later_requests_come_first():
    of_requests = [[studio.score(i, 5, request) for i in range(5)] for request in range(4)]
    for scores in of_requests:
        assert scores == sorted(set(scores)) and scores[0] > 0 and scores[-1] < 1
    for earlier, later in pairwise(of_requests):
        assert max(later) < min(earlier)
    assert studio.score(0, 1, 0) == 0.5


def test_each_submitted_annotation_is_an_answer_and_a_task_without_one_is_blank():
    ana, skip = annotation(text(["007"]), by=3), annotation(number=2, was_cancelled=True)
    late = annotation(text("1e3"), number=9, by={"id": 5, "email": "ben@x.org"}, ground_truth=True)
    early = annotation(text(["B"], "choice"), number=4, by=8)
    assert cells(task(skip, ana), people={3: "ana@x.org"}) == [("q1", "007", "ana@x.org")]
    assert cells(task(late, early)) == [
        ("q1", "B", "Label Studio user 8"),
        ("q1", "1e3", "ben@x.org"),
    ]
    empty = annotation(text(["  "]))
    assert cells(task()) == [("q1", "", None)]
    for given_back in (task(skip), task(empty), task(annotation())):
        assert cells(given_back) == [("q1", "", "Label Studio user 1")]
    is_given = [
        row.is_given for each in (task(), task(skip)) for row in studio.rows("x", [each], {})
    ]
    assert is_given == [False, True]
    unanswerable = annotation(text(["cannot be answered"], "choice"), by=None)
    assert cells(task(unanswerable)) == [("q1", "cannot be answered", None)]
    remark = text(["hard"], "remark")
    assert cells(task(annotation(remark, text([" 4 "]), by=None))) == [("q1", "4", None)]
    same = annotation(text(["B"]), text(["B"], "choice"), by=None)
    assert cells(task(same)) == [("q1", "B", None)]


def test_drafts_are_no_answers():
    drafted = task() | {"drafts": [{"id": 1, "result": [text(["4"])]}]}
    assert cells(drafted) == [("q1", "", None)]


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (
            [task(annotation(text(["4"]), text(["A"], "choice"), number=3))],
            "there, task 7, annotation 3: has 2 answers, '4' and 'A'. Keep one",
        ),
        (
            [task(annotation(text(["4"], "result")))],
            "the controls result, and answers are read from answer and choice",
        ),
        ([{"id": 5, "annotation_id": 1, "answer": "4"}], "Label Studio's short form"),
        ([task(), {"id": 5, "question": "q"}], "there, row 2: is no task"),
        ([task({"id": 1})], "there, row 1: is no task"),
        ([task(annotation({"from_name": "answer"}))], "there, row 1: is no task"),
        ([task(annotation(text(["4"]), number="1"))], "there, row 1: is no task"),
        ({"tasks": []}, "there: is no list of tasks"),
        (["q1"], "there: is no list of tasks"),
    ],
)
def test_what_cannot_be_read_is_refused(tasks, message):
    with pytest.raises(DataError, match=message):
        list(studio.rows("there", studio.tasks_in("there", tasks), {}))


@pytest.fixture
def run(tmp_path, capsys):
    made = make_waiting_run(tmp_path / "run")
    capsys.readouterr()
    return made


@pytest.fixture
def asked(run, tmp_path, capsys):
    """The tasks that the run exports, as Label Studio gives them back without annotations."""
    file = tmp_path / "tasks.json"
    assert main(["label", "export", str(run.path), str(file), "--format", "label-studio"]) == 0
    said = capsys.readouterr().out
    assert f"wrote {file} and {tmp_path / 'tasks.xml'}" in said
    assert f"pivottrace label push {run.path}" in said
    assert (tmp_path / "tasks.xml").read_text() == studio.CONFIGURATION
    made = json.loads(file.read_text())
    return [{"id": i, "annotations": [], **each} for i, each in enumerate(made, start=1)]


def test_an_export_has_the_waiting_questions_in_the_order_of_asking(run, asked, tmp_path, capsys):
    csv_file = tmp_path / "asked.csv"
    assert main(["label", "export", str(run.path), str(csv_file)]) == 0
    lines = csv_file.read_text("utf-8-sig").splitlines()[1:]
    by_score = sorted(asked, key=lambda each: each["predictions"][0]["score"])
    assert [each["data"]["question_id"] for each in by_score] == [x.split(",")[0] for x in lines]
    assert len(asked) == 12 and {each["data"]["purpose"] for each in asked} == {"probe"}


def taken(run, tasks, capsys, *flags, name="export.json"):
    file = run.path.parent / name
    file.write_text(json.dumps(tasks))
    code = main(["label", "import", str(run.path), str(file), *flags])
    out = capsys.readouterr()
    return code, out.out + out.err


def test_an_import_is_that_of_a_label_file(run, asked, capsys):
    answered = [annotation(text(["12"]), by=1), annotation(text(["13"]), number=2, by=2)]
    asked[0]["annotations"] = answered
    asked[1]["annotations"] = [annotation(text(["cannot be answered"], "choice"), number=3)]
    asked[2]["annotations"] = [annotation(number=4, was_cancelled=True)]
    first, second = (asked[i]["data"]["question_id"] for i in range(2))
    code, said = taken(run, asked, capsys)
    assert code == 0
    assert '2 new labels taken in, 1 of them "cannot be answered", 10 tasks have no answer' in said
    assert "1 answer differs" in said and f"pivottrace label conflicts {run.path}" in said
    stored = read_answers(run.path / budget.STORE)
    assert [(a.answer, a.annotator, a.source) for a in stored[first]] == [
        ("12", "Label Studio user 1", "file"),
        ("13", "Label Studio user 2", "file"),
    ]
    assert stored[second][0].answer is None
    code, said = taken(run, asked, capsys)
    assert code == 0 and said.startswith("0 new labels taken in")
    assert read_answers(run.path / budget.STORE) == stored
    asked[0]["annotations"] = answered[1:]
    code, said = taken(run, asked, capsys, "--replace")
    assert code == 0 and "1 replaced" in said
    assert budget.labels_of(run)[first].answer == "13"


def test_tasks_without_an_answer_say_how_to_go_on(run, asked, capsys):
    asked[0]["annotations"] = [annotation(text(["12"]))]
    code, said = taken(run, asked, capsys)
    assert code == 0
    assert "1 new label taken in, 11 tasks have no answer yet; next: answer the rest in" in said


def test_wrong_answers_are_refused_by_task_and_annotation(run, asked, capsys):
    file = run.path.parent / "export.json"
    asked[3]["annotations"] = [annotation(text(["9?"]), number=5)]
    code, said = taken(run, asked, capsys)
    assert code == 2 and f"{file}, task 4, annotation 5, answer: '9?' is a guess" in said
    asked[3]["annotations"] = [annotation(text(["9"]), number=5)]
    asked[3]["data"]["question"] += " Really?"
    code, said = taken(run, asked, capsys)
    assert code == 2 and "task 4, annotation 5" in said and "is another question there" in said
    asked[3]["data"] = {"text": "a task of somebody else"}
    code, said = taken(run, asked, capsys)
    assert code == 2 and "task 4, annotation 5, question_id: '' is not a question" in said
    assert not budget.labels_of(run)
    code, said = taken(run, asked, capsys, "--skip-unasked")
    assert code == 0 and "1 row skipped" in said


def test_other_files_of_label_studio_are_refused_with_the_cure(run, asked, tmp_path, capsys):
    short = [{"id": 1, "answer": "4", "annotation_id": 3, "question_id": "q-0001"}]
    code, said = taken(run, short, capsys)
    assert code == 2 and "Export the project as JSON" in said
    table = tmp_path / "export.csv"
    table.write_text("annotation_id,answer,id,question_id\n3,4,1,q-0001\n")
    assert main(["label", "import", str(run.path), str(table)]) == 2
    assert "Export the project as JSON" in capsys.readouterr().err
    tasks = tmp_path / "tasks.json"
    assert main(["label", "import", str(run.path), str(tasks)]) == 2
    assert "has tasks without annotations" in capsys.readouterr().err
    tasks.write_text('[{"data": {"a": 1, "a": 2}}]')
    assert main(["label", "import", str(run.path), str(tasks)]) == 2
    assert "the key 'a' occurs twice" in capsys.readouterr().err


def test_no_other_file_is_overwritten(run, asked, tmp_path, capsys):
    command = ["label", "export", str(run.path), str(tmp_path / "tasks.json")]
    assert main([*command, "--format", "label-studio"]) == 0  # its own tasks are replaced
    (tmp_path / "tasks.json").write_text(json.dumps(asked))
    assert main([*command, "--format", "label-studio"]) == 2
    assert "is another file and is left as it is" in capsys.readouterr().err
    (tmp_path / "tasks.json").unlink()
    (tmp_path / "tasks.xml").write_text("<View/>")
    assert main([*command, "--format", "label-studio"]) == 2
    assert "tasks.xml is another file" in capsys.readouterr().err
    assert (tmp_path / "tasks.xml").read_text() == "<View/>"
    for wrong, message in (
        ([str(tmp_path / "tasks.csv"), "--format", "label-studio"], "ends in .json"),
        ([str(tmp_path / "no" / "tasks.json"), "--format", "label-studio"], "does not exist"),
        (["--format", "prodigy"], "--format prodigy: give label-studio"),
        ([str(tmp_path / "tasks.json")], "--format label-studio"),
    ):
        assert main(["label", "export", str(run.path), *wrong]) == 2
        assert message in capsys.readouterr().err
