"""`pivottrace export`: its folder, what it refuses, and what it says."""

import json
import re
import sys
from pathlib import Path

import pytest
from export_run import give_labels, triaged

import pivottrace.exports
from pivottrace.cli import main
from pivottrace.exports.training_data import UNLABELLED
from pivottrace.run.storage import digest_file

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"


@pytest.fixture
def run(make_run):
    return triaged(make_run("a run", labels={"source": "file", "budget": 5}))


def export(run, *arguments):
    return main(["export", str(run.path), *map(str, arguments)])


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_it_writes_beside_the_tables_and_says_what_is_next(run, capsys):
    give_labels(run)
    assert export(run, "--to", "verl") == 0
    folder = run.path / "export" / "verl"
    assert capsys.readouterr().out.splitlines() == [
        f"'{folder}/train.parquet': 4 rows",
        f"note: left out: 1 {UNLABELLED}",
        f"next: pivottrace label '{run.path}', then the same export again",
    ]
    give_labels(run, {"2020-01-02": "5"})
    assert export(run, "--to", "verl") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"'{folder}/train.parquet': 5 rows",
        f"next: point your trainer at '{folder}'",
    ]
    assert [path.name for path in folder.parent.iterdir()] == ["verl"]  # nothing is left beside it


def test_the_record_has_counts_and_digests_and_repeats(run, tmp_path):
    give_labels(run)
    for name in ("one", "two"):
        assert export(run, "--to=verl", "--out", tmp_path / "new" / name) == 0
    folder = tmp_path / "new" / "one"
    assert contents(folder) == contents(tmp_path / "new" / "two")
    record = json.loads((folder / "export.json").read_text())
    assert record["format"] == "verl" and record["round"] == 0
    assert record["rows"] == {"train.parquet": 4} and record["left_out"] == {UNLABELLED: 1}
    assert record["options"] == {"weights": "reward", "prompt": "formatted"}
    assert record["sha256"] == {
        name.as_posix(): digest_file(folder / name)
        for name in contents(folder)
        if name.name != "export.json"
    }


def test_the_run_is_only_read(run, tmp_path):
    with run.locked():  # whoever works on it is not disturbed, and does not disturb
        before = contents(run.path)
        assert export(run, "--to", "jsonl", "--out", tmp_path / "out") == 0
    assert contents(run.path) == before


def test_an_empty_folder_is_taken_and_an_earlier_export_replaced(run, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    assert export(run, "--to", "verl", "--out", folder) == 0
    first = contents(folder)
    give_labels(run)
    assert export(run, "--to", "verl", "--out", folder) == 0
    assert contents(folder).keys() == first.keys() and contents(folder) != first


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "notes.txt").write_text("mine"), "notes.txt was added or changed"),
        (lambda f: (f / "weak.jsonl").write_text("mine"), "weak.jsonl was added or changed"),
        (lambda f: (f / "more").symlink_to(f.parent), "more was added or changed"),
        (lambda f: (f / "export.json").write_text("{"), "not empty, and no export"),
        (lambda f: (f / "export.json").write_text('{"sha256": 1, "format": "jsonl"}'), "no export"),
        (lambda f: (f / "export.json").unlink(), "not empty, and no export"),
    ],
)
def test_what_no_export_wrote_is_never_replaced(run, tmp_path, capsys, spoil, message):
    folder = tmp_path / "out"
    assert export(run, "--to", "jsonl", "--out", folder) == 0
    spoil(folder)
    before = contents(folder)
    capsys.readouterr()
    assert export(run, "--to", "jsonl", "--out", folder) == 2
    said = capsys.readouterr().err
    assert message in said and "Move it away, or give another folder with --out." in said
    assert contents(folder) == before


def test_an_export_to_another_format_is_not_replaced(run, tmp_path, capsys):
    assert export(run, "--to", "jsonl", "--out", tmp_path / "out") == 0
    assert export(run, "--to", "parquet", "--out", tmp_path / "out") == 2
    assert "is an export to jsonl" in capsys.readouterr().err


def test_a_file_in_the_place_and_the_run_itself_are_refused(run, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert export(run, "--to", "jsonl", "--out", tmp_path / "file") == 2
    assert "is a file, and an export is a folder" in capsys.readouterr().err
    assert export(run, "--to", "jsonl", "--out", run.path) == 2
    assert "not empty, and no export" in capsys.readouterr().err


def test_an_export_that_fails_leaves_the_earlier_one_and_nothing_else(run, tmp_path, capsys):
    folder = tmp_path / "out"
    assert export(run, "--to", "verl", "--out", folder) == 0
    before, names = contents(folder), sorted(p.name for p in tmp_path.iterdir())
    run.table_path("pool").unlink()
    assert export(run, "--to", "verl", "--out", folder) == 1
    assert "pool.parquet is missing" in capsys.readouterr().err
    assert contents(folder) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "vrel"], "--to vrel: this format does not exist. Did you mean verl? {choices}"),
        (["--to", "zzz"], "--to zzz: this format does not exist. {choices}"),
        ([], "--to is missing: it names the format. {choices}"),
        (["--to"], "export has no option --to. See: pivottrace export --help"),
        (["--to", "json:loads"], "not a pivottrace.exports.ExportFormat. Name the record"),
        (["--to", "no_such_module:X"], "no_such_module cannot be imported"),
    ],
)
def test_a_wrong_format_is_told_with_the_choices(run, capsys, arguments, message):
    choices = f"Give one of {', '.join(pivottrace.exports.export_formats())}, or your own as"
    assert export(run, *arguments) == 2
    assert message.format(choices=choices) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--to", "jsonl", "--weights", "thin"],
            "--weights thin: the format jsonl has no such option, so leave it out. --weights thin "
            "goes with --to",
        ),
        (["--to", "trl", "--weights", "estimator"], "goes with --to verl."),
        (["--to", "verl", "--weights", "none"], "give one of reward, estimator, thin, ignore."),
        (["--to", "verl", "--prompt=plain"], "--prompt plain: with --to verl give one of form"),
        (["--to", "verl", "--weight", "thin"], "export has no option --weight"),
    ],
)
def test_an_option_that_a_format_does_not_take_is_refused(run, capsys, arguments, message):
    assert export(run, *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (run.path / "export").exists()


def test_what_python_keeps_beside_the_files_is_no_change_of_them(run, tmp_path):
    folder = tmp_path / "out"
    assert export(run, "--to", "verl", "--out", folder) == 0
    cache = folder / "pivottrace_verifier" / "__pycache__"
    cache.mkdir()
    (cache / "answers.cpython-311.pyc").write_bytes(b"")
    assert export(run, "--to", "verl", "--out", folder) == 0
    assert not cache.exists()


def test_a_run_without_routes_says_which_command_makes_them(make_run, capsys):
    run = make_run("early")
    assert export(run, "--to", "verl") == 1
    said = capsys.readouterr().err
    assert f"has no routes to export yet. Make them with: pivottrace run {run.path}" in said
    assert "--until triage" in said
    assert not (run.path / "export").exists()


def test_of_several_rounds_the_last_that_was_triaged_is_written(make_run, tmp_path):
    run = triaged(make_run("run", labels={"source": "file", "budget": 5}, rounds={"num": 2}))
    run.mark_done("train", trained=True)
    later = triaged(run.in_round(1), {"a": ("weak", 0.5, "4", None)})
    assert export(later, "--to", "verl", "--out", tmp_path / "out") == 0
    record = json.loads((tmp_path / "out" / "export.json").read_text())
    assert record["round"] == 1 and record["rows"] == {"train.parquet": 1}


def test_the_help_lists_the_formats(capsys):
    assert main(["export", "--help"]) == 0
    printed = capsys.readouterr().out
    for name, record in pivottrace.exports.export_formats().items():
        assert re.search(rf"^  {name} +{re.escape(record.title)}$", printed, re.M)


@pytest.fixture
def documented(tmp_path):
    """The module that the page shows whole, in a folder of its own."""
    block = re.search(r"<!-- file: (route_ids\S+) -->\n```python\n(.*?)```", PAGE.read_text(), re.S)
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / block[1]).write_text(block[2])
    yield folder
    for name in [n for n in sys.modules if n.endswith(block[1].removesuffix(".py"))]:
        del sys.modules[name]


def test_the_documented_format_works_outside_the_package(run, documented, monkeypatch, capsys):
    monkeypatch.syspath_prepend(documented)
    assert export(run, "--to", "route_ids:IDS") == 0
    file = run.path / "export" / "ids" / "ids.csv"
    assert capsys.readouterr().out.splitlines()[0] == f"'{file}': 7 rows"
    assert file.read_text().splitlines() == [
        "route,id",
        "discard,d",
        "weak,null",
        "weak,true",
        "annotate,1e3",
        "annotate,2020-01-02",
        "annotate,007",
        "defer,e",
    ]


def test_the_documented_format_is_found_by_its_name_in_the_folder(run, documented, monkeypatch):
    monkeypatch.setattr(
        pivottrace.exports, "__path__", [*pivottrace.exports.__path__, str(documented)]
    )
    assert export(run, "--to", "ids") == 0
    assert (run.path / "export" / "ids" / "ids.csv").is_file()
