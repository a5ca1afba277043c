"""A run with routes and labels but no model, for the tests of exports."""

import pyarrow as pa

from pivottrace.exports import export_formats
from pivottrace.exports.writing import export
from pivottrace.labels import intake
from pivottrace.labels.store import Given
from pivottrace.schemas import QUESTIONS, TRIAGE

# Markup, quotes, line ends of every kind, a control character, a formula, a change of direction.
HOSTILE = (
    "<script>alert(1)</script> & 'quotes' \"both\"\r\n\ttab, \u2028 and \u2029, \x07, "
    "＝1+1, 🦜 \u202e"
)
# Question: route, weight, vote, priority. True answers of all of them are in the pool.
ROWS = {
    "007": ("annotate", 1.0, None, 0.2),
    "1e3": ("annotate", 1.0, None, 0.9),
    "2020-01-02": ("annotate", 1.0, None, 0.4),
    "null": ("weak", 0.6, "1e3", None),
    "true": ("weak", 0.8, "007", None),
    "d": ("discard", 0.0, None, None),
    "e": ("defer", 0.0, None, 0.1),
}
TRUTH = "the truth of {}"
LABELS = {"007": "007", "1e3": "1,800"}


def triaged(run, rows=ROWS, prompt=HOSTILE):
    run.mark_done("pool", num_questions=len(rows))
    messages = [{"role": "system", "content": "Rules."}, {"role": "user", "content": prompt}]
    pool = [
        {"id": i, "prompt": messages, "answer": TRUTH.format(i), "source": "a.jsonl", "extra": "{}"}
        for i in sorted(rows)
    ]
    run.write_table("pool", pa.Table.from_pylist(pool, schema=QUESTIONS))
    triage = [
        {
            "question_id": i,
            "route": route,
            "reason": "r",
            "weight": weight,
            "rank": 0.5,
            "priority": priority,
            "pseudo_label": vote,
            "vote_share": vote and 0.75,
        }
        for i, (route, weight, vote, priority) in sorted(rows.items())
    ]
    run.write_table("triage", pa.Table.from_pylist(triage, schema=TRIAGE))
    run.mark_done("triage", counts={})
    return run


def hold_out(run, questions):
    """Give a run held-out questions: id, question and true answer of each."""
    rows = [
        {
            "id": i,
            "prompt": [{"role": "user", "content": text}],
            "answer": answer,
            "source": "held-out.jsonl",
            "extra": "{}",
        }
        for i, text, answer in questions
    ]
    run.write_table("evaluation", pa.Table.from_pylist(rows, schema=QUESTIONS))


def exported(run, name, folder, **options):
    """The files of an export as the command writes them, with its counts."""
    place, written = export(run, export_formats()[name], folder, options)
    return place, written


def give_labels(run, labels=LABELS):
    rows = [Given(i, answer, "file", "annotation") for i, answer in labels.items()]
    intake.open_store(run).add_many(rows)
