r"""Verdicts on pairs that parsers of LaTeX read in different ways; `bench/antlr.sh` runs it.

A line has the verdict, the truth and the answer, with tabs between. The last line has the classes
of all texts in one vote.
"""

from __future__ import annotations

from pivottrace.verifier import Verifier

# (truth, answer)
PAIRS = (
    (r"50\%", "0.5"),
    (r"$50\%$", "0.5"),
    (r"\boxed{50\%}", "0.5"),
    ("0.5", r"50\%"),
    ("50%", r"50\%"),
    ("50", r"50\%"),
    (r"12.5\%", "12.5%"),
    (r"12.5\%", "0.125"),
    (r"12.5\%", r"\frac{1}{8}"),
    (r"33\frac{1}{3}\%", r"\frac{1}{3}"),
    (r"100\%", "1"),
    (r"-5\%", "-0.05"),
    (r"50\text{%}", "50%"),
    ("50 percent", r"50\%"),
    (r"x\%", "x"),
    (r"5\% + 3\%", r"8\%"),
    (r"\$50", "50"),
    (r"1{,}234", "1234"),
    (r"1\,234", "1234"),
    ("1,234", "1234"),
    ("1,2", "2, 1"),
    (r"\frac12", "0.5"),
    (r"\frac{1}{3}", "0.333"),
    (r"2\frac{1}{2}", "2.5"),
    (r"\sqrt[3]{8}", "2"),
    (r"10^{-3}", "0.001"),
    (r"1.6 \times 10^{-19}", "1.6e-19"),
    (r"\sqrt{2}/2", r"\frac{1}{\sqrt{2}}"),
    ("(1, 2)", "(1,2)"),
    ("(1, 2)", r"\{1, 2\}"),
    ("[1, 2)", "(1, 2)"),
    (r"(-\infty, 3]", r"x \le 3"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{bmatrix}1&2\\3&4\end{bmatrix}"),
    ("x = 5", "5"),
    ("2x+3y=6", "6"),
    ("2x+3y=6", "4x + 6y = 12"),
    ("x^2-1", "(x-1)(x+1)"),
    (r"\sin^2 x + \cos^2 x", "1"),
    (r"\ln 8", r"3 \ln 2"),
    (r"e^{2 t} + C_{1}", "C_1 + e^{2t}"),
    (r"\pm 3", "-3, 3"),
    (r"5!", "120"),
    (r"|x-1|", "|1-x|"),
    (r"45^\circ", "45"),
    (r"\binom{5}{2}", "10"),
    ("3:2", r"\frac{3}{2}"),
    ("2:30", "2:3"),
    ("101_2", "5"),
    (r"\mathrm{e}^2", "e^2"),
)


def main() -> None:
    with Verifier("math") as verifier:
        for truth, answer in PAIRS:
            print(verifier.equal(answer, truth), truth, answer, sep="\t")
        if hasattr(verifier, "group"):
            classes = verifier.group([text for pair in PAIRS for text in pair])
            print(",".join(map(str, classes)), "all in one vote", "", sep="\t")


if __name__ == "__main__":
    main()
