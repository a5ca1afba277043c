"""Greedy traces to votes with a tiny random model: resumed, with other settings or models."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from pivottrace.commands.status import describe, notes
from pivottrace.config import parse_config
from pivottrace.errors import ConfigError, DataError, ModelError, RunDirError
from pivottrace.estimators import ESTIMATORS
from pivottrace.models.generate import TransformersSampler
from pivottrace.models.load import load_model
from pivottrace.rollouts import parts
from pivottrace.run.directory import RunDir
from pivottrace.run.storage import read_json
from pivottrace.schemas import QUESTIONS, SIGNALS
from pivottrace.stages import greedy, sample, score, trace_signals
from pivottrace.verifier import Verifier

pytestmark = pytest.mark.usefixtures("one_thread")


class Killed(Exception):
    pass


@pytest.fixture
def make_run(tmp_path, start, tokenizer):
    """Make a run of 8 questions, or take it up again with other settings."""
    folder = tmp_path / "model"
    start.save_pretrained(folder)
    tokenizer.save_pretrained(folder)

    def make(**sections):
        values = {
            "output": str(tmp_path / "run"),
            "model": {"path": str(folder), "device": "cpu"},
            "answers": {"verifier": "exact", "pattern": r"^(\S+)"},
            "train": {"enabled": False},
        }
        rollouts = {"num_samples": 2, "max_new_tokens": 5, "part_size": 4}
        values |= sections | {"rollouts": rollouts | sections.get("rollouts", {})}
        run = RunDir.create(parse_config(values, "test"))
        if not run.is_done("pool"):
            run.write_table("pool", pa.Table.from_pylist(questions(), schema=QUESTIONS))
            run.mark_done("pool", num_questions=8, num_with_answer=8)
        return run

    return make


def questions():
    return [
        {
            "id": f"q{i}",
            "prompt": [{"role": "user", "content": "abcdefghij"[i]}],
            "answer": None,
            "source": "test",
            "extra": "{}",
        }
        for i in range(8)
    ]


@pytest.fixture
def killed(monkeypatch):
    """Run a function as if the process were killed when it comes to write part `index`."""

    def run(stage, index):
        write = RunDir.write_part

        def write_part(run, name, at, table):
            if at == index:
                raise Killed
            write(run, name, at, table)

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(RunDir, "write_part", write_part)
            stage()

    return run


def test_settings_cannot_change_between_parts(make_run, killed):
    killed(lambda: greedy.run(make_run()), 1)
    with pytest.raises(ConfigError) as caught:
        make_run(rollouts={"part_size": 2, "temperature": 0.5})
    assert "rollouts.part_size: was 4, now 2 (used by greedy)" in str(caught.value)
    assert "temperature" not in str(caught.value)  # greedy decoding has none

    run = make_run(rollouts={"temperature": 0.5})
    greedy.run(run)
    killed(lambda: trace_signals.run(run), 1)
    with pytest.raises(ConfigError, match=r"trace.num_sinks: was 1, now 2 \(used by trace\)"):
        make_run(trace={"num_sinks": 2})
    for stage in (trace_signals, score):
        stage.run(run)
    killed(lambda: sample.run(run), 1)
    with pytest.raises(ConfigError, match=r"temperature: was 0.5, now 0.7 \(used by sample\)"):
        make_run(rollouts={"temperature": 0.7})
    sample.run(run)
    found = run.read_parts("rollouts_sampled", "sample")
    assert found["question_id"].to_pylist() == [f"q{i // 2}" for i in range(16)]
    assert run.stage_facts("sample")["questions_by_samples"] == {"2": 8}


def test_sampling_in_steps_is_the_same_after_a_kill(make_run, killed, tmp_path, capsys):
    """A random model's answers differ, so questions stop at different steps."""

    def sampled(name, stage):
        run = make_run(
            output=str(tmp_path / name), rollouts={"num_samples": 16, "temperature": 0.1}
        )
        for before in (greedy, trace_signals, score):
            before.run(run)
        stage(run)
        files = sorted(run.round_path.rglob("*.parquet"))
        return run, {str(path.relative_to(run.path)): path.read_bytes() for path in files}

    def resumed(run):
        killed(lambda: sample.run(run), 1)
        sample.run(run)

    run, whole = sampled("whole", sample.run)
    _, again = sampled("again", resumed)
    assert whole == again
    facts = run.stage_facts("sample")
    assert len(facts["questions_by_samples"]) > 1
    votes = run.read_table("votes", "sample")
    assert sum(votes["num_samples"].to_pylist()) == facts["samples_taken"] < 128
    assert facts["samples_possible"] == 128
    assert f"8/8 questions, {facts['samples_taken']} samples" in capsys.readouterr().err
    assert not (run.round_path / "rollouts_first").exists()


def test_a_vote_that_was_killed_samples_nothing_again(make_run, tmp_path, monkeypatch):
    run = make_run(output=str(tmp_path / "run"), rollouts={"num_samples": 16, "temperature": 0.1})
    for stage in (greedy, trace_signals, score):
        stage.run(run)
    with monkeypatch.context() as patched:

        def kill(run, verifier):
            raise KeyboardInterrupt

        patched.setattr(sample, "vote", kill)
        with pytest.raises(KeyboardInterrupt):
            sample.run(run)
    before = {path: path.read_bytes() for path in run.round_path.rglob("part-*.parquet")}

    def refuse(self, *arguments):
        raise AssertionError("a question was sampled again")

    monkeypatch.setattr(parts.PoolRollouts, "_ask", refuse)
    sample.run(run)
    assert run.is_done("sample")
    assert {p: p.read_bytes() for p in run.round_path.rglob("part-*.parquet")} == before


def test_a_verifier_that_fails_does_so_before_anything_is_sampled(make_run, monkeypatch):
    run = make_run()
    for stage in (greedy, trace_signals, score):
        stage.run(run)

    def fail(self, answers):
        raise DataError("answers.verifier fails")

    monkeypatch.setattr(Verifier, "group", fail)
    with pytest.raises(DataError):
        sample.run(run)
    assert not run.begun_facts("sample")
    assert not list(run.round_path.glob("rollouts_sampled/*"))


def test_an_attempt_that_kept_nothing_binds_nobody(make_run, monkeypatch):
    def sample(self, prompts, settings):
        raise ModelError("memory ran out with one sequence at a time")

    monkeypatch.setattr(TransformersSampler, "sample", sample)
    with pytest.raises(ModelError):
        greedy.run(make_run())
    make_run(rollouts={"max_new_tokens": 3})


def test_a_threshold_is_frozen_once_it_is_there():
    signals = [
        {
            "question_id": "q0",
            "failure": None,
            "far_mass": [0.1, 0.2, 0.3],
            "question_mass": [0.5, 0.6, 0.7],
        },
        {"question_id": "q1", "failure": None, "far_mass": [0.9], "question_mass": [0.9]},
        {"question_id": "q2", "failure": "nan_logits", "far_mass": None, "question_mass": None},
    ]
    columns = pa.schema(
        SIGNALS.field(name) for name in ("question_id", "failure", "far_mass", "question_mass")
    )
    parts = [pa.Table.from_pylist(rows, columns) for rows in (signals[:1], signals[1:])]
    reference = {"question_ids": ["q0", "q2"], "heads": None}
    made = score._thresholds(reference, parts, 50.0)
    assert made == {"threshold": pytest.approx(0.2), "question_threshold": pytest.approx(0.6)}
    frozen = score._thresholds(reference | {"threshold": 0.7}, parts, 50.0)
    assert frozen == made | {"threshold": 0.7}
    assert score._thresholds(reference, parts[1:], 50.0) == dict.fromkeys(made)


def test_every_estimator_scores_every_question_that_has_a_response(make_run):
    run = make_run()
    for stage in (greedy, trace_signals, score, sample):
        stage.run(run)
    signals = run.read_parts("signals", "trace").to_pylist()
    scores = run.read_table("scores", made_by="score").to_pylist()
    votes = run.read_table("votes", made_by="sample").to_pylist()
    assert {len(s["layer_path"]["step_lengths"]) for s in signals if s["failure"] is None} == {2}
    usable = [
        row | vote
        for row, vote, s in zip(scores, votes, signals, strict=True)
        if s["failure"] is None
    ]
    assert len(usable) >= 4
    for name in ESTIMATORS:
        assert np.isfinite([row[name] for row in usable]).all(), name
    assert read_json(run.path / "reference.json").keys() == {
        "question_ids",
        "heads",
        "threshold",
        "question_threshold",
    }


def test_the_reference_sample_binds_the_settings_that_it_was_drawn_with(make_run, killed):
    run = make_run()
    greedy.run(run)
    killed(lambda: trace_signals.run(run), 0)
    assert (run.path / "reference.json").is_file()
    with pytest.raises(ConfigError, match=r"pivots.reference_size: was 512, now 2"):
        make_run(pivots={"reference_size": 2})


@pytest.mark.parametrize("changed", ["weights", "tokenizer"])
def test_another_model_is_refused_at_each_stage(make_run, killed, tmp_path, changed):
    killed(lambda: greedy.run(make_run()), 1)
    keep = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    _change(tmp_path / "model", changed)
    with pytest.raises(RunDirError, match=rf"another model .* other {changed}\. Put the old"):
        greedy.run(make_run())
    for name, content in keep.items():
        (tmp_path / "model" / name).write_bytes(content)
    greedy.run(make_run())
    _change(tmp_path / "model", changed)
    with pytest.raises(RunDirError, match=f"other {changed}"):
        trace_signals.run(make_run())


def _change(folder, what):
    model, tokenizer = load_model(parse_config({"model": {"path": str(folder)}}, "test").model)
    if what == "weights":
        with torch.no_grad():
            model.model.norm.weight[0] += 1e-3
        model.save_pretrained(folder)
    else:
        tokenizer.chat_template += " "
        tokenizer.save_pretrained(folder)


def test_the_same_weights_in_a_wider_type_are_the_same_model(start):
    from pivottrace.models.digests import model_digest

    assert model_digest(start) == model_digest(start.double()) == model_digest(start.float())


def test_a_prompt_without_tokens_is_called_so(make_run, monkeypatch):
    render = parts.render_questions

    def render_questions(tokenizer, asked, pool):
        prompts = render(tokenizer, asked, pool)
        return [prompts[0], [], [3] * 60, *prompts[3:]]

    monkeypatch.setattr(parts, "render_questions", render_questions)
    run = make_run()
    run.begin("greedy")  # an older version began, and left out what does not fit
    greedy.run(run)
    failures = run.read_parts("rollouts_greedy", "greedy")["failure"].to_pylist()
    assert failures[1:3] == ["empty_prompt", "prompt_too_long_for_the_model"]


def test_a_model_without_chat_template_is_told_of(make_run, tmp_path, capsys):
    run = make_run()
    greedy.run(run)
    assert "chat template" not in capsys.readouterr().err
    assert not [note for note in notes(run) if "chat template" in note]
    (tmp_path / "model" / "chat_template.jinja").unlink()
    run = make_run(output=str(tmp_path / "plain"))
    greedy.run(run)
    assert capsys.readouterr().err.count("note: the model has no chat template") == 1
    assert [line for line in describe(run) if line.startswith("note: the model has no chat templ")]


def test_near_is_the_pivots_window_unless_said(make_run, tmp_path, monkeypatch):
    windows = []
    run = make_run(pivots={"window": 7})
    assert run.config.trace.window is None
    for settings in ({}, {"window": 3}):
        run = make_run(output=str(tmp_path / f"{settings}"), pivots={"window": 7}, trace=settings)
        greedy.run(run)
        monkeypatch.setattr(run.crew, "open", lambda *arguments: windows.append(arguments[-1]))
        with pytest.raises(AttributeError):
            trace_signals.run(run)
    assert windows == [7, 3]
