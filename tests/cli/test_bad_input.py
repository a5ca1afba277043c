"""Bad input through the real command: one clear line that names what is wrong and the cure."""

import json
import os
import resource
import subprocess
import sys

import pytest

from pivottrace import cli, plugins
from pivottrace.cli import main
from pivottrace.commands import memory_limit
from pivottrace.errors import ConfigError

GOOD = [{"id": f"q{i}", "question": f"What is {i} + 1?", "answer": i + 1} for i in range(4)]


@pytest.fixture
def command(tmp_path, capsys):
    def run(*arguments, rows=GOOD, raw=None, until="pool"):
        path = tmp_path / "pool.jsonl"
        path.write_text(raw if raw is not None else "".join(json.dumps(r) + "\n" for r in rows))
        code = main(
            [
                "run",
                "--questions",
                str(path),
                "--output",
                str(tmp_path / "run"),
                "--until",
                until,
                *arguments,
            ]
        )
        return code, capsys.readouterr().err

    return run


def changed(row, **values):
    return [{**r, **values} if i == row else r for i, r in enumerate(GOOD)]


def test_good_input_passes(command):
    assert command()[0] == 0


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (changed(2, question="What is 0 + 1?"), ["pool.jsonl", "'1'", "'3'", "line 1", "line 3"]),
        (changed(1, question=""), ["pool.jsonl", "line 2", "question"]),
        (changed(3, question=7), ["pool.jsonl", "line 4", "question"]),
        (changed(1, context="It is cold."), ["pool.jsonl", "line 2", "context", "pool"]),
    ],
    ids=["duplicate with another answer", "empty prompt", "mixed types", "lost part"],
)
def test_rows_are_named(command, rows, words):
    code, message = command(rows=rows)
    assert code == 2
    for word in words:
        assert word in message
    assert "Traceback" not in message


@pytest.mark.parametrize(("row", "id_"), [(2, "q0"), (1, "")], ids=["duplicate id", "empty id"])
def test_ids_are_named_when_the_user_chose_their_column(command, row, id_):
    code, message = command("--map", "id=id", rows=changed(row, id=id_))
    assert code == 2
    assert f"line {row + 1}: column 'id'" in message


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
    code, message = command("--budget", "9", "--model", "missing/folder/here", until="greedy")
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
    assert f"pivottrace run {run.path} --until greedy" in capsys.readouterr().err


def test_changed_configuration_on_resume_names_the_key(command):
    assert command()[0] == 0
    code, message = command("--pool.limit", "2")
    assert code == 2
    assert "pool.limit: was None, now 2 (used by pool)" in message


def test_model_folder_without_tokenizer(tmp_path, capsys):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "qwen3"}')
    assert main(["greedy", "--output", str(tmp_path / "r"), "--model", str(folder)]) == 2
    message = capsys.readouterr().err
    assert "has no tokenizer" in message
    assert "save_pretrained" in message


WITHOUT_ANSWERS = [{"id": row["id"], "question": row["question"]} for row in GOOD]


@pytest.mark.parametrize("given", [0, 1])
def test_too_few_answers_for_the_labels_are_refused_before_the_model_is_loaded(command, given):
    rows = [*GOOD[:given], *WITHOUT_ANSWERS[given:]]
    arguments = ["--budget", "2", "--model", "missing/folder/here"]
    code, message = command(*arguments, "--labels.source", "column", rows=rows, until="greedy")
    assert code == 2
    assert "Leave labels.source out" in message and "2 may be chosen for a label" in message
    for source in ([], ["--labels.source", "file"], ["--labels.source", "column+file"]):
        code, message = command(*arguments, *source, rows=rows, until="greedy")
        assert code == 2 and "missing/folder/here" in message  # as far as the model


def test_too_few_answers_are_found_by_validate(tmp_path, capsys):
    path = tmp_path / "pool.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in WITHOUT_ANSWERS))
    given = ["--questions", str(path), "--labels.source", "column"]
    assert main(["validate", *given, "--budget", "2"]) == 2
    assert "Leave labels.source out" in capsys.readouterr().err
    assert main(["validate", *given, "--budget", "2", "--labels.partial", "true"]) == 2
    limits = ["--rollouts.max-new-tokens", "64", "--train.max-new-tokens", "64"]
    assert main(["validate", *given, "--budget", "0", *limits]) == 0


@pytest.mark.parametrize("verifier", ["mth", "no_such_module:equal"])
def test_a_wrong_verifier_is_refused_before_the_model_is_loaded(command, capsys, verifier):
    wrong = ["--answers.verifier", verifier]
    code, message = command(*wrong, "--model", "missing/folder/here", until="greedy")
    assert code == 2
    assert f"answers.verifier = '{verifier}'" in message
    assert command()[0] == 0
    assert main(["validate", *wrong]) == 2
    assert f"answers.verifier = '{verifier}'" in capsys.readouterr().err


@pytest.mark.parametrize("device", ["gpu", "meta", "cuda:99"])
@pytest.mark.parametrize("name", ["run", "validate"])
def test_a_device_that_cannot_be_used_is_named(tmp_path, capsys, name, device):
    arguments = ["--questions", "world:default?num=4", "--output", str(tmp_path / "run")]
    assert main([name, *arguments, "--model.device", device]) == 2
    assert f"model.device = '{device}' cannot be used here" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["run", "validate"])
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--weak.vote-size", "2"], "weak.vote_size = 2"),
        (["--rounds.num", "3", "--train.steps", "2"], "rounds.num = 3"),
    ],
)
def test_trainings_that_cannot_be_are_found_before_the_model_is_loaded(
    tmp_path, capsys, name, flags, message
):
    arguments = ["--questions", "world:default?num=4", "--output", str(tmp_path / "run")]
    given = ["--labels.source", "oracle", "--budget", "2", *flags]
    assert main([name, *arguments, *given]) == 2
    assert message in capsys.readouterr().err


def test_a_name_without_a_slash_may_be_a_hub_id(tmp_path, capsys, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert main(["validate", "--model", "gpt2"]) == 2
    message = capsys.readouterr().err
    assert "gpt2: no such folder here, no whole copy in the Hub's cache" in message
    assert "HF_HUB_OFFLINE is set" in message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["init", "nowhere/my.toml"], "the folder nowhere does not exist"),
        (["init", "/sys/my.toml"], "/sys/my.toml: no permission to write there"),
        (["run", "--output", "/sys/x"], "/sys/x: no permission to write there"),
        (["run", "--output", "/proc/x"], "/proc/x: it cannot be written"),
        (["run", "--budget", "-1"], "command line: labels.budget = '-1': Input should be greater"),
        (["run", "--train.enabled", "maybe"], "train.enabled = 'maybe'"),
        (["run", "--pool.chat-template-args", "{a ="], "pool.chat_template_args = {a = is not a"),
        (["trace", "runs/misspelled"], "neither a run directory nor a configuration file"),
        (["label"], "label needs a run directory or a configuration file"),
        (["trace", "--seed", "1"], "trace needs a run directory or a configuration file"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) in (1, 2)
    message = capsys.readouterr().err
    assert words in message and len(message.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_preset_that_is_no_name_is_refused(tmp_path, capsys):
    (tmp_path / "my.toml").write_text('preset = ["a"]\n')
    assert main(["run", str(tmp_path / "my.toml")]) == 2
    assert "preset = ['a'] is not one of default, paper" in capsys.readouterr().err


def test_missing_model_folder(tmp_path, capsys):
    missing = str(tmp_path / "none")
    assert main(["greedy", "--output", str(tmp_path / "r"), "--model", missing]) == 2
    assert "no such model folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("can't start new thread"),
        OSError("Unknown error: Failed to launch worker thread: Resource temporarily unavailable"),
    ],
)
def test_memory_that_the_system_refuses_is_one_line(tmp_path, capsys, monkeypatch, error):
    def command(arguments):
        try:
            raise error
        except (ImportError, RuntimeError):
            # transformers does so where a module of it cannot be imported.
            raise RuntimeError("Could not import module 'Qwen3ForCausalLM'") from error

    monkeypatch.setitem(cli.COMMANDS, "status", command)
    assert main(["status", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: the system gave no more memory (") and told.count("\n") == 1
    assert "ulimit -v" in told and "the same command then goes on" in told


def limited(gigabytes, *arguments):
    """A command with so much address space."""
    size = int(gigabytes * 1e9)
    return subprocess.run(
        [sys.executable, "-m", "pivottrace", *arguments],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (size, size)),
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("command", "gigabytes", "least"),
    [("status", 0.15, 1), ("status", 0.3, 1), ("status", 0.9, 1), ("run", 3, 4)],
)
def test_a_limit_that_is_too_small_is_said_before_a_library_waits_for_memory(
    tmp_path, command, gigabytes, least
):
    """With 0.3 GB OpenBLAS asked for memory without end."""
    done = limited(gigabytes, command, str(tmp_path))
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    words = f"the limit is {gigabytes:g} GB, and the libraries of this command alone take up to"
    assert f"{words} {least} GB" in done.stderr


@pytest.mark.parametrize("command", ["status", "run"])
def test_within_a_limit_the_libraries_still_work(tmp_path, command):
    done = limited(2 if command == "status" else 4.1, command, str(tmp_path))
    assert done.returncode == 2 and done.stderr.startswith(f"error: {tmp_path}"), done.stderr


def test_each_command_is_known_to_need_a_model_or_not():
    with_model = {"demo", "validate", "run", "study", "lab", "greedy", "trace", "score", "sample"}
    with_model |= {"calibrate", "triage", "train", "evaluate"}
    assert set(cli.COMMANDS) == with_model | memory_limit.WITHOUT_MODEL


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["init", "é.toml"], 2, "error: '\\udcc3\\udca9.toml': this text cannot be used"),
        (["run", "my.toml"], 2, "error: 'r\\xfcn/rounds/00': this text cannot be used, because"),
        (["run", "--help"], 0, ""),
    ],
)
def test_a_system_that_is_not_utf_8_gives_no_traceback(tmp_path, arguments, code, told):
    """Help has an ellipsis, which ASCII lacks."""
    (tmp_path / "my.toml").write_text('output = "rün"\n', encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pivottrace", *arguments],
        env=os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code and done.stderr.startswith(told), done.stderr
    assert done.stderr.count("\n") == bool(told)
    assert [path.name for path in tmp_path.iterdir()] == ["my.toml"]


def test_a_message_has_no_escapes_and_no_endless_word(tmp_path, capsys, monkeypatch):
    def command(arguments):
        raise ConfigError(f"{tmp_path}: 'a\x1b[31m\u202e' and '{'x' * 3000}' are equal.\n  Next")

    monkeypatch.setitem(cli.COMMANDS, "status", command)
    assert main(["status", str(tmp_path)]) == 2
    cut = f"'{'x' * 99}…"
    assert capsys.readouterr().err == (
        f"error: {tmp_path}: 'a⟨U+001B⟩[31m⟨U+202E⟩' and {cut} are equal.\n  Next\n"
    )


def test_a_part_that_does_not_fit_into_memory_is_not_called_missing(tmp_path, monkeypatch):
    def refused(name):
        raise ImportError("libtorch_cpu.so: failed to map segment from shared object")

    monkeypatch.setattr(plugins.importlib, "import_module", refused)
    with pytest.raises(ImportError, match="failed to map segment"):
        plugins.load_part("package.module:name", "rollouts.backend")


def test_other_errors_are_not_taken_for_a_lack_of_memory(monkeypatch):
    def command(arguments):
        raise RuntimeError("shapes differ")

    monkeypatch.setitem(cli.COMMANDS, "status", command)
    with pytest.raises(RuntimeError, match="shapes differ"):
        main(["status", "x"])
