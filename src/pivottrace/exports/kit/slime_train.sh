#!/usr/bin/env bash
# The arguments of this export for slime, by the settings of the run that it comes from.
# Written for slime's source of August 2026. slime needs many more, which depend on your model and
# your machines. Give all of them here, in slime's own folder, with Ray running:
#   source scripts/models/qwen3-4B.sh
#   .../train.sh "${MODEL_ARGS[@]}" --hf-checkpoint ... --ref-load ... --actor-num-gpus-per-node 8
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
: "${PYTHON:=python3}"
: "${RAY_ADDRESS:=http://127.0.0.1:8265}"

arguments=(
  --prompt-data "$here/train.parquet"
  --input-key prompt
  --label-key label
  --metadata-key metadata
  --apply-chat-template
  --apply-chat-template-kwargs @TEMPLATE_ARGUMENTS@
  --rollout-shuffle
  --rollout-seed @SEED@
  --rollout-max-prompt-len @PROMPT_TOKENS@ # longer prompts are left out, and slime says how many
  --rollout-max-response-len @RESPONSE_TOKENS@
  --rollout-temperature @TEMPERATURE@
  --rollout-stop @STOP@
  --rollout-batch-size @BATCH@
  --n-samples-per-prompt @NUM_GENERATIONS@
  --global-batch-size @RESPONSES@
  --num-rollout @STEPS@
  --custom-rm-path slime_reward.reward
  --reward-key score
  --eval-reward-key acc
  --advantage-estimator grpo
  @NO_DIVISION@ # a weight stays in the advantage
  @PER_TOKEN@ # losses are averaged over tokens, not over responses first
  @KL@
  --eval-prompt-data held_out "$here/@VALIDATION@"
  --eval-interval @TEST_STEPS@
  --n-samples-per-eval-prompt @EVALUATE_SAMPLES@
  --eval-temperature @EVALUATE_TEMPERATURE@
  --lr @LEARNING_RATE@
  --lr-decay-style constant
  --lr-warmup-iters @WARMUP_STEPS@
  --weight-decay 0.0
  --clip-grad @MAX_GRAD_NORM@
  --save-interval @SAVE_STEPS@
)

environment=$("$PYTHON" - "$here" <<'CODE'
import json, os, sys
path = ":".join(filter(len, [sys.argv[1], os.environ.get("PYTHONPATH", "")]))
print(json.dumps({"env_vars": {"PYTHONPATH": path, "CUDA_DEVICE_MAX_CONNECTIONS": "1"}}))
CODE
)
exec ray job submit --address="$RAY_ADDRESS" --runtime-env-json="$environment" -- \
  "$PYTHON" train.py "${arguments[@]}" "$@"
