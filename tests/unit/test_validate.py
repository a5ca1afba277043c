"""What `pivottrace validate` shows of the data that it read."""

import pytest
from ingest_sources import write_jsonl

from pivottrace.commands.validate import compares_letters, what_was_read
from pivottrace.config import ModelConfig
from pivottrace.ingest.questions import Reading, read_source
from pivottrace.models.load import load_tokenizer
from pivottrace.schemas import QUESTIONS
from pivottrace.world.problems import generate
from pivottrace.world.vocabulary import is_foreign


def shown(source, **options):
    return list(what_was_read(read_source(source, **options)))


def test_five_golds_stand_beside_their_cells(tmp_path):
    rows = [{"prompt": f"{i}?", "answer": f"so {i}+1={i + 1}\n#### {i + 1}"} for i in range(9)]
    rows[2]["answer"] = None
    lines = shown(write_jsonl(tmp_path / "q.jsonl", rows))
    assert lines[0].split() == ["cell", "read", "as"]
    assert [line.split()[-1] for line in lines[1:6]] == ["1", "2", "4", "5", "6"]
    assert "so 0+1=1 #### 1" in lines[1]
    column = lines[0].index("read as")
    assert {line[column - 2 : column] for line in lines[1:6]} == {"  "}, "one column"
    assert lines[6:] == ["  golds: 8 number"]


def test_golds_of_several_forms_are_counted(tmp_path):
    rows = [{"prompt": f"{i}?", "answer": a} for i, a in enumerate(["1", "2.5", "red", "B"])]
    assert "  golds: 2 number, 1 text, 1 letter" in shown(write_jsonl(tmp_path / "q.jsonl", rows))


def test_few_golds_of_another_form_are_named(tmp_path):
    answers = [*map(str, range(30)), "k. A.", "2x+1"]
    rows = [{"prompt": f"{i}?", "answer": a} for i, a in enumerate(answers)]
    lines = shown(write_jsonl(tmp_path / "q.jsonl", rows))
    assert any("30 number" not in line and "1 as text: 'k. A.'" in line for line in lines)
    assert any("1 as expression: '2x+1'" in line for line in lines)


def test_options_without_the_verifier_of_letters_are_told(tmp_path):
    rows = [{"question": f"{i}?\nA) 1\nB) 2", "answer": "AB"[i % 2]} for i in range(4)]
    pool = read_source(write_jsonl(tmp_path / "q.jsonl", rows)).table
    (note,) = compares_letters(pool, "math")
    assert "4 of 4 questions have options" in note and 'verifier = "choice"' in note
    assert not list(compares_letters(pool, "choice"))
    rows[0]["answer"] = "1"
    pool = read_source(write_jsonl(tmp_path / "q.jsonl", rows)).table
    assert not list(compares_letters(pool, "math")), "contents are compared as mathematics"


def test_a_long_cell_is_cut(tmp_path):
    rows = [{"prompt": "A?", "answer": "word " * 90 + "\\boxed{3}"}]
    lines = shown(write_jsonl(tmp_path / "q.jsonl", rows))
    assert max(map(len, lines)) < 80 and lines[1].endswith("...  3")


def test_what_is_not_asked_and_what_was_settled_are_shown(tmp_path):
    row = {"prompt": "A?", "answer": 1, "context": "C.", "table": [["x"]]}
    lines = shown(
        write_jsonl(tmp_path / "q.jsonl", [row, row]), unused=["table", "context", "other"]
    )
    assert "  not asked: table, context" in lines
    assert lines[-1].startswith("  note: ") and "left out 1 of 2 rows" in lines[-1]


def test_unreadable_golds_are_shown_by_row(tmp_path):
    rows = [{"prompt": f"{i}?", "answer": i} for i in range(200)]
    for row in rows[3:10]:
        row["answer"] = "First we add.\nThen we stop."
    lines = shown(write_jsonl(tmp_path / "q.jsonl", rows))
    assert "  First we add. Then we stop.  (no gold)" in lines
    cells = [line for line in lines if line.startswith("  line ")]
    assert len(cells) == 5 and cells[0].startswith("  line 4: 'First we add. Then we stop.' is ")
    assert "  and 2 more golds that are none" in lines


@pytest.mark.parametrize("rows", [[{"prompt": "A?"}], [{"prompt": "A?", "answer": None}]])
def test_without_golds_nothing_is_shown(tmp_path, rows):
    assert shown(write_jsonl(tmp_path / "q.jsonl", rows)) == []
    assert list(what_was_read(Reading(QUESTIONS.empty_table()))) == []


def test_the_embedded_model_is_told_apart_from_other_worlds():
    tokenizer = load_tokenizer(ModelConfig())
    own = [problem.question for problem in generate("evaluation", 100, seed=3)]
    assert not any(is_foreign(question, tokenizer) for question in own)
    for question in (
        "Ana has 3 apples and buys 4 more. How many apples does Ana have?",
        "Ein Artikel kostet 399,00 EUR. Wie hoch ist der neue Preis?",
    ):
        assert is_foreign(question, tokenizer)
