"""Experiment files, what arms take over from the base run, the order of jobs, wrong labels."""

import json
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import report_run

from pivottrace.config import parse_config
from pivottrace.errors import ConfigError, RunDirError
from pivottrace.experiments.definition import BASE, load_experiment
from pivottrace.experiments.forking import fork, shared_stages
from pivottrace.experiments.jobs import Job, has_result, is_finished, missing_jobs
from pivottrace.experiments.page import write_experiment_report
from pivottrace.experiments.results import read_result, refuse_other_settings
from pivottrace.experiments.rival_routes import exact_expectations
from pivottrace.ingest import read_questions
from pivottrace.routing.auction import TriageOptions, triage
from pivottrace.routing.question_evidence import QuestionEvidence
from pivottrace.run.storage import read_json
from pivottrace.stages import score
from pivottrace.stages.evidence import THRESHOLDS
from pivottrace.world.problems import PRESETS, generate

BENCH = Path(__file__).parents[2] / "bench"
HEAD = """
[experiment]
name = "e"
output = "{folder}/runs"
seeds = [3, 4, 5]
reference = "full"
[base]
pool.questions = "world:default?num=8&seed={{seed}}"
pool.evaluation = "world:default?split=evaluation&num=4&seed={{seed}}"
labels.source = "oracle"
[[arms]]
name = "full"
labels.budget = 1.0
"""


def write(tmp_path, more="", head=HEAD):
    path = tmp_path / "e.toml"
    path.write_text(head.format(folder=tmp_path) + more)
    return path


def test_an_arm_is_the_base_with_its_changes(tmp_path):
    more = '[[arms]]\nname = "b"\ntitle = "B"\nseeds = [4]\nroutes = "by_truth"\n'
    more += 'triage.mode = "fixed"\n'
    experiment = load_experiment(write(tmp_path, more))
    full, other = experiment.arms
    assert (other.title, other.seeds) == ("B", (4,))
    assert (other.routes, full.routes) == ("by_truth", "triage")
    config = experiment.config(full, 4)
    assert (config.labels.budget, config.seed, config.triage.mode) == (1.0, 4, "calibrated")
    assert config.pool.questions == "world:default?num=8&seed=4"
    assert config.output == tmp_path / "runs" / "runs" / "full-4"
    assert experiment.config(other, 4).triage.mode == "fixed"
    assert experiment.config(other, 4).labels.budget == 0.293
    assert experiment.result_path("b", 4) == tmp_path / "runs" / "results" / "arms" / "b-4.json"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('[[arms]]\nname = "x"\ntrain.stepz = 3\n', r"arm 'x': train.stepz is not a setting"),
        ('[[arms]]\nname = "full"\n', "two arms are named 'full'"),
        ('[[arms]]\nname = "before"\n', "has the name 'before'"),
        ('[[arms]]\nname = "x"\nseed = 3\n', "seed is set for each run"),
        ('[[arms]]\nname = "x"\nseeds = [9]\n', "seed 9 is not among experiment.seeds"),
        ('[[arms]]\nname = "x"\nlabels.source = "file"\n', r"does not wait for people.*\(column, "),
        ("[train]\nsteps = 3\n", r"train is not a part of an experiment.*below \[base\]"),
        ("not toml", "not valid TOML"),
        ('[[arms]]\nname = "x"\npool.evaluation = "a.csv"\n', "the same held-out questions"),
        (
            '[[arms]]\nname = "x"\nalarms.action = "stop"\ntrain.evaluate_steps = 2\n',
            "curves have no mean",
        ),
        ('[[arms]]\nname = "x"\nseeds = 0\n', r"arm 'x': seeds = 0: .* list"),
        ('[[arms]]\nname = "x"\ntitle = 5\n', r"arm 'x': title = 5: give text"),
        ('[[arms]]\nname = "x"\nown_rollouts = "some"\n', r"arm 'x': own_rollouts = 'some'"),
    ],
)
def test_what_cannot_go_well_is_refused_before_anything_runs(tmp_path, more, message):
    with pytest.raises(ConfigError, match=message):
        load_experiment(write(tmp_path, more))


def test_a_base_from_another_file_holds_below_the_file_s_own(tmp_path):
    write(tmp_path)
    middle, upper = tmp_path / "middle.toml", tmp_path / "more" / "upper.toml"
    upper.parent.mkdir()
    text = HEAD.format(folder=tmp_path)
    head, arm = text[: text.index("[base]")], text[text.index("[[arms]]") :]
    middle.write_text(f'{head}base_from = "e.toml"\n[base]\ntrain.steps = 8\n{arm}')
    own = '[base.pool]\nquestions = "world:hard?num=8&seed={seed}"\n'
    upper.write_text(f'{head}base_from = "../middle.toml"\n{own}{arm}')
    experiment = load_experiment(upper)
    config = experiment.config(experiment.arm("full"), 4)
    assert config.pool.questions == "world:hard?num=8&seed=4"
    assert config.pool.evaluation == "world:default?split=evaluation&num=4&seed=4"
    assert (config.train.steps, config.labels.source) == (8, "oracle")

    middle.write_text(f"{head}[base]\ntrain.stepz = 8\n{arm}")
    with pytest.raises(
        ConfigError, match=r"upper\.toml with the base of .*more/\.\./middle.*train\.stepz"
    ):
        load_experiment(upper)
    middle.write_text(f'{head}base_from = "e.toml"\n{arm}')
    upper.write_text(f'{head}base_from = "../middle.toml"\n{own}{arm}train.stepz = 8\n')
    with pytest.raises(ConfigError, match=r"upper\.toml, arm 'full': train\.stepz"):
        load_experiment(upper)
    middle.write_text(f"base = 3\n{head}{arm}")
    with pytest.raises(ConfigError, match=r"middle\.toml: base = 3: write it as a table"):
        load_experiment(upper)
    middle.write_text(f'{head}base_from = "more/upper.toml"\n{arm}')
    with pytest.raises(ConfigError, match=r"base_from leads back to .*upper\.toml"):
        load_experiment(upper)
    middle.write_text(f'{head}base_from = "none.toml"\n{arm}')
    with pytest.raises(
        ConfigError, match=r"middle\.toml: experiment\.base_from: .*none\.toml: no such"
    ):
        load_experiment(upper)


def test_a_wrong_shared_setting_is_no_arm_s_fault(tmp_path):
    head = HEAD.replace("[base]", "[base]\ntrain.stepz = 3")
    with pytest.raises(ConfigError, match=r"e\.toml, \[base\]: train\.stepz"):
        load_experiment(write(tmp_path, head=head))


def test_one_table_is_no_list_of_arms(tmp_path):
    text = HEAD.replace("[[arms]]", "[arms]")
    with pytest.raises(ConfigError, match=r"Write each as \[\[arms\]\]"):
        load_experiment(write(tmp_path, head=text))


def test_an_arm_that_scores_anew_makes_its_own_thresholds(tmp_path):
    base = report_run.make_run(tmp_path / "base", "score")
    (base.path / "overlap.parquet").touch()
    values = base.config.model_dump(mode="json", exclude_none=True)
    values |= {"output": str(tmp_path / "runs" / "x-0"), "pivots": {"percentile": 60.0}}
    experiment = SimpleNamespace(
        config=lambda arm, seed: parse_config(values, "test"), base_config=lambda seed: base.config
    )
    arm = fork(experiment, SimpleNamespace(), 0)
    assert arm.is_done("trace") and not arm.is_done("score")
    frozen = read_json(base.path / "reference.json")
    assert set(THRESHOLDS) <= frozen.keys()
    assert read_json(arm.path / "reference.json") == {
        key: value for key, value in frozen.items() if key not in THRESHOLDS
    }
    score.run(arm)
    assert arm.stage_facts("score")["threshold"] < base.stage_facts("score")["threshold"]


def test_unknown_heads_and_references_are_refused(tmp_path):
    head = HEAD.replace('"full"\n[base]', '"fule"\n[base]')
    with pytest.raises(ConfigError, match=r"no arm 'fule'. The nearest one is 'full'"):
        load_experiment(write(tmp_path, head=head))
    further = HEAD.replace("[base]", "also_evaluate.runs = 'a.jsonl'\n[base]")
    with pytest.raises(ConfigError, match=r"also_evaluate\.runs names folders"):
        load_experiment(write(tmp_path, head=further))
    with pytest.raises(ConfigError, match=r"experiment\.outpt is not a setting"):
        load_experiment(write(tmp_path, head=HEAD.replace("output", "outpt")))


@pytest.mark.parametrize("name", ["headline", "headline-noise", "headline-mastered", "rivals"])
def test_the_files_in_bench_are_whole(name):
    experiment = load_experiment(BENCH / f"{name}.toml")
    assert experiment.name == name
    assert experiment.reference == "full"
    full = experiment.config(experiment.arm("full"), 0)
    assert (full.labels.budget, full.calibrate.num_probes) == (1, 0)
    for arm in experiment.arms:
        config = experiment.config(arm, 0)
        assert config.triage.annotate_fraction + config.triage.discard_fraction <= 1


@pytest.mark.parametrize("name", ["headline", "headline-noise", "headline-mastered"])
def test_only_the_supervision_differs_between_the_headlines_arms(name):
    experiment = load_experiment(BENCH / f"{name}.toml")
    base = experiment.base_config(20)
    for arm in experiment.arms:
        config = experiment.config(arm, 20)
        for section in ("pool", "model", "answers", "rollouts", "train", "alarms", "evaluate"):
            assert getattr(config, section) == getattr(base, section), (arm.name, section)
        deciding = name == "headline" and arm.name.startswith(("full", "piv", "frac", "random"))
        assert len(arm.seeds) == (5 if deciding else 3)


def test_pools_of_the_world_are_those_that_results_were_measured_on():
    """A changed draw would make published figures those of other questions."""
    pools = {name: generate("pool", 50, 0, name) for name in PRESETS}
    text = {name: repr([(p.question, p.answer) for p in pool]) for name, pool in pools.items()}
    found = {name: sha256(text[name].encode()).hexdigest()[:8] for name in text}
    assert found == {
        "default": "4ebbe8cd",
        "hard": "42542556",
        "easy": "4578eb7f",
        "mastered": "c507cdbb",
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"labels": {"budget": 0.1}, "train": {"steps": 3}},
            "pool greedy trace score sample evaluate_before",
        ),
        ({"score": {"estimator": "random"}}, "pool greedy trace score sample evaluate_before"),
        ({"pivots": {"amplitude": 0.1}}, "pool greedy trace evaluate_before"),
        ({"rollouts": {"max_new_tokens": 7}}, "pool"),
        ({"rollouts": {"temperature": 0.7}}, "pool greedy trace score evaluate_before"),
        ({"evaluate": {"temperature": 0.7}}, "pool greedy trace score sample"),
        ({"pool": {"limit": 3}}, ""),
    ],
)
def test_an_arm_takes_over_what_its_settings_leave_the_same(changes, expected):
    base = parse_config({}, "test")
    assert " ".join(shared_stages(base, parse_config(changes, "test"))) == expected


def store(experiment, name, seed, ids=("p", "q"), **changes):
    path = experiment.result_path(name, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    config = (
        experiment.base_config(seed)
        if name == BASE
        else experiment.config(experiment.arm(name), seed)
    )
    from pivottrace.experiments.results import _digest, _model_mark

    facts = {
        "config": config.model_dump(mode="json", exclude={"output"}, exclude_none=True),
        "question_ids": list(ids),
        "questions_digest": _digest(ids),
        "num_samples": 4,
        "num_correct": [1, 4],
    }
    if experiment.trained_in is not None:
        facts["model"] = _model_mark(experiment, name, seed)
    path.write_text(json.dumps(facts | changes))


REPORTED = {
    "versions": {"torch": "1"},
    "pool": 8,
    "labels": 8,
    "routes": {"annotate": 2, "weak": 2, "discard": 2, "defer": 2},
    "rows": {"annotate": 2, "weak": 2},
    "all_training_tokens": 9,
    "steps": 1,
    "rollout_tokens": {"greedy": 1, "sampled": 1},
    "curve": {"questions": 2},
}


def test_further_questions_belong_to_a_model_and_are_reported_as_far_as_they_are(tmp_path):
    head = HEAD.replace("[base]", "also_evaluate.far = 'far.jsonl'\n[base]", 1)
    experiment = load_experiment(write(tmp_path, '[[arms]]\nname = "b"\n', head=head))
    there = experiment.elsewhere("far")
    assert there.base_config(3).pool.evaluation == "far.jsonl"
    assert there.result_path("b", 3) == tmp_path / "runs" / "results" / "far" / "arms" / "b-3.json"
    names = (BASE, "full", "b")
    for name in names:
        store(experiment, name, 3, **REPORTED)

    def page():
        return write_experiment_report(experiment).read_text()

    assert not has_result(there, "b", 3) and not is_finished(experiment, "b", 3)
    assert "## On far\n\nNot finished: full has no result there." in page()
    for name in names:
        store(there, name, 3, versions={"torch": "2"})
    assert is_finished(experiment, "b", 3)
    assert "asked as those above (torch 2); before training" in page()
    assert page().count("| b | 1 |") == 2
    # Trained anew, its result is another, and what the old model did elsewhere is nobody's.
    store(experiment, "b", 3, **REPORTED, num_correct=[2, 4])
    assert not has_result(there, "b", 3)
    assert page().count("| b | 1 |") == 1 and "Not finished: `b`, seeds 3" in page()
    experiment.result_path("b", 3).unlink()
    assert not has_result(there, "b", 3) and "| b |" not in page()


def test_jobs_go_seed_by_seed_with_the_next_base_ahead(tmp_path):
    more = '[[arms]]\nname = "b"\nseeds = [3, 5]\n'
    experiment = load_experiment(write(tmp_path, more))

    def names(**chosen):
        jobs = missing_jobs(experiment, chosen.get("arms"), chosen.get("seeds"))
        return " ".join(f"{job.name}{job.seed}" for job in jobs)

    assert names() == "before3 before4 full3 b3 before5 full4 full5 b5"
    assert names(arms=["b"]) == "before3 before5 b3 b5"
    assert names(seeds=[5]) == "before5 full5 b5"
    store(experiment, BASE, 3)
    store(experiment, "full", 3)
    # The base's result is there but its run directory, which arms start from, is not.
    assert names(seeds=[3]) == "before3 b3"
    (experiment.run_path(BASE, 3)).mkdir(parents=True)
    (experiment.run_path(BASE, 3) / "manifest.json").write_text("{}")
    assert missing_jobs(experiment, None, [3]) == [Job("b", 3)]
    store(experiment, "b", 3)
    assert missing_jobs(experiment, None, [3]) == []
    with pytest.raises(ConfigError, match="seed 8 is not among"):
        missing_jobs(experiment, None, [8])


def test_a_result_with_other_settings_or_questions_is_refused(tmp_path):
    experiment = load_experiment(write(tmp_path))
    store(experiment, BASE, 3)
    store(experiment, "full", 3)
    found = read_result(experiment, "full", 3)
    assert found.counts.num_correct.tolist() == [1, 4] and found.counts.means.mean() == 0.625
    refuse_other_settings(experiment, "full", 3, found.facts)
    # A setting that came later, in an older result, counts as its default.
    del found.facts["config"]["train"]["beta"]
    refuse_other_settings(experiment, "full", 3, found.facts)

    changed = load_experiment(write(tmp_path, "train.steps = 7\n"))
    with pytest.raises(ConfigError, match=r"full-3.json was made with.*\n  train.steps: was 200"):
        missing_jobs(changed, None, None)
    del found.facts["config"]["train"]
    found.facts["config"]["trane"] = {}
    with pytest.raises(ConfigError, match=r"full-3.json.*trane"):
        refuse_other_settings(experiment, "full", 3, found.facts)
    head = HEAD.replace("[base]", 'cluster_by = "family"\n[base]')
    clustered = load_experiment(write(tmp_path, head=head))
    with pytest.raises(RunDirError, match=r"before-3.json lacks the column 'family'"):
        read_result(clustered, "full", 3)
    # The command that it names stores it, though every arm of the seed has its result.
    assert missing_jobs(clustered, None, [3]) == [Job(BASE, 3)]
    store(experiment, BASE, 3, ids=("p", "r"))
    with pytest.raises(RunDirError, match="other questions"):
        read_result(experiment, "full", 3)


def test_the_oracle_labels_what_teaches_and_trusts_right_votes():
    # Mastered; half right with a right vote; half right with a wrong vote; hopeless.
    correctness = np.array([1.0, 0.5, 0.375, 0.0])
    evidence = QuestionEvidence(
        vote_share=np.array([1.0, 0.5, 0.625, 0.625]), num_samples=np.full(4, 8)
    ).filled(4)
    right = np.array([True, True, False, False])
    expected = exact_expectations(correctness, right, evidence)
    assert expected.label_gain.tolist() == pytest.approx([0, 2 / 7, 15 / 56, 0])
    assert expected.vote_gain.tolist() == pytest.approx([0, 2 / 7, -0.625 * 0.375, 0])
    result = triage(
        1 - correctness,
        budget=1,
        expected=expected,
        evidence=evidence,
        options=TriageOptions(),
    )
    assert result.routes() == ["discard", "weak", "annotate", "discard"]
    assert result.weight.tolist() == [0, 1, 1, 0]


def test_wrong_labels_are_a_seeded_share_of_the_worlds_answers():
    def answers(options):
        table = read_questions(
            f"world:default?num=400&seed=2{options}", column_map={}, split=None, limit=None
        )
        return dict(zip(table["id"].to_pylist(), table["answer"].to_pylist(), strict=True))

    true, noisy = answers(""), answers("&noise=0.2")
    assert true.keys() == noisy.keys() and noisy == answers("&noise=0.2")
    off = [abs(int(true[i]) - int(noisy[i])) for i in true if true[i] != noisy[i]]
    assert 60 <= len(off) <= 100 and set(off) == {1, 2, 3}
    assert min(int(answer) for answer in noisy.values()) > 0
    for wrong in ("2", "x", "nan"):
        with pytest.raises(ConfigError, match="must be a share from 0 to 1"):
            answers(f"&noise={wrong}")
