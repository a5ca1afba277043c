"""A fabricated run for the report's tests: random, consistent tables, real scoring and triage."""

import json
import random

import numpy as np
import pyarrow as pa

from pivottrace.cli import main
from pivottrace.config import parse_config
from pivottrace.run.directory import RunDir
from pivottrace.schemas import EVALUATION, QUESTIONS, ROLLOUTS, SIGNALS
from pivottrace.stages import calibrate, label, sample, score, triage
from pivottrace.verifier import Verifier

STAGES = (
    "pool",
    "greedy",
    "trace",
    "score",
    "sample",
    "calibrate",
    "triage",
    "label",
    "evaluate_before",
    "train",
    "evaluate_after",
)
# The truth of a question, which the model never finds and which nobody pays for before annotation.
HIDDEN_QUESTION, HIDDEN_TRUTH = "q-0010", "90210"
NAMES = ("Ada", "Boris", "Chen", "Dalia", "Emil", "Farah")
VOCABULARY: list[str] = []


def decode(tokens: list[int]) -> str:
    return "".join(VOCABULARY[token] for token in tokens)


def encode(words: list[str]) -> list[int]:
    for word in words:
        if word not in VOCABULARY:
            VOCABULARY.append(word)
    return [VOCABULARY.index(word) for word in words]


def make_run(path, until="evaluate_after", num_questions=160, hostile=None, **sections) -> RunDir:
    """Fabricate a run up to and with a stage; `hostile` is put wherever a model or user writes."""
    for stage, run in stages_of(path, num_questions, hostile, **sections):
        if stage == until:
            return run
    raise ValueError(until)


def stages_of(path, num_questions=160, hostile=None, **sections):
    """Yield (stage, run) each time that a stage has been added."""
    values = {
        "output": str(path),
        "seed": 7,
        "labels": {"budget": 0.3},
        "answers": {"verifier": "exact"},
        "rollouts": {"num_samples": 8},
        "calibrate": {"num_probes": 40},
        "train": {"steps": 60},
    } | sections
    run = RunDir.create(parse_config(values, where="test"))
    world = World(num_questions, hostile)
    makers = (
        world.pool,
        world.greedy,
        world.signals,
        score.run,
        world.sample,
        calibrate.run,
        triage.run,
        label.run,
        world.evaluate_before,
        world.train,
        world.evaluate_after,
    )
    seconds = (0.4, 4.2, 6.3, 1.9, 37.0, 0.8, 0.2, 0.1, 9.5, 88.0, 10.0)
    for stage, make, took in zip(STAGES, makers, seconds, strict=True):
        make(run)
        with (run.path / "timings.jsonl").open("a") as file:
            file.write(json.dumps({"stage": stage, "seconds": took}) + "\n")
        yield stage, run


class World:
    """Questions of graded difficulty whose harder traces look back at the question more often."""

    def __init__(self, num_questions, hostile):
        self.rng = random.Random(3)
        self.numpy = np.random.default_rng(3)
        self.hostile = hostile
        self.ids = [f"q-{i:04d}" for i in range(num_questions)]
        self.skill = np.clip(self.numpy.beta(1.6, 0.75, num_questions), 0, 1)
        self.skill[: num_questions // 3] = 1.0
        self.skill = self.skill[self.numpy.permutation(num_questions)]
        self.truth = [str(self.rng.randrange(12, 400)) for _ in self.ids]
        self.truth[10] = HIDDEN_TRUTH
        self.skill[10] = 0.0
        self.traces = [self._trace(i) for i in range(num_questions)]

    def _trace(self, i):
        """(words, far mass) of the greedy response."""
        words, mass = [], []

        def say(sentence, far):
            for k, word in enumerate(sentence.split()):
                words.append(word if not words else " " + word)
                mass.append(max(0.0, (far if k < 2 else 0.05) + self.rng.gauss(0, 0.012)))

        for step in range(4):
            say(
                f"Step {step + 1}: we add {self.rng.randrange(9)} and {self.rng.randrange(90)}, "
                f"which leaves {self.rng.randrange(200)} to share.",
                0.07,
            )
            if self.rng.random() < 1.2 * (1 - self.skill[i]):
                say("Wait, let me read the question again before going on with this.", 0.3)
        if self.hostile and i % 3 == 0:
            words.append(" " + self.hostile)
            mass.append(0.4)
        say(f"So the answer is {self._answer(i, self.skill[i] > 0.5)}.", 0.12)
        return words, mass

    def _answer(self, i, right):
        return self.truth[i] if right else str(self.rng.randrange(400, 430))

    def pool(self, run):
        rows = [
            {
                "id": question_id,
                "prompt": [{"role": "user", "content": self._question(i)}],
                "answer": self.truth[i],
                "source": "pool.jsonl",
                "extra": "{}",
            }
            for i, question_id in enumerate(self.ids)
        ]
        run.write_table("pool", pa.Table.from_pylist(rows, schema=QUESTIONS))
        run.mark_done(
            "pool",
            num_questions=len(rows),
            num_with_answer=len(rows),
            num_overlap=2,
            digest="ab" * 32,
            source_digests={"questions": "cd" * 32},
        )

    def _question(self, i):
        name, other = NAMES[i % 6], NAMES[(i + 2) % 6]
        return (
            f"{name} has {17 + i} marbles and buys {3 + i % 7} bags of {4 + i % 5}. {other} takes "
            f"a third of them. How many are left? {self.hostile or ''}"
        )

    def greedy(self, run):
        rows = []
        for i, question_id in enumerate(self.ids):
            words, _ = self.traces[i]
            text, failure = "".join(words), "empty_response" if i == 11 else None
            rows.append(
                {
                    "question_id": question_id,
                    "sample": 0,
                    "prompt_tokens": [1, 2],
                    "tokens": [] if failure else encode(words),
                    "text": "" if failure else text,
                    "answer": None if failure or i == 12 else text.split()[-1].rstrip("."),
                    "finish": "length" if i == 12 else "stop",
                    "failure": failure,
                }
            )
        run.write_part("rollouts_greedy", 0, pa.Table.from_pylist(rows[:100], schema=ROLLOUTS))
        run.write_part("rollouts_greedy", 1, pa.Table.from_pylist(rows[100:], schema=ROLLOUTS))
        run.mark_done(
            "greedy",
            num_questions=len(rows),
            model_digest="12" * 32,
            tokenizer_digest="34" * 32,
            dtype="float32",
        )

    def sample(self, run):
        sampled = [
            {
                "question_id": question_id,
                "sample": k,
                "prompt_tokens": None,
                "tokens": [0],
                "text": f"Sample {k} of {question_id}. {self.hostile or ''}",
                "answer": self._answer(i, self.rng.random() < self.skill[i]),
                "finish": "stop",
                "failure": None,
            }
            for i, question_id in enumerate(self.ids)
            for k in range(8)
        ]
        for part, rows in enumerate((sampled[:800], sampled[800:])):
            run.write_part("rollouts_sampled", part, pa.Table.from_pylist(rows, schema=ROLLOUTS))
        with Verifier.of(run.config.answers) as verifier:
            sample.vote(run, verifier)

    def signals(self, run):
        rows = []
        for i, question_id in enumerate(self.ids):
            mass = np.array(self.traces[i][1], np.float32)
            if i == 11:
                rows.append(
                    dict.fromkeys(SIGNALS.names)
                    | {"question_id": question_id, "failure": "empty_response"}
                )
                continue
            entropy = self.numpy.gamma(1 + 2 * (1 - self.skill[i]), 0.1, mass.size)
            rows.append(
                {
                    "question_id": question_id,
                    "far_mass": mass,
                    "far_mass_all": mass,
                    "waad": mass * 10,
                    "question_mass": mass / 2,
                    "layer_path": None,
                    "self_certainty": 5 - entropy.astype(np.float32),
                    "entropy": entropy.astype(np.float32),
                    "log_prob": -entropy.astype(np.float32),
                    "top2_margin": 0.5,
                    "failure": None,
                }
            )
        run.write_part("signals", 0, pa.Table.from_pylist(rows[:100], schema=SIGNALS))
        run.write_part("signals", 1, pa.Table.from_pylist(rows[100:], schema=SIGNALS))
        reference = {"question_ids": self.ids[:64], "heads": None}
        (run.path / "reference.json").write_text(json.dumps(reference))
        run.mark_done("trace", num_heads=None)

    def train(self, run):
        folder = run.round_path / "train"
        folder.mkdir()
        lines, curve = [], []
        for step in range(1, 61):
            gain = 1 - np.exp(-step / 25)
            lines.append(
                {
                    "step": step,
                    "loss": 0.01,
                    "learning_rate": 5e-4,
                    "grad_norm": 0.4,
                    "reward": 0.5 + 0.3 * gain,
                    "entropy": 0.5 - 0.2 * gain,
                    "reward/annotate": 0.42 + 0.3 * gain + self.rng.gauss(0, 0.05),
                    "reward/weak": 0.7 + 0.2 * gain + self.rng.gauss(0, 0.04),
                    "vote_share": 0.7 + 0.2 * gain,
                    "completions/mean_length": 52 - 9 * gain,
                }
            )
            if step % 20 == 0:
                mean = 0.62 + 0.12 * gain
                curve.append(
                    {"step": step, "accuracy": mean, "low": mean - 0.025, "high": mean + 0.025}
                )
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        alarm = {"step": 40, "what": "votes", "value": 0.4, "threshold": 0.6, "action": "pause"}
        (folder / "alarms.jsonl").write_text(json.dumps(alarm) + "\n")
        (folder / "learning_curve.jsonl").write_text("".join(json.dumps(c) + "\n" for c in curve))
        run.mark_done(
            "train",
            trained=True,
            num_rows={"annotate": 40, "weak": 38},
            steps=60,
            passes=6.15,
            left_out={},
        )

    def evaluate_before(self, run):
        self.evaluate(run, "before", 0.62)
        figures = {"accuracy": 0.6208, "low": 0.5932, "high": 0.6479, "pass_at_k": 0.81, "k": 4}
        run.mark_done("evaluate_before", figures=figures | {"num_questions": 500})

    def evaluate_after(self, run):
        self.evaluate(run, "after", 0.73)
        figures = {"accuracy": 0.7312, "low": 0.7051, "high": 0.7561, "pass_at_k": 0.86, "k": 4}
        run.mark_done(
            "evaluate_after",
            figures=figures | {"num_questions": 500},
            difference={"mean": 0.1104, "low": 0.0871, "high": 0.1337},
        )

    def evaluate(self, run, when, chance):
        rows = [
            {
                "question_id": f"e{i}",
                "sample": k,
                "answer": "1",
                "num_tokens": 40,
                "correct": self.rng.random() < chance,
                "finish": "stop",
            }
            for i in range(50)
            for k in range(4)
        ]
        run.write_table(f"evaluation_{when}", pa.Table.from_pylist(rows, schema=EVALUATION))


def make_waiting_run(path):
    """A run of 60 questions that waits for the labels of its twelve probes."""
    run = make_run(
        path,
        "sample",
        60,
        rollouts={"num_samples": 8, "sampling": "fixed"},
        labels={"budget": 20, "source": "file"},
        calibrate={"num_probes": 12},
        triage={"hopeless": "annotate", "least_label_gain": 0.0},
        train={"enabled": False},
    )
    assert main(["calibrate", str(run.path)]) == 3
    return run
