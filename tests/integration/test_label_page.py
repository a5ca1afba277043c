"""The labelling page in a real browser, its server killed, two people at once, hostile texts."""

import os
import socket
from pathlib import Path

import pytest
from browser import in_browser, server_command
from page_run import asking, probes_of, truths_of

from pivottrace.cli import main
from pivottrace.labels import budget
from pivottrace.labels.remarks import read_remarks
from pivottrace.labels.store import read_answers

NUMBER, KILLS = 200, (15, 55, 95, 135, 175)
PROBES = NUMBER + 24
BUDGET = PROBES + 6
# Where the pictures go; a person looks at them.
PICTURES = Path(os.environ.get("PIVOTTRACE_PICTURES", "/tmp/pivottrace-pictures"))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module", autouse=True)
def pictures():
    PICTURES.mkdir(parents=True, exist_ok=True)


def test_two_hundred_answers_by_keyboard_survive_five_kills(tmp_path, capsys):
    run = asking(tmp_path / "run", PROBES, BUDGET)
    truths = truths_of(run)
    found = in_browser(
        "check_label_page.py",
        tmp_path,
        server=server_command(run, free_port()),
        pictures=str(PICTURES),
        answers=truths,
        number=NUMBER,
        kills=KILLS,
    )
    with capsys.disabled():
        print(f"\nfrom key to next question: median {found['median_ms']:.1f} ms")
    answers = read_answers(run.path / budget.STORE)
    skipped, corrected, none = found["keys"]["ids"]

    asked = [i for i in found["asked"] if i not in (skipped, corrected, none)]
    assert len(found["asked"]) == NUMBER == len(set(found["asked"]))
    for question_id in asked:
        assert [(a.answer, a.annotator, a.source) for a in answers[question_id]] == [
            (truths[question_id], "Ana", "page")
        ]

    both = found["together"]
    assert not set(both[0]) & set(both[1]) and all(both)
    assert set(answers) == set(probes_of(run)) and len(budget.bought(run)) == PROBES <= BUDGET
    assert all(len(given) == 1 for given in answers.values())

    said = found["keys"]
    assert said["skipped"] == "Skipped. Others may answer it."
    assert "A letter looks like a digit in 4o" in said["problem"]
    assert said["reading"] == "Read as 41 (number)" and said["draft"] == "41"
    assert said["vote"].startswith("The model's vote is ") or "no vote" in said["vote"]
    (after_vote,) = answers[corrected]
    assert (after_vote.answer, after_vote.vote_shown) == ("42", True)
    assert answers[none][0].answer is None
    kinds = {(r.question_id, r.kind) for r in read_remarks(run.path / budget.STORE)}
    assert kinds == {(skipped, "skipped"), (corrected, "comment"), (corrected, "vote_shown")}

    assert "The run has the answers that it needs" in found["rest"]
    assert (found["refusals"], found["errors"], found["findings"]) == ([], [], [])
    assert found["code"] == 0 and "all stored" in found["closing"]
    assert main(["run", str(run.path), "--until", "calibrate"]) == 0
    facts = run.stage_facts("calibrate")
    assert (facts["labels_after_vote"], facts["num_probes"]) == (1, PROBES - 2)


HOSTILE = [
    "<script>document.title='x'</script><img src=x onerror=alert(1)><b>bold</b> &amp; ok?",
    "Reversed \u202egnirts\u202c, zero\u200bwidth, bell\x07, escape \x1b[31m, null\0?",
    "One word " + "x" * 4000 + " and " + "\u0301" * 300 + "?",
    "שלום, כמה הם 3 ועוד 4?",
    "Tickets cost $5 and $6, or \\$7. What is $\\frac{a}{b}$ if \\(a = 2\\) and "
    "$$b = \\sum_{i=1}^n i$$ with \\[\\sqrt{n} = 2\\]?",
    "Bad $\\href{javascript:alert(1)}{x}$ $\\htmlClass{card}{y}$ "
    "$\\includegraphics{http://evil.example/x}$",
    "Endless $\\def\\a{\\a\\a}\\a$ and open $\\frac{1$ and $\\rule{999em}{999em}$ stay.",
    "Wide $" + " + ".join(f"x_{{{i}}}" for i in range(200)) + "$ end",
]
CHOICE = "Which is even?\nA) 3\nB) 4\nC) <i>5</i>\nD) $\\frac{6}{4}$"


def test_hostile_texts_are_text_and_formulas_are_drawn(tmp_path):
    texts = asking(tmp_path / "texts", len(HOSTILE) + 1, len(HOSTILE) + 1, HOSTILE)
    choice = asking(tmp_path / "choice", 4, 4, [CHOICE] * 4, verifier="choice")
    found = in_browser(
        "check_label_texts.py",
        tmp_path,
        texts_server=server_command(texts, free_port()),
        choice_server=server_command(choice, free_port()),
        choice_ids=probes_of(choice),
        pictures=str(PICTURES),
        name="<b>Ana</b>",
        number=len(HOSTILE),
        picture=4,
    )
    # axe-core finds planted faults, so no findings mean that it has looked.
    assert [each.partition(":")[0] for each in found["planted"]] == ["image-alt", "label"]
    assert found["unsafe"] == 0 and found["name"] == "<b>Ana</b>"
    assert found["texts"][0] == HOSTILE[0]
    assert found["texts"][1] == (
        "Reversed ⟨U+202E⟩gnirts⟨U+202C⟩, zero⟨U+200B⟩width, bell⟨U+0007⟩, escape ⟨U+001B⟩[31m, "
        "null⟨U+0000⟩?"
    )
    assert found["formulas"] == [0, 0, 0, 0, 4, 3, 3, 1]
    assert found["texts"][4].startswith("Tickets cost $5 and $6, or \\$7. What is ")
    assert not any(found["too_wide"])
    assert found["attack"] == 403
    assert found["opinions"] == [["B by Ana", "C by Ben"]] * 2
    held, question, notice = found["settled"]
    assert held == 0 and notice == "Settled: C"
    label = budget.labels_of(choice)[question]
    assert (label.answer, label.annotator, label.disputed) == ("C", "Ana", False)
    assert (found["refusals"], found["errors"], found["findings"]) == ([], [], [])
