"""A run that is ready for its train stage, with a tiny model and the routes that a test gives."""

import pyarrow as pa
from training_run import CONFIG

from pivottrace.config import parse_config
from pivottrace.run.directory import RunDir
from pivottrace.schemas import QUESTIONS, TRIAGE

ROUTES = ["annotate", "weak", "discard", "defer", "weak"]


def give(run, question_id, answer, source, purpose):
    from pivottrace.labels import intake
    from pivottrace.labels.store import Given

    intake.open_store(run).add_many([Given(question_id, answer, source, purpose)])


def make_run(
    tmp_path,
    start,
    tokenizer,
    routes,
    answers=True,
    weak=None,
    refine=None,
    verifier="exact",
    alarms=None,
    **train,
):
    start.save_pretrained(tmp_path / "start")
    tokenizer.save_pretrained(tmp_path / "start")
    values = {
        "output": str(tmp_path / "run"),
        "model": {"path": str(tmp_path / "start"), "device": "cpu"},
        "pool": {"prompt_suffix": "j"},
        "labels": {"budget": 0.5},
        "answers": {"verifier": verifier, "pattern": r"^\S+"},
        "rollouts": {"max_new_tokens": 5, "part_size": 2},
        "train": {**CONFIG.model_dump(exclude_none=True), "evaluate_steps": 1, **train},
        "weak": weak or {},
        "refine": refine or {},
        "alarms": alarms or {},
    }
    run = RunDir.create(parse_config(values, "test"))

    def questions(prefix, num):
        rows = [
            {
                "id": f"{prefix}{i}",
                "prompt": [{"role": "user", "content": "abcdefghij"[i]}],
                "answer": "a" if answers else None,
                "source": "test",
                "extra": '{"reworded": "c d"}',
            }
            for i in range(num)
        ]
        return pa.Table.from_pylist(rows, schema=QUESTIONS)

    run.write_table("pool", questions("q", len(routes)))
    run.write_table("evaluation", questions("e", 5))
    answered = len(routes) if answers else 0
    run.mark_done("pool", num_questions=len(routes), num_with_answer=answered)
    triage = [
        {
            "question_id": f"q{i}",
            "route": route,
            "weight": 0.5,
            "reason": "r",
            "pseudo_label": "b" if route == "weak" else None,
        }
        for i, route in enumerate(routes)
    ]
    run.write_table("triage", pa.Table.from_pylist(triage, schema=TRIAGE))
    return run
