"""The identity of a model: the same weights and tokenizer at every stage of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pivottrace.errors import RunDirError
from pivottrace.run.directory import RunDir
from pivottrace.run.rounds import start_model

# The object of each digest, in words.
PARTS = {"model_digest": "weights", "tokenizer_digest": "tokenizer"}


def refuse_another_model(run: RunDir, facts: Mapping[str, Any]) -> None:
    """Compare a model with the model of the run's rollouts.

    Args:
        run: In the round of the rollouts.
        facts: Facts of the present model: `digests`, or the facts of a sampler. A digest that
            either side lacks is not compared.

    Raises:
        RunDirError: The weights or the tokenizer differ from the rollouts' model.
    """
    was = run.begun_facts("rollout")
    known = PARTS.keys() & was.keys() & facts.keys()
    changed = [words for key, words in PARTS.items() if key in known and was[key] != facts[key]]
    if changed:
        raise RunDirError(
            f"{start_model(run).path}: the model is not the model of the rollouts of "
            f"{run.path}: other {' and '.join(changed)}. Put the old one back (for a Hub id, set "
            f"model.revision from the start), or give another output directory (--output)."
        )
