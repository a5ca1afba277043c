"""Start SkyRL with the environment of this export. Arguments are SkyRL's own."""

import sys
from pathlib import Path

import ray
from skyrl.train.config import SkyRLTrainConfig
from skyrl.train.entrypoints.main_base import BasePPOExp
from skyrl.train.utils import initialize_ray, validate_cfg
from skyrl_gym.envs import register


@ray.remote(num_cpus=1)
def train(config: SkyRLTrainConfig, folder: str) -> None:
    """Register the environment in the process that makes it, and train."""
    sys.path.append(folder)
    register(id="pivottrace", entry_point="skyrl_env:PivotTraceEnv")
    BasePPOExp(config).run()


def main() -> None:
    """Read the arguments, and train."""
    config = SkyRLTrainConfig.from_cli_overrides(sys.argv[1:])
    validate_cfg(config)
    initialize_ray(config)
    ray.get(train.remote(config, str(Path(__file__).resolve().parent)))


if __name__ == "__main__":
    main()
