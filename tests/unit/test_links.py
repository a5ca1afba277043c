"""Every relative link of the pages leads somewhere: a file, an image, a heading."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1", re.S | re.M)
# [text](target), ![text](target "title"), and what HTML a page has.
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)|\b(?:src|href)=\"([^\"]+)\"")
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:")


def links(text: str) -> list[str]:
    """The targets within the repository."""
    found = (a or b for a, b in LINK.findall(FENCE.sub("", text)))
    return [target for target in found if not ELSEWHERE.match(target)]


def anchors(text: str) -> set[str]:
    """What headings are called in a link: as GitHub makes it, and ids that HTML gives."""
    seen: dict[str, int] = {}
    names = set(re.findall(r"\b(?:id|name)=\"([^\"]+)\"", text))
    for heading in re.findall(r"^#{1,6} +(.+?)(?: +#+)?$", FENCE.sub("", text), re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        name = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        names.add(f"{name}-{seen[name]}" if name in seen else name)
        seen[name] = seen.get(name, 0) + 1
    return names


def broken(page: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    wrong = []
    for target in links(page.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.is_relative_to(page.parent if ROOT not in page.parents else ROOT):
            wrong.append(f"{target} (outside the repository)")
        elif not path.exists():
            wrong.append(f"{target} (no such file)")
        elif anchor and anchor not in anchors(path.read_text(encoding="utf-8")):
            wrong.append(f"{target} (no such heading)")
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_broken_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("# On [x](y), `a_b` & on\n## Twice\n## Twice\n```\n# No\n```\n")
    page = tmp_path / "a.md"
    page.write_text(
        '# Here\n[1](b.md) [2](b.md#on-x-a_b--on) [3](b.md#twice-1) [4](#here) ![5](b.md "t")\n'
        '[web](https://example.org/x#y) <img src="c.svg"> [6](b.md#no) [7](#there) [8](../d.md)\n'
        "```\n[not](a-link.md)\n```\n"
    )
    assert broken(page) == [
        "c.svg (no such file)",
        "b.md#no (no such heading)",
        "#there (no such heading)",
        "../d.md (outside the repository)",
    ]
