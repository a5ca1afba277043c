"""Rate and time left, of what is done now and not of what was there before."""

import io

import pytest

from pivottrace.run import progress as module
from pivottrace.run.part_work import run_parts
from pivottrace.run.progress import progress


@pytest.fixture
def clock(monkeypatch):
    """Seconds that a test sets."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_the_rate_counts_from_the_first_number(clock, capsys):
    with progress("greedy", 400) as update:
        update(300)
        clock[0] += 20
        update(340)
        clock[0] += 30
        update(400, "1,604 samples")
    assert capsys.readouterr().err.splitlines() == [
        "greedy     340/400 questions  2.0/s  30 s left",
        "greedy     400/400 questions, 1,604 samples  2.0/s  0 s left",
    ]


def test_what_was_complete_before_has_no_rate(clock, capsys):
    with progress("greedy", 400) as update:
        update(400)
    assert capsys.readouterr().err == "greedy     400/400 questions\n"


def test_the_bar_does_not_count_what_was_there(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(module.sys, "stderr", Terminal())
    with progress("greedy", 400) as update:
        update(300)
        update(301, "1,204 samples")
    shown = module.sys.stderr.getvalue()
    assert "301/400" in shown and "questions, 1,204 samples" in shown


def test_parts_tell_first_which_are_finished(make_run):
    import pyarrow as pa

    heard = []

    def make(index):
        return pa.table({"i": [index]})

    run = make_run()
    run_parts(run, "signals", 2, make, on_parts=heard.append)
    run_parts(run, "signals", 4, make, on_parts=heard.append)
    run_parts(run, "signals", 4, make, on_parts=heard.append)
    run.part_path("signals", 1).unlink()
    run_parts(run, "signals", 4, make, on_parts=heard.append)
    assert heard == [[], [0], [1], [0, 1], [2], [3], [0, 1, 2, 3], [0, 2, 3], [1]]
