"""Alarms of collapse, on groups worked out by hand."""

import json
from dataclasses import replace

import pytest

from pivottrace.config import AlarmsConfig
from pivottrace.errors import ConfigError
from pivottrace.refine.alarms import CollapseAlarms, vote_is_right
from pivottrace.rewards.groups import Group


def group(classes, rewards=None, route="annotate", question="q", tokens=(10, 10, 10, 10)):
    answers = tuple(None if c < 0 else str(c) for c in classes)
    rewards = (0.0,) * len(classes) if rewards is None else rewards
    return Group(question, route, answers, tuple(classes), tuple(rewards), tuple(tokens))


RIGHT = group((0, 0, 0, 1), (1.0, 1.0, 1.0, 0.0))
WRONG = group((0, 0, 0, 1), (0.0, 0.0, 0.0, 1.0))
WEAK = group((0, 0, 0, 1), (1.0, 1.0, 1.0, 0.0), route="weak")


def quiet(**changes):
    """Votes only, in windows of 8."""
    off = {"diversity_ratio": 0.0, "length_ratio": 0.0, "entropy_ratio": 0.0}
    return CollapseAlarms(**{"window": 8, **off, **changes})


def test_a_vote_is_right_when_its_largest_class_is():
    assert vote_is_right(RIGHT) is True
    assert vote_is_right(WRONG) is False
    assert vote_is_right(group((0, 0, 1, 1), (1.0, 1.0, 0.0, 0.0))) is None  # a tie
    assert vote_is_right(group((-1, -1, -1, 0), (0.0, 0.0, 0.0, 1.0))) is True
    assert vote_is_right(group((-1, -1, -1, -1))) is None


def test_a_label_that_was_replaced_says_nothing_of_votes():
    """By it every vote is right; the floor stays undercut by the labels that were bought."""
    alarms = quiet(vote_floor=0.5, alpha=0.05)
    alarms.observe(0, [WRONG] * 8)
    alarms.observe(1, [replace(RIGHT, relabelled=True)] * 8)
    assert alarms.weight("w", "weak") == 0.0


def test_votes_that_go_wrong_pause_the_weak_route_until_they_recover():
    """Floor 0.5, 8 votes, alpha 0.05.

    P(X <= 1 | 8, 0.5) = 9 / 256 = 0.035 < 0.05 < P(X <= 2 | 8, 0.5) = 37 / 256 = 0.145: the upper
    bound is below the floor at 1 right vote of 8 and not at 2. The pause ends at 4 of 8.
    """
    alarms = quiet(vote_floor=0.5, alpha=0.05)
    alarms.observe(0, [WRONG] * 6)
    assert alarms.weight("w", "weak") == 1.0 and alarms.take_events() == []  # window not full
    alarms.observe(1, [RIGHT] * 2)  # 2 of 8
    assert alarms.weight("w", "weak") == 1.0
    alarms.observe(2, [WRONG] * 7)  # 1 of 8
    assert alarms.weight("w", "weak") == 0.0 and alarms.weight("q", "annotate") == 1.0
    (event,) = alarms.take_events()
    assert event.row() == {
        "step": 3,
        "what": "votes",
        "value": 0.125,
        "threshold": 0.5,
        "action": "pause",
    }
    assert alarms.take_events() == [] and alarms.stop_reason is None
    alarms.observe(3, [RIGHT] * 3)  # 3 of 8: 3 new ones, the old right one has left the window
    assert alarms.is_paused and alarms.take_events() == []
    alarms.observe(4, [RIGHT])
    assert alarms.weight("w", "weak") == 1.0
    assert [(e.step, e.action, e.value) for e in alarms.take_events()] == [(5, "resume", 0.5)]


def test_only_labelled_votes_with_a_winner_are_judged():
    alarms = quiet(vote_floor=0.5)
    alarms.observe(0, [WEAK, group((0, 0, 1, 1))] * 20)
    assert alarms.state_dict()["votes"] == []
    alarms.observe(1, [WRONG] * 3)
    assert alarms.state_dict()["votes"] == [False] * 3
    alarms.observe(2, [])  # no labelled row in a batch
    assert alarms.state_dict()["votes"] == [False] * 3


def test_without_a_floor_it_is_the_first_window_less_the_fall():
    """4 of 8 at first and a fall of 0.1: floor 0.4. P(X = 0 | 8, 0.4) = 0.6 ** 8 = 0.017 < 0.05."""
    alarms = quiet(alpha=0.05, vote_fall=0.1)
    alarms.observe(0, [WRONG, RIGHT] * 4)
    alarms.observe(1, [WRONG] * 7)  # 1 of 8: P(X <= 1) = 0.106
    assert not alarms.is_paused and alarms.state_dict()["floor"] == pytest.approx(0.4)
    alarms.observe(2, [WRONG])
    assert alarms.is_paused
    assert alarms.take_events()[0].threshold == pytest.approx(0.4)


@pytest.mark.parametrize("action", ["report", "stop"])
def test_other_actions(action):
    alarms = quiet(action=action, vote_floor=0.5)
    alarms.observe(4, [WRONG] * 8)
    assert alarms.is_paused == (action == "stop")
    assert [e.action for e in alarms.take_events()] == [action]
    assert (alarms.stop_reason is None) == (action == "report")
    if action == "stop":
        expected = "step 5: share of right votes on labelled questions is 0, limit 0.5: training"
        assert alarms.stop_reason.startswith(expected)
    alarms.observe(5, [RIGHT] * 8)
    assert [e.action for e in alarms.take_events()] == ["end"]


def test_answers_that_no_longer_differ_are_reported_once():
    """Diversity 3/4 at first (8 groups), limit 0.5 x 0.75 = 0.375, back above 1.1 x 0.375."""
    alarms = CollapseAlarms(window=8)
    varied, same = group((0, 1, 2, 1), route="weak"), group((0, 0, 0, 0), route="weak")
    half = group((0, 1, -1, -1, 1, 0), route="weak", tokens=(10,) * 6)  # 2 of 4 answered
    alarms.observe(0, [varied] * 8)
    alarms.observe(1, [same] * 6)  # (2 x 0.75 + 6 x 0.25) / 8 = 0.375: not below
    assert alarms.take_events() == []
    alarms.observe(2, [same])  # 0.3125
    alarms.observe(3, [same])
    (event,) = alarms.take_events()
    assert (event.step, event.what, event.action) == (3, "diversity", "report")
    assert (event.value, event.threshold) == (0.3125, 0.375)
    alarms.observe(4, [half] * 5)  # (5 x 0.5 + 3 x 0.25) / 8 = 0.40625: inside, but not by a tenth
    assert alarms.take_events() == []
    alarms.observe(5, [half])  # 0.4375
    assert [(e.what, e.action) for e in alarms.take_events()] == [("diversity", "end")]
    assert alarms.weight("w", "weak") == 1.0


def test_length_runs_off_both_ways_and_entropy_down():
    alarms = CollapseAlarms(window=8, diversity_ratio=0.0, entropy_steps=2)
    alarms.observe(0, [WEAK] * 8)  # 10 tokens
    alarms.observe(1, [group((0,) * 4, route="weak", tokens=(21,) * 4)] * 8)
    alarms.observe(2, [WEAK] * 8)
    alarms.observe(3, [group((0,) * 4, route="weak", tokens=(4,) * 4)] * 8)
    found = [(e.step, e.value, e.threshold, e.action) for e in alarms.take_events()]
    assert found == [(2, 21, 20, "report"), (3, 10, 20 / 1.1, "end"), (4, 4, 5, "report")]
    for step, entropy in enumerate([0.9, 1.1, 0.2, 0.05, 0.05], 1):
        alarms.observe_entropy(step, entropy)
    (event,) = alarms.take_events()  # means 1.0, 0.65, 0.125, 0.05
    assert (event.step, event.what, event.value) == (5, "entropy", 0.05)
    assert "entropy per token (nats) is 0.05, limit 0.1: reported only" in event.text()


@pytest.mark.parametrize("at", [1, 3, 5])
def test_state_goes_on_in_the_middle(at):
    batches = [
        [RIGHT] * 5 + [WEAK],
        [RIGHT] * 4,
        [WRONG] * 7,
        [WRONG, WEAK] * 4,
        [RIGHT] * 6,
        [RIGHT] * 8,
    ]

    def follow(alarms, first, last):
        seen = []
        for step in range(first, last):
            alarms.observe(step, batches[step])
            alarms.observe_entropy(step + 1, 1.0 / (step + 1) ** 2)
            seen += [(alarms.is_paused, alarms.stop_reason, alarms.take_events())]
        return seen

    whole = follow(CollapseAlarms(window=8, entropy_steps=2), 0, 6)
    assert {paused for paused, _, _ in whole} == {True, False}
    first, second = (CollapseAlarms(window=8, entropy_steps=2) for _ in range(2))
    begun = follow(first, 0, at)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert begun + follow(second, at, 6) == whole


def test_settings_fit_and_are_checked():
    settings = AlarmsConfig().model_dump(exclude={"enabled"})
    assert CollapseAlarms(**settings).weight("w", "weak") == 1.0
    with pytest.raises(ConfigError, match=r"alarms.window = 4"):
        CollapseAlarms(window=4)
    with pytest.raises(ConfigError, match=r"alarms.length_ratio = 0.5: give more than 1, or 0"):
        CollapseAlarms(length_ratio=0.5)
