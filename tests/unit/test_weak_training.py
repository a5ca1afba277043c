"""Every weak reward through TRL's trainer, and what the live model is asked for."""

import copy
import json
import math
import operator
from functools import partial

import pyarrow as pa
import pytest
import torch
from parrot_sampler import ParrotSampler
from training_run import CONFIG, GROUP, WORDS, build_tokenizer, metrics, training_rows

from pivottrace.config import Config, PoolConfig, parse_config
from pivottrace.errors import ConfigError, DataError, ModelError
from pivottrace.models.generate import TransformersSampler
from pivottrace.models.policy import Policy, sampling_seed
from pivottrace.models.rendering import render_prompt
from pivottrace.models.teacher import SlowTeacher
from pivottrace.rewards import reward_named
from pivottrace.rewards.mix import mixed_reward
from pivottrace.rollouts.rewriting import rewrites_by_model, rewrites_from_column
from pivottrace.schemas import TRAINING_ROWS
from pivottrace.training.reward import check_training, training_policy, training_reward
from pivottrace.training.trl import train_grpo
from pivottrace.verifier import Verifier
from pivottrace.verifier.answers import group_equivalent

pytestmark = pytest.mark.usefixtures("one_thread")

PROMPT = [{"role": "user", "content": "a b"}]
OTHER = [{"role": "user", "content": "c d e f"}]
VOTES = {"majority", "co_rewarding_rewrite", "co_rewarding_teacher"}
REWARDS = [
    "majority",
    "frozen_majority",
    "token_entropy",
    "sequence_entropy",
    "self_certainty",
    "sequence_confidence",
    "co_rewarding_rewrite",
    "co_rewarding_teacher",
]


def configured(**weak) -> Config:
    return parse_config(
        {
            "answers": {"verifier": "exact", "pattern": r"^\S+"},
            "train": CONFIG.model_dump(exclude_none=True),
            "weak": weak,
        },
        "test",
    )


def policy_of(model, tokenizer, **more):
    return Policy(model, tokenizer, extract=lambda text: text or None, max_new_tokens=5, **more)


def rows():
    changed = [
        {**row, "pseudo_label": "a", "rewrite": OTHER} if row["route"] == "weak" else row
        for row in training_rows(routes=("annotate", "weak", "weak")).to_pylist()
    ]
    return pa.Table.from_pylist(changed, schema=TRAINING_ROWS)


@pytest.mark.parametrize("name", REWARDS)
def test_trl_trains_with_every_weak_reward(start, tokenizer, tmp_path, name):
    config = configured(reward=name, vote_size=6 if name in VOTES else None)
    model = copy.deepcopy(start)
    with Verifier("exact") as verifier:
        reward = training_reward(
            config,
            verifier,
            training_policy(
                config, model, tokenizer, num_steps=config.train.steps, seed=config.seed
            ),
        )
        train_grpo(model, tokenizer, rows(), reward, config.train, tmp_path)
    lines = metrics(tmp_path)
    assert len(lines) == 2
    for line in lines:
        assert math.isfinite(line["loss"]) and math.isfinite(line["reward/weak"])
        extra = {"majority": 2 * (6 - GROUP), "co_rewarding_rewrite": 12}.get(name, 0)
        extra = 12 if name == "co_rewarding_teacher" else extra
        assert line.get("extra_rollouts", 0) == extra
        assert ("vote_share" in line) == (name in VOTES)
    if reward_named(name).needs == "tokens":  # votes of a random model may abstain in every group
        assert all(line["grad_norm"] > 0 for line in lines)


# The live model ---------------------------------------------------------------------------------


def test_token_statistics_match_whole_logits(start, tokenizer):
    policy = policy_of(start, tokenizer, batch_size=2)
    completions = [(PROMPT, [9, 10, 1]), (OTHER, [11]), (PROMPT, [12, 12]), (OTHER, [])]
    found = policy.token_statistics(completions)
    assert found[3].log_prob.size == 0
    for (messages, ids), statistics in zip(completions[:3], found[:3], strict=True):
        prompt = render_prompt(tokenizer, messages, PoolConfig())
        with torch.no_grad():
            logits = start.eval()(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
        p = logits.double().log_softmax(-1)
        log_prob = p[range(len(ids)), ids]
        assert statistics.log_prob == pytest.approx(log_prob.numpy(), abs=1e-5)
        assert statistics.entropy == pytest.approx(-(p.exp() * p).sum(-1).numpy(), abs=1e-5)
        certainty = -p.mean(-1) - math.log(len(WORDS))
        assert statistics.self_certainty == pytest.approx(certainty.numpy(), abs=1e-5)


def test_directions_are_unit_means_of_final_states(start, tokenizer):
    found = policy_of(start, tokenizer).directions([(PROMPT, [9, 10]), (PROMPT, [])])
    prompt = render_prompt(tokenizer, PROMPT, PoolConfig())
    with torch.no_grad():
        states = start.eval().model(torch.tensor([[*prompt, 9, 10]])).last_hidden_state[0]
    mean = states[len(prompt) - 1 : len(prompt) + 1].mean(0)
    assert found[0] == pytest.approx((mean / mean.norm()).numpy(), abs=1e-5)
    assert not found[1].any()


def test_asking_repeats_itself_and_leaves_the_training_alone(start, tokenizer):
    policy, questions = policy_of(start, tokenizer, seed=3), [("a", PROMPT), ("b", OTHER)]
    start.train()
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first = policy.ask(2, questions, 8)
    assert torch.equal(torch.random.get_rng_state(), before) and start.training
    policy.token_statistics([(PROMPT, [9])])
    assert torch.equal(torch.random.get_rng_state(), before) and start.training
    assert [len(sampled.answers) for sampled in first] == [8, 8]
    torch.manual_seed(8)
    assert policy.ask(2, questions, 8) == first
    assert policy.ask(3, questions, 8) != first
    assert sampling_seed(0, 1, ["a"]) != sampling_seed(0, 1, ["b"])


def test_a_prompt_that_leaves_no_room_has_no_answers(start, tokenizer):
    long = [{"role": "user", "content": " ".join("a" * 60)}]
    short, none = policy_of(start, tokenizer).ask(0, [("a", PROMPT), ("b", long)], 2)
    assert len(short.answers) == 2 and none.answers == []


def test_an_empty_prompt_has_no_answers(start):
    tokenizer = build_tokenizer("{{ messages[0]['content'] }}")
    empty = [{"role": "user", "content": ""}]
    none, short = policy_of(start, tokenizer).ask(0, [("a", empty), ("b", PROMPT)], 2)
    assert len(short.answers) == 2 and none.answers == []


# The slow teacher -------------------------------------------------------------------------------


def test_the_teacher_follows_once_a_step_and_is_put_back(start, tmp_path):
    model = copy.deepcopy(start)
    teacher = SlowTeacher(model, decay=0.75, decay_end=0.75, num_steps=4)
    teacher.follow(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    teacher.follow(1)
    teacher.follow(1)
    name = "model.norm.weight"
    own, first = model.get_parameter(name).clone(), start.get_parameter(name)
    with teacher.in_place():
        assert torch.allclose(model.get_parameter(name), first + 0.25)
    assert torch.equal(model.get_parameter(name), own)

    teacher.save(tmp_path)
    resumed = SlowTeacher(model, decay=0.75, decay_end=0.75, num_steps=4)
    resumed.load(tmp_path)
    for each in (teacher, resumed):
        each.follow(1)
        each.follow(2)
        with each.in_place():
            assert torch.allclose(model.get_parameter(name), first + 0.4375)
    with pytest.raises(ModelError, match="is missing"):
        resumed.load(tmp_path / "none")


def test_the_teachers_decay_goes_along_a_half_cosine(start):
    teacher = SlowTeacher(start, decay=0.9, decay_end=0.98, num_steps=4)
    assert [teacher.decay_at(step) for step in (0, 2, 4, 9)] == pytest.approx(
        [0.9, 0.94, 0.98, 0.98]
    )


# Rules, settings, rewriting -----------------------------------------------------------------------


class Recorder:
    def __init__(self):
        self.seen = []

    def observe(self, step, groups):
        self.seen.append((step, list(groups)))

    def label(self, question_id, label):
        return "odd" if question_id == "q0" else label


def test_rules_see_every_group_and_may_change_a_label():
    rule = Recorder()
    reward = mixed_reward(
        extract=lambda text: text or None,
        check=lambda answers, truths: [a == t for a, t in zip(answers, truths, strict=True)],
        group=partial(group_equivalent, equal=operator.eq),
        num_generations=2,
        rules=[rule],
        directions=lambda pairs: torch.arange(len(pairs))[:, None].numpy(),
    )
    rewards = reward(
        prompts=["?"] * 4,
        completions=["even", "odd", "x", ""],
        completion_ids=[[1], [1, 2], [3], []],
        question_id=["q0", "q0", "q1", "q1"],
        route=["annotate", "annotate", "weak", "weak"],
        label=["even", "even", None, None],
    )
    assert rewards == [0, 1, 1, 0]
    ((step, (first, second)),) = rule.seen
    assert step == 0
    assert (first.question_id, first.route, first.rewards) == ("q0", "annotate", (0, 1))
    assert (second.answers, second.classes, second.num_tokens) == (("x", None), (0, -1), (1, 0))
    assert second.hidden.tolist() == [[2], [3]]


def test_settings_that_make_no_sense_are_refused():
    for reward in ("frozen_majority", "self_certainty"):
        for given in ({"vote_size": 8}, {"vote_margin": 0.1}):
            with pytest.raises(ConfigError, match=rf"{next(iter(given))} = .* {reward} takes none"):
                check_training(configured(reward=reward, **given))
    with pytest.raises(ConfigError, match=r"vote_size = 3 is less than .* = 4"):
        check_training(configured(vote_size=3))
    with pytest.raises(ConfigError, match=r"rewrite_prompt has no \{question\}"):
        check_training(configured(rewrite_prompt="Say it again."))
    trapo = {"refine": {"rule": "trapo"}}
    with pytest.raises(ConfigError, match=r"rule = trapo weighs .* token_entropy takes no vote"):
        check_training(parse_config({**trapo, "weak": {"reward": "token_entropy"}}, "test"))
    with pytest.raises(ConfigError, match=r"rule = trapo learns over .* rounds.num = 2"):
        check_training(parse_config({**trapo, "rounds": {"num": 2}}, "test"))


def test_rewrites_come_from_a_column_or_the_model(start, tokenizer):
    questions = [{"id": "q", "prompt": PROMPT, "extra": json.dumps({"x": {"new": " c d "}})}]
    assert rewrites_from_column(questions, "x.new") == {"q": "c d"}
    with pytest.raises(DataError, match=r"'q' has no text in .* 'y'"):
        rewrites_from_column(questions, "y")
    config = configured(rewrite_prompt="h {question} i")
    sampler = TransformersSampler(start.eval(), tokenizer)
    written = rewrites_by_model(questions, config, sampler, 0)
    assert written == rewrites_by_model(questions, config, sampler, 0)
    assert written["q"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("think a b", "c"),  # cut at the limit of three tokens
        ("</think> b", "b"),
        ("a </think>", "c"),
        ("", "c"),
    ],
)
def test_a_rewriting_that_was_cut_or_is_empty_leaves_the_question(words, expected):
    tokenizer = build_tokenizer()
    tokenizer.add_tokens("</think>")
    sampler = ParrotSampler(tokenizer, words)
    config = configured(rewrite_prompt="{question}")
    config = config.model_copy(
        update={"train": config.train.model_copy(update={"max_new_tokens": 3})}
    )
    questions = [{"id": "q", "prompt": [{"role": "user", "content": "c"}]}]
    assert rewrites_by_model(questions, config, sampler, 0) == {"q": expected}


@pytest.mark.parametrize("text", ["", " ".join("a" * 60)], ids=["empty", "too long"])
def test_a_question_that_cannot_be_put_to_the_model_stays_as_it_is(start, text):
    tokenizer = build_tokenizer("{{ messages[0]['content'] }}")
    questions = [{"id": "q", "prompt": [{"role": "user", "content": text}]}]
    config = configured(rewrite_prompt="{question}")
    sampler = TransformersSampler(start, tokenizer)
    assert rewrites_by_model(questions, config, sampler, 0) == {"q": text}
