"""What an experiment's stored results become: verdicts, speed-ups, tokens, on results made up."""

import json
from dataclasses import replace

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from report_run import make_run
from test_experiment_files import HEAD, REPORTED, store, write

from pivottrace.experiments.analysis import analyse
from pivottrace.experiments.definition import BASE, load_experiment
from pivottrace.experiments.page import write_experiment_report
from pivottrace.experiments.results import rollout_tokens

# Right answers of 200 samples in every other of 400 questions, the same in all seeds; it is 100 in
# those between. So a difference to `full` of half of (right - 100) / 200, give or take a tenth.
QUESTIONS = tuple(f"q{i}" for i in range(400))
RIGHT = {BASE: 80, "full": 100, "half-a-point-less": 98, "more": 102, "less": 94}
STEPS = [0, 10, 20, 30, 40]
CURVE = {"questions": 2, "step": STEPS, "training_tokens": [10 * step for step in STEPS]}


@pytest.fixture
def experiment(tmp_path):
    head = HEAD.replace('name = "full"\n', 'name = "full"\nown_rollouts = false\n')
    arms = "".join(f'[[arms]]\nname = "{name}"\n' for name in list(RIGHT)[2:])
    found = load_experiment(write(tmp_path, arms, head=head))
    for name, right in RIGHT.items():
        rise = 2 if name == "more" else 1
        accuracy = [min(0.6, rise * step / 50) for step in STEPS]
        facts = REPORTED | {"curve": CURVE | {"accuracy": accuracy}}
        facts |= {"num_samples": 200, "num_correct": [100, right] * 200}
        facts["rollout_tokens"] = {"greedy": 30, "sampled": 70}
        for seed in found.seeds:
            store(found, name, seed, QUESTIONS, **facts)
    return found


def test_not_worse_and_better_are_said_separately(experiment):
    arms = analyse(experiment)["arms"]
    gaps = {name: arm["difference"] for name, arm in arms.items() if name != "full"}
    verdicts = {name: (g["mean"], g["not_worse"], g["better"]) for name, g in gaps.items()}
    assert verdicts == {
        "half-a-point-less": (-0.005, True, False),
        "more": (0.005, True, True),
        "less": (-0.015, False, False),
    }
    # Residuals of 0.015: by question 0.015^2 / 400, less a third for seeds and questions together;
    # t with two degrees of freedom, 4.303, times 0.00061 is 0.26 points.
    page = write_experiment_report(experiment).read_text()
    assert "| less | 3 | 100.0 % | 48.5 % [48.2, 48.8] | −1.5 [−1.8, −1.2] | no | no |" in page
    assert "before training 45.0 % [44.1, 45.9]" in page


def test_a_pair_may_name_the_model_before_training(experiment):
    experiment = replace(experiment, compare=(("full", BASE),))
    [gap] = analyse(experiment)["compared"]
    assert (gap["mean"], gap["better"]) == (0.05, True)
    page = write_experiment_report(experiment).read_text()
    assert "| full | before training | 3 | +5.0 [" in page


def test_own_rollouts_count_in_tokens_and_not_in_steps(experiment):
    speed = {name: arm["speed"] for name, arm in analyse(experiment)["arms"].items()}
    # No spread over seeds: the target is the reference's last point itself.
    assert speed["full"]["target"] == 0.6 and speed["full"]["by_tokens"] == 1
    step = speed["full"]["steps"]
    assert speed["less"]["by_steps"] == 1  # the same curve
    assert speed["less"]["by_tokens"] == pytest.approx(10 * step / (10 * step + 100))
    sooner = speed["more"]["steps"]
    assert sooner < step and speed["more"]["by_steps"] == pytest.approx(step / sooner)
    assert speed["more"]["by_tokens"] == pytest.approx(10 * step / (10 * sooner + 100))


def test_speed_ups_name_their_target_and_what_another_would_give(experiment):
    for seed, final in zip(experiment.seeds, (0.5, 0.6, 0.7), strict=True):
        path = experiment.results / "arms" / f"full-{seed}.json"
        facts = json.loads(path.read_text())
        facts["curve"]["accuracy"][-1] = final
        path.write_text(json.dumps(facts))
    # Finals of mean 0.6 and standard error 0.0577; the mean curve rises by 0.2 up to step 30 and
    # is 0.6 there and at the end. Smoothed it is 0.4, 0.533, 0.6 at steps 20, 30, 40.
    arms = analyse(experiment)["arms"]
    speed = arms["full"]["speed"]
    assert speed["target"] == pytest.approx(0.542265, abs=1e-6)
    assert speed["by_steps_at_lower_and_higher_target"] == [1, 1]
    # `more` is at 0, 0.4, 0.6, 0.6, 0.6; smoothed 0.333 at step 10 and 0.533 at 20. A standard
    # error lower is 0.484530: step 26.336 against 17.559. The final mean is reached at 40 and 30.
    lower, higher = arms["more"]["speed"]["by_steps_at_lower_and_higher_target"]
    assert lower == pytest.approx(26.3397 / 17.5585, abs=1e-3)
    assert higher == pytest.approx(40 / 30)
    page = write_experiment_report(experiment).read_text()
    assert "| full | 54.2 % | 31 | 31 | 1.00x [1.00, 1.00] | 1.00x, 1.00x | 1.00x |" in page


def test_arms_with_fewer_seeds_have_the_others_beside_them(experiment):
    page = write_experiment_report(experiment).read_text()
    assert "alone:" not in page
    (experiment.results / "arms" / f"more-{experiment.seeds[0]}.json").unlink()
    rest = ", ".join(map(str, experiment.seeds[1:]))
    page = write_experiment_report(experiment).read_text()
    assert f"On seeds {rest} alone: full: 50.0 %; half-a-point-less: 49.5 %; less: 48.5 %." in page


def test_a_reference_with_rollouts_of_its_own_pays_for_them_too(experiment):
    arms = (replace(experiment.arm("full"), own_rollouts=True), *experiment.arms[1:])
    speed = analyse(replace(experiment, arms=arms))["arms"]["less"]["speed"]
    assert speed["by_steps"] == speed["by_tokens"] == 1


def test_a_reference_without_a_curve_gives_no_speed_up(experiment):
    for seed in experiment.seeds:
        path = experiment.results / "arms" / f"full-{seed}.json"
        facts = json.loads(path.read_text())
        facts["curve"] |= {"step": [], "accuracy": [], "training_tokens": []}
        path.write_text(json.dumps(facts))
    arms = analyse(experiment)["arms"]
    assert arms["less"]["curve"] and arms["less"]["speed"] is None
    assert "How soon" not in write_experiment_report(experiment).read_text()


def test_rollouts_are_counted_with_their_prompts(tmp_path):
    """160 prompts of two tokens, 8 samples of one token each."""
    run = make_run(tmp_path / "run", "sample")
    traces = run.read_parts("rollouts_greedy", "greedy", ["tokens"])["tokens"].to_pylist()
    tokens = rollout_tokens(run)
    assert tokens["greedy"] == 2 * 160 + sum(map(len, traces)) > 2 * 160
    assert tokens["sampled"] == 8 * (2 * 160 + 160)


def test_only_samples_that_were_taken_are_counted(tmp_path):
    run = make_run(tmp_path / "run", "sample")
    path = run.part_path("rollouts_sampled", 0)
    rows = pq.read_table(path)
    taken = pc.less(rows["sample"], pc.if_else(pc.equal(rows["question_id"], "q-0000"), 3, 8))
    pq.write_table(rows.filter(taken), path)
    assert rollout_tokens(run)["sampled"] == 8 * (2 * 160 + 160) - 5 * 3
