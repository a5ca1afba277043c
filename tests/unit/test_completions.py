"""Requests name every parameter; replies are taken as they must be, or refused in one sentence."""

import pytest

from pivottrace.errors import ModelError
from pivottrace.models import completions
from pivottrace.models.completions import ServedModel
from pivottrace.models.sampler import Sampling
from pivottrace.models.server_client import UnfinishedReply

MODEL = ServedModel("tiny", frozenset({1}), 20)
PROMPT = [8, 9]
SAMPLED = Sampling(num_samples=2, temperature=0.7, top_p=0.9, max_new_tokens=4, stop=("a",))
GREEDY = Sampling(num_samples=1, temperature=None, top_p=0.9, max_new_tokens=4)


def choice(tokens, finish="stop", index=0, **more):
    ids = {"token_ids": tokens, "prompt_token_ids": PROMPT}
    return {"index": index, "finish_reason": finish, "stop_reason": None, **ids, **more}


def read(*choices, settings=GREEDY):
    return completions.responses({"choices": list(choices)}, PROMPT, settings, MODEL)


def test_every_parameter_that_changes_a_response_is_sent():
    body = completions.request(MODEL, PROMPT, SAMPLED, seed=5)
    assert body == {
        "model": "tiny",
        "prompt": PROMPT,
        "n": 2,
        "max_tokens": 4,
        "min_tokens": 0,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "seed": 5,
        "stop": ["a"],
        "stop_token_ids": [1],
        "ignore_eos": False,
        "skip_special_tokens": True,
        "include_stop_str_in_output": False,
        "watermarking": False,
        "echo": False,
        "stream": False,
        "return_token_ids": True,
    }
    greedy = completions.request(MODEL, PROMPT, GREEDY, seed=5)
    assert (greedy["temperature"], greedy["top_p"], greedy["n"]) == (0.0, 1.0, 1)


def test_a_seed_depends_on_the_question_and_not_on_its_company():
    prompts = [[1, 2], [3], [1, 2], [12]]
    found = list(completions.seeds(prompts, 7))
    assert len(set(found)) == 4
    assert list(completions.seeds(prompts[1:], 7)) == [found[1], found[0], found[3]]
    assert not set(completions.seeds(prompts, 8)) & set(found)
    assert all(0 <= seed < 2**52 for seed in found)


def test_the_end_token_is_taken_off_and_nothing_else():
    assert read(choice([5, 6, 1])) == [[5, 6]]
    assert read(choice([1])) == [[]]
    assert read(choice([5, 6, 7, 8], "length")) == [[5, 6, 7, 8]]
    ended = choice([9], stop_reason="a", index=1), choice([5, 5, 5, 1])
    assert read(*ended, settings=SAMPLED) == [[5, 5, 5], [9]]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"choices": None}, "has no choices"),
        ([], "has no choices"),
        ({"choices": []}, "gave 0 responses to a prompt, and 1 were asked for"),
        ({"choices": [choice([1]), choice([1], index=1)]}, "gave 2 responses"),
        ({"choices": [{"index": 0, "text": "a b"}]}, "gives no token ids"),
        ({"choices": [choice([1], prompt_token_ids=[9])]}, "read another prompt than we sent: 1"),
        ({"choices": [choice([20, 1])]}, "the token id 20, and the model here has only 20"),
        ({"choices": [choice(["5", 1])]}, "the token id '5'"),
        ({"choices": [choice([5, 6], "length")]}, "cut a response after 2 tokens, .* limit is 4"),
        ({"choices": [choice([5] * 5, "length")]}, "a response of 5 tokens, and the limit is 4"),
        ({"choices": [choice([5], "repetition")]}, "for the reason 'repetition'"),
        ({"choices": [choice([5, 6])]}, "ended a response with the token 6"),
        ({"choices": [choice([])]}, "ended a response with the token nothing"),
    ],
)
def test_another_reply_is_refused(given, why):
    with pytest.raises(ModelError, match=why):
        completions.responses(given, PROMPT, GREEDY, MODEL)


def test_a_response_that_the_server_broke_off_is_unfinished():
    for finish in ("abort", "error"):
        with pytest.raises(UnfinishedReply):
            read(choice([5], finish))


def scored(*values):
    return {"choices": [choice([3], "length", prompt_logprobs=list(values))]}


def test_the_scores_of_the_last_tokens_are_read():
    reply = scored(None, {"9": {"logprob": -0.5}, "4": {"logprob": -0.1}})
    assert completions.log_probs(reply, PROMPT, 1, MODEL) == [-0.5]


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ({"choices": [choice([3], "length")]}, "gives no log-probabilities"),
        (scored(None), "gives no log-probabilities"),
        (scored(None, {"4": {"logprob": -1}}), "cannot be read"),
        (scored(None, None), "cannot be read"),
    ],
)
def test_missing_scores_are_refused(reply, why):
    with pytest.raises(ModelError, match=why):
        completions.log_probs(reply, PROMPT, 1, MODEL)
