"""Golds as people and data sets write them."""

import time

import pytest
from ingest_sources import write_jsonl

from pivottrace.errors import DataError
from pivottrace.ingest.questions import read_source
from pivottrace.ingest.values import to_answer
from pivottrace.verifier.decimal_signs import decimal_signs, without_decimal_comma
from pivottrace.verifier.gold import agree, read_gold


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("25", "25"),
        (" 25. ", "25"),
        ("Paris.", "Paris"),
        ("U.S.", "U.S."),
        ("**25**", "25"),
        ("The answer is 25", "25"),
        ("31+9=40. #### 40", "40"),
        (r"\boxed{15}", "15"),
        ("Answer: 34", "34"),
        ("<answer>7</answer>", "7"),
        (r"We factor. So $x=\boxed{3}$ or $x=\boxed{8}$.", "3, 8"),
        ("9 (apples)", "9"),
        ("12 (twelve)", "12"),
        ("1,200 (marbles in the box)", "1200"),
        ("0,125", "0,125"),
        ("-3/4 (of it)", "-3/4"),
        ("25 (or 26)", "25 ||| 26"),
        ("5 dollars (or 500 cents)", "5 dollars ||| 500 cents"),
        ("12 (or so)", "12"),
        ("The total is 25.", "25"),
        ("There are 25 apples", "25 apples"),
        ("No solution if n is 5", "No solution if n is 5"),
        ("The capital is Paris", "The capital is Paris"),
        ("Na", "Na"),
        ("5 km", "5 km"),
        ("5 (km)", "5 (km)"),
        ("5 (mod n)", "5 (mod n)"),
        ("12 apples", "12 apples"),
        ("f(x)", "f(x)"),
        (r"\text{(C)}", r"\text{(C)}"),
        ("(C)", "(C)"),
        ("C. Paris", "C. Paris"),
        ("Rome (Italy)", "Rome (Italy)"),
        ("1,234,567", "1234567"),
        ("3,5", "3,5"),
        ("x = 5", "x = 5"),
        ("12-5=7", "12-5=7"),
        ("1 2 3\n4 5 6", "1 2 3\n4 5 6"),
        ("no", "no"),
        ("No", "No"),
        ("none of these", "none of these"),
        ("the answer is none", "none"),
        (r"\boxed{none}", "none"),
        (r"\boxed{\text{unknown}}", r"\text{unknown}"),
        ("0", "0"),
        ("1/2 ||| 0.5", "1/2 ||| 0.5"),
        ("The answer is 4 ||| four (4)", "4 ||| four (4)"),
        ("4 ||| NA", "4"),
        ("9.8 [tolerance 0.01]", "9.8 [tolerance 0.01]"),
        ("9 (apples) ||| nine [tolerance 1e-3]", "9 ||| nine [tolerance 1e-3]"),
        ("9 [tolerance big]", "9 [tolerance big]"),
    ],
)
def test_a_gold_is_read(text, answer):
    assert read_gold(text) == (answer, None)
    assert to_answer(text) == answer


@pytest.mark.parametrize(
    "text",
    [
        *("", "  ", "NA", "N/A", "n/a", "?", "??", "-", "—", "none", "None", "null", "NaN", "#N/A"),
        *("unknown", "Unknown", "don't know", "Don’t know.", "I don't know", "not sure", "idk"),
        *(
            "IDK",
            "no answer",
            "TBD",
            "...",
            "the answer is",
            r"\text{N/A}",
            "Answer: ?",
            "The answer is N/A",
            "Answer:",
        ),
        *("NA ||| ?", "NA [tolerance 0.1]", "dunno", "Unclear.", "#REF!", "#DIV/0!", "can't say"),
    ],
)
def test_unlabelled(text):
    assert read_gold(text) == (None, None)


@pytest.mark.parametrize(
    "text",
    [
        "[Solution] Taking away gives $12-5=7$.\n\nThus 7 pens stay in the box.",
        "We add nine and nine. Then we see that there are eighteen.",
        "First we look at the number of apples in the first box and add the number of apples in "
        "the second box to it",
        "Let $x=3$.\nThen $y=x+1$ follows.",
        "There are 12 pens. Five go. So there are 7 left.",
    ],
)
def test_a_derivation_is_no_gold(text):
    assert read_gold(text) == (None, "is a derivation without a final answer")
    assert to_answer(text) is None


@pytest.mark.parametrize(
    "text",
    [
        *("maybe 25", "Probably 25 km", "25?", "C?", "25 (not sure)", "25 (?)", "25, I guess"),
        *("not sure, maybe 25", "I'm not sure but 25", "the answer is maybe 25", "Answer: 25?"),
        *("25 or 26?", "2 + 3 = ?", "perhaps it's 25", "maybe 4 [tolerance 0.1]"),
    ],
)
def test_a_guess_is_no_gold(text):
    assert read_gold(text) == (None, "is a guess")


@pytest.mark.parametrize(
    "text",
    [
        *("maybe", "Maybe", "Probably not", "perhaps Paris", "Perhaps he was tired", "guess"),
        *("Why?", "Who is it?", "possible", "x+1", "So what", "I think, therefore I am"),
        *("It is raining", "This is it", "ansatz", "It is not 5"),
    ],
)
def test_words_of_doubt_and_short_sentences_may_be_an_answer(text):
    assert read_gold(text) == (text, None)


@pytest.mark.parametrize(
    "text",
    ["So 25", "It's 25", "It is 25.", "That is 25", "Ans: 25", "Ans. 25", "I think it's 25"],
)
def test_a_short_statement_is_read(text):
    assert read_gold(text) == ("25", None)


@pytest.mark.parametrize(
    "piece",
    [
        *("#### \n", "**", "\n", " ", "(", " ||| ", "$$", "\\[", "?", "。", "{", "\\", "."),
        *("[tolerance ", "maybe ", "so ", "it is ", "not sure ", "the ", "\\boxed{", "Answer"),
    ],
)
def test_a_hostile_cell_is_read_in_time_linear_in_its_length(piece):
    for before in ("", "a"):
        text = before + piece * (20_000 // len(piece)) + "b"
        start = time.process_time()
        read_gold(text)
        assert time.process_time() - start < 2  # 0.05 s; in quadratic time it is above 10 s


def test_a_gold_that_is_too_long_is_none():
    assert read_gold("9" * 1000).answer == "9" * 1000
    assert read_gold("9" * 1001) == (None, "has 1001 characters, and an answer has 1000 at most")


def test_a_pattern_is_tried_first():
    assert read_gold("Result = 12 (from \\boxed{3})", r"Result = (\d+)").answer == "12"
    assert read_gold("see \\boxed{3}", r"Result = (\d+)").answer == "3"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3,5", "3.5"),
        (" -0,25 ", "-0.25"),
        ("1.200,5", "1200.5"),
        ("1,234", "1.234"),
        ("1.5", "1.5"),
        ("7", "7"),
        ("3,5 km", "3.5 km"),
        ("1.234,50 €", "1234.50 €"),
        ("€ 3,5", "€ 3.5"),
        ("12,5%", "12.5%"),
        ("3,5 cm^2", "3.5 cm^2"),
        ("3,5 (apples)", "3.5 (apples)"),
        ("3,5 or 4,5", "3,5 or 4,5"),
        ("3,5,x", "3,5,x"),
        ("(3,5)", "(3,5)"),
        ("1, 2", "1, 2"),
        ("1,2,3", "1,2,3"),
        ("A,B", "A,B"),
        ("3.500 m", "3500 m"),
        ("1.234.567", "1234567"),
        ("0.500", "0.500"),
        ("CHF 1.235,00", "CHF 1235.00"),
        ("1 234,50 €", "1234.50 €"),
        ("x = 3,5", "x = 3.5"),
        ("ca. 3.500 m", "ca. 3500 m"),
        ("3,5 ||| 3.500", "3.5 ||| 3500"),
        ("3,5 [tolerance 0,01]", "3.5 [tolerance 0.01]"),
        ("2024-05-01", "2024-05-01"),
        ("12.34.5", "12.34.5"),
    ],
)
def test_the_decimal_comma(text, number):
    assert without_decimal_comma(text) == number


@pytest.mark.parametrize(
    ("cells", "is_comma", "told"),
    [
        (["3.500 m", "3,5"], True, "'3.500 m' is 3500 m, as '3,5' shows; such cells: 1"),
        (["7", "3.500"], True, "row 2: '3.500' is 3500; such cells: 1"),
        (["3.500", "2.25"], False, "'3.500' is 3.500, as row 2: '2.25' shows"),
        (["3.500", "0.125"], False, "the point is the decimal sign"),
        (["2.25", "3,5"], True, None),  # each cell shows its own sign
        (["1,234", "3,5", "1.234.567"], True, None),
        (["7"], True, None),
    ],
)
def test_a_column_decides_on_its_signs(cells, is_comma, told):
    signs = decimal_signs((f"row {i}", cell) for i, cell in enumerate(cells, 1))
    assert signs.comma == is_comma
    assert signs.note is None if told is None else told in signs.note


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (
            ["3.500", "2.25", "3,5"],
            "row 1: '3.500' may be 3500 or 3.500: the decimal comma",
        ),
        (["2.25", "1,234"], "row 2: '1,234' may be 1234 or 1.234: the semicolons and the decimal"),
        (["2.25", "1.234.567", "4.000 m"], "row 3: '4.000 m' may be 4000 or 4.000"),
    ],
)
def test_a_column_with_both_signs_is_refused_where_a_cell_has_two_values(cells, told):
    with pytest.raises(DataError) as caught:
        decimal_signs((f"row {i}", cell) for i, cell in enumerate(cells, 1))
    assert told in str(caught.value)


def test_golds_agree_by_any_alternative_in_either_direction():
    def equal(answer, truth):  # 25 is right where the truth is 25.0, and not the other way round
        return answer in truth.split(" ||| ") or (answer == "25" and "25.0" in truth)

    assert agree("25", "25.0", equal) and agree("25.0", "25", equal)
    assert agree("24 ||| 25", "25.0 ||| 26 [tolerance 0.1]", equal)
    assert not agree("24", "25", equal)


def test_open_cells_of_a_pool_are_unlabelled_and_counted(tmp_path):
    cells = ["NA", "7", "?", "don't know", "", None, "9 (apples)"]
    rows = [{"prompt": f"{i}?", "answer": cell} for i, cell in enumerate(cells)]
    read = read_source(write_jsonl(tmp_path / "q.jsonl", rows))
    assert read.table["answer"].to_pylist() == [None, "7", None, None, None, None, "9"]
    (note,) = read.notes
    assert "cells of column 'answer' that say there is no answer: 3 (line 1: 'NA')" in note
