"""The stages train and evaluate, through a run directory of their own."""

import json
from contextlib import contextmanager

import pyarrow as pa
import pytest
from train_stage_run import ROUTES, give, make_run
from training_run import WORDS, metrics

from pivottrace.config import parse_config
from pivottrace.errors import ConfigError, RunDirError
from pivottrace.refine import make_rule
from pivottrace.run.directory import RunDir
from pivottrace.run.readings import evaluation_facts
from pivottrace.schemas import EVIDENCE, TRIAGE

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_limit_that_was_raised_too_far_is_refused_before_training(start, tokenizer, tmp_path):
    """The model reads 64 tokens, and the rollouts have a limit of their own."""
    from pivottrace.stages import evaluate_before
    from pivottrace.stages import train as stage

    run = make_run(tmp_path, start, tokenizer, ROUTES, max_new_tokens=62)
    give(run, "q0", "a", "column", "annotation")
    with pytest.raises(ConfigError, match=r"Set train.max_new_tokens \(now 62\) to at most \d+"):
        stage.run(run)
    assert not run.begun_facts("train") and not run.table_path("training_rows").exists()
    longer = run.config.evaluate.model_copy(update={"max_new_tokens": 62})
    run = RunDir(run.path, run.config.model_copy(update={"evaluate": longer}))
    with pytest.raises(ConfigError, match=r"held-out questions .* Set evaluate.max_new_tokens"):
        evaluate_before.run(run)
    assert not run.begun_facts("evaluate_before")


def test_an_interrupted_training_keeps_its_settings(start, tokenizer, tmp_path, monkeypatch):
    from pivottrace.stages import train as stage
    from pivottrace.training import trl

    class Killed(BaseException):
        pass

    def killed(*args, **kwargs):
        raise Killed

    run = make_run(tmp_path, start, tokenizer, ROUTES)
    give(run, "q0", "a", "column", "annotation")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(trl, "train_grpo", killed)
        stage.run(run)
    assert run.begun_facts("train")["unfinished"] and not run.is_done("train")
    kept = run.round_path / "train" / "checkpoints" / "checkpoint-1" / "whole.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    for section, key, value in (
        ("weak", "reward", "self_certainty"),
        ("alarms", "action", "stop"),
        ("train", "steps", 9),
    ):
        values = run.config.model_dump(mode="json")
        values[section][key] = value
        with (
            pytest.raises(ConfigError, match=rf"{section}.{key}: was .* \(used by train\)"),
            RunDir.create(parse_config(values, "test")).locked(),
        ):
            pass
    values = run.config.model_dump(mode="json")
    values["train"]["save_steps"] = 7
    with RunDir.create(parse_config(values, "test")).locked():
        pass
    # Without a checkpoint there is nothing to go on from, and a refused setting may be put right.
    kept.unlink()
    values["train"]["lora_target"] = "q_proj"
    with RunDir.create(parse_config(values, "test")).locked():
        assert not RunDir.open(run.path).begun_facts("train")


def test_the_stage_trains_on_two_routes_and_evaluates(start, tokenizer, tmp_path, monkeypatch):
    from pivottrace.stages import evaluate_after, evaluate_before
    from pivottrace.stages import train as stage
    from pivottrace.training import trl

    told = []  # the arguments as TRL gets them
    make = trl.grpo_arguments
    monkeypatch.setattr(trl, "grpo_arguments", lambda *given: told.append(make(*given)) or told[-1])
    run = make_run(tmp_path, start, tokenizer, ROUTES)
    with pytest.raises(RunDirError, match=r"1 annotate row without a label .* such as 'q0'"):
        stage.run(run)
    give(run, "q0", "bought", "column", "annotation")
    give(run, "q2", "not for training", "column", "probe")
    evaluate_before.run(run)
    before = run.stage_facts("evaluate_before")
    assert before["figures"]["num_questions"] == 5 and not run.is_done("evaluate_after")
    with pytest.raises(RunDirError, match="training has not finished"):
        evaluate_after.run(run)
    stage.run(run)
    evaluate_after.run(run)

    rows = run.read_table("training_rows", made_by="train").to_pylist()
    assert [(r["question_id"], r["route"], r["label"]) for r in rows] == [
        ("q0", "annotate", "bought"),
        ("q1", "weak", None),
        ("q4", "weak", None),
    ]
    assert rows[0]["prompt"] == [{"role": "user", "content": "a\nj"}]
    facts = run.stage_facts("train")
    assert facts["trained"] and facts["num_rows"] == {"annotate": 1, "weak": 2}
    assert facts["left_out"] == {"unlabelled": 0}
    assert (facts["steps"], facts["passes"], facts["rollouts"]) == (2, 2.0, 24)
    assert (facts["verifier_timeouts"], facts["verifier_crashes"]) == (0, 0)
    assert [arguments.run_name for arguments in told] == ["run"], "what a tracker calls it"

    facts = run.stage_facts("evaluate_after")
    table = run.read_table("evaluation_after", made_by="evaluate")
    assert table.num_rows == 5 * 4 and table["question_id"].to_pylist()[:5] == ["e0"] * 4 + ["e1"]
    right = table["correct"].to_pylist()
    assert facts["figures"]["accuracy"] == pytest.approx(sum(right) / 20)
    assert [a == "a" for a in table["answer"].to_pylist()] == right
    change = facts["figures"]["accuracy"] - before["figures"]["accuracy"]
    assert facts["difference"]["mean"] == pytest.approx(change)
    assert run.stage_facts("evaluate_before") == before
    curve = metrics(run.round_path / "train", "learning_curve.jsonl")
    assert [point["step"] for point in curve] == [0, 1, 2]
    assert curve[0].keys() == {"step", "accuracy", "low", "high"}
    # Again: nothing is repeated, the figures stay.
    evaluate_after.run(run)
    assert run.stage_facts("evaluate_after") == facts


def test_evaluate_alone_after_training_gives_the_difference(start, tokenizer, tmp_path, capsys):
    from pivottrace.cli import main
    from pivottrace.stages import train as stage

    run = make_run(tmp_path, start, tokenizer, ROUTES)
    give(run, "q0", "bought", "column", "annotation")
    assert main(["evaluate", str(run.path)]) == 0
    assert run.is_done("evaluate_before") and not run.is_done("evaluate_after")
    assert "  done  evaluate before" in status_of(run, capsys)
    assert "  to do evaluate after" in status_of(run, capsys)

    run.table_path("evaluation_before").unlink()
    stage.run(run)
    assert main(["evaluate", str(run.path)]) == 0
    assert evaluation_facts(run).keys() == {"before", "after", "difference", "sets"}
    assert "  done  evaluate after" in status_of(run, capsys)


def status_of(run, capsys):
    from pivottrace.cli import main

    capsys.readouterr()
    assert main(["status", str(run.path)]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("step", ["train", "evaluate"])
def test_another_model_than_the_rollouts_is_refused(start, tokenizer, tmp_path, step):
    from pivottrace.stages import evaluate_before
    from pivottrace.stages import train as stage

    run = make_run(tmp_path, start, tokenizer, ROUTES)
    give(run, "q0", "bought", "column", "annotation")
    run.mark_done("greedy", model_digest="of another one")
    with pytest.raises(RunDirError, match=r"another model wrote the rollouts .* other weights"):
        stage.run(run) if step == "train" else evaluate_before.run(run)


@pytest.fixture
def parities(tmp_path, monkeypatch):
    """A verifier to which any two words of the same parity are the same answer.

    So half of all answers are right, and a truth that leaked would reward other completions.
    """
    (tmp_path / "parities.py").write_text(
        f"WORDS = {WORDS}\n\ndef same(a, b):\n    return WORDS.index(a) % 2 == WORDS.index(b) % 2\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "parities:same"


RULES = {
    "trapo": {"rule": "trapo", "trapo_warm_up": 2},
    "geomin": {"rule": "geomin", "geomin_warm_up": 1},
    "label_refinement": {"rule": "label_refinement", "label_warm_up": 2, "label_slope": 0.0},
}


@pytest.mark.parametrize(
    ("reward", "rule"),
    [
        ("majority", {}),
        ("frozen_majority", {}),
        ("co_rewarding_teacher", {}),
        ("self_certainty", {}),
        *(("majority", rule) for rule in RULES.values()),
    ],
)
def test_no_hidden_truth(start, tokenizer, tmp_path, parities, reward, rule):
    """Answers deleted once the labels are bought: the same weights, byte for byte."""
    from pivottrace.stages import train as stage

    weights = []
    for deleted in (False, True):
        run = make_run(
            tmp_path / str(deleted),
            start,
            tokenizer,
            ROUTES,
            weak={"reward": reward},
            refine=rule,
            verifier=parities,
            steps=3,
        )
        give(run, "q0", "b", "column", "annotation")
        if deleted:
            pool = run.read_table("pool", made_by="pool")
            nothing = pa.nulls(pool.num_rows, pa.string())
            for name in ("answer", "extra"):
                pool = pool.set_column(pool.schema.get_field_index(name), name, nothing)
            run.write_table("pool", pool)
            run.table_path("evaluation").unlink()
        stage.run(run)
        rows = run.read_table("training_rows", made_by="train").to_pylist()
        weak = [row for row in rows if row["route"] == "weak"]
        vote = "b" if reward == "frozen_majority" else None
        assert [(r["label"], r["pseudo_label"], r["rewrite"]) for r in weak] == 2 * [
            (None, vote, None)
        ]
        assert [r["pseudo_label"] for r in rows if r["route"] == "annotate"] == [None]
        weights.append((run.round_path / "train" / "model" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    untrained = (tmp_path / "False" / "start" / "model.safetensors").read_bytes()
    assert weights[0] != untrained and len(weights[0]) == len(untrained)


@pytest.mark.parametrize("rule", RULES)
def test_rules_alarms_and_teacher_resume_exactly(
    start, tokenizer, tmp_path, monkeypatch, parities, rule
):
    """The real ones, put together by the stage, and interrupted between two checkpoints."""
    from pivottrace.refine.alarms import CollapseAlarms
    from pivottrace.stages import train as stage
    from pivottrace.stages import trl_training

    class Killed(BaseException):
        pass

    @contextmanager
    def killed_at_five(*args):
        def update(step):
            if step == 5:
                raise Killed

        yield update

    routes = ["annotate", "weak", "annotate", "weak", "weak"]
    runs = {}
    for name in ("whole", "resumed", "forgotten"):
        run = make_run(
            tmp_path / name,
            start,
            tokenizer,
            routes,
            weak={"reward": "co_rewarding_teacher"},
            refine=RULES[rule],
            verifier=parities,
            steps=6,
            save_steps=2,
            num_generations=6,
        )
        give(run, "q0", "b", "column", "annotation")
        give(run, "q2", "c", "column", "annotation")
        if name != "whole":
            with monkeypatch.context() as patch, pytest.raises(Killed):
                patch.setattr(trl_training, "progress", killed_at_five)
                stage.run(run)
            checkpoint = run.round_path / "train" / "checkpoints" / "checkpoint-4"
            state = json.loads((checkpoint / "rules.json").read_text())
            assert state["rule"] and state["alarms"]
        with monkeypatch.context() as patch:
            if name == "forgotten":
                kind = type(make_rule(run.config.refine, lambda a, b: a == b))
                patch.setattr(kind, "load_state_dict", lambda self, state: None)
                patch.setattr(CollapseAlarms, "load_state_dict", lambda self, state: None)
            stage.run(run)
        runs[name] = run.round_path / "train"
    weights = {
        name: (path / "model" / "model.safetensors").read_bytes() for name, path in runs.items()
    }
    assert weights["resumed"] == weights["whole"]
    assert metrics(runs["resumed"]) == metrics(runs["whole"])
    assert weights["forgotten"] != weights["whole"], "the rule's state has a say"


def test_the_order_starts_from_what_is_known_of_each_row(start, tokenizer, tmp_path):
    from pivottrace.stages import train as stage

    weak = {"reward": "co_rewarding_rewrite", "rewrite_column": "reworded"}
    routes = ["annotate", "weak", "annotate", "discard"]
    run = make_run(tmp_path, start, tokenizer, routes, weak=weak, order="learnable", steps=4)
    triage = run.read_table("triage", made_by="triage").to_pylist()
    for row, mu, share in zip(triage, (0.4, 0.3, 0.5), (0.75, 0.625, None), strict=False):
        row |= {"mu": mu, "vote_share": share}
    run.write_table("triage", pa.Table.from_pylist(triage, schema=TRIAGE))
    probe = {"question_id": "q2", "num_correct": 3, "num_samples": 4}
    run.write_table("evidence", pa.Table.from_pylist([probe], schema=EVIDENCE))
    for question in ("q0", "q2"):
        give(run, question, "a", "column", "annotation")
    stage.run(run)
    rows = run.read_table("training_rows", made_by="train").to_pylist()
    assert [(row["question_id"], row["prior_pass_rate"]) for row in rows] == [
        ("q0", 0.4),
        ("q1", 0.625),
        ("q1/rewritten", 0.625),
        ("q2", 0.75),
    ]
    folder = run.round_path / "train"
    assert all(1 <= line["rows_effective"] <= 4 for line in metrics(folder))
    assert "\n- order of rows: learnable\n" in (folder / "model" / "README.md").read_text()


def test_an_order_cannot_count_rewards_of_tokens():
    from pivottrace.training.reward import check_training

    values = {"train": {"order": "learnable"}, "weak": {"reward": "self_certainty"}}
    with pytest.raises(ConfigError, match=r"train.order = learnable .* self_certainty grades"):
        check_training(parse_config(values, "test"))


@pytest.mark.parametrize("column", ["reworded", None])
def test_rewritten_questions_are_stored_and_mirrored(start, tokenizer, tmp_path, column):
    from pivottrace.stages import train as stage

    weak = {"reward": "co_rewarding_rewrite", "rewrite_prompt": "{question}"}
    weak |= {"rewrite_column": column} if column else {}
    run = make_run(tmp_path, start, tokenizer, ROUTES, weak=weak)
    give(run, "q0", "even", "column", "annotation")
    stage.run(run)
    rows = run.read_table("training_rows", made_by="train").to_pylist()
    ids = ["q0", "q1", "q1/rewritten", "q4", "q4/rewritten"]
    assert [row["question_id"] for row in rows] == ids
    assert rows[0]["rewrite"] is None
    assert (rows[1]["prompt"], rows[1]["rewrite"]) == (rows[2]["rewrite"], rows[2]["prompt"])
    assert rows[1]["prompt"] == [{"role": "user", "content": "b\nj"}]
    written = rows[1]["rewrite"][0]["content"]
    assert written.endswith("\nj") and (column is None or written == "c d\nj")
    assert [row["label"] for row in rows[1:]] == [None] * 4
    lines = metrics(run.round_path / "train")
    assert all("vote_share" in line and line["extra_rollouts"] > 0 for line in lines)


def test_nothing_to_train_on_is_said_plainly(start, tokenizer, tmp_path):
    from pivottrace.stages import evaluate_after, evaluate_before
    from pivottrace.stages import train as stage

    run = make_run(tmp_path, start, tokenizer, ["discard", "defer"])
    stage.run(run)
    facts = run.stage_facts("train")
    assert facts["trained"] is False and "no question" in facts["reason"]
    evaluate_before.run(run)
    evaluate_after.run(run)
    facts = evaluation_facts(run)
    assert facts["skipped"] == "there is no trained model to evaluate after training"
    assert facts.keys() == {"before", "sets", "skipped"}


def test_evaluation_without_answers_or_questions_is_skipped(start, tokenizer, tmp_path):
    from pivottrace.stages import evaluate_before

    run = make_run(tmp_path, start, tokenizer, ROUTES, answers=False)
    evaluate_before.run(run)
    assert evaluation_facts(run)["skipped"].startswith("no evaluation question has an answer")
    run.table_path("evaluation").unlink()
    evaluate_before.run(run)
    assert "no evaluation questions" in evaluation_facts(run)["skipped"]


def test_few_rows_seen_very_often_are_said(start, tokenizer, tmp_path, monkeypatch, capsys):
    from pivottrace.commands.status import notes
    from pivottrace.stages import train as stage

    config, both = parse_config({}, "test"), {"annotate": 8, "weak": 9}
    assert not list(stage.training_notes(config, both, 10.3))
    assert len(list(stage.training_notes(config, both, 24.8))) == 1
    assert "no alarm" in next(stage.training_notes(config, {"annotate": 0, "weak": 9}, 1.0))
    for rule, number in (("trapo", 1), ("geomin", 1), ("label_refinement", 0)):
        ruled = parse_config({"refine": {"rule": rule}}, where="run.toml")
        assert len(list(stage.training_notes(ruled, {"annotate": 9, "weak": 0}, 1.0))) == number
        assert not list(stage.training_notes(ruled, both, 1.0))
        assert not list(stage.training_notes(ruled, {}, 0.0)), "rows are not known yet"
    monkeypatch.setattr(stage, "MANY_PASSES", 2)
    run = make_run(tmp_path, start, tokenizer, ROUTES)
    give(run, "q0", "a", "column", "annotation")
    stage.run(run)
    said = "training sees each row 2 times, which can leave the model worse than before"
    assert said in capsys.readouterr().err
    assert [note for note in notes(run) if said in note]
