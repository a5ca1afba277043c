"""Files of exports for trainers: types, texts that survive, launch files, and known traps."""

import json
import re
import subprocess
import tomllib

import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import load_dataset
from export_run import HOSTILE, exported, give_labels, hold_out, triaged

from pivottrace.exports import bundle, export_formats, launch
from pivottrace.exports.openrlhf import PICTURES
from pivottrace.exports.trl_format import TRL_ROWS
from pivottrace.exports.verl import VERL_ROWS

TRAINERS = sorted(name for name, of in export_formats().items() if "weights" in of.options)
WITH_SCRIPT = sorted(set(TRAINERS) - {"trl", "verifiers"})
# Texts that readers of JSON lines turn into numbers, dates, nulls or truths.
GUESSED = ["007", "1e3", "2020-01-02", "null", "true", "1,800", "12"]


@pytest.fixture
def run(make_run):
    made = triaged(make_run("my run", labels={"source": "file", "budget": 5}))
    give_labels(made)
    hold_out(made, [("h1", "1 + 1?", "2")])
    return made


def everything(make_run):
    """A run with settings that add lines to launch files."""
    return triaged(
        make_run(
            "every setting",
            labels={"source": "file", "budget": 5},
            model={"path": "my models/a 'b' $c", "revision": "main"},
            pool={"chat_template_args": {"enable_thinking": False, "who": 'it\'s "me"'}},
            rollouts={"stop": ["</answer>", "a b"]},
            train={"lora_rank": 8, "beta": 0.1, "loss_type": "dr_grpo", "micro_batch_size": 8},
        )
    )


@pytest.mark.parametrize("name", TRAINERS)
def test_texts_that_look_like_numbers_or_dates_stay_texts(make_run, name, tmp_path):
    rows = {text: ("weak", 1.0, text, None) for text in GUESSED}
    run = triaged(make_run("run"), rows, prompt="2024-05-01")
    folder, written = exported(run, name, tmp_path / "out")
    first = folder / next(iter(written.rows))
    if first.suffix == ".jsonl":  # the taskset reads it by json, which guesses nothing
        found = [json.loads(line) for line in first.read_bytes().splitlines()]
        assert sorted(row["answer"] for row in found) == sorted(GUESSED)
        assert {row["prompt"] for row in found} == {"2024-05-01"}
        return
    cache = str(tmp_path / "cache")
    read = load_dataset("parquet", data_files=str(first), split="train", cache_dir=cache).to_list()
    for text in GUESSED:
        assert f"'{text}'" in str(read) or f'\\"answer\\": \\"{text}\\"' in json.dumps(read)
    assert "datetime" not in str(read)


@pytest.mark.parametrize("name", sorted(set(TRAINERS) - {"verifiers"}))
def test_files_of_the_export_join_and_have_plain_types(run, name, tmp_path):
    """verl, SkyRL and OpenRLHF refuse to join a file of polars or pandas with ours: their types
    are large_string and large_list."""
    folder, written = exported(run, name, tmp_path / "out")
    tables = [pq.read_table(folder / file) for file in written.rows]
    assert pa.concat_tables(tables).num_rows == 5
    assert "large" not in str(tables[0].schema) and "null" not in str(tables[0].schema)
    polars.from_arrow(tables[0]).write_parquet(tmp_path / "theirs.parquet")
    theirs = pq.read_table(tmp_path / "theirs.parquet")
    with pytest.raises(pa.ArrowInvalid, match=r"[Ss]chema"):
        pa.concat_tables([tables[0], theirs])


@pytest.mark.parametrize("name", sorted(set(TRAINERS) - {"verifiers"}))
def test_the_card_lets_the_hub_read_the_folder(run, name, tmp_path):
    folder, _ = exported(run, name, tmp_path / "out")
    found = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {split: rows.num_rows for split, rows in found.items()} == {"train": 4, "validation": 1}


def test_verl_rows_hold_what_its_dataset_reads(run, tmp_path):
    folder, _ = exported(run, "verl", tmp_path / "out")
    train, test = (pq.read_table(folder / f"{n}.parquet") for n in ("train", "validation"))
    assert train.schema == test.schema == VERL_ROWS
    row = next(r for r in train.to_pylist() if r["extra_info"]["id"] == "null")
    assert row == {
        "data_source": "pivottrace/weak",
        # Messages: a plain text would vanish behind verl's filter of long prompts.
        "prompt": [
            {"role": "system", "content": "Rules."},
            {"role": "user", "content": HOSTILE},
        ],
        "ability": "reasoning",
        "reward_model": {"style": "rule", "ground_truth": "1e3"},
        "extra_info": {
            "index": row["extra_info"]["index"],
            "split": "train",
            "id": "null",
            "route": "weak",
            "reason": "r",
            "weight": 0.6,
            "vote_share": 0.75,
            "round": 0,
            "source": "a.jsonl",
        },
    }
    assert [r["extra_info"]["index"] for r in train.to_pylist()] == [0, 1, 2, 3]
    held_out = test.to_pylist()[0]
    assert held_out["data_source"] == "held-out.jsonl"
    assert held_out["extra_info"]["route"] == "held_out"


def test_verl_gets_an_estimator_only_if_asked(run, tmp_path):
    plain, _ = exported(run, "verl", tmp_path / "plain")
    assert not (plain / "pivottrace_verl.py").exists()
    assert "norm_adv_by_std_in_grpo=False" in (plain / "train.sh").read_text()
    assert "external=" not in (plain / "train.sh").read_text().replace("${external", "")
    folder, _ = exported(run, "verl", tmp_path / "estimator", weights="estimator")
    script = (folder / "train.sh").read_text()
    assert "adv_estimator=pivottrace_grpo" in script and "external=pivottrace_verl" in script
    assert json.loads((folder / "reward.json").read_text())["weighted"] is True
    compile((folder / "pivottrace_verl.py").read_text(), "pivottrace_verl.py", "exec")


def test_no_column_of_trl_has_a_name_that_trl_fills_itself():
    taken = {"prompts", "completions", "completion", "completion_ids", "trainer_state"}
    assert not taken & set(TRL_ROWS.names) and "solution" not in TRL_ROWS.names


def test_trl_reads_numbers_as_numbers(make_run, tmp_path):
    folder, _ = exported(everything(make_run), "trl", tmp_path / "out")
    found = yaml.safe_load((folder / "trl.yaml").read_text())
    assert isinstance(found["learning_rate"], float) and found["beta"] == 0.1
    assert found["scale_rewards"] == "none" and found["lora_target_modules"] == ["all-linear"]
    assert found["model_name_or_path"] == "my models/a 'b' $c"
    assert found["chat_template_kwargs"]["who"] == 'it\'s "me"'
    assert found["gradient_accumulation_steps"] * 8 == 64


def test_trl_is_not_told_a_model_that_only_pivottrace_has(run, tmp_path):
    folder, _ = exported(run, "trl", tmp_path / "out")
    text = (folder / "trl.yaml").read_text()
    assert "model_name_or_path" not in yaml.safe_load(text) and "Give another one" in text


def test_openrlhf_leaves_out_what_it_takes_for_a_picture(make_run, tmp_path):
    run = triaged(make_run("run"), prompt="Where does <image> go in HTML?")
    _, written = exported(run, "openrlhf", tmp_path / "out")
    assert written.rows == {"train.parquet": 0} and written.left_out[PICTURES] == 2


def test_openrlhf_labels_hold_everything(run, tmp_path):
    folder, _ = exported(run, "openrlhf", tmp_path / "out")
    labels = [json.loads(x) for x in pq.read_table(folder / "train.parquet")["label"].to_pylist()]
    assert {"answer": "1e3", "weight": 0.6, "route": "weak", "id": "null"} in labels
    script = (folder / "train.sh").read_text()
    assert "--data.label_key label" in script and "--data.apply_chat_template" in script


def test_openrlhf_refuses_a_path_that_it_would_split(run, tmp_path):
    folder, _ = exported(run, "openrlhf", tmp_path / "a,b")
    done = subprocess.run([folder / "train.sh"], capture_output=True, text=True)
    assert done.returncode == 2 and "Move this folder to a path without them" in done.stderr


def test_the_taskset_package_is_named_after_the_run(run, tmp_path):
    folder, _ = exported(run, "verifiers", tmp_path / "out")
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert packages == ["pivottrace_my_run", "pivottrace_verifier_my_run"]
    assert all((folder / package / "__init__.py").is_file() for package in packages)
    taskset = (folder / "pivottrace_my_run" / "verifiers_taskset.py").read_text()
    assert "from pivottrace_verifier_my_run.scoring import Scorer" in taskset
    row = json.loads((folder / "pivottrace_my_run" / "train.jsonl").read_text().split("\n")[0])
    assert row["system_prompt"] == "Rules." and row["prompt"] == HOSTILE


@pytest.mark.parametrize("name", WITH_SCRIPT)
def test_the_launch_script_is_sound_and_asks_for_a_model(run, name, tmp_path):
    folder, _ = exported(run, name, tmp_path / "out")
    script = folder / "train.sh"
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", script], check=True)
    if name != "slime":  # its model is an argument
        done = subprocess.run([script], capture_output=True, text=True)
        assert done.returncode == 2 and "give MODEL" in done.stderr


@pytest.mark.parametrize("weights", ["reward", "ignore"])
@pytest.mark.parametrize("name", WITH_SCRIPT)
def test_every_setting_reaches_the_trainer_as_one_word(make_run, name, weights, tmp_path):
    folder, _ = exported(everything(make_run), name, tmp_path / "out (1)", weights=weights)
    program = tmp_path / "program"
    program.write_text('#!/bin/sh\nfor word; do printf "%s\\0" "$word"; done\n')
    program.chmod(0o755)
    (tmp_path / "ray").symlink_to(program)
    done = subprocess.run(
        [folder / "train.sh", "--mine", "a b"],
        capture_output=True,
        text=True,
        env={"PYTHON": str(program), "PATH": f"{tmp_path}:/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    words = done.stdout.split("\0")[:-1]
    assert words[-2:] == ["--mine", "a b"]
    assert any("out (1)/train.parquet" in word for word in words)
    if name != "slime":
        assert any("my models/a 'b' $c" in word for word in words)
    if name != "openrlhf":  # it passes no arguments to the template
        assert any("it's" in word and '\\"me\\"' in word for word in words)
    if name in ("slime", "nemo-rl"):
        assert any("</answer>" in word for word in words)
    assert not any(word.startswith("#") for word in words)


@pytest.mark.parametrize("weights", ["reward", "thin", "ignore"])
@pytest.mark.parametrize("name", TRAINERS)
def test_no_place_of_a_file_is_left_empty(make_run, name, weights, tmp_path):
    for run in (everything(make_run), triaged(make_run("plain"))):
        folder, _ = exported(run, name, tmp_path / run.path.name / "out", weights=weights)
        for path in folder.rglob("*"):
            if path.suffix in (".sh", ".md", ".yaml", ".toml"):
                assert not re.search(r"@[A-Z_]+@|None", path.read_text()), path
            if path.suffix == ".py":
                compile(path.read_text(), str(path), "exec")


def test_the_card_says_which_stop_texts_to_set(make_run, tmp_path):
    folder, _ = exported(everything(make_run), "trl", tmp_path / "out")
    assert "`'</answer>'`, `'a b'`" in (folder / "README.md").read_text()


def test_a_place_without_a_value_is_an_error():
    with pytest.raises(KeyError):
        bundle.kit_text("card_front.yaml")


def test_the_room_for_prompts_is_that_of_the_longest(make_run, monkeypatch):
    run = triaged(make_run("run"))
    assert launch.prompt_room(run) == 1024
    part = pa.table({"prompt_tokens": pa.array([[1] * 5, None, [1] * 1500])})
    monkeypatch.setattr(type(run), "is_done", lambda self, stage: True)
    monkeypatch.setattr(type(run), "iter_parts", lambda *_: [part])
    assert launch.prompt_room(run) == 2048


def test_conversations_beside_single_questions_are_lists_of_messages(run, tmp_path):
    pool = run.read_table("pool", made_by="run")
    rows = pool.to_pylist()
    talk = [("user", "Hello."), ("assistant", "Hello!"), ("user", "1 + 1?")]
    rows[0]["prompt"] = [{"role": role, "content": text} for role, text in talk]
    run.write_table("pool", pa.Table.from_pylist(rows, schema=pool.schema))
    folder, _ = exported(run, "verifiers", tmp_path / "out")
    lines = (folder / "pivottrace_my_run" / "train.jsonl").read_bytes().splitlines()
    found = {row["id"]: row["prompt"] for row in map(json.loads, lines)}
    assert [len(prompt) for prompt in found.values()] == [3, 1, 1, 1]
    assert found[rows[0]["id"]][1] == {"role": "assistant", "content": "Hello!"}


def test_the_model_is_the_one_that_the_round_starts_from(make_run, tmp_path, monkeypatch):
    """By its place, because a launch file starts in another folder than the run did."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    run = make_run("run", model={"path": "mine"}, rounds={"num": 2})
    assert launch.start_model_place(run) == str(tmp_path / "mine")
    trained = run.round_path / "train" / "model"
    trained.mkdir(parents=True)
    run.mark_done("train", trained=True)
    assert launch.start_model_place(run.in_round(1)) == str(trained.resolve())
    assert launch.start_model_place(make_run("other", model={"path": "a/hub-id"})) == "a/hub-id"
