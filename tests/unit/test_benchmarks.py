"""Benchmarks: their columns, their options, their prompts, and what the Hub gave."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import benchmark_rows
import pytest
from ingest_sources import refused, rows_of, user

from pivottrace.config import parse_config
from pivottrace.errors import ConfigError, DataError
from pivottrace.ingest import hub_access, source_digest
from pivottrace.ingest.benchmark_options import lettered
from pivottrace.ingest.benchmark_table import BENCHMARKS, BOXED, LETTER, MMLU_PRO
from pivottrace.ingest.held_out_sets import read_sets
from pivottrace.verifier import Verifier
from pivottrace.verifier.answers import extract_answer

datasets = benchmark_rows.datasets
NAMES = sorted(BENCHMARKS)
CHOICES = [name for name in NAMES if BENCHMARKS[name].verifier == "choice"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmarks")
    return {name: benchmark_rows.saved(name, folder, BENCHMARKS[name].split) for name in NAMES}


def sets_of(*evaluation, **pool):
    return read_sets(parse_config({"pool": {"evaluation": list(evaluation), **pool}}, "test"))


def option_of(row):
    """The text of the option whose letter is the gold."""
    lines = row["prompt"][0]["content"].splitlines()
    return next(line[3:] for line in lines if line.startswith(f"{row['answer']}) "))


def test_every_benchmark_has_rows_here_and_a_whole_commit():
    assert benchmark_rows.ROWS.keys() == BENCHMARKS.keys() == benchmark_rows.GOLDS.keys()
    pinned = {name: each.revision for name, each in BENCHMARKS.items() if each.hub_id}
    assert pinned.keys() == BENCHMARKS.keys() - {"finqa"}
    assert all(re.fullmatch(r"[0-9a-f]{40}", revision) for revision in pinned.values())


@pytest.mark.parametrize("name", NAMES)
def test_the_columns_of_a_benchmark_are_read(name, folders, tmp_path):
    rows = rows_of(f"bench:{name}?path={folders[name]}")
    given, benchmark = benchmark_rows.ROWS[name], BENCHMARKS[name]
    golds = [option_of(row) if name in CHOICES else row["answer"] for row in rows]
    assert golds == benchmark_rows.GOLDS[name]
    if benchmark.id is not None:
        assert [row["id"] for row in rows] == [str(row[benchmark.id]) for row in given]
    extras = [json.loads(row["extra"]) for row in rows]
    assert all(extra.keys() <= {*benchmark.kept, "letters"} for extra in extras)
    assert all({*benchmark.kept} <= extra.keys() for extra in extras)
    table = datasets.load_from_disk(folders[name])[benchmark.split]
    table.to_parquet(tmp_path / "copy.parquet")
    copied = rows_of(f"bench:{name}?path={tmp_path / 'copy.parquet'}")
    assert [row | {"source": ""} for row in copied] == [row | {"source": ""} for row in rows]


def test_context_and_tables_are_part_of_the_question(folders):
    rows = rows_of(f"bench:olympiadbench?path={folders['olympiadbench']}")
    assert rows[0]["prompt"] == user("Find all $x$ with $x^2 = 4$.")
    assert rows[1]["prompt"] == user("Let $T$ be two thirds.\nWhat is $T$?")
    rows = rows_of(f"bench:finqa?path={folders['finqa']}")
    table = " | 2019 | 2018\nsales | $ 387 | $ 200\nall amounts are in thousands ."
    asked = [row["prompt"][0]["content"] for row in rows]
    assert asked[0] == f"The firm sells mugs .\n{table}\nwhat is the growth of sales?"
    assert asked[1] == f"{table.strip()}\ndid sales exceed those of 2018?"


def test_finqa_as_its_own_json_mixes_numbers_and_words(tmp_path):
    rows = json.loads(json.dumps(benchmark_rows.ROWS["finqa"]))
    rows[0]["qa"]["exe_ans"] = 0.935
    (tmp_path / "test.json").write_text(json.dumps(rows))
    read = rows_of(f"bench:finqa?path={tmp_path / 'test.json'}")
    assert [row["answer"] for row in read] == benchmark_rows.GOLDS["finqa"]


def test_the_page_shows_the_table():
    page = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text()
    titles = {id(BOXED): "boxed", id(LETTER): "letter", id(MMLU_PRO): "mmlu"}
    for name, of in BENCHMARKS.items():
        place = of.hub_id or f"none: {of.home}"
        revision = f"`{of.revision[:8]}`" if of.revision else "none"
        cells = [f"`{name}`", place, of.split, f"{of.num_questions:,}", of.verifier]
        line = f"| {' | '.join([*cells, titles[id(of.prompt)], revision])} |"
        assert line in page, line
    for prompt in (BOXED, LETTER, MMLU_PRO):
        assert prompt.source.split(" (")[0] in page


# How answers are judged ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "row", "response", "right"),
    [
        ("aime24", 1, r"So \boxed{25}.", True),
        ("aime24", 1, r"So \boxed{26}.", False),
        ("amc23", 0, r"\boxed{27}", True),
        ("math500", 0, r"\boxed{(3, \pi/2)}", True),
        ("minerva", 0, r"\boxed{1.6 \times 10^{-7}}", True),
        ("olympiadbench", 0, r"\boxed{-2, 2}", True),
        ("olympiadbench", 0, r"\boxed{2}", False),
        ("olympiadbench", 2, r"\boxed{-1, 5}", True),
        ("olympiadbench", 2, r"\boxed{5}", False),
        ("gsm8k", 0, r"\boxed{1,024}", True),
        ("finqa", 0, r"\boxed{93.5\%}", True),
        ("finqa", 0, r"\boxed{93.5}", True),
        ("finqa", 0, r"\boxed{0.935}", True),
        ("finqa", 0, r"\boxed{0.94}", True),  # within one per cent
        ("finqa", 0, r"\boxed{0.92}", False),
        ("finqa", 1, r"\boxed{yes}", True),
        ("finqa", 1, r"\boxed{no}", False),
    ],
)
def test_responses_to_numbers_are_judged(name, row, response, right, folders):
    gold = rows_of(f"bench:{name}?path={folders[name]}")[row]["answer"]
    with Verifier(BENCHMARKS[name].verifier) as verifier:
        assert verifier.check_many([extract_answer(response)], [gold]) == [right]


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize(
    "says", ["Answer: {}", "so the answer is ({}).", "Answer: ${}$", r"\boxed{{{}}}", "**{}**"]
)
def test_responses_with_a_letter_are_judged(name, says, folders):
    row = rows_of(f"bench:{name}?path={folders[name]}", verifier="choice")[0]
    letters = json.loads(row["extra"])["letters"]
    answers = [extract_answer(f"I think.\n{says.format(letter)}") for letter in letters]
    with Verifier("choice") as verifier:
        verdicts = verifier.check_many(answers, [row["answer"]] * len(letters))
    assert verdicts == [letter == row["answer"] for letter in letters]


# Options ---------------------------------------------------------------------------------------

MANY = [
    {"question": f"Question {i}?", "options": list("pqrs"), "answer": "A", "category": "x"}
    for i in range(400)
]


def test_the_order_of_options_is_even_over_questions():
    golds = Counter(
        lettered(BENCHMARKS["mmlu_pro"], row, f"id-{i}").gold for i, row in enumerate(MANY)
    )
    assert golds.keys() == set("ABCD") and max(golds.values()) < 130  # 100 each are expected


def test_the_order_of_options_is_the_same_in_every_process(folders):
    code = (
        "from pivottrace.ingest import read_questions\n"
        f"for name in {CHOICES!r}:\n"
        f"    print(read_questions(f'bench:{{name}}?path={folders['gsm8k'].parent}/{{name}}')"
        "['prompt'].to_pylist())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    }
    here = [
        [row["prompt"] for row in rows_of(f"bench:{name}?path={folders[name]}")] for name in CHOICES
    ]
    assert seen == {"".join(f"{prompts}\n" for prompts in here)}
    # A value of the hash that is written here would notice another hash in a later version.
    assert lettered(BENCHMARKS["mmlu_pro"], MANY[0], "70").text.split() == (
        ["A)", "s", "B)", "q", "C)", "p", "D)", "r"]
    )


def test_options_that_speak_of_others_keep_their_order(folders):
    rows = rows_of(f"bench:mmlu_pro?path={folders['mmlu_pro']}", verifier="choice")
    assert rows[1]["prompt"][0]["content"].endswith("A) Cats\nB) Dogs\nC) None of the above")
    assert rows[1]["answer"] == "C"
    kept = {**MANY[0], "options": ["x", "y", "Both A and B", "z"], "answer": "C"}
    orders = {lettered(BENCHMARKS["mmlu_pro"], kept, f"id-{i}").gold for i in range(20)}
    assert orders == {"C"}


def test_the_right_option_of_gpqa_never_stays_first_for_all(folders):
    rows = rows_of(f"bench:gpqa_diamond?path={folders['gpqa_diamond']}", verifier="choice")
    assert len({row["answer"] for row in rows}) > 1


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("arc_challenge", {"answerKey": "E"}, "row 1: column 'answerKey': 'E' names none of its"),
        ("mmlu_pro", {"options": None}, "row 1: column 'options': is no list of options"),
        ("gpqa_diamond", {"Incorrect Answer 2": None}, "row 1: column 'Incorrect Answer 2': is "),
        ("aime24", {"problem": " "}, "row 1: the question: 'problem' is missing"),
        ("mmlu_pro", {"answer": None}, "row 1: column 'answer': None names none of its options"),
    ],
)
def test_a_wrong_row_is_named(name, change, words, tmp_path):
    rows = [benchmark_rows.ROWS[name][0] | change]
    (tmp_path / "q.json").write_text(json.dumps(rows))
    assert words in refused(f"bench:{name}?path={tmp_path / 'q.json'}")


# Prompts ---------------------------------------------------------------------------------------


def test_a_benchmark_is_asked_with_its_own_prompt(folders):
    (math,) = sets_of(f"bench:math500?path={folders['math500']}")
    asked = math.table["asked"].to_pylist()[0]
    assert asked == user(
        "Convert $(0,3)$ to polar coordinates.\nPlease reason step by step, and put your final "
        r"answer within \boxed{}."
    )
    (arc,) = sets_of(f"bench:arc_challenge?path={folders['arc_challenge']}")
    first, second = (messages[0]["content"] for messages in arc.table["asked"].to_pylist())
    assert "'Answer: $LETTER' (without quotes) where LETTER is one of ABCD. Think" in first
    assert "one of ABCDE." in second and second.endswith(
        arc.table["prompt"].to_pylist()[1][0]["content"]
    )
    (mmlu,) = sets_of(f"bench:mmlu_pro?path={folders['mmlu_pro']}")
    texts = [messages[0]["content"] for messages in mmlu.table["asked"].to_pylist()]
    assert "(with answers) about computer science. Think step by step and then" in texts[1]
    assert set(mmlu.table["verifier"].to_pylist()) == {"choice"}


def test_every_prompt_holds_the_whole_question(folders):
    for name in NAMES:
        (read,) = sets_of(f"bench:{name}?path={folders[name]}")
        for row in read.table.to_pylist():
            assert row["prompt"][0]["content"] in row["asked"][0]["content"]
            assert "{" not in BENCHMARKS[name].prompt.text.replace("{{}}", "").replace(
                "{question}", ""
            ).replace("{letters}", "").replace("{category}", "")


# Where a benchmark comes from ------------------------------------------------------------------


def test_unknown_names_and_options_are_refused_with_the_cure(folders):
    message = refused("bench:aime2024", ConfigError)
    assert "no benchmark 'aime2024'. The nearest one is aime24; there are aime24, aime25" in message
    message = refused("bench:aime24?split=test", ConfigError)
    assert "'split' is not an option of a benchmark; there are path and revision" in message
    message = refused(f"bench:aime24?path={folders['aime24']}&revision=main", ConfigError)
    assert "path and revision exclude each other" in message
    message = refused("bench:finqa", ConfigError)
    assert "github.com/czyssrs/FinQA, and write bench:finqa?path=FILE" in message
    assert "no such file" in refused("bench:gsm8k?path=nowhere.jsonl")


def test_a_file_of_another_benchmark_is_refused_by_column(folders):
    message = refused(f"bench:math500?path={folders['gsm8k']}")
    assert "bench:math500 reads the column 'problem', and it is not there" in message
    assert "The columns are: question, answer" in message and "HuggingFaceH4/MATH-500" in message
    message = refused(f"bench:gpqa_diamond?path={folders['gsm8k']}", ConfigError)
    assert "is the split 'train', and the folder has test, other. Save that split" in message


def test_another_number_of_questions_is_said(folders):
    (read,) = sets_of(f"bench:aime24?path={folders['aime24']}")
    (note,) = read.reading.notes
    assert "it has 2 questions, and the published benchmark has 30" in note
    (read,) = sets_of(f"bench:aime24?path={folders['aime24']}", evaluation_limit=1)
    assert read.reading.notes == () and read.table.num_rows == 1


def test_the_digest_of_a_benchmark_is_that_of_its_copy(folders):
    assert source_digest("bench:aime24") is None
    copy = source_digest(f"bench:aime24?k=4&path={folders['aime24']}")
    assert copy == source_digest(str(folders["aime24"])) is not None


@pytest.fixture
def hub(monkeypatch, folders):
    """A Hub that gives the saved rows, with the addresses of the commit that it is asked for."""
    monkeypatch.setattr(hub_access, "unreachable", lambda: None)
    asked = []

    def load(hub_id, configuration, revision=None):
        asked.append((hub_id, configuration, revision))
        commit = {"main": "c" * 40, "stale": "d" * 40}.get(revision, revision)
        loaded = datasets.load_from_disk(folders["gsm8k"])
        for split in loaded.values():
            url = f"hf://datasets/{hub_id}@{load.gives or commit}/main/test-00000-of-00001.parquet"
            split.info.download_checksums = {url: {"num_bytes": 1, "checksum": None}}
        return loaded

    load.gives = None
    monkeypatch.setattr(datasets, "load_dataset", load)
    return load, asked


def test_the_hub_is_asked_for_the_commit_of_the_table(hub):
    _, asked = hub
    (read,) = sets_of("bench:gsm8k")
    assert asked == [("openai/gsm8k", "main", BENCHMARKS["gsm8k"].revision)]
    assert read.reading.revision == BENCHMARKS["gsm8k"].revision
    assert read.facts()["revision"] == BENCHMARKS["gsm8k"].revision


def test_a_branch_is_recorded_by_its_commit(hub):
    _, asked = hub
    (read,) = sets_of("bench:gsm8k?revision=main&k=2")
    assert asked == [("openai/gsm8k", "main", "main")] and read.reading.revision == "c" * 40


def test_a_cache_of_another_commit_is_refused(hub):
    load, _ = hub
    load.gives = "e" * 40
    with pytest.raises(DataError, match=rf"cache is of commit {'e' * 40}, and 7403.*\?revision=e"):
        sets_of("bench:gsm8k")
    assert sets_of(f"bench:gsm8k?revision={'e' * 40}")[0].reading.revision == "e" * 40


def test_a_copy_that_came_from_the_hub_knows_its_commit(folders, tmp_path):
    loaded = datasets.load_from_disk(folders["gsm8k"])["test"]
    loaded.info.download_checksums = {f"hf://datasets/openai/gsm8k@{'a' * 40}/main/t.parquet": {}}
    loaded.save_to_disk(tmp_path / "copy")
    (read,) = sets_of(f"bench:gsm8k?path={tmp_path / 'copy'}")
    assert read.reading.revision == "a" * 40
