"""The prose of the repository is plain English, and wrapped at one width.

`python tests/unit/test_prose.py PATH...` prints what it finds in files or folders.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prose_idioms import IDIOMS, Idiom

ROOT = Path(__file__).parents[2]
# Files and folders that are held to the rules. Under tests/ only the rule on `fmt: skip` holds.
CHECKED = (
    "bench",
    "tests",
    "src/pivottrace",
    "README.md",
    *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")),
)
PYTHON_WIDTH, MARKDOWN_WIDTH = 100, 120
EARLY = 30  # columns by which a line may end early although the next word would fit
LONGEST_SENTENCE = 35  # words; the aim is 25, and a list of names may take more
SECTIONS = ("Args", "Attributes", "Raises", "Returns", "Yields")
ENTRY = re.compile(r"\*{0,2}\w+(?:, \*{0,2}\w+)*(?: \([^)]*\))?:\s+")
DIRECTIVE = re.compile(r"#\s*(?:!|type:|noqa|mypy:|ruff:|fmt:|pragma)")


@dataclass(frozen=True)
class Passage:
    """Lines of prose that belong together: one paragraph, entry, comment or message.

    Attributes:
        lines: (line number, text without its indentation) of each line.
        indents: Column at which each line's text begins.
        entry: Whether it is an entry of a docstring's section.
        wrapped: Whether its lines are prose that is wrapped (a message is not).
    """

    lines: list[tuple[int, str]]
    indents: list[int]
    entry: bool = False
    wrapped: bool = True

    def joined(self) -> tuple[str, list[int]]:
        """The text with code blanked out, and the line number of each character."""
        text, numbers = "", []
        for number, line in self.lines:
            text += line + " "
            numbers += [number] * (len(line) + 1)
        code = re.compile(r"``.*?``|`[^`]*`|(?<=\]\()[^)]*(?=\))")
        return code.sub(lambda found: "x" * len(found[0]), text).rstrip(), numbers


def passages_of(path: Path) -> list[Passage]:
    """The prose of one file."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return list(_markdown(source))
    return [*_strings(source), *_comments(source)]


def _strings(source: str) -> Iterator[Passage]:
    tree = ast.parse(source)
    inside: set[ast.AST] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant(value=str() as text) as constant):
                inside.add(constant)
                yield from _docstring(text, constant.lineno, constant.col_offset)
            case ast.JoinedStr(values=values):
                inside.update(values)
                parts = [v.value if isinstance(v, ast.Constant) else "{}" for v in values]
                yield from _message("".join(map(str, parts)), node.lineno)
            case ast.Constant(value=str() as text) if node not in inside:
                yield from _message(text, node.lineno)


def _message(text: str, line: int) -> Iterator[Passage]:
    for part in text.split("\n"):
        if len(re.findall(r"[A-Za-z]{2,}", part)) >= 4:
            yield Passage([(line, part.strip())], [0], wrapped=False)


def _docstring(text: str, first: int, column: int) -> Iterator[Passage]:
    """Paragraphs and entries of a docstring; a deeper line goes on with the entry above it."""
    block: list[tuple[int, str]] = []
    indents: list[int] = []
    is_entry = is_item = in_section = is_list = False
    base = column

    def done() -> Iterator[Passage]:
        if block:
            yield Passage(list(block), list(indents), is_entry)
        block.clear()
        indents.clear()

    for offset, raw in enumerate(text.split("\n")):
        line = raw.strip()
        indent = column + 3 if offset == 0 else len(raw) - len(raw.lstrip())
        if not line:
            yield from done()
            is_item = False
        elif line.removesuffix(":") in SECTIONS and line.endswith(":"):
            yield from done()
            in_section, base = True, indent
            is_list = line not in ("Returns:", "Yields:")
        elif not in_section and indent > column and offset and not is_item:
            yield from done()  # a formula or an example, indented
        else:
            in_section = in_section and indent > base
            starts = in_section and indent == base + 4 and (is_list or not block)
            if starts or line.startswith(("* ", "- ")):
                yield from done()
                is_item = not starts
            if not block:
                is_entry = starts
            block.append((first + offset, line))
            indents.append(indent)
    yield from done()


def _comments(source: str) -> Iterator[Passage]:
    block: list[tuple[int, str]] = []
    indents: list[int] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT or DIRECTIVE.match(token.string):
            continue
        line, column = token.start
        alone = not token.line[:column].strip()
        goes_on = block and alone and block[-1][0] == line - 1 and indents[-1] == column + 2
        if block and not goes_on:
            yield Passage(block, indents)
            block, indents = [], []
        block.append((line, token.string.removeprefix("#").strip()))
        indents.append(column + 2)
        if not alone:
            yield Passage(block, indents, wrapped=False)
            block, indents = [], []
    if block:
        yield Passage(block, indents)


def _markdown(source: str) -> Iterator[Passage]:
    """Paragraphs and items of lists; code, tables, headings, images and HTML are left out."""
    block: list[tuple[int, str]] = []
    indents: list[int] = []
    fence = ""
    for number, raw in enumerate([*source.split("\n"), ""], start=1):
        line = raw.strip()
        mark = re.match(r"`{3,}|~{3,}", line)
        is_item = bool(re.match(r"[*+-] |\d+\. ", line))
        is_prose = bool(line) and not (
            fence or mark or line.startswith(("|", "#", "<", "![", "[!"))
        )
        if block and (is_item or not is_prose):
            yield Passage(block, indents)
            block, indents = [], []
        if mark:
            fence = "" if fence and line.startswith(fence) else fence or mark[0]
        elif is_prose:
            block.append((number, line))
            indents.append(len(raw) - len(raw.lstrip()))
    if block:
        yield Passage(block, indents)


def idioms_in(passage: Passage) -> Iterator[tuple[int, str]]:
    """Idioms of the table, each with its line."""
    text, numbers = passage.joined()
    name = ENTRY.match(text) if passage.entry else None
    start = name.end() if name else 0  # an entry's text begins a sentence
    for idiom in IDIOMS:
        for found in re.finditer(idiom.pattern, text[start:]):
            words = found[0].strip()
            yield numbers[start + found.start()], f"{idiom.name}: {words!r}; write {idiom.instead}"


def long_sentences_in(passage: Passage) -> Iterator[tuple[int, str]]:
    """Sentences of more words than a reader holds."""
    text, numbers = passage.joined()
    start = 0
    for end in [*(m.end() for m in re.finditer(r"[.!?:;](?=\s|$)", text)), len(text)]:
        words = re.findall(r"[^\W\d_][\w'’-]*", text[start:end])
        if len(words) > LONGEST_SENTENCE:
            yield numbers[start], f"a sentence of {len(words)} words; one idea a sentence"
        start = end


def small_letters_in(passage: Passage) -> Iterator[tuple[int, str]]:
    """Entries of a docstring that begin with a small letter."""
    if not passage.entry:
        return
    line, text = passage.lines[0]
    name = ENTRY.match(text)
    rest = text[name.end() :] if name else text
    if rest[:1].islower():
        yield line, f"an entry begins with a capital letter: {rest[:40]!r}"


def widths_in(passage: Passage, width: int) -> Iterator[tuple[int, str]]:
    """Lines that are too long, or that end early although the next word would fit."""
    if not passage.wrapped:
        return
    for place, (number, text) in enumerate(passage.lines):
        end = passage.indents[place] + len(text)
        if end > width and " " in text and "](" not in text.rsplit(" ", 1)[1]:
            yield number, f"{end} columns; prose is wrapped at {width}"
        if place + 1 < len(passage.lines):
            word = passage.lines[place + 1][1].split(" ")[0]
            if end + 1 + len(word) + EARLY <= width:
                yield number, f"{end} columns; prose is wrapped at {width}, and {word!r} fits"


def skips_in(source: str) -> Iterator[tuple[int, str]]:
    """Lines that the formatter is told to skip, unless they are a literal table of numbers."""
    tables = [
        (node.lineno, node.end_lineno or node.lineno)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value and _is_numbers(node.value)
    ]
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and re.search(r"#\s*fmt:\s*(?:skip|off)", token.string):
            line = token.start[0]
            if not any(first - 1 <= line <= last for first, last in tables):
                yield line, "`fmt: skip` is for literal tables of numbers alone"


def _is_numbers(value: ast.expr) -> bool:
    """Whether an expression holds nothing but numbers, or an array made of them."""
    parts: list[ast.expr]
    match value:
        case ast.Call(args=[table]):
            return _is_numbers(table) and not isinstance(table, ast.Constant)
        case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
            return bool(parts) and all(map(_is_numbers, parts))
        case ast.Dict(values=parts):
            return bool(parts) and all(map(_is_numbers, parts))
        case ast.UnaryOp(operand=part):
            return _is_numbers(part)
    return isinstance(value, ast.Constant) and isinstance(value.value, int | float)


def findings(path: Path) -> list[str]:
    """What one file breaks, as `line: rule`, in the order of lines."""
    found: list[tuple[int, str]] = []
    path = path.resolve()
    if path.suffix == ".py":
        found += skips_in(path.read_text(encoding="utf-8"))
    if ROOT / "tests" not in path.parents:
        width = MARKDOWN_WIDTH if path.suffix == ".md" else PYTHON_WIDTH
        for passage in passages_of(path):
            found += idioms_in(passage)
            found += long_sentences_in(passage)
            found += small_letters_in(passage)
            found += widths_in(passage, width)
    return [f"{line}: {rule}" for line, rule in sorted(found)]


def files_in(path: Path) -> list[Path]:
    """A file, or the Python and Markdown files of a folder."""
    if path.is_file():
        return [path]
    return sorted(p for p in path.rglob("*") if p.suffix in (".py", ".md"))


FILES = [file for name in CHECKED for file in files_in(ROOT / name)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_prose_is_plain_and_wrapped(path: Path) -> None:
    assert findings(path) == []


def test_all_that_is_checked_exists() -> None:
    assert [name for name in CHECKED if not files_in(ROOT / name)] == []


@pytest.mark.parametrize("idiom", IDIOMS, ids=lambda idiom: idiom.name)
def test_each_idiom_is_found_and_good_wording_passes(idiom: Idiom) -> None:
    planted, good = (Passage([(7, text)], [0]) for text in (idiom.bad, idiom.good))
    assert (7, idiom.name) in [(line, rule.split(":")[0]) for line, rule in idioms_in(planted)]
    assert list(idioms_in(good)) == []


def check(tmp_path: Path, name: str, text: str) -> list[str]:
    (tmp_path / name).write_text(text)
    return findings(tmp_path / name)


def test_idioms_are_found_in_docstrings_comments_messages_and_across_lines(tmp_path: Path) -> None:
    source = (
        '"""One row\na question."""\n\n'
        "LIMIT = 3\n"
        '"""It says that it binds\nnobody."""\n\n'
        "# Of ten, of\n# which two fail.\n"
        'raise ValueError(f"this draws {LIMIT} samples a question")  # those that wait\n'
    )
    found = check(tmp_path, "a.py", source)
    found = [line for line in found if "columns" not in line]
    assert [int(line.split(":")[0]) for line in found] == [1, 5, 8, 10, 10]


def test_code_in_prose_is_not_prose(tmp_path: Path) -> None:
    assert check(tmp_path, "a.py", '"""Read `of which` and `those that` as code."""\n') == []
    fenced = "Text.\n\n```sh\nof which, those that\n```\n\n| of which | nobody |\n"
    assert check(tmp_path, "a.md", fenced) == []


def test_entries_begin_with_a_capital_letter(tmp_path: Path) -> None:
    source = (
        'def f(a: int, b: int) -> int:\n    """Add.\n\n    Args:\n        a: the first.\n'
        "        b: (B, T) or `x`, in small letters.\n\n    Returns:\n"
        '        the sum.\n\n    Raises:\n        ValueError: never.\n    """\n'
    )
    lines = [line.split(":")[0] for line in check(tmp_path, "a.py", source)]
    assert lines == ["5", "9", "12"]


def test_prose_is_wrapped_at_one_width(tmp_path: Path) -> None:
    long, right, short = "Word. " * 25, "Word. " * 16, "Word. " * 8
    text = f"{right}\n{right}\nend\n\n{short}\nend\n\n{long}\n"
    found = check(tmp_path, "a.py", f'"""Title.\n\n{text}"""\n')
    assert [line.split(":")[0] for line in found] == ["7", "10"]
    assert [line.split(":")[0] for line in check(tmp_path, "a.md", text)] == ["5", "8"]
    assert check(tmp_path, "b.md", f"```\n{long}\n```\n\n| {long} |\n") == []


def test_long_sentences_are_found(tmp_path: Path) -> None:
    words = "\n".join(["word " * 19] * 3)
    assert "57 words" in check(tmp_path, "a.py", f'"""Title.\n\n{words}.\n"""\n')[0]


def test_fmt_skip_is_for_tables_of_numbers_alone(tmp_path: Path) -> None:
    table = "A = [[1, 2],\n     [3, -4.5]]  # fmt: skip\nB = np.array([1,  2])  # fmt: skip\n"
    assert check(tmp_path, "a.py", table) == []
    call = "def f(\n    a, b,\n): ...  # fmt: skip\nC = ['a',  'b']  # fmt: skip\n# fmt: off\n"
    assert [line.split(":")[0] for line in check(tmp_path, "b.py", call)] == ["3", "4", "5"]


if __name__ == "__main__":
    failed = False
    for argument in sys.argv[1:] or [str(ROOT / name) for name in CHECKED]:
        for file in files_in(Path(argument)):
            for finding in findings(file):
                failed = True
                print(f"{file}:{finding}")
    sys.exit(failed)
