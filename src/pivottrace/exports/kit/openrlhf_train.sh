#!/usr/bin/env bash
# Train with OpenRLHF on the rows of this folder, by the settings of the run that it comes from.
# Written for OpenRLHF 0.11.2, whose Python needs math-verify beside it. Arguments go to OpenRLHF:
#   MODEL=my/model GPUS=8 ./train.sh --ckpt.save_steps 20
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
case $here in
*[,@]*)
  echo "OpenRLHF splits paths at , and @. Move this folder to a path without them: $here" >&2
  exit 2
  ;;
esac

MODEL=${MODEL:-@MODEL@} # a folder or a Hub id
if [ "$MODEL" = embedded ]; then
  echo "give MODEL: the model embedded in PivotTrace is not one that OpenRLHF can load" >&2
  exit 2
fi
: "${GPUS:=1}" "${NODES:=1}"
: "${OUT:=$PWD/checkpoints}"
: "${PYTHON:=python3}"

arguments=(
  --data.prompt_dataset "$here/train.parquet"
  --data.input_key input
  --data.label_key label
  --data.apply_chat_template
  --data.max_len @TOTAL_TOKENS@ # of prompt and response; longer prompts are cut on the left
  --eval.dataset "$here/@VALIDATION@"
  --eval.steps @TEST_STEPS@
  --eval.n_samples_per_prompt @EVALUATE_SAMPLES@
  --eval.temperature @EVALUATE_TEMPERATURE@
  --reward.remote_url "$here/reward.py"
  --algo.advantage.estimator @ESTIMATOR@ # with dr_grpo a weight stays in the advantage
  --algo.kl.init_coef @BETA@
  @KL_LOSS@
  --actor.model_name_or_path "$MODEL"
  --actor.loss_agg_mode @LOSS@
  --actor.adam.lr @LEARNING_RATE@
  --actor.lr_scheduler constant_with_warmup
  --actor.lr_warmup_ratio @WARMUP@
  --actor.max_norm @MAX_GRAD_NORM@
  --actor.num_nodes "$NODES"
  --actor.num_gpus_per_node "$GPUS"
  --ref.num_nodes "$NODES"
  --ref.num_gpus_per_node "$GPUS"
  --vllm.num_engines "$GPUS"
  --vllm.tensor_parallel_size 1
  --vllm.sync_backend nccl
  --train.colocate_all
  --vllm.enable_sleep
  --ds.enable_sleep
  --ds.lora.rank @LORA_RANK@
  --ds.lora.alpha @LORA_ALPHA@
  --ds.lora.target_modules @LORA_TARGET@
  --rollout.batch_size @BATCH@
  --rollout.n_samples_per_prompt @NUM_GENERATIONS@
  --rollout.max_new_tokens @RESPONSE_TOKENS@
  --rollout.temperature @TEMPERATURE@
  --train.batch_size @RESPONSES@
  --train.num_episodes @EPISODES@ # passes over the rows; the run has @STEPS@ steps
  --train.seed @SEED@
  --ckpt.output_dir "$OUT/model"
  --ckpt.path "$OUT"
  --ckpt.save_steps @SAVE_STEPS@
)

exec "$PYTHON" -m openrlhf.cli.train_ppo_ray "${arguments[@]}" "$@"
