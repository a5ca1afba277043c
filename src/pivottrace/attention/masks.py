"""What a model's attention mask says, without a T x T tensor.

`transformers` asks a mask function for the mask once a forward and hands the answer to every layer.
Ours answers with a small tensor: (B, T) integers, 0 at padding and the number of a `MaskSpec`
elsewhere. The number travels in the values because hooks may move or copy the tensor on its way to
a layer. Axes: B batch, T tokens, n consecutive queries.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers.masking_utils import sdpa_mask

from pivottrace.errors import ModelError


@dataclass(frozen=True)
class MaskSpec:
    """One mask of one forward.

    Attributes:
        key_valid: (B, T) True at real tokens.
        spans: For each sequence its first real token and the one after its last, where the mask is
            plain causal over that run of tokens; None where it is anything else.
        rows: `rows(start, stop)` is the mask of these queries, (B, 1 or H, n, T): boolean with True
            for "sees", or a float to add to the scores.
    """

    key_valid: torch.Tensor
    spans: tuple[tuple[int, int], ...] | None
    rows: Callable[[int, int], torch.Tensor]


def describe_mask(arguments: dict[str, Any]) -> MaskSpec:
    """Build a `MaskSpec` from the arguments that `transformers` passes to a mask function.

    Raises:
        ModelError: The queries are not the keys (a filled cache), which is not supported yet.
    """
    batch, length = arguments["batch_size"], arguments["kv_length"]
    offsets = (arguments.get("q_offset", 0), arguments.get("kv_offset", 0))
    if arguments["q_length"] != length or any(int(offset) for offset in offsets):
        raise ModelError(
            f"cannot trace {arguments['q_length']} queries against {length} cached keys: trace "
            "whole sequences in one forward with use_cache=False."
        )
    device = arguments.get("device", "cpu")
    padding = arguments.get("attention_mask")
    if padding is None:
        key_valid = torch.ones(batch, length, dtype=torch.bool, device=device)
    else:
        key_valid = padding[:, :length].to(device=device, dtype=torch.bool)
    # The same conditions under which `sdpa_mask` relies on `is_causal`, padding apart.
    local_size = arguments.get("local_size")
    is_plain = arguments.get("allow_is_causal_skip", True) and not arguments.get(
        "allow_is_bidirectional_skip", False
    )
    is_plain = is_plain and (local_size is None or length < local_size)

    def rows(start: int, stop: int) -> torch.Tensor:
        part = {**arguments, "q_length": stop - start, "q_offset": start}
        part |= {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
        return sdpa_mask(**part)

    return MaskSpec(key_valid, _contiguous_spans(key_valid) if is_plain else None, rows)


def dense_mask(mask: torch.Tensor) -> MaskSpec:
    """Wrap a ready-made (B, 1 or H, T, T) mask, boolean or additive."""
    sees = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
    return MaskSpec(sees.any(dim=1).any(dim=1), None, lambda start, stop: mask[:, :, start:stop])


def causal_mask(batch: int, length: int, device: torch.device) -> MaskSpec:
    """Describe plain causal attention without padding, for layers that get no mask."""
    return describe_mask(
        {"batch_size": batch, "q_length": length, "kv_length": length} | {"device": device}
    )


def _contiguous_spans(key_valid: torch.Tensor) -> tuple[tuple[int, int], ...] | None:
    """Return each row's (first, last + 1) real token; None if padding lies in between."""
    length = key_valid.shape[1]
    count = key_valid.sum(dim=-1)
    first = key_valid.int().argmax(dim=-1)
    last = length - 1 - key_valid.flip(-1).int().argmax(dim=-1)
    if bool(((count > 0) & (last - first + 1 != count)).any()):
        return None
    starts, counts = first.tolist(), count.tolist()
    return tuple((start, start + n) for start, n in zip(starts, counts, strict=True))
