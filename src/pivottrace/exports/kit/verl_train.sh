#!/usr/bin/env bash
# Train with verl on the rows of this folder, by the settings of the run that it comes from.
# Written for verl 0.9.1, whose Python needs math-verify beside verl. Arguments go to verl:
#   MODEL=my/model GPUS=8 ./train.sh trainer.total_training_steps=50
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

MODEL=${MODEL:-@MODEL@} # a folder or a Hub id
if [ "$MODEL" = embedded ]; then
  echo "give MODEL: the model embedded in PivotTrace is not one that verl can load" >&2
  exit 2
fi
: "${GPUS:=1}" "${NODES:=1}" "${TENSOR_PARALLEL:=1}"
: "${ENGINE:=vllm}"       # generates the responses: vllm or sglang
: "${PROMPT_TOKENS:=@PROMPT_TOKENS@}" # longer prompts are left out, and verl says how many
: "${OUT:=$PWD/checkpoints}"
: "${PYTHON:=python3}"
# A pass must hold at least one prompt with its response; verl's own limit is 16384 tokens.
tokens=$((PROMPT_TOKENS + @RESPONSE_TOKENS@))
if [ "$tokens" -lt 16384 ]; then tokens=16384; fi

# Hydra reads a value in single quotes as one text, whatever is in it.
arguments=(
  data.train_files="'$here/train.parquet'"
  data.val_files="'$here/@VALIDATION@'"
  data.train_batch_size=@BATCH@
  data.max_prompt_length="$PROMPT_TOKENS"
  data.max_response_length=@RESPONSE_TOKENS@
  data.filter_overlong_prompts=True
  data.seed=@SEED@
  @TEMPLATE_ARGUMENTS@
  reward.custom_reward_function.path="'$here/reward.py'"
  reward.custom_reward_function.name=compute_score
  algorithm.adv_estimator=@ESTIMATOR@
  algorithm.norm_adv_by_std_in_grpo=@NORMALISE@ # with False a weight stays in the advantage
  algorithm.use_kl_in_reward=False
  actor_rollout_ref.model.path="'$MODEL'"
  actor_rollout_ref.model.lora_rank=@LORA_RANK@
  actor_rollout_ref.model.lora_alpha=@LORA_ALPHA@
  actor_rollout_ref.model.target_modules=@LORA_TARGET@
  actor_rollout_ref.model.enable_gradient_checkpointing=@CHECKPOINTING@
  actor_rollout_ref.actor.optim.lr=@LEARNING_RATE@
  actor_rollout_ref.actor.optim.lr_warmup_steps=@WARMUP_STEPS@
  actor_rollout_ref.actor.optim.weight_decay=0.0
  actor_rollout_ref.actor.grad_clip=@MAX_GRAD_NORM@
  actor_rollout_ref.actor.ppo_mini_batch_size=@BATCH@
  actor_rollout_ref.actor.use_dynamic_bsz=@DYNAMIC@ # passes of as many tokens as fit the limit
  actor_rollout_ref.actor.ppo_max_token_len_per_gpu="$tokens"
  actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=@MICRO_BATCH@
  actor_rollout_ref.actor.use_kl_loss=@USE_KL@
  actor_rollout_ref.actor.kl_loss_coef=@BETA@
  actor_rollout_ref.actor.loss_agg_mode=@LOSS@
  actor_rollout_ref.rollout.name="$ENGINE"
  actor_rollout_ref.rollout.tensor_model_parallel_size="$TENSOR_PARALLEL"
  actor_rollout_ref.rollout.n=@NUM_GENERATIONS@
  actor_rollout_ref.rollout.temperature=@TEMPERATURE@
  actor_rollout_ref.rollout.seed=@SEED@
  actor_rollout_ref.rollout.log_prob_use_dynamic_bsz=@DYNAMIC@
  actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=@MICRO_BATCH@
  actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=@MICRO_BATCH@
  actor_rollout_ref.rollout.val_kwargs.n=@EVALUATE_SAMPLES@
  actor_rollout_ref.rollout.val_kwargs.do_sample=True
  actor_rollout_ref.rollout.val_kwargs.temperature=@EVALUATE_TEMPERATURE@
  actor_rollout_ref.rollout.val_kwargs.top_p=@EVALUATE_TOP_P@
  trainer.n_gpus_per_node="$GPUS"
  trainer.nnodes="$NODES"
  trainer.total_training_steps=@STEPS@
  trainer.total_epochs=@STEPS@ # an epoch has at least one step, so the number of steps decides
  trainer.test_freq=@TEST_STEPS@
  trainer.val_before_train=@TEST_FIRST@
  trainer.save_freq=@SAVE_STEPS@
  trainer.default_local_dir="'$OUT'"
  trainer.project_name=pivottrace
  trainer.logger='["console"]'
)

# On one machine verl starts Ray anew, unless RAY_ADDRESS says otherwise. By itself Ray would join
# any cluster of this machine, even one that a killed program has left its note of.
if [ "$NODES" = 1 ]; then export RAY_ADDRESS=${RAY_ADDRESS:-local}; fi
# Ray counts a core for each of verl's actors, although most of them wait. With too few cores verl
# would wait for ever and say nothing.
actors=$((16 + 3 * GPUS))
if [ "${RAY_ADDRESS:-}" = local ] && [ "$(nproc)" -lt "$actors" ]; then
  arguments+=(ray_kwargs.ray_init.num_cpus="$actors")
fi

# The estimator is a module that verl imports in each of its processes, here or on other machines.
external=@EXTERNAL@
if [ -n "${external:-}" ]; then
  export VERL_USE_EXTERNAL_MODULES=$external PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"
  arguments+=(
    ++ray_kwargs.ray_init.runtime_env.env_vars.VERL_USE_EXTERNAL_MODULES="$external"
    ++ray_kwargs.ray_init.runtime_env.env_vars.PYTHONPATH="'$PYTHONPATH'"
  )
fi

exec "$PYTHON" -m verl.trainer.main_ppo "${arguments[@]}" "$@"
