"""Requests to a server: repeated while it is away, refused at once where it refuses, never half."""

import asyncio
import time

import pytest
from fake_server import Dropped, FakeServer, Status, serving

from pivottrace.config import ServerConfig, parse_config
from pivottrace.errors import ConfigError, ModelError
from pivottrace.models import server_client
from pivottrace.models.server_client import ServerClient, UnfinishedReply

KEY = "sk-secret-123"
NOTHING = 9  # a port of this machine on which nothing listens


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(server_client, "FIRST_PAUSE_S", 0.01)


class Echo(FakeServer):
    """It gives back the body, after `failures` of the requests have failed."""

    def __init__(self, *failures):
        super().__init__(None, None)
        self.failures = list(failures)

    def _reply(self, path, body):
        time.sleep(0.01)
        with self._lock:
            failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
        return {"body": body}


def post(fake, number=6, read=lambda i, reply: reply["body"]["i"], **settings):
    with serving(fake) as url:
        client = ServerClient(ServerConfig(url=url, **settings))
        return client.post_all("/x", [{"i": i} for i in range(number)], read), client


def test_replies_come_in_order_and_few_requests_are_under_way():
    fake = Echo()
    found, client = post(fake, number=30, concurrency=4)
    assert (found, client.outages) == (list(range(30)), 0)
    assert 1 < fake.most_at_once <= 4


@pytest.mark.parametrize(
    ("failures", "why"),
    [
        ([Dropped()], "disconnected"),
        ([Status(429), Status(429)], "HTTP 429: says 429"),
        ([Status(503, headers={"Retry-After": "1"})], "HTTP 503: says 503"),
        ([Status(500, {"detail": "broken"}), Dropped(), Status(502)], "HTTP 500: broken"),
    ],
)
def test_a_server_that_is_away_is_asked_again(capsys, failures, why):
    fake = Echo(*failures)
    # One at a time: of several failures at once, any may be the one that is named.
    found, client = post(fake, concurrency=1)
    assert found == list(range(6))
    assert len(fake.requests) == 6 + len(failures)
    assert client.outages >= 1
    lines = capsys.readouterr().err.splitlines()
    assert any("waiting for http://127.0.0.1" in line for line in lines)
    assert why in " ".join(lines)
    assert lines[-1].endswith("answers again")


def test_a_server_that_starts_late_is_waited_for(capsys):
    with serving(Echo()) as url:
        pass
    port = int(url.rsplit(":", 1)[1].removesuffix("/v1"))
    client = ServerClient(ServerConfig(url=url, wait_s=30))

    async def later():
        asked = asyncio.to_thread(client.get, "/x")
        task = asyncio.create_task(asked)
        await asyncio.sleep(0.2)
        with serving(Echo(), port):
            return await task

    assert asyncio.run(later()) == {"body": {}}
    assert "requests are repeated for up to 30 s" in capsys.readouterr().err


def test_a_server_that_stays_away_ends_the_run():
    client = ServerClient(ServerConfig(url=f"http://127.0.0.1:{NOTHING}", wait_s=0.1))
    with pytest.raises(ModelError, match=r"did not answer for 0.1 s .* finished parts are kept"):
        client.get("/models")


def test_a_late_reply_is_asked_for_again():
    fake = Echo()
    fake.spoil = lambda path, body, reply: time.sleep(0.5 * (len(fake.requests) == 1)) or reply
    found, client = post(fake, number=1, timeout_s=0.2)
    assert (found, client.outages) == ([0], 1)


def test_an_unfinished_reply_is_asked_for_again():
    times = []

    def read(i, reply):
        times.append(i)
        if len(times) == 1:
            raise UnfinishedReply("it stopped")
        return i

    assert post(Echo(), number=1, read=read)[0] == [0]
    assert times == [0, 0]


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (Status(400, {"error": {"message": "n is too large"}}), r"HTTP 400: n is too large"),
        (Status(401, {"error": "Unauthorized"}), r"Unauthorized.*Name the environment variable"),
        (Status(404, {"detail": "Not Found"}), r"Not Found.*Correct rollouts\.server\.url"),
        (Status(307), r"HTTP 307.*Correct rollouts\.server\.url"),
    ],
)
def test_a_refusal_ends_at_once_with_the_words_of_the_server(failure, words):
    fake = Echo(failure)
    with pytest.raises(ConfigError, match=words):
        post(fake, number=50, concurrency=1)
    assert len(fake.requests) == 1


def test_a_page_of_another_server_is_refused():
    fake = Echo()
    fake.spoil = lambda *_: b"<html>"
    with pytest.raises(ConfigError, match="answers, but not with JSON"):
        post(fake)


def test_the_key_comes_from_the_environment_and_shows_nowhere(monkeypatch, capsys):
    monkeypatch.setenv("MY_KEY", f" {KEY}\n")
    says = {"error": {"message": f"wrong key {KEY}"}}
    fake = Echo(Status(500, says))
    assert post(fake, api_key_env="MY_KEY")[0] == list(range(6))
    assert {headers["Authorization"] for *_, headers in fake.requests} == {f"Bearer {KEY}"}
    with pytest.raises(ConfigError, match=r"wrong key \*\*\*.* environment variable MY_KEY") as e:
        post(Echo(Status(401, says)), api_key_env="MY_KEY")
    shown = capsys.readouterr()
    assert KEY not in f"{e.value} {shown.out} {shown.err}"


@pytest.mark.parametrize(("value", "why"), [("", "is not set"), ("schlüssel", "holds no key")])
def test_a_key_that_cannot_be_one_is_refused(monkeypatch, value, why):
    monkeypatch.setenv("MY_KEY", value)
    with pytest.raises(ConfigError, match=rf"api_key_env = 'MY_KEY'.*{why}") as error:
        ServerClient(ServerConfig(url="http://host", api_key_env="MY_KEY"))
    assert not value or value not in str(error.value)


def test_an_address_must_be_given():
    with pytest.raises(ConfigError, match=r"rollouts\.server\.url is not set"):
        ServerClient(ServerConfig())


def test_it_works_where_a_loop_runs_already():
    """As in a notebook."""

    async def cell():
        return post(Echo(), number=2)[0]

    assert asyncio.run(cell()) == [0, 1]

    async def failing():
        return post(Echo(Status(400)), number=2)

    with pytest.raises(ConfigError, match="says 400"):
        asyncio.run(failing())


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("http://host:8000", "http://host:8000/v1"),
        ("https://host/api/v1/", "https://host/api/v1"),
    ],
)
def test_addresses_are_completed(given, kept):
    assert ServerConfig(url=given).url == kept


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("url", f"http://me:{KEY}@host/v1", "without a password"),
        ("url", f"http://host/v1?key={KEY}", "without a password"),
        ("url", "host:8000", "give an address such as"),
        ("url", "http://host:port", "give an address such as"),
        ("api_key_env", KEY, "never the key itself"),
    ],
)
def test_secrets_among_the_settings_are_refused_and_not_shown(key, value, why):
    with pytest.raises(ConfigError, match=rf"test: rollouts\.server\.{key}: .*{why}") as error:
        parse_config({"rollouts": {"server": {key: value}}}, "test")
    assert KEY not in str(error.value)
