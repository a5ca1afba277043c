"""A server that fails, or is no Label Studio: one line with a cure, and no key in it.

The real server is tried in tests/integration/test_label_studio.py. It does not fail on demand.
"""

import pytest
from fake_server import Dropped, Status, serving

from pivottrace.errors import ConfigError, ServerError
from pivottrace.labels import label_studio_server
from pivottrace.labels.label_studio_server import LabelStudio

LEGACY, PERSONAL = "0123456789abcdef", "aaa.bbb-b_b.ccc"
TASKS = [{"id": i} for i in range(5)]


class Failing:
    """It gives the replies in order; one that is an error is raised. It keeps what it was asked."""

    def __init__(self, *replies):
        self.replies, self.asked = list(replies), []

    def answer(self, path, body, headers):
        self.asked.append((path, headers.get("Authorization"), body))
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setattr(label_studio_server, "PAUSES_S", (0.0, 0.0))
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", LEGACY)
    monkeypatch.delenv("LABEL_STUDIO_URL", raising=False)


def ask(fake, action):
    with serving(fake) as url, LabelStudio(url.removesuffix("/v1")) as studio:
        return action(studio)


def test_tasks_come_in_pages():
    pages = [{"tasks": TASKS[i : i + 2], "total": 5} for i in (0, 2, 4)]
    fake = Failing(*pages)
    assert ask(fake, lambda studio: studio.tasks(3)) == TASKS
    assert "/api/tasks/?project=3&fields=all&resolve_uri=false&page=3" in fake.asked[2][0]
    gone = Failing(pages[0], {"tasks": [], "total": 5})  # somebody has deleted the others
    assert ask(gone, lambda studio: studio.tasks(3)) == TASKS[:2]


def test_reading_is_repeated_and_writing_is_not():
    fake = Failing(Dropped(), Status(503), {"tasks": [], "total": 0})
    assert ask(fake, lambda studio: studio.tasks(3)) == []
    fake = Failing(*[Status(500, {"detail": "broken"})] * 3)
    with pytest.raises(ServerError, match=r"failed \(HTTP 500: broken\).*nothing comes twice"):
        ask(fake, lambda studio: studio.tasks(3))
    fake = Failing(Dropped(), {})
    with pytest.raises(ServerError, match=r"does not answer .*correct --url"):
        ask(fake, lambda studio: studio.import_tasks(3, [{}]))
    assert len(fake.asked) == 1


def test_a_personal_token_is_exchanged_and_renewed(monkeypatch):
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", PERSONAL)
    late = Status(401, {"detail": "Token has expired"})
    fake = Failing({"access": "one"}, {"id": 3}, late, {"access": "two"}, {"id": 4})
    assert ask(fake, lambda s: (s.project(3), s.project(4))) == ({"id": 3}, {"id": 4})
    assert [(path, key) for path, key, _ in fake.asked] == [
        ("/api/token/refresh/", None),
        ("/api/projects/3/", "Bearer one"),
        ("/api/projects/4/", "Bearer one"),
        ("/api/token/refresh/", None),
        ("/api/projects/4/", "Bearer two"),
    ]
    fake = Failing({"access": "one"}, Status(401), {"access": "two"}, Status(401))
    with pytest.raises(ConfigError, match="refuses the key"):
        ask(fake, lambda studio: studio.project(3))


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Status(401, {"detail": f"Invalid token {LEGACY}."}), "refuses the key .*token ...\\.\\)"),
        (Status(404, {"detail": "No Project"}), r"/api/projects/3/: No Project \(HTTP 404\)"),
        (Status(404, b"<html>"), "no message"),
        (Status(302, headers={"Location": "https://x.org/"}), "sends us on to https://x.org/"),
        (b"<html>", "answers, but not as Label Studio does"),
        (
            Status(400, {"detail": "wrong", "validation_errors": {"title": ["long"]}}),
            r'refuses the request \(HTTP 400: wrong \{"title": \["long"\]\}\)',
        ),
    ],
)
def test_a_refusal_is_one_line_with_a_cure_and_without_the_key(reply, message):
    with pytest.raises(ConfigError, match=message) as error:
        ask(Failing(reply), lambda studio: studio.project(3))
    assert LEGACY not in str(error.value) and "\n" not in str(error.value)


def test_another_server_with_json_is_none():
    for action in (lambda s: s.tasks(3), lambda s: s.create_project({})):
        with pytest.raises(ConfigError, match="not as Label Studio does"):
            ask(Failing({"models": []}), action)


def test_an_address_or_key_that_is_none_is_refused(monkeypatch):
    for url, message in (
        (None, "LABEL_STUDIO_URL = '': give an address such as"),
        ("localhost:8080", "--url = 'localhost:8080': give an address"),
        ("http://ana:pw@x.org", "without a password or a query. Put the key into LABEL_STUDIO"),
    ):
        with pytest.raises(ConfigError, match=message):
            LabelStudio(url)
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://127.0.0.1:9/studio/")
    for key, message in (("", "is not set"), ("a b\nc", "holds no key"), ("ключ", "holds no key")):
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", key)
        with pytest.raises(ConfigError, match=f"LABEL_STUDIO_API_KEY {message}"):
            LabelStudio()


@pytest.mark.parametrize(
    ("url", "warns"),
    [
        ("http://127.0.0.1:8080", False),
        ("http://localhost:8080/studio/", False),
        ("http://[::1]:8080", False),
        ("https://studio.example.org", False),
        ("http://studio.example.org", True),
        ("http://192.0.2.1", True),
        ("http://localhost.example.org", True),
    ],
)
def test_http_to_another_machine_is_warned_of(url, warns, capsys):
    with LabelStudio(url) as studio:
        assert studio.url == url.rstrip("/")
    said = capsys.readouterr().err
    assert ("travel in the clear" in said) == warns and LEGACY not in said
