"""The Hub is asked for a connection once, before its libraries ask it again and again."""

import socket
import time

import pytest
from huggingface_hub import constants

from pivottrace.ingest import hub_access
from pivottrace.ingest.hub_access import unreachable


@pytest.fixture
def server(monkeypatch):
    """A port of this machine that takes connections."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_access, "PAUSE_S", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def closed_port():
    """A port of this machine that takes none."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def test_a_hub_that_takes_a_connection_can_be_asked(server, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server}")
    assert unreachable() is None


def test_a_hub_that_takes_none_is_said_at_once(server, monkeypatch):
    address = f"http://127.0.0.1:{closed_port()}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    began = time.monotonic()
    assert unreachable() == f"{address} cannot be reached (Connection refused)"
    monkeypatch.setattr(constants, "ENDPOINT", "http://nowhere.invalid")
    assert "http://nowhere.invalid cannot be reached (" in unreachable()
    assert time.monotonic() - began < 20


def test_behind_a_proxy_the_proxy_is_tried(server, monkeypatch):
    """It alone knows the Hub's name. Its password is not shown."""
    monkeypatch.setenv("HTTP_PROXY", f"http://user:secret@127.0.0.1:{server}")
    monkeypatch.setattr(constants, "ENDPOINT", "http://first.invalid")
    assert unreachable() is None
    place = f"127.0.0.1:{closed_port()}"
    monkeypatch.setenv("HTTP_PROXY", f"http://user:secret@{place}")
    monkeypatch.setattr(constants, "ENDPOINT", "http://second.invalid")
    said = "cannot be reached through the proxy"
    assert unreachable() == f"http://second.invalid {said} {place} (Connection refused)"


def test_a_user_who_wants_no_network_has_none(server, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert unreachable() == "HF_HUB_OFFLINE is set"
