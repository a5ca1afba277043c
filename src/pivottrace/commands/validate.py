"""Check a configuration against its data and its model, without writing anything."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pivottrace.config import Config
from pivottrace.errors import counted, first_of

ODD_SHARE = 0.05
"""Share of golds up to which another form may be a slip (ours)."""

if TYPE_CHECKING:
    import pyarrow as pa

    from pivottrace.ingest.held_out_sets import SetReading
    from pivottrace.ingest.questions import Reading


def validate(config: Config) -> Iterator[str]:
    """Yield one line per check.

    Raises:
        PivotTraceError: A check has failed; the message has the cure.
    """
    from pivottrace.commands.gym_notes import gym_notes
    from pivottrace.models.backends import sampler_opener
    from pivottrace.models.load import (
        check_weights,
        choose_device,
        load_config,
        load_tokenizer,
        max_positions,
    )
    from pivottrace.rollouts.prompt_room import refuse_long_prompts
    from pivottrace.run.choices import driving_estimator
    from pivottrace.stages.pool import overlap_of, read_sources
    from pivottrace.stages.preconditions import WITHOUT_GPU, refuse_the_impossible, trainer_of

    read, held_out = read_sources(config)
    pool = read.table
    answered = len(pool) - pool["answer"].null_count
    yield f"pool: {counted(len(pool), 'question')}, {answered:,} with an answer"
    yield from what_was_read(read)
    for each in held_out:
        title = "evaluation" if len(held_out) == 1 else f"evaluation, {each.origin.name}"
        yield (
            f"{title}: {counted(len(each.table), 'question')}, "
            f"{len(overlap_of(read, [each])):,} of them also in the pool"
        )
        yield from _of_set(each, config)
    if not held_out:
        yield "evaluation: none, so nothing will say whether training helps (pool.evaluation)"
    allowed = refuse_the_impossible(config, len(pool), answered)
    yield from _labels(config, len(pool), answered, allowed)
    yield f"ranking: {driving_estimator(config)}"
    yield f"answers: compared by {config.answers.verifier}"
    yield from compares_letters(pool, config.answers.verifier)
    compared = [(config, pool), *((_as_set(each, config), each.table) for each in held_out)]
    notes = dict.fromkeys(note for settings, rows in compared for note in gym_notes(settings, rows))
    yield from (f"  note: {note}" for note in notes)
    if config.train.enabled:
        trainer, lacking = trainer_of(config)
        yield f"training: by {trainer}"
        if lacking is not None:
            yield f"  note: {lacking}. {WITHOUT_GPU}"
    sampler_opener(config.rollouts.backend)
    served = _served_context(config)
    yield f"sampling: by {config.rollouts.backend}" + ("" if served is None else f", {served[0]}")
    device = choose_device(config.model.device)
    tokenizer = load_tokenizer(config.model)
    prompts = _prompts(tokenizer, pool, config)
    asked = _held_out_prompts(tokenizer, held_out, config)
    limits = (max_positions(load_config(config.model)), None if served is None else served[1])
    context = min((limit for limit in limits if limit is not None), default=None)
    refuse_long_prompts(config, context, prompts, asked)
    weights = check_weights(config.model)
    template = "chat template" if tokenizer.chat_template else "no chat template: plain text"
    longest = max(map(len, prompts.values()))
    reads = "" if context is None else f", and the model reads {context}"
    yield f"model: {config.model.path} on {device}, {weights}"
    yield from _of_another_world(tokenizer, pool, config)
    yield f"prompt: {template}; the longest has {longest} tokens{reads}; the first one:"
    yield tokenizer.decode(next(iter(prompts.values())))


def compares_letters(pool: pa.Table, verifier: str) -> Iterator[str]:
    """A note if most questions have options and letters are not compared as letters."""
    from pivottrace.ingest.options import options_in
    from pivottrace.ingest.prompts import last_user_message

    golds = [gold for gold in pool["answer"].to_pylist() if gold]
    if verifier not in ("math", "exact") or any(_form(gold) != "letter" for gold in golds):
        return
    texts = [last_user_message(prompt) for prompt in pool["prompt"].to_pylist()]
    num_with_options = sum(options_in(text) is not None for text in texts)
    if 2 * num_with_options > len(texts):
        yield (
            f"  note: {num_with_options} of {counted(len(texts), 'question')} have options. If the "
            'answers are their letters, set verifier = "choice" under [answers]: "A) 11" and "A" '
            "are one answer there. It is fixed once the run has begun"
        )


def _served_context(config: Config) -> tuple[str, int | None] | None:
    """The server in words and the longest sequence that it takes; None if none is asked."""
    from pivottrace.models.backends import SERVER

    if config.rollouts.backend != SERVER:
        return None
    from pivottrace.models.served import about_server  # heavy
    from pivottrace.models.server_client import ServerClient

    server = config.rollouts.server.model_copy(update={"wait_s": 0.0})
    about = about_server(ServerClient(server))
    version = "" if about["version"] is None else f" (version {about['version']})"
    return f"{server.url}{version} as {about['model']!r}", about["max_model_len"]


def _prompts(tokenizer: Any, table: pa.Table, config: Config) -> dict[str, list[int]]:
    """The tokens of each question's prompt, by id."""
    from pivottrace.models.rendering import render_questions

    prompts = render_questions(tokenizer, table["prompt"].to_pylist(), config.pool)
    return dict(zip(table["id"].to_pylist(), prompts, strict=True))


def _held_out_prompts(
    tokenizer: Any, held_out: list[SetReading], config: Config
) -> dict[str, list[int]]:
    """The tokens of each held-out question's prompt, by id."""
    from pivottrace.rollouts.held_out import render_held_out

    rows = [row for each in held_out for row in each.table.to_pylist()]
    prompts = render_held_out(tokenizer, rows, config.pool)
    return dict(zip((row["id"] for row in rows), prompts, strict=True))


def _as_set(held_out: SetReading, config: Config) -> Config:
    """The configuration with the answers of a held-out set."""
    from pivottrace.rollouts.held_out import answers_of

    first = held_out.table.slice(0, 1).to_pylist()[0]
    return config.model_copy(update={"answers": answers_of(first, config)})


def _of_set(held_out: SetReading, config: Config) -> Iterator[str]:
    """How a held-out set is asked and compared, and its possible cost; then its golds."""
    from pivottrace.rollouts.held_out import answers_of, num_samples_of

    first = held_out.table.slice(0, 1).to_pylist()[0]
    k = num_samples_of(first, config)
    limit = config.evaluate.max_new_tokens or config.rollouts.max_new_tokens
    benchmark = held_out.origin.benchmark
    asked = "asked by the run's prompt"
    if benchmark is not None and held_out.origin.own_prompt:
        asked = f"asked as {benchmark.prompt.source} does"
    yield (
        f"  {counted(k, 'sample')} each, compared by {answers_of(first, config).verifier}, "
        f"{asked}; at most {held_out.table.num_rows * k * limit:,} tokens of responses before "
        f"training, and as many after it"
    )
    if held_out.reading.revision is not None:
        yield f"  revision {held_out.reading.revision}"
    yield from what_was_read(held_out.reading)


def _of_another_world(tokenizer: Any, pool: pa.Table, config: Config) -> Iterator[str]:
    """A note on questions that mean nothing to the embedded model."""
    from pivottrace.config import EMBEDDED_MODEL
    from pivottrace.ingest.prompts import last_user_message
    from pivottrace.world.vocabulary import is_foreign

    if config.model.path != EMBEDDED_MODEL:
        return
    texts = map(last_user_message, pool["prompt"].to_pylist())
    number = sum(is_foreign(text, tokenizer) for text in texts)
    if number:
        yield (
            f"  note: {number:,} of {counted(len(pool), 'question')} are not of the world of this "
            f"tiny model, and mean nothing to it. Name your own model: model.path, or --model"
        )


def _labels(config: Config, num_questions: int, answered: int, allowed: int) -> Iterator[str]:
    """The source of the labels, and the use of the budget."""
    from pivottrace.label_sources import source_for
    from pivottrace.labels.budget import budget_in_words
    from pivottrace.routing.probes import default_num_probes

    source = source_for(config.labels.source, num_questions, answered)
    yield f"labels: {allowed:,} allowed, from {source.name} ({source.title})"
    if answered and source.ask is not None and not source.owns_column:
        yield (
            f"  note: the pool has {answered:,} answers that are not used; leave labels.source out "
            f"to use them at no cost"
        )
    by_value = config.calibrate.draw == "by_value"
    if answered and source.needs_column:
        yield (
            "  note: the answers stand for people, so only the chosen questions get theirs. "
            "labels.source = 'column+file' takes all of them at no cost"
        )
    wanted = config.calibrate.num_probes
    probes = default_num_probes(num_questions, allowed, by_value) if wanted is None else wanted
    at_most = source.owns_column and answered > 0
    yield f"  {budget_in_words(allowed, probes, at_most)}"


def what_was_read(read: Reading) -> Iterator[str]:
    """Yield what reading a source made of its golds and columns, indented by two spaces.

    These are the first golds beside their cells, the number of golds of each form, the cells that
    are no gold, the columns that the user named as unused, and the notes.
    """
    from pivottrace.ingest.settling import shortened

    if read.golds:
        cells = [shortened(cell) for cell, _ in read.golds]
        width = max(map(len, ("cell", *cells)))
        yield f"  {'cell':<{width}}  read as"
        for cell, (_, gold) in zip(cells, read.golds, strict=True):
            yield f"  {cell:<{width}}  {shortened(gold) if gold is not None else '(no gold)'}"
        golds = [gold for gold in read.table["answer"].to_pylist() if gold]
        forms = Counter(map(_form_of_truth, golds))
        yield "  golds: " + ", ".join(f"{count} {form}" for form, count in forms.most_common())
        yield from _odd_forms(golds, forms)
    for none in read.unreadable:
        yield f"  {read.unit} {none.number}: {shortened(none.cell)!r} {none.problem}"
    if read.num_unreadable > len(read.unreadable):
        yield f"  and {read.num_unreadable - len(read.unreadable)} more golds that are none"
    if read.unused:
        yield f"  not asked: {', '.join(read.unused)}"
    yield from (f"  note: {note}" for note in read.notes)


def _odd_forms(golds: list[str], forms: Counter[str]) -> Iterator[str]:
    """A note for each form of few golds among many of another one: they may be slips."""
    from pivottrace.ingest.settling import shortened

    usual, count = forms.most_common(1)[0]
    if 2 * count <= len(golds):
        return
    for form, number in forms.most_common()[1:]:
        if form != "text" and number > max(1, ODD_SHARE * len(golds)):
            continue
        odd = [repr(shortened(gold)) for gold in golds if _form_of_truth(gold) == form]
        yield (
            f"  note: most golds read as {usual}, and {number} as {form}: {first_of(odd)}. No "
            f"answer of another form equals them; correct them if they are slips"
        )


def _form_of_truth(gold: str) -> str:
    from pivottrace.verifier.truths import read_truth

    return _form(read_truth(gold).alternatives[0])


def _form(gold: str) -> str:
    """The form of a gold, for people: a letter is a choice more often than a variable."""
    from pivottrace.verifier.forms import form_of

    return "letter" if re.fullmatch(r"\(?[A-Za-z]\)?", gold) else form_of(gold)
