"""The layers of the design hold, and the light entry points stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pivottrace

ROOT = Path(pivottrace.__file__).parent
# A module may import its own layer or a lower one; stages and backends import no sibling stage.
LAYERS = {
    0: {"errors", "plugins", "schemas"},
    1: {"config", "signals", "stats", "routing", "world"},
    2: {"verifier", "attention", "estimators", "rewards", "refine", "run", "ingest"},
    3: {"labels", "models", "rollouts", "training", "exports"},
    4: {"stages"},
    5: {"report", "pipeline", "study", "experiments"},
    6: {"commands"},
    7: {"cli"},
}
LAYER_OF = {name: layer for layer, names in LAYERS.items() for name in names}
MODULES = sorted(p for p in ROOT.rglob("*.py") if p.name != "__init__.py" or p.parent != ROOT)


def imports_of(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {n for n in names if n.startswith("pivottrace.")}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path):
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert part in LAYER_OF, f"give {part} a layer"
    for name in imports_of(path):
        target = name.split(".")[1]
        if target in LAYER_OF:
            assert LAYER_OF[target] <= LAYER_OF[part], f"{path.name} imports {name}"


def test_no_stage_imports_another_stage():
    for path in (ROOT / "stages").glob("*.py"):
        assert not [n for n in imports_of(path) if n.startswith("pivottrace.stages.")], path.name


HEAVY = ("torch", "transformers", "trl", "datasets", "numpy", "polars", "pyarrow", "matplotlib")


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
