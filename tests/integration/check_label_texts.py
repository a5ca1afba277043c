"""Hostile texts, mathematics, options and conflicts on the labelling page; what a browser shows."""

import json

from driven import Server, browser, facts, findings, new_page

told = facts()
PHONE = {
    "viewport": {"width": 390, "height": 780},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
FAULTY = "<html lang=en><title>x</title><main><img src=x><input></main>"
EVIL = """
<form id="f" method="post" action="{url}answer" enctype="text/plain">
<input name='{{"id":"{id}","text":"666","x":"' value='"}}'></form><script>f.submit()</script>"""


def enter(page, link, name):
    page.goto(link)
    page.wait_for_selector("#name-form:not([hidden])")
    page.keyboard.type(name)
    page.keyboard.press("Enter")
    page.wait_for_selector("#work:not([hidden])")


def shown_id(page):
    return page.evaluate("document.getElementById('work').dataset.id")


def answered(page, *keys):
    """Press keys, and wait for the next card."""
    before = shown_id(page)
    for key in keys:
        page.keyboard.press(key)
    page.wait_for_selector(f"#work:not([data-id='{before}'])", state="attached")


def too_wide(page):
    """Whether the page scrolls sideways."""
    return page.evaluate("document.documentElement.scrollWidth > window.innerWidth + 1")


def look_at_texts(opened, server, result):
    page = new_page(opened, **PHONE)
    enter(page, server.link, told["name"])
    for number in range(told["number"]):
        shown = page.inner_text("#question")
        result["texts"].append(shown)
        result["formulas"].append(page.locator("#question .formula").count())
        result["unsafe"] += page.locator("#question :is(script, img, a, form, iframe)").count()
        result["too_wide"].append(too_wide(page))
        if number == told["picture"]:
            page.screenshot(path=f"{told['pictures']}/label-page-mathematics.png")
        result["findings"] += findings(page)
        answered(page, "7", "Enter")
    result["name"] = page.inner_text("#who")
    page.screenshot(path=f"{told['pictures']}/label-page-hostile.png")
    return page


def attack_by_form(page, server, result):
    """A form of another site, in the browser that has the session."""
    other = page.context.new_page()
    url, question = server.link.split("#")[0], shown_id(page)
    other.route(
        "http://evil.example/",
        lambda route: route.fulfill(
            body=EVIL.format(url=url, id=question), content_type="text/html"
        ),
    )
    with other.expect_response(f"{url}answer") as reply:
        other.goto("http://evil.example/")
    result["attack"] = reply.value.status
    other.close()


def settle(opened, server, result):
    """Another person gives another answer, and both see the conflict."""
    ana, ben = new_page(opened), new_page(opened)
    enter(ana, server.link, "Ana")
    question = shown_id(ana)
    enter(ben, server.link, "Ben")
    held = told["choice_ids"].index(question)
    # Ben's page has been open on the same question since before the server began again.
    answered(ana, "b")
    ben.evaluate(
        """([id, header]) => fetch("/answer", {method: "POST", headers: {
        "content-type": "application/json", "x-pivottrace": header},
        body: JSON.stringify({id, text: "C"})})""",
        [question, ben.get_attribute("meta[name=pivottrace]", "content")],
    )
    answered(ana, "a")
    for page in (ana, ben):
        page.reload()
        page.wait_for_selector("#opinions button")
        result["opinions"].append(page.locator("#opinions button").all_inner_texts())
    ana.screenshot(path=f"{told['pictures']}/label-page-conflict.png")
    result["findings"] += findings(ana)
    ana.keyboard.press("Tab")
    ana.keyboard.press("Tab")
    answered(ana, "Enter")
    result["settled"] = [held, question, ana.inner_text("#notice")]
    ana.screenshot(path=f"{told['pictures']}/label-page-choice.png")
    result["findings"] += findings(ana)
    return ana, ben


result = {
    name: []
    for name in ("texts", "formulas", "too_wide", "findings", "opinions", "refusals", "errors")
}
result["unsafe"] = 0
with browser(told["chromium"]) as opened:
    planted = new_page(opened)
    planted.set_content(FAULTY)
    result["planted"] = findings(planted)
    with Server(told["texts_server"]) as server:
        page = look_at_texts(opened, server, result)
        attack_by_form(page, server, result)
        pages = [page]
    with Server(told["choice_server"]) as server:
        pages += settle(opened, server, result)
        for each in pages:
            result["refusals"] += each.evaluate("window.refusals")
            result["errors"] += each.errors
print(json.dumps(result))
