#!/usr/bin/env bash
# Train with NeMo-RL on the rows of this folder, by the settings of the run that it comes from.
# Written for NeMo-RL's source of August 2026. Start it in NeMo-RL's own folder; arguments go to it:
#   MODEL=my/model GPUS=8 .../train.sh policy.train_micro_batch_size=2
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

MODEL=${MODEL:-@MODEL@} # a folder or a Hub id
if [ "$MODEL" = embedded ]; then
  echo "give MODEL: the model embedded in PivotTrace is not one that NeMo-RL can load" >&2
  exit 2
fi
: "${GPUS:=1}" "${NODES:=1}"
: "${CONFIG:=examples/configs/grpo_math_1B.yaml}" # the settings that this script does not name
: "${OUT:=$PWD/checkpoints}"
: "${PYTHON:=uv run}" # may be several words
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"

arguments=(
  data.train.dataset_name=nemo_pivottrace.Rows
  ++data.train.data_path="'$here/train.parquet'"
  data.train.split_validation_size=0
  data.validation="{dataset_name: nemo_pivottrace.Rows, data_path: '$here/@VALIDATION@'}"
  data.default.prompt_file=null
  data.default.processor=pivottrace
  data.default.env_name=pivottrace
  ++env.pivottrace='{}'
  policy.model_name="'$MODEL'"
  policy.tokenizer.chat_template_kwargs=@TEMPLATE_ARGUMENTS@
  policy.max_total_sequence_length=@TOTAL_TOKENS@
  policy.train_global_batch_size=@RESPONSES@
  policy.max_grad_norm=@MAX_GRAD_NORM@
  policy.optimizer.kwargs.lr=@LEARNING_RATE@
  policy.optimizer.kwargs.weight_decay=0.0
  policy.scheduler.0.kwargs.total_iters=@WARMUP_STEPS@
  policy.scheduler.2.milestones='[@WARMUP_STEPS@]'
  policy.generation.max_new_tokens=@RESPONSE_TOKENS@
  policy.generation.temperature=@TEMPERATURE@
  policy.generation.stop_strings=@STOP@
  grpo.num_prompts_per_step=@BATCH@
  grpo.num_generations_per_prompt=@NUM_GENERATIONS@
  grpo.max_num_steps=@STEPS@
  grpo.max_num_epochs=@STEPS@ # an epoch has at least one step, so the number of steps decides
  grpo.normalize_rewards=@NORMALISE@ # with false a weight stays in the advantage
  grpo.use_leave_one_out_baseline=false
  grpo.seed=@SEED@
  grpo.val_at_start=@TEST_FIRST@
  grpo.val_period=@TEST_STEPS@
  grpo.val_num_generations_per_prompt=@EVALUATE_SAMPLES@
  loss_fn.reference_policy_kl_penalty=@BETA@
  loss_fn.token_level_loss=@PER_TOKEN@
  checkpointing.checkpoint_dir="'$OUT'"
  checkpointing.save_period=@SAVE_STEPS@
  checkpointing.metric_name=null # keep the latest; held-out questions are not tested at each save
  cluster.gpus_per_node="$GPUS"
  cluster.num_nodes="$NODES"
)

# shellcheck disable=SC2086
exec $PYTHON "$here/nemo_main.py" --config "$CONFIG" "${arguments[@]}" "$@"
