"""Far mass at several windows and over several sets of heads, by passes over stored rollouts.

One pass over the reference traces chooses the heads of each window. One pass over all traces then
keeps the mean signal of each response, for every window and set of heads. Nothing is generated.
Axes: T response tokens, L layers, H heads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from pivottrace.run.directory import RunDir
from pivottrace.run.progress import progress
from pivottrace.run.storage import read_json
from pivottrace.stats.ranking_metrics import FloatArray

Heads = dict[int, list[int]] | None
QUESTION = "question"  # in place of a window, for the mass on the question


class Tracer:
    """Traces the greedy responses of a run again.

    Attributes:
        rows: The run's usable greedy rollouts, by question id.
        reference_ids: Ids of the reference sample, which the run has fixed.
        run_heads: Heads that the run itself averages, by layer; None for all.
    """

    def __init__(self, run: RunDir, question_ids: Sequence[str]):
        from pivottrace.models.digests import digests
        from pivottrace.models.identity import refuse_another_model
        from pivottrace.models.load import load_model

        self._run = run
        self._model, tokenizer = load_model(run.config.model)
        refuse_another_model(run, digests(self._model, tokenizer))
        self._pad = tokenizer.pad_token_id
        names = ["question_id", "prompt_tokens", "tokens"]
        rollouts = run.read_parts("rollouts_greedy", "greedy", names).to_pylist()
        wanted = set(question_ids)
        self.rows = {r["question_id"]: r for r in rollouts if r["question_id"] in wanted}
        reference = read_json(run.path / "reference.json")
        self.reference_ids = [i for i in reference["question_ids"] if i in wanted]
        heads = reference["heads"]
        self.run_heads: Heads = None if heads is None else {int(k): v for k, v in heads.items()}

    def choose_heads(
        self, windows: Sequence[int], percentiles: Sequence[float]
    ) -> dict[tuple[int, str, float], dict[int, list[int]]]:
        """Choose heads for each (window, `long_range` or `changing`, percentile), as a run does."""
        from pivottrace.attention.tracing import profile_heads

        found: dict[tuple[int, str], list[FloatArray]] = {}

        def collect(question_id: str, signals: dict[Any, np.ndarray]) -> None:
            for window in windows:  # (L, H, T) to (L, H)
                found.setdefault((window, "long_range"), []).append(signals[window].mean(axis=2))
                found.setdefault((window, "changing"), []).append(signals[window].std(axis=2))

        self._each(self.reference_ids, windows, collect, "heads")
        return {
            (*key, percentile): profile_heads(np.stack(values), percentile)
            for key, values in found.items()
            for percentile in percentiles
        }

    def means(
        self, windows: Sequence[int | str], sets: dict[tuple[Any, Any], Heads]
    ) -> dict[tuple[Any, Any], dict[str, FloatArray]]:
        """Return the mean signal (T,) of each (window, name of a set of heads), by question id."""
        found: dict[tuple[Any, Any], dict[str, FloatArray]] = {key: {} for key in sets}

        def collect(question_id: str, signals: dict[Any, np.ndarray]) -> None:
            for (window, name), heads in sets.items():
                values = _chosen(signals[window], heads)
                found[window, name][question_id] = values.astype(np.float32)

        self._each(list(self.rows), windows, collect, "retrace")
        return found

    def _each(
        self,
        question_ids: Sequence[str],
        windows: Sequence[int | str],
        use: Callable[[str, dict[Any, np.ndarray]], None],
        title: str,
    ) -> None:
        """Call `use` with each question's signals, window to (L, H, T); it batches like lengths."""
        order = sorted(
            question_ids,
            key=lambda i: len(self.rows[i]["prompt_tokens"]) + len(self.rows[i]["tokens"]),
        )
        size, done = self._run.config.trace.batch_size, 0
        with progress(title, len(order)) as update:
            update(0)
            for start in range(0, len(order), size):
                batch = order[start : start + size]
                for question_id, signals in self._trace(batch, windows):
                    use(question_id, signals)
                done += len(batch)
                update(done)

    def _trace(
        self, batch: Sequence[str], windows: Sequence[int | str]
    ) -> Iterator[tuple[str, dict[Any, np.ndarray]]]:
        from pivottrace.attention import FarMass, QuestionMass
        from pivottrace.attention.batch import make_batch
        from pivottrace.attention.tracing import trace

        sinks = self._run.config.trace.num_sinks
        stats: dict[Any, Any] = {
            w: QuestionMass(sinks) if w == QUESTION else FarMass(int(w), sinks) for w in windows
        }
        pairs = [(self.rows[i]["prompt_tokens"], self.rows[i]["tokens"]) for i in batch]
        laid = make_batch(self._model, pairs, "left", self._pad)
        traced = trace(
            self._model,
            laid.input_ids,
            laid.attention_mask,
            stats=tuple(stats.values()),
            per_head=True,
            prompt_lengths=[len(prompt) for prompt, _ in pairs],
        )
        layers = {w: traced.per_head(stat) for w, stat in stats.items()}
        for question_id, (row, place) in zip(batch, laid.places, strict=True):
            yield question_id, {w: _stacked(of, row, place) for w, of in layers.items()}


def _stacked(layers: dict[int, Any], row: int, place: slice) -> np.ndarray:
    """Return (L, H, T) of one response, by the model's layer index; NaN for a missing head."""
    heads = max(values.shape[1] for values in layers.values())
    stacked = np.full((max(layers) + 1, heads, place.stop - place.start), np.nan)
    for layer, values in layers.items():
        stacked[layer, : values.shape[1]] = values[row, :, place].numpy()
    return stacked


def _chosen(signals: np.ndarray, heads: Heads) -> FloatArray:
    # (L, H, T) to (T,), the mean over all heads or over the chosen ones.
    if heads is None:
        return np.nanmean(signals, axis=(0, 1))
    mean: FloatArray = np.concatenate([signals[layer, of] for layer, of in heads.items()]).mean(0)
    return mean
