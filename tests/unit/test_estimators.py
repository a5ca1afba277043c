"""Every estimator on numbers worked by hand, and what it says of a response that has none."""

import math

import numpy as np
import pytest

from pivottrace.estimators import ESTIMATORS
from pivottrace.estimators.trace_evidence import TraceEvidence
from pivottrace.signals.layer_path import LayerPath

RIGHT_ANGLE = math.pi / 2
# A walk in the plane: (1, 0), (1, 1), (0, 1).
PATH = LayerPath(
    step_lengths=np.array([1.0, 1.0]),
    step_angles=np.array([math.pi / 4, math.pi / 4]),
    turn_angles=np.array([RIGHT_ANGLE]),
    span_length=math.sqrt(2.0),
    span_angle=RIGHT_ANGLE,
)
NOTHING = np.empty(0, dtype=np.float32)
NO_POSITIONS = np.empty(0, dtype=np.int64)


def make_evidence(**changes) -> TraceEvidence:
    values = {
        "question_id": "q0",
        "num_tokens": 8,
        "text": "1 + 1 = 3? Wait, I check again: 2.",
        "onsets": np.array([2, 5]),
        "peaks": np.array([3]),
        "question_onsets": np.array([1, 4, 7]),
        "entropy": np.array([0.5, 0.0, 0.1, 2.0, 0.2, 1.0, 0.1, 0.1], np.float32),
        "log_prob": np.array([-0.5, 0.0, -0.25, -2.0, -0.25, -1.0, 0.0, 0.0], np.float32),
        "self_certainty": np.array([1.0, 3.0, 2.0, 0.0, 2.0, 1.0, 3.0, 4.0], np.float32),
        "layer_path": PATH,
        "answer_classes": [0, 1, 0, -1],
        "seed": 0,
    }
    return TraceEvidence(**(values | changes))


def empty_response() -> TraceEvidence:
    nothing = np.full(2, np.nan)
    return make_evidence(
        num_tokens=0,
        text="",
        onsets=NO_POSITIONS,
        peaks=NO_POSITIONS,
        question_onsets=NO_POSITIONS,
        entropy=NOTHING,
        log_prob=NOTHING,
        self_certainty=NOTHING,
        layer_path=LayerPath(nothing, nothing, nothing[:1], math.nan, math.nan),
    )


# CoE: both steps are 1/sqrt(2) of the span long and half of its angle wide.
GOLDEN = {
    "onset_density": 2 / 8,
    "onset_count": 2,
    "peak_density": 1 / 8,
    "peak_count": 1,
    "question_onset_density": 3 / 8,
    "question_onset_count": 3,
    "entropy_mean": 0.5,
    "entropy_sum": 4.0,
    "entropy_top": 1.5,  # the highest two of eight
    "self_certainty": -2.0,
    "consistency": 0.5,
    "coe_r": 0.5 - math.sqrt(0.5),
    "coe_c": -math.sqrt(0.5),  # one phase, so the mean is as long as its parts
    "cot_kinetics": 0.8 * 1.0 - 0.25,  # C = 1 - cos 90°, K = 1/2 (1/sqrt(2))^2
    "neg_log_prob_mean": 0.5,
    "neg_log_prob_sum": 4.0,
    "length": 8,
    "recheck_words": 3,
}


@pytest.mark.parametrize("name", list(GOLDEN))
def test_estimators_on_hand_worked_numbers(name):
    assert ESTIMATORS[name](make_evidence()) == pytest.approx(GOLDEN[name], abs=1e-6)


def test_every_estimator_has_a_golden_value():
    assert set(ESTIMATORS) == {*GOLDEN, "random"}


def test_the_random_score_repeats_and_depends_on_seed_and_question():
    score = ESTIMATORS["random"]
    assert 0 <= score(make_evidence()) == score(make_evidence()) < 1
    others = {score(make_evidence(seed=1)), score(make_evidence(question_id="q1"))}
    assert len(others | {score(make_evidence())}) == 3


def test_an_empty_response_has_no_score_where_there_is_nothing_to_read():
    scores = {name: estimate(empty_response()) for name, estimate in ESTIMATORS.items()}
    known = {name for name, score in scores.items() if not math.isnan(score)}
    assert known == {
        "onset_count",
        "peak_count",
        "question_onset_count",
        "length",
        "consistency",
        "random",
    }
    assert math.isnan(ESTIMATORS["consistency"](make_evidence(answer_classes=[])))


def test_one_token_is_enough():
    one = make_evidence(
        num_tokens=1,
        text="2",
        onsets=NO_POSITIONS,
        peaks=NO_POSITIONS,
        question_onsets=NO_POSITIONS,
        entropy=np.array([0.3]),
        log_prob=np.array([-0.2]),
        self_certainty=np.array([5.0]),
    )
    scores = {name: estimate(one) for name, estimate in ESTIMATORS.items()}
    assert all(math.isfinite(score) for score in scores.values())
    assert scores["entropy_top"] == scores["entropy_mean"] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("path", "unknown"),
    [
        (None, {"coe_r", "coe_c", "cot_kinetics"}),
        # Ends where it began.
        (
            LayerPath(np.ones(2), np.ones(2), np.ones(1), 0.0, 0.0),
            {"coe_r", "coe_c", "cot_kinetics"},
        ),
        # Ends in the direction in which it began, only longer.
        (LayerPath(np.ones(2), np.ones(2), np.ones(1), 1.0, 0.0), {"coe_r", "coe_c"}),
        # One layer never turns.
        (LayerPath(np.ones(1), np.ones(1), np.empty(0), 1.0, 1.0), {"cot_kinetics"}),
    ],
)
def test_degenerate_paths_have_no_score(path, unknown):
    evidence = make_evidence(layer_path=path)
    scores = {name: ESTIMATORS[name](evidence) for name in ("coe_r", "coe_c", "cot_kinetics")}
    assert {name for name, score in scores.items() if math.isnan(score)} == unknown


def test_coe_means_over_opposed_phases_cancel():
    path = LayerPath(np.ones(2), np.array([0.0, math.pi]), np.ones(1), 1.0, 1.0)
    assert ESTIMATORS["coe_c"](make_evidence(layer_path=path)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("Waiting for the waiter is uncheckable against rereading-free realty.", 1),  # rereading
        ("WAIT. Hmm... hold on", 3),
        ("Let me re-read, recheck and reconsider. On second thought", 4),
        ("Going back to the text, once more", 2),
        ("We recall and return the remainder.", 0),
    ],
)
def test_recheck_words_are_counted_as_whole_words(text, count):
    assert ESTIMATORS["recheck_words"](make_evidence(text=text)) == count


def test_the_worlds_own_phrases_are_known():
    from pivottrace.world.problems import GO_BACK

    count = ESTIMATORS["recheck_words"]
    silent = [phrase for phrase in GO_BACK if not count(make_evidence(text=phrase))]
    assert silent == []
