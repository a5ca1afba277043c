"""The layers of the design hold, and the light entry points stay light."""

import ast
import shutil
import subprocess
import sys
from collections import defaultdict

import bench_scripts
import pytest

layers = bench_scripts.load("layers")
MODULES = layers.modules()
IMPORTS = layers.imports()
MOST_LOOSE_MODULES = 8
# Modules that may share a name, and why.
SAME_NAME = {
    "entropy": "an estimator and a reward of the same statistic",
    "self_certainty": "an estimator and a reward of the same statistic",
}
CORE = ("stats", "signals", "routing")
HEAVY = ("torch", "transformers", "trl", "datasets", "numpy", "polars", "pyarrow", "matplotlib")


def test_every_part_has_a_layer_and_every_layer_its_parts():
    assert layers.parts(IMPORTS).keys() == layers.LAYER_OF.keys()


def test_imports_go_strictly_down():
    assert not layers.climbing(IMPORTS)


def test_no_modules_import_each_other_in_a_circle():
    assert not layers.circles(IMPORTS)


def test_no_stage_imports_another_stage():
    folder = MODULES["pivottrace.stages"].parent
    stages = {
        f"pivottrace.stages.{path.stem}"
        for path in folder.glob("*.py")
        if any(isinstance(n, ast.FunctionDef) and n.name == "run" for n in _body(path))
    }
    assert len(stages) == 12
    for stage in stages:
        assert not (IMPORTS[stage] & stages), stage


def _body(path):
    return ast.parse(path.read_text()).body


@pytest.mark.parametrize(
    ("module", "line", "climbs"),
    [
        # Between folders.
        ("report/render.py", "from pivottrace import pipeline", True),
        ("report/render.py", "    from pivottrace.pipeline import run_all", True),
        ("report/render.py", "    import_module('pivottrace.pipeline')", True),
        ("stages/pool.py", "TABLE = {'all': 'pivottrace.pipeline'}", True),
        ("run/rounds.py", "    import_module(f'pivottrace.stages.{name}')", True),
        ("routing/flows.py", "    from ..report import collect", True),
        ("errors.py", "    from pivottrace.config import Config", True),
        ("labels/store.py", "    from pivottrace.labels import buying", False),
        # Inside one folder.
        ("ingest/rows.py", "    from pivottrace.ingest.sources import open_source", False),
        ("stats/windows.py", "    from . import intervals, smoothers", False),
        ("report/collect.py", "    importlib.import_module('pivottrace.report.render')", False),
    ],
)
def test_a_planted_circle_is_found(tmp_path, module, line, climbs):
    """Where a line begins with spaces it stands in a block that only a type checker reads."""
    copy = tmp_path / "pivottrace"
    shutil.copytree(
        layers.ROOT, copy, ignore=lambda _, names: [n for n in names if n.endswith("c")]
    )
    with (copy / module).open("a") as file:
        file.write(f"\nif TYPE_CHECKING:\n{line}\n" if line[0] == " " else f"\n{line}\n")
    found = layers.imports(copy)
    planted = f"pivottrace.{module.removesuffix('.py').replace('/', '.')}"
    assert any(planted in circle for circle in layers.circles(found))
    assert any(line.startswith(f"{planted} imports") for line in layers.climbing(found)) == climbs


def test_parts_of_one_layer_do_not_import_each_other():
    found = {name: set(others) for name, others in IMPORTS.items()}
    found["pivottrace.study.grid"].add("pivottrace.experiments.definition")
    assert layers.climbing(found) == [
        "pivottrace.study.grid imports pivottrace.experiments.definition, which is not below it"
    ]


def test_few_modules_lie_loose_at_the_top():
    loose = [path.stem for path in layers.ROOT.glob("*.py") if path.stem != "__init__"]
    assert len(loose) <= MOST_LOOSE_MODULES, loose


def test_no_two_modules_have_one_name():
    places = defaultdict(list)
    for module in MODULES:
        places[module.rpartition(".")[2]].append(module)
    assert {name for name, found in places.items() if len(found) > 1} == SAME_NAME.keys()


def test_nothing_shadows_the_standard_library():
    names = {module.rpartition(".")[2] for module in MODULES}
    assert not names & sys.stdlib_module_names


@pytest.mark.parametrize("folder", CORE)
def test_the_core_is_pure_mathematics(folder):
    allowed = {"numpy", "scipy", "pivottrace", *sys.stdlib_module_names}
    for path in (layers.ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names]
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else names
                assert {name.partition(".")[0] for name in names} <= allowed, path.name
    assert layers.parts(IMPORTS)[folder] <= {"errors", *CORE}


def test_the_picture_of_the_layers_is_that_of_the_code():
    assert layers.picture(layers.parts(IMPORTS)) == layers.PICTURE.read_text(encoding="utf-8"), (
        "make it anew with: python bench/layers.py"
    )


@pytest.mark.parametrize(
    "code",
    [
        "import pivottrace",
        "import pivottrace.cli as c; c.main(['--help'])",
        "import pivottrace.cli as c; c.main(['--version'])",
    ],
)
def test_light_entry_points_load_nothing_heavy(code):
    check = f"import sys; {code}; print(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
