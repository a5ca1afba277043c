"""Small rows with the columns and types of the real benchmarks; the contents are ours.

`FEATURES` has the columns as `datasets` declares them, `ROWS` two rows or more, and `GOLDS` what is
read of their answers. Of choices it is the text of the right option, because letters are permuted.
"""

import datasets
from datasets import List, Value

TEXT, WHOLE, YES_NO = Value("string"), Value("int64"), Value("bool")
IMAGES = {f"image_{number}": Value("null") for number in range(1, 10)}

FEATURES = {
    "aime24": {"id": WHOLE, "problem": TEXT, "solution": TEXT, "url": TEXT},
    "aime25": {"problem": TEXT, "answer": TEXT, "id": TEXT},
    "amc23": {"id": WHOLE, "answer": TEXT, "url": TEXT, "question": TEXT},
    "math500": {
        "problem": TEXT,
        "solution": TEXT,
        "answer": TEXT,
        "subject": TEXT,
        "level": WHOLE,
        "unique_id": TEXT,
    },
    "minerva": {"question": TEXT, "answer": TEXT},
    "olympiadbench": {
        "id": WHOLE,
        "question": TEXT,
        "solution": List(TEXT),
        "final_answer": List(TEXT),
        "context": TEXT,
        **IMAGES,
        "modality": TEXT,
        "difficulty": TEXT,
        "is_multiple_answer": YES_NO,
        "unit": TEXT,
        "answer_type": TEXT,
        "error": TEXT,
        "question_type": TEXT,
        "subfield": TEXT,
        "subject": TEXT,
        "language": TEXT,
    },
    "gpqa_diamond": {
        "Question": TEXT,
        "Correct Answer": TEXT,
        "Incorrect Answer 1": TEXT,
        "Incorrect Answer 2": TEXT,
        "Incorrect Answer 3": TEXT,
        "Explanation": TEXT,
        "Record ID": TEXT,
        "Subdomain": TEXT,
        "High-level domain": TEXT,
        "Canary String": TEXT,
    },
    "mmlu_pro": {
        "question_id": WHOLE,
        "question": TEXT,
        "options": List(TEXT),
        "answer": TEXT,
        "answer_index": WHOLE,
        "cot_content": TEXT,
        "category": TEXT,
        "src": TEXT,
    },
    "arc_challenge": {
        "id": TEXT,
        "question": TEXT,
        "choices": {"text": List(TEXT), "label": List(TEXT)},
        "answerKey": TEXT,
    },
    "gsm8k": {"question": TEXT, "answer": TEXT},
    "finqa": {
        "pre_text": List(TEXT),
        "post_text": List(TEXT),
        "filename": TEXT,
        "table": List(List(TEXT)),
        "qa": {"question": TEXT, "answer": TEXT, "exe_ans": TEXT, "program": TEXT},
        "id": TEXT,
    },
}


def olympiad(number, question, final, **columns):
    row = dict.fromkeys(FEATURES["olympiadbench"])
    given = {"id": number, "question": question, "final_answer": final, "solution": ["We see it."]}
    return row | given | {"is_multiple_answer": False, "answer_type": "Numerical"} | columns


def report(number, question, answer, result, before=("The firm sells mugs .",)):
    return {
        "pre_text": list(before),
        "post_text": ["all amounts are in thousands ."],
        "filename": f"OWN/{number}/page_1.pdf",
        "table": [["", "2019", "2018"], ["sales", "$ 387", "$ 200"]],
        "qa": {
            "question": question,
            "answer": answer,
            "exe_ans": result,
            "program": "add(a, b)",
        },
        "id": f"OWN/{number}/page_1.pdf-1",
    }


ROWS = {
    "aime24": [
        {"id": 60, "problem": "How many $n$ are odd?", "solution": "\\boxed{204}", "url": "u/1"},
        {"id": 61, "problem": "How many are even?", "solution": "\\boxed{025}", "url": "u/2"},
    ],
    "aime25": [
        {"problem": "Find the sum of all bases $b > 9$.", "answer": "70", "id": "0"},
        {"problem": "Find the area of the kite.", "answer": "588", "id": "1"},
    ],
    "amc23": [
        {"id": 0, "answer": "27.0", "url": "u/1", "question": "How many miles were left?"},
        {"id": 1, "answer": "-1.0", "url": "u/2", "question": "What is the least $x$?"},
    ],
    "math500": [
        {
            "problem": "Convert $(0,3)$ to polar coordinates.",
            "solution": "So it is $\\boxed{\\left(3,\\frac{\\pi}{2}\\right)}.$",
            "answer": "\\left( 3, \\frac{\\pi}{2} \\right)",
            "subject": "Precalculus",
            "level": 2,
            "unique_id": "test/precalculus/807.json",
        },
        {
            "problem": "Define $p$. Find it.",
            "solution": "It is $\\boxed{p - q}$.",
            "answer": "p - q",
            "subject": "Algebra",
            "level": 5,
            "unique_id": "test/algebra/2.json",
        },
    ],
    "minerva": [
        {"question": "Find the wavelength in meters.", "answer": "1.6e-7"},
        {"question": "Find $y(t)$.", "answer": "$4 \\cos t$"},
    ],
    "olympiadbench": [
        olympiad(1606, "Find all $x$ with $x^2 = 4$.", ["$2$,$-2$"], is_multiple_answer=True),
        olympiad(1610, "What is $T$?", ["$\\frac{2}{3}$"], context="Let $T$ be two thirds."),
        olympiad(1613, "Find both roots.", ["5", "-1"], is_multiple_answer=True),
    ],
    "gpqa_diamond": [
        {
            "Question": "Which energy difference resolves the two levels?\n",
            "Correct Answer": "10^-4 eV\n",
            "Incorrect Answer 1": "10^-8 eV",
            "Incorrect Answer 2": "10^-9 eV",
            "Incorrect Answer 3": "10^-11 eV",
            "Explanation": "By the uncertainty of energy.",
            "Record ID": f"rec{number}",
            "Subdomain": "Physics (general)",
            "High-level domain": "Physics",
            "Canary String": "own",
        }
        | ({} if not number else {"Question": f"Which one has {number} rings?"})
        for number in range(6)
    ],
    "mmlu_pro": [
        {
            "question_id": 70,
            "question": "What do such bodies suggest?",
            "options": [f"{word} practices" for word in "abcdefghij"],
            "answer": "I",
            "answer_index": 8,
            "cot_content": "",
            "category": "business",
            "src": "ori_mmlu-business_ethics",
        },
        {
            "question_id": 71,
            "question": "Which are right?",
            "options": ["Cats", "Dogs", "None of the above"],
            "answer": "C",
            "answer_index": 2,
            "cot_content": "",
            "category": "computer science",
            "src": "stemez-1",
        },
    ],
    "arc_challenge": [
        {
            "id": "Mercury_1",
            "question": "Which skin surface gives the most heat?",
            "choices": {
                "text": ["dry palms", "wet palms", "oiled palms", "lotioned palms"],
                "label": ["A", "B", "C", "D"],
            },
            "answerKey": "A",
        },
        {
            "id": "NYSED_2",
            "question": "What is a simple machine?",
            "choices": {
                "text": ["an engine", "a lever", "a car", "a watch", "a lamp"],
                "label": ["1", "2", "3", "4", "5"],
            },
            "answerKey": "2",
        },
    ],
    "gsm8k": [
        {"question": "How many clips?", "answer": "48/2 = <<48/2=24>>24 clips.\n#### 1,024"},
        {"question": "How much?", "answer": "12/60 = $<<12/60=0.2>>0.2\n#### 10"},
    ],
    "finqa": [
        report(1, "what is the growth of sales?", "93.5%", "0.935"),
        report(2, "did sales exceed those of 2018?", "yes", "yes", before=()),
    ],
}

GOLDS = {
    "aime24": ["204", "025"],
    "aime25": ["70", "588"],
    "amc23": ["27.0", "-1.0"],
    "math500": ["\\left( 3, \\frac{\\pi}{2} \\right)", "p - q"],
    "minerva": ["1.6e-7", "$4 \\cos t$"],
    "olympiadbench": ["$2$,$-2$", "$\\frac{2}{3}$", "5, -1"],
    "gpqa_diamond": ["10^-4 eV"] * 6,
    "mmlu_pro": ["i practices", "None of the above"],
    "arc_challenge": ["dry palms", "a lever"],
    "gsm8k": ["1024", "10"],
    "finqa": ["0.935 ||| 93.5 ||| 0.00935 [tolerance 0.01]", "yes"],
}


def saved(name, folder, split):
    """A folder of `save_to_disk` with the rows in one split and other ones in a second split."""
    features = datasets.Features(FEATURES[name])
    rows = datasets.Dataset.from_list(ROWS[name], features=features)
    made = datasets.DatasetDict({split: rows, "other": rows.select([1])})
    made.save_to_disk(folder / name)
    return folder / name
