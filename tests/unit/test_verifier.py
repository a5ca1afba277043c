"""The verifier: verdicts against hand-made and independent truths, and its process management."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction
from itertools import pairwise

import pytest

from pivottrace.errors import ConfigError, DataError
from pivottrace.verifier import Verifier

USER_MODULE = """
import os, time

def close(answer, truth):
    print("noise on stdout")
    return abs(float(answer) - float(truth)) < 0.5

def sleepy(answer, truth):
    if answer == "slow":
        time.sleep(60)
    return answer == truth

def forgetful(answer, truth):
    answer == truth

def fatal(answer, truth):
    os._exit(7)

def pid(answer, truth):
    return str(os.getpid()) == answer

def hungry(answer, truth):
    return len(bytearray(int(answer))) == int(truth)

not_callable = 3
"""


@pytest.fixture(scope="module")
def maths():
    with Verifier("math", timeout_s=20.0) as verifier:
        yield verifier


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    (tmp_path / "my_equality.py").write_text(USER_MODULE)
    (tmp_path / "broken_module.py").write_text("raise RuntimeError('half written')")
    monkeypatch.syspath_prepend(tmp_path)


def _running(verifier):
    return [child._process for child in verifier._workers._children.values()]


EQUAL = [
    ("18", "18.0"),
    ("1,234", "1234"),
    ("1 234", "1234"),
    (r"1{,}234", "1234"),
    ("$18", "18 dollars"),
    ("18 dollars per hour", r"\$18"),
    ("18 dollars a day", "18"),
    ("10 sec", "10"),
    ("4 meters squared", "4"),
    ("5 square m", "5"),
    ("60 km per h", "60"),
    ("30 degrees F", "30"),
    ("4 third graders", "4"),
    (r"5\text{ }", "5"),
    ("3 buses", "3"),
    (r"5\text{ square meters}", "5"),
    ("007", "7"),
    ("1/2", "0.5"),
    (r"\frac12", r"\dfrac{1}{2}"),
    ("0.333333", "1/3"),
    ("2 1/2", "2.5"),
    (r"-2\frac{1}{2}", "-5/2"),
    ("10**12", "1000000000000"),
    ("2^10", "1024"),
    ("1e3", "1000"),
    ("50%", r"\frac{1}{2}"),
    ("x^2 + 1", "1 + x^2"),
    ("x = 5", "5"),
    ("(1, 2)", "1 < x < 2"),
    (r"\{1, 2\}", "2, 1"),
    ("2pi", r"2\pi"),
    ("sqrt(8)", r"2\sqrt{2}"),
    (r"30^\circ", "30 degrees"),
    (r"\text{Evelyn}", "evelyn"),
    ("−5", "-5"),
]

DIFFERENT = [
    ("18", "19"),
    ("0.5", "0.51"),
    ("listen", "silent"),  # math-verify alone: equal, as products of the same letters
    ("2 1/2", "3/2"),  # math-verify alone: equal
    ("1 234", "235"),  # math-verify alone: equal
    ("3 pm", "3 am"),  # math-verify alone: equal
    ("3:30", "1:10"),  # math-verify alone: equal, as ratios
    ("5 million", "5"),
    ("2 cos x", "2"),
    ("2 sec x", "2"),
    ("5 minus x", "5"),
    ("5 factorial", "5"),
    ("4 squared", "4"),
    ("3 thirds", "3"),
    ("3 sixteenths of it", "3"),
    ("2 cot theta", "2"),
    ("5 times x", "5"),
    ("two of 18", "18"),
    ("(1, 2)", "[1, 2]"),
    ("1, 2", "12"),
    ("no idea", "18"),
    ("", ""),
    ("18", ""),
]


@pytest.mark.parametrize(("a", "b"), EQUAL)
def test_equal_in_both_orders(maths, a, b):
    assert maths.check_many([a, b], [b, a]) == [True, True]
    assert maths.equal(a, a)


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_different_in_both_orders(maths, a, b):
    assert maths.check_many([a, b], [b, a]) == [False, False]


def test_fractions_agree_with_exact_arithmetic(maths):
    generator = random.Random(0)
    numbers = [(generator.randint(-9, 9), generator.randint(1, 6)) for _ in range(80)]
    pairs, truths = [], []
    for (p, q), (r, s) in pairwise(numbers):
        pairs.append((f"{p}/{q} + 1", rf"1 + \frac{{{r}}}{{{s}}}"))
        pairs.append((f"({p}/{q}) * 2", rf"2 \cdot \frac{{{3 * p}}}{{{3 * q}}}"))
        truths += [Fraction(p, q) == Fraction(r, s), True]
    answers, golds = zip(*pairs, strict=True)
    assert maths.check_many(answers, golds) == truths


def test_check_many_counts_none_as_wrong(maths):
    truths = ["1/2", "3", "3", "x"]
    assert maths.check_many(["0.5", None, "4", "x"], truths) == [True, False, False, True]
    assert maths.check_many([], []) == []
    with pytest.raises(DataError, match="2 answers against 1 truths"):
        maths.check_many(["1", "2"], ["1"])


def test_exact_and_choice_need_no_process():
    exact, choice = Verifier("exact"), Verifier("choice")
    assert exact.equal("New  York", " New York")
    assert not exact.equal("18", "18.0")
    assert not exact.equal("Yes", "yes")
    assert not exact.equal("", "")
    assert choice.check_many(
        ["(B)", "b.", "C", None, "A cat"], ["B", "B. Paris", "B", "B", "A"]
    ) == [*(True, True, False, False, False)]
    assert not _running(exact) and not _running(choice)


def test_plain_numbers_start_no_process():
    with Verifier("math") as verifier:
        assert verifier.equal("$1,234.50", "1234.5")
        assert not verifier.equal("17", "18")
        assert not _running(verifier)


def test_an_answer_that_takes_too_long_is_wrong_and_is_not_tried_again(user_module):
    # A stand-in that sleeps: it takes the place of an expression that would not end.
    with Verifier("my_equality:sleepy", timeout_s=0.5) as verifier:
        assert verifier.equal("a", "a")  # started: what follows is only the time-out
        start = time.monotonic()
        assert not verifier.equal("slow", "1")
        assert time.monotonic() - start < 3.0
        assert verifier.equal("b", "b")  # restarted after the kill
        start = time.monotonic()
        assert not verifier.equal("slow", "1")
        assert time.monotonic() - start < 0.1
        assert verifier.timeouts == 1


def test_long_and_unbalanced_answers_start_no_process():
    with Verifier("math") as verifier:
        assert not verifier.equal("{" * 100_000, "1")
        assert not verifier.equal("1" * 2_000, "1")
        assert not _running(verifier)


def test_a_timed_out_pair_leaves_its_batch_whole(user_module):
    with Verifier("my_equality:sleepy", timeout_s=0.5) as verifier:
        pairs = [("a", "a"), ("slow", "slow"), ("b", "b"), ("b", "c"), ("slow", "x"), ("d", "d")]
        answers, truths = zip(*pairs, strict=True)
        assert verifier.check_many(answers, truths) == [True, False, True, False, False, True]
        assert verifier.facts() == {"verifier_timeouts": 2, "verifier_crashes": 0}


def test_close_and_garbage_collection_leave_no_process(user_module):
    verifier = Verifier("my_equality:close")
    verifier.equal("1", "2")
    closed = _running(verifier)[0]
    verifier.close()
    verifier.close()
    assert closed.returncode == -signal.SIGKILL  # reaped: no zombie
    assert verifier.equal("3", "3.1")  # usable again
    collected = _running(verifier)[0]
    del verifier
    assert collected.returncode == -signal.SIGKILL


def test_user_function_gets_answer_and_truth(user_module):
    with Verifier("my_equality:close") as verifier:
        assert verifier.check_many(["1.2", None, "9"], ["1", "1", "1"]) == [True, False, False]
        assert not verifier.equal("", "1")  # an empty answer is never right, whatever the function


def test_user_function_runs_elsewhere(user_module):
    with Verifier("my_equality:pid") as verifier:
        assert not verifier.equal(str(os.getpid()), "x")


def test_user_function_errors_name_function_and_pair(user_module):
    with Verifier("my_equality:close") as verifier:
        with pytest.raises(
            DataError, match=r"'my_equality:close' raised ValueError: .*'five' at pair 2 "
        ):
            verifier.check_many(["1", None, "five", "six"], ["1"] * 4)
        assert verifier.equal("1", "1.1")  # the failed batch left nothing behind
    with Verifier("my_equality:forgetful") as verifier, pytest.raises(DataError, match="None"):
        verifier.equal("1", "2")
    with Verifier("my_equality:fatal") as verifier, pytest.raises(DataError, match="ended its pro"):
        verifier.equal("1", "2")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_AS is Linux's")
def test_memory_is_limited(user_module):
    with Verifier("my_equality:hungry", memory_bytes=256 * 1024**2) as verifier:
        assert verifier.equal(str(2**20), str(2**20))
        with pytest.raises(DataError, match="raised MemoryError"):
            verifier.equal(str(2**30), str(2**30))


def test_an_orphaned_comparison_ends_itself(user_module):
    script = (
        "import os, signal, threading\n"
        "from pivottrace.verifier import Verifier\n"
        "verifier = Verifier('my_equality:sleepy', timeout_s=1.0)\n"
        "verifier.equal('a', 'a')\n"
        "print(verifier._workers._children[0]._process.pid, flush=True)\n"
        "threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGKILL)).start()\n"
        "verifier.equal('slow', 'slow')\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment, timeout=120
    )
    assert done.returncode == -signal.SIGKILL
    child = int(done.stdout)
    deadline = time.monotonic() + 10
    while _is_running(child):
        assert time.monotonic() < deadline, "the child outlived its killed parent"
        time.sleep(0.1)


def _is_running(pid):
    """Whether a process exists and is no zombie (that its new parent has yet to reap)."""
    state = subprocess.run(
        ["ps", "-o", "state=", "-p", str(pid)], stdout=subprocess.PIPE, text=True
    )
    return state.stdout.strip() not in ("", "Z")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no_such_module_here:f", "no module named 'no_such_module_here'"),
        ("my_equality:absent", "module my_equality has no function 'absent'"),
        ("my_equality:not_callable", "has no function 'not_callable'"),
        ("broken_module:f", "importing broken_module raised RuntimeError: half written"),
    ],
)
def test_unloadable_function_is_a_configuration_error(user_module, kind, message):
    with Verifier(kind) as verifier:
        for _ in range(2):  # the second try fails the same way, not on a closed pipe
            with pytest.raises(ConfigError, match=message):
                verifier.equal("1", "2")


@pytest.mark.parametrize(
    "kind", ["maths", "", "module", "module:", ":f", "a b:c", "os:system('x')"]
)
def test_unknown_kind_is_refused(kind):
    choices = r"use math, exact, choice, reasoning-gym or package\.module:function"
    with pytest.raises(ConfigError, match=choices):
        Verifier(kind)


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_time_limit_is_refused(timeout_s):
    with pytest.raises(ConfigError, match="positive number"):
        Verifier("math", timeout_s)


def test_threads_share_one_verifier(maths):
    results = {}

    def ask(number):
        pairs = [(f"{number}/7", rf"\frac{{{k}}}{{7}}") for k in range(6)]
        answers, truths = zip(*pairs, strict=True)
        results[number] = maths.check_many(answers, truths)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: [n == k for k in range(6)] for n in range(6)}


def test_a_fork_works_while_a_thread_of_the_parent_compares():
    code = """
import os, signal, sys, threading
from pivottrace.verifier import Verifier

with Verifier("exact") as verifier:
    inside, leave = threading.Event(), threading.Event()

    def compare():
        with verifier._lock:
            inside.set()
            leave.wait()

    thread = threading.Thread(target=compare)
    thread.start()
    inside.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        with verifier._lock:
            os._exit(5)
    leave.set()
    thread.join()
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 5


def test_lone_surrogates_survive_the_pipe(maths):
    assert not maths.equal("x^2 + \ud83d", "x^2")


def test_works_with_closed_standard_streams_and_loads_no_torch():
    script = (
        "import os, sys\n"
        "os.close(0); os.close(1)\n"
        "from pivottrace.verifier import Verifier\n"
        "verifier = Verifier('math')\n"  # not closed: the exit must end the child
        "right = verifier.equal('x + x', '2x') and not verifier.equal('x', '2x')\n"
        "heavy = {'torch', 'numpy', 'sympy', 'transformers'} & set(sys.modules)\n"
        "print(verifier._workers._children[0]._process.pid, right, heavy, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    pid, *rest = done.stderr.split()
    assert rest == ["True", "set()"]
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
