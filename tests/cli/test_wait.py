"""`pivottrace run --wait`: the run goes on by itself when the answers are there."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "unit"))

import pytest
from page_run import asking, probes_of, truths_of

from pivottrace.label_page.desk import Desk
from pivottrace.label_page.screens import Person
from pivottrace.labels.waiting import missing_labels

ANA = Person("seat", "Ana")
MOST_S = 60


@contextmanager
def waiting(run):
    """The command in a process of its own, once it waits, and what it has said."""
    command = [sys.executable, "-m", "pivottrace", "run", str(run.path), "--until", "label"]
    with subprocess.Popen([*command, "--wait"], stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process, said_until(process, "waiting: ")
        finally:
            process.kill()


def said_until(process, start):
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith(start):
            return "".join(lines)
    raise AssertionError("".join(lines))


def answer_all(desk, truths):
    screen = desk.screen(ANA)
    while screen.card.kind == "question":
        screen = desk.answer(ANA, screen.card.id, truths[screen.card.id], confirmed=False)


@pytest.mark.slow
def test_a_waiting_run_goes_on_at_each_request_and_ends(tmp_path):
    run = asking(tmp_path / "run")
    with waiting(run) as (process, said):
        assert f"pivottrace label serve {run.path}" in said and "probe questions wait" in said
        desk, truths = Desk(run.path), truths_of(run)
        answer_all(desk, truths)
        assert "questions wait for true answers" in said_until(process, "waiting: ")
        answer_all(desk, truths)
        assert process.wait(timeout=MOST_S) == 0
    assert run.is_done("calibrate") and missing_labels(run) == []


@pytest.mark.slow
def test_ctrl_c_leaves_the_state_of_a_run_that_did_not_wait(tmp_path):
    run = asking(tmp_path / "run")
    before = {p: p.read_bytes() for p in run.round_path.glob("*.parquet")}
    with waiting(run) as (process, _):
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(timeout=MOST_S) == 130
        assert "the same command resumes" in process.stderr.read()
    assert {p: p.read_bytes() for p in run.round_path.glob("*.parquet")} == before
    with run.locked():
        pass


@pytest.mark.slow
def test_a_waiting_run_waits_for_answers_that_differ_to_be_settled(tmp_path):
    run = asking(tmp_path / "run", num_probes=2, budget=3)
    desk = Desk(run.path)
    first, second = probes_of(run)
    with waiting(run) as (process, _):
        desk.answer(ANA, first, "7", confirmed=False)
        desk.answer(Person("other", "Ben"), first, "cannot be answered", confirmed=False)
        desk.answer(ANA, second, "7", confirmed=False)
        time.sleep(2.5)
        assert process.poll() is None and missing_labels(run) == [first]
        desk.settle(ANA, first, "7", confirmed=False)
        assert "1 question waits" in said_until(process, "waiting: ")
    assert run.is_done("calibrate")
