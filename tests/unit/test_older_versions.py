"""Run directories of older versions are read, reported on and gone on with."""

import json

import pytest
import report_run

from pivottrace.commands.status import describe, summary_lines
from pivottrace.errors import ConfigError
from pivottrace.pipeline import unfinished
from pivottrace.report import build_report, summary
from pivottrace.run.directory import RunDir
from pivottrace.run.older_versions import with_two_evaluations
from pivottrace.run.readings import evaluation_facts

FIGURES = {"accuracy": 0.5, "low": 0.4, "high": 0.6}
CHANGE = {"mean": 0.1, "low": 0.0, "high": 0.2}
SETTINGS = {"seed": 7}


@pytest.mark.parametrize(
    ("recorded", "before", "after"),
    [
        ({"unfinished": True}, {"unfinished": True}, None),
        ({"before": FIGURES, "unanswered": 2}, {"figures": FIGURES, "unanswered": 2}, None),
        (
            {"before": FIGURES, "after": FIGURES, "difference": CHANGE},
            {"figures": FIGURES},
            {"figures": FIGURES, "difference": CHANGE},
        ),
        ({"before": FIGURES, "skipped": "none"}, {"figures": FIGURES}, {"skipped": "none"}),
        ({"skipped": "none"}, {"skipped": "none"}, {"skipped": "none"}),
        ({"after": FIGURES}, None, {"figures": FIGURES}),
    ],
)
def test_one_record_of_both_evaluations_is_read_as_two(recorded, before, after):
    stages = {"pool": {"settings": {}}, "evaluate": {"settings": SETTINGS, **recorded}}
    manifest = {"versions": {}, "rounds": {"0": stages, "1": {"train": {"settings": {}}}}}
    expected = {"pool": {"settings": {}}}
    if before is not None:
        expected["evaluate_before"] = {"settings": SETTINGS, **before}
    if after is not None:
        expected["evaluate_after"] = {"settings": SETTINGS, **after}
    rounds = {"0": expected, "1": {"train": {"settings": {}}}}
    assert with_two_evaluations(manifest) == {"versions": {}, "rounds": rounds}
    assert with_two_evaluations({"rounds": rounds}) == {"rounds": rounds}
    assert with_two_evaluations({}) == {}


def made_older(run: RunDir) -> RunDir:
    """The same run as an older version would have left it: one record, one name in the timings."""
    path = run.path / "manifest.json"
    manifest = json.loads(path.read_text())
    stages = manifest["rounds"]["0"]
    before = stages.pop("evaluate_before")
    stages["evaluate"] = {"settings": before["settings"], "before": before["figures"]}
    if "evaluate_after" in stages:
        after = stages.pop("evaluate_after")
        stages["evaluate"] |= {"after": after["figures"], "difference": after["difference"]}
    path.write_text(json.dumps(manifest))
    timings = run.path / "timings.jsonl"
    timings.write_text(
        timings.read_text()
        .replace("evaluate_before", "evaluate")
        .replace("evaluate_after", "evaluate")
    )
    return RunDir.open(run.path)


def test_a_finished_run_of_an_older_version_is_shown_as_it_was(tmp_path):
    new = report_run.make_run(tmp_path / "run")
    facts = evaluation_facts(new)
    old = made_older(new)
    assert evaluation_facts(old) == facts and not unfinished(old)
    lines = list(describe(old))
    assert "  done  evaluate before" in lines and "  done  evaluate after" in lines
    assert "evaluate 20" in " ".join(summary_lines(old, summary(old)))
    page = build_report(old, unfinished(old), report_run.decode).read_text(encoding="utf-8")
    assert "62.1" in page and "73.1" in page and "Still to come" not in page


def test_a_run_of_an_older_version_goes_on_after_its_first_evaluation(tmp_path):
    old = made_older(report_run.make_run(tmp_path / "run", "evaluate_before"))
    assert unfinished(old) == ["train", "evaluate_after"]
    changed = old.config.model_copy(
        update={"evaluate": old.config.evaluate.model_copy(update={"num_samples": 2})}
    )
    with pytest.raises(ConfigError, match=r"evaluate\.num_samples: was 4, now 2"):
        RunDir.create(changed)
    RunDir.create(old.config).mark_done("train", trained=True, num_rows={})
    written = json.loads((old.path / "manifest.json").read_text())["rounds"]["0"]
    assert "evaluate_before" in written and "evaluate" not in written
    assert unfinished(old) == ["evaluate_after"]
