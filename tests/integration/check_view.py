"""Look at the viewer's pages and at the report in a real browser; print what was found as JSON.

python check_view.py RUN LONG_PAGE [FOLDER_OF_SCREENSHOTS]
"""

import json
import sys
from pathlib import Path

from browser import DESKTOP, PHONE, chromium, is_wider_than_screen, open_page, serious_findings

# Milliseconds since the navigation began, after the next frame has been painted.
PAINTED = (
    "() => new Promise(done => requestAnimationFrame(() => "
    "setTimeout(() => done(performance.now()), 0)))"
)


def accessibility(browser, pages, folder):
    """Serious findings, faults and width of each page: on a screen, a phone, light and dark."""
    found = {}
    for page_path in pages:
        for name, size, scheme in (
            ("desktop", DESKTOP, "light"),
            ("phone", PHONE, "light"),
            ("dark", DESKTOP, "dark"),
        ):
            page = open_page(browser, page_path.as_uri(), size, scheme)
            if folder is not None:
                page.screenshot(path=folder / f"{page_path.stem}-{name}.png", full_page=True)
            page.evaluate(
                "for (const each of document.querySelectorAll('details')) each.open = true"
            )
            found[f"{page_path.name} {name}"] = {
                "serious": serious_findings(page),
                "faults": page.faults,
                "other_requests": [url for url in page.requests if url != page_path.as_uri()],
                "wide": is_wider_than_screen(page),
            }
            page.close()
    return found


def keyboard(browser, page_path):
    """The results of the keys and of the choice of a background, on a page of many questions."""
    page = open_page(browser, page_path.as_uri())
    shown = "document.querySelector('article:not([hidden])')"
    first = page.evaluate(f"{shown}.id")
    page.keyboard.press("ArrowRight")
    second = page.evaluate(f"{shown}.id")
    page.keyboard.press("ArrowLeft")
    back = page.evaluate(f"{shown}.id")
    with_pivots = page.evaluate(
        "[...document.querySelectorAll('article')].find("
        "a => a.querySelectorAll('mark').length > 1).id"
    )
    page.goto(f"{page_path.as_uri()}#{with_pivots}")
    visited = []
    for key in ("n", "n", "p"):
        page.keyboard.press(key)
        visited.append(page.evaluate("document.activeElement.id"))
    read = page.evaluate(f"{shown}.querySelector('.readout').textContent")
    colour = f"getComputedStyle({shown}.querySelector('.trace .e9')).backgroundColor"
    plain = page.evaluate(colour)
    page.check("article:not([hidden]) input[value=entropy]")
    shaded = page.evaluate(colour)
    legends = page.evaluate(
        f"[...{shown}.querySelectorAll('.scale')].filter(s => !s.hidden).map(s => s.dataset.scale)"
    )
    return {
        "questions": [first, second, back],
        "pivots": [name.removeprefix(with_pivots) for name in visited],
        "read": read,
        "backgrounds": [plain, shaded],
        "legends": legends,
        "faults": page.faults,
    }


def opening(browser, page_path):
    """Milliseconds until a long trace is painted, the best of three, and its tokens."""
    times = []
    for _ in range(3):
        page = open_page(browser, page_path.as_uri())
        times.append(page.evaluate(PAINTED))
        tokens = page.evaluate("document.querySelectorAll('.trace i, .trace mark').length")
        page.close()
    return {"milliseconds": min(times), "tokens": tokens}


def main():
    run, long_page = Path(sys.argv[1]), Path(sys.argv[2])
    folder = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    # The long page has nothing but more of the same tokens.
    pages = {run / "report.html", *(run / "view").rglob("*.html")} - {long_page}
    with chromium() as browser:
        found = {
            "pages": accessibility(browser, sorted(pages), folder),
            "keyboard": keyboard(browser, run / "view" / "index.html"),
            "opening": opening(browser, long_page),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
