"""A process of the verifier that is killed or stopped from outside costs a repetition, no verdict.

The faults are harmless: a function that kills or stops its own process, or a signal of the test.
"""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from pivottrace.errors import ConfigError, DataError
from pivottrace.verifier import Verifier
from pivottrace.verifier.decisions import MOST_SLOW
from pivottrace.verifier.workers import MOST_REPEATS

# Each call is one line of a file, so that calls of killed processes are seen, too.
USER_MODULE = """
import os, signal, time

def _calls(answer):
    with open(os.environ["CALLS"], "a+") as file:
        file.write(f"{answer}\\n")
        file.seek(0)
        return file.read().split().count(answer)

def same(answer, truth):
    number = _calls(answer)
    if answer == "killed" and number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if answer == "twice" and number <= 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if answer == "stopped" and number == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    if answer == "deadly":
        os.kill(os.getpid(), signal.SIGKILL)
    if answer.startswith("slow"):
        time.sleep(60)
    return answer == truth
"""
DIES_WHILE_LOADING = """
import os, signal
with open(os.environ["CALLS"], "a+") as file:
    file.write("load\\n")
    file.seek(0)
    loads = len(file.read().split())
if loads <= int(os.environ["DEATHS"]):
    os.kill(os.getpid(), signal.SIGKILL)

def same(answer, truth):
    return answer == truth
"""
UNDISTURBED = {"verifier_timeouts": 0, "verifier_crashes": 0}
needs_proc = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """How often each answer was asked."""
    (tmp_path / "faulty_equality.py").write_text(USER_MODULE)
    (tmp_path / "dies_while_loading.py").write_text(DIES_WHILE_LOADING)
    (tmp_path / "calls").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    return lambda: (tmp_path / "calls").read_text().split()


def loaded(verifier):
    """Numbers of the processes that have math-verify loaded."""
    return [child._process.pid for child in verifier._workers._children.values()]


def forks(pid):
    """Numbers of a process's own processes."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(number) for number in file.read().split()]


def expressions(count):
    """Answers with their truths and right verdicts."""
    answers = [f"x^{{{k}}}+{k}" for k in range(count)]
    truths = [f"{k + k % 2}+x^{{{k}}}" for k in range(count)]
    return answers, truths, [k % 2 == 0 for k in range(count)]


@pytest.mark.parametrize("fault", ["killed", "twice", "stopped"])
def test_an_answer_whose_process_is_killed_or_stopped_is_asked_again(calls, fault):
    with Verifier("faulty_equality:same", timeout_s=2.0) as verifier:
        answers = ["a", fault, "b", "c"]
        assert verifier.check_many(answers, ["a", fault, "b", "d"]) == [True, True, True, False]
        assert verifier.facts() == UNDISTURBED
    assert [calls().count(answer) for answer in answers] == [1, 3 if fault == "twice" else 2, 1, 1]


def test_an_answer_that_kills_each_of_its_processes_is_its_own_doing(calls):
    with Verifier("faulty_equality:same") as verifier:
        with pytest.raises(DataError, match=r"'faulty_equality:same' ended its process at pair 1 "):
            verifier.check_many(["a", "deadly", "z"], ["1", "2", "3"])
        assert calls() == ["a"] + ["deadly"] * (1 + MOST_REPEATS)  # and nothing after it
        assert verifier.equal("z", "z")


def test_a_process_that_is_killed_between_two_calls_costs_nothing(calls):
    with Verifier("faulty_equality:same") as verifier:
        assert verifier.equal("a", "a")
        first = verifier._workers._children[0]._process
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        assert verifier.equal("b", "b")
        assert calls() == ["a", "b"]
        assert loaded(verifier) != [first.pid]


@pytest.mark.parametrize("deaths", [1, 2, 3])
def test_a_process_that_is_killed_while_it_loads(calls, monkeypatch, deaths):
    monkeypatch.setenv("DEATHS", str(deaths))
    with Verifier("dies_while_loading:same") as verifier:
        if deaths <= MOST_REPEATS:
            assert verifier.equal("a", "a")
        else:
            with pytest.raises(ConfigError, match="ended while loading"):
                verifier.equal("a", "a")
    assert calls() == ["load"] * min(deaths + 1, 1 + MOST_REPEATS)


@needs_proc
@pytest.mark.parametrize("of_fork", [True, False])
def test_an_expression_is_valued_after_its_process_was_killed(of_fork):
    with Verifier("math") as verifier:
        assert verifier.equal("x+1", "1+x")
        (parent,) = loaded(verifier)
        os.kill(*forks(parent) if of_fork else [parent], signal.SIGKILL)
        answers, truths, right = expressions(4)
        assert verifier.check_many(answers, truths) == right
        assert verifier.facts() == UNDISTURBED


@needs_proc
def test_killing_a_busy_process_changes_no_verdict():
    answers, truths, right = expressions(60)
    killed = []
    with Verifier("math") as verifier:
        assert verifier.equal("x+1", "1+x")
        done = threading.Event()

        def kill():
            # Two deaths cannot be an item's own doing, wherever they fall.
            while len(killed) < 2 and not done.wait(0.1):
                for pid in [p for p in loaded(verifier) if os.path.exists(f"/proc/{p}")][:1]:
                    for fork in forks(pid):
                        os.kill(fork, signal.SIGKILL)
                        killed.append(fork)

        thread = threading.Thread(target=kill)
        thread.start()
        found = verifier.check_many(answers, truths)
        done.set()
        thread.join()
        assert found == right
        assert killed and verifier.facts() == UNDISTURBED


@needs_proc
@pytest.mark.parametrize("of_fork", [True, False])
def test_a_stopped_process_is_continued_and_that_time_does_not_count(of_fork):
    with Verifier("math", timeout_s=1.0) as verifier:
        assert verifier.equal("x+1", "1+x")
        started = loaded(verifier)
        for pid in forks(*started) if of_fork else [*started, *forks(*started)]:
            os.kill(pid, signal.SIGSTOP)
        assert verifier.equal("x^2+1", "1+x^2")
        # It was waited for, not replaced. A second one may have come to help on a busy machine.
        assert set(started) <= set(loaded(verifier))
        assert verifier.facts() == UNDISTURBED


@needs_proc
def test_an_expression_that_uses_up_its_processor_time_costs_a_fork_only():
    with Verifier("math", timeout_s=0.1) as verifier:
        verifier._workers.load()
        started = loaded(verifier)
        # Each term is ordinary; there are too many of them for a tenth of a second.
        answer = "+".join(rf"C_{{{k}}} t^{{{k}}} e^{{-{k}t}}" for k in range(2, 40))
        assert verifier.check_many([answer, answer], ["7", answer]) == [False, True]
        assert verifier.facts() == {"verifier_timeouts": 1, "verifier_crashes": 0}
        assert loaded(verifier) == started


def test_after_a_few_slow_answers_to_one_truth_the_rest_is_not_waited_for(calls):
    slow = [f"slow-{k}" for k in range(6)]
    with Verifier("faulty_equality:same", timeout_s=0.5) as verifier:
        # The order of the answers does not matter: the short ones are asked first.
        answers = [*slow[::-1], "t", "u", "slow-0"]
        right = verifier.check_many(answers, ["t"] * 8 + ["u"])
        assert right == [*[False] * 6, True, False, False]
        assert verifier.facts() == {"verifier_timeouts": 7, "verifier_crashes": 0}
        asked = [
            "t",
            "u",
            *(f"slow-{k}" for k in range(MOST_SLOW) for _ in range(2)),
            *["slow-0"] * 2,
        ]
        assert sorted(calls()) == sorted(asked)  # each slow one once more, alone
        # Of a question's own calls it is known which ones were slow.
        assert verifier.check_many(answers, ["t"] * 8 + ["u"]) == right
        assert len(calls()) == len(asked)


def test_there_are_no_more_processes_than_cores():
    with Verifier("math") as verifier:
        answers, truths, right = expressions(80)
        assert verifier.check_many(answers, truths) == right
        assert len(loaded(verifier)) <= len(os.sched_getaffinity(0))


@needs_proc
def test_no_process_outlives_a_killed_parent():
    script = (
        "import os, signal\n"
        "from pivottrace.verifier import Verifier\n"
        "verifier = Verifier('math')\n"
        "verifier.equal('x+1', '1+x')\n"
        "pid = verifier._workers._children[0]._process.pid\n"
        "print(pid, open(f'/proc/{pid}/task/{pid}/children').read(), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment, timeout=120
    )
    left = [int(pid) for pid in done.stdout.split()]
    assert len(left) == 2
    deadline = time.monotonic() + 20
    while any(map(_is_running, left)):
        assert time.monotonic() < deadline, "a process outlived its killed parent"
        time.sleep(0.1)


def _is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
