"""The benchmarks' own rules, where they have some; what they measure is not tested."""

import sys

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
    assert len(rows) == 1 + 5 * 3
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
    assert bench.report({**seconds, bench.MIX: [1.1, 2.0, 3.6]}, peaks) == 0
    row = "| ours, mix of routes | 2.000 | 0.50 | 1.000 | 0.900–1.100 | 900 |"
    assert row in capsys.readouterr().out
    assert bench.report({**seconds, bench.MIX: [1.2, 2.4, 4.8]}, peaks) == 1
    rows = bench.training_rows(10, 0.3)
    assert rows["route"].to_pylist().count("annotate") == 3
    assert [label is None for label in rows["label"].to_pylist()] == [
        route == "weak" for route in rows["route"].to_pylist()
    ]
