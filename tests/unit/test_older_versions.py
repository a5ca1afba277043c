"""Files of older versions: a run of other stages and a result of other settings are refused."""

import pytest
import report_run

from pivottrace.cli import main
from pivottrace.errors import RunDirError
from pivottrace.run.directory import RunDir


def test_a_run_whose_stages_are_gone_is_refused_with_the_cure(tmp_path, capsys):
    run = report_run.make_run(tmp_path / "run", "score")
    rounds = run.manifest["rounds"]
    rounds["0"]["rollout"] = rounds["0"].pop("greedy")
    run.update_manifest(rounds=rounds)
    with pytest.raises(RunDirError, match=r"older version, whose stage 'rollout' .* \(--output\)"):
        RunDir.create(run.config)
    for command in ("status", "report", "run", "plan"):
        assert main([command, str(run.path)]) == 1
        assert "was made by an older version" in capsys.readouterr().err


def test_results_whose_settings_are_gone_are_refused_with_the_cure(capsys):
    assert main(["lab", "report", "bench/headline.toml"]) == 2
    told = capsys.readouterr().err
    assert "full-20.json: triage.mastered_floor is not a setting" in told
    assert "An older version made this result" in told
    assert "give `results` another folder in bench/headline.toml" in told
