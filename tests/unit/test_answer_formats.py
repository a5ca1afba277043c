"""Each format of a response by its table, and the order in which they are tried."""

import time

import pytest

from pivottrace.errors import ConfigError
from pivottrace.verifier.answers import extract_answer
from pivottrace.verifier.formats import DEFAULT_FORMATS, FORMATS, format_named
from pivottrace.verifier.placeholders import is_placeholder, placeholders_of
from pivottrace.verifier.value_text import is_derivation, is_value

TABLES = {
    "tags": [
        ("<think>40 x 1212</think><answer> 48480 </answer>", "48480"),
        ("<think>..</think>\n<answer>\n48480\n</answer>", "48480"),
        ("<answer>1</answer> no, <ANSWER>2</ANSWER>", "2"),
        (r"<answer>It is $\boxed{5}$.</answer>", "5"),
        ("<answer>The answer is 48480.</answer>", "48480"),
        ("<answer>\nAnswer: 7\n</answer>", "7"),
        ("<answer>31+9=40. #### 40</answer>", "40"),
        ("<answer>**18**</answer>", "18"),
        ("<answer>Paris.</answer>", "Paris"),
        ("<answer>1</answer> <answer></answer> <answer> ", "1"),
        ("<answer>First we add 9 and 9. Then we see that it is 18.</answer>", None),
        ("<answer>your answer</answer>", None),
        ("<answer>18", None),
        ("answer: 18", None),
    ],
    "boxed": [
        (r"So $x=\boxed{3}$ or $x=\boxed{8}$.", "3, 8"),
        (r"$\boxed{3}$, $\boxed{8}$", "3, 8"),
        (r"\boxed{1}, \boxed{2}, and \boxed{3}.", "1, 2, 3"),
        (r"\(\boxed{-1}\) and \(\boxed{1}\)", "-1, 1"),
        (r"\[\boxed{3} \text{ or } \boxed{8}\]", "3, 8"),
        (r"\boxed{3}\quad\text{and}\quad\boxed{8}", "3, 8"),
        (r"\boxed{3} or \boxed{3}", "3"),
        (r"$x = \boxed{3}$ and $y = \boxed{8}$", "x=3, y=8"),
        (r"\boxed{1} and \boxed{2}. No: \boxed{3} or \boxed{4}.", "3, 4"),
        (r"\boxed{3}, wait, no, \boxed{8}", "8"),
        (r"\boxed{3}, so \boxed{8}", "8"),
        ("\\boxed{3}\n\n\\boxed{8}", "8"),
        ("$\\boxed{3}$,\n\n$\\boxed{8}$", "8"),
        (r"\boxed{3} \boxed{8}", "8"),
        (r"MATH has \boxed 2$ too", "2"),
        (r"\boxed{5}. Put it within \boxed{number}.", "5"),
        (r"\boxed{5}. Put it within \boxed{\text{your answer}}.", "5"),
        (r"\boxed{Answer: 5}", "5"),
        (r"\boxed{\text{The answer is } 5}", "5"),
        (r"\boxed{\text{the answer is clear}}", r"\text{the answer is clear}"),
        (r"\boxed{\text{Final answer}}", None),
        (r"\boxed{...}", None),
        (r"\boxed{\ldots}", None),
        (r"\boxed{number}", None),
        (r"\boxed{ }", None),
        ("boxed{18}", None),
    ],
    "hashes": [
        ("#### 18", "18"),
        ("9+9=18\n#### 18\n", "18"),
        ("31+9=40. #### 40", "40"),
        ("#### 1,234.\n", "1,234"),
        ("#### **18**", "18"),
        ("#### $18", "$18"),
        ("#### 18 apples", "18 apples"),
        ("#### 18\n\n#### Check\n9+9 is that.", "18"),
        ("#### C\nbecause of that", "C"),
        ("She lives there.\n#### Paris", "Paris"),
        ("#### The answer is 18.", "18"),
        ("#### Answer: 18\nDone.", "18"),
        (r"#### $x = \frac{1}{2}$", r"$x = \frac{1}{2}$"),
        ("#### Conclusion\nSo it is 18.", None),
        ("#### Step 1: count\nThere are 9.", None),
        ("#### 2. Add them\n9+9", None),
        ("#### 2) Add them", None),
        ("#### Conclusion", None),
        ("#### Final Answer", None),
        ("#### Step 3", None),
        ("#### Adding the apples", None),
        ("#### Results", None),
        ("#### Solve for x", None),
        ("#### Find the total", None),
        ("#### Keynes", "Keynes"),
        ("#### What we know:", None),
        ("#### Paris\nis the capital", None),
        ("#### Count\nThere are 9.\n#### References", None),
        ("##### 18", None),
        ("#### ", None),
        ("#### <number>", None),
    ],
    "line": [
        ("We sum up.\n\nAnswer: 34", "34"),
        ("x = 34\n\n**Answer:** 34.", "34"),
        ("First guess.\nAnswer: 12\nNo, redo.\nAnswer: $34$", "$34$"),
        ("ANSWER: 34", "34"),
        ("**Answer**: 34", "34"),
        ("**Final Answer: 34**", "34"),
        ("Final Answer: The largest $k$ is 21.", "21"),
        ("Answer: The boats are late.", "The boats are late"),
        ("### Answer: 34", "34"),
        ("- Answer: 34 apples.", "34 apples"),
        ("We add. Answer: 34.", "34"),
        ("Final Answer: The final answer is $5$. I hope it is correct.", "$5$"),
        ("Answer: 34. It is twice 17.", "34"),
        ("Answer: 34, because it is twice 17", "34"),
        ("**Final Answer**\n\n34", "34"),
        ("### Final Answer\n\n\\[\n34\n\\]", "34"),
        ("Answer:\nParis", "Paris"),
        ("Answer: B. Paris", "B"),
        ("Final answer (in dollars): 34", "34"),
        ("Answer:\n- 34", "34"),
        ("Answer:\n```\n34\n```", "34"),
        (r"Answer: $\boxed{34}$", "34"),
        (r"Answer: \boxed{}", None),
        ("Answer: **not** 18", None),
        ("Answer: -34", "-34"),
        ("**Final Answer:**\n\nThere are 34 of them in the box.", None),
        ("Answer:\nWe need to find the number first.", None),
        ("Answer: Let us count the apples.", None),
        ("Answer: To find it, we add 9 and 9.", None),
        ("Answer: $Answer", None),
        ("Answer: [answer]", None),
        ("The students answer: 34", None),
        ("Answer:", None),
    ],
    "stated": [
        ("The answer is 3.5. Let me check.", "3.5"),
        ("the answer is $\\frac{1}{2}$.", "$\\frac{1}{2}$"),
        ("The final answer is: 5 apples!", "5 apples"),
        ("**The answer is 18.**", "18"),
        ("The answer is **18** dollars.", "18 dollars"),
        ("The answer is 2**3.", "2**3"),
        ("The answer is\n18\nbecause", "18"),
        ("The answer is 1. The answer is 2. The answer is", "2"),
        ("Thus the correct answer is (C).", "(C)"),
        ("So the answer to the question is 7.", "7"),
        ("My final answer is 7.", "7"),
        ("Final answer is 7.", "7"),
        ("the correct option is B.", "B"),
        ("The answer would be 7", "7"),
        ("The answer is 18, because 9 and 9 are 18.", "18"),
        ("The answer is 5, not 6.", "5"),
        ("The answer is\n\\[\n18\n\\]", "18"),
        ("The answer is $$18$$", "18"),
        ("The answer is 18. We checked that the answer is correct.", "18"),
        ("The answer is therefore 18.", "18"),
        ("So the answer: 18", "18"),
        (r"The answer is $\boxed{18}$.", "18"),
        ("The answer is **not** 18.", None),
        ("The answer is right triangle.", "right triangle"),
        ("Answer is 18.", "18"),
        ("The answer is:\n\n- 18", "18"),
        ("The answer is: -18", "-18"),
        ("So, the answer is:\n\n**B**", "B"),
        ("The answer is x = 5 or x = -3.", "x = 5 or x = -3"),
        ("The answer is correct because we checked it.", None),
        ("The answer is not obvious.", None),
        ("The answer is found by adding.", None),
        ("The answer is in the form a/b.", None),
        ("If your answer is 12, you are wrong.", None),
        ("The answer is", None),
    ],
    "bold": [
        ("We add.\nSo there are **18** apples left.", "18"),
        ("**18**", "18"),
        ("**$x = 5$**.", "$x = 5$"),
        ("from **9** to **18 apples.**", "18 apples"),
        ("**18**\n\n", "18"),
        ("**18**\nThat is it.", None),
        ("**Conclusion**", None),
        ("**Paris**", None),
        ("**2. Add them**", None),
        ("**Note that it is more than 5**", None),
        ("2**3", None),
    ],
    "letter": [
        ("A) 11", "A"),
        ("D) antimony\nIt has the symbol Sb.", "D"),
        ("(B) 24", "B"),
        ("**C.** Because it is heavy.", "C"),
        ("B\n\nBecause it is heavy.", "B"),
        ("B: tin", "B"),
        (" C", "C"),
        ("A) 11, so A) it is.\nA) 11", "A"),
        ("A) 11\nB) 50\nC) 19", None),
        ("A man has 3 apples.", None),
        ("I. Introduction", None),
        ("As B) says, it is tin.", None),
        ("A.5", None),
        ("b) tin", None),
    ],
}


def test_each_format_has_a_table():
    assert tuple(TABLES) == tuple(FORMATS) == (*DEFAULT_FORMATS, "letter")


@pytest.mark.parametrize(
    ("name", "text", "answer"),
    [(name, text, answer) for name, table in TABLES.items() for text, answer in table],
)
def test_a_format_alone(name, text, answer):
    assert extract_answer(text, formats=[name]) == answer


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_reads_its_own_example(name):
    example = FORMATS[name].reads.strip("`").replace("a line `", "").replace('"', "")
    example = "**18**" if name == "bold" else example
    assert extract_answer(example, formats=[name]) == ("B" if name == "letter" else "18")


def test_the_order_of_the_formats():
    answers = {
        "tags": "<answer>1</answer>",
        "boxed": r"\boxed{2}",
        "hashes": "#### 3",
        "line": "Answer: 4",
        "stated": "The answer is 5.",
        "bold": "**6**",
    }
    texts = "\n".join(answers.values())
    found = [extract_answer(texts, formats=DEFAULT_FORMATS[first:]) for first in range(6)]
    assert found == ["1", "2", "3", "4", "5", "6"]
    assert extract_answer(texts, formats=["stated", "tags"]) == "5"
    assert extract_answer(texts, formats=[]) is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>The answer is 12?</think>\nSo there are **18** left.", "18"),
        (r"<think>\boxed{12}</think> There are 18 left.", None),
        (r"<think>\boxed{12}</think> \boxed{18}", "18"),
        ("<think>The answer is 12.</think>\n", "12"),
        ("<think>The answer is 12. But", "12"),
        ("<think>a</think> Answer: 1 <think>b</think> Answer: 2", "2"),
    ],
)
def test_a_guess_while_thinking_is_no_answer_if_something_follows(text, answer):
    assert extract_answer(text) == answer


def test_an_unknown_format_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"'boxes': there is no .* nearest one is boxed"):
        format_named("boxes")


@pytest.mark.parametrize(
    "text",
    [
        "nothing here",
        "",
        "There are 18 apples.",
        "#### Understanding\nThere are 18 boxes.\n#### Conclusion\nThere are 18.",
        "## Answer check\nWe look again.",
        "The answer must be in a box: \\boxed{number}",
        "I will put it in <answer></answer> tags.",
        "**Step 1**",
        "Answer: your answer here",
        "Answer: I cannot solve this.",
        "The answer is I don’t know.",
        r"\boxed{I don't know}",
        r"A guess is \boxed{18}, but in the end: \boxed{\text{N/A}}",
        "<answer>Not sure.</answer>",
    ],
)
def test_what_matches_no_format_is_no_answer(text):
    assert extract_answer(text) is None


# Template words ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        *("number", "answer", "Your answer", "final answer", "result", "value", "...", "…"),
        *("[answer]", "<answer>", "{answer}", "YOUR_ANSWER", "$Answer", r"\text{answer}", "___"),
        *(
            r"\text{your final answer}",
            "<your answer here>",
            "?",
            r"\dots",
            "(number)",
            "**answer**",
        ),
    ],
)
def test_template_words(text):
    assert is_placeholder(text)


@pytest.mark.parametrize(
    "text",
    [
        *("18", "x", "C", "-", "no", "none", "()", r"\{\}", "[]", "number 5", "prime number", "0"),
        *("the answer to life", "valued", r"\emptyset"),
    ],
)
def test_answers_that_are_no_template_words(text):
    assert not is_placeholder(text)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (r"Put the city in \boxed{city name}.", {"city name"}),
        (r"Write \boxed{\text{City}} or <answer>town</answer>", {"city", "town"}),
        ("End with #### total count", {"total count"}),
        ("The last line is Answer: the letter", {"the letter"}),
        (r"Write \boxed{42}, for example.", set()),
        (r"Write \boxed{B}.", set()),
        (r"Write \boxed{yes}.", set()),
        (r"Write \boxed{even} or \boxed{odd}.", set()),
        (r"Write \boxed{}.", set()),
        (r"Write \boxed{number}.", set()),  # a template word in any case
        ("Think step by step.", set()),
        ("", set()),
        (None, set()),
    ],
)
def test_template_words_of_a_prompt(prompt, words):
    assert placeholders_of(prompt) == words


def test_what_a_prompt_shows_is_no_answer():
    known = placeholders_of("Be kind.", r"Put it in \boxed{city name}.")
    text = r"I found \boxed{Rome}. I should use \boxed{city name}."
    assert extract_answer(text, placeholders=known) == "Rome"
    assert extract_answer(r"\boxed{City name}", placeholders=known) is None
    assert extract_answer(r"\boxed{number}", r"\\boxed{(\w+)}") == "number", (
        "a pattern alone counts"
    )


# Values and prose --------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["18", "$x=5$", "(C)", "C", "18 apples", "3, 8", "2:30", r"\pi"])
def test_values(text):
    assert is_value(text)


@pytest.mark.parametrize("text", ["Paris", "2. Add them", "Step 2", "No", "Case 1: x > 0", ""])
def test_texts_that_are_no_values(text):
    assert not is_value(text)


@pytest.mark.parametrize(
    ("text", "derives"),
    [
        ("[Solution] Taking away gives $12-5=7$.\n\nThus 7 pens stay in the box.", True),
        ("We have x = 3.\nSo y = 4.", True),
        ("$x=3$\n$y=x+1=4$", True),
        ("there are nine and nine of them and so on " * 3, True),
        ("我们有九个苹果。再加九个。一共十八个苹果在桌子上。" * 15, True),
        ("Yes. He can.", False),
        ("Mr. Smith", False),
        ("Dr. Martin Luther King", False),
        ("[Solution] Take away.\n\nThus 7 stay.", True),
        ("1 2 3\n4 5 6", False),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", False),
        ("the powerhouse of the cell", False),
        ("1, " * 200, False),
        ("x^2+3x-5", False),
    ],
)
def test_derivations(text, derives):
    assert is_derivation(text) is derives


# Hostile lengths ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "unit",
    [
        *(
            " ",
            "*",
            "<answer>",
            "</answer>",
            "<answer>x</answer>",
            "\\boxed{1} or ",
            "\\boxed{1}" + " " * 58,
        ),
        *("#### Step\n", "#### ", "Answer:\n", "Answer: \n\n", " " * 50 + "answer", "> * # "),
        *(
            "the answer is not ",
            "the answer is   ",
            "**1** ",
            "** ",
            "\n",
            "answer:",
            "Answer: to it\n",
        ),
    ],
)
def test_a_million_characters_take_under_two_seconds(name, unit):
    _read_quickly(name, unit * (1_000_000 // len(unit)))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("prefix", ["answer", "\nfinal", "the answer is", "####", "Answer:\n**"])
def test_a_million_blanks_behind_a_format_take_under_two_seconds(name, prefix):
    _read_quickly(name, prefix + " " * 1_000_000 + "x")


def _read_quickly(name, text):
    start = time.process_time()
    extract_answer(text, formats=[name])
    assert time.process_time() - start < 2.0
