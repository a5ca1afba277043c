"""Hostile texts, and the elements of a page."""

from html.parser import HTMLParser

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}"
    "\u202egnp.exe\u202c\x07\x1b[31m\u200b</div></section>&lt;b&gt;"
)


class Tags(HTMLParser):
    """Every element with its attributes; refuses tags that don't nest."""

    VOID = (
        "input",
        "meta",
        "br",
        "path",
        "use",
        "line",
        "circle",
        "polygon",
        "polyline",
        "rect",
        "image",
    )

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.ids = [], [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_endtag(self, tag):
        if tag not in self.VOID and tag != "p":
            while self.open and self.open[-1] == "p":
                self.open.pop()
            assert self.open.pop() == tag
        elif tag == "p":
            assert self.open.pop() == "p"


def parsed(page):
    tags = Tags()
    tags.feed(page)
    return tags
