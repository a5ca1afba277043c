"""Which model it is: the same weights and tokenizer at every stage of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pivottrace.errors import RunDirError
from pivottrace.run.directory import RunDir
from pivottrace.run.rounds import start_model

# What each digest is of, in words.
PARTS = {"model_digest": "weights", "tokenizer_digest": "tokenizer"}


def refuse_another_model(run: RunDir, facts: Mapping[str, Any]) -> None:
    """Compare a model with the one that the run's rollouts came from.

    Args:
        run: In the round of the rollouts.
        facts: Of the model that is used now: `digests`, or a sampler's. A digest that either side
            lacks is not compared.

    Raises:
        RunDirError: Weights or tokenizer are others than those of the rollouts.
    """
    was = run.begun_facts("rollout")
    known = PARTS.keys() & was.keys() & facts.keys()
    changed = [words for key, words in PARTS.items() if key in known and was[key] != facts[key]]
    if changed:
        raise RunDirError(
            f"{start_model(run).path}: the model is not the one that the rollouts of {run.path} "
            f"came from: other {' and '.join(changed)}. Put the old one back (for a Hub id, set "
            f"model.revision from the start), or give another output directory (--output)."
        )
