"""axe-core on pages that need no session: reports, views, files."""

import json

from driven import browser, facts, findings, new_page

told, found = facts(), {}
with browser(told["chromium"]) as opened:
    for url in told["urls"]:
        page = new_page(opened)
        page.goto(url)
        found[url] = findings(page)
print(json.dumps(found))
