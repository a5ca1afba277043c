"""The embedded world as a source of questions: `world:PRESET?split=SPLIT&num=N&seed=SEED`."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator

from pivottrace.errors import ConfigError
from pivottrace.ingest.rows import Row, Source

# Split → (default number of questions, largest number). Each split holds finitely many expressions,
# and drawing slows down as they run out. Up to the largest number it takes seconds.
WORLD_SPLITS = {
    "pool": (600, 5_000),
    "development": (400, 2_000),
    "evaluation": (400, 2_500),
    "held_out": (400, 2_500),  # the evaluation split of the family that no other split has
    "pretraining": (600, 5_000),
}


def open_world(name: str, preset: str, options: dict[str, str], split: str | None) -> Source:
    """Open one split of the embedded world; `family`, `expression` and `num_unfamiliar` are extra.

    Args:
        name: The source string.
        preset: Difficulty, a key of `world.problems.PRESETS`.
        options: `num` (by default 600 for the pool, 400 for evaluation, development and held_out),
            `seed` (0) and `noise` (0). `noise` is the share of answers that are wrong, for
            experiments on wrong labels.
        split: A key of `WORLD_SPLITS`; the pool by default.

    Raises:
        ConfigError: A preset, split or option is unknown, or a number is out of range.
    """
    from pivottrace.world.problems import PRESETS, generate, held_out_family

    _refuse_unknown(name, "preset", preset, tuple(PRESETS))
    split = split if split is not None else "pool"
    _refuse_unknown(name, "split", split, tuple(WORLD_SPLITS))
    for option in options:
        _refuse_unknown(name, "option", option, ("split", "num", "seed", "noise"))
    default, most = WORLD_SPLITS[split]
    num = _whole_number(name, "num", options.get("num", str(default)), 1, most)
    seed = _whole_number(name, "seed", options.get("seed", "0"), 0, 2**63)
    noise = _share(name, "noise", options.get("noise", "0"))

    if split == "held_out":
        problems = held_out_family(num, seed, preset)
    else:
        problems = generate(split, num, seed, preset)  # type: ignore[arg-type]

    def rows() -> Iterator[Row]:
        for number, problem in enumerate(problems, 1):
            row = {
                "id": problem.id,
                "prompt": problem.question,
                "answer": noisy_answer(problem.id, problem.answer, noise, seed),
                "family": problem.family,
                "expression": problem.expression,
                "num_unfamiliar": problem.num_unfamiliar,
            }
            yield number, row

    columns = ("id", "prompt", "answer", "family", "expression", "num_unfamiliar")
    canonical = f"world:{preset}?split={split}&num={num}&seed={seed}"
    canonical += f"&noise={noise}" if noise else ""
    return Source(canonical, columns, rows, fixed_columns=True)


def noisy_answer(question_id: str, answer: str, noise: float, seed: int) -> str:
    """Return the answer, or a near miss for a share `noise` of questions; the choice is fixed.

    A near miss is 1 to 3 off, as an annotator's slip would be.
    """
    digest = hashlib.sha256(f"noise/{seed}/{question_id}".encode()).digest()
    if int.from_bytes(digest[:6], "big") / 2**48 >= noise:
        return answer
    off = 1 + digest[6] % 3
    number = int(answer)
    return str(number - off if digest[7] % 2 and number > off else number + off)


def _refuse_unknown(name: str, what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        near = difflib.get_close_matches(value, known, n=1, cutoff=0.0)[0]
        raise ConfigError(
            f"{name}: the embedded world has no {what} {value!r}; there are {', '.join(known)}. "
            f"The nearest is {near}"
        )


def _whole_number(name: str, option: str, text: str, least: int, most: int) -> int:
    if not text.isdecimal() or not least <= int(text) <= most:
        raise ConfigError(f"{name}: {option} = {text!r} must be a whole number, {least} to {most}")
    return int(text)


def _share(name: str, option: str, text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise ConfigError(f"{name}: {option} = {text!r} must be a share from 0 to 1, such as 0.2")
    return share
