"""A real headless Chromium, the system's own, driven by playwright, with axe-core.

Tests import this for `browser_python`. Scripts that run in that Python import it for the rest.
"""

import shutil
from contextlib import contextmanager
from pathlib import Path

PACKAGES = "playwright==1.65.2 axe-playwright-python==0.1.8"  # the latter carries axe-core
SERIOUS = ("serious", "critical")
PHONE, DESKTOP = (390, 844), (1200, 900)


def browser_python():
    """The Python of an environment with playwright; the test is skipped without a Chromium."""
    import pytest
    from real_packages import environment

    if shutil.which("chromium") is None:
        pytest.skip("no chromium here: apt-get install -y chromium")
    return environment("browser", PACKAGES)


@contextmanager
def chromium():
    """A running browser, which downloads nothing."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # The sandbox needs rights that containers lack. The pages are our own.
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        yield browser
        browser.close()


def open_page(browser, url, size=DESKTOP, scheme="light"):
    """Open a page. Its errors, dialogs and requests are in `page.faults` and `page.requests`."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    page.faults, page.requests = [], []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("console", lambda m: page.faults.append(m.text) if m.type == "error" else None)
    page.on("dialog", lambda dialog: (page.faults.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: page.requests.append(request.url))
    page.goto(url)
    return page


def serious_findings(page):
    """The serious and critical findings of axe-core, each with its first element."""
    import axe_playwright_python

    page.evaluate((Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text())
    found = page.evaluate("axe.run()")["violations"]
    return [
        f"{each['id']}: {each['nodes'][0]['html'][:200]}"
        for each in found
        if each["impact"] in SERIOUS
    ]


def is_wider_than_screen(page):
    """Whether the page has to be scrolled sideways."""
    return page.evaluate("document.documentElement.scrollWidth > innerWidth")
