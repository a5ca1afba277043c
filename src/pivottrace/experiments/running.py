"""Run the missing arms and seeds of an experiment, each in its own process, at most two at once.

Seeds come in order, all arms of one seed before the next seed, so that the finished results are
balanced at any time. The base of the next seed is made one seed ahead. Every process has one
thread, whatever the number of processes, because on a CPU the last digit of a sum depends on it.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pivottrace.config import Config, dump_config
from pivottrace.errors import ConfigError, PivotTraceError, RunDirError
from pivottrace.experiments.definition import BASE, Experiment
from pivottrace.experiments.forking import fork
from pivottrace.experiments.jobs import Job, has_result, is_finished, missing_jobs, sharing
from pivottrace.experiments.results import (
    read_result,
    write_base_result,
    write_result,
    write_result_elsewhere,
)
from pivottrace.models.backends import SERVER
from pivottrace.run.directory import RunDir
from pivottrace.run.rounds import start_model
from pivottrace.run.storage import write_text

CHILD = "import sys; from pivottrace.cli import main; sys.exit(main())"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
MOST_PROCESSES = 2


@dataclass
class _State:
    """The state that the workers share."""

    experiment: Experiment
    total: int
    started: float = field(default_factory=time.monotonic)
    done: int = 0
    failures: list[str] = field(default_factory=list)
    held: int = -1  # file descriptor of the experiment's lock
    children: set[subprocess.Popen[bytes]] = field(default_factory=set)
    bases: dict[int, threading.Event] = field(default_factory=dict)
    stopping: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


def run_experiment(
    experiment: Experiment,
    processes: int = 1,
    arms: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
) -> None:
    """Run the arms and seeds that have no result yet; finished results are kept.

    Args:
        experiment: The experiment, from `load_experiment`.
        processes: Number of processes at once, 1 or 2.
        arms: Names of the arms to run; None means all.
        seeds: Seeds to run; None means all.

    Raises:
        ConfigError: An arm or seed is unknown, or a result was made with other settings.
        RunDirError: Another call is running, or arms failed. The message names their logs.
    """
    if not 1 <= processes <= MOST_PROCESSES:
        raise ConfigError(f"--processes {processes}: give 1 or {MOST_PROCESSES}")
    jobs = missing_jobs(experiment, arms, seeds)
    if not jobs:
        print("every arm and seed asked for has its result")
        return
    state = _State(experiment, total=len(jobs))
    state.bases = {job.seed: threading.Event() for job in jobs if job.name == BASE}
    for line in sharing(experiment, jobs):
        print(line)
    with (
        _only_call(experiment.output) as state.held,
        _ended_like_interrupted(),
        ThreadPoolExecutor(processes) as pool,
    ):
        tasks = [pool.submit(_work, state, job) for job in jobs]
        try:
            for task in tasks:
                task.result()
        except BaseException:
            _stop(state)
            raise
    if state.failures:
        raise RunDirError(
            f"{len(state.failures)} of {len(jobs)} jobs failed; the others have their results. "
            f"The same command tries these again:\n  " + "\n  ".join(state.failures)
        )


def _work(state: _State, job: Job) -> None:
    """Do one job; errors raised on purpose are noted and reported at the end."""
    if state.stopping:
        return
    started, title = time.monotonic(), f"seed {job.seed}  {job.name:<16}"
    try:
        if job.name == BASE:
            _make_base(state, job.seed)
        else:
            _make_arm(state, job)
    except PivotTraceError as error:
        with state.lock:
            if state.stopping:
                return
            state.done += 1
            state.failures.append(f"{job.name}, seed {job.seed}: {error}")
            print(f"{title} FAILED after {_clock(time.monotonic() - started)}", flush=True)
        return
    finally:
        if job.name == BASE:
            state.bases[job.seed].set()
    result = read_result(state.experiment, job.name, job.seed)
    if result is None:
        return
    with state.lock:
        state.done += 1
        ahead = (time.monotonic() - state.started) / state.done * (state.total - state.done)
        print(
            f"{title} {_clock(time.monotonic() - started):>8}  accuracy "
            f"{100 * result.counts.means.mean():.1f} %  ({state.done} of {state.total}, about "
            f"{_clock(ahead)} left)",
            flush=True,
        )


def _make_base(state: _State, seed: int) -> None:
    config = state.experiment.base_config(seed)
    _child(state, Job(BASE, seed), config, ("run", "--until", "sample"))
    _child(state, Job(BASE, seed), config, ("evaluate",))
    write_base_result(state.experiment, seed)
    _evaluate_elsewhere(state, Job(BASE, seed), config)


def _make_arm(state: _State, job: Job) -> None:
    experiment = state.experiment
    if job.seed in state.bases:
        state.bases[job.seed].wait()
        if not is_finished(experiment, BASE, job.seed):
            raise RunDirError(
                "the base run of this seed has no result, which every arm starts from"
            )
    arm = experiment.arm(job.name)
    run = fork(experiment, arm, job.seed)
    # A result belongs to its model: if the model is gone, both are made anew.
    if not (has_result(experiment, job.name, job.seed) and run.stage_facts("train").get("trained")):
        if arm.routes != "triage":
            from pivottrace.experiments.rival_routes import RIVALS

            if not run.is_done("sample"):
                _child(state, job, run.config, ("run", "--until", "sample"))
            RIVALS[arm.routes](run)
        _child(state, job, run.config, ("run",))
        write_result(experiment, job.name, job.seed)
    _evaluate_elsewhere(state, job, run.config)


def _evaluate_elsewhere(state: _State, job: Job, config: Config) -> None:
    """Evaluate the job's trained model, or the base's model, on the further held-out questions."""
    run = RunDir.open(config.output)
    model = start_model(run.in_round(config.rounds.num))
    for name in state.experiment.also_evaluate:
        there = state.experiment.elsewhere(name)
        if has_result(there, job.name, job.seed):
            continue
        # An existing run was cut short, or belongs to another model.
        shutil.rmtree(there.run_path(job.name, job.seed), ignore_errors=True)
        own = there.config_of(job.name, job.seed)
        train = own.train.model_copy(update={"enabled": False})
        # Training has seen the pool, so it is too late to drop questions from it.
        overlap = "refuse" if own.pool.on_overlap == "drop" else own.pool.on_overlap
        pool = own.pool.model_copy(update={"on_overlap": overlap})
        own = own.model_copy(update={"model": model, "train": train, "pool": pool})
        if model != config.model and own.rollouts.backend == SERVER:
            # A server has the model that the training started from.
            here = own.rollouts.model_copy(update={"backend": "transformers"})
            own = own.model_copy(update={"rollouts": here})
        _child(state, job, own, ("evaluate",), there)
        write_result_elsewhere(there, job.name, job.seed)


def _child(
    state: _State,
    job: Job,
    config: Config,
    command: Sequence[str],
    experiment: Experiment | None = None,
) -> None:
    """Run `pivottrace COMMAND` on a configuration, and append its output to the job's log.

    The log belongs to the given experiment; by default to the experiment of the state.

    Raises:
        RunDirError: The command failed. The message has the last line of its log and the log's
            path.
    """
    log = (experiment or state.experiment).log_path(job.name, job.seed)
    file = log.with_suffix(".toml")
    log.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, dump_config(config))
    line = [sys.executable, "-c", CHILD, command[0], str(file), *command[1:]]
    with log.open("ab") as output:
        output.write(f"$ pivottrace {shlex.join(line[3:])}\n".encode())
        output.flush()
        with state.lock:
            if state.stopping:
                return
            child = subprocess.Popen(
                line,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **ONE_THREAD},
                pass_fds=(state.held,),
            )
            state.children.add(child)
        code = child.wait()
        with state.lock:
            state.children.discard(child)
    if code != 0:
        raise RunDirError(f"{_last_line(log)} (exit code {code}; all of it: {log})")


def _last_line(log: Path) -> str:
    """Return the log's last error, or its last line."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or ["it printed nothing"])[-1].removeprefix("error: ")


def _stop(state: _State) -> None:
    """End the children that this call started; they keep their finished parts."""
    with state.lock:
        state.stopping = True
        for child in state.children:
            child.terminate()
    for event in state.bases.values():
        event.set()


@contextmanager
def _only_call(output: Path) -> Iterator[int]:
    """Lock the experiment for this call and for its children, which inherit the lock.

    Raises:
        RunDirError: Another call is running.
    """
    output.mkdir(parents=True, exist_ok=True)
    with (output / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunDirError(
                f"{output}: another call of pivottrace lab is running on it, or an arm that a "
                f"killed call has left running. Wait for it to end."
            ) from None
        yield file.fileno()


@contextmanager
def _ended_like_interrupted() -> Iterator[None]:
    """Treat SIGTERM like an interrupt, so that the children end with this call."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    was = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, was)


def _clock(seconds: float) -> str:
    """Return seconds as 4:05 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
