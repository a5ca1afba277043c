"""Check a configuration against its data and its model, without writing anything."""

from __future__ import annotations

from collections.abc import Iterator

from pivottrace.config import Config


def validate(config: Config) -> Iterator[str]:
    """Yield one line per check.

    Raises:
        PivotTraceError: A check has failed; the message has the cure.
    """
    from pivottrace.ingest import find_overlap
    from pivottrace.models.backends import sampler_opener
    from pivottrace.models.load import check_weights, choose_device, load_tokenizer
    from pivottrace.models.rendering import render_question
    from pivottrace.run.choices import driving_estimator
    from pivottrace.stages.pool import read_sources
    from pivottrace.stages.preconditions import refuse_the_impossible

    pool, evaluation = read_sources(config)
    answered = len(pool) - pool["answer"].null_count
    yield f"pool: {len(pool)} questions, {answered} with an answer"
    if evaluation is not None:
        overlap = find_overlap(pool, evaluation)
        yield f"evaluation: {len(evaluation)} questions, {len(overlap)} of them also in the pool"
    allowed = refuse_the_impossible(config, len(pool), answered)
    yield f"labels: {allowed} allowed, from {config.labels.source}"
    yield f"ranking: {driving_estimator(config)}"
    yield f"answers: compared by {config.answers.verifier}"
    sampler_opener(config.rollouts.backend)
    yield f"sampling: by {config.rollouts.backend}"
    device = choose_device(config.model.device)
    tokenizer = load_tokenizer(config.model)
    weights = check_weights(config.model)
    prompt = render_question(tokenizer, pool["prompt"][0].as_py(), config.pool)
    template = "chat template" if tokenizer.chat_template else "no chat template: plain text"
    yield f"model: {config.model.path} on {device}, {weights}"
    yield f"prompt: {template}; the first one has {len(prompt)} tokens:"
    yield tokenizer.decode(prompt)
