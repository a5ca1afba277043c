"""A number format that the CPU only emulates is told where the model computes."""

import pytest
import torch
from training_run import build_model, build_tokenizer

from pivottrace.config import Config, ModelConfig
from pivottrace.models import half_products
from pivottrace.models.generate import open_transformers
from pivottrace.models.half_products import cpu_multiplies, warn_of_slow_products
from pivottrace.models.load import load_model
from pivottrace.models.response_tracer import Tracer


@pytest.fixture
def on(monkeypatch):
    """A processor with these instructions; None for a torch that cannot tell."""
    warn_of_slow_products.cache_clear()

    def choose(instructions, machine="x86_64"):
        monkeypatch.setattr(half_products.platform, "machine", lambda: machine)
        if instructions is None:
            monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
        else:
            found = dict.fromkeys(instructions, True)
            monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)

    yield choose
    warn_of_slow_products.cache_clear()


@pytest.mark.parametrize(
    ("machine", "instructions", "bfloat16", "float16"),
    [
        ("x86_64", (), False, False),
        ("x86_64", ("avx512_bf16",), True, False),
        ("AMD64", ("amx_bf16", "amx_fp16"), True, True),
        ("x86_64", None, None, None),
        ("aarch64", ("bf16",), None, None),
    ],
)
def test_what_the_processor_multiplies(on, machine, instructions, bfloat16, float16):
    on(instructions, machine)
    assert cpu_multiplies(torch.bfloat16) is bfloat16
    assert cpu_multiplies(torch.float16) is float16


@pytest.mark.parametrize(
    ("dtype", "instructions", "warns"),
    [
        ("auto", (), False),
        ("bfloat16", (), True),
        ("bfloat16", ("avx512_bf16",), False),
        ("bfloat16", None, False),
        ("float16", ("avx512_bf16",), True),
    ],
)
def test_an_emulated_dtype_is_told_once_where_the_model_computes(
    tmp_path, caplog, on, dtype, instructions, warns
):
    build_model().save_pretrained(tmp_path)
    build_tokenizer().save_pretrained(tmp_path)
    config = ModelConfig(path=str(tmp_path), device="cpu", dtype=dtype)
    told = f"model.dtype is {dtype}, which this CPU only emulates; auto is faster here"
    on(instructions)
    load_model(config)  # as verl's model is loaded, only to be looked at
    assert told not in caplog.messages
    open_transformers(config, Config().rollouts)
    Tracer(config, Config().trace, 32)
    assert caplog.messages.count(told) == warns
    warn_of_slow_products.cache_clear()
    Tracer(config, Config().trace, 32)
    assert caplog.messages.count(told) == 2 * warns
