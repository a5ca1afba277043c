"""The questions of the pool are put to the model part by part.

A part is `part_size` questions that follow each other in the pool. Its samples are seeded by
(the round's seed, kind, step, part index). So a part that is made again after a kill is the same,
and two kinds, two steps or two rounds never share samples.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import replace
from itertools import chain, compress
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pivottrace.config import RolloutsConfig
from pivottrace.models.asking import Asked, ask
from pivottrace.models.backends import sampler_for
from pivottrace.models.identity import refuse_another_model
from pivottrace.models.rendering import render_questions
from pivottrace.models.sampler import Sampling
from pivottrace.rollouts.answer_reader import AnswerReader
from pivottrace.rollouts.held_out import held_out_questions, render_held_out
from pivottrace.rollouts.prompt_room import refuse_long_prompts
from pivottrace.run.directory import RunDir
from pivottrace.run.part_work import part_seed, run_parts
from pivottrace.run.progress import Update, counted, part_sizes, progress
from pivottrace.run.rounds import round_seed, start_model
from pivottrace.run.storage import num_rows, read_parquet
from pivottrace.schemas import ROLLOUTS

NO_CHAT_TEMPLATE = (
    "the model has no chat template, so questions are put to it as plain text. A chat model rarely "
    "expects plain text"
)
Begin = Callable[[], None]
"""A function that records the settings of the attempt; see `run_parts`."""
Choose = Callable[[Sequence[int], Sequence[Sequence[str | None]]], Iterable[bool]]
"""A function of some questions' places in the pool and of their sampled answers so far. It says
which of the questions are sampled further."""


class PoolRollouts:
    """The run's open sampler, with the prompt of every question of the pool.

    The kinds of parts are written independently, by stages of their own.

    Args:
        run: The run, in the round of the parts.
        only: Ids of the questions that are asked; None asks the whole pool. The parts are of the
            same questions, without the others.

    Attributes:
        num_questions: Number of questions in the pool.
        num_parts: Number of part files for the whole pool.

    Raises:
        ModelError: The model cannot be opened, or its chat template refuses a question.
        RunDirError: Another model wrote the run's rollouts.
    """

    def __init__(self, run: RunDir, only: Container[str] | None = None) -> None:
        # The question table is read first, because loading a model takes seconds.
        questions = run.read_table("pool", made_by="run").select(["id", "prompt"]).to_pylist()
        self._run, self._only = run, only
        self._sampler = run.crew.open(sampler_for, start_model(run), run.config)
        tokenizer = self._sampler.tokenizer
        refuse_another_model(run, self._sampler.facts())
        if tokenizer.chat_template is None:
            print(f"note: {NO_CHAT_TEMPLATE}", file=sys.stderr, flush=True)
        self._ids = [question["id"] for question in questions]
        asked = (question["prompt"] for question in questions)
        self._prompts = render_questions(tokenizer, asked, run.config.pool)
        self._reader, self._is_warned = AnswerReader.of(run.config), False
        self.num_questions = len(questions)
        self.num_parts = -(-len(questions) // run.config.rollouts.part_size)

    @property
    def facts(self) -> dict[str, Any]:
        """The sampler's facts so far, and whether its model has a chat template; to be recorded."""
        has_template = self._sampler.tokenizer.chat_template is not None
        return {**self._sampler.facts(), "chat_template": has_template}

    def refuse_long_prompts(self) -> None:
        """Refuse limits that a prompt of the pool, or a held-out one, does not fit.

        Raises:
            ConfigError: As `prompt_room.refuse_long_prompts`.
        """
        held_out, config = held_out_questions(self._run), self._run.config
        prompts = render_held_out(self._sampler.tokenizer, held_out, config.pool)
        refuse_long_prompts(
            config,
            self._sampler.max_positions,
            dict(zip(self._ids, self._prompts, strict=True)),
            dict(zip((question["id"] for question in held_out), prompts, strict=True)),
        )

    def write_greedy(self, begin: Begin) -> None:
        """Write the missing parts of `rollouts_greedy`: one greedy trace per question."""
        settings = replace(sampling_of(self._run.config.rollouts, 1), temperature=None)
        self._write("greedy", settings, (1,), begin)

    def write_first(self, num_samples: int, begin: Begin) -> None:
        """Write the missing parts of `rollouts_first`: the samples of the first of several steps.

        They are apart because the rule that chooses the questions of the next step reads the first
        samples of the whole pool. They are read off the parts of `rollouts_sampled` that exist.
        """
        settings = sampling_of(self._run.config.rollouts, 1)
        self._write("first", settings, (num_samples,), begin)

    def write_sampled(
        self, steps: Sequence[int], begin: Begin, choose: Choose | None = None
    ) -> None:
        """Write the missing parts of `rollouts_sampled`, each in steps.

        Args:
            steps: Samples per question after each step, increasing. If there are several,
                `write_first` has taken the first one. A question that goes on to the end has the
                last number of samples.
            begin: See `Begin`.
            choose: It chooses the questions of the next step. It is not asked after the last step.
        """
        self._write("sampled", sampling_of(self._run.config.rollouts, 1), steps, begin, choose)

    def write_truth(self, begin: Begin) -> None:
        """Write the missing parts of `rollouts_truth`: `study.truth_samples` per question."""
        config = self._run.config
        settings = sampling_of(config.rollouts, 1)
        self._write("truth", settings, (config.study.truth_samples,), begin)

    def _write(
        self,
        kind: str,
        settings: Sampling,
        steps: Sequence[int],
        begin: Begin,
        choose: Choose | None = None,
    ) -> None:
        with progress(kind, self.num_questions) as update:
            run_parts(
                self._run,
                f"rollouts_{kind}",
                self.num_parts,
                lambda index: self._ask(kind, index, settings, steps, choose),
                on_parts=self._shown(kind, update),
                begin=begin,
                is_over=self.is_sampled if kind == "first" else lambda: False,
            )

    def is_sampled(self) -> bool:
        """Whether every part of `rollouts_sampled` is there."""
        return all(self._run.has_part("rollouts_sampled", i) for i in range(self.num_parts))

    def _shown(self, kind: str, update: Update) -> Callable[[Sequence[int]], None]:
        """A function that shows the progress: questions, and samples so far.

        The number of samples to come is not known, since questions may stop early.
        """
        sizes = part_sizes(self.num_questions, self._run.config.rollouts.part_size)
        if kind == "greedy":
            return counted(update, sizes)
        samples = 0
        show_questions = counted(lambda done: update(done, f"{samples:,} samples"), sizes)

        def show(finished: Sequence[int]) -> None:
            nonlocal samples
            for index in finished:
                path = self._run.part_path(f"rollouts_{kind}", index)
                samples += num_rows(path) if path.is_file() else 0
            show_questions(finished)

        return show

    def _ask(
        self,
        kind: str,
        index: int,
        settings: Sampling,
        steps: Sequence[int],
        choose: Choose | None,
    ) -> pa.Table:
        """Make part `index`, a table of schema `ROLLOUTS`."""
        if kind == "first" and self._run.has_part("rollouts_sampled", index):
            sampled = read_parquet(self._run.part_path("rollouts_sampled", index))
            return sampled.filter(pc.field("sample") < steps[0])
        size = self._run.config.rollouts.part_size
        places = range(index * size, min((index + 1) * size, self.num_questions))
        asking = [i for i in places if self._only is None or self._ids[i] in self._only]
        rows: dict[int, list[dict[str, Any]]] = {i: [] for i in asking}
        if choose is not None:
            stored = read_parquet(self._run.part_path("rollouts_first", index)).to_pylist()
            place = {self._ids[i]: i for i in asking}
            for row in stored:
                rows[place[row["question_id"]]].append(row)
            asking = [i for i in asking if rows[i][0]["finish"] != "failed"]
        for step, before in enumerate((0, *steps[:-1])):
            if choose is not None:
                if not step:
                    continue
                answers = [[row["answer"] for row in rows[i]] for i in asking]
                asking = list(compress(asking, choose(asking, answers)))
            # The first step has the seed of a sampling in one step.
            name = "sampled" if kind == "first" else kind
            seed = part_seed(round_seed(self._run), f"{name}/{step}" if step else name, index)
            each_time = replace(settings, num_samples=steps[step] - before, seed=seed)
            asked = ask(self._sampler, [self._prompts[i] for i in asking], each_time)
            if not step:
                self._warn_if_unread(asked)
            for i, each in zip(asking, asked, strict=True):
                # Only greedy responses are traced, and a trace needs the prompt too.
                prompt = each.prompt if settings.temperature is None else None
                shared = {"question_id": self._ids[i], "prompt_tokens": prompt}
                rows[i] += [shared | row for row in _response_rows(each, self._reader, before)]
            asking = [i for i, each in zip(asking, asked, strict=True) if each.failure is None]
        return pa.Table.from_pylist(list(chain.from_iterable(rows.values())), schema=ROLLOUTS)

    def _warn_if_unread(self, asked: Sequence[Asked]) -> None:
        """Say at the first part without any answer what to do, not after hours of sampling."""
        if self._is_warned:
            return
        limit = f"rollouts.max_new_tokens = {self._run.config.rollouts.max_new_tokens}"
        responses = [(r.text, r.finish) for each in asked for r in each.responses]
        if why := self._reader.why_none(responses, limit):
            self._is_warned = True
            print(f"note: {why}", file=sys.stderr, flush=True)


def sampling_of(rollouts: RolloutsConfig, num_samples: int) -> Sampling:
    """The sampling of `[rollouts]`, with the default seed."""
    return Sampling(
        num_samples=num_samples,
        temperature=rollouts.temperature,
        top_p=rollouts.top_p,
        max_new_tokens=rollouts.max_new_tokens,
        stop=tuple(rollouts.stop),
        batch_size=rollouts.batch_size,
    )


def _response_rows(asked: Asked, reader: AnswerReader, before: int) -> list[dict[str, Any]]:
    """One row per response, the first one numbered `before`.

    A question that was not asked gets one row with the reason.
    """
    if asked.failure is not None:
        return [
            {
                "sample": 0,
                "tokens": [],
                "text": "",
                "answer": None,
                "finish": "failed",
                "failure": asked.failure,
            }
        ]
    return [
        {
            "sample": sample,
            "tokens": response.tokens,
            "text": response.text,
            "answer": reader.read(response.text),
            "finish": response.finish,
            "failure": None if response.tokens else "empty_response",
        }
        for sample, response in enumerate(asked.responses, before)
    ]
