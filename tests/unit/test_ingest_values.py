"""What single values become: answers as text, other columns as JSON, and formatted prompts."""

import base64
import json
from datetime import date, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingest_sources import rows_of, user

from pivottrace.ingest import format_prompt
from pivottrace.ingest.values import number_text, to_answer

# Values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (18, "18"),
        (18.0, "18"),
        (-0.5, "-0.5"),
        (True, "true"),
        (None, None),
        ("  ", None),
        (float("nan"), None),
        (["7"], "7"),
        (Decimal("2.50"), "2.5"),
        (Decimal("1E+2"), "100"),
        (10**30, "1" + "0" * 30),
        (1e300, "1e+300"),
        ("3/4", "3/4"),
        ("x = 2", "x = 2"),
        ("so 9 * 2 = 18\n#### 1,200", "1200"),
        ("-1,234,567.5", "-1234567.5"),
        ("1,20", "1,20"),
        ("100, 200", "100, 200"),
        (r"hence \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        ("007", "007"),
    ],
)
def test_answers_as_text(value, expected):
    assert to_answer(value) == expected


def test_an_answer_pattern_is_tried_first():
    assert to_answer("Result = 12 (from \\boxed{3})", r"Result = (\d+)") == "12"
    assert to_answer("see \\boxed{3}", r"Result = (\d+)") == "3"
    assert to_answer("3/4", r"Result = (\d+)") == "3/4"


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_number_text_reads_back_the_same(value):
    assert float(number_text(value)) == value


def test_other_columns_become_json(tmp_path):
    table = pa.table(
        {
            "prompt": ["A?"],
            "day": [date(2024, 5, 1)],
            "at": pa.array([datetime(2024, 5, 1, 12)], pa.timestamp("ns")),
            "price": [Decimal("1.20")],
            "text": [b"caf\xc3\xa9"],
            "picture": [b"\xff\xd8"],
            "scores": [[1.5, float("nan"), float("-inf")]],
            "nested": [{"a": {"b": [1, None]}}],
        }
    )
    pq.write_table(table, tmp_path / "q.parquet")
    (row,) = rows_of(tmp_path / "q.parquet")
    assert json.loads(row["extra"]) == {
        "day": "2024-05-01",
        "at": "2024-05-01T12:00:00",
        "price": "1.20",
        "text": "café",
        "picture": base64.b64encode(b"\xff\xd8").decode(),
        "scores": [1.5, None, "-Infinity"],
        "nested": {"a": {"b": [1, None]}},
    }


# Prompts ---------------------------------------------------------------------------------------


def test_format_prompt_adds_what_is_not_there():
    messages = [*user("One?"), {"role": "assistant", "content": "1"}, *user("Two?")]
    formatted = format_prompt(messages, "Be brief.", "Use a box.")
    assert formatted == [
        {"role": "system", "content": "Be brief."},
        *messages[:2],
        {"role": "user", "content": "Two?\nUse a box."},
    ]
    assert messages[2]["content"] == "Two?"
    assert format_prompt(user("A?"), None, "") == user("A?")
    assert format_prompt(user("A?"), None, " Go.") == user("A? Go.")
    for role in ("system", "developer"):
        own = [{"role": role, "content": "Mine."}, *user("A?")]
        assert format_prompt(own, "Be brief.", "") == own
