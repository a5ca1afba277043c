"""The layers of the package, read off its imports, and a picture of them for docs/design.md.

    python bench/layers.py            write docs/images/layers.svg
    python bench/layers.py --check    fail where an import goes up, or modules import in a circle

A part is a folder or a loose module of `src/pivottrace`. A part may import what lies strictly
below it, and a folder its own modules, but never in a circle. Imports inside functions, under
`TYPE_CHECKING` and by a module's name in a string count like any other.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

PACKAGE = "pivottrace"
REPOSITORY = Path(__file__).resolve().parents[1]
ROOT = REPOSITORY / "src" / PACKAGE
PICTURE = REPOSITORY / "docs" / "images" / "layers.svg"

# From the lowest layer to the highest.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("plugins", "schemas", "signals", "stats", "world"),
    ("attention", "routing", "verifier"),
    ("estimators", "label_sources", "rewards"),
    ("config",),
    ("refine", "run"),
    ("ingest",),
    ("labels", "models"),
    ("cluster", "rollouts"),
    ("exports", "training"),
    ("stages",),
    ("report",),
    ("viewer",),
    ("label_page", "pipeline"),
    ("experiments", "study"),
    ("commands",),
    ("cli",),
    ("__main__",),
)
LAYER_OF = {part: layer for layer, parts in enumerate(LAYERS) for part in parts}

# Calls that take a folder of the package by its dotted name, and read files that lie there.
FILE_FINDERS = {"PackageLoader", "files"}
# A string that is nothing but a dotted name in the package, as `import_module` takes it. In an
# f-string it ends in a dot where any module of a folder may follow.
_NAME = re.compile(rf"{PACKAGE}(\.\w+)+(\.|:[\w.]+)?")

Imports = Mapping[str, Set[str]]
"""Module name → names of the modules that it imports."""


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Return every module of the package by its dotted name; a folder's is its `__init__.py`."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = (PACKAGE, *path.relative_to(root).with_suffix("").parts)
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imports(root: Path = ROOT) -> dict[str, set[str]]:
    """Return what each module imports of the package, itself and the bare package left out."""
    known = modules(root)
    return {
        name: {module for other in _names(name, path) for module in _modules_of(other, known)}
        - {name, PACKAGE}
        for name, path in known.items()
    }


def _names(module: str, path: Path) -> Iterator[str]:
    """Yield every dotted name of the package that a module imports or spells out in a string."""
    folder = (module if path.name == "__init__.py" else module.rpartition(".")[0]).split(".")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    of_files = {id(word) for node in ast.walk(tree) for word in _words_of_files(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            parents = folder[: len(folder) - node.level + 1] if node.level else []
            base = ".".join([*parents, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and _NAME.fullmatch(node.value)
            and id(node) not in of_files
        ):
            yield node.value.partition(":")[0]


def _words_of_files(node: ast.AST) -> list[ast.expr]:
    """The arguments of a call that looks for files in a folder and imports nothing."""
    if not isinstance(node, ast.Call):
        return []
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return node.args if name in FILE_FINDERS else []


def _modules_of(name: str, known: Mapping[str, Path]) -> list[str]:
    """The module that a dotted name belongs to; all modules of a folder whose name ends in a dot.

    The bare package stands for a name that is none of ours.
    """
    if name.endswith("."):
        return [module for module in known if module.startswith(name)]
    while name and name not in known:
        name = name.rpartition(".")[0]
    return [name or PACKAGE]


def part_of(module: str) -> str:
    """The folder or loose module at the top of the package that a module belongs to."""
    return module.split(".")[1]


def parts(found: Imports) -> dict[str, set[str]]:
    """Return what each part imports of the others; the package's own `__init__.py` is no part."""
    gathered: dict[str, set[str]] = {}
    for module, others in found.items():
        if module != PACKAGE:
            own = gathered.setdefault(part_of(module), set())
            own |= {part_of(other) for other in others} - {part_of(module)}
    return gathered


def climbing(found: Imports) -> list[str]:
    """Return a line for each import of a part that does not lie strictly below, in order."""
    lines = []
    for module, others in sorted(found.items()):
        for other in sorted(others):
            own, its = (LAYER_OF.get(part_of(name)) for name in (module, other))
            if own is None or its is None:
                lines.append(f"{module} imports {other}: give both a layer")
            elif part_of(module) != part_of(other) and its >= own:
                lines.append(f"{module} imports {other}, which is not below it")
    return lines


def circles(found: Imports) -> list[list[str]]:
    """Return the sets of modules that import each other in circles, each sorted.

    They are the strongly connected components of more than one module (Tarjan's algorithm).
    """
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    result: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = lowest[module] = len(index)
        stack.append(module)
        for other in sorted(found.get(module, ())):
            if other not in index:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in stack:
                lowest[module] = min(lowest[module], index[other])
        if lowest[module] == index[module]:
            start = stack.index(module)
            component, stack[start:] = sorted(stack[start:]), []
            if len(component) > 1:
                result.append(component)

    for module in sorted(found):
        if module not in index:
            visit(module)
    return result


# The picture: a matrix, parts from the highest to the lowest, a dot where a row imports a column.
CELL, LEFT, TOP, MARGIN = 24, 124, 130, 16  # pixels
FONT = 13  # pixels; names of up to eleven letters fit LEFT and TOP
BANDS = ("#f1efe8", "#faf9f6")


def picture(imported: Mapping[str, Set[str]]) -> str:
    """Draw which part imports which, as SVG; every dot right of the diagonal is an import down.

    Args:
        imported: The imports of each part, as `parts` gives them.
    """
    order = [part for layer in reversed(LAYERS) for part in layer]
    side = CELL * len(order)
    width, height = LEFT + side + MARGIN, TOP + side + MARGIN
    title = "Each row imports the columns with a dot, all of them in lower layers"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="Helvetica, Arial, sans-serif" font-size="{FONT}" role="img" '
        f'aria-label="{title}">',
        f'<rect width="{width}" height="{height}" rx="10" fill="#fff"/>',
        f'<text x="{MARGIN}" y="26" font-weight="bold" fill="#222">{title}</text>',
    ]
    start = 0
    for number, layer in enumerate(reversed(LAYERS)):
        place, size = CELL * start, CELL * len(layer)
        lines.append(
            f'<rect x="{MARGIN / 2}" y="{TOP + place}" width="{width - MARGIN}" height="{size}" '
            f'fill="{BANDS[number % 2]}"/>'
        )
        lines.append(
            f'<rect x="{LEFT + place}" y="{TOP + place}" width="{size}" height="{size}" '
            'fill="#d9d4c5"/>'
        )
        start += len(layer)
    for row, part in enumerate(order):
        middle = CELL * row + CELL / 2
        down, right = TOP + middle, LEFT + middle
        lines.append(
            f'<text x="{LEFT - 10}" y="{down + 4.5}" text-anchor="end" fill="#222">{part}</text>'
        )
        lines.append(
            f'<text transform="translate({right + 4.5} {TOP - 8}) rotate(-90)" fill="#222">'
            f"{part}</text>"
        )
        for column, other in enumerate(order):
            if other in imported.get(part, ()):
                across = LEFT + CELL * column + CELL / 2
                lines.append(f'<circle cx="{across}" cy="{down}" r="5" fill="#2f6f8f"/>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def main() -> None:
    """Write the picture, or only check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, only check")
    arguments = parser.parse_args()
    found = imports()
    wrong = climbing(found)
    wrong += [" ↔ ".join(circle) + " import each other in a circle" for circle in circles(found)]
    if wrong:
        sys.exit("\n".join(wrong))
    if not arguments.check:
        PICTURE.write_text(picture(parts(found)), encoding="utf-8")
        print(f"wrote {PICTURE.relative_to(REPOSITORY)}")


if __name__ == "__main__":
    main()
