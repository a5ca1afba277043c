"""When two answers are the same: one table per rule of docs/answers.md, and the order of votes."""

import random
from itertools import permutations

import pytest

from pivottrace.verifier import Verifier
from pivottrace.verifier.forms import form_of

# (gold, answer, whether the answer is right).
RULES = {
    "numbers": [
        ("2024", "2,024", True),
        ("7.0", "7", True),
        ("4/6", "2/3", True),
        ("1.5", r"\frac{3}{2}", True),
        (r"3\frac12", "3.5", True),
        (r"0.1\overline{6}", "1/6", True),
        ("twelve", "12", True),
        ("one hundred and five", "105", True),
        ("half", "1/2", True),
        ("12", "twenty", False),
        ("1234567", "1234568", False),
        ("12345.67", "12345.68", False),
        ("-5", "5", False),
        ("1000.99", "1000,99", True),
        ("0,111", "0.111", True),
        ("12", "1, 2", False),
        ("1/3", "0.333...", True),
        ("0.333", "0.333...", False),
        ("31", "0x1F", True),
        ("20", "twenty-first", False),
        ("0", "zero point five", False),
        ("18", "9 + 9 = 18", True),
        ("18", "9 + 9 = 19", False),
        ("2018", "2024-05-01", False),
        ("2024-05-02", "2024-05-01", False),
        ("192.168.0.1", "192.168.0.2", False),
        ("IV", "VI", False),
    ],
    "words that change a number": [
        ("5", "5 apples, 6 pears", False),
        ("5", "5 out of 6", False),
        ("5", "5 divided by 2", False),
        ("5", "5 times 2", False),
        ("5", "5 choose 2", False),
        ("5", "5 hours 30 minutes", False),
        ("5", "5 (or 6)", False),
        ("5", "5 or more", False),
        ("5", "5 negative", False),
        ("5", "5 May", False),
        ("5", "5M", False),
        ("3", "one two", False),
        ("109", "nineteen ninety", False),
        (r"n \text{ is even}", r"n \text{ is odd}", False),
        ("5'", "5''", False),
        ("30", r"30^\circ, 60^\circ", False),
        (r"30^\circ, 60^\circ", "60, 30", True),
        (r"3 \pmod 5", "3", True),
        (r"3 \pmod 5", "3 (mod 7)", False),
        (r"x \equiv 3 \pmod{5}", "x ≡ 3 (mod 5)", True),
    ],
    "small and large": [
        (r"6.6 \times 10^{-34}", "6.6e-34", True),
        (r"1.6 \times 10^{-19}", r"9.1 \times 10^{-31}", False),
        ("0.00000031", "0.00000032", False),
        (r"2^{100}", "1267650600228229401496703205376", True),
        (r"2^{100}", "1267650600228229401496703205377", False),
    ],
    "closed forms": [
        (r"\frac{\pi}{2}", "1.5707963", True),
        (r"\frac{\pi}{2}", "1.57", False),
        ("1/3", "0.333333", True),
        ("1/3", "0.333", False),
        (r"\sqrt{50}", r"5\sqrt{2}", True),
        (r"\frac{1}{\sqrt{2}}", r"\frac{\sqrt{2}}{2}", True),
        (r"\log_{10} 100", "2", True),
        ("5!", "120", True),
        ("2(3)", "6", True),
        ("1+2i", "2i+1", True),
        ("i", "-i", False),
        (r"\frac{\sqrt{3}}{3} \approx 0.577", r"\frac{\sqrt{3}}{3}", True),
        (r"\sin 30^\circ", "1/2", True),
        (r"2\cos 20^\circ", r"2\cos 20", False),
    ],
    "expressions": [
        ("(x-1)(x+1)", "x^2-1", True),
        ("x^2-1", "x^2+1", False),
        (r"e^{-2t}+C_1", "C_1 + e^{-2t}", True),
        (r"\frac{x^2-1}{x-1}", "x+1", True),
        ("2x", "2y", False),
        # The parser misreads these, so they equal nothing but their own text.
        (r"\gcd(a,b)+1", r"\gcd(a,c)+1", False),
        (r"\gcd(a,b)+1", r"\gcd(a,b)+1", True),
        (r"2\{x\}+1", r"2x\{1\}+1", False),
        ("n!!+1", "(n!)!+1", False),
        ("xy", "yx", True),
        ("2ab", "2", False),
        ("2t", "2", False),
        ("x + v t", "x + v", False),
        ("(a+b)^2", "a^2+2ab+b^2", True),
        (r"\frac{M}{m}", "1", False),
        ("GMm", "Gm^2", False),
        ("x'", "x", False),
        ("|x|", "x", False),
        (r"\sqrt{x^2}", "x", False),
        (r"\sqrt{\frac{m}{k}}", r"\frac{\sqrt{m}}{\sqrt{k}}", True),
        (r"\ln\frac{a}{b}", r"\ln a - \ln b", True),
        (r"\sqrt{-x}", r"\sqrt{x}", False),
        (r"\lfloor n/2 \rfloor", r"\left\lfloor\frac{n}{2}\right\rfloor", True),
        (r"\lfloor n/2 \rfloor", r"\lfloor n/3 \rfloor", False),
        (r"\gcd(a,b)", "1", False),
        ("x", "x} + 1", False),
        (r"x \cup", r"x \cup", True),
        (r"2\{x\}", "2x", False),
        (r"\binom{2n}{n}", r"\frac{(2n)!}{n!^2}", True),
    ],
    "names": [
        ("x=5", "5", True),
        ("5", "x = 5", True),
        ("x=5", "y=5", False),
        ("AB=6", "6", True),
        ("|AB|=1", "1", True),
        ("A:B=7:32", "7:32", True),
        ("xy=6", "6", False),
        ("x+z=6", "6", False),
        ("x = xy+1", "xy+1", False),
        (r"y=2x+1", "2x+1", True),
        ("2x+4y-3=0", r"y=-\frac{1}{2}x+\frac{3}{4}", True),
        ("2x+3y=6", "4x+6y=12", True),
        ("2x+3y=6", "2x+3y=7", False),
        ("x = 2 + 3 = 5", "5", True),
    ],
    "several values": [
        ("x=3 or x=8", "3, 8", True),
        ("3, 8", "8, 3", True),
        ("3, 8", "8", False),
        ("3 and 8", r"\{3, 8\}", True),
        (r"\pm 5", "5, -5", True),
        (r"x_1=3, x_2=8", "8 and 3", True),
        (r"\frac{1 \pm \sqrt{5}}{2}", r"\frac{1+\sqrt5}{2}", False),
        ("3 and 5 cm", "3 cm, 5 cm", True),
        (r"\emptyset", r"\varnothing", True),
        ("5, 5", "5", True),
    ],
    "points": [
        ("(1,2)", "(2,1)", False),
        ("(4,9)", r"\{4,9\}", False),
        ("(1,2,3)", r"\left(1, 2, 3\right)", True),
        ("(p,q)=(3,2)", "(3,2)", True),
        ("x=3, y=8", "(3,8)", True),
        ("x=3, y=8", "(8,3)", False),
        ("y=8, x=3", "x=3, y=8", True),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "(1, 2)", True),
        ("(1,2),(3,4)", "(3,4), (1,2)", True),
    ],
    "intervals": [
        ("(1,2]", r"1 < x \le 2", True),
        ("(1,2]", "[1,2]", False),
        ("x > 3", r"(3, \infty)", True),
        ("x < 1", "-x > -1", True),
        (r"[3,\infty)", r"x \ge 3", True),
        (r"(-\infty,1)\cup(5,\infty)", "x<1 or x>5", True),
        (r"\{x | x>3\}", "x>3", True),
        (r"x \in (1, 2)", "(1, 2)", True),
    ],
    "matrices": [
        (
            r"\begin{pmatrix}1&2\\3&4\end{pmatrix}",
            r"\begin{bmatrix} 1 & 2 \\ 3 & 4 \end{bmatrix}",
            True,
        ),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&3\\2&4\end{pmatrix}", False),
        (
            r"\begin{pmatrix}1&2\\3&4\end{pmatrix}",
            r"\left[\begin{array}{cc}1&2\\3&4\end{array}\right]",
            True,
        ),
    ],
    "units": [
        ("5 km", "5", True),
        ("5", "5 km", True),
        ("5 km", "5 m", False),
        ("5 km", "5 kilometers", True),
        (r"5\text{ cm}^2", "5 cm", False),
        (r"5\text{ cm}^2", "5 square centimetres", True),
        ("60 km/h", "60 km per hour", True),
        ("1.5 hours", "90 minutes", False),
        (r"90^\circ", "90 degrees", True),
        ("12 apples", "12 (marbles)", True),
        ("12 eggs", "12 dozen", False),
        ("5 GHz", "5 MHz", False),
        (r"\sqrt{13} cm", r"\sqrt{13}", True),
        (r"3.00 \times 10^{8} \mathrm{~m} / \mathrm{s}", "3e8 m/s", True),
        ("5 m away", "5 km away", False),
        ("5 km away", "5", True),
        (r"30^\circ N", r"30^\circ S", False),
        ("5 cm2", "5 cm^2", True),
        (r"164\pi \text{ square feet}", r"164\pi", True),
    ],
    "money": [
        ("$5", "5 dollars", True),
        ("$5", "5 cents", False),
        ("$5M", "5 million dollars", True),
        ("€1,200", "1200", True),
        ("$18 per hour", "18 dollars", True),
        ("25k", "25000", True),
        ("CHF 1'235.00", "1235", True),
        ("CHF 43,20", "43.20 CHF", True),
        ("CHF 3", "3 CHF", True),
        ("CHF 3", "3 EUR", False),
        ("PLN 3", "3 zł", True),
        ("Fr. 43.20", "CHF 43.20", True),
        ("5 CUP", "5 cups", True),  # a code that is a word stays one
        ("TOP 3", "3", False),
        ("ISO 9001", "9001", False),
        ("1 300 €", "1300 EUR", True),
        ("1.428,00 Euro", "1428", True),
    ],
    "thousands": [
        ("4 000 m", "4000 m", True),
        ("4\u00a0000 m", "4000", True),
        ("4\u202f000,5 m", "4000.5", True),
        ("1.234.567", "1234567", True),
        ("1.234,5 km", "1234.5", True),
        ("(1.234,5)", "1234.5", False),
        ("12.500,13.250", "12500.13250", False),
        ("192.168.1.1", "19216811", False),
        ("1 300/400", "7/4", True),
        ("ca. 100", "100", True),
        ("k. A.", "k A", False),
        ("18", "$18/day", True),
    ],
    "percent": [
        ("50%", "50", True),
        ("50%", "0.5", True),
        ("50%", "0.05", False),
        (r"$28\%$", "$28$ percent", True),
        (r"33\frac{1}{3}\%", r"33\frac13", True),
        ("5 per cent", "5%", True),
    ],
    "bases": [
        ("101_2", "101_{3}", False),
        ("2516_8", "2516_{8}", True),
        ("2516_8", "2516", True),
        ("2516_8", "1358", False),
        ("101_2", "101 (base 2)", True),
        ("101_2", "101 in base 3", False),
    ],
    "times and ratios": [
        ("3:45 PM", r"3:45\text{ p.m.}", True),
        ("09:05", "9:05", True),
        ("9:05 am", "9:05 pm", False),
        ("12:00", "1:00", False),
        ("1:2", "2:4", True),
        ("2:3:5", "4:6:10", True),
        ("10:15", "2:3", False),
    ],
    "texts": [
        ("yes", "Yes.", True),
        ("Paris", "London", False),
        ("listen", "silent", False),
        (r"\text{Evelyn}", "evelyn", True),
        ("(C)", "C", True),
        ("C", "c", True),
        ("no solution", "No solution.", True),
        ("Paris, France", "paris, france", True),
        ("no", "on", False),
        (r"p \land q", r"p \lor q", False),
        ("no", "No.", True),
        ("ellipse", "an ellipse", True),
        (r"(-\infty, \infty)", "all real numbers", True),
    ],
    "truths": [
        ("A ||| B", "b", True),
        ("12 ||| 13", "13", True),
        ("12 ||| 13", "14", False),
        ("9.8 [tolerance 0.01]", "9.81", True),
        ("9.8 [tolerance 0.001]", "9.81", False),
        ("(1, 3) [tolerance 0.1]", "(1.05, 3)", True),
    ],
}
CASES = [(rule, *case) for rule, cases in RULES.items() for case in cases]


@pytest.fixture(scope="module")
def maths():
    with Verifier("math", timeout_s=20.0) as verifier:
        yield verifier


@pytest.mark.parametrize(("rule", "gold", "answer", "right"), CASES)
def test_rules(maths, rule, gold, answer, right):
    assert maths.equal(answer, gold) == right


def test_a_tolerance_of_the_run_serves_every_number_and_no_vote():
    with Verifier("math", tolerance=0.01) as verifier:
        assert verifier.check_many(["9.81", "100", "101"], ["9.8", "100", "102"]) == [True] * 3
        assert not verifier.equal("9.6", "9.8")
        assert verifier.group(["9.81", "9.8"]) == [0, 1]


@pytest.mark.parametrize(
    ("answers", "classes"),
    [
        (["5", "5 km", "5 km", "7"], [0, 0, 0, 1]),
        # With two units the bare number stands alone, and nothing is joined that was apart.
        (["5", "5 km", "5 m"], [0, 1, 2]),
        (["x=6", "2x+3y=6", "6"], [0, 1, 0]),
        (["x=5", "y=5", "5"], [0, 1, 2]),
        (["1/3", "0.333333333333", "0.3333"], [0, 0, 1]),
        (["x^2-1", "(x-1)(x+1)", "x^2"], [0, 0, 1]),
        (["3, 8", "x=8 or x=3", "8"], [0, 0, 1]),
        ([None, "", "5", " "], [-1, -1, 0, -1]),
        (["50%", "50", "0.5"], [0, 0, 1]),
        ([r"1.6\times10^{-19}", r"9.1\times10^{-31}"], [0, 1]),
    ],
)
def test_classes_of_a_vote(maths, answers, classes):
    assert maths.group(answers) == classes


POOL = """5|5.0|5 km|5 m|$5|5 dollars|x=5|y=5|5%|0.05|five|5/1|6|x=6|2x+3y=6|4x+6y=12|1/3
0.333333|0.333333333333|\\frac{1}{3}|1.6e-19|1.6 \\times 10^{-19}|9.1e-31|101_2|101_3|101|x+1|1+x
(x+1)^2|x^2+2x+1|\\sqrt{2}|1.41421356237|\\frac{2}{\\sqrt{2}}|(1,2)|1<x<2|\\{1,2\\}|1, 2|2, 1|[1,2]
Paris|paris|3:45|3:45 pm|3:45 am|1:2|2:4|yes|no|\\emptyset|x>3|(3,\\infty)|x_1=1, x_2=2|A|(A)
\\pm 2|2, -2|2 and -2|e|C_1 e^{t}|e^{t} C_1""".replace("\n", "|").split("|")


def partition(answers, classes):
    """The classes as a set of sets of answers."""
    return {frozenset(a for a, c in zip(answers, classes, strict=True) if c == k) for k in classes}


@pytest.mark.parametrize("groups", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_classes_do_not_depend_on_the_order(maths, groups):
    generator = random.Random(0)
    for _ in range(groups):
        answers = generator.sample(POOL, generator.randint(2, 5))
        wanted = partition(answers, maths.group(answers))
        for order in permutations(answers):
            assert partition(order, maths.group(order)) == wanted, answers


def test_an_answer_more_never_joins_two_classes_of_numbers(maths):
    generator = random.Random(1)
    numbers = [text for text in POOL if form_of(text) == "number"]
    for _ in range(2_000):
        answers = generator.sample(numbers, 4)
        before = maths.group(answers)
        after = maths.group([*answers, generator.choice(POOL)])[:4]
        for i in range(4):
            for j in range(i):
                assert before[i] == before[j] or after[i] != after[j], answers


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("18", "number"),
        ("$1.2 million", "number"),
        (r"\infty", "number"),
        (r"\sqrt{2}", "expression"),
        ("2x+3y=6", "equation"),
        ("[1, 2)", "interval"),
        ("(1, 2)", "tuple"),
        ("1, 2", "set"),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", "matrix"),
        ("3:45 pm", "time"),
        ("2:3:5", "ratio"),
        ("Paris", "text"),
        (" ", "empty"),
    ],
)
def test_form_of(text, kind):
    assert form_of(text) == kind
