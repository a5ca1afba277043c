"""State of one `trace_attention` block: masks of the current forward, and rows not yet read.

During decoding each step has one query per layer, which is not read at once. Queries and
log-sum-exps are kept until a block is full, and then read together off the cache's own keys. So
tracing costs two list entries per layer and token. Axes: B batch, H heads, n queries, S keys, R
runs, D head width.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import torch
import torch.nn.functional as F

from pivottrace.attention.continuity import Continuity
from pivottrace.attention.masks import CHUNKS_PACK, MaskSpec, causal_mask, dense_mask
from pivottrace.attention.reading import (
    QUERY_BLOCK,
    Landmarks,
    find_landmarks,
    read_band,
    read_rows,
)
from pivottrace.attention.recorder import Recorder
from pivottrace.attention.row_statistics import LocalAttention, Needs
from pivottrace.errors import ConfigError, ModelError

# Masks of one forward that may be in use at once. An architecture has one per layer type.
_MASKS_KEPT = 16


class EnoughError(Exception):
    """Raised inside a forward once the last layer that is read has run."""


@dataclass
class _Decoded:
    """Queries of one layer that have not been read yet, and the keys for reading them."""

    first: int  # key at which the first of them stands
    scaling: float
    queries: list[torch.Tensor] = field(default_factory=list)  # (B, H, 1, D) each
    log_sum_exps: list[torch.Tensor] = field(default_factory=list)  # (B, H, 1) each
    key: torch.Tensor | None = None  # (B, K, S, D)
    mask: MaskSpec | None = None


class Tracer:
    """Read the statistics of `recorder`, layer by layer.

    Args:
        recorder: It takes in the statistics.
        model_name: Name of the model in messages.
        prompt_lengths: Tokens of each question: (B,), or (B, R) of a packed row; None for all
            tokens of the first forward, which under `generate` is the prompt.
        stop_after: Layer after which the forward ends early; None to let it run.
        packed: Number of sequences in the longest packed row.
    """

    def __init__(
        self,
        recorder: Recorder,
        model_name: str,
        prompt_lengths: torch.Tensor | None = None,
        stop_after: int | None = None,
        packed: int = 1,
    ) -> None:
        self.recorder = recorder
        self.model_name = model_name
        self.layers: set[int] = set()
        self.modules: dict[int, torch.nn.Module] = {}
        self.seconds = 0.0  # spent beside attention itself, while decoding
        self.paused = False
        self.continuity = Continuity(model_name)
        self._stop_after = stop_after
        self._packed = packed
        self._needs = Needs.of(recorder.stats)
        self._prompt_lengths = prompt_lengths
        self._masks: dict[int, MaskSpec] = {}
        self._stand_ins: dict[int, torch.Tensor] = {}
        self.masks_made = 0
        self._landmarks: dict[int, tuple[MaskSpec, Landmarks]] = {}
        self._first: Landmarks | None = None
        self._decoded: dict[int, _Decoded] = {}
        self._groups: dict[int, int] = {}  # query heads per key head, by layer
        self._rows: torch.Tensor | None = None

    def add_mask(self, mask: MaskSpec) -> torch.Tensor:
        """Keep a mask, and return the (B, 1, 1, S) integers that represent it in the layers."""
        if self._packed > 1 and mask.sequence_ids is None and not CHUNKS_PACK:
            self._refuse_packing("transformers before 5.23 counts its chunks from the row's start")
        self.masks_made += 1
        stand_in = (mask.key_valid.long() * self.masks_made)[:, None, None]
        self._masks[self.masks_made], self._stand_ins[self.masks_made] = mask, stand_in
        for kept in (self._masks, self._stand_ins):
            kept.pop(self.masks_made - _MASKS_KEPT, None)
        return stand_in

    def find_mask(
        self, mask: torch.Tensor | None, query: torch.Tensor, key: torch.Tensor
    ) -> MaskSpec:
        """Return the description of the mask that a layer was given.

        Raises:
            ModelError: The model altered the mask on the way.
        """
        if mask is None:
            return causal_mask(query.shape[0], query.shape[2], key.shape[2], query.device)
        if mask.dim() == 4 and mask.dtype != torch.long:
            return dense_mask(mask)
        # Most layers get the very same tensor. If a layer does not, its values are read, which
        # waits on a GPU.
        number = next((n for n, tensor in self._stand_ins.items() if tensor is mask), None)
        if number is None and mask.dtype == torch.long:
            number = int(mask.max())
        found = None if number is None else self._masks.get(number)
        if found is None:
            raise ModelError(
                f"{self.model_name} alters its attention mask on the way to its layers "
                f"(a layer got {mask.dtype} {tuple(mask.shape)}), so it cannot be traced exactly."
            )
        return found

    def heads_of(self, layer: int, num_heads: int) -> Sequence[int] | None:
        """Return the heads of a layer to read: None for all, empty for a layer that is not read."""
        if self.paused:
            return ()
        if self.recorder.heads is None:
            return None
        chosen = self.recorder.heads.get(layer, ())
        if len(chosen) and not 0 <= min(chosen) <= max(chosen) < num_heads:
            raise ConfigError(
                f"heads of layer {layer} are {list(chosen)}, but it has heads 0 to "
                f"{num_heads - 1}: profile the heads of this model again."
            )
        return chosen

    def read_fused(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        log_sum_exp: torch.Tensor,
        mask: MaskSpec,
        scaling: float,
        heads: Sequence[int] | None,
    ) -> None:
        """Read (B, H, n, D) queries off their log-sum-exp; single queries wait for a full block."""
        self._groups[layer] = query.shape[1] // key.shape[1]
        query, log_sum_exp = _take(query, heads), _take(log_sum_exp, heads)
        if mask.runs is not None:
            self._read_band(layer, query, key, log_sum_exp, mask, scaling, heads)
            return
        waiting = self._decoded.get(layer)
        if waiting is not None and mask.first_query != waiting.first + len(waiting.queries):
            self._flush(layer)  # a forward of several tokens came in between
            waiting = None
        if waiting is None:
            waiting = self._decoded[layer] = _Decoded(mask.first_query, scaling)
        waiting.queries.append(query)
        waiting.log_sum_exps.append(log_sum_exp)
        waiting.key, waiting.mask = key, mask
        if len(waiting.queries) == QUERY_BLOCK:
            self._flush(layer)

    def read_rows(
        self,
        layer: int,
        rows: torch.Tensor,
        mask: MaskSpec,
        start: int,
        low: int,
        heads: Sequence[int] | None,
    ) -> None:
        """Read (B, H, n, keys) rows, from the mask's query `start` and key `low` on."""
        started = time.perf_counter()
        first = mask.first_query + start
        local = read_rows(_take(rows, heads), first, low, self._find_landmarks(mask), self._needs)
        self._record(layer, mask.first_key + first, local)
        if mask.first_query:
            self.seconds += time.perf_counter() - started

    def pause(self) -> None:
        """Stop reading and forget waiting queries; the recorder's statistics stay incomplete."""
        self.paused = True
        self._decoded.clear()

    def layer_done(self, layer: int, module: torch.nn.Module) -> None:
        """Note that a layer has run, and end the forward after the last layer to read."""
        self.layers.add(layer)
        self.modules[id(module)] = module
        if layer == self._stop_after:
            raise EnoughError

    def select_rows(self, kept: torch.Tensor) -> None:
        """Keep only these rows from now on: (B',) indices among the rows that are left."""
        self.flush()
        self.continuity.select_rows(kept)
        self._rows = kept if self._rows is None else self._rows[kept]
        if self._first is not None:
            question = self._first.in_question
            self._first = Landmarks(
                self._first.run_ids[kept],
                self._first.sinks[kept],
                None if question is None else question[kept],
            )
        self._landmarks.clear()

    def flush(self) -> None:
        """Read all waiting queries."""
        for layer in list(self._decoded):
            self._flush(layer)

    def _flush(self, layer: int) -> None:
        waiting = self._decoded.pop(layer)
        assert waiting.key is not None and waiting.mask is not None
        chosen = self.recorder.heads
        heads = None if chosen is None else chosen.get(layer)
        self._read_band(
            layer,
            torch.cat(waiting.queries, dim=2),
            waiting.key,
            torch.cat(waiting.log_sum_exps, dim=2),
            waiting.mask,
            waiting.scaling,
            heads,
            waiting.first,
        )

    def _read_band(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        log_sum_exp: torch.Tensor,
        mask: MaskSpec,
        scaling: float,
        heads: Sequence[int] | None,
        first: int = 0,
    ) -> None:
        key_heads = None
        if heads is not None:
            groups = self._groups[layer]
            key_heads = torch.tensor([head // groups for head in heads], device=key.device)
        local = read_band(
            query,
            key,
            log_sum_exp,
            scaling,
            self._find_landmarks(mask),
            self._needs,
            heads=key_heads,
            first_query=first,
        )
        self._record(layer, mask.first_key + first, local)

    def _record(self, layer: int, first: int, local: LocalAttention) -> None:
        signals = [stat(local) for stat in self.recorder.stats]
        self.recorder.add(layer, first, signals, self._rows)

    def _find_landmarks(self, mask: MaskSpec) -> Landmarks:
        """Make landmarks once per mask; sinks and questions that a cache has dropped are lost."""
        found = self._landmarks.get(id(mask))
        if found is not None:
            return found[1]
        landmarks = self._make_landmarks(mask)
        if self._first is None:
            self._first = landmarks
        if len(self._landmarks) >= _MASKS_KEPT:
            self._landmarks.pop(next(iter(self._landmarks)))
        self._landmarks[id(mask)] = mask, landmarks
        return landmarks

    def _make_landmarks(self, mask: MaskSpec) -> Landmarks:
        ids, num_sinks, first = mask.sequence_ids, self._needs.num_sinks, self._first
        if ids is None:  # another mask of this forward may know them
            shape = mask.key_valid.shape
            others = [m.sequence_ids for m in self._masks.values() if m.sequence_ids is not None]
            alike = [other for other in others if other.shape == shape]
            ids = alike[-1] if alike else mask.key_valid.long()
        if first is None and mask.first_key:
            raise ModelError(
                f"{self.model_name}: its cache has dropped the first tokens already, so sinks and "
                "question are not known: trace from the prompt on."
            )
        if first is None and self._packed > 1 and int(ids.max()) != self._packed:
            self._refuse_packing("it makes its mask without position_ids")
        if first is None or (mask.first_query == 0 and mask.first_key == 0):
            lengths = self._question_lengths(ids) if self._needs.question else None
            return find_landmarks(ids, num_sinks, lengths)
        keys = ids.shape[1]
        question = first.in_question
        if question is not None:
            question = question[:, mask.first_key :][:, :keys]
            question = F.pad(question, (0, keys - question.shape[1]))
        if mask.first_key == 0:
            sinks = find_landmarks(ids, num_sinks).sinks
        else:
            sinks = torch.where(first.sinks >= mask.first_key, first.sinks - mask.first_key, keys)
        return Landmarks(ids, sinks, question)

    def _refuse_packing(self, reason: str) -> NoReturn:
        raise ModelError(
            f"{self.model_name} does not keep packed sequences apart ({reason}), so it cannot be "
            "traced packed: pad instead."
        )

    def _question_lengths(self, run_ids: torch.Tensor) -> torch.Tensor:
        if self._prompt_lengths is None:
            return torch.full((len(run_ids), 1), run_ids.shape[1])
        lengths = torch.as_tensor(self._prompt_lengths)
        return lengths[:, None] if lengths.dim() == 1 else lengths


def _take(values: torch.Tensor, heads: Sequence[int] | None) -> torch.Tensor:
    """Take the chosen heads: (B, chosen, ...) of (B, H, ...)."""
    return values if heads is None else values[:, list(heads)]
