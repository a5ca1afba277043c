"""Training a tiny random Qwen3 on the CPU: against plain TRL, and against gradients by hand."""

import copy
import json

import pyarrow as pa
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
from trl import GRPOTrainer

from pivottrace.backends import hf
from pivottrace.backends.compact import compacting, generate_compacting
from pivottrace.backends.trl import quiet_libraries, train_grpo, training_dataset
from pivottrace.backends.trl_config import batch_layout, grpo_arguments, training_order
from pivottrace.backends.trl_state import append_line, cut_lines_after, is_whole, latest_checkpoint
from pivottrace.backends.trl_trainer import WeightedGRPOTrainer, cut_at_stop, sort_and_trim
from pivottrace.config import PoolConfig, TrainConfig, parse_config
from pivottrace.errors import ConfigError, DataError, ModelError, RunDirError
from pivottrace.ingest import format_prompt
from pivottrace.rewards.mix import mixed_reward
from pivottrace.rundir import RunDir
from pivottrace.types import QUESTIONS, TRAINING_ROWS, TRIAGE

WORDS = ["<pad>", "</s>", "<s>", "user", "system", "assistant", "think", "no", ":", *"abcdefghij"]
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] + ' : ' + m['content'] + ' ' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant :{% if not enable_thinking %} no think"
    "{% endif %}{% endif %}"
)
GROUP = 4
ENDS = [1, 5, 6, 7]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def build_tokenizer(template=TEMPLATE):
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    # Like Llama's: a beginning-of-sequence token that a template must not get twice.
    words.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 2)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", bos_token="<s>",
        padding_side="left",
    )  # fmt: skip
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module")
def start():
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, tie_word_embeddings=True,
        max_position_embeddings=64, bos_token_id=2, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    return Qwen3ForCausalLM(config)


def training_rows(weights=(1.0, 1.0, 1.0), routes=("annotate", "weak", "annotate")):
    return pa.Table.from_pylist(
        [
            {
                "question_id": f"q{i}",
                "prompt": [{"role": "user", "content": "abcdefghij"[i]}],
                "route": route,
                "weight": weight,
                "label": "even" if route == "annotate" else None,
            }
            for i, (weight, route) in enumerate(zip(weights, routes, strict=True))
        ],
        schema=TRAINING_ROWS,
    )


def parity(text):
    """A made-up answer that half of random completions get right."""
    return "even" if len(text.split()) and WORDS.index(text.split()[0]) % 2 == 0 else "odd"


REWARD = mixed_reward(
    extract=parity,
    check=lambda answers, truths: [a == t for a, t in zip(answers, truths, strict=True)],
    equal=lambda a, b: a == b,
    num_generations=GROUP,
)
CONFIG = TrainConfig(
    steps=2, questions_per_step=3, num_generations=GROUP, learning_rate=1e-2, max_new_tokens=5,
    warmup_steps=0, save_steps=100, max_grad_norm=1e9,
)  # fmt: skip


def config(**changes):
    return CONFIG.model_copy(update=changes)


def train(start, tokenizer, output, rows=None, reward=REWARD, cfg=CONFIG, **more):
    rows = training_rows() if rows is None else rows
    model = copy.deepcopy(start)
    train_grpo(model, tokenizer, rows, reward, cfg, output, seed=3, **more)
    return Qwen3ForCausalLM.from_pretrained(output / "model").state_dict()


def metrics(output, name="metrics.jsonl"):
    return [json.loads(line) for line in (output / name).read_text().splitlines()]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# The trainer ----------------------------------------------------------------------------------


def test_weight_one_everywhere_is_plain_trl(start, tokenizer, tmp_path):
    weighted = train(start, tokenizer, tmp_path / "ours")
    arguments = grpo_arguments(CONFIG, tmp_path / "plain", start, 3, {})
    model = copy.deepcopy(start)
    with quiet_libraries():
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=REWARD,
            args=arguments,
            train_dataset=training_dataset(tokenizer, training_rows(), CONFIG, 3),
            processing_class=tokenizer,
        )
        trainer.train()
    assert same(weighted, model.state_dict())
    assert not same(weighted, start.state_dict())


@pytest.mark.parametrize("micro", [None, 2])
@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (1.0, 0.25, 0.0), (0.0, 0.5, 0.0)])
def test_gradient_is_the_weighted_sum_by_hand(start, tokenizer, tmp_path, weights, micro):
    seen = {}

    def reward(**columns):
        seen.update(columns, rewards=[1.0, 0.0, 0.0, 0.5] * 3)
        return seen["rewards"]

    reward.__name__ = "recorded"
    rows = training_rows(weights)
    train(start, tokenizer, tmp_path, rows, reward, config(steps=1, micro_batch_size=micro))
    # By hand: -mean_i(weight_i x advantage_i x mean_t log p_it), no padding anywhere.
    model = copy.deepcopy(start)
    rewards = torch.tensor(seen["rewards"]).view(-1, GROUP)
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    advantages = (centred / (rewards.std(dim=1, keepdim=True) + 1e-4)).flatten()
    weight_of = dict(zip(rows["question_id"].to_pylist(), weights, strict=True))
    loss = torch.zeros(())
    for i, tokens in enumerate(seen["completion_ids"]):
        prompt = hf.render_prompt(tokenizer, seen["prompts"][i], PoolConfig())
        ids = torch.tensor([prompt + tokens])
        log_probs = model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        mean = log_probs.gather(1, torch.tensor(tokens)[:, None]).mean()
        loss = loss - weight_of[seen["question_id"][i]] * advantages[i] * mean
    (loss / len(advantages)).backward()
    norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    assert metrics(tmp_path)[0]["grad_norm"] == pytest.approx(norm.item(), rel=1e-4)
    assert norm > 0


def test_weight_zero_everywhere_changes_nothing(start, tokenizer, tmp_path):
    trained = train(start, tokenizer, tmp_path, training_rows((0.0, 0.0, 0.0)))
    assert same(trained, start.state_dict())


def test_rows_are_shared_out_by_length_and_trimmed():
    lengths, advantages = [5, 1, 3, 2, 4, 2], [0.5, 0.0, -1.0, 0.0, 2.0, 1.0]
    prompts, width, tall = [1, 3, 2, 2, 1, 1], 3, 5
    rows = [
        {
            "prompt_ids": torch.tensor([[0] * (width - p) + [7] * p]),
            "prompt_mask": torch.tensor([[0] * (width - p) + [1] * p]),
            "completion_ids": torch.tensor([[i + 10] * n + [0] * (tall - n)]),
            "completion_mask": torch.tensor([[1] * n + [0] * (tall - n)]),
            "advantages": torch.tensor([a]),
        }
        for i, (n, a, p) in enumerate(zip(lengths, advantages, prompts, strict=True))
    ]
    batches = [
        {k: torch.cat([r[k] for r in rows[i : i + 2]]) for k in rows[0]}
        | {"num_items_in_batch": torch.tensor(17)}
        for i in (0, 2, 4)
    ]
    found = sort_and_trim(batches)
    assert [b["completion_ids"][:, 0].tolist() for b in found] == [[15, 12], [14, 10], [11, 13]]
    assert [b["advantages"].tolist() for b in found] == [[1.0, -1.0], [2.0, 0.5], [0.0, 0.0]]
    assert [tuple(b["completion_ids"].shape) for b in found] == [(2, 3), (2, 5), (2, 2)]
    assert [tuple(b["prompt_ids"].shape) for b in found] == [(2, 2), (2, 1), (2, 3)]
    assert sum(b["completion_mask"].sum() for b in found) == 17
    assert all(b["num_items_in_batch"] == 17 for b in found)
    assert sort_and_trim(batches[:1]) is not None and len(sort_and_trim(batches[:1])) == 1


@pytest.mark.parametrize("spell", [1, 2, 3, 100])
def test_dropping_finished_rows_leaves_the_responses(start, spell):
    prompts = [[3, 8, 9], [3, 8, 10, 11, 12], [3], [3, 8, 13], [4, 9], [5, 11, 9, 14]]
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    mask = (ids != 0).long()
    settings = GenerationConfig(max_new_tokens=12, eos_token_id=ENDS, pad_token_id=0)
    varied = copy.deepcopy(start.config)
    varied.initializer_range, varied.tie_word_embeddings = 1.0, False
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(varied).eval()
    plain = model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
    lengths = (plain[:, width:] != 0).sum(1)
    assert len(set(lengths.tolist())) > 2, "the test needs responses of several lengths"
    found = generate_compacting(model, ids, mask, settings, spell=spell)
    assert torch.equal(found, plain)
    with compacting(model):
        again = model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
    assert torch.equal(again, plain)
    assert "generate" not in vars(model)


@pytest.mark.parametrize("micro", [1, 3, 6])
def test_micro_batches_give_the_same_step(start, tokenizer, tmp_path, micro):
    whole = train(start, tokenizer, tmp_path / "whole", cfg=config(steps=1))
    parts = train(start, tokenizer, tmp_path / "parts", cfg=config(steps=1, micro_batch_size=micro))
    # Adam's first step is the gradient's sign: where it is nearly 0, rounding decides.
    close = [torch.isclose(whole[k], parts[k], atol=1e-4).float().mean() for k in whole]
    assert torch.stack(close).mean() > 0.99
    ours, theirs = metrics(tmp_path / "whole")[0], metrics(tmp_path / "parts")[0]
    assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-4)


def test_reward_rises_when_it_can(start, tokenizer, tmp_path):
    rows = training_rows(routes=("annotate",) * 3)
    train(start, tokenizer, tmp_path, rows, cfg=config(steps=25))
    found = [line["reward"] for line in metrics(tmp_path)]
    assert sum(found[-5:]) / 5 > 0.9 > 0.75 > sum(found[:5]) / 5


def test_kl_term_is_logged_when_beta_is_set(start, tokenizer, tmp_path):
    start.save_pretrained(tmp_path / "start")  # TRL loads the reference from the model's folder
    model = Qwen3ForCausalLM.from_pretrained(tmp_path / "start")
    train(model, tokenizer, tmp_path / "run", cfg=config(beta=0.1))
    kl = [line["kl"] for line in metrics(tmp_path / "run")]
    assert kl[0] == pytest.approx(0, abs=1e-6) and kl[1] > 1e-5


# Prompts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", [TEMPLATE, None])
@pytest.mark.parametrize("thinking", [True, False])
def test_prompts_are_tokenized_as_everywhere_else(start, tmp_path, template, thinking):
    tokenizer = build_tokenizer(template)
    pool = PoolConfig(
        system_prompt="a b", prompt_suffix="j i", chat_template_args={"enable_thinking": thinking}
    )
    question = [{"role": "user", "content": "c d e"}]
    prompt = format_prompt(question, pool.system_prompt, pool.prompt_suffix)
    rows = training_rows().set_column(1, TRAINING_ROWS.field("prompt"), pa.array([prompt] * 3))
    seen = {}

    class Spy(WeightedGRPOTrainer):
        def _generate_single_turn(self, prompt_ids, *args, **kwargs):
            seen["prompt_ids"] = prompt_ids
            return super()._generate_single_turn(prompt_ids, *args, **kwargs)

    arguments = grpo_arguments(config(steps=1), tmp_path, start, 0, dict(pool.chat_template_args))
    with quiet_libraries():
        Spy(
            model=copy.deepcopy(start),
            reward_funcs=REWARD,
            args=arguments,
            train_dataset=training_dataset(tokenizer, rows, config(steps=1), 0),
            processing_class=tokenizer,
        ).train()
    expected = hf.render_prompt(tokenizer, prompt, pool)
    assert seen["prompt_ids"] == [expected] * 12
    assert expected.count(2) == (0 if template else 1)
    assert (WORDS.index("think") in expected) == (template is not None and not thinking)


def test_responses_are_cut_at_stop_strings(start, tokenizer, tmp_path):
    ids = [WORDS.index(w) for w in "abcde"]
    assert cut_at_stop(tokenizer, ids, ("c d",)) == ids[:4]
    assert cut_at_stop(tokenizer, ids, ("d", "b")) == ids[:2]
    assert cut_at_stop(tokenizer, ids, ("x",)) == ids
    seen = []

    def reward(**columns):
        seen.extend(columns["completions"])
        return REWARD(**columns)

    reward.__name__ = "recorded"
    stop = ("a", "b", "c", "d", "e")
    train(start, tokenizer, tmp_path, reward=reward, cfg=config(steps=4), stop=stop)
    words = [completion[0]["content"].split() for completion in seen]
    assert any(w and w[-1] in stop and len(w) < 5 for w in words)
    assert not [w for w in words if set(w[:-1]) & set(stop)]


# Order and layout -----------------------------------------------------------------------------


def test_order_is_whole_passes_and_seeded():
    order = training_order(5, num_steps=7, questions_per_step=3, seed=1)
    assert len(order) == 21
    for start_of_pass in range(0, 20, 5):
        assert sorted(order[start_of_pass : start_of_pass + 5]) == list(range(5))
    assert order == training_order(5, 7, 3, seed=1) != training_order(5, 7, 3, seed=2)
    # More steps go on in the same order.
    assert training_order(5, 9, 3, seed=1)[:21] == order
    assert sorted(training_order(2, 1, 6, seed=0)) == [0, 0, 0, 1, 1, 1]


def test_batch_layout_keeps_groups_whole():
    settings = TrainConfig(questions_per_step=6, num_generations=4)
    assert batch_layout(settings) == (24, 1)
    assert batch_layout(settings, num_processes=3) == (8, 1)
    assert batch_layout(settings, on_cpu=True) == (12, 2)
    assert batch_layout(settings.model_copy(update={"micro_batch_size": 2})) == (2, 12)
    with pytest.raises(ConfigError, match=r"5 does not divide the 24 rollouts.*1, 2, 3, 4, 6"):
        batch_layout(settings.model_copy(update={"micro_batch_size": 5}))
    with pytest.raises(ConfigError, match="cannot be shared evenly by 5 processes"):
        batch_layout(settings, num_processes=5)
    with pytest.raises(ConfigError, match=r"6 completions at once.*not a multiple"):
        batch_layout(settings, num_processes=4)  # TRL itself would accept this one


# Interruptions --------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands in for SIGKILL: nothing of ours catches it."""


def killer(at):
    def on_log(step, logs):
        if step == at:
            raise Killed

    return on_log


def tear(path):
    with path.open("a") as file:
        file.write('{"step": 6, "rew')


def points(model):
    return {"accuracy": round(sum(p.double().sum().item() for p in model.parameters()), 9)}


@pytest.mark.parametrize("torn", [False, True])
def test_a_killed_run_goes_on_and_ends_with_the_same_weights(start, tokenizer, tmp_path, torn):
    cfg = config(steps=7, save_steps=2, evaluate_steps=2)
    whole = train(start, tokenizer, tmp_path / "whole", cfg=cfg, evaluate=points)
    killed = tmp_path / "killed"
    with pytest.raises(Killed):
        train(start, tokenizer, killed, cfg=cfg, evaluate=points, on_log=killer(5))
    steps = [line["step"] for line in metrics(killed)]
    assert steps == [1, 2, 3, 4, 5] and not (killed / "model").exists()
    if torn:
        newest = killed / "checkpoints" / "checkpoint-4" / "optimizer.pt"
        newest.write_bytes(newest.read_bytes()[:-1])
        tear(killed / "metrics.jsonl")
    resumed, taken = [], {}
    taken = train(
        start, tokenizer, killed, cfg=cfg, evaluate=points,
        on_log=lambda step, logs: resumed.append(step),
    )  # fmt: skip
    assert resumed == ([3, 4, 5, 6, 7] if torn else [5, 6, 7])
    assert same(taken, whole)
    assert metrics(killed) == metrics(tmp_path / "whole")
    assert [line["step"] for line in metrics(killed)] == [1, 2, 3, 4, 5, 6, 7]
    curve = metrics(killed, "learning_curve.jsonl")
    assert curve == metrics(tmp_path / "whole", "learning_curve.jsonl")
    assert [point["step"] for point in curve] == [0, 2, 4, 6, 7]
    assert not (killed / "checkpoints").exists()


def test_watching_changes_nothing_and_sees_the_model_in_eval_mode(start, tokenizer, tmp_path):
    modes = []

    def evaluate(model):
        modes.append(model.training)
        torch.manual_seed(123)
        torch.rand(5)
        return {"accuracy": 0.5}

    cfg = config(steps=3)
    unwatched = train(start, tokenizer, tmp_path / "a", cfg=cfg)
    watched_cfg = config(steps=3, evaluate_steps=1)
    watched = train(start, tokenizer, tmp_path / "b", cfg=watched_cfg, evaluate=evaluate)
    assert same(unwatched, watched)
    assert modes == [False] * 4
    assert not (tmp_path / "a" / "learning_curve.jsonl").exists()


def test_a_changed_setting_is_refused_on_resume(start, tokenizer, tmp_path):
    cfg = config(steps=4, save_steps=1)
    with pytest.raises(Killed):
        train(start, tokenizer, tmp_path, cfg=cfg, on_log=killer(3))
    other = cfg.model_copy(update={"learning_rate": 0.5})
    with pytest.raises(ConfigError, match=r"learning_rate: was 0.01, now 0.5"):
        train(start, tokenizer, tmp_path, cfg=other)
    with pytest.raises(ConfigError, match=r"rows: was"):
        train(start, tokenizer, tmp_path, training_rows((1.0, 0.5, 1.0)), cfg=cfg)
    train(start, tokenizer, tmp_path, cfg=cfg.model_copy(update={"save_steps": 3}))


def test_a_finished_model_is_not_trained_again(start, tokenizer, tmp_path):
    train(start, tokenizer, tmp_path)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    train(start, tokenizer, tmp_path)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_a_checkpoint_without_its_marker_is_passed_over(tmp_path):
    for step in (2, 10):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "a.bin").write_bytes(b"12345")
        (folder / "whole.json").write_text('{"a.bin": 5}')
    assert latest_checkpoint(tmp_path) == (tmp_path / "checkpoint-10", 10)
    (tmp_path / "checkpoint-10" / "whole.json").write_text('{"a.b')
    assert not is_whole(tmp_path / "checkpoint-10")
    assert latest_checkpoint(tmp_path) == (tmp_path / "checkpoint-2", 2)
    assert not (tmp_path / "checkpoint-10").exists()
    (tmp_path / "checkpoint-2" / "a.bin").unlink()
    assert latest_checkpoint(tmp_path) == (None, 0)


def test_lines_are_appended_whole_and_cut(tmp_path):
    path = tmp_path / "m.jsonl"
    cut_lines_after(path, 3)
    assert not path.exists()
    for step in range(1, 5):
        append_line(path, {"step": step, "kl": float("nan") if step == 2 else 0.5})
    tear(path)
    cut_lines_after(path, 3)
    assert metrics(tmp_path, "m.jsonl") == [
        {"step": 1, "kl": 0.5},
        {"step": 2, "kl": None},
        {"step": 3, "kl": 0.5},
    ]


def test_a_broken_step_stops_training_and_says_so(start, tokenizer, tmp_path):
    broken = copy.deepcopy(start)
    broken.model.norm.weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(ModelError, match=r"training step 1: grad_norm is nan.*learning_rate"):
        train_grpo(broken, tokenizer, training_rows(), REWARD, config(save_steps=1), tmp_path)
    assert not list((tmp_path / "checkpoints").iterdir())  # nothing to go on from


def test_no_rows_is_an_error_here(start, tokenizer, tmp_path):
    with pytest.raises(DataError, match="no row to train on"):
        train(start, tokenizer, tmp_path, TRAINING_ROWS.empty_table())


# The stages -----------------------------------------------------------------------------------


def make_run(tmp_path, start, tokenizer, routes, answers=True, **sections):
    start.save_pretrained(tmp_path / "start")
    tokenizer.save_pretrained(tmp_path / "start")
    values = {
        "output": str(tmp_path / "run"),
        "model": {"path": str(tmp_path / "start"), "device": "cpu"},
        "pool": {"prompt_suffix": "j"},
        "labels": {"budget": 0.5},
        "answers": {"verifier": "exact", "pattern": r"^\S+"},
        "rollouts": {"max_new_tokens": 5, "part_size": 2},
        "train": {**CONFIG.model_dump(exclude_none=True), "evaluate_steps": 1, **sections},
    }
    run = RunDir.create(parse_config(values, "test"))

    def questions(prefix, num):
        rows = [
            {
                "id": f"{prefix}{i}",
                "prompt": [{"role": "user", "content": "abcdefghij"[i]}],
                "answer": "a" if answers else None,
                "source": "test",
                "extra": "{}",
            }
            for i in range(num)
        ]
        return pa.Table.from_pylist(rows, schema=QUESTIONS)

    run.write_table("pool", questions("q", len(routes)))
    run.write_table("evaluation", questions("e", 5))
    run.mark_done("pool", num_questions=len(routes))
    triage = [
        {"question_id": f"q{i}", "route": route, "weight": 0.0 if i == 5 else 0.5, "reason": "r"}
        for i, route in enumerate(routes)
    ]
    run.write_table("triage", pa.Table.from_pylist(triage, schema=TRIAGE))
    return run


ROUTES = ["annotate", "weak", "discard", "defer", "weak", "weak"]


def test_the_stage_trains_on_two_routes_and_evaluates(start, tokenizer, tmp_path):
    from pivottrace.annotate import sources
    from pivottrace.stages import evaluate
    from pivottrace.stages import train as stage

    run = make_run(tmp_path, start, tokenizer, ROUTES)
    with pytest.raises(RunDirError, match=r"1 annotate rows have no label, such as 'q0'"):
        stage.run(run)
    sources.store(run).add("q0", "bought", "column", "annotation")
    sources.store(run).add("q2", "not for training", "column", "probe")
    evaluate.run(run, "before")
    before = run.stage_facts("evaluate")
    assert before["before"]["num_questions"] == 5 and "after" not in before
    with pytest.raises(RunDirError, match="training has not finished"):
        evaluate.run(run, "after")
    stage.run(run)
    evaluate.run(run, "after")

    rows = run.read_table("training_rows", made_by="train").to_pylist()
    assert [(r["question_id"], r["route"], r["label"]) for r in rows] == [
        ("q0", "annotate", "bought"),
        ("q1", "weak", None),
        ("q4", "weak", None),
    ]
    assert rows[0]["prompt"] == [{"role": "user", "content": "a\nj"}]
    facts = run.stage_facts("train")
    assert facts["trained"] and facts["num_rows"] == {"annotate": 1, "weak": 2}
    assert facts["left_out"] == {"zero_weight": 1, "unlabelled": 0}
    assert (facts["steps"], facts["passes"], facts["rollouts"]) == (2, 2.0, 24)

    facts = run.stage_facts("evaluate")
    table = run.read_table("evaluation_after", made_by="evaluate")
    assert table.num_rows == 5 * 4 and table["question_id"].to_pylist()[:5] == ["e0"] * 4 + ["e1"]
    right = table["correct"].to_pylist()
    assert facts["after"]["accuracy"] == pytest.approx(sum(right) / 20)
    assert [a == "a" for a in table["answer"].to_pylist()] == right
    change = facts["after"]["accuracy"] - facts["before"]["accuracy"]
    assert facts["difference"]["mean"] == pytest.approx(change)
    assert facts["before"] == before["before"]
    curve = metrics(run.round_path / "train", "learning_curve.jsonl")
    assert [point["step"] for point in curve] == [0, 1, 2]
    assert curve[0].keys() == {"step", "accuracy", "low", "high"}
    # Again: nothing is repeated, the figures stay.
    evaluate.run(run, "after")
    assert run.stage_facts("evaluate") == facts


def test_hidden_answers_make_no_difference(start, tokenizer, tmp_path):
    from pivottrace.annotate import sources
    from pivottrace.stages import train as stage

    weights = []
    for answers in (True, False):
        run = make_run(tmp_path / str(answers), start, tokenizer, ROUTES, answers)
        sources.store(run).add("q0", "even", "column", "annotation")
        stage.run(run)
        folder = run.round_path / "train" / "model"
        weights.append(Qwen3ForCausalLM.from_pretrained(folder).state_dict())
    assert same(*weights)


def test_nothing_to_train_on_is_said_plainly(start, tokenizer, tmp_path):
    from pivottrace.stages import evaluate
    from pivottrace.stages import train as stage

    run = make_run(tmp_path, start, tokenizer, ["discard", "defer"])
    stage.run(run)
    facts = run.stage_facts("train")
    assert facts["trained"] is False and "no question" in facts["reason"]
    evaluate.run(run, "before")
    evaluate.run(run, "after")
    facts = run.stage_facts("evaluate")
    assert facts["skipped"] == "there is no trained model to evaluate after training"
    assert "before" in facts and "after" not in facts


def test_evaluation_without_answers_or_questions_is_skipped(start, tokenizer, tmp_path):
    from pivottrace.stages import evaluate

    run = make_run(tmp_path, start, tokenizer, ROUTES, answers=False)
    evaluate.run(run, "before")
    assert run.stage_facts("evaluate")["skipped"].startswith("no evaluation question has an answer")
    run.table_path("evaluation").unlink()
    evaluate.run(run, "before")
    assert "no evaluation questions" in run.stage_facts("evaluate")["skipped"]
