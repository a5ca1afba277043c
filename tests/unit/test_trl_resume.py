"""Exact resume: training that is really killed ends with the bytes of training that was not."""

import subprocess
import sys

import pytest
import watched_training
from training_run import metrics, train, training_rows
from watched_training import CONFIG, Fading, Teacher, train_watched

from pivottrace.errors import ConfigError
from pivottrace.refine.alarms import CollapseAlarms
from pivottrace.rewards.groups import Group
from pivottrace.training.trl_checkpoints import is_whole, mark_whole, save_state
from pivottrace.training.trl_rules import observe_together

pytestmark = pytest.mark.usefixtures("one_thread")

# Moment of death, and the steps that a resumed run still has to do.
MOMENTS = {
    "step-1": [1, 2, 3, 4, 5, 6],
    "step-5": [5, 6],
    "optimizer-4": [3, 4, 5, 6],
    "part-4": [3, 4, 5, 6],
    "marker-4": [3, 4, 5, 6],
    "model": [],
}


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Runs that were killed, one a moment."""
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, watched_training.__file__, str(folder), *MOMENTS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[:-1] == [f"{moment} killed" for moment in MOMENTS], done.stderr
    return folder


@pytest.fixture(scope="module")
def whole(start, tokenizer, tmp_path_factory):
    """A run that was not, and its weights."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, train_watched(start, tokenizer, folder)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_ends_with_the_same_bytes(start, tokenizer, killed, whole, moment):
    resumed = []
    weights = train_watched(
        start, tokenizer, killed / moment, on_log=lambda step, logs: resumed.append(step)
    )
    assert resumed == MOMENTS[moment]
    assert weights == whole[1]
    assert metrics(killed / moment) == metrics(whole[0])
    assert not (killed / moment / "checkpoints").exists()


def interrupted(start, tokenizer, folder):
    class Killed(BaseException):
        pass

    def on_log(step, logs):
        if step == 5:
            raise Killed

    with pytest.raises(Killed):
        train_watched(start, tokenizer, folder, on_log=on_log)
    newest = folder / "checkpoints" / "checkpoint-4"
    assert is_whole(newest)
    assert (newest / "part-0" / "mean.json").is_file()
    assert '"q0": 4' in (newest / "rules.json").read_text()
    return newest


@pytest.mark.parametrize("lost", ["rule", "part"])
def test_state_that_is_not_restored_gives_other_weights(
    start, tokenizer, tmp_path, whole, monkeypatch, lost
):
    """What the tests above would miss if the rule's state made no difference."""
    interrupted(start, tokenizer, tmp_path)
    if lost == "rule":
        monkeypatch.setattr(Fading, "load_state_dict", lambda self, state: None)
    else:
        monkeypatch.setattr(Teacher, "load", lambda self, folder: None)
    assert train_watched(start, tokenizer, tmp_path) != whole[1]


def test_other_rules_than_the_checkpoint_has_are_refused(start, tokenizer, tmp_path):
    newest = interrupted(start, tokenizer, tmp_path)
    with pytest.raises(ConfigError, match=r"made with rules \['rule'\] and 1 stateful parts, now"):
        train(start, tokenizer, tmp_path, cfg=CONFIG)
    (newest / "part-0" / "mean.json").unlink()
    assert not is_whole(newest)


# Alarms in training -------------------------------------------------------------------------


def train_alarmed(start, tokenizer, output, action, **more):
    """Train with rewards that differ, and groups of which every vote is wrong."""
    alarms = CollapseAlarms(action=action, window=8, vote_floor=0.5, entropy_ratio=0.0)

    def wrong(**columns):
        ids, routes = columns["question_id"], columns["route"]
        groups = [
            Group(ids[i], routes[i], ("a",) * 4, (0,) * 4, (0.0,) * 4, (3,) * 4)
            for i in range(0, len(ids), 4)
        ]
        observe_together(alarms)(columns["trainer_state"].global_step, groups)
        return [float(i % 2) for i in range(len(ids))]

    wrong.__name__ = "wrong"
    return train(start, tokenizer, output, reward=wrong, alarms=alarms, **more)


def test_an_alarm_pauses_the_weak_route_and_is_written_down(start, tokenizer, tmp_path, caplog):
    """Two of three questions are labelled: the eighth labelled vote falls in step 4."""
    weak_only = training_rows(routes=("annotate", "annotate", "weak"), weights=(0.0, 0.0, 1.0))
    train_alarmed(start, tokenizer, tmp_path, "pause", rows=weak_only, cfg=CONFIG)
    moved = [line["grad_norm"] > 0 for line in metrics(tmp_path)]
    assert moved == [True, True, True, False, False, False]
    assert metrics(tmp_path, "alarms.jsonl") == [
        {"step": 4, "what": "votes", "value": 0.0, "threshold": 0.5, "action": "pause"}
    ]
    assert "step 4: share of right votes on labelled questions is 0, limit 0.5" in caplog.text


def test_an_alarm_ends_training_with_the_model_as_it_is(start, tokenizer, tmp_path):
    cfg = CONFIG.model_copy(update={"save_steps": 4, "evaluate_steps": 3})
    train_alarmed(
        start, tokenizer, tmp_path, "stop", cfg=cfg, evaluate=lambda model: {"accuracy": 0.5}
    )
    assert [line["step"] for line in metrics(tmp_path)] == [1, 2, 3, 4]
    assert [line["step"] for line in metrics(tmp_path, "learning_curve.jsonl")] == [0, 3, 4]
    assert [e["action"] for e in metrics(tmp_path, "alarms.jsonl")] == ["stop"]


def test_alarms_hear_the_entropy_that_is_logged(start, tokenizer, tmp_path, monkeypatch):
    heard = []
    monkeypatch.setattr(
        CollapseAlarms, "observe_entropy", lambda self, step, value: heard.append((step, value))
    )
    train_alarmed(start, tokenizer, tmp_path, "report", cfg=CONFIG)
    assert heard == [(line["step"], line["entropy"]) for line in metrics(tmp_path)]
    assert len(heard) == CONFIG.steps


def test_parts_of_checkpoints_are_vouched_for(tmp_path):
    checkpoint = tmp_path / "checkpoint-2"
    checkpoint.mkdir()
    save_state(checkpoint, {"rule": Fading(Teacher())}, [Teacher(), Teacher()])
    mark_whole(checkpoint)
    text = (checkpoint / "whole.json").read_text()
    assert "part-0/mean.json" in text and "part-1/mean.json" in text and "rules.json" in text
