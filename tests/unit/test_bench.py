"""The benchmarks' own rules, where they have some; what they measure is not tested."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import bench_scripts
import pyarrow as pa
import pytest

from pivottrace.errors import ConfigError
from pivottrace.schemas import EVALUATION


@pytest.fixture
def labels_matter(monkeypatch):
    """The script as a module, with made-up verdicts in place of training."""
    module = bench_scripts.load("labels_matter")
    module.trained = []

    def arm(output, name, seed, config):
        module.trained.append((name, seed, config.train.steps))
        rows = [{"question_id": q, "sample": 0, "correct": q == "b"} for q in "abc"]
        return pa.Table.from_pylist(rows, schema=EVALUATION)

    monkeypatch.setattr(module, "_arm", arm)
    return module


def test_verdicts_are_not_reused_for_other_settings(labels_matter, monkeypatch, tmp_path, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["bench", "--output", str(tmp_path / "out"), *arguments])
        labels_matter.main()

    call("--seeds", "0", "--steps", "5")
    assert [steps for _, _, steps in labels_matter.trained] == [5, 5, 5]
    call("--seeds", "0", "1", "--steps", "5")  # goes on, with another seed
    assert len(labels_matter.trained) == 6
    assert "| 1 | 33.3 %" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"learning_rate: was .*\n.*steps: was 5, now 6"):
        call("--seeds", "0", "--steps", "6", "--learning-rate", "1e-3")
    monkeypatch.setattr(labels_matter, "POOL", 7)
    with pytest.raises(ConfigError, match=r"pool: was \d+, now 7"):
        call("--seeds", "0", "--steps", "5")


def test_probes_are_compared_in_every_way(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["probes", "--pools", "3", "--questions", "300"])
    bench_scripts.load("probes").main()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + 5 * 4
    assert all(row.count("|") == rows[0].count("|") for row in rows)


def test_triage_of_many_rows_in_parts(tmp_path, capsys):
    bench = bench_scripts.load("triage")
    bench.generate(tmp_path, 5000, 3)
    assert min(bench.measure(tmp_path)) > 0
    assert "5,000 rows in 3 parts" in capsys.readouterr().out


def test_training_is_compared_round_by_round(capsys):
    """Ratios 1.1, 1.0 and 0.9 of a mix: the median is within the target; 1.2 would not be."""
    bench = bench_scripts.load("training")
    seconds = {bench.PLAIN: [1.0, 2.0, 4.0], bench.VERIFIED: [1.0, 2.0, 4.0]}
    peaks = dict.fromkeys(bench.VARIANTS, 900.0)
    assert bench.report({**seconds, bench.MIX: [1.1, 2.0, 3.6]}, peaks, 1.05) == 0
    row = "| ours, mix of routes | 2.000 | 0.50 | 1.000 | 0.900–1.100 | 900 |"
    assert row in capsys.readouterr().out
    assert bench.report({**seconds, bench.MIX: [1.2, 2.4, 4.8]}, peaks, 1.05) == 1
    rows = bench.training_rows(bench.problems("embedded", 10), 0.3)
    assert rows["route"].to_pylist().count("annotate") == 3
    assert [label is None for label in rows["label"].to_pylist()] == [
        route == "weak" for route in rows["route"].to_pylist()
    ]


@pytest.fixture
def faults(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "bench")  # its rows are modules there
    return bench_scripts.load("faults")


@pytest.mark.parametrize(
    ("tried", "failed", "held"), [(3, [], 3), (3, ["flip 7: other"], 2), (0, [], 0)]
)
def test_a_fault_that_does_not_hold_fails(faults, capsys, tried, failed, held):
    rows = [faults.Row("kept", 2), faults.Row("flips", tried, failed, "as ever")]
    assert faults.print_rows(None, [lambda bench: iter(rows)]) == bool(failed)
    printed = capsys.readouterr()
    assert printed.out.splitlines()[2:] == [
        "| kept | 2 | 2 |  |",
        f"| flips | {tried} | {held} | as ever |",
    ]
    assert all(f"did not hold: {line}" in printed.err for line in failed)


def test_a_signal_that_finds_no_process_is_no_trial(faults):
    counted = sys.modules["faults_verifier"].counted
    row = counted("a kill", [True, None, False])
    assert row.tried == 2 and len(row.failed) == 1
    assert counted("a kill", [None, None]).failed == ["no signal found a process"]


@pytest.mark.parametrize(
    ("code", "errors", "clear"),
    [
        (0, "· pool\n", True),
        (3, "12 questions wait for true answers.\n  1. fill in", True),
        (2, "· pool\nerror: no such file", True),
        (2, "error: no such file\n  at all", False),
        (2, "error: a\nerror: b", False),
        (1, "Traceback (most recent call last):\nerror: a", False),
        (-1, "KeyError: 'a'", False),
        (-9, "still running", False),
    ],
)
def test_a_refusal_is_one_line_at_the_end(faults, code, errors, clear):
    assert (sys.modules["faults_bench"].unclear(code, errors) == "") == clear


GRADER_TESTS = """
import pytest

@pytest.mark.parametrize("gold, pred, expected, strict", [
    ("18", r"\\boxed{18}", 1, True),
    ("18", "#### 19", 0, True),
    ("18", "20", 1, True),
    ("18", "18", 0, True),
    ("18", "18", 1, False),
    (f"{18}", "18", 1, True),
])
def test_rows(gold, pred, expected, strict): ...

@pytest.mark.parametrize("output_pair", [(5, "5.0"), (7, None)])
def test_incorrect_examples(output_pair): ...

@pytest.mark.parametrize("count", [1, 2])
def test_something_else(count): ...
"""


def test_graders_are_read_and_each_disagreement_has_to_be_explained(monkeypatch, tmp_path, capsys):
    """Texts that need no process: 3 of 7 pairs of the Python file agree, and 1 of 1 of the JSON."""
    clone = tmp_path / "clone"
    (clone / "tests").mkdir(parents=True)
    (clone / "tests" / "test_grader.py").write_text(GRADER_TESTS)
    item = {"GT": "18", "Ans": [{"answer": "18.0", "equal": True}]}
    (clone / "scoring_examples.json").write_text(json.dumps([item]))
    page = tmp_path / "page.md"
    bench = bench_scripts.load("graders")

    def status(text):
        page.write_text(text)
        monkeypatch.setattr(sys, "argv", ["graders", str(clone), "--page", str(page)])
        return bench.main(), capsys.readouterr().out

    code, printed = status("A longer answer: `test_grader.py` 7, 8")
    assert "| clone/tests/test_grader.py | 7 | 3 (42.9%) | 1 | 3 | 2 |" in printed
    assert "| clone/scoring_examples.json | 1 | 1 (100.0%) | 0 | 0 | 0 |" in printed
    assert "clone/tests/test_grader.py:7: equal only for them\n    gold    18\n" in printed
    assert code == 1 and "not explained: `test_grader.py` 14" in printed
    assert status("`test_grader.py` 7, 8, 14")[0] == 0
    code, printed = status("`test_grader.py` 5, 7, 8, 14")
    assert code == 1 and "agree now: `test_grader.py` 5" in printed


@pytest.mark.parametrize(
    ("gold", "answer", "size"),
    [("7 \\times 10^{35}", "7.1", 7e35), (r"\cos 1", "0.5403", 0.5403), ("0.003, 5.2", "0", 0.003)],
)
def test_a_precision_is_relative_to_the_smallest_written_number(gold, answer, size):
    assert bench_scripts.load("graders").size_of(gold, answer) == pytest.approx(size)


@pytest.fixture
def answers_bench(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "bench")  # it shares a helper
    return bench_scripts.load("answers")


def test_votes_are_over_plain_numbers_in_a_few_spellings(answers_bench):
    groups = [answers_bench.plain_samples(random.Random(index)) for index in range(500)]
    assert {len(group) for group in groups} == {16}
    assert all(2 <= len(set(group)) <= 5 for group in groups)
    assert any("$" in text for group in groups for text in group)


@pytest.mark.parametrize(
    ("seconds", "memory", "status"), [(1.0, 60.0, 0), (1.1, 60.0, 1), (1.0, 61.0, 1)]
)
def test_each_target_of_the_answers_bench_counts(answers_bench, capsys, seconds, memory, status):
    """The older commit takes 20 s and 60 MiB; votes are five times as fast."""
    names = answers_bench.BASE, answers_bench.OURS
    symbolic = [{"seconds": 20.0, "verifier": 60.0, "voter": 30.0}]
    ours = [{"seconds": seconds, "verifier": memory, "voter": 30.0}]
    votes = [{"seconds": 5.0}], [{"seconds": 1.0}]
    found = {("damped", name): rows for name, rows in zip(names, (symbolic, ours), strict=True)}
    found |= {("votes", name): rows for name, rows in zip(names, votes, strict=True)}
    assert answers_bench.report(found, ["damped"]) == status
    assert capsys.readouterr().out.count("\n") == 6


def test_the_greatest_memory_of_a_child_is_kept_when_it_has_ended(answers_bench):
    with answers_bench.peak_memory() as peaks:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.5)"])
        child.wait()
    assert peaks[child.pid] > 1
    assert peaks[os.getpid()] > 1


def test_a_second_round_is_trained_by_the_settings_of_the_headline(monkeypatch):
    bench = Path(bench_scripts.__file__).parents[2] / "bench"
    monkeypatch.syspath_prepend(bench)
    monkeypatch.chdir(bench.parent)
    settings = bench_scripts.load("triage_rounds").training()
    assert (settings["steps"], settings["learning_rate"]) == (90, 2e-3)
