r"""The benchmarks by name: where each lies, what its columns mean, and how it is asked.

The revisions are commits of the Hub. Public projects pin the same ones, and we have not loaded them
ourselves: no Hub was reachable. The real files have these columns. `docs/benchmarks.md` shows the
table, and the tests read small rows of the same columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from pivottrace.ingest.values import number_text
from pivottrace.verifier.truths import write_truth

BENCH_PREFIX = "bench:"
"""How a source string names a benchmark."""
FINQA_TOLERANCE = "0.01"
"""Relative. `finqa_equal` of Program of Thoughts (arXiv 2211.12588) takes 0.001, and rounds to the
fewer digits of the two. One per cent stands for that rounding (ours)."""


@dataclass(frozen=True)
class Prompt:
    """The published way to ask a question.

    Attributes:
        text: Template of the user's message, with {question} in it. {letters} are the letters of
            the options. Other names are columns of the benchmark that are kept.
        source: The project that asks so.
    """

    text: str
    source: str


@dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    Attributes:
        hub_id: Id on the Hub, with the configuration behind a colon; None if it is on no Hub.
        split: Split that is evaluated.
        revision: Commit that is loaded; None if it is on no Hub.
        num_questions: Number of its questions.
        question: Template of the question, over its columns.
        answer: Column of the true answer.
        prompt: How it is asked.
        verifier: The rule that compares answers.
        id: Column of ids; None where it has none.
        options: Column of the options, where they stand in one.
        wrong: Columns of the wrong options, where each has its own; `answer` is then the right one.
        gold: Makes the gold of the value of `answer`.
        kept: Columns that are kept in `extra`.
        home: Place of the data, where it is on no Hub.
    """

    hub_id: str | None
    split: str
    revision: str | None
    num_questions: int
    question: str
    answer: str
    prompt: Prompt
    verifier: Literal["math", "choice"] = "math"
    id: str | None = None
    options: str | None = None
    wrong: tuple[str, ...] = ()
    gold: Callable[[Any], Any] = lambda value: value
    kept: tuple[str, ...] = ()
    home: str = ""


def all_of(value: Any) -> Any:
    """The gold of a list whose answers must all be given: one text with commas."""
    if not isinstance(value, list):
        return value
    return ", ".join(str(each).strip() for each in value if each is not None)


def with_percent(value: Any) -> Any:
    """The gold of a number that may be given as a share or in per cent, within a tolerance.

    Source: `finqa_equal` of Program of Thoughts (arXiv 2211.12588), which takes the reference, its
    hundredth and its hundredfold. Deviation: `FINQA_TOLERANCE`. "yes" and "no" stay as they are.
    """
    if value is None or isinstance(value, bool):
        return value
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        return value
    if not number.is_finite():
        return value
    forms = [number_text(each) for each in (number, number * 100, number / 100)]
    return write_truth(forms, FINQA_TOLERANCE)


BOXED = Prompt(
    "{question}\nPlease reason step by step, and put your final answer within \\boxed{{}}.",
    "Qwen2.5-Math's evaluation (qwen-boxed)",  # DeepSeek-R1's model card asks so, too
)
LETTER = Prompt(
    "Answer the following multiple choice question. The last line of your response should be of "
    "the following format: 'Answer: $LETTER' (without quotes) where LETTER is one of {letters}. "
    "Think step by step before answering.\n\n{question}",
    "OpenAI's simple-evals",
)
MMLU_PRO = Prompt(
    "The following are multiple choice questions (with answers) about {category}. Think step by "
    'step and then finish your answer with "the answer is (X)" where X is the correct letter '
    "choice.\n\n{question}",
    "lm-evaluation-harness (mmlu_pro), without its five examples",
)

BENCHMARKS: dict[str, Benchmark] = {
    "aime24": Benchmark(
        hub_id="math-ai/aime24",
        split="test",
        revision="83a7f387baaa524a8bda0022eac0541582297103",
        num_questions=30,
        question="{problem}",
        answer="solution",  # the bare answer in a box
        prompt=BOXED,
        id="id",
        kept=("url",),
    ),
    "aime25": Benchmark(
        hub_id="math-ai/aime25",
        split="test",
        revision="563bb8404243c5f09de6ec262f2db674fe5bce9b",
        num_questions=30,
        question="{problem}",
        answer="answer",
        prompt=BOXED,
        id="id",
    ),
    "amc23": Benchmark(
        hub_id="math-ai/amc23",
        split="test",
        revision="80815d37005feb82cd7f8fbc6901d5d3eff43057",
        num_questions=40,
        question="{question}",
        answer="answer",
        prompt=BOXED,
        id="id",
        kept=("url",),
    ),
    "math500": Benchmark(
        hub_id="HuggingFaceH4/MATH-500",
        split="test",
        revision="6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
        num_questions=500,
        question="{problem}",
        answer="answer",
        prompt=BOXED,
        id="unique_id",
        kept=("subject", "level"),
    ),
    "minerva": Benchmark(
        hub_id="math-ai/minervamath",
        split="test",
        revision="ee46ddc498933b1977577953250ca5c66be64f96",
        num_questions=272,
        question="{question}",
        answer="answer",
        prompt=BOXED,
    ),
    "olympiadbench": Benchmark(
        hub_id="Hothan/OlympiadBench:OE_TO_maths_en_COMP",
        split="train",
        revision="91184b52131e7fc9455fef848035173aea8cc01a",
        num_questions=674,
        question="{context?}\n{question}",
        answer="final_answer",
        prompt=BOXED,
        id="id",
        gold=all_of,
        kept=("subfield", "answer_type", "unit", "error", "is_multiple_answer"),
    ),
    "gpqa_diamond": Benchmark(
        hub_id="Idavidrein/gpqa:gpqa_diamond",
        split="train",
        revision="633f5ee89ab8ad4522a9f850766b73f62147ffdd",
        num_questions=198,
        question="{Question}",
        answer="Correct Answer",
        prompt=LETTER,
        verifier="choice",
        id="Record ID",
        wrong=("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"),
        kept=("Subdomain", "High-level domain"),
    ),
    "mmlu_pro": Benchmark(
        hub_id="TIGER-Lab/MMLU-Pro",
        split="test",
        revision="b189ec765aa7ed75c8acfea42df31fdae71f97be",
        num_questions=12_032,
        question="{question}",
        answer="answer",
        prompt=MMLU_PRO,
        verifier="choice",
        id="question_id",
        options="options",
        kept=("category", "src"),
    ),
    "arc_challenge": Benchmark(
        hub_id="allenai/ai2_arc:ARC-Challenge",
        split="test",
        revision="210d026faf9955653af8916fad021475a3f00453",
        num_questions=1_172,
        question="{question}",
        answer="answerKey",
        prompt=LETTER,
        verifier="choice",
        id="id",
        options="choices",
    ),
    "gsm8k": Benchmark(
        hub_id="openai/gsm8k:main",
        split="test",
        revision="740312add88f781978c0658806c59bc2815b9866",
        num_questions=1_319,
        question="{question}",
        answer="answer",  # a solution that ends in "#### 18"
        prompt=BOXED,
    ),
    "finqa": Benchmark(
        hub_id=None,
        split="test",
        revision=None,
        num_questions=1_147,
        question="{pre_text?}\n{table}\n{post_text?}\n{qa.question}",
        answer="qa.exe_ans",
        prompt=BOXED,
        id="id",
        gold=with_percent,
        kept=("filename",),
        home="dataset/test.json of github.com/czyssrs/FinQA",
    ),
}
