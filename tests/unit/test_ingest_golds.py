"""Golds: alternatives, tolerances, decimal commas, cells that are none, and repeated questions."""

from itertools import permutations

import pytest
from ingest_sources import refused, rows_of, write_jsonl

from pivottrace.errors import DataError
from pivottrace.ingest import golds as golds_module
from pivottrace.ingest.questions import read_source
from pivottrace.verifier.gold import Gold

# One cell ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["1/2", "0.5"], "1/2 ||| 0.5"),
        ([7], "7"),
        ([7, "7", None, 8.0], "7 ||| 8"),
        ([], None),
        ([None], None),
        (27, "27"),
        ("so \\boxed{4}", "4"),
    ],
)
def test_a_list_holds_alternatives(tmp_path, value, expected):
    source = write_jsonl(tmp_path / "q.jsonl", [{"prompt": "A?", "answer": value}])
    assert [r["answer"] for r in rows_of(source)] == [expected]


def test_texts_numbers_and_lists_may_stand_in_one_column(tmp_path):
    answers = ["56", 27, ["3", 4], None, 2.5]
    rows = [{"prompt": f"{i}?", "answer": answer} for i, answer in enumerate(answers)]
    found = [r["answer"] for r in rows_of(write_jsonl(tmp_path / "q.jsonl", rows))]
    assert found == ["56", "27", "3 ||| 4", None, "2.5"]


def test_a_semicolon_file_has_decimal_commas(tmp_path):
    path = tmp_path / "q.csv"
    path.write_text('question;answer\n"A; B?";3,5\nC?;1.200,25\nD?;7\nE?;1.5\n')
    assert [r["answer"] for r in rows_of(path)] == ["3.5", "1200.25", "7", "1.5"]
    path.write_text('question,answer\nA?,"3,5"\n')
    assert [r["answer"] for r in rows_of(path)] == ["3,5"]


def test_a_point_before_three_digits_is_told_and_equals_the_plain_number(tmp_path):
    path = tmp_path / "q.csv"
    path.write_text("question;answer;error\nA?;3.500 m;0,01\nA?;3500 m;0,01\nB?;3,5;0,5\n")
    read = read_source(str(path), column_map={"tolerance": "error"})
    golds = read.table["answer"].to_pylist()
    assert golds == ["3500 m [tolerance 0.01]", "3.5 [tolerance 0.5]"], "two rows are one question"
    assert any("row 1: '3.500 m' is 3500 m, as '3,5' shows" in note for note in read.notes)
    path.write_text("question;answer\nA?;3.500\nB?;3,5\nC?;2.25\n")
    with pytest.raises(DataError, match=r"q\.csv: column 'answer': row 1: '3\.500' may be 3500 or"):
        read_source(str(path))


def test_golds_are_letters_of_options_in_the_text_where_letters_are_compared(tmp_path):
    question = "{}?\nA) sodium\nB) tin\nC) lead"
    golds = ["B", "tin", "C) lead", "E", *"ABC" * 10]
    rows = [{"prompt": question.format(i), "answer": gold} for i, gold in enumerate(golds)]
    read = read_source(write_jsonl(tmp_path / "q.jsonl", rows), verifier="choice")
    assert read.table["answer"].to_pylist()[:5] == ["B", "B", "C", None, "A"]
    assert "'E' names none of its options" in read.notes[-1]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("q.tsv", "question\tanswer\nA, B; C?\t4\n"),
        ("q.csv", "question\tanswer\nA, B; C?\t4\n"),
        ("q.csv", 'question;"the answer, alone"\n"A, B; C?";4\n'),
        ("q.csv", 'question,"the answer; alone"\n"A, B; C?",4\n'),
    ],
)
def test_the_header_shows_the_separator(tmp_path, file, text):
    (tmp_path / file).write_text(text)
    name = text.splitlines()[0].split('"')[1] if '"' in text.splitlines()[0] else "answer"
    (row,) = rows_of(tmp_path / file, column_map={"answer": name})
    assert (row["prompt"][0]["content"], row["answer"]) == ("A, B; C?", "4")


# Tolerances --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.01, "5 [tolerance 0.01]"),
        ("1e-1", "5 [tolerance 0.1]"),
        (1, "5 [tolerance 1]"),
        (None, "5"),
        ("", "5"),
    ],
)
def test_a_tolerance_is_a_suffix_of_the_gold(tmp_path, value, expected):
    source = write_jsonl(tmp_path / "q.jsonl", [{"prompt": "A?", "answer": 5, "error": value}])
    assert rows_of(source, column_map={"tolerance": "error"})[0]["answer"] == expected
    assert rows_of(f"{source}?tolerance=error")[0]["answer"] == expected
    assert rows_of(source)[0]["answer"] == "5", "a tolerance is never guessed"


@pytest.mark.parametrize("value", [0, -0.1, "small", True, [0.1], "nan", "inf"])
def test_a_tolerance_that_is_no_number_above_0_is_refused(tmp_path, value):
    source = write_jsonl(tmp_path / "q.jsonl", [{"prompt": "A?", "answer": 5, "error": value}])
    message = refused(source, column_map={"tolerance": "error"})
    assert "line 1: column 'error': is" in message and "a number above 0" in message


def test_a_row_without_a_gold_has_no_tolerance(tmp_path):
    source = write_jsonl(tmp_path / "q.jsonl", [{"prompt": "A?", "answer": None, "error": 0.1}])
    assert rows_of(source, column_map={"tolerance": "error"})[0]["answer"] is None


# Which column is the answer ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"solution": "We get \\boxed{1}.", "answer": "2"}, "2"),
        ({"solution": "We get \\boxed{1}.", "gt": "2"}, "2"),
        ({"label": "hard", "final_answer": "2"}, "2"),
        ({"target": "3", "expected_answer": "2", "predicted_answer": "5"}, "2"),
        ({"answer": None, "label": "C"}, "C"),
        ({"answer": " ", "Correct Answer": "2"}, "2"),
        ({"correct": True, "label": "2"}, "2"),
        ({"correct": True}, None),
        ({"correct": "C"}, "C"),
        ({"answerKey": "B", "label": "x"}, "B"),
        ({"answer": False}, "false"),
        ({"answer": None, "level": 3}, None),
    ],
)
def test_a_wrong_guess_does_not_win(tmp_path, row, expected):
    source = write_jsonl(tmp_path / "q.jsonl", [{"prompt": "A?", **row}])
    assert [r["answer"] for r in rows_of(source)] == [expected]


# Cells that are no gold --------------------------------------------------------------------------


@pytest.fixture
def reads_na_as_none(monkeypatch):
    def read(text, pattern):
        return Gold(None, "is no answer") if text == "?" else Gold(text, None)

    monkeypatch.setattr(golds_module, "read_gold", read)


def pool_with(tmp_path, num_rows, num_unreadable):
    rows = [{"prompt": f"{i}?", "answer": str(i)} for i in range(num_rows)]
    for row in rows[:num_unreadable]:
        row["answer"] = "?"
    return write_jsonl(tmp_path / "q.jsonl", [*rows, {"prompt": "Open?", "answer": None}])


def test_a_few_unreadable_golds_are_unlabelled_and_counted(tmp_path, reads_na_as_none):
    read = read_source(pool_with(tmp_path, 40, 2))
    assert read.table["answer"].null_count == 3
    assert (read.num_unreadable, [u.number for u in read.unreadable]) == (2, [1, 2])
    (note,) = read.notes
    assert "no answer could equal 2 of 40 golds in column 'answer'" in note
    assert "line 1: '?' is no answer; line 2" in note
    assert read.golds[:3] == (("?", None), ("?", None), ("2", "2"))


def test_many_unreadable_golds_are_refused_by_row(tmp_path, reads_na_as_none):
    source = pool_with(tmp_path, 40, 3)
    message = refused(source)
    assert "3 of 40 golds in column 'answer' (line 1: '?' is no answer; line 2" in message
    assert "--map answer=COLUMN" in message and "answers.pattern" in message
    assert rows_of(f"{source}?answer=")[0]["answer"] is None


def test_a_column_of_derivations_is_refused(tmp_path):
    rows = [
        {"problem": "12 pens, 5 go?", "solution": "[Solution] Take away.\n\nThus 7 stay."},
        {"problem": "3*4?", "solution": "We have $3\\cdot 4=\\boxed{12}$."},
    ]
    message = refused(write_jsonl(tmp_path / "q.jsonl", rows))
    assert "1 of 2 golds in column 'solution'" in message and "line 1" in message


# Repeated questions ------------------------------------------------------------------------------


def repeated(tmp_path, *answers, ids=None):
    rows = [{"prompt": "Other?", "answer": "1"}]
    rows += [{"prompt": "8 rows of 7?", "answer": answer} for answer in answers]
    if ids is not None:
        rows = [{**row, "id": id_} for row, id_ in zip(rows, ids, strict=True)]
    return write_jsonl(tmp_path / "q.jsonl", rows)


@pytest.mark.parametrize(
    ("answers", "gold"),
    [
        (("56", "56", "56"), "56"),
        (("56", 56.0), "56"),
        (("56.0", "56"), "56.0"),
        ((None, "56"), "56"),
        (("56", None), "56"),
        ((None, None), None),
        ((None, "1/2", "0.5"), "1/2"),
        ((["56", "57"], "57"), "56 ||| 57"),
        (("56", ["57", "56"]), "56"),
    ],
)
def test_one_of_equal_questions_is_kept_where_golds_agree(tmp_path, answers, gold):
    read = read_source(repeated(tmp_path, *answers))
    assert read.table["answer"].to_pylist() == ["1", gold]
    (note,) = read.notes
    assert f"left out {len(answers) - 1} of {len(answers) + 1} rows as duplicates of" in note
    assert "line 3 is line 2" in note


@pytest.mark.parametrize("answers", [("56", "57"), (None, "56", "57"), ("56", "56", "yes")])
def test_golds_that_differ_are_refused_by_row(tmp_path, answers):
    source = repeated(tmp_path, *answers)
    message = refused(source)
    last = len(answers) + 1
    assert f"line {last}: column 'prompt': is a duplicate of line" in message
    assert repr(answers[-1]) in message and "'56' there" in message
    assert 'pool.on_duplicate = "drop_disagreeing"' in message
    read = read_source(source, on_duplicate="drop_disagreeing")
    assert read.table["answer"].to_pylist() == ["1"]
    assert f"left out all {len(answers)} rows of repeated questions" in read.notes[0]


@pytest.mark.parametrize("answers", list(permutations(["25%", "25", "0.25"])))
def test_every_two_golds_agree_whatever_their_order(tmp_path, answers):
    assert "'25'" in (message := refused(repeated(tmp_path, *answers))) and "'0.25'" in message


def test_the_notes_name_rows_that_they_are_about(tmp_path):
    rows = [("A?", 1), ("A?", 2), ("B?", 3), ("B?", 3)]
    rows = [{"prompt": prompt, "answer": answer} for prompt, answer in rows]
    source = write_jsonl(tmp_path / "q.jsonl", rows)
    agreeing, disagreeing = read_source(source, on_duplicate="drop_disagreeing").notes
    assert "left out 1 of 4 rows" in agreeing and "line 4 is line 3" in agreeing
    assert "line 1 and line 2" in disagreeing


def test_the_verifier_decides_whether_golds_agree(tmp_path):
    source = repeated(tmp_path, "0.50", "1/2")
    assert len(rows_of(source)) == 2
    assert "their golds differ" in refused(source, verifier="exact")


def test_dropping_may_leave_nothing(tmp_path):
    rows = [{"prompt": "A?", "answer": 1}, {"prompt": "A?", "answer": 2}]
    source = write_jsonl(tmp_path / "q.jsonl", rows)
    assert "none is left" in refused(source, on_duplicate="drop_disagreeing")


def test_repeats_may_be_refused(tmp_path):
    message = refused(repeated(tmp_path, "56", "56"), on_duplicate="refuse")
    assert "line 3: column 'prompt': is the same question as line 2" in message


def test_the_first_id_of_a_repeated_question_is_kept(tmp_path):
    source = repeated(tmp_path, "56", "56", ids=["o", "b", "a"])
    assert [r["id"] for r in rows_of(source)] == ["o", "b"]
    # The same row twice: its id is no clash.
    source = repeated(tmp_path, "56", "56", ids=["o", "b", "b"])
    assert [r["id"] for r in rows_of(source)] == ["o", "b"]
