"""All stages of a run must use the same model: the same weights and the same tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pivottrace.errors import RunDirError
from pivottrace.run.directory import RunDir
from pivottrace.run.rounds import start_model

# The part of a model that each digest is taken of, in words.
PARTS = {"model_digest": "weights", "tokenizer_digest": "tokenizer"}


def refuse_another_model(run: RunDir, facts: Mapping[str, Any]) -> None:
    """Compare a model with the model that wrote the run's rollouts.

    Args:
        run: The run, in the round of the rollouts.
        facts: Facts of the model that is used now: its `digests`, or `Sampler.facts`. A digest is
            compared only if it is known of both models.

    Raises:
        RunDirError: The weights or the tokenizer differ from the rollouts' model.
    """
    was = run.begun_facts("greedy")
    known = PARTS.keys() & was.keys() & facts.keys()
    changed = [words for key, words in PARTS.items() if key in known and was[key] != facts[key]]
    if changed:
        raise RunDirError(
            f"{start_model(run).path}: another model wrote the rollouts of {run.path}. It had "
            f"other {' and '.join(changed)}. Put the old model back (for a Hub id, set "
            f"model.revision from the start), or give another output directory (--output)."
        )
