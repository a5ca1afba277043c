"""Bad input through the real command: one clear line that names what is wrong and the cure."""

import json

import pytest

from pivottrace.cli import main

GOOD = [{"id": f"q{i}", "question": f"What is {i} + 1?", "answer": i + 1} for i in range(4)]


@pytest.fixture
def command(tmp_path, capsys):
    def run(*arguments, rows=GOOD, raw=None, until="pool"):
        path = tmp_path / "pool.jsonl"
        path.write_text(raw if raw is not None else "".join(json.dumps(r) + "\n" for r in rows))
        code = main(
            ["run", "--questions", str(path), "--output", str(tmp_path / "run"),
             "--until", until, *arguments]
        )  # fmt: skip
        return code, capsys.readouterr().err

    return run


def changed(row, **values):
    return [{**r, **values} if i == row else r for i, r in enumerate(GOOD)]


def test_good_input_passes(command):
    assert command()[0] == 0


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (changed(2, id="q0"), ["pool.jsonl", "q0", "line 1", "line 3"]),
        (changed(1, question=""), ["pool.jsonl", "line 2", "question"]),
        (changed(3, question=7), ["pool.jsonl", "line 4", "question"]),
        (changed(1, id=""), ["pool.jsonl", "line 2", "id"]),
    ],
    ids=["duplicate id", "empty prompt", "mixed types", "empty id"],
)
def test_rows_are_named(command, rows, words):
    code, message = command(rows=rows)
    assert code == 2
    for word in words:
        assert word in message
    assert "Traceback" not in message


def test_broken_line_is_named(command):
    code, message = command(raw='{"question": "a"}\n{"question": \n')
    assert code == 2
    assert "line 2" in message


def test_wrong_column_lists_the_columns(command):
    code, message = command("--map", "prompt=quesion")
    assert code == 2
    assert "quesion" in message
    assert "question" in message.replace("quesion", "")


def test_missing_file(tmp_path, capsys):
    code = main(
        ["run", "--questions", str(tmp_path / "none.jsonl"), "--output", str(tmp_path / "r")]
    )
    assert code == 2
    assert "none.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize("budget", ["9", "2.5"])
def test_impossible_budget(command, budget):
    code, message = command("--budget", budget)
    assert code == 2
    assert "labels.budget" in message


def test_negative_budget(tmp_path, capsys):
    (tmp_path / "my.toml").write_text("[labels]\nbudget = -1\n")
    assert main(["run", str(tmp_path / "my.toml")]) == 2
    assert "labels.budget = -1" in capsys.readouterr().err


def test_impossible_budget_is_refused_before_the_model_is_loaded(command):
    code, message = command("--budget", "9", "--model", "missing/folder/here", until="rollout")
    assert code == 2
    assert "labels.budget" in message


def test_unknown_key_names_the_nearest(tmp_path, capsys):
    (tmp_path / "my.toml").write_text("[labels]\nbudgt = 1\n")
    assert main(["run", str(tmp_path / "my.toml")]) == 2
    assert "The nearest one is labels.budget" in capsys.readouterr().err


def test_unknown_command_names_the_nearest(capsys):
    assert main(["triag"]) == 2
    assert "Did you mean triage?" in capsys.readouterr().err


def test_stage_before_its_input_names_the_command(make_run, capsys):
    run = make_run()
    assert main(["trace", str(run.path)]) == 1
    assert f"pivottrace rollout {run.path}" in capsys.readouterr().err


def test_changed_configuration_on_resume_names_the_key(command):
    assert command()[0] == 0
    code, message = command("--pool.limit", "2")
    assert code == 2
    assert "pool.limit: was None, now 2 (used by pool)" in message


def test_model_folder_without_tokenizer(tmp_path, capsys):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "qwen3"}')
    assert main(["rollout", "--output", str(tmp_path / "r"), "--model", str(folder)]) == 2
    message = capsys.readouterr().err
    assert "has no tokenizer" in message
    assert "save_pretrained" in message


def test_missing_model_folder(tmp_path, capsys):
    missing = str(tmp_path / "none")
    assert main(["rollout", "--output", str(tmp_path / "r"), "--model", missing]) == 2
    assert "no such model folder" in capsys.readouterr().err
