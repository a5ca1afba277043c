"""The environment of verl: a Python of its own, because verl pins other versions than we need."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from pivottrace.config import TrainConfig
from pivottrace.errors import ConfigError, counted

TESTED = "0.9.1"
SERIES = "0.9."
"""The releases of verl whose keys and files we know, by the start of their number."""
ENGINES = ("vllm", "sglang")
PROBE_S = 300.0  # loading torch, Ray and verl takes 10 s, and far longer from a slow disk
_SETTING = "train.verl_python"


@dataclass(frozen=True)
class VerlEnvironment:
    """An environment that can load verl's trainer.

    Attributes:
        python: Its Python.
        versions: Version by name of those packages that it has and that a result may depend on.
        num_gpus: CUDA devices that it sees.
    """

    python: Path
    versions: Mapping[str, str]
    num_gpus: int

    @property
    def engine(self) -> str | None:
        """The generator of the responses there: the first of `ENGINES` that is installed."""
        return next((name for name in ENGINES if name in self.versions), None)

    def in_words(self) -> str:
        """Its versions and devices: "verl 0.9.1 (torch 2.11.0, vllm 0.24.0) on 8 CUDA devices"."""
        others = [f"{n} {self.versions[n]}" for n in ("torch", *ENGINES) if n in self.versions]
        devices = counted(self.num_gpus, "CUDA device")
        return f"verl {self.versions['verl']} ({', '.join(others)}) on {devices}"

    def lacks(self) -> str | None:
        """The part that it lacks to train here, in words; None if nothing. It can always merge."""
        if not self.num_gpus:
            return f"{self.python} sees no CUDA device, and verl trains on one"
        if self.engine is None:
            return f"{self.python} has neither vllm nor sglang, and verl generates with one of them"
        return None


def verl_environment(config: TrainConfig) -> VerlEnvironment:
    """Ask the Python of `train.verl_python` what it has. It takes some ten seconds.

    Raises:
        ConfigError: It is missing or cannot run, verl is missing there or has another version, its
            trainer cannot be imported, or it refuses one of `train.verl_arguments`.
    """
    if config.verl_python is None:
        raise ConfigError(
            f'train.backend = "verl" needs {_SETTING}: the Python of an environment with verl, '
            f"such as ~/verl/bin/python"
        )
    # The link of a virtual environment is not followed: its place is what makes the environment.
    python = Path(config.verl_python).expanduser().absolute()
    tracker: list[str] = [] if config.tracker == "none" else [config.tracker]
    found = _answer(python, config.verl_arguments, tracker)
    version = found["versions"].get("verl")
    if version is None and Path(sys.prefix) in python.parents:
        raise ConfigError(
            f"{_SETTING}: {python} is PivotTrace's own, and verl pins other versions. Make an "
            f"environment for it: python3 -m venv ~/verl && ~/verl/bin/pip install "
            f"'verl[vllm]=={TESTED}' math-verify"
        )
    if version is None:
        raise ConfigError(f"{_SETTING}: {python} has no verl. {_install(python, 'vllm', TESTED)}")
    if not version.startswith(SERIES):
        raise ConfigError(
            f"{_SETTING}: {python} has verl {version}, and only {SERIES}x is known to fit. "
            f"{_install(python, 'vllm', TESTED)}"
        )
    if found["missing"]:
        further = "".join(f" {name}" for name in tracker if name in found["missing"])
        raise ConfigError(
            f"{_SETTING}: {python} lacks {' and '.join(found['missing'])}, which the training "
            f"imports. {_install(python, 'verl-core', version)}{further}"
        )
    if found["refused"] is not None:
        raise ConfigError(f"train.verl_arguments: verl {version} says: {found['refused']}")
    return VerlEnvironment(python, found["versions"], found["gpus"])


def _install(python: Path, extra: str, version: str) -> str:
    return f"Install it: {python} -m pip install 'verl[{extra}]=={version}' math-verify"


def _answer(python: Path, arguments: list[str], further: list[str]) -> dict[str, Any]:
    """The answer of the probe there."""
    if not python.is_file():
        raise ConfigError(
            f"{_SETTING} = {str(python)!r}: there is no such file. Give the Python of an "
            f"environment with verl, such as ~/verl/bin/python"
        )
    source = (files("pivottrace.training") / "verl_probe.py").read_text(encoding="utf-8")
    try:
        done = subprocess.run(
            [str(python), "-c", source, json.dumps([arguments, further])],
            cwd="/",  # Python imports from the working directory first
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROBE_S,
            check=False,
        )
        said = done.stdout.strip().splitlines()
        if done.returncode == 0 and said:
            return dict(json.loads(said[-1]))
    except OSError as error:
        raise ConfigError(f"{_SETTING}: {python} cannot be run ({error.strerror})") from error
    except subprocess.TimeoutExpired as error:
        raise ConfigError(
            f"{_SETTING}: {python} gave no answer within {PROBE_S:.0f} s. Try: {python} -c "
            f"'import verl.trainer.main_ppo'"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{_SETTING}: {python} does not answer as a Python does") from error
    lines = (done.stderr.strip() or "it said nothing").splitlines()
    raise ConfigError(
        f"{_SETTING}: verl's trainer cannot be imported by {python}: {lines[-1]} (exit code "
        f"{done.returncode})"
    )
