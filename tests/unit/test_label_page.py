"""The labelling page's requests: who may send them, what they change, and the server itself."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
from contextlib import closing, contextmanager

import httpx2
import pytest
from fastapi.testclient import TestClient
from page_run import asking, probes_of

from pivottrace.cli import main
from pivottrace.errors import ConfigError, RunDirError
from pivottrace.label_page.access import KEYS, load_keys
from pivottrace.label_page.app import make_app
from pivottrace.label_page.desk import Desk
from pivottrace.label_page.guard import HEADER
from pivottrace.label_page.serving import serve
from pivottrace.labels import budget

PORT = 8750
HERE = f"http://127.0.0.1:{PORT}"
HOSTILE = '<script>alert(1)</script> <img src=x onerror="alert(2)"> \u202eabc\0\x1b[31m'
PATHS = ("next", "read", "answer", "settle", "skip", "undo", "vote", "hold", "leave", "name")


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A run that waits for answers; the tests here give none."""
    return asking(tmp_path_factory.mktemp("asked") / "run", texts=[HOSTILE])


@pytest.fixture
def client(asked):
    return client_of(asked)


def client_of(run):
    app = make_app(Desk(run.path), load_keys(run.path), PORT, run.path.name)
    return TestClient(app, base_url=HERE, headers={"origin": HERE})


def enter(client, run, name="Ana"):
    """Take the link's way in; the client then sends what the page sends."""
    assert post(client, "session", token=load_keys(run.path).token).status_code == 200
    page = client.get("/").text
    client.headers[HEADER] = re.search(r'name="pivottrace" content="(\w+)"', page)[1]
    if name:
        assert post(client, "name", name=name).status_code == 200
    return client


def post(client, path, headers=None, **body):
    return client.post(f"/{path}", json=body, headers=headers)


def body_of(run):
    return {"id": probes_of(run)[0], "text": "7", "name": "Ana"}


def test_without_a_session_there_is_only_the_way_in(asked, client):
    reply = client.get("/")
    assert reply.status_code == 401 and "whole link" in reply.text
    assert client.get("/static/page.js").status_code == 200
    for path in PATHS:
        assert post(client, path, **body_of(asked)).status_code == 401
    assert post(client, "session", token="guessed").status_code == 401
    assert client.cookies == {} and budget.labels_of(asked) == {}


def test_the_link_gives_a_strict_cookie_and_the_page_names_no_token(asked, client):
    token = load_keys(asked.path).token
    reply = post(client, "session", token=token)
    cookie = reply.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and "path=/" in cookie
    assert token.lower() not in cookie
    page = client.get("/")
    assert page.status_code == 200 and token not in page.text


@pytest.mark.parametrize(
    "host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1", "", "localhost:1"]
)
def test_another_host_is_refused(asked, client, host):
    enter(client, asked)
    assert client.get("/", headers={"host": host}).status_code == 421
    assert post(client, "next", headers={"host": host}).status_code == 421
    assert post(client, "next", headers={"host": f"localhost:{PORT}"}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", f"https://127.0.0.1:{PORT}", "http://127.0.0.1:1"]
)
def test_a_foreign_origin_is_refused(asked, client, origin):
    enter(client, asked)
    for path in (*PATHS, "session"):
        assert post(client, path, {"origin": origin}, **body_of(asked)).status_code == 403
    assert client.get("/", headers={"origin": origin}).status_code == 403
    assert budget.labels_of(asked) == {}


def test_a_form_of_another_site_is_refused(asked, client):
    enter(client, asked)
    del client.headers[HEADER]  # a form cannot send it
    fields = {"id": probes_of(asked)[0], "text": "7"}
    for origin in ("http://evil.example", HERE):
        reply = client.post("/answer", data=fields, headers={"origin": origin})
        assert reply.status_code == 403
    plain = {"content-type": "text/plain"}
    assert client.post("/answer", content=json.dumps(fields), headers=plain).status_code == 403
    del client.headers["origin"]
    assert post(client, "answer", **fields).status_code == 403
    assert budget.labels_of(asked) == {}


@pytest.mark.parametrize("header", ["", "0" * 64, "é".encode()])
def test_a_cookie_without_the_pages_header_is_refused(asked, client, header):
    enter(client, asked)
    for path in PATHS:
        assert post(client, path, {HEADER: header}, **body_of(asked)).status_code == 403


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c[:-1] + ("1" if c[-1] == "0" else "0"),
        lambda c: "x" + c,
        lambda c: ".",
        str.upper,
    ],
)
def test_a_forged_cookie_is_refused(asked, client, change):
    enter(client, asked)
    name = f"pivottrace_{PORT}"
    forged = change(client.cookies[name])
    cookies = {"cookie": f"{name}={forged}; pivottrace_name_{PORT}=Ana"}
    client.cookies.clear()
    assert post(client, "next", cookies).status_code == 401


def test_the_header_of_one_browser_is_none_for_another(asked):
    ana, ben = enter(client_of(asked), asked), enter(client_of(asked), asked, "Ben")
    assert post(ana, "next", {HEADER: ben.headers[HEADER]}).status_code == 403


def test_every_reply_has_the_headers_of_safety(asked, client):
    replies = [client.get("/"), client.get("/static/page.js"), client.get("/nothing")]
    replies += [post(client, "next"), client.get("/", headers={"host": "evil.example"})]
    enter(client, asked)
    replies += [client.get("/"), post(client, "next"), post(client, "answer", id=3)]
    replies += [client.request("DELETE", "/answer")]
    for reply in replies:
        policy = reply.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"
    assert [reply.status_code for reply in replies[-4:]] == [200, 200, 400, 405]


@pytest.mark.parametrize(
    "path", ["../app.py", "..%2fapp.py", "%2e%2e/app.py", "katex/../../app.py"]
)
def test_only_the_pages_own_files_are_given(client, path):
    assert client.get(f"/static/{path}").status_code in (401, 404)


def test_hostile_texts_are_data_and_show_as_text(asked, client):
    enter(client, asked, "<b>Ana</b> \u202e")
    card = post(client, "next").json()["card"]
    assert "<script>alert(1)</script>" in card["question"]
    assert "⟨U+202E⟩abc⟨U+0000⟩⟨U+001B⟩[31m" in card["question"]
    page = client.get("/").text
    assert "&lt;b&gt;Ana&lt;/b&gt; ⟨U+202E⟩" in page and "<b>Ana" not in page
    reading = post(client, "read", id=card["id"], text='"><script>\u202e').json()
    assert reading["says"] == 'Read as "><script>⟨U+202E⟩ (text)'


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("answer", {"id": "a", "text": "x" * 20_000}),
        ("answer", {"id": "a"}),
        ("answer", {"id": ["a"], "text": "7"}),
        ("name", {"name": "x" * 81}),
        ("name", {"name": " \n "}),
        ("answer", "no JSON"),
    ],
)
def test_malformed_requests_are_refused(asked, client, path, body):
    enter(client, asked)
    content = body if isinstance(body, str) else json.dumps(body)
    headers = {"content-type": "application/json"}
    assert client.post(f"/{path}", content=content, headers=headers).status_code in (400, 409)


def test_half_a_character_is_refused(asked, client):
    enter(client, asked)
    content = f'{{"id": "{probes_of(asked)[0]}", "text": "\\ud83d"}}'
    headers = {"content-type": "application/json"}
    assert client.post("/answer", content=content, headers=headers).status_code == 400


def test_a_name_comes_first(asked, client):
    enter(client, asked, name="")
    reply = post(client, "next")
    assert (reply.status_code, reply.json()) == (409, {"detail": "Give your name first"})


def test_answers_problems_and_the_busy_run_have_statuses_of_their_own(tmp_path):
    run = asking(tmp_path / "run")
    client = enter(client_of(run), run)
    first = post(client, "next").json()["card"]["id"]
    doubtful = {"id": first, "text": "4o"}
    reply = post(client, "answer", **doubtful)
    assert reply.status_code == 422 and "Press Enter again" in reply.json()["detail"]
    assert post(client, "answer", id=first, text="").status_code == 409
    with run.locked():
        assert post(client, "answer", id=first, text="7").status_code == 423
    screen = post(client, "answer", **doubtful, confirmed=True, comment=" odd ").json()
    assert screen["last"]["answer"] == "4o" and screen["card"]["id"] != first
    assert "model's" in post(client, "vote", id=first).json()["vote"]
    number = screen["last"]["number"]
    assert post(client, "undo", id=first, number=number).json()["card"]["draft"] == "4o"
    assert post(client, "skip", id=first).json()["notice"].startswith("Skipped")
    assert post(client, "hold").status_code == 200 == post(client, "leave").status_code


def test_the_keys_are_the_owners_alone_and_stay(tmp_path):
    keys = load_keys(tmp_path)
    assert stat.S_IMODE((tmp_path / KEYS).stat().st_mode) == 0o600
    assert load_keys(tmp_path) == keys and [p.name for p in tmp_path.iterdir()] == [KEYS]
    assert keys.seat_of(keys.new_cookie()) and keys.seat_of("a.b") is None
    (tmp_path / KEYS).write_text("{}")
    with pytest.raises(RunDirError, match="Remove it"):
        load_keys(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "x"], "--port x: give a whole number"),
        (["--port", "70000"], "--port 70000: give a whole number"),
        (["--prot", "1"], "usage: pivottrace label serve"),
        (["more"], "usage: pivottrace label serve"),
    ],
)
def test_wrong_arguments_are_refused(asked, capsys, arguments, message):
    assert main(["label", "serve", str(asked.path), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_run_that_asks_nobody_is_refused(make_run, capsys):
    run = make_run()
    run.mark_done("pool", num_questions=24, num_with_answer=0)
    assert main(["label", "serve", str(run.path)]) == 2
    assert "labels.source = 'oracle' has its answers already" in capsys.readouterr().err


def test_a_missing_extra_is_one_line(asked, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["label", "serve", str(asked.path)]) == 2
    told = capsys.readouterr().err
    assert told == "error: label serve needs FastAPI: pip install 'pivottrace[page]'\n"


@contextmanager
def serving(run, port=0):
    """The command in a process of its own, and its link."""
    command = [sys.executable, "-m", "pivottrace", "label", "serve", str(run.path)]
    with subprocess.Popen(
        [*command, "--port", str(port)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process, process.stdout.readline().removeprefix("labelling page: ").strip()
        finally:
            process.kill()


def take_way_in(client, link):
    """Take the way in at a real server, and send what the page sends from then on."""
    assert post(client, "session", token=link.split("/#")[1]).status_code == 200
    page = client.get("/").text
    client.headers[HEADER] = re.search(r'name="pivottrace" content="(\w+)"', page)[1]
    assert post(client, "name", name="Ana").status_code == 200


@pytest.mark.slow
def test_a_killed_server_goes_on_at_its_port_with_the_browsers_of_before(tmp_path):
    run = asking(tmp_path / "run")
    with serving(run) as (process, link):
        here = link.split("/#")[0]
        client = httpx2.Client(base_url=here, headers={"origin": here}, trust_env=False)
        take_way_in(client, link)
        first = post(client, "next").json()["card"]["id"]
        assert post(client, "answer", id=first, text="7").status_code == 200
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    port = int(here.rpartition(":")[2])
    with serving(run, port) as (process, again), closing(client):
        assert again == link
        screen = post(client, "answer", id=first, text="7").json()  # its reply was lost
        assert screen["progress"]["done"] == 1 and screen["last"]["id"] == first
        with pytest.raises(ConfigError, match=f"--port {port} cannot be used"):
            next(serve(run.path, port))
        os.kill(process.pid, signal.SIGINT)
        lines = process.stdout.read()
        assert process.wait(timeout=60) == 0
        assert f"all stored\nnext: pivottrace run {run.path}\n" in lines
    assert [label.annotator for label in budget.labels_of(run).values()] == ["Ana"]


@pytest.mark.parametrize("foreign", ['prefs={"a":1}', "flag", "name=José"])
def test_cookies_of_other_programs_do_not_lock_people_out(asked, client, foreign):
    enter(client, asked)
    own = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    client.cookies.clear()
    cookie = f"{foreign}; {own}".encode("latin-1")
    assert post(client, "next", {b"cookie": cookie}).status_code == 200
