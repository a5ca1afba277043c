"""The order `learnable`: what it takes from groups, and training by it, killed and resumed."""

import json

import pyarrow as pa
import pytest
from training_run import GROUP, config, metrics, parity, train, training_rows

from pivottrace.errors import ConfigError, DataError
from pivottrace.rewards.groups import Group
from pivottrace.rewards.mix import mixed_reward
from pivottrace.training.learnable_order import LearnableOrder, make_order
from pivottrace.training.prior_rates import prior_pass_rate
from pivottrace.training.trl_rules import observe_together
from pivottrace.verifier.answers import majority_vote

CONFIG = config(steps=7, save_steps=2, questions_per_step=2, order="learnable", order_decay=0.7)


def rows(num=5):
    table = training_rows(
        weights=(1.0,) * num, routes=("annotate", "weak") * (num // 2) + ("weak",)
    )
    prior = pa.array([None, 0.9, 0.5, 0.02, 0.6][:num], pa.float64())
    place = table.schema.get_field_index("prior_pass_rate")
    return table.set_column(place, "prior_pass_rate", prior)


def order_of(table, cfg=CONFIG, seed=3):
    return make_order(table, cfg, seed)


def group(question_id, rewards, **more):
    answers = more.pop("answers", ("a",) * len(rewards))
    return Group(question_id, "weak", answers, (0,) * len(rewards), tuple(rewards), **more)


# What it takes from groups -------------------------------------------------------------------


def test_groups_feed_their_own_rows():
    order = order_of(rows())
    order.observe(0, [group("q1", [1, 1, 0, 0.5]), group("q3", [0.0] * 4)])
    state = order.state_dict()
    assert state["visits"] == [0, 1, 0, 1, 0] and state["evidence"] == [0, 4, 0, 4, 0]
    assert order.weight("q1", "weak") == 1.0 and order.label("q1", "7") == "7"


def test_a_vote_without_a_winner_says_nothing_unless_nobody_answers():
    order = order_of(rows())
    tie = group("q1", [0.0] * 4, abstained=True)
    silent = group("q3", [0.0] * 4, abstained=True, answers=(None,) * 4)
    order.observe(0, [tie, silent])
    state = order.state_dict()
    assert state["visits"] == [0, 1, 0, 1, 0] and state["evidence"] == [0, 0, 0, 4, 0]


def test_the_mix_tells_which_votes_abstained():
    seen = []
    reward = mixed_reward(
        extract=lambda text: text or None,
        check=lambda answers, truths: [a == t for a, t in zip(answers, truths, strict=True)],
        group=lambda answers: [-1 if a is None else ord(a) for a in answers],
        num_generations=2,
        observe=lambda step, groups: seen.extend(groups),
    )
    reward(
        completions=["a", "b", "a", "a", "", "", "a", "b"],
        question_id=["q0"] * 2 + ["q1"] * 2 + ["q2"] * 2 + ["q3"] * 2,
        route=["weak"] * 6 + ["annotate"] * 2,
        label=[None] * 6 + ["b"] * 2,
    )
    assert majority_vote([1, 2]).winner is None
    assert [g.abstained for g in seen] == [True, False, True, False]


def test_a_reward_that_is_no_share_is_refused():
    with pytest.raises(DataError, match=r"'q1'.* -0\.7 is not in \[0, 1\].*order = shuffled"):
        order_of(rows()).observe(0, [group("q1", [0.0, -0.7])])


def test_the_state_goes_through_json_exactly():
    order, again = order_of(rows()), order_of(rows())
    for step in range(5):
        chosen = order.rows_at(step)
        order.observe(step, [group(f"q{row}", [1.0, 0.0, 1.0, 1.0]) for row in chosen])
    again.load_state_dict(json.loads(json.dumps(order.state_dict())))
    assert again.state_dict() == order.state_dict()
    assert [again.rows_at(s) for s in range(20)] == [order.rows_at(s) for s in range(20)]
    assert again.rows_effective == order.rows_effective
    with pytest.raises(ConfigError, match="'trapo'"):
        order.load_state_dict({"rule": "trapo"})


@pytest.mark.parametrize(
    ("route", "mu", "share", "own", "rate"),
    [
        ("weak", 0.3, 0.8, None, 0.8),  # what training measures is agreement
        ("weak", 0.3, None, None, 0.5),
        ("annotate", 0.3, 0.8, None, 0.3),
        ("annotate", 0.7, 0.4, None, 0.4),  # no answer is more frequent than the winner
        ("annotate", float("nan"), 0.8, None, 0.5),
        ("annotate", None, 0.25, None, 0.25),
        ("annotate", 0.3, 0.8, 0.75, 0.75),
    ],
)
def test_what_is_expected_before_training(route, mu, share, own, rate):
    assert prior_pass_rate({"route": route, "mu": mu, "vote_share": share}, own) == rate


# Training by it ------------------------------------------------------------------------------


class Watched:
    """The tests' reward with an order's observation, and the rows that came to it."""

    __name__ = "watched"

    def __init__(self, order):
        self.steps = {}
        self._mix = mixed_reward(
            extract=parity,
            check=lambda answers, truths: [a == t for a, t in zip(answers, truths, strict=True)],
            group=lambda answers: [len(a) for a in answers],
            num_generations=GROUP,
            observe=observe_together(order),
        )

    def __call__(self, **columns):
        self.steps[columns["trainer_state"].global_step] = columns["question_id"][::GROUP]
        return self._mix(**columns)


def train_ordered(start, tokenizer, output, **more):
    order = order_of(rows())
    reward = Watched(order)
    train(start, tokenizer, output, rows(), reward, CONFIG, order=order, **more)
    return (output / "model" / "model.safetensors").read_bytes(), reward.steps


@pytest.fixture(scope="module")
def whole(start, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ordered")
    return folder, *train_ordered(start, tokenizer, folder)


class Killed(BaseException):
    pass


def kill(start, tokenizer, folder, at):
    def on_log(step, logs):
        if step == at:
            raise Killed

    with pytest.raises(Killed):
        train_ordered(start, tokenizer, folder, on_log=on_log)


@pytest.mark.usefixtures("one_thread")
def test_rows_are_chosen_as_training_goes(whole):
    folder, _, steps = whole
    assert sorted(steps) == list(range(7))
    first = [question for step in (0, 1) for question in steps[step]]
    assert len(set(first)) == 4, "no row comes twice before all came"
    lines = metrics(folder)
    assert all(1 <= line["rows_effective"] <= 5 for line in lines)
    assert len({line["rows_effective"] for line in lines}) == 7


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("at", [1, 2, 3, 5, 6])
def test_a_killed_training_chooses_the_same_rows(start, tokenizer, tmp_path, whole, at):
    kill(start, tokenizer, tmp_path, at)
    weights, steps = train_ordered(start, tokenizer, tmp_path)
    assert weights == whole[1]
    assert steps == {step: ids for step, ids in whole[2].items() if step >= min(steps)}
    assert metrics(tmp_path) == metrics(whole[0])


@pytest.mark.usefixtures("one_thread")
def test_without_its_state_it_would_choose_others(start, tokenizer, tmp_path, whole, monkeypatch):
    kill(start, tokenizer, tmp_path, 5)
    monkeypatch.setattr(LearnableOrder, "load_state_dict", lambda self, state: None)
    assert train_ordered(start, tokenizer, tmp_path)[0] != whole[1]


def test_the_setting_and_the_order_go_together(start, tokenizer, tmp_path):
    with pytest.raises(ConfigError, match="'learnable', and the argument `order` is missing"):
        train(start, tokenizer, tmp_path, rows(), cfg=CONFIG)
    with pytest.raises(ConfigError, match="'shuffled', and the argument `order` is given"):
        train(start, tokenizer, tmp_path, rows(), order=order_of(rows()))


@pytest.mark.usefixtures("one_thread")
def test_a_shuffled_training_knows_nothing_of_it(start, tokenizer, tmp_path):
    """An unfinished training of a version without orders goes on."""

    def on_log(step, logs):
        if step == 2:
            raise Killed

    cfg = config(order_decay=0.1, save_steps=1)
    with pytest.raises(Killed):
        train(start, tokenizer, tmp_path, rows(), cfg=cfg, on_log=on_log)
    assert (tmp_path / "checkpoints" / "checkpoint-1" / "whole.json").is_file()
    kept = json.loads((tmp_path / "settings.json").read_text())
    assert not [name for name in kept if "order" in name]
    train(start, tokenizer, tmp_path, rows())
    assert not any("rows_effective" in line for line in metrics(tmp_path))
