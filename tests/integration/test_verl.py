"""An export is read, rewarded and configured by the real verl. Training needs accelerators."""

import json

import pytest
from real_packages import MODEL, STUB, VERL, environment, prompts_of, run_check


@pytest.fixture(scope="module")
def python():
    return environment("verl", *VERL)


@pytest.fixture
def checked(python, answered, tmp_path):
    """What verl makes of an export; its folder has a name that a careless script trips over."""

    def check(**options):
        folder, _, cases = answered.exported("verl", tmp_path / "my export, 1 (a)", **options)
        stub = tmp_path / "stub"
        stub.write_text(STUB)
        stub.chmod(0o755)
        return run_check(python, "check_verl.py", folder, cases, MODEL, stub)

    return check


def test_rows_prompts_and_rewards_are_ours(checked, answered):
    found = checked()
    assert found["rows"] == {"train_files": 200, "val_files": 2} and found["batch"] == 200
    assert found["joined"] == 202
    assert found["prompts"] == prompts_of(answered)
    assert {i: tuple(pair) for i, pair in found["rewards"].items()} == answered.expected()
    assert found["failed"] == 0
    assert found["keys"] == [["acc", "answered", "failed", "score"]]
    assert found["steps"] == 7  # an argument of the script overrides the run's settings
    # The weight is in the advantage: w (r - mean r).
    assert found["advantages"] == pytest.approx(
        [0.45, -0.15, -0.15, -0.15, 0.5, 0.5, -0.5, -0.5], abs=1e-6
    )
    print(json.dumps(found["versions"]))


def test_the_estimator_puts_the_weight_back_after_the_division(checked):
    found = checked(weights="estimator")
    assert found["advantages"] == pytest.approx(
        [0.9, -0.3, -0.3, -0.3, 0.866, 0.866, -0.866, -0.866], abs=1e-3
    )


def test_ignored_weights_are_neither_in_the_reward_nor_in_the_advantage(checked, answered):
    found = checked(weights="ignore")
    right = {i: (acc, acc) for i, (_, acc) in answered.expected().items()}
    assert {i: tuple(pair) for i, pair in found["rewards"].items()} == right
