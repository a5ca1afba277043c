"""Candidate signals of one pool's greedy traces, beyond the estimators that a run has.

`bench/trace_signals.py` judges them. One more forward pass per question gives whole attention
matrices, which is fine for the small embedded model only. Every candidate is one number per
question, without a direction of its own. Names begin with the candidate's group:

- `a`: profiles of the stored signals along the trace (early, middle and late third, slope, how
  straight the line is, first quarter).
- `b`: what the last rows and the answer's rows read: question, trace, sink, their order-2 entropy
  and their centroid among the response's tokens.
- `c`: order-2 entropy of attention rows, H2 = 2 LSE(s) - LSE(2s) = -ln sum(A^2), and order 1.
- `d`: mass on the sink, alone and times the norm of the sink's value.
- `e`: self-checks: how probable the answer is after the trace, after parts of it, and without
  it; the probability of a re-check where none was written; the least sure token.
- `f`: concentration of future influence, and peaks by other thresholds.

Axes: Q questions, L layers, H heads, n response tokens, S prompt and response.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from pivottrace.run.directory import RunDir
from pivottrace.signals.pivot_detection import find_peaks
from pivottrace.stages.trace_signals import SIGNAL_COLUMNS

# Their means over the trace are estimators already.
AVERAGED = ("entropy", "log_prob", "self_certainty")
ANSWER_CUE = " The answer is \\boxed{"
DOUBT = "?"
LAST_ROWS = 10
NEAR = 10
FINER = (0.02, 0.1, 0.2)
PARTS = (0.25, 0.5, 0.75)

Rows = dict[str, float]


def candidates(run: RunDir, model: Any, tokenizer: Any) -> dict[str, np.ndarray]:
    """Every candidate of a run's first round, name to (Q,); NaN where it is not defined."""
    traces = run.read_parts("rollouts_greedy", "greedy").to_pylist()
    signals = run.read_parts("signals", "trace").to_pylist()
    read = _Reader(model, tokenizer)
    rows = [read(trace, signal) for trace, signal in zip(traces, signals, strict=True)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = {name: np.array([row.get(name, np.nan) for row in rows]) for name in names}
    heads = np.stack(read.head_entropies)  # (Q, L * H)
    return table | {
        f"c_h2_component_{i + 1}": values for i, values in enumerate(_components(heads, 4).T)
    }


class _Reader:
    """Reads one question's candidates off one forward pass, and off short ones for `e`."""

    def __init__(self, model: Any, tokenizer: Any):
        model.set_attn_implementation("eager")
        self.model, self.tokenizer = model, tokenizer
        self.head_entropies: list[np.ndarray] = []
        self.doubt = tokenizer.encode(DOUBT, add_special_tokens=False)[0]
        self.cue = tokenizer.encode(ANSWER_CUE, add_special_tokens=False)
        self.values: list[torch.Tensor] = []
        for layer in model.model.layers:
            layer.self_attn.v_proj.register_forward_hook(
                lambda _module, _input, output: self.values.append(output[0])
            )

    @torch.no_grad()
    def __call__(self, trace: dict[str, Any], signal: dict[str, Any]) -> Rows:
        prompt, response = trace["prompt_tokens"], trace["tokens"]
        self.values.clear()
        output = self.model(torch.tensor([prompt + response]), output_attentions=True)
        attention = torch.stack([layer[0] for layer in output.attentions])  # (L, H, S, S)
        rows = slice(len(prompt) - 1, len(prompt) + len(response) - 1)
        attention = attention[:, :, rows].double().numpy()  # (L, H, n, S)
        log_probs = output.logits[0, rows].double().log_softmax(-1).numpy()  # (n, V)
        answer = self._answer_rows(trace)
        stored = {name: np.asarray(signal[name], np.float64) for name in SIGNAL_COLUMNS}
        return {
            **_profiles(stored),
            **_reading(attention, len(prompt), answer),
            **self._entropies(attention, answer),
            **self._sinks(attention, answer),
            **self._self_checks(trace, log_probs, answer, signal),
            **_influence(attention, len(prompt), stored),
        }

    def _answer_rows(self, trace: dict[str, Any]) -> np.ndarray:
        """Places of the answer's last mention among the response's tokens; the last if none."""
        tokens, answer = trace["tokens"], trace["answer"]
        ends = np.cumsum([len(self.tokenizer.decode([token])) for token in tokens])
        start = trace["text"].rfind(answer) if answer else -1
        found = np.flatnonzero((ends > start) & (np.r_[0, ends[:-1]] < start + len(answer or "")))
        return found if start >= 0 and found.size else np.array([len(tokens) - 1])

    def _entropies(self, attention: np.ndarray, answer: np.ndarray) -> Rows:
        h2 = _order_2(attention)  # (L, H, n)
        h1 = -(attention * np.log(np.maximum(attention, 1e-30))).sum(-1)
        keys = np.arange(h2.shape[-1]) + attention.shape[-1] - h2.shape[-1]  # seen by each row
        self.head_entropies.append(h2.mean(-1).ravel())
        along = h2.mean((0, 1))  # (n,)
        return {
            "c_h2": along.mean(),
            "c_h2_answer": along[answer].mean(),
            "c_h2_last_rows": along[-LAST_ROWS:].mean(),
            "c_h2_spread": h2.mean(-1).std(),
            "c_h1": h1.mean(),
            "c_kl_to_uniform": (np.log(keys) - h1).mean(),
            **{f"c_h2_layer_{i}": layer.mean() for i, layer in enumerate(h2)},
            **{f"c_h2_{name}": value for name, value in _profile(along).items()},
        }

    def _sinks(self, attention: np.ndarray, answer: np.ndarray) -> Rows:
        heads = attention.shape[1]
        width = self.model.config.head_dim
        norms = torch.stack([v.unflatten(-1, (-1, width)).norm(dim=-1).T for v in self.values])
        norms = norms.repeat_interleave(heads // norms.shape[1], 1).double().numpy()  # (L, H, S)
        mass = attention[..., 0]  # (L, H, n)
        weighted = mass * norms[..., :1]
        total = (attention * norms[:, :, None]).sum(-1)
        named = {"mass": mass, "value": weighted, "value_share": weighted / total, "norm": total}
        found: Rows = {}
        for name, values in named.items():
            along = values.mean((0, 1))
            found[f"d_sink_{name}"] = along.mean()
            found[f"d_sink_{name}_answer"] = along[answer].mean()
            found[f"d_sink_{name}_slope"] = _profile(along)["slope"]
        return found

    def _self_checks(
        self,
        trace: dict[str, Any],
        log_probs: np.ndarray,
        answer: np.ndarray,
        signal: dict[str, Any],
    ) -> Rows:
        tokens = np.asarray(trace["tokens"])
        own = log_probs[np.arange(len(tokens)), tokens]
        entropy = -(np.exp(log_probs) * log_probs).sum(-1)
        doubt = np.where(tokens == self.doubt, 0.0, np.exp(log_probs[:, self.doubt]))
        wanted = tokens[answer].tolist()
        parts = [
            self._answer_log_prob(trace, round(part * answer[0]), wanted) for part in (0.0, *PARTS)
        ]
        return {
            "e_answer_log_prob": own[answer].mean(),
            "e_answer_entropy": entropy[answer].mean(),
            "e_least_log_prob": own.min(),
            "e_second_least_log_prob": np.sort(own)[:2][-1],
            "e_greatest_entropy": entropy.max(),
            "e_least_margin": signal["top2_margin"],
            "e_doubt_sum": doubt.sum(),
            "e_doubt_greatest": doubt.max(),
            "e_answer_without_trace": parts[0],
            **{f"e_answer_at_{p}": v for p, v in zip(PARTS, parts[1:], strict=True)},
            "e_answer_along": float(np.mean(parts)),
        }

    def _answer_log_prob(self, trace: dict[str, Any], cut: int, wanted: list[int]) -> float:
        """Mean log-probability of the greedy answer after the first `cut` tokens and a cue."""
        given = trace["prompt_tokens"] + trace["tokens"][:cut] + self.cue
        logits = self.model(torch.tensor([given + wanted])).logits[0].double().log_softmax(-1)
        rows = torch.arange(len(given) - 1, len(given) + len(wanted) - 1)
        return float(logits[rows, torch.tensor(wanted)].mean())


def _profiles(stored: dict[str, np.ndarray]) -> Rows:
    found: Rows = {}
    for name, values in stored.items():
        found |= {f"a_{name}_{part}": value for part, value in _profile(values).items()}
        found[f"a_{name}_first_quarter"] = values[: -(-values.size // 4)].mean()
        if name not in AVERAGED:
            found[f"a_{name}_mean"] = values.mean()
    return found


def _profile(values: np.ndarray) -> Rows:
    """Mean of each third of a signal (n,), and slope and linearity of its straight line."""
    names = ("early", "middle", "late")
    thirds = [part.mean() for part in np.array_split(values, 3) if part.size]
    place = np.linspace(-1.0, 1.0, values.size)
    slope = place @ values / max(place @ place, 1e-12)
    spread = ((values - values.mean()) ** 2).sum()
    straight = slope**2 * (place @ place) / spread if spread > 0 else 0.0
    return dict(zip(names, thirds, strict=False)) | {"slope": slope, "linearity": straight}


def _reading(attention: np.ndarray, prompt: int, answer: np.ndarray) -> Rows:
    """Group b. Row i stands at prompt - 1 + i, and reads the keys up to itself."""
    found: Rows = {}
    n, keys = attention.shape[2:]
    sets = {"answer": answer, "last": np.arange(max(n - LAST_ROWS, 0), n), "all": np.arange(n)}
    place = np.arange(keys)
    mean = attention.mean((0, 1))  # (n, S)
    in_response = mean[:, prompt:]
    total = np.maximum(in_response.sum(-1), 1e-12)
    # The place that the mean row reads within the response, as a share of the tokens so far.
    seen = np.maximum(np.arange(n), 1)
    centroid = (in_response * np.arange(keys - prompt)).sum(-1) / total / seen  # (n,)
    within = _order_2(in_response / total[:, None])
    for name, rows in sets.items():
        far = (place[None] <= prompt - 1 + rows[:, None] - NEAR) & (place[None] >= prompt)
        found |= {
            f"b_{name}_on_trace": (mean[rows] * far).sum(-1).mean(),
            f"b_{name}_greatest": attention[:, :, rows, 1:].max(-1).mean(),
            f"b_{name}_h2_in_trace": within[rows].mean(),
            f"b_{name}_centroid": centroid[rows].mean(),
        }
        if name != "all":  # its mean over all rows is the stored question mass
            found[f"b_{name}_on_question"] = mean[rows, 1:prompt].sum(-1).mean()
    late = centroid[n // 3 :]
    found["b_centroid_slope"] = _profile(late)["slope"]
    found["b_centroid_spread"] = late.std()
    return found


def _influence(attention: np.ndarray, prompt: int, stored: dict[str, np.ndarray]) -> Rows:
    """Group f: how unevenly later rows read the response's tokens, and finer peaks."""
    n = attention.shape[2]
    found: Rows = {}
    later = np.tril(np.ones((n, n)), -4)[:, : n - 1]  # row i, response key j: at least 4 back
    counts = np.maximum(later.sum(0), 1.0)
    columns = (attention[..., prompt : prompt + n - 1] * later).sum(2) / counts  # (L, H, n - 1)
    columns = columns[..., later.sum(0) >= 4]
    if columns.shape[-1] > 3:
        centred = columns - columns.mean(-1, keepdims=True)
        variance = np.maximum((centred**2).mean(-1), 1e-20)
        kurtosis = (centred**4).mean(-1) / variance**2  # (L, H)
        share = np.sort(columns, -1)[..., -3:].sum(-1) / np.maximum(columns.sum(-1), 1e-20)
        found |= {
            "f_kurtosis": kurtosis.mean(),
            "f_kurtosis_greatest": kurtosis.max(),
            "f_top_share": share.mean(),
        }
    for name in ("far_mass", "far_mass_all", "question_mass"):
        for amplitude in FINER:
            peaks = find_peaks(stored[name].astype(np.float32), amplitude, NEAR)
            found[f"f_peaks_{name}_{amplitude}"] = float(len(peaks))
    return found


def _order_2(rows: np.ndarray) -> np.ndarray:
    return -np.log(np.maximum((rows**2).sum(-1), 1e-30))


def _components(values: np.ndarray, count: int) -> np.ndarray:
    """First principal components (Q, count) of standardised columns; no label enters."""
    scaled = (values - values.mean(0)) / np.maximum(values.std(0), 1e-12)
    _, _, directions = np.linalg.svd(scaled, full_matrices=False)
    directions *= np.sign(directions.sum(1, keepdims=True))
    return scaled @ directions[:count].T


def names_of(group: str, table: dict[str, Any]) -> Sequence[str]:
    """The candidates of one group."""
    return [name for name in table if name.startswith(f"{group}_")]
