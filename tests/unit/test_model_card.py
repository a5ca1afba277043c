"""The model card: what it tells of a run, and what it must not."""

import json

import pyarrow as pa

from pivottrace.labels import intake
from pivottrace.labels.store import Given
from pivottrace.schemas import QUESTIONS
from pivottrace.training.model_card import write_model_card

ALARM = {"step": 5, "what": "votes", "value": 0.9, "threshold": 0.5, "action": "stop"}
FACTS = {
    "num_rows": {"annotate": 9, "weak": 4},
    "left_out": {"probes": 2, "unlabelled": 0},
    "passes": 1.5,
    "steps": 5,
}


def make(make_run):
    run = make_run(train={"steps": 7, "lora_rank": 4}, pool={"system_prompt": "a secret prompt"})
    question = {"id": "q1", "prompt": [{"role": "user", "content": "private question"}]}
    row = {**question, "answer": None, "source": "test", "extra": "{}"}
    run.write_table("pool", pa.Table.from_pylist([row], schema=QUESTIONS))
    run.mark_done("pool", num_questions=24, num_with_answer=24)
    run.mark_done("greedy", model_digest="abc123", tokenizer_digest="def456")
    run.mark_done("triage", counts={"annotate": 10, "weak": 6, "discard": 8})
    purposes = (("q1", "probe"), ("q2", "annotation"))
    labels = [Given(i, "private answer", "oracle", purpose) for i, purpose in purposes]
    intake.open_store(run).add_many(labels)
    folder = run.round_path / "train"
    (folder / "model").mkdir(parents=True)
    (folder / "alarms.jsonl").write_text(json.dumps(ALARM) + "\n")
    return run


def test_the_card_tells_where_a_model_comes_from(make_run):
    run = make(make_run)
    text = write_model_card(run, FACTS).read_text()
    assert text.startswith("---\nlibrary_name: transformers\ntags:")  # no Hub id: no base_model
    for line in (
        "- digest of its weights: `abc123`",
        "- label budget: 12 labels",
        "- labels used: 2 (8.3% of the pool), 1 of them probes",
        "- routes: 10 annotate, 8 discard, 6 weak",
        "- rows trained on: 9 annotate, 4 weak",
        "- rows left out: 2 probes",
        "- steps: 5 of 7",
        "- weights trained: adapters of rank 4, merged",
        "- alarms: votes: stop (x 1)",
        "- after: not measured",
        "- seed: 0",
        "| train.learning_rate | `0.0001` |",
        '| alarms.action | `"pause"` |',
    ):
        assert f"\n{line}\n" in text, line
    assert "private" not in text and "secret" not in text


def test_the_card_takes_in_the_evaluation(make_run):
    run = make(make_run)
    figures = {"low": 0.4, "high": 0.6, "k": 4, "num_questions": 50}
    run.mark_done("evaluate_before", figures={"accuracy": 0.5, **figures})
    run.mark_done(
        "evaluate_after",
        figures={"accuracy": 0.55, **figures},
        difference={"mean": 0.05, "low": -0.012, "high": 0.1},
    )
    text = write_model_card(run, FACTS).read_text()
    assert "- before: 50.0% (40.0% to 60.0%), avg@4 over 50 questions\n" in text
    assert "- difference, paired: +5.0 points (-1.2 to +10.0)\n" in text
    assert "not measured" not in text
    assert text == write_model_card(run, FACTS).read_text()


def test_without_a_model_there_is_no_card(make_run):
    run = make_run()
    assert write_model_card(run, FACTS) is None
