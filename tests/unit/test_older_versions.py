"""Files of older versions: a run of other stages is refused, a stored result is read as it was."""

import json

import pytest
import report_run

from pivottrace.cli import main
from pivottrace.errors import RunDirError
from pivottrace.run.directory import RunDir
from pivottrace.run.older_versions import with_fixed_sampling


def test_a_run_whose_stages_are_gone_is_refused_with_the_cure(tmp_path, capsys):
    run = report_run.make_run(tmp_path / "run", "score")
    path = run.path / "manifest.json"
    manifest = json.loads(path.read_text())
    stages = manifest["rounds"]["0"]
    stages["rollout"] = stages.pop("greedy")
    path.write_text(json.dumps(manifest))
    with pytest.raises(RunDirError, match=r"older version, whose stage 'rollout' .* \(--output\)"):
        RunDir.create(run.config)
    for command in ("status", "report", "run", "plan"):
        assert main([command, str(run.path)]) == 1
        assert "was made by an older version" in capsys.readouterr().err


def test_a_stored_result_without_the_setting_was_sampled_equally():
    assert with_fixed_sampling({"seed": 1}) == {"seed": 1, "rollouts": {"sampling": "fixed"}}
    told = {"rollouts": {"sampling": "stepwise", "num_samples": 4}}
    assert with_fixed_sampling(told) == told
