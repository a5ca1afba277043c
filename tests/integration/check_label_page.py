"""People at the labelling page: one labels many questions by keyboard, then two at once."""

import json
import statistics

from driven import Server, browser, facts, findings, new_page

told = facts()
server = Server(told["server"])
PHONE = {
    "viewport": {"width": 390, "height": 780},
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
}


def enter(page, name):
    page.goto(server.link)
    page.wait_for_selector("#name-form:not([hidden])")
    assert server.link.split("#")[1] not in page.url, page.url
    page.keyboard.type(name)
    page.keyboard.press("Enter")
    page.wait_for_selector("#work:not([hidden]), #rest:not([hidden])")


def shown_id(page):
    return page.evaluate("document.getElementById('work').dataset.id")


# The page says when it shows another question: asking it again and again would slow it down.
ANOTHER = """before => new Promise((done) => {
  const work = document.getElementById("work");
  const look = () => work.dataset.id !== before && (seen.disconnect(), done(work.dataset.id));
  const seen = new MutationObserver(look);
  seen.observe(work, { attributes: true, attributeFilter: ["data-id"] });
  look();
})"""


def wait_for_another(page, before):
    return page.evaluate(ANOTHER, before)


def picture(page, name):
    page.screenshot(path=f"{told['pictures']}/{name}.png")


def label_many(page):
    """Answer by keyboard alone, while the server is killed; the ids in order."""
    asked, kills = [], list(told["kills"])
    for number in range(told["number"]):
        question = shown_id(page)
        asked.append(question)
        page.keyboard.type(told["answers"][question])
        page.keyboard.press("Enter")
        if kills and number == kills[0]:
            kills.pop(0)
            server.kill()
            server.start()
        wait_for_another(page, question)
    return asked


def label_together(pages):
    """Two people press Enter at once until nothing is left; the ids that each had."""
    asked = [[], []]
    while True:
        questions = [shown_id(page) for page in pages]
        if not any(questions):
            return asked
        for page, question, had in zip(pages, questions, asked, strict=True):
            if question:
                had.append(question)
                page.keyboard.type(told["answers"][question])
        for page, question in zip(pages, questions, strict=True):
            if question:
                page.keyboard.press("Enter")
        for page, question in zip(pages, questions, strict=True):
            if question:
                wait_for_another(page, question)


def other_keys(page):
    """Skip, take back, see the vote, comment, confirm, cannot be answered; what the page said."""
    said, question = {}, shown_id(page)
    page.keyboard.press("Alt+s")
    second = wait_for_another(page, question)
    said["skipped"] = page.inner_text("#notice")
    page.keyboard.type("4o coins")
    page.keyboard.press("Enter")
    page.wait_for_selector("#problem:not(:empty)")
    said["problem"] = page.inner_text("#problem")
    picture(page, "label-page-confirm")
    page.keyboard.press("Control+a")
    page.keyboard.type("41")
    page.wait_for_selector("#reading:has-text('41')")
    said["reading"] = page.inner_text("#reading")
    page.keyboard.press("Alt+c")
    page.keyboard.type("The unit is missing.")
    page.keyboard.press("Control+Enter")
    third = wait_for_another(page, second)
    page.keyboard.press("Alt+v")
    page.wait_for_selector("#vote-text:not(:empty)")
    said["vote"] = page.inner_text("#vote-text")
    picture(page, "label-page-vote")
    page.keyboard.press("Alt+z")
    assert wait_for_another(page, third) == second
    said["draft"] = page.input_value("#answer")
    page.keyboard.press("Control+a")
    page.keyboard.type("42")
    page.keyboard.press("Enter")
    third = wait_for_another(page, second)
    page.keyboard.press("Alt+x")
    wait_for_another(page, third)
    return said | {"ids": [question, second, third]}


result = {"refusals": [], "errors": []}
with server, browser(told["chromium"]) as opened:
    ana = new_page(opened, viewport={"width": 1000, "height": 720})
    enter(ana, "Ana")
    picture(ana, "label-page")
    result["findings"] = findings(ana)
    result["keys"] = other_keys(ana)
    ana.evaluate("window.waits = []")
    result["asked"] = label_many(ana)
    waits = ana.evaluate("window.waits")
    ben = new_page(opened, **PHONE)
    cy = new_page(opened, color_scheme="dark", viewport={"width": 1000, "height": 720})
    enter(ben, "Ben")
    enter(cy, "Cy")
    picture(ben, "label-page-phone")
    picture(cy, "label-page-dark")
    result["findings"] += findings(ben) + findings(cy)
    ana.context.close()
    result["together"] = label_together([ben, cy])
    picture(cy, "label-page-done")
    result["rest"] = cy.inner_text("#rest")
    result["findings"] += findings(cy)
    for page in (ben, cy):
        result["refusals"] += page.evaluate("window.refusals")
        result["errors"] += page.errors
    result["code"], result["closing"] = server.stop()
    result["median_ms"] = statistics.median(waits)
    result["waits"] = sorted(waits)[-10:]
print(json.dumps(result))
