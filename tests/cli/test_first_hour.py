"""The first hour of a new user, command by command; each run ends with the verdict of a person."""

import csv
import json
import re

import pytest

from pivottrace.cli import main
from pivottrace.config import Config, PoolConfig
from pivottrace.ingest.prompts import last_user_message
from pivottrace.ingest.questions import read_pool
from pivottrace.labels.budget import labels_of
from pivottrace.run.directory import RunDir

pytestmark = pytest.mark.slow

SMALL = ["--rollouts.num-samples", "8", "--rollouts.max-new-tokens", "128", "--train.steps", "2"]
# Sentences that the packaged model has never seen: it knows the questions of its own world only.
FOREIGN = [
    (f"What is {a} times {b}, written as a plain number with no unit at all?", str(a * b))
    for a in range(13, 23)
    for b in (17, 19)
]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(capsys, *arguments):
    """Run a command; its exit code, and all that it printed."""
    code = main(list(arguments))
    printed = capsys.readouterr()
    return code, printed.out + printed.err


def verdict_of(text):
    """The closing lines, by title."""
    titles = ("decided", "labels", "cost", "held-out", "limited by", "next:")
    found = {}
    for line in text.splitlines():
        for title in titles:
            if line.startswith(title):
                found.setdefault(title, []).append(line.removeprefix(title).strip())
    return {title: " / ".join(lines) for title, lines in found.items()}


def world(query):
    """(id, question, answer) of questions of the embedded world."""
    pool = read_pool(Config(pool=PoolConfig(questions=query))).table.to_pylist()
    return [(row["id"], last_user_message(row["prompt"]), row["answer"]) for row in pool]


def write_pool(path, questions, answered):
    rows = []
    for number, (question_id, question, answer) in enumerate(questions):
        row = {"id": question_id, "question": question}
        rows.append(row | ({"answer": answer} if number in answered else {}))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def rows_of(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def asked(path):
    return [row["id"] for row in rows_of(path)]


def fill_in(path, copy, answers, annotator):
    """Save a copy of the file that asks, with these answers and a name in each of their rows."""
    rows = rows_of(path)
    for row in rows:
        assert row["answer"] == row["annotator"] == ""
        if row["id"] in answers:
            row |= {"answer": answers[row["id"]], "annotator": annotator}
    with copy.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return str(copy)


def test_nothing_is_begun_without_being_asked_for(here, capsys):
    code, text = command(capsys, "run")
    assert code == 2 and "pivottrace init my.toml" in text and not list(here.iterdir())
    assert command(capsys, "init", "my.toml")[0] == 0
    lines = (here / "my.toml").read_text().splitlines()
    assert len(lines) <= 36 and sum(">>>" in line for line in lines) == 4  # once in the head
    assert lines[1].endswith("Then: pivottrace validate my.toml")
    for name in ("validate", "run"):  # the unedited file stops at once, with the cure
        code, text = command(capsys, name, "my.toml")
        assert code == 2 and "questions.jsonl: no such file" in text


def test_forty_questions_two_annotators_a_correction_and_more_money(here, capsys):
    questions = world("world:default?num=40&seed=3")
    truths = {question_id: answer for question_id, _, answer in questions}
    write_pool(here / "questions.jsonl", questions, answered=range(0, 40, 2))
    assert command(capsys, "init", "my.toml", *SMALL, "--budget", "6")[0] == 0

    code, text = command(capsys, "validate", "my.toml")
    assert code == 0 and "40 questions, 20 with an answer" in text
    assert "from column+file" in text and "probes take at most 3 of the 6 labels" in text

    code, text = command(capsys, "run", "my.toml")
    assert code == 3 and "to choose with" in text and "--labels.partial true" in text
    request = here / "runs/my/probes_to_label.csv"
    probes = asked(request)
    assert 0 < len(probes) <= 3  # a probe with an answer of its own is not asked for

    first = fill_in(request, here / "ann.csv", {i: truths[i] for i in probes}, "Ann")
    assert command(capsys, "label", "import", "runs/my", first)[0] == 0
    second = fill_in(request, here / "bob.csv", {probes[0]: "9999"}, "Bob")
    code, text = command(capsys, "label", "import", "runs/my", second)
    assert code == 0 and "1 answer differs" in text and "label conflicts" in text
    code, text = command(capsys, "label", "conflicts", "runs/my")
    assert "by Ann" in text and "9999  by Bob" in text
    assert command(capsys, "run", "my.toml")[0] == 3  # until somebody settles it
    assert command(capsys, "label", "correct", "runs/my", probes[0], truths[probes[0]])[0] == 0

    code, text = command(capsys, "run", "my.toml")
    assert code == 3 and "annotate_to_label.csv" in text
    request = here / "runs/my/annotate_to_label.csv"
    chosen = asked(request)
    answers = {i: truths[i] for i in chosen} | {chosen[0]: "9999"}
    wrong = fill_in(request, here / "ann.csv", answers, "Ann")
    assert command(capsys, "label", "import", "runs/my", wrong)[0] == 0

    code, text = command(capsys, "run", "my.toml", "--budget", "9")  # more money, late
    assert code == 3 and "labels.budget was 6 and is 9" in text
    correct = ["label", "correct", "runs/my", chosen[0], truths[chosen[0]], "--by", "Cy"]
    code, text = command(capsys, *correct, "--redo")  # the second triage has read the wrong label
    assert code == 0 and "(before: 9999)" in text
    code, text = command(capsys, "status", "runs/my")
    assert "to do triage\n" in text  # without the seconds of the triage that was forgotten
    code, text = command(capsys, "run", "runs/my")
    more = sorted((here / "runs/my").glob("annotate_to_label*.csv"))[-1]
    everything = here / "everything.csv"  # the answers of a person who has not looked at the file
    everything.write_text("id,answer\n" + "".join(f"{i},{a}\n" for i, a in truths.items()))
    take_in = ["label", "import", "runs/my", str(everything)]
    code, text = command(capsys, *take_in)
    assert code == 2 and "does not wait for a label" in text and "--skip-unasked" in text
    code, text = command(capsys, *take_in, "--skip-unasked")
    number = len(asked(more))
    told = f"{number} new label{'' if number == 1 else 's'} taken in"
    assert code == 0 and told in text and "skipped (" in text
    code, text = command(capsys, "run", "runs/my")
    assert code == 0
    found = verdict_of(text)
    assert re.match(r"of 40 questions, .*get a true answer", found["decided"])
    assert re.match(r"[6-9] of 9 used", found["labels"])  # a label that teaches nothing is saved
    assert "20 more were in the pool" in found["labels"]
    assert found["held-out"].startswith("nothing says whether training helped")
    assert found["next:"] == "open runs/my/report.html"
    labels = labels_of(RunDir.open(here / "runs/my"))
    assert labels[chosen[0]].annotator == "Cy" and labels[probes[0]].answer == truths[probes[0]]


@pytest.mark.parametrize(
    ("kind", "words"),
    [("weak", "the model is too weak for these questions"), ("strong", "the model is too strong")],
)
def test_a_pool_that_teaches_nothing_is_called_so(here, capsys, kind, words):
    questions = [(f"q{n:02d}", text, answer) for n, (text, answer) in enumerate(FOREIGN)]
    if kind == "strong":
        questions = world("world:mastered?num=40&seed=3")
    write_pool(here / "questions.jsonl", questions, answered=range(40))
    assert command(capsys, "init", "my.toml", *SMALL, "--budget", "10")[0] == 0
    code, text = command(capsys, "run", "my.toml")
    assert code == 0 and words in verdict_of(text)["limited by"], text
