"""Parts found by their folder, and parts that a reference names."""

import sys
from dataclasses import dataclass

import pytest

from pivottrace.errors import ConfigError
from pivottrace.plugins import load_part, records_in


@dataclass(frozen=True)
class Kind:
    name: str


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Make a package `parts` whose modules hold records; returns a function that adds one."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)

    def add(module: str, *names: str) -> None:
        lines = [f"from {__name__} import Kind", *(f"{n.upper()} = Kind({n!r})" for n in names)]
        (tmp_path / "parts" / f"{module}.py").write_text("\n".join(lines))

    yield add
    for name in [name for name in sys.modules if name.partition(".")[0] == "parts"]:
        del sys.modules[name]


def test_records_come_in_the_order_of_modules_then_of_definition(folder):
    folder("b", "late", "early")
    folder("a", "first")
    assert list(records_in("parts", Kind)) == ["first", "late", "early"]


def test_a_record_that_another_module_imports_counts_once(folder, tmp_path):
    folder("a", "one")
    (tmp_path / "parts" / "b.py").write_text("from parts.a import ONE\n")
    assert list(records_in("parts", Kind)) == ["one"]


def test_two_records_of_one_name_are_refused(folder):
    folder("a", "same")
    folder("b", "same")
    with pytest.raises(ValueError, match=r"parts\.b: a second Kind 'same'"):
        records_in("parts", Kind)


def test_a_reference_gives_the_part():
    assert load_part("math:sqrt", "x.y")(4.0) == 2.0


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("math", "x.y = 'math': write it as package.module:name"),
        (":sqrt", "write it as package.module:name"),
        (".math:sqrt", "write it as package.module:name"),
        ("no_such_module:f", "no_such_module cannot be imported .* PYTHONPATH"),
        ("math:cube", "math has no cube"),
    ],
)
def test_a_wrong_reference_names_the_setting_and_the_cure(reference, message):
    with pytest.raises(ConfigError, match=message):
        load_part(reference, "x.y")


def test_a_module_that_is_not_valid_python_is_named_with_the_line(tmp_path, monkeypatch):
    (tmp_path / "half_written.py").write_text("x = 1\ndef (\n")
    monkeypatch.syspath_prepend(tmp_path)
    message = r"x\.y = 'half_written:f': half_written is not valid Python: .*line 2.* Correct it"
    with pytest.raises(ConfigError, match=message):
        load_part("half_written:f", "x.y")
