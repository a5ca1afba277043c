"""Look at the viewer's pages and at the report in a real browser; print what was found as JSON.

The facts name the run, the page of a long trace and, for a look, a folder for screenshots.
"""

import json
from pathlib import Path

from driven import browser, facts, findings, new_page

PHONE, DESKTOP = (390, 844), (1200, 900)

# Milliseconds since the navigation began, after the next frame has been painted.
PAINTED = (
    "() => new Promise(done => requestAnimationFrame(() => "
    "setTimeout(() => done(performance.now()), 0)))"
)


def open_page(opened, url, size=DESKTOP, scheme="light"):
    """Open a page, which also keeps its dialogs, its console's errors and its requests."""
    page = new_page(opened, viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    page.requests = []
    page.on("console", lambda m: page.errors.append(m.text) if m.type == "error" else None)
    page.on("dialog", lambda dialog: (page.errors.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: page.requests.append(request.url))
    page.goto(url)
    return page


def accessibility(opened, pages, folder):
    """Serious findings, faults and width of each page: on a screen, a phone, light and dark."""
    found = {}
    for page_path in pages:
        for name, size, scheme in (
            ("desktop", DESKTOP, "light"),
            ("phone", PHONE, "light"),
            ("dark", DESKTOP, "dark"),
        ):
            page = open_page(opened, page_path.as_uri(), size, scheme)
            if folder is not None:
                page.screenshot(path=folder / f"{page_path.stem}-{name}.png", full_page=True)
            page.evaluate(
                "for (const each of document.querySelectorAll('details')) each.open = true"
            )
            found[f"{page_path.name} {name}"] = {
                "serious": findings(page),
                "faults": page.errors,
                "other_requests": [url for url in page.requests if url != page_path.as_uri()],
                "wide": page.evaluate("document.documentElement.scrollWidth > innerWidth"),
            }
            page.close()
    return found


def keyboard(opened, page_path):
    """The results of the keys and of the choice of a background, on a page of many questions."""
    page = open_page(opened, page_path.as_uri())
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
        "faults": page.errors,
    }


def opening(opened, page_path):
    """Milliseconds until a long trace is painted, the best of three, and its tokens."""
    times = []
    for _ in range(3):
        page = open_page(opened, page_path.as_uri())
        times.append(page.evaluate(PAINTED))
        tokens = page.evaluate("document.querySelectorAll('.trace i, .trace mark').length")
        page.close()
    return {"milliseconds": min(times), "tokens": tokens}


def main():
    told = facts()
    run, long_page = Path(told["run"]), Path(told["long_page"])
    folder = Path(told["screenshots"]) if "screenshots" in told else None
    # The long page has nothing but more of the same tokens.
    pages = {run / "report.html", *(run / "view").rglob("*.html")} - {long_page}
    with browser(told["chromium"]) as opened:
        found = {
            "pages": accessibility(opened, sorted(pages), folder),
            "keyboard": keyboard(opened, run / "view" / "index.html"),
            "opening": opening(opened, long_page),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
