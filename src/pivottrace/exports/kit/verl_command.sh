#!/usr/bin/env bash
# Train with verl as `pivottrace run` does. In a copy of this folder on another machine, give that
# machine's own values: PYTHON=~/verl/bin/python MODEL=my/model GPUS=8 ./command.sh
# A second start goes on from the last checkpoint. Bring the folder `checkpoints` back when it ends.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
export PYTHON=${PYTHON:-@PYTHON@} MODEL=${MODEL:-@MODEL@}
export GPUS=${GPUS:-@GPUS@} ENGINE=${ENGINE:-@ENGINE@} OUT=$PWD/checkpoints

# Nothing is reported to anyone, unless you have set it otherwise.
export DO_NOT_TRACK=${DO_NOT_TRACK:-1} HF_HUB_DISABLE_TELEMETRY=${HF_HUB_DISABLE_TELEMETRY:-1}
export RAY_USAGE_STATS_ENABLED=${RAY_USAGE_STATS_ENABLED:-0}
export VLLM_NO_USAGE_STATS=${VLLM_NO_USAGE_STATS:-1}

# verl empties its file of metrics at each start, so each start has a file of its own.
mkdir -p metrics
export TENSORBOARD_DIR=$PWD/tensorboard VERL_FILE_LOGGER_PATH=$PWD/metrics/$(date +%s).jsonl

exec export/train.sh \
  hydra.run.dir=hydra \
  trainer.experiment_name=@NAME@ \
  trainer.logger=@LOGGER@ \
  trainer.max_actor_ckpt_to_keep=@KEPT@ \
  trainer.test_freq=@TEST_STEPS@ \
  trainer.val_before_train=@TEST_FIRST@ \
  data.val_max_samples=@TEST_SAMPLES@ \
  @ARGUMENTS@ \
  "$@"
