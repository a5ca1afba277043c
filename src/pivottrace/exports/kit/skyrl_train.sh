#!/usr/bin/env bash
# Train with SkyRL on the rows of this folder, by the settings of the run that it comes from.
# Written for SkyRL's source of August 2026. Start it in SkyRL's own folder; arguments go to SkyRL:
#   MODEL=my/model GPUS=4 .../train.sh trainer.epochs=3
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

MODEL=${MODEL:-@MODEL@} # a folder or a Hub id
if [ "$MODEL" = embedded ]; then
  echo "give MODEL: the model embedded in PivotTrace is not one that SkyRL can load" >&2
  exit 2
fi
: "${GPUS:=1}"
: "${PROMPT_TOKENS:=@PROMPT_TOKENS@}" # longer prompts are left out, and SkyRL says how many are left
: "${OUT:=$PWD/checkpoints}"
: "${PYTHON:=uv run --isolated --extra fsdp --with math-verify}" # may be several words

arguments=(
  data.train_data="['$here/train.parquet']"
  data.val_data="['$here/@VALIDATION@']"
  environment.env_class=pivottrace
  trainer.policy.model.path="$MODEL"
  trainer.algorithm.advantage_estimator=grpo
  trainer.algorithm.grpo_norm_by_std=@NORMALISE@ # with false a weight stays in the advantage
  trainer.algorithm.loss_reduction=@LOSS@
  trainer.algorithm.max_seq_len=@LONGEST@
  trainer.algorithm.use_kl_loss=@USE_KL@
  trainer.algorithm.kl_loss_coef=@BETA@
  trainer.policy.optimizer_config.lr=@LEARNING_RATE@
  trainer.policy.optimizer_config.num_warmup_steps=@WARMUP_STEPS@
  trainer.policy.optimizer_config.weight_decay=0.0
  trainer.policy.optimizer_config.max_grad_norm=@MAX_GRAD_NORM@
  trainer.policy.model.lora.rank=@LORA_RANK@
  trainer.policy.model.lora.alpha=@LORA_ALPHA@
  trainer.train_batch_size=@BATCH@
  trainer.policy_mini_batch_size=@BATCH@
  trainer.max_training_steps=@STEPS@
  trainer.epochs=@STEPS@ # an epoch has at least one step, so the number of steps decides
  trainer.max_prompt_length="$PROMPT_TOKENS"
  trainer.eval_before_train=@TEST_FIRST@
  trainer.eval_interval=@TEST_STEPS@
  trainer.ckpt_interval=@SAVE_STEPS@
  trainer.ckpt_path="$OUT"
  trainer.seed=@SEED@
  trainer.logger=console
  trainer.placement.colocate_all=true
  trainer.placement.policy_num_gpus_per_node="$GPUS"
  trainer.placement.ref_num_gpus_per_node="$GPUS"
  generator.inference_engine.num_engines="$GPUS"
  generator.inference_engine.tensor_parallel_size=1
  generator.n_samples_per_prompt=@NUM_GENERATIONS@
  generator.sampling_params.temperature=@TEMPERATURE@
  generator.sampling_params.max_generate_length=@RESPONSE_TOKENS@
  generator.eval_n_samples_per_prompt=@EVALUATE_SAMPLES@
  @TEMPLATE_ARGUMENTS@
  generator.batched=false # an environment scores each response
)

# shellcheck disable=SC2086
exec $PYTHON "$here/skyrl_main.py" "${arguments[@]}" "$@"
