"""Small files with the columns and cell shapes of 61 real question files; the contents are ours.

A layout is (file, rows or raw text, expectation). The expectation is `asks(golds, *texts)`: it
loads, has these golds, and the first question has these texts; or `refuses(words, then, mended)`:
it is refused with these words, and loads as `mended` with the options `then`.
"""

import json
from dataclasses import dataclass, field

LONG = "A tank of 40 litres loses 3 litres an hour through a crack near its floor. " * 7
STORY = f"{LONG}How many litres are left after 2 hours?"
SHORT = "What is half of 46?"
DERIVED = "The crack takes $3 \\cdot 2 = 6$ litres.\nSo \\boxed{34} litres are left."
HALVED = "We halve: $46/2=23$, hence \\boxed{23}."


@dataclass(frozen=True)
class Asks:
    golds: list
    texts: tuple


@dataclass(frozen=True)
class Refuses:
    words: tuple
    then: dict = field(default_factory=dict)
    mended: Asks | None = None


def asks(golds, *texts):
    return Asks(golds, texts)


def refuses(*words, then=None, mended=None):
    return Refuses(words, then or {}, mended)


def two(**columns):
    """Two rows; each value is a pair, or one value for both."""
    pairs = {k: v if isinstance(v, tuple) else (v, v) for k, v in columns.items()}
    return [{k: v[row] for k, v in pairs.items()} for row in (0, 1)]


def both(prompt="problem", answer=("34", "23"), **columns):
    return two(**{prompt: (STORY, SHORT), "answer": answer, **columns})


def verl(**extra):
    return [
        {
            "data_source": "own/math",
            "prompt": [{"content": text, "role": "user"}],
            "ability": "MATH",
            "reward_model": {"ground_truth": gold, "style": "rule"},
            "extra_info": {k: v[row] if isinstance(v, tuple) else v for k, v in extra.items()},
        }
        for row, (text, gold) in enumerate(((STORY, "34"), (SHORT, "23")))
    ]


def sent(**columns):
    prompts = tuple([{"from": "human", "value": text}] for text in (STORY, SHORT))
    return two(prompt=prompts, **columns)


NUMBERS = asks(["34", "23"], LONG, "after 2 hours?")
MISSED = {"options": ["12", "17", "21", "30"]}
BODIES = two(
    Body=("A shelf has 12 mugs and 5 bowls", "A shelf has 20 mugs and 4 bowls"),
    Question="How many things are on it?",
    Answer=(17.0, 24.0),
    Equation=("( 12.0 + 5.0 )", "( 20.0 + 4.0 )"),
    Type="Addition",
    ID=("own-1", "own-2"),
)
BODY = refuses(
    "'Body'",
    'template = "{Body} {Question}"',
    then={"template": "{Body} {Question}"},
    mended=asks(["17", "24"], "12 mugs and 5 bowls How many things"),
)
OLYMPIAD = both(
    "question",
    id=(7, 8),
    subfield="Algebra",
    context=None,
    solution=([DERIVED], [HALVED]),
    is_multiple_answer=(False, True),
    unit=(None, "m"),
    answer_type="Numerical",
    error=None,
    final_answer=(["34"], ["23", "46"]),
)
for row in OLYMPIAD:
    del row["answer"]
OLYMPIAD_ASKS = asks(["34", "23 ||| 46"], LONG)
TTRL = {"source": "own", "id": ("0", "1")}
IDS = {"id": (60, 61), "url": "https://example.org/a"}
LETTERS = {"A": "12 mm", "B": "17 mm", "C": "21 mm", "D": "30 mm"}
LETTERED = "A) 12 mm\nB) 17 mm\nC) 21 mm\nD) 30 mm"

LAYOUTS = {
    "ASDiv": ("a.xml", "<Problems><Problem/></Problems>", refuses("XML is not read", ".jsonl")),
    "SVAMP": ("a.json", BODIES, BODY),
    "DAPO aime24": (
        "a.parquet",
        verl(index=(0, 1), raw_problem=(STORY, SHORT), split=None) * 3,
        NUMBERS,
    ),
    "DeepScaleR test_aime": (
        "a.json",
        both(solution=(DERIVED, HALVED), year=2024, problem_number=(1, 2), difficulty=3.5),
        NUMBERS,
    ),
    "DeepScaleR test_amc": (
        "a.json",
        both(answer=(34.0, 23.0), url="https://example.org/a", difficulty=-1),
        NUMBERS,
    ),
    "DeepScaleR test_math": ("a.json", both(difficulty=2.0, unique_id=("u/1", "u/2")), NUMBERS),
    "DeepScaleR test_olympiad_bench": (
        "a.json",
        both(answer=(["34"], ["23"]), context=None, unit=(None, "m"), solution=([DERIVED], [])),
        NUMBERS,
    ),
    "DeepScaleR train_aime": (
        "a.json",
        both(solution=(DERIVED, HALVED), year=1995, aime_number=1, problem_number=(1, 2)),
        NUMBERS,
    ),
    "DeepScaleR train_math": ("a.json", both(difficulty=1.0, type="Algebra"), NUMBERS),
    "LIMO aime": ("a.jsonl", both(**IDS, solution=(DERIVED, HALVED)), NUMBERS),
    "LIMO amc": ("a.jsonl", both(**IDS, answer=(34.0, 23.0), question=(STORY, SHORT)), NUMBERS),
    "LIMO cn_math_2024": ("a.jsonl", both(id=("c1", "c2"), solution=("34", "23")), NUMBERS),
    "LIMO gaokao": (
        "a.jsonl",
        [*both("question", idx=(0, 1), choice_answer="B"), *both("question", idx=(2, 3))],
        NUMBERS,
    ),
    "LIMO gpqa": (
        "a.jsonl",
        json.dumps({"problem": f"{LONG}\u2028Which\u0085one?", "answer": "C"}, ensure_ascii=False),
        asks(["C"], "\u2028Which\u0085one?"),
    ),
    "LIMO grade_school_math": (
        "a.jsonl",
        [*both(), {"problem": "1+1?", "answer": 2}, {"problem": "2+1?", "answer": [3, 4]}],
        asks(["34", "23", "2", "3 ||| 4"], LONG),
    ),
    "LIMO kaoyan": (
        "a.jsonl",
        both(id=(1, 2), solution=(DERIVED, HALVED), source="own", answer=("34", ["23"])),
        NUMBERS,
    ),
    "LIMO math": (
        "a.jsonl",
        both(solution=(DERIVED, HALVED), subject="Algebra", level=2, unique_id=("t/1", "t/2")),
        NUMBERS,
    ),
    "LIMO minerva": ("a.jsonl", both("question"), NUMBERS),
    "LIMO olympiadbench": ("a.jsonl", both("question", id=(1, 2)), NUMBERS),
    "mawps_dev": (
        "a.csv",
        "Question,Numbers,Equation,Answer,group_nums,Body,Ques_Statement\n"
        'Ann has number0 pens and number1 caps . How many in all ?,3 5,+ number0 number1,8.0,"[0]"'
        ",Ann has number0 pens and number1 caps .,How many in all ?\n",
        refuses("'Numbers'", 'unused = ["Numbers"]'),
    ),
    "NeMo-Skills output": (
        "a.jsonl",
        both(
            answer="",
            generation=(DERIVED, HALVED),
            reference_solution=(DERIVED, HALVED),
            expected_answer=("34", "23"),
            predicted_answer="5",
            symbolic_correct=(False, True),
            id=("n1", "n2"),
        ),
        NUMBERS,
    ),
    "olympiad_scoring_examples": (
        "a.json",
        two(GT=("34", "23"), Ans=([{"answer": "34", "equal": True}], [])),
        refuses("no column is the prompt", "GT, Ans"),
    ),
    "Skywork-OR1 aime24": ("a.parquet", verl(index=(0, 1), split="test"), NUMBERS),
    "Skywork-OR1 aime25": ("a.parquet", verl(id=("a", "b"), split="test"), NUMBERS),
    "Open-Reasoner-Zero aime2024": ("a.json", sent(final_answer=("34", "23")), NUMBERS),
    "Open-Reasoner-Zero gpqa_diamond": (
        "a.json",
        sent(final_answer=("C", "A"), choices=LETTERS),
        refuses(
            "'choices'",
            'template = "{prompt}\\n{choices}"',
            then={"template": "{prompt}\n{choices}"},
            mended=asks(["C", "A"], LONG, LETTERED),
        ),
    ),
    "Open-Reasoner-Zero math500": ("a.json", sent(final_answer=("34", "23")), NUMBERS),
    "Qwen aime24": (
        "a.jsonl",
        both(**IDS, solution=(DERIVED, HALVED), question=(STORY, SHORT)),
        NUMBERS,
    ),
    "Qwen amc23": ("a.jsonl", both(**IDS, answer=(34.0, 23.0), question=(STORY, SHORT)), NUMBERS),
    "Qwen aqua": (
        "a.jsonl",
        two(
            question=(STORY, SHORT),
            options=(["A)12", "B)34", "C)21"], ["A)23", "B)46", "C)92"]),
            rationale=(DERIVED, HALVED),
            correct=("B", "A"),
        ),
        refuses(
            "'options'",
            'template = "{question}\\n{options}"',
            then={"template": "{question}\n{options}"},
            mended=asks(["B", "A"], LONG, "A)12\nB)34\nC)21"),
        ),
    ),
    "Qwen asdiv": (
        "a.jsonl",
        two(
            body=("Seven red and two pink apples lie in a basket.", "Four more are put in."),
            question="How many apples are in the basket?",
            solution_type="Addition",
            answer=("9 (apples)", "4 (apples)"),
            formula=("7+2=9", "0+4=4"),
            idx=(0, 1),
        ),
        refuses(
            "'body'",
            'template = "{body} {question}"',
            then={"template": "{body} {question}"},
            mended=asks(None, "Seven red and two pink apples lie in a basket. How many"),
        ),
    ),
    "Qwen carp_demo": (
        "a.json",
        "\n".join(json.dumps(row, indent=2) for row in both("content", steps={"n": [1]})),
        NUMBERS,
    ),
    "Qwen carp_en": (
        "a.jsonl",
        both("content", steps="1. x", expr_cands=["1"], edges={"nodes": [{"id": "1"}]}),
        NUMBERS,
    ),
    "Qwen cmath": ("a.jsonl", both("question", grade=1, reasoning_step=1, num_digits=2), NUMBERS),
    "Qwen cn_middle_school": (
        "a.jsonl",
        both("question", idx=(0, 1), choice_answer=("B", "C")),
        NUMBERS,
    ),
    "Qwen college_math": (
        "a.jsonl",
        both("question", data_source="own", question_number=("1", "2"), license="own") * 2,
        NUMBERS,
    ),
    "Qwen gaokao2023en": (
        "a.jsonl",
        both("question", source="own", lang="en", id=(None, "g2")),
        NUMBERS,
    ),
    "Qwen gaokao2024_I": ("a.jsonl", both("question", type="cloze"), NUMBERS),
    "Qwen gaokao2024_II": ("a.jsonl", both("question", type="cloze"), NUMBERS),
    "Qwen gaokao2024_mix": (
        "a.jsonl",
        both("question", idx=(0, 1), choice_answer="A") * 2,
        NUMBERS,
    ),
    "Qwen gaokao_math_cloze": (
        "a.jsonl",
        both("question", passage=None, options=None, label=None, other={"source": "own"}) * 2,
        NUMBERS,
    ),
    "Qwen gaokao_math_qa": (
        "a.jsonl",
        both(
            "question",
            answer=None,
            passage=None,
            options=LETTERS,
            label=("C", "A"),
            other={"source": "own"},
        ),
        refuses(
            "'options'",
            'template = "{question}\\n{options}"',
            then={"template": "{question}\n{options}"},
            mended=asks(["C", "A"], LONG, LETTERED),
        ),
    ),
    "Qwen gsm8k": (
        "a.jsonl",
        both("question", answer=(f"{DERIVED}\n#### 34", "46/2=<<46/2=23>>23\n#### 23")),
        NUMBERS,
    ),
    "Qwen math_cot_100": (
        "a.jsonl",
        both(
            "question",
            gt_cot=(DERIVED, HALVED),
            gt=("34", "23"),
            solution=(DERIVED, HALVED),
            code=([DERIVED], [HALVED]),
            pred=(["34"], ["20"]),
            report=[None],
        ),
        NUMBERS,
    ),
    "Qwen mawps": (
        "a.jsonl",
        two(input=(STORY, SHORT), target=(34.0, 23.0), type="own", idx=(0, 1)),
        NUMBERS,
    ),
    "Qwen minerva_math": (
        "a.jsonl",
        two(problem=(STORY, SHORT), solution=(DERIVED, HALVED), type="own", idx=(0, 1)),
        NUMBERS,
    ),
    "Qwen olympiadbench json": ("a.json", OLYMPIAD, OLYMPIAD_ASKS),
    "Qwen olympiadbench jsonl": ("a.jsonl", OLYMPIAD, OLYMPIAD_ASKS),
    "Qwen sat_math": (
        "a.jsonl",
        two(
            id=("s1", "s2"),
            question=(STORY, SHORT),
            options="A) 12 B) 34 C) 23",
            Answer=("B", "C"),
        ),
        refuses(
            "'options'",
            'template = "{question}\\n{options}"',
            then={"template": "{question}\n{options}"},
            mended=asks(["B", "C"], LONG, "A) 12 B) 34 C) 23"),
        ),
    ),
    "Qwen svamp": ("a.jsonl", BODIES, BODY),
    "simpleRL-reason arith": (
        "a.parquet",
        [{"prompt": [{"content": text, "role": "user"}]} for text in (STORY, SHORT, SHORT)],
        asks([None, None], LONG),
    ),
    "simpleRL-reason math500": (
        "a.jsonl",
        both(solution=(DERIVED, HALVED), subject="Algebra", level=5, unique_id=("t/1", "t/2")),
        NUMBERS,
    ),
    "TTRL AIME": ("a.json", both("prompt", **TTRL), NUMBERS),
    "TTRL AMC": ("a.json", both("prompt", **TTRL), NUMBERS),
    "TTRL GPQA": ("a.json", both("prompt", ("B", "C"), **TTRL), asks(["B", "C"], LONG)),
    "TTRL MATH-L5": (
        "a.json",
        both("prompt", solution=(DERIVED, HALVED), unique_id=("t/1", "t/2")),
        NUMBERS,
    ),
    "TTRL MATH": ("a.json", both("prompt", **TTRL), NUMBERS),
    # The four beside the table.
    "FinQA": (
        "a.json",
        [
            {
                "pre_text": ["the firm sells bolts .", "all sums are in thousands ."],
                "post_text": ["the year ends in march ."],
                "table": [["", "2019", "2018"], ["bolts", "660", "600"]],
                "qa": {"question": "how did bolts grow?", "answer": "10%", "exe_ans": 0.1},
                "id": "own/1",
            }
        ],
        refuses(
            "no column is the prompt",
            "--map prompt=qa.question --map answer=qa.answer",
            then={
                "template": "{pre_text}\n{table}\n{post_text}\n{qa.question}",
                "column_map": {"answer": "qa.answer"},
            },
            mended=asks(
                ["10%"],
                "the firm sells bolts .\nall sums are in thousands .\n | 2019 | 2018\n"
                "bolts | 660 | 600\nthe year ends in march .\nhow did bolts grow?",
            ),
        ),
    ),
    "GPQA": (
        "a.csv",
        "Question,Correct Answer,Incorrect Answer 1,Incorrect Answer 2,Incorrect Answer 3\n"
        f'"{STORY}",34,32,37,3\n',
        refuses(
            "'Incorrect Answer 1', 'Incorrect Answer 2', 'Incorrect Answer 3'",
            'unused = ["Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"]',
            then={"unused": [f"Incorrect Answer {n}" for n in (1, 2, 3)]},
            mended=asks(["34"], LONG),
        ),
    ),
    "MMLU-Pro": (
        "a.parquet",
        both("question", ("B", "D"), question_id=(1, 2), answer_index=(1, 3), **MISSED),
        refuses(
            "'options'",
            'template = "{question}\\n{options}"',
            then={"template": "{question}\n{options}"},
            mended=asks(["B", "D"], LONG, "A) 12\nB) 17\nC) 21\nD) 30"),
        ),
    ),
    "ARC": (
        "a.parquet",
        two(
            id=("own_1", "own_2"),
            question=(STORY, SHORT),
            choices=(
                {"text": ["air", "sand", "oil"], "label": ["A", "B", "C"]},
                {"text": ["12", "23", "46"], "label": ["1", "2", "3"]},
            ),
            answerKey=("C", "2"),
        ),
        refuses(
            "'choices'",
            'template = "{question}\\n{choices}"',
            then={"template": "{question}\n{choices}"},
            mended=asks(["C", "B"], LONG, "A) air\nB) sand\nC) oil"),
        ),
    ),
}
