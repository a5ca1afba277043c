"""A user's estimator and reward, given as package.module:name: the ones of docs/extending.md."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from pivottrace.config import parse_config
from pivottrace.errors import ConfigError, DataError
from pivottrace.estimators import load_estimator
from pivottrace.rewards import REWARDS, reward_named
from pivottrace.rewards.mix import mixed_reward
from pivottrace.rewards.weak import Tools, WeakGroup
from pivottrace.run import readings
from pivottrace.run.choices import driving_estimator, estimators_of
from pivottrace.run.directory import RunDir
from pivottrace.stages import greedy, pool, sample, score, trace_signals
from pivottrace.training.reward import check_training
from pivottrace.verifier.answers import group_equivalent

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
OWN = {"score": {"estimator": "late_entropy:LATE_ENTROPY"}}


@pytest.fixture(autouse=True)
def examples(tmp_path, monkeypatch):
    """The page's examples as modules that can be imported."""
    folder = tmp_path / "examples"
    folder.mkdir()
    for name, body in re.findall(
        r"<!-- file: (\S+) -->\n```python\n(.*?)```", PAGE.read_text(), re.S
    ):
        (folder / name).write_text(body)
    monkeypatch.syspath_prepend(folder)
    yield folder
    for path in folder.glob("*.py"):
        sys.modules.pop(path.stem, None)


def test_scores_get_a_column_when_the_estimator_comes_later(make_run):
    run = make_run()
    for stage in (pool, greedy, trace_signals, score):
        stage.run(run)
    before = run.read_table("scores", "score")
    own = RunDir(run.path, make_run("other", **OWN).config)
    score.run(own)
    after = own.read_table("scores", "score")
    assert after.drop_columns("late_entropy").equals(before)
    assert np.isfinite(after["late_entropy"].to_numpy()).any()
    assert driving_estimator(own.config) == "late_entropy"
    assert estimators_of(own.config)["late_entropy"].title == "entropy, last quarter"


def test_a_function_of_the_same_name_elsewhere_makes_the_scores_anew(make_run, examples):
    for module, sign in (("up", ""), ("down", "-")):
        body = f"def mine(evidence):\n    return {sign}float(evidence.num_tokens)\n"
        (examples / f"{module}.py").write_text(body)
    first = make_run(score={"estimator": "up:mine"})
    for stage in (pool, greedy, trace_signals, score):
        stage.run(first)
    up = first.read_table("scores", "score")["mine"].to_numpy()
    second = RunDir(first.path, make_run("other", score={"estimator": "down:mine"}).config)
    score.run(second)
    np.testing.assert_array_equal(second.read_table("scores", "score")["mine"].to_numpy(), -up)


def test_an_estimator_that_needs_samples_is_a_column_of_the_votes(make_run, examples):
    (examples / "spread.py").write_text(
        "from pivottrace.estimators import Estimator\n"
        "def spread(evidence):\n    return float(len(set(evidence.answer_classes)))\n"
        "SPREAD = Estimator('spread', 'different answers', 'samples', spread)\n"
    )
    run = make_run()
    for stage in (pool, greedy, trace_signals, score, sample):
        stage.run(run)
    before = run.read_table("votes", "sample")
    written = {p: p.stat().st_mtime_ns for p in run.round_path.rglob("part-*.parquet")}
    own = RunDir(run.path, make_run("other", score={"estimator": "spread:SPREAD"}).config)
    score.run(own)
    sample.run(own)
    after = own.read_table("votes", "sample")
    assert after.drop_columns("spread").equals(before)
    assert "spread" not in own.read_table("scores", "score").column_names
    assert written == {p: p.stat().st_mtime_ns for p in run.round_path.rglob("part-*.parquet")}
    ids, scores = readings.driving_scores(own)
    assert ids == after["question_id"].to_pylist()
    np.testing.assert_array_equal(scores, after["spread"].to_numpy())


@pytest.mark.parametrize("name", ["peaks", "class_counts", "failure", "question_id", "combination"])
def test_an_estimator_may_not_take_the_name_of_another_column_or_a_ranking(examples, name):
    (examples / "taken.py").write_text(f"def {name}(evidence):\n    return 1.0\n")
    config = parse_config({"score": {"estimator": f"taken:{name}"}}, "test")
    for read in (driving_estimator, estimators_of):
        with pytest.raises(ConfigError, match=rf"'{name}' is the name .* another name"):
            read(config)


def test_a_function_is_an_estimator_of_its_own_name(examples):
    own = load_estimator("late_entropy:late_entropy", "score.estimator")
    assert (own.name, own.title, own.needs, own.competes) == (
        "late_entropy",
        "late entropy",
        "trace",
        True,
    )


def test_an_estimator_may_not_take_a_name_of_the_package(examples):
    (examples / "taken.py").write_text("def length(evidence):\n    return 1.0\n")
    with pytest.raises(ConfigError, match=r"'length' already\. Give yours another name"):
        load_estimator("taken:length", "score.estimator")


@pytest.mark.parametrize("loads", [load_estimator, lambda name, _: reward_named(name)])
def test_a_part_that_is_neither_record_nor_function_is_refused(loads):
    with pytest.raises(ConfigError, match=r"is neither a .* nor a function"):
        loads("math:pi", "a.setting")


def group(answers):
    return group_equivalent(answers, str.__eq__)


def tools():
    def refuse(*_):
        raise AssertionError("this reward asks nobody")

    return Tools(
        str.__eq__,
        group,
        refuse,
        refuse,
        refuse,
        num_generations=4,
        num_votes=4,
        least_margin=0.0,
    )


def test_the_reward_of_the_page():
    reward = reward_named("soft_majority:SOFT_MAJORITY").make(tools())
    (result,) = reward(0, [WeakGroup("q", ["7", "7", "8", None])])
    assert result.rewards == [0.5, 0.5, 0.25, 0.0]


def test_a_function_of_the_group_is_a_reward(examples):
    (examples / "own.py").write_text(
        "def lengths(group):\n    return [len(a or '') for a in group.answers]\n"
    )
    (result,) = reward_named("own:lengths").make(tools())(0, [WeakGroup("q", ["77", None])])
    assert result.rewards == [2.0, 0.0] and result.vote is None


def test_a_reward_that_returns_another_number_than_completions_is_refused(examples):
    (examples / "short.py").write_text("def short(group):\n    return [1.0]\n")
    mix = mixed_reward(
        extract=str,
        check=lambda *_: [],
        group=group,
        num_generations=2,
        weak=reward_named("short:short").make(tools()),
    )
    with pytest.raises(DataError, match=r"'q': weak\.reward gave 1 rewards for 2 completions"):
        mix(completions=["7", "8"], question_id=["q"] * 2, route=["weak"] * 2, label=[None] * 2)


def test_settings_of_votes_are_refused_where_the_own_reward_takes_none():
    config = parse_config({"weak": {"reward": "soft_majority:SOFT_MAJORITY"}}, "test")
    check_training(config)
    weak = config.weak.model_copy(update={"vote_size": 16})
    with pytest.raises(ConfigError, match=r"weak\.vote_size = 16 is of votes"):
        check_training(config.model_copy(update={"weak": weak}))


@pytest.mark.parametrize(
    ("section", "name", "near"),
    [("weak", "majorty", "majority"), ("score", "entropy_men", "entropy_mean")],
)
def test_a_slip_in_a_name_is_refused_with_the_nearest(section, name, near):
    key = "reward" if section == "weak" else "estimator"
    with pytest.raises(
        ConfigError, match=rf"{section}\.{key} = '{name}': .* nearest one is {near}\."
    ):
        parse_config({section: {key: name}}, "test")


def test_the_rewards_of_the_package_are_found():
    assert REWARDS.keys() >= {
        "majority",
        "frozen_majority",
        "token_entropy",
        "sequence_entropy",
        "self_certainty",
        "sequence_confidence",
        "co_rewarding_rewrite",
        "co_rewarding_teacher",
    }
