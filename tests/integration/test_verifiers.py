"""An export is a taskset that the real verifiers loads, validates and rewards."""

import json
import subprocess

import pytest
from real_packages import environment, prompts_of, run_check


@pytest.fixture(scope="module")
def python():
    return environment("verifiers", "verifiers==0.4.0 math-verify==0.9.0 hatchling")


@pytest.fixture
def installed(python, answered, tmp_path):
    """The name of the taskset, installed as the card says, and the responses."""
    folder, _, cases = answered.exported("verifiers", tmp_path / "my export")
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall"]
    subprocess.run([*command, "--no-build-isolation", str(folder)], check=True)
    yield "pivottrace-run", cases
    subprocess.run([str(python), "-m", "pip", "uninstall", "--yes", "--quiet", "pivottrace-run"])


def test_rows_prompts_and_rewards_are_ours(python, installed, answered):
    found = run_check(python, "check_verifiers.py", *installed)
    assert found["rows"] == [200, 2] and found["weak"] == 100
    assert found["keys"] == [case.id for case in answered.cases[:3]]
    assert found["prompts"] == {
        i: [system["content"], question["content"]]
        for i, (system, question) in prompts_of(answered).items()
    }
    assert {i: tuple(pair) for i, pair in found["rewards"].items()} == answered.expected()
    assert found["failed"] == 0 and found["invalid"] == []
    print(json.dumps(found["versions"]))


def test_its_own_validation_finds_every_answer_usable(python, installed, tmp_path):
    name, _ = installed
    done = subprocess.run(
        [str(python.parent / "vf-validate"), name, "--runtime.type", "subprocess", "--only-gold"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    results = list(tmp_path.rglob("results.jsonl"))
    rows = [json.loads(line) for line in results[0].read_text().splitlines()]
    assert len(rows) == 200 and all(row["valid"] for row in rows)
