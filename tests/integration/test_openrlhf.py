"""An export is read and rewarded by the real OpenRLHF. Training needs accelerators."""

import json

import pytest
from real_packages import MODEL, STUB, environment, prompts_of, run_check
from transformers import AutoTokenizer


@pytest.fixture(scope="module")
def python():
    return environment(
        "openrlhf",
        "torch==2.13.0",
        "--no-deps openrlhf==0.11.2",
        "transformers==5.15.0 datasets==5.2.0 aiohttp tqdm jinja2 math-verify==0.9.0",
    )


def test_rows_prompts_and_rewards_are_ours(python, answered, tmp_path):
    folder, _, cases = answered.exported("openrlhf", tmp_path / "my export")
    stub = tmp_path / "stub"
    stub.write_text(STUB)
    stub.chmod(0o755)
    found = run_check(python, "check_openrlhf.py", folder, cases, MODEL, stub)
    assert found["rows"] == [200, 2]
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    assert found["prompts"] == {
        i: tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        for i, messages in prompts_of(answered).items()
    }
    assert {i: tuple(pair) for i, pair in found["rewards"].items()} == answered.expected()
    assert found["logs"] == [["answered", "failed"]]
    assert found["estimator"] == "dr_grpo" and found["kept"] == 7
    print(json.dumps(found["versions"]))
