"""Questions go to a real Label Studio on this machine, and answers come back, over its HTTP API.

The server has a database of its own (SQLite) in a temporary folder. It is installed into an
environment of its own, 1 GB; the tests are skipped with the reason if that fails. They take two
minutes on two idle cores.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import httpx2
import pytest
from real_packages import environment
from report_run import make_waiting_run

from pivottrace.cli import main
from pivottrace.labels import budget, label_projects, label_studio_server
from pivottrace.labels.store import read_answers
from pivottrace.labels.waiting import requested
from pivottrace.run.directory import RunDir
from pivottrace.run.rounds import current_round
from pivottrace.run.storage import read_json, write_json

sys.path.append(str(Path(__file__).parents[2] / "bench"))

from vllm_server import free_port

pytestmark = pytest.mark.timeout(1800)
VERSION = "label-studio==1.23.2"
TOKEN = "0123456789abcdef0123456789abcdef01234567"
OWNER, SECOND = "ana@example.com", "ben@example.com"
START_S = 600.0
QUIET = {"COLLECT_ANALYTICS": "0", "LATEST_VERSION_CHECK": "0", "SENTRY_DSN": ""}


@contextmanager
def running(folder):
    """A server with one user; yields its address."""
    python, port = environment("label-studio", VERSION), free_port()
    command = [
        *(str(python.parent / "label-studio"), "start", "--no-browser"),
        *("--internal-host", "127.0.0.1", "--port", str(port), "--data-dir", str(folder / "data")),
        *("--username", OWNER, "--password", "Secret-12345"),
        *("--user-token", TOKEN, "--enable-legacy-api-token"),
    ]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "LABEL_STUDIO"))}
    log = folder / "server.log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, env=clean | QUIET, stdout=out, stderr=out, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(url, process, log)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)


def wait_for(url, process, log):
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx2.get(f"{url}/health", timeout=5, trust_env=False).is_success:
                return
        except httpx2.RequestError:
            time.sleep(1)
    raise RuntimeError(f"the server does not answer:\n{log.read_text(errors='replace')[-2000:]}")


class Team:
    """People at the server, who see what its own pages show them."""

    def __init__(self, url):
        self.http = httpx2.Client(
            base_url=url, timeout=120, trust_env=False, headers={"Authorization": f"Token {TOKEN}"}
        )
        made = self.post("/api/users/", {"email": SECOND, "username": "ben"})
        self.second = made["id"]

    def get(self, path, **query):
        reply = self.http.get(path, params=query)
        assert reply.is_success, reply.text[:500]
        return reply

    def post(self, path, body):
        reply = self.http.post(path, json=body)
        assert reply.is_success, reply.text[:500]
        return reply.json()

    def served(self, project):
        """The task that the server asks next."""
        return self.get(f"/api/projects/{project}/next").json()

    def answer(self, task, *answers, **more):
        results = [
            {"from_name": name, "to_name": "question", "type": kind, "value": {key: [answer]}}
            for name, kind, key, answer in answers
        ]
        return self.post(f"/api/tasks/{task['id']}/annotations/", {"result": results} | more)

    def tasks(self, project):
        return self.get("/api/tasks", project=project, fields="all", page_size=500).json()["tasks"]


def words(answer):
    return "answer", "textarea", "text", answer


def choice(answer):
    return "choice", "choices", "choices", answer


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with running(tmp_path_factory.mktemp("label-studio")) as address:
        yield address


@pytest.fixture(scope="module")
def team(url):
    found = Team(url)
    with closing(found.http):
        yield found


@pytest.fixture
def run(tmp_path, url, monkeypatch, capsys):
    """A run that waits for the labels of its twelve probes."""
    monkeypatch.setenv("LABEL_STUDIO_URL", url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
    made = make_waiting_run(tmp_path / "run")
    capsys.readouterr()
    return made


@pytest.fixture
def say(run, capsys):
    """Run `pivottrace label ACTION RUN ...`; gives the exit code, and all that it said."""

    def command(action, *arguments):
        code = main(["label", action, str(run.path), *map(str, arguments)])
        out = capsys.readouterr()
        return code, out.out + out.err

    return command


def project_of(run):
    return read_json(run.path / label_projects.REMEMBERED)["project"]


def ids_of(tasks):
    return [task["data"]["question_id"] for task in tasks]


def stored_in(run):
    return read_answers(run.path / budget.STORE)


def test_questions_are_served_in_order_and_answers_come_back_once(run, say, team):
    code, said = say("push")
    project = project_of(run)
    assert code == 0 and said.startswith(f"12 tasks added to {team.http.base_url}")
    asked = list(requested(run))
    answered = {}
    for place, given in enumerate([words("007"), None, choice("cannot be answered"), words("1e3")]):
        task = team.served(project)
        assert task["data"]["question_id"] == asked[place]
        assert task["predictions"] == [] and "marbles" in task["data"]["question"]
        answered[asked[place]] = task
        if given is None:
            team.answer(task, was_cancelled=True)
        else:
            team.answer(task, given)
    fifth = team.served(project)
    assert fifth["data"]["question_id"] == asked[4]
    drafted = {"result": team.answer(fifth, words("5"), completed_by=team.second)["result"]}
    team.post(f"/api/tasks/{answered[asked[1]]['id']}/drafts", drafted)

    code, said = say("pull")
    assert code == 0
    assert '4 new labels taken in, 1 of them "cannot be answered", 8 tasks have no answer' in said
    assert f"answer the rest in {team.http.base_url}" in said and "pull again" in said
    stored = stored_in(run)
    assert {i: (a.answer, a.annotator, a.source) for i, [a] in stored.items()} == {
        asked[0]: ("007", OWNER, "file"),
        asked[2]: (None, OWNER, "file"),
        asked[3]: ("1e3", OWNER, "file"),
        asked[4]: ("5", SECOND, "file"),
    }
    assert say("pull")[0] == 0 and stored_in(run) == stored

    team.answer(answered[asked[0]], words("8"), completed_by=team.second)
    code, said = say("pull")
    assert code == 0 and "1 answer differs from an earlier answer" in said
    assert [(a.answer, a.annotator) for a in stored_in(run)[asked[0]]] == [
        ("007", OWNER),
        ("8", SECOND),
    ]

    code, said = say("push")
    assert code == 0
    assert "0 tasks added" in said and "8 were there already, 4 of other questions left" in said
    assert sorted(ids_of(team.tasks(project))) == sorted(asked)


def test_a_later_request_is_served_before_what_is_left_of_an_earlier_one(run, say, team):
    say("push")
    project = project_of(run)
    pool = run.read_table("pool", made_by="run").to_pylist()
    truths = {row["id"]: row["answer"] for row in pool}
    for _ in range(10):
        task = team.served(project)
        team.answer(task, words(truths[task["data"]["question_id"]]))
    assert say("pull")[0] == 0
    assert main(["run", str(run.path), "--until", "label", "--labels.partial", "true"]) == 3
    now = current_round(RunDir.open(run.path))
    waiting = [i for i in requested(now) if i not in budget.labels_of(now)]
    # The two probes that are left wait again: they stand in the new order now.
    assert len(waiting) == 10 and len({*waiting} & {*ids_of(team.tasks(project))}) == 2
    code, said = say("push")
    assert code == 0 and said.startswith("8 tasks added")
    assert "2 were there already, 10 of other questions" in said
    for wanted in waiting:
        task = team.served(project)
        assert task["data"]["question_id"] == wanted
        team.answer(task, words(truths[wanted]))
    code, said = say("pull")
    assert code == 0 and said.startswith("10 new labels taken in")


def test_a_push_that_died_is_completed_and_nothing_comes_twice(run, say, team, monkeypatch):
    asked = list(requested(run))
    real, sent = label_studio_server.LabelStudio._write, []

    def dies(self, path, body):
        sent.append(path)
        if sum("import" in each for each in sent) == 2:
            raise KeyboardInterrupt
        return real(self, path, body)

    with monkeypatch.context() as patch:
        patch.setattr(label_studio_server, "BATCH", 5)
        patch.setattr(label_studio_server.LabelStudio, "_write", dies)
        assert say("push")[0] == 130
    project = project_of(run)
    assert ids_of(team.tasks(project)) == asked[:5]
    # One task has arrived without its score, as an import that fails may leave it behind.
    bare = {"data": team.tasks(project)[0]["data"] | {"question_id": asked[11]}}
    texts = {row["id"]: row["prompt"][-1]["content"] for row in pool_rows(run)}
    bare["data"]["question"] = texts[asked[11]]
    team.post(f"/api/projects/{project}/import", [bare])
    code, said = say("push")
    assert code == 0 and said.startswith("6 tasks added") and "6 were there already" in said
    found = team.tasks(project)
    assert sorted(ids_of(found)) == sorted(asked)
    by_score = sorted(found, key=lambda task: task["predictions"][0]["score"])
    assert ids_of(by_score) == asked
    assert {len(task["predictions"]) for task in found} == {1}


def pool_rows(run):
    return run.read_table("pool", made_by="run").to_pylist()


def test_a_push_that_died_before_it_knew_its_project_makes_no_second_one(
    run, say, team, monkeypatch
):
    count = team.get("/api/projects").json()["count"]
    real = label_studio_server.LabelStudio.create_project

    def dies(self, settings):
        real(self, settings)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(label_studio_server.LabelStudio, "create_project", dies)
        assert say("push")[0] == 130
    assert "project" not in read_json(run.path / label_projects.REMEMBERED)
    assert say("pull")[0] == 0  # the project is found by its mark, and is empty
    code, said = say("push")
    assert code == 0 and said.startswith("12 tasks added")
    assert team.get("/api/projects").json()["count"] == count + 1


def test_files_go_the_same_way_and_other_formats_are_refused(run, say, team, tmp_path):
    assert say("export", tmp_path / "t.json", "--format", "label-studio")[0] == 0
    settings = {"title": "by hand", "label_config": (tmp_path / "t.xml").read_text()}
    project = team.post("/api/projects/", settings)["id"]
    team.post(f"/api/projects/{project}/import", json.loads((tmp_path / "t.json").read_text()))
    first, second = team.tasks(project)[:2]
    team.answer(first, words("007"))
    team.answer(second, was_cancelled=True)

    def exported(kind, name):
        (tmp_path / name).write_bytes(
            team.get(f"/api/projects/{project}/export", exportType=kind).content
        )
        return say("import", tmp_path / name)

    for kind, name in (("JSON_MIN", "min.json"), ("CSV", "table.csv")):
        code, said = exported(kind, name)
        assert code == 2 and "Export the project as JSON" in said
    code, said = exported("JSON", "all.json")
    assert code == 0 and "1 new label taken in, 1 task has no answer yet" in said
    (only,) = stored_in(run)[first["data"]["question_id"]]
    assert (only.answer, only.annotator) == ("007", "Label Studio user 1")
    code, said = say("pull", "--project", project)
    assert code == 0 and said.startswith("0 new labels taken in")
    code, said = say("push", "--project", project)
    assert code == 0 and "may ask in another order: its sampling is 'Sequential sampling'" in said


def test_a_project_that_cannot_give_answers_or_asks_other_questions_is_refused(run, say, team):
    config = '<View><Text name="q" value="$question"/><TextArea name="a" toName="q"/></View>'
    other = team.post("/api/projects/", {"title": "other", "label_config": config})["id"]
    code, said = say("push", "--project", other)
    assert code == 2 and "has no TextArea with the name 'answer'" in said
    assert not team.tasks(other) and not (run.path / label_projects.REMEMBERED).exists()
    say("push")
    project = project_of(run)
    task = team.tasks(project)[0]
    changed = {"data": task["data"] | {"question": "Another one?"}}
    team.http.patch(f"/api/tasks/{task['id']}/", json=changed).raise_for_status()
    for action in ("push", "pull"):
        code, said = say(action)
        assert code == 2 and f"{task['data']['question_id']!r} is another question there" in said


def test_both_kinds_of_key_work_and_no_key_is_shown_or_kept(run, say, team, url, monkeypatch):
    personal = team.post("/api/token/", {})["token"]
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", personal)
    code, said = say("push")
    assert code == 0 and said.startswith("12 tasks added")
    assert say("pull")[0] == 0
    for wrong in (personal[:-4] + "AAAA", TOKEN[::-1]):
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", wrong)
        code, said = say("pull")
        assert code == 2 and said.count("\n") == 1 and "refuses the key (HTTP 401" in said
        assert wrong not in said
    for file in run.path.rglob("*"):
        if file.is_file():
            assert personal.encode() not in file.read_bytes() and TOKEN.encode() not in (
                file.read_bytes()
            )
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
    code, said = say("pull", "--project", 9999)
    assert code == 2 and "No Project matches" in said and "--project N" in said
    write_json(run.path / label_projects.REMEMBERED, {"url": f"{url}/x", "project": 1})
    code, said = say("push")
    assert code == 2 and f"the project of this run is at {url}/x" in said
    (run.path / label_projects.REMEMBERED).write_text("{")
    code, said = say("pull")
    assert code == 1 and "is damaged. Name the project" in said
