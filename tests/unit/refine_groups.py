"""Groups for the tests of refinement."""

import json
from fractions import Fraction

import numpy as np

from pivottrace.rewards.groups import Group
from pivottrace.rewards.majority import majority_rewards
from pivottrace.verifier.answers import group_equivalent


def equal(a, b):
    return Fraction(a) == Fraction(b)


def group(answers):
    return group_equivalent(answers, equal)


def weak(question_id, answers, hidden=None):
    """A weak group whose rewards are its majority's."""
    classes = tuple(group(answers))
    rewards, _ = majority_rewards(answers, group)
    return Group(question_id, "weak", tuple(answers), classes, tuple(rewards), hidden=rows(hidden))


def votes(question_id, agreeing, of=8):
    """A weak group in which so many of G agree, and no two of the others do."""
    return weak(question_id, ["0"] * agreeing + [str(n) for n in range(1, of - agreeing + 1)])


def annotate(question_id, answers, label="0", hidden=None):
    """An annotate group verified by its label."""
    right = tuple(float(bool(a) and equal(a, label)) for a in answers)
    classes = tuple(group(answers))
    return Group(question_id, "annotate", tuple(answers), classes, right, hidden=rows(hidden))


def graded(question_id, right, of=8):
    """An annotate group in which so many of G are right."""
    return annotate(question_id, ["0"] * right + [str(n) for n in range(1, of - right + 1)])


def rows(hidden):
    return None if hidden is None else np.asarray(hidden, dtype=np.float32)


def through_json(rule, fresh):
    """A fresh rule in the state of another, after a checkpoint."""
    fresh.load_state_dict(json.loads(json.dumps(rule.state_dict(), allow_nan=False)))
    return fresh
