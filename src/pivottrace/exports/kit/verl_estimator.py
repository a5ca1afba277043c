"""An estimator of advantages for verl that keeps the weights of rows under normalisation.

verl imports this module if VERL_USE_EXTERNAL_MODULES names it, and takes the estimator with
`algorithm.adv_estimator=pivottrace_grpo`. An estimator sees rewards only and no other column. The
rewards of a group are 0 or the row's weight, so the weight is the group's largest reward. GRPO
divides it out, and here it is put back. With any other reward in the sum, this would be wrong.
"""

from collections import defaultdict
from typing import Any

import torch
from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage, register_adv_est


@register_adv_est("pivottrace_grpo")
def pivottrace_grpo(
    token_level_rewards: torch.Tensor,
    response_mask: torch.Tensor,
    index: Any,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """GRPO on right and wrong, times the weight of the row.

    Args:
        token_level_rewards: (B, T) rewards, each response's at one of its tokens.
        response_mask: (B, T) 1 for tokens of the response.
        index: (B,) the group of each response.
        kwargs: Other arguments of verl's estimator, such as `norm_adv_by_std_in_grpo`.

    Returns:
        (B, T) advantages, and the same as returns.
    """
    scores = token_level_rewards.sum(dim=-1)  # (B,)
    weights: dict[Any, float] = defaultdict(float)
    for group, score in zip(index, scores.tolist(), strict=True):
        weights[group] = max(weights[group], score)
    factors = scores.new_tensor([weights[group] for group in index])  # (B,)
    advantages, _ = compute_grpo_outcome_advantage(
        (token_level_rewards > 0).to(token_level_rewards.dtype), response_mask, index, **kwargs
    )
    weighted = advantages * factors.unsqueeze(-1)
    return weighted, weighted
