"""Several held-out sets: their names, numbers of samples, prompts, verifiers and figures."""

import itertools
import json
from collections import Counter

import benchmark_rows
import pytest
from ingest_sources import user, write_jsonl

from pivottrace.cli import main
from pivottrace.commands.flags import load
from pivottrace.commands.status import summary_lines
from pivottrace.commands.validate import validate
from pivottrace.config import Config, PoolConfig, parse_config
from pivottrace.config.as_flags import as_flags
from pivottrace.errors import ConfigError, DataError
from pivottrace.experiments.definition import load_experiment
from pivottrace.exports.training_data import exported_held_out
from pivottrace.ingest.held_out_sets import held_out_table, read_sets, set_sources
from pivottrace.pipeline import run_all
from pivottrace.report import build_report
from pivottrace.report.held_out_verdict import helped, of_sets
from pivottrace.rollouts.held_out import (
    answers_of,
    by_set,
    held_out_questions,
    num_samples_of,
    prompt_of,
)
from pivottrace.run.directory import RunDir
from pivottrace.run.readings import evaluation_facts
from pivottrace.run.storage import read_json_lines, read_parquet
from pivottrace.schemas import HELD_OUT, LEARNING_CURVE, QUESTIONS
from pivottrace.stages import evaluate_before, pool

WORLDS = ["world:default?num=5&seed=9&k=2", "world:hard?num=3&seed=9&k=3"]


def configured(evaluation, **sections):
    pool_section = {"evaluation": evaluation, **sections.pop("pool", {})}
    return parse_config({"pool": pool_section, **sections}, "test")


@pytest.fixture
def arc(tmp_path):
    return f"bench:arc_challenge?path={benchmark_rows.saved('arc_challenge', tmp_path, 'test')}"


# Source strings --------------------------------------------------------------------------------


def test_sets_are_named_by_their_sources_and_names_are_made_unique(tmp_path):
    path = write_jsonl(tmp_path / "mine.jsonl", [{"prompt": "A?", "answer": 1}])
    texts = [
        "bench:aime24?k=32",
        path,
        "openai/gsm8k:main?split=test",
        "world:default?seed=1",
        "world:default?seed=2",
        f"{path}?k=2",
    ]
    found = set_sources(texts)
    assert [each.name for each in found] == [
        "aime24",
        "mine",
        "gsm8k",
        "default",
        "default-2",
        "mine-2",
    ]
    assert [each.num_samples for each in found] == [32, None, None, None, None, 2]
    assert [each.verifier for each in found] == ["math", None, None, None, None, None]


def test_only_the_options_of_the_set_are_taken_out():
    (found,) = set_sources(["a b.csv?answer=the%20gold&k=4&verifier=choice&split=x"])
    assert found.source == "a b.csv?answer=the%20gold&split=x"
    assert (found.num_samples, found.verifier) == (4, "choice")
    (found,) = set_sources(["test.csv?prompt=task"])  # the name of a column
    assert found.source == "test.csv?prompt=task"
    (found,) = set_sources(["bench:gsm8k?prompt=run"])
    assert found.source == "bench:gsm8k" and not found.own_prompt


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bench:math500?k=0", "k = '0' must be a whole number of samples, from 1"),
        ("world:default?k=many", "k = 'many' must be"),
        ("bench:math500?prompt=task", "prompt = 'task' is not an option of a benchmark"),
        ("bench:math", "The nearest one is math500"),
    ],
)
def test_wrong_options_are_refused(text, words):
    with pytest.raises(ConfigError, match=words):
        set_sources([text])


def test_an_unknown_verifier_of_a_set_is_refused():
    with pytest.raises(ConfigError, match="'chioce' is unknown; use math, exact, choice"):
        read_sets(configured("world:default?num=2&verifier=chioce"))


def test_a_set_with_a_function_that_is_not_there_is_refused_before_anything_is_spent():
    evaluation = "world:default?num=2&verifier=no_such_module:same"
    with pytest.raises(ConfigError, match="no_such_module"):
        pool.read_sources(configured(evaluation, pool={"questions": "world:default?num=2"}))


# The table -------------------------------------------------------------------------------------


def test_the_sets_are_one_table(arc):
    config = configured([*WORLDS, arc], pool={"evaluation_limit": 2})
    table = held_out_table(read_sets(config))
    assert table.schema == HELD_OUT
    rows = table.to_pylist()
    assert Counter(row["set"] for row in rows) == {"default": 2, "hard": 2, "arc_challenge": 2}
    assert [row["num_samples"] for row in rows] == [2, 2, 3, 3, None, None]
    assert all(row["id"].startswith(f"{row['set']}/") for row in rows)
    assert len({row["id"] for row in rows}) == 6
    assert [num_samples_of(row, config) for row in rows] == [2, 2, 3, 3, 4, 4]


def test_a_single_set_keeps_its_ids():
    (read,) = read_sets(configured("world:default?num=2&seed=9"))
    assert read.table["id"].to_pylist() == read.reading.table["id"].to_pylist()
    assert set(read.table["set"].to_pylist()) == {"default"}


def test_a_benchmark_has_its_own_way_of_asking_and_the_run_the_others(arc):
    config = configured(
        [WORLDS[0], arc, f"{arc}&prompt=run"],
        pool={"system_prompt": "Be brief.", "prompt_suffix": "End in #### 5.", "template": "{q}"},
        answers={"formats": ["hashes"], "tolerance": 0.05, "verifier": "exact"},
    )
    sets = [read_sets(config.model_copy(update={"pool": p}))[0] for p in _each_alone(config)]
    rows = [each.table.to_pylist()[0] for each in sets]
    world, own, as_run = (prompt_of(row, config.pool) for row in rows)
    assert world[0] == {"role": "system", "content": "Be brief."}
    assert world[1]["content"].endswith("\nEnd in #### 5.")
    assert [m["role"] for m in own] == ["user"] and "$LETTER" in own[0]["content"]
    assert as_run[1]["content"] == rows[2]["prompt"][0]["content"] + "\nEnd in #### 5."
    read = [answers_of(row, config) for row in rows]
    assert [a.verifier for a in read] == ["exact", "choice", "choice"]
    assert [a.tolerance for a in read] == [0.05, None, None]
    assert [len(a.formats) for a in read] == [1, 6, 1]


def _each_alone(config):
    """The sections `pool` with one source each; the template is for no source but benchmarks."""
    for source in config.pool.evaluation_sources:
        yield config.pool.model_copy(update={"evaluation": source})


def test_a_pattern_of_the_pool_is_not_tried_on_a_benchmark(tmp_path):
    copy = benchmark_rows.saved("gsm8k", tmp_path, "test")
    config = configured(f"bench:gsm8k?path={copy}", answers={"pattern": "(clips)"})
    assert read_sets(config)[0].table["answer"].to_pylist() == ["1024", "10"]


def test_questions_without_an_answer_are_refused_by_set(tmp_path):
    rows = [{"prompt": "A?", "answer": 1}, {"prompt": "B?", "answer": None}]
    path = write_jsonl(tmp_path / "open.jsonl", rows)
    with pytest.raises(DataError, match=r"open\.jsonl: 1 of 2 held-out questions have no answer"):
        pool.read_sources(configured([WORLDS[0], path]))


# The pool stage and the settings ---------------------------------------------------------------


def test_the_pool_stage_records_the_sets_and_their_digests(tmp_path):
    rows = [{"id": i, "prompt": f"What is {i} + 1?", "answer": i + 1} for i in range(4)]
    ours = write_jsonl(tmp_path / "pool.jsonl", rows)
    sources = []
    for name in ("a", "b"):
        shared = [rows[1], {"id": 9, "prompt": f"Which {name}?", "answer": 3}]
        sources.append(write_jsonl(tmp_path / f"{name}.jsonl", shared))
    settings = PoolConfig(questions=ours, evaluation=sources)
    run = RunDir.create(Config(output=tmp_path / "run", pool=settings))
    pool.run(run)
    facts = run.stage_facts("pool")
    assert [each["name"] for each in facts["evaluation_sets"]] == ["a", "b"]
    assert facts["num_evaluation"] == 4 and facts["num_overlap"] == 1
    assert facts["overlap"] == [["1", "a/1"], ["1", "b/1"]]
    assert facts["source_digests"].keys() == {"questions", "evaluation", "evaluation.2"}
    write_jsonl(tmp_path / "b.jsonl", rows)
    with pytest.raises(DataError, match=r"b\.jsonl has changed .*\(pool\.evaluation\)"):
        pool.run(run)


def test_the_sources_are_bound(tmp_path):
    def made(evaluation):
        settings = PoolConfig(questions="world:default?num=4", evaluation=evaluation)
        return RunDir.create(Config(output=tmp_path / "run", pool=settings))

    run = made(WORLDS[0])
    pool.run(run)
    assert made([WORLDS[0]]).is_done("pool")  # a list of one source is that source
    with pytest.raises(ConfigError, match=r"pool\.evaluation: was .*\(used by pool\)"):
        made(WORLDS)


def test_sources_may_be_a_text_a_list_or_flags(tmp_path):
    path = tmp_path / "my.toml"
    path.write_text('[pool]\nevaluation = ["a.jsonl", "b.jsonl?k=2"]\n')
    assert load([str(path)]).pool.evaluation_sources == ("a.jsonl", "b.jsonl?k=2")
    assert load(["--evaluation", "a.jsonl"]).pool.evaluation == "a.jsonl"
    several = load(["--evaluation", "a.jsonl", "b.jsonl", "--seed", "3"])
    assert several.pool.evaluation == ["a.jsonl", "b.jsonl"] and several.seed == 3
    assert load([]).pool.evaluation_sources == ()
    assert load([str(path), "--evaluation", "None"]).pool.evaluation is None
    assert as_flags(Config(), several)[:2] == ["--seed", "3"]
    assert load(as_flags(Config(), several)) == several


def test_validate_shows_each_set(arc):
    config = configured(
        [WORLDS[0], arc],
        pool={"questions": "world:default?num=8"},
        labels={"source": "oracle"},
        rollouts={"max_new_tokens": 100},
    )
    lines = list(validate(config))
    shown = "\n".join(lines)
    assert "evaluation, default: 5 questions, 0 of them also in the pool" in shown
    assert "  2 samples each, compared by math, asked by the run's prompt; at most " in shown
    assert "evaluation, arc_challenge: 2 questions" in shown
    assert "  4 samples each, compared by choice, asked as OpenAI's simple-evals does" in shown
    assert "at most 1,000 tokens of responses before training" in shown


# Evaluation ------------------------------------------------------------------------------------


@pytest.fixture
def run(make_run, arc, one_thread):
    sizes = {"max_new_tokens": 64, "part_size": 4}
    made = make_run(
        pool={"evaluation": [*WORLDS, f"{arc}&k=2"]}, rollouts=sizes, train={"enabled": False}
    )
    pool.run(made)
    return made


def test_each_set_is_sampled_judged_and_counted_by_its_own_rule(run):
    evaluate_before.run(run)
    table = run.read_table("evaluation_before", made_by="evaluate")
    sets = by_set(held_out_questions(run))
    of_set = {question["id"]: name for name, each in sets.items() for question in each}
    samples = Counter(of_set[i] for i in table["question_id"].to_pylist())
    assert samples == {"default": 5 * 2, "hard": 3 * 3, "arc_challenge": 2 * 2}
    facts = run.stage_facts("evaluate_before")
    assert [each["name"] for each in facts["sets"]] == ["default", "hard", "arc_challenge"]
    for each in facts["sets"]:
        rows = [r for r in table.to_pylist() if of_set[r["question_id"]] == each["name"]]
        right = {}
        for row in rows:
            right.setdefault(row["question_id"], []).append(row["correct"])
        shares = [sum(of) / len(of) for of in right.values()]
        assert each["accuracy"] == pytest.approx(sum(shares) / len(shares), abs=1e-6)
        draws = [
            any(draw) for of in right.values() for draw in itertools.combinations(of, each["k"])
        ]
        assert each["pass_at_k"] == pytest.approx(sum(draws) / len(draws), abs=1e-6)
        assert each["num_questions"] == len(right)
        assert each["cut"] == sum(row["finish"] == "length" for row in rows)
        assert each["no_answer"] == sum(row["answer"] is None for row in rows)
    figures = facts["figures"]
    mean = sum(each["accuracy"] for each in facts["sets"]) / 3
    assert figures["accuracy"] == pytest.approx(mean, abs=2e-6)
    assert figures["num_sets"] == 3 and figures["num_questions"] == 10
    assert "k" not in figures and figures["low"] < mean < figures["high"]


def test_a_killed_evaluation_goes_on_with_its_parts(run, monkeypatch):
    from pivottrace.stages import evaluation

    evaluate_before.run(run)
    whole = run.table_path("evaluation_before").read_bytes()
    run.table_path("evaluation_before").unlink()
    real, calls = evaluation.sample_and_check, []

    def dying(sampler, part, *arguments):
        calls.append(part[0]["set"])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(sampler, part, *arguments)

    monkeypatch.setattr(evaluation, "sample_and_check", dying)
    with pytest.raises(KeyboardInterrupt):
        evaluate_before.run(run)
    evaluate_before.run(run)
    # Five questions of the first set are two parts of four at most; no part mixes two sets.
    assert calls == ["default", "default", "hard", "hard", "arc_challenge"]
    assert run.table_path("evaluation_before").read_bytes() == whole


def test_a_table_of_an_older_version_is_one_set(run):
    table = run.read_table("evaluation", made_by="run").select(QUESTIONS.names)
    run.write_table("evaluation", table)
    (name,) = by_set(held_out_questions(run))
    assert name == ""
    evaluate_before.run(run)
    facts = run.stage_facts("evaluate_before")
    assert len(facts["sets"]) == 1 and facts["figures"]["k"] == 4
    rows = read_parquet(run.table_path("evaluation_before"))
    assert rows.num_rows == 10 * 4


@pytest.mark.slow
def test_several_sets_through_the_whole_run(make_run, arc, one_thread, capsys):
    sizes = {"max_new_tokens": 64, "part_size": 4}
    run = make_run(
        pool={"evaluation": [*WORLDS, f"{arc}&k=2"]},
        rollouts=sizes,
        train={"max_new_tokens": 64, "evaluate_steps": 1, "evaluate_limit": 2},
    )
    run_all(run)
    facts = evaluation_facts(run)
    assert [each.keys() >= {"before", "after", "difference"} for each in facts["sets"]] == [
        True
    ] * 3
    mean = sum(each["difference"]["mean"] for each in facts["sets"]) / 3
    assert facts["difference"]["mean"] == pytest.approx(mean, abs=2e-6)
    curve = read_json_lines(run.round_path / "train" / LEARNING_CURVE)
    assert [point["step"] for point in curve] == [0, 1, 2]
    # Two questions of each set: the mean of shares of 4, of 6 and of 4 samples.
    assert all(round(point["accuracy"] * 36, 6) % 1 == 0 for point in curve)
    card = (run.round_path / "train" / "model" / "README.md").read_text()
    assert "mean over 3 sets" in card and "- hard, after: " in card and "avg@3 over 3" in card
    shown = "\n".join(summary_lines(run))
    assert "the unweighted mean over 3 sets" in shown and "held-out    hard: " in shown
    assert main(["redo", str(run.path), "evaluate"]) == 0
    run_all(RunDir.create(run.config))
    assert evaluation_facts(run) == facts


# What is shown ---------------------------------------------------------------------------------


def figures(name, accuracy, k):
    interval = {"accuracy": accuracy, "low": accuracy - 0.1, "high": accuracy + 0.1}
    counts = {"num_questions": 30, "cut": 3, "no_answer": 1}
    return {"name": name, **interval, "pass_at_k": accuracy + 0.05, "k": k, **counts}


@pytest.fixture
def shown(make_run):
    """A run whose evaluations are recorded, without their tables."""
    run = make_run()
    overall = {"low": 0.3, "high": 0.5, "num_sets": 2, "num_questions": 60}
    sets = [figures("aime<24>", 0.4, 32), figures("math500", 0.5, 4)]
    run.mark_done("evaluate_before", figures={"accuracy": 0.45, **overall}, sets=sets)
    run.mark_done("train", trained=True, num_rows={})
    change = {"mean": 0.02, "low": -0.01, "high": 0.05}
    run.mark_done(
        "evaluate_after",
        figures={"accuracy": 0.47, **overall},
        sets=[figures("aime<24>", 0.45, 32), figures("math500", 0.49, 4)],
        difference=change,
        set_differences={"aime<24>": {**change, "mean": 0.05}, "math500": change},
    )
    return run


def test_the_verdict_says_that_it_is_the_mean_over_sets(shown):
    assert helped(shown) == (
        "no change beyond chance: 45.0 % → 47.0 %, +2.0 points (95 % interval -1.0 to +5.0), the "
        "unweighted mean over 2 sets; 60 held-out questions are too few to see a small change"
    )
    first, second = of_sets(shown)
    assert first == (
        "aime<24>: 40.0 % → 45.0 %, +5.0 points (95 % interval -1.0 to +5.0); avg@32 of 30 "
        "questions, pass@32 45.0 % → 50.0 %"
    )
    assert second.startswith("math500: 50.0 % → 49.0 %")
    assert [each["name"] for each in evaluation_facts(shown)["sets"]] == ["aime<24>", "math500"]


def test_the_report_has_a_row_for_each_set(shown):
    page = build_report(shown, []).read_text()
    table = page[page.index('id="held-out-sets"') :]
    table = table[: table.index("</table>")]
    assert table.count("<tr>") == 3 and "aime&lt;24&gt;" in table and "<24>" not in table
    assert ">32</td>" in table and "45.0 %" in table
    assert "held-out accuracy, mean over 2 sets" in page
    assert "pass@k" in table and "training: pass@" not in page


def test_an_export_leaves_out_questions_that_its_reward_cannot_judge(make_run, arc):
    run = make_run(pool={"evaluation": [WORLDS[0], arc]})
    pool.run(run)
    assert {question["set"] for question in exported_held_out(run)} == {"default"}
    assert len(held_out_questions(run)) == 5 + 2


def test_an_experiment_compares_on_one_set(tmp_path):
    path = tmp_path / "x.toml"
    lines = ["[experiment]", 'name = "x"', f'output = "{tmp_path}"', "seeds = [0]"]
    lines += ['reference = "a"', "[base]"]
    lines += [f"pool.evaluation = {json.dumps(WORLDS)}", "[[arms]]", 'name = "a"']
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match=r"put the others under experiment\.also_evaluate"):
        load_experiment(path)


def test_messages_of_questions_are_kept_as_they_were_asked():
    assert prompt_of({"asked": user("Q"), "prompt": user("bare")}, PoolConfig()) == user("Q")
