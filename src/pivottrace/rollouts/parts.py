"""The pool's questions put to the model, part by part, for the stages that ask for responses.

A part is a run of `part_size` questions in pool order. Its samples are seeded by (round's seed,
kind, part index), so that a part made again after a kill is the same, and no two kinds or rounds
share samples.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from pivottrace.ingest import format_prompt
from pivottrace.run.directory import RunDir, part_seed, run_parts
from pivottrace.run.progress import progress
from pivottrace.run.rounds import round_seed, start_model
from pivottrace.schemas import ROLLOUTS
from pivottrace.verifier.answers import extract_answer

NO_CHAT_TEMPLATE = (
    "the model has no chat template: questions are put to it as plain text, which a chat model "
    "rarely expects"
)


class Sampler:
    """The run's model, loaded, with every prompt rendered.

    Attributes:
        facts: Digests of model and tokenizer and how the model was loaded, to be recorded.
        num_questions: Questions of the pool.
        num_parts: Part files that they make.

    Raises:
        RunDirError: the model is not the one that the run's rollouts came from.
    """

    def __init__(self, run: RunDir):
        # Loading takes seconds and the question table is at hand, so look at it first.
        questions = run.read_table("pool", made_by="run").select(["id", "prompt"]).to_pylist()

        from pivottrace.models import hf
        from pivottrace.models.identity import refuse_another_model

        self._run, self._generate = run, hf.generate
        self._model, self._tokenizer = hf.load_model(start_model(run))
        self.facts = refuse_another_model(run, self._model, self._tokenizer) | {
            "chat_template": self._tokenizer.chat_template is not None,
            "dtype": str(self._model.dtype).removeprefix("torch."),
        }
        if self._tokenizer.chat_template is None:
            print(f"note: {NO_CHAT_TEMPLATE}", file=sys.stderr, flush=True)
        pool = run.config.pool
        self._ids = [q["id"] for q in questions]
        self._prompts = [
            hf.render_prompt(
                self._tokenizer,
                format_prompt(q["prompt"], pool.system_prompt, pool.prompt_suffix),
                pool,
            )
            for q in questions
        ]
        limit = hf.max_positions(self._model)
        max_new_tokens = run.config.rollouts.max_new_tokens
        self._unfit = [_unfit(prompt, max_new_tokens, limit) for prompt in self._prompts]
        self.num_questions = len(questions)
        self.num_parts = -(-len(questions) // run.config.rollouts.part_size)

    def write_parts(self, kind: str, num_samples: int, begin: Callable[[], None]) -> None:
        """Write the missing parts of `rollouts_<kind>`, timed as a part of the kind's stage.

        Args:
            kind: `greedy` decodes greedily, and its rows keep the prompt's tokens; any other one
                samples as `[rollouts]` says.
            num_samples: Responses a question.
            begin: Called before each part is written: an attempt that fails before it has anything
                to keep binds nobody.
        """
        size = self._run.config.rollouts.part_size

        def make(index: int) -> pa.Table:
            table = self._make(kind, num_samples, index)
            begin()
            return table

        with progress(kind, self.num_questions) as update:
            run_parts(
                self._run,
                f"rollouts_{kind}",
                self.num_parts,
                make,
                lambda index: update(min((index + 1) * size, self.num_questions)),
            )

    def _make(self, kind: str, num_samples: int, index: int) -> pa.Table:
        settings, seed = self._run.config.rollouts, round_seed(self._run)
        start = index * settings.part_size
        chosen = range(start, min(start + settings.part_size, self.num_questions))
        fits = [i for i in chosen if self._unfit[i] is None]
        greedy = kind == "greedy"
        responses = self._generate(
            self._model,
            self._tokenizer,
            [self._prompts[i] for i in fits],
            num_samples=num_samples,
            temperature=None if greedy else settings.temperature,
            top_p=settings.top_p,
            max_new_tokens=settings.max_new_tokens,
            stop=settings.stop,
            batch_size=settings.batch_size,
            seed=part_seed(seed, kind, index),
        )
        by_question = dict(zip(fits, responses, strict=True))
        rows = [
            row
            for i in chosen
            for row in _rows(
                self._ids[i],
                self._prompts[i] if greedy else None,
                by_question.get(i, self._unfit[i]),
                self._run.config.answers.pattern,
            )
        ]
        return pa.Table.from_pylist(rows, schema=ROLLOUTS)


def _unfit(prompt: Sequence[int], max_new_tokens: int, limit: int | None) -> str | None:
    """Why a prompt cannot be put to the model; None where it can."""
    if not prompt:
        return "empty_prompt"
    if limit is not None and len(prompt) + max_new_tokens > limit:
        return "prompt_too_long_for_the_model"
    return None


def _rows(
    question_id: str, prompt: list[int] | None, responses: Any, pattern: str | None
) -> list[dict[str, Any]]:
    """A row a response; where there is none, `responses` is the reason, and so is the one row."""
    if isinstance(responses, str):
        return [_row(question_id, 0, prompt, [], "", None, "failed", responses)]
    return [
        _row(
            question_id, sample, prompt, r.tokens, r.text, extract_answer(r.text, pattern),
            r.finish, None if r.tokens else "empty_response",
        )
        for sample, r in enumerate(responses)
    ]  # fmt: skip


def _row(question_id: str, sample: int, prompt: Any, tokens: Any, text: str, answer: str | None,
         finish: str, failure: str | None) -> dict[str, Any]:  # fmt: skip
    return {
        "question_id": question_id, "sample": sample, "prompt_tokens": prompt, "tokens": tokens,
        "text": text, "answer": answer, "finish": finish, "failure": failure,
    }  # fmt: skip
