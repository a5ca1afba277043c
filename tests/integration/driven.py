"""Helpers of scripts that drive a browser. They run beside playwright, without PivotTrace."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

from playwright.sync_api import sync_playwright

GRAVE = ("serious", "critical")
# What the content policy refused, and the times from a key to the next question.
WATCH = """
window.refusals = []; window.waits = []; window.pressed = null;
document.addEventListener("securitypolicyviolation",
  (e) => window.refusals.push(`${e.violatedDirective} ${e.blockedURI}`));
document.addEventListener("keydown", (e) => {
  if (e.key === "Enter") window.pressed = performance.now();
}, true);
document.addEventListener("DOMContentLoaded", () => {
  const work = document.getElementById("work");
  if (!work) return;
  new MutationObserver(() => requestAnimationFrame(() => {
    if (window.pressed !== null) window.waits.push(performance.now() - window.pressed);
    window.pressed = null;
  })).observe(work, { attributes: true, attributeFilter: ["data-id"] });
});
"""


def facts():
    """The facts that the test has written."""
    with open(sys.argv[1]) as file:
        return json.load(file)


@contextmanager
def browser(chromium):
    """A Chromium without a window."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


def new_page(opened, **options):
    """A page of its own session. `page.errors` has what its console says."""
    page = opened.new_context(**options).new_page()
    page.add_init_script(WATCH)
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.set_default_timeout(30_000)
    return page


class Server:
    """A server in a process of its own, which may be killed and started again."""

    def __init__(self, how):
        self.how, self.process, self.link = how, None, None

    def start(self):
        self.process = subprocess.Popen(
            self.how["command"], env=self.how["environment"], stdout=subprocess.PIPE, text=True
        )
        for line in self.process.stdout:
            if line.startswith("labelling page: "):
                self.link = line.split()[-1]
                return self.link
        raise RuntimeError(f"the server ended with {self.process.wait()}")

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:  # a test that fails leaves no server behind
            self.kill()

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """Ctrl-C; returns the exit code and the closing lines."""
        os.kill(self.process.pid, signal.SIGINT)
        lines = self.process.communicate(timeout=60)[0]
        return self.process.returncode, lines


def findings(page):
    """What axe-core calls serious or critical on a page."""
    from axe_playwright_python.sync_playwright import Axe

    violations = Axe().run(page).response["violations"]
    return [
        f"{found['id']}: {found['help']} ({found['nodes'][0]['html'][:160]})"
        for found in violations
        if found["impact"] in GRAVE
    ]
