"""A run that waits for its probes, for the tests of the labelling page."""

import pyarrow as pa
from report_run import make_run as fabricate

from pivottrace.cli import main

PROBES, BUDGET = 6, 10


def asking(path, num_probes=PROBES, budget=BUDGET, texts=(), verifier="math", **labels):
    """Fabricate a run that has asked for its probes.

    Args:
        path: Its folder.
        num_probes: Number of probes.
        budget: Number of labels.
        texts: Texts of the first probes, in place of fabricated ones.
        verifier: The kind of the verifier.
        labels: Further settings of the labels.
    """
    run = fabricate(
        path,
        "sample",
        num_probes + 40,
        answers={"verifier": verifier},
        rollouts={"num_samples": 8, "sampling": "fixed"},
        labels={"budget": budget, "source": "file", **labels},
        calibrate={"num_probes": num_probes},
        triage={"hopeless": "annotate", "least_label_gain": 0.0},
        train={"enabled": False},
    )
    assert main(["run", str(run.path), "--until", "label"]) == 3
    by_id = dict(zip(probes_of(run), texts, strict=False))
    pool = run.read_table("pool", made_by="run")
    prompts = [
        [{"role": "user", "content": by_id[row["id"]]}] if row["id"] in by_id else row["prompt"]
        for row in pool.to_pylist()
    ]
    place = pool.schema.get_field_index("prompt")
    column = pa.array(prompts, pool.schema.field(place).type)
    run.write_table("pool", pool.set_column(place, "prompt", column))
    return run


def probes_of(run):
    """The ids of the probes, in the order of asking."""
    return run.read_table("probes", made_by="calibrate")["question_id"].to_pylist()


def truths_of(run):
    """The true answers of the pool, by id."""
    pool = run.read_table("pool", made_by="run").to_pylist()
    return {row["id"]: row["answer"] for row in pool}
