"""Say what an environment has that verl's trainer needs. That environment's own Python runs this.

It needs nothing of PivotTrace. Its last line is JSON. If an import of verl fails, the process ends
with Python's own message.
"""

import importlib
import importlib.metadata
import importlib.util
import json
import sys
from typing import Any

PACKAGES = ("verl", "torch", "transformers", "ray", "vllm", "sglang", "math-verify")
# Modules that the trainer or our reward imports. A plain `pip install verl` brings none of them.
NEEDED = ("transfer_queue", "cachetools", "fastapi", "uvicorn", "math_verify")
TRAINER = ("verl.trainer.main_ppo", "verl.trainer.ppo.v1")


def main(arguments: list[str], further: list[str]) -> dict[str, Any]:
    """The account of this environment.

    Args:
        arguments: Arguments of the trainer, which it must know.
        further: Further modules that it needs.

    Returns:
        `versions` of the packages that are here, names of `missing` modules, number of `gpus`, and
        `refused`: the trainer's complaint about an argument, or None. Without verl or with missing
        modules the trainer is not imported, and `gpus` is 0.
    """
    versions = dict(_versions())
    missing = [name for name in (*NEEDED, *further) if importlib.util.find_spec(name) is None]
    found: dict[str, Any] = {"versions": versions, "missing": missing, "gpus": 0, "refused": None}
    if "verl" not in versions or missing:
        return found
    for name in TRAINER:
        importlib.import_module(name)
    import torch

    return found | {"gpus": torch.cuda.device_count(), "refused": _refused(arguments)}


def _versions() -> Any:
    for name in PACKAGES:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue


def _refused(arguments: list[str]) -> str | None:
    """The first line of Hydra's complaint about the arguments; None if it takes them."""
    from hydra import compose, initialize_config_module
    from hydra.errors import HydraException

    try:
        with initialize_config_module("verl.trainer.config", version_base=None):
            compose("ppo_trainer", arguments)
    except HydraException as error:
        return str(error).strip().splitlines()[0]
    return None


if __name__ == "__main__":
    print(json.dumps(main(*json.loads(sys.argv[1]))))
