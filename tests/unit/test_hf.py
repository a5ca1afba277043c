"""Loading, prompting and generating with transformers, where model or machine is awkward."""

import logging

import pytest
import torch
from huggingface_hub import constants
from training_run import WORDS, build_model, build_tokenizer
from transformers import GenerationConfig

from pivottrace.config import ModelConfig, PoolConfig
from pivottrace.errors import ModelError
from pivottrace.models import hf
from pivottrace.models.batches import in_batches

pytestmark = pytest.mark.usefixtures("one_thread")

QUESTION = [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]
NO_MEMORY = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes. Error 12"),
)


# Loading --------------------------------------------------------------------------------------


def save_without_special_tokens(folder, end):
    """A model folder whose tokenizer names neither padding nor end; `end` is the model's own."""
    tokenizer, model = build_tokenizer(), build_model()
    tokenizer.pad_token = tokenizer.eos_token = None
    tokenizer.save_pretrained(folder)
    model.config.eos_token_id = end
    model.generation_config = GenerationConfig(eos_token_id=end)
    model.save_pretrained(folder)
    return ModelConfig(path=str(folder))


@pytest.mark.parametrize("end", [1, [5, 1]])
def test_the_models_own_end_pads_where_the_tokenizer_names_none(tmp_path, end):
    model, tokenizer = hf.load_model(save_without_special_tokens(tmp_path, end))
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 1
    found = hf.generate(
        model, tokenizer, [[8, 9], [8]], num_samples=1, temperature=None, max_new_tokens=4
    )
    assert [len(responses) for responses in found] == [1, 1]


def test_a_model_that_names_no_end_anywhere_is_refused(tmp_path):
    config = save_without_special_tokens(tmp_path, None)
    with pytest.raises(ModelError, match=r"names a padding or an end-of-sequence.*Set tokenizer"):
        hf.load_model(config)


def test_a_revision_of_the_hub_is_found_again_by_the_models_name(tmp_path, monkeypatch):
    """TRL loads a reference model by that name alone, so it must not mean another revision."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "models--someone--model"
    (repository / "refs").mkdir(parents=True)
    model = build_model()
    for i, name in enumerate(("main", "step-1")):
        commit = str(i) * 40
        (repository / "refs" / name).write_text(commit)
        torch.nn.init.constant_(model.model.norm.weight, i)
        model.save_pretrained(repository / "snapshots" / commit)
        build_tokenizer().save_pretrained(repository / "snapshots" / commit)
    loaded, _ = hf.load_model(ModelConfig(path="someone/model", revision="step-1"))
    again, _ = hf.load_model(ModelConfig(path=loaded.config.name_or_path))
    assert loaded.model.norm.weight.mean() == again.model.norm.weight.mean() == 1


# Prompts --------------------------------------------------------------------------------------


def test_a_template_that_refuses_a_role_says_what_to_remove():
    template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}{{ messages[0]['content'] }}"
    )
    tokenizer = build_tokenizer(template)
    assert hf.render_prompt(tokenizer, QUESTION[1:], PoolConfig()) == [WORDS.index("b")]
    with pytest.raises(
        ModelError,
        match=r"roles system, user: System role not supported\. Remove pool\.system_prompt",
    ):
        hf.render_prompt(tokenizer, QUESTION, PoolConfig())


# Memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", NO_MEMORY, ids=["cuda", "cpu"])
def test_batches_shrink_once_and_stay_small(error, caplog):
    asked = []

    def work(start, batch):
        asked.append((start, len(batch)))
        if len(batch) > 3:
            raise error
        return [10 * row for row in batch]

    with caplog.at_level(logging.WARNING):
        assert in_batches(range(8), 7, work) == [10 * row for row in range(8)]
    assert asked == [(0, 7), (0, 3), (3, 3), (6, 2)]
    assert "going on with 3 sequences" in caplog.text


@pytest.mark.parametrize("error", NO_MEMORY, ids=["cuda", "cpu"])
def test_one_row_that_does_not_fit_is_an_error_with_its_cure(error):
    def work(start, batch):
        raise error

    with pytest.raises(ModelError, match=r"one sequence at a time: use a smaller model"):
        in_batches(range(5), 4, work)


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def work(start, batch):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        in_batches(range(5), 4, work)


@pytest.mark.parametrize("error", NO_MEMORY, ids=["cuda", "cpu"])
def test_running_out_of_memory_leaves_samples_repeatable(start, tokenizer, monkeypatch, error):
    def sample(batch_size):
        return hf.generate(
            start, tokenizer, [[8, 9], [8, 10, 11], [12]], num_samples=4, temperature=1.0,
            max_new_tokens=6, batch_size=batch_size, seed=7,
        )  # fmt: skip

    expected, own = sample(4), hf.generate_compacting
    assert len({tuple(r.tokens) for responses in expected for r in responses}) > 6

    def short_of_memory(model, input_ids, *args, **kwargs):
        if len(input_ids) > 4:
            torch.rand(3)  # the attempt drew before it failed
            raise error
        return own(model, input_ids, *args, **kwargs)

    monkeypatch.setattr(hf, "generate_compacting", short_of_memory)
    assert sample(8) == sample(8) == expected


# Responses ------------------------------------------------------------------------------------


def respond(start, tokenizer, **more):
    found = hf.generate(start, tokenizer, [[8, 9, 10]], num_samples=1, temperature=None, **more)
    return found[0][0]


def test_a_response_that_reaches_the_limit_is_recorded_as_cut(start, tokenizer):
    cut = respond(start, tokenizer, max_new_tokens=5)
    assert (len(cut.tokens), cut.finish) == (5, "length")


def test_a_stop_string_ends_a_response_and_is_cut_from_its_text():
    model, tokenizer = hf.load_model(ModelConfig(device="cpu"))
    question = [{"role": "user", "content": "Ana is 40 years old. Leo is 12 years younger."}]
    prompt = hf.render_prompt(tokenizer, question, PoolConfig())

    def ask(limit, *stop):
        more = {"max_new_tokens": limit, "stop": stop}
        return hf.generate(
            model, tokenizer, [prompt], num_samples=1, temperature=None, **more
        )[0][0]  # fmt: skip

    whole = ask(64)
    word = whole.text.split()[3]
    stopped = ask(64, word)
    assert (stopped.text, stopped.finish) == (whole.text[: whole.text.index(word)], "stop")
    assert len(stopped.tokens) < len(whole.tokens)
    assert ask(len(stopped.tokens), word).finish == "stop"  # by itself, at the very limit
    assert ask(len(stopped.tokens)).finish == "length"


def test_a_prompt_without_a_template_is_plain_text(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", None)
    tokens = hf.render_prompt(tokenizer, QUESTION, PoolConfig())
    assert tokenizer.decode(tokens, skip_special_tokens=True).split() == ["a", "b"]


def test_the_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    build_tokenizer().save_pretrained(tmp_path / "model")
    build_model().save_pretrained(tmp_path / "model")
    model, _ = hf.load_model(ModelConfig(path="~/model"))
    assert model.config.name_or_path == str(tmp_path / "model")
