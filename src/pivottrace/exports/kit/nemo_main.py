"""Start NeMo-RL's GRPO with the parts of this export. It takes the arguments of run_grpo.py.

It is started in NeMo-RL's own folder, whose `examples/run_grpo.py` does the work.
"""

import runpy
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))

from nemo_pivottrace import row_processor
from nemo_rl.data.processors import register_processor
from nemo_rl.distributed.ray_actor_environment_registry import ACTOR_ENVIRONMENT_REGISTRY
from nemo_rl.distributed.virtual_cluster import PY_EXECUTABLES
from nemo_rl.environments.utils import register_env

NAME = "pivottrace"
ACTOR = "nemo_pivottrace.PivotTraceEnvironment"

if __name__ == "__main__":
    register_processor(NAME, row_processor)
    register_env(NAME, ACTOR)
    ACTOR_ENVIRONMENT_REGISTRY[ACTOR] = PY_EXECUTABLES.SYSTEM
    runpy.run_path("examples/run_grpo.py", run_name="__main__")
