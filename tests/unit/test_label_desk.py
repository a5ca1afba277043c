"""The desk of the labelling page: the next question, answers, conflicts, what is taken back."""

import pytest
from page_run import BUDGET, PROBES, asking, probes_of, truths_of

from pivottrace.cli import main
from pivottrace.errors import DataError, RunBusyError
from pivottrace.label_page.desk import Desk, NotReadError
from pivottrace.label_page.screens import Person
from pivottrace.labels import budget
from pivottrace.labels.remarks import read_remarks
from pivottrace.labels.store import read_answers

ANA, BEN = Person("seat-a", "Ana"), Person("seat-b", "Ben")


@pytest.fixture
def run(tmp_path):
    return asking(tmp_path / "run")


@pytest.fixture
def desk(run):
    return Desk(run.path)


def answer(desk, person, question_id, text):
    return desk.answer(person, question_id, text, confirmed=False)


def undo(desk, person, question_id):
    return desk.undo(person, question_id, number_of(desk, person, question_id))


def number_of(desk, person, question_id):
    """The number of a person's last answer to a question; 0 without one."""
    given = read_answers(desk._folder / budget.STORE).get(question_id, [])
    return max((a.number for a in given if a.annotator == person.name), default=0)


def test_questions_come_in_the_order_of_asking_until_the_run_can_go_on(run, desk):
    screen, asked = desk.screen(ANA), []
    while screen.card.kind == "question":
        asked.append(screen.card.id)
        screen = answer(desk, ANA, screen.card.id, truths_of(run)[screen.card.id])
    assert asked == probes_of(run)
    assert screen.card.command == f"pivottrace run {run.path}"
    progress = screen.progress
    assert (progress.done, progress.asked, progress.left) == (PROBES, PROBES, BUDGET - PROBES)
    assert progress.mine == PROBES and desk.num_answers_of_page() == PROBES
    assert main(["run", str(run.path), "--until", "label"]) == 3  # now for the annotations
    screen = desk.screen(ANA)
    assert screen.card.kind == "question" and screen.card.id not in asked
    assert screen.progress.asked == BUDGET


def test_two_people_get_different_questions_and_what_one_leaves_comes_to_the_other(desk):
    first, second = desk.screen(ANA).card.id, desk.screen(BEN).card.id
    assert first != second
    assert desk.screen(ANA).card.id == first and desk.screen(BEN).card.id == second
    desk.leave(ANA)
    assert answer(desk, BEN, second, "1").card.id == first


def test_all_questions_in_other_hands_are_no_end(run):
    desk, people = Desk(run.path), [Person(f"s{n}", f"P{n}") for n in range(PROBES + 1)]
    cards = [desk.screen(person).card for person in people]
    assert len({card.id for card in cards[:-1]}) == PROBES
    assert cards[-1].kind == "rest" and f"the {PROBES} questions" in cards[-1].message


def test_a_skipped_question_goes_to_others_and_comes_back_at_the_end(run, desk):
    first = desk.screen(ANA).card.id
    screen = desk.skip(ANA, first)
    assert screen.card.id != first and desk.screen(BEN).card.id == first
    desk.leave(BEN)
    desk = Desk(run.path)  # a restart knows it
    asked = []
    screen = desk.screen(ANA)
    while screen.card.kind == "question":
        asked.append(screen.card.id)
        screen = answer(desk, ANA, screen.card.id, "1")
    assert asked[-1] == first and len(asked) == PROBES


def test_the_same_answer_sent_again_is_stored_once_and_another_one_is_refused(run, desk):
    first = desk.screen(ANA).card.id
    answer(desk, ANA, first, "7")
    assert answer(desk, ANA, first, "7").notice == ""
    with pytest.raises(DataError, match="answered this question already: 7"):
        answer(desk, ANA, first, "8")
    assert len(read_answers(run.path / budget.STORE)[first]) == 1


def test_answers_that_differ_are_shown_to_both_people_and_settled_by_one(run, desk):
    first = desk.screen(ANA).card.id
    answer(desk, ANA, first, "7")
    screen = answer(desk, BEN, first, "8")
    assert "another answer" in screen.notice
    for person in (ANA, BEN):
        card = desk.screen(person).card
        assert (card.kind, card.id) == ("conflict", first)
        assert [(o.answer, o.by) for o in card.opinions] == [("7", "Ana"), ("8", "Ben")]
    assert desk.skip(BEN, first).card.kind == "question"
    screen = desk.settle(ANA, first, "8", confirmed=False)
    assert screen.notice == "Settled: 8" and screen.card.kind == "question"
    label = budget.labels_of(run)[first]
    assert (label.answer, label.annotator, label.disputed) == ("8", "Ana", False)
    assert "settled this question already" in desk.settle(BEN, first, "9", confirmed=False).notice


def test_equal_answers_of_two_people_agree_by_the_verifier(run, desk):
    first = desk.screen(ANA).card.id
    answer(desk, ANA, first, "1/2")
    assert "the same answer" in answer(desk, BEN, first, "0.5").notice
    assert not budget.labels_of(run)[first].disputed


def test_a_conflict_in_the_run_is_shown_to_anybody(run, desk):
    probes = probes_of(run)
    for question_id in probes:
        answer(desk, ANA, question_id, "7")
    answer(desk, BEN, probes[2], "8")
    assert main(["run", str(run.path), "--until", "label"]) == 3
    card = desk.screen(Person("seat-c", "Cy")).card
    assert (card.kind, card.id) == ("conflict", probes[2])


def test_ones_last_answer_is_taken_back_until_a_stage_has_used_it(run, desk):
    probes = probes_of(run)
    answer(desk, ANA, probes[0], "7")
    screen = undo(desk, ANA, probes[0])
    assert (screen.card.id, screen.card.draft) == (probes[0], "7")
    assert screen.progress.left == BUDGET and screen.last is None
    assert undo(desk, ANA, probes[0]).notice == "This answer is taken back already."
    for question_id in probes:
        answer(desk, ANA, question_id, "8")
    assert main(["run", str(run.path), "--until", "label"]) == 3
    with pytest.raises(
        DataError, match=rf"calibrate has used .* label correct {run.path} .*--redo"
    ):
        undo(desk, ANA, probes[0])


def test_nobody_takes_back_what_another_person_has_answered_since(run, desk):
    first = desk.screen(ANA).card.id
    answer(desk, ANA, first, "7")
    answer(desk, BEN, first, "8")
    with pytest.raises(DataError, match="its last answer is by Ben"):
        undo(desk, ANA, first)
    undo(desk, BEN, first)
    assert undo(desk, ANA, first).card.draft == "7"


def test_the_vote_is_shown_after_an_answer_only_and_calibration_leaves_the_next_one_out(
    run, desk, capsys
):
    probes, truths = probes_of(run), truths_of(run)
    with pytest.raises(DataError, match="after you have answered"):
        desk.vote(ANA, probes[0])
    for question_id in probes:
        answer(desk, ANA, question_id, truths[question_id])
    assert "vote" in desk.vote(ANA, probes[0])
    desk.vote(ANA, probes[1])
    undo(desk, ANA, probes[0])
    answer(desk, ANA, probes[0], truths[probes[0]])
    assert main(["run", str(run.path), "--until", "label"]) == 3
    facts = run.stage_facts("calibrate")
    assert (facts["num_probes"], facts["labels_after_vote"]) == (PROBES - 1, 1)
    evidence = run.read_table("evidence", made_by="calibrate")["question_id"].to_pylist()
    assert set(evidence) == set(probes[1:])
    labelled = run.read_table("labelled", made_by="calibrate").to_pylist()
    assert [(row["question_id"], row["purpose"]) for row in labelled] == [(probes[0], "probe")]
    # It takes no part in the fit, and it is trained on if its own samples leave something to learn.
    assert facts["vote_model"]["num_labels"] == PROBES - 1
    route = {
        row["question_id"]: row["reason"]
        for row in run.read_table("triage", made_by="triage").to_pylist()
    }[probes[0]]
    assert route in ("annotate_labelled", "labelled_mastered", "labelled_hopeless")
    capsys.readouterr()
    assert main(["status", str(run.path)]) == 0
    assert "1 probe has a label that was given after the model's vote" in capsys.readouterr().out
    report = (run.path / "report.html").read_text()
    assert "1 further probe has a label that was given after the model's vote was shown" in report


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("The answer is 25", "25"),
        (" 3/4 ", "3/4"),
        ("cannot be answered", None),
        ("12 ||| twelve", "12 ||| twelve"),
    ],
)
def test_answers_are_read_as_in_a_label_file(run, desk, text, stored):
    first = desk.screen(ANA).card.id
    assert desk.read(first, text).stored == stored
    answer(desk, ANA, first, text)
    assert budget.labels_of(run)[first].answer == stored


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("maybe 25", "This is a guess"),
        ("We take nine of them. Then five stay.", "derivation"),
        ("4o", "letter looks like a digit in 4o"),
        ("a few", "reads as text, and this question seems to ask for: number"),
        ("25\u200b7", "characters that cannot be seen: 25⟨U+200B⟩7"),
    ],
)
def test_what_looks_like_a_slip_has_to_be_confirmed(run, desk, text, problem):
    votes = run.read_table("votes", made_by="sample").to_pylist()
    voted = {row["question_id"] for row in votes if row["vote_answer"]}
    first = next(i for i in probes_of(run) if i in voted)
    own = {row["vote_answer"] for row in votes if row["question_id"] == first}
    with pytest.raises(NotReadError, match="Press Enter again") as caught:
        answer(desk, ANA, first, text)
    assert problem in str(caught.value) and not any(vote in str(caught.value) for vote in own)
    assert budget.labels_of(run) == {}
    desk.answer(ANA, first, text, confirmed=True)
    assert budget.labels_of(run)[first].answer == text


@pytest.mark.parametrize("text", ["", "  ", "don't know", "NA"])
def test_a_blank_answer_is_no_answer(run, desk, text):
    first = desk.screen(ANA).card.id
    with pytest.raises(DataError, match="or skip the question"):
        desk.answer(ANA, first, text, confirmed=True)
    assert not (run.path / budget.STORE).exists() or budget.labels_of(run) == {}


def test_nothing_is_stored_while_the_run_is_at_work(run, desk):
    first = desk.screen(ANA).card.id
    with run.locked():
        for act in (
            lambda: answer(desk, ANA, first, "7"),
            lambda: desk.skip(ANA, first),
            lambda: desk.comment(ANA, first, "odd"),
        ):
            with pytest.raises(RunBusyError, match="another process is working"):
                act()
    answer(desk, ANA, first, "7")
    assert budget.labels_of(run).keys() == {first}


def test_a_question_that_is_not_asked_gets_no_answer(run, desk):
    other = next(i for i in truths_of(run) if i not in probes_of(run))
    for question_id in (other, "no such question"):
        with pytest.raises(DataError, match="does not wait for a label"):
            answer(desk, ANA, question_id, "7")
        with pytest.raises(DataError, match="does not wait for a label"):
            desk.comment(ANA, question_id, "odd")
    assert read_remarks(run.path / budget.STORE) == []


OPTIONS = "A) 3\n(B) 4\nC. <b>5</b>"


@pytest.mark.parametrize(
    ("text", "stem"),
    [
        (f"For instance:\nA) no\nB) yes\nWhich is even?\n{OPTIONS}\n", "B) yes\nWhich is even?"),
        (f"Which is even?\n\n{OPTIONS}", "Which is even?"),
        (f"Which is even?\n{OPTIONS}\nE) 9", "C. <b>5</b>\nE) 9"),
        (f"Which of these\n{OPTIONS}\nis even?", "C. <b>5</b>\nis even?"),
    ],
)
def test_choice_questions_have_their_options(tmp_path, text, stem):
    run = asking(tmp_path / "run", texts=[text], verifier="choice")
    desk = Desk(run.path)
    card = desk.screen(ANA).card
    assert [(o.letter, o.text) for o in card.options] == [("A", "3"), ("B", "4"), ("C", "<b>5</b>")]
    assert card.question.endswith(stem)
    answer(desk, ANA, card.id, "B")
    assert budget.labels_of(run)[card.id].answer == "B"


@pytest.mark.parametrize("verifier", ["math", "choice"])
def test_other_questions_have_no_options(tmp_path, verifier):
    text = f"Which?\n{OPTIONS}" if verifier == "math" else "Which?\nA) the only one"
    card = Desk(asking(tmp_path / "run", texts=[text], verifier=verifier).path).screen(ANA).card
    assert card.options == [] and card.question == text


def test_comments_are_listed(run, desk, capsys):
    first = desk.screen(ANA).card.id
    desk.comment(ANA, first, " odd\u202e unit ")
    capsys.readouterr()
    assert main(["label", "comments", str(run.path)]) == 0
    assert capsys.readouterr().out == f"{first}  odd⟨U+202E⟩ unit  by Ana\n"


def test_with_partial_labels_the_page_goes_on_after_the_run_could(tmp_path):
    run = asking(tmp_path / "run", partial=True)
    desk = Desk(run.path)
    screen = answer(desk, ANA, desk.screen(ANA).card.id, "7")
    assert screen.card.kind == "question" and screen.progress.done == 1


def test_taking_back_that_is_sent_again_takes_back_one_answer(run, desk):
    first = desk.screen(ANA).card.id
    answer(desk, BEN, first, "6")
    answer(desk, ANA, first, "5")
    desk.settle(ANA, first, "6", confirmed=False)
    number = number_of(desk, ANA, first)
    desk.undo(ANA, first, number)
    assert desk.undo(ANA, first, number).notice == "This answer is taken back already."
    assert budget.labels_of(run)[first].disputed  # Ana's 5 is still there


def test_stored_answers_are_chosen_and_sent_again_as_they_are(run, desk):
    first = desk.screen(ANA).card.id
    desk.answer(ANA, first, "the answer is none", confirmed=True)
    screen = undo(desk, ANA, first)
    assert answer(desk, ANA, first, screen.card.draft).last.answer == "none"
    answer(desk, BEN, first, "7")
    card = desk.screen(BEN).card
    (chosen,) = [o for o in card.opinions if o.answer == "none"]
    desk.settle(BEN, first, chosen.answer, confirmed=False, number=chosen.number)
    assert budget.labels_of(run)[first].answer == "none"


def test_a_conflict_is_settled_for_the_label_that_a_stage_has_used(run, desk):
    probes = probes_of(run)
    for question_id in probes:
        answer(desk, ANA, question_id, "7")
    assert main(["run", str(run.path), "--until", "label"]) == 3
    answer(desk, BEN, probes[0], "8")
    with pytest.raises(DataError, match="has used this answer"):
        desk.settle(ANA, probes[0], "8", confirmed=False)
    assert desk.settle(ANA, probes[0], "7", confirmed=False).notice == "Settled: 7"
