"""Rounds: shares of steps and labels, and a second round on a fabricated run."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_run import STAGES, World, decode, stages_of

from pivottrace.commands.status import describe, next_line
from pivottrace.config import EMBEDDED_MODEL
from pivottrace.errors import BudgetError, ConfigError, LabelsNeeded
from pivottrace.labels import budget, importing, requests, waiting
from pivottrace.pipeline import steps, unfinished
from pivottrace.report import build_report
from pivottrace.routing.auction import triage
from pivottrace.routing.expectations import Expectations
from pivottrace.routing.flows import route_flows
from pivottrace.routing.probes import rank_fractions
from pivottrace.routing.question_evidence import QuestionEvidence
from pivottrace.routing.routes import PAPER_FRACTIONS, TriageOptions
from pivottrace.routing.shares import label_cap, round_steps
from pivottrace.run import rounds
from pivottrace.run.directory import RunDir
from pivottrace.run.part_work import part_seed
from pivottrace.stages import calibrate, label, score
from pivottrace.stages import train as training
from pivottrace.stages import triage as routing
from pivottrace.viewer.pages import write_question
from pivottrace.viewer.question_view import question_views
from pivottrace.viewer.ranked_pool import RankedPool


def test_steps_are_shared_with_the_remainder_first():
    assert round_steps(200, 1) == [200]
    assert round_steps(10, 4) == [4, 2, 2, 2]
    assert round_steps(3, 3) == [1, 1, 1]
    with pytest.raises(ConfigError, match=r"rounds\.num = 4 .* train\.steps = 3"):
        round_steps(3, 4)


def test_labels_beyond_the_probes_are_shared_evenly():
    assert [label_cap(30, 10, r, 3) for r in range(3)] == [16, 23, 30]
    assert label_cap(30, 10, 0, 1) == 30
    assert [label_cap(10, 10, r, 2) for r in range(2)] == [10, 10]
    with pytest.raises(BudgetError, match="11 probes"):
        label_cap(10, 11, 0, 2)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(1, 60),
    st.floats(0, 1),
    st.integers(1, 5),
    st.booleans(),
    st.sampled_from([None, None, PAPER_FRACTIONS]),
)
def test_no_flow_of_routes_passes_the_budget(seed, size, share, num_rounds, evenly, fractions):
    rng = np.random.default_rng(seed)
    allowed = int(share * size)
    bought = np.zeros(size, bool)
    probes = rng.choice(size, size=rng.integers(0, allowed + 1), replace=False)
    bought[probes] = True
    is_probe, options = bought.copy(), TriageOptions(fractions=fractions)
    routes = None
    for index in range(num_rounds):
        # Everything is drawn anew: any question may be forgotten, mastered, or fail.
        mu, vote, gain, harm = rng.random((4, size))
        gains = gain / 4, (gain - harm) / 4
        expected = Expectations(mu, vote, vote / 2, (1 + vote) / 2, *gains, vote)
        evidence = QuestionEvidence(
            vote_share=np.where(rng.random(size) < 0.5, rng.random(size), np.nan),
            labelled=bought,
            earlier=bought & ~is_probe,
            correctness=np.where(bought, rng.integers(0, 5, size) / 4, np.nan),
            failure_code=(rng.random(size) < 0.1).astype(np.int64),
            failure_names=("truncated",),
        )
        cap = label_cap(allowed, probes.size, index, num_rounds) if evenly else allowed
        result = triage(
            rank_fractions(rng.random(size)),
            budget=max(0, cap - int(bought.sum())),
            expected=expected,
            vote_holds=rng.random(size) < 0.5,
            evidence=evidence,
            options=options,
        )
        now = list(zip(result.routes(), result.reasons(), strict=True))
        # What is labelled stays usable for free, or is dropped: it is never guessed at.
        known = np.flatnonzero(bought & (evidence.failure_code == 0))
        assert {now[i][0] for i in known} <= {"annotate", "discard"}
        assert all(now[i][1].startswith(("labelled_", "annotate_l")) != is_probe[i] for i in known)
        bought = bought | (np.array(result.routes()) == "annotate")
        assert bought.sum() <= cap <= allowed
        if routes is not None:
            pairs = [(*then, *here) for then, here in zip(routes, now, strict=True)]
            flows = route_flows({pair: pairs.count(pair) for pair in set(pairs)})
            assert sum(flow.count for flow in flows) == size
        routes = now


def fabricate(path, until="train", **sections):
    """A run of two rounds whose first is done up to and with a stage."""
    triage_all = {"least_label_gain": 0.0, "hopeless": "annotate"}  # so that the budget is spent
    sections = {"rounds": {"num": 2}, "labels": {"budget": 0.5}, "triage": triage_all} | sections
    for stage, run in stages_of(path, **sections):
        if stage == until:
            return run
    raise ValueError(until)


def routed(run, route):
    rows = run.read_table("triage", made_by="triage").to_pylist()
    return [row for row in rows if row["route"] == route]


def trace_again(run, index=1):
    """Another model's rollouts and signals in a later round."""
    again = run.in_round(index)
    world = World(160, None)
    # The same questions; a fifth of those that were mastered are not any more, and every other
    # vote that was safe falls apart.
    forgotten = np.flatnonzero(world.skill == 1)[::5]
    world.skill[forgotten] = 0.5
    weak = [world.ids.index(row["question_id"]) for row in routed(run, "weak")]
    world.skill[weak[::2]] = 0.3
    world.traces = [world._trace(i) for i in range(160)]
    world.greedy(again)
    kept = (run.path / "reference.json").read_text()
    world.signals(again)
    (run.path / "reference.json").write_text(kept)
    score.run(again)
    world.sample(again)
    return again


@pytest.fixture(scope="module")
def two_rounds(tmp_path_factory):
    run = fabricate(tmp_path_factory.mktemp("rounds") / "run")
    bought = set(budget.bought(run))
    again = trace_again(run)
    for stage in (calibrate, routing, label):
        stage.run(again)
    return run, again, bought


def ids(run, name, made_by="calibrate"):
    return run.read_table(name, made_by=made_by)["question_id"].to_pylist()


def test_the_first_round_buys_its_share(two_rounds):
    run, _, bought = two_rounds
    # 160 questions: 80 labels, 40 of them probes, and half of the other 40 in the first round.
    assert run.stage_facts("triage")["labels_planned"] == len(bought) == 60


def test_the_second_round_is_calibrated_on_the_first_ones_probes(two_rounds):
    run, again, bought = two_rounds
    probes = ids(again, "probes")
    assert set(probes) == set(ids(run, "evidence")) and len(probes) == 40
    ranks = again.read_table("probes", made_by="calibrate")["rank"].to_pylist()
    assert ranks == sorted(ranks)
    assert set(ids(again, "labelled")) == bought - set(probes)
    # Counted on this round's samples.
    own = {row["question_id"]: row["num_correct"] for row in evidence(again)}
    assert own != {row["question_id"]: row["num_correct"] for row in evidence(run)}
    reference = json.loads((run.path / "reference.json").read_text())
    assert again.stage_facts("score")["threshold"] == reference["threshold"]
    assert again.stage_facts("score")["threshold"] == run.stage_facts("score")["threshold"]


def test_a_probe_that_failed_in_one_round_is_a_probe_again_in_the_next(tmp_path):
    run = fabricate(tmp_path, rounds={"num": 3})
    again = trace_again(run)
    calibrate.run(again)
    probes = again.read_table("probes", made_by="calibrate")
    again.write_table("probes", probes.slice(1))  # as if the first one had failed in this round
    for stage in (routing, label):
        stage.run(again)
    third = trace_again(run, 2)
    calibrate.run(third)
    assert set(ids(third, "probes")) == set(ids(run, "probes"))


def evidence(run):
    return run.read_table("evidence", made_by="calibrate").to_pylist()


def test_labels_are_bought_once_and_within_the_budget(two_rounds):
    run, again, bought = two_rounds
    facts = again.stage_facts("triage")
    labels = budget.bought(run)
    assert bought < set(labels) and len(labels) == facts["labels_planned"] <= 80
    assert set(waiting.to_annotate(again)) == set(labels) - bought
    rows = {row["question_id"]: row for row in again.read_table("triage", "triage").to_pylist()}
    for question_id in bought:
        assert rows[question_id]["route"] in ("annotate", "discard")
    reasons = {rows[i]["reason"] for i in ids(again, "labelled")}
    assert reasons <= {"annotate_labelled", "labelled_mastered", "labelled_hopeless"}


def test_flows_are_stored_told_and_drawn(two_rounds):
    run, again, _ = two_rounds
    flows = again.read_table("flows", made_by="triage").to_pylist()
    assert sum(row["count"] for row in flows) == 160
    tables = [r.read_table("triage", made_by="triage").to_pylist() for r in (run, again)]
    pairs = [
        (a["route"], a["reason"], b["route"], b["reason"]) for a, b in zip(*tables, strict=True)
    ]
    for row in flows:
        key = tuple(row[n] for n in ("from_route", "from_reason", "to_route", "to_reason"))
        assert row["count"] == pairs.count(key)
    moves = again.stage_facts("triage")["moves"]
    assert moves["forgotten"] > 0 and moves["promoted"] > 0 and sum(moves.values()) == 160
    lines = list(describe(run))
    assert lines[0] == f"run {run.path}, round 1 (the first is 0) of 2"
    told = ", ".join(f"{move.replace('_', ' ')} {count}" for move, count in moves.items())
    assert f"moves since round 0: {told}" in lines
    page = build_report(run, unfinished(run), decode).read_text(encoding="utf-8")
    assert "Moves between the rounds" in page and "flows-" in page
    assert "Round 1." in page
    # Both rounds' steps in one curve, the second's after the first's 30.
    assert unfinished(run)[0] == "train"


def test_the_viewer_shows_the_last_routed_round_beside_the_others(two_rounds, tmp_path):
    run, again, _ = two_rounds
    moved = routed(again, "annotate")[0]["question_id"]
    before = {row["question_id"]: row for row in run.read_table("triage", "triage").to_pylist()}
    page = write_question(run, moved).read_text()
    view = question_views(again, RankedPool(again), {moved: None}, is_short=False)[0]
    assert ", round 1." in page and "has begun" not in page
    assert (view.routing.round_index, view.routing.route) == (1, "annotate")
    (other,) = view.other_rounds
    assert (other.round_index, other.route) == (0, before[moved]["route"])

    begun = fabricate(tmp_path / "begun")
    trace_again(begun)
    page = write_question(begun, moved).read_text()
    assert "Round 1 has begun. It is shown once its questions are routed." in page


def test_votes_that_fall_apart_are_promoted_while_the_budget_lasts(two_rounds, tmp_path):
    run, again, bought = two_rounds
    weak = {row["question_id"] for row in routed(run, "weak")}
    promoted = weak & {row["question_id"] for row in routed(again, "annotate")}
    assert len(promoted) == again.stage_facts("triage")["moves"]["promoted"]
    assert promoted <= set(budget.bought(again)) - bought

    # All labels bought at once: none is left for them.
    spent = fabricate(
        tmp_path / "run", rounds={"num": 2, "spend": "at_once"}, labels={"budget": 0.3}
    )
    broke = trace_again(spent)
    calibrate.run(broke)
    routing.run(broke)
    moves = broke.stage_facts("triage")["moves"]
    assert moves["vote_lost"] > 0 and "promoted" not in moves
    assert budget.bought(broke) == budget.bought(spent)


def test_an_alarm_that_ended_training_ends_the_rounds(tmp_path):
    run = fabricate(tmp_path / "run", "triage", rounds={"num": 3})
    assert "greedy" in unfinished(run) and len(rounds.all_rounds(run)) == 3
    run.mark_done("train", trained=True, stopped="step 3: votes", num_rows={})
    assert [each.round_index for each in rounds.all_rounds(run)] == [0]
    assert rounds.is_last_round(run) and rounds.last_trained(run).round_index == 0
    assert not {"greedy", "calibrate", "triage", "train"} & set(unfinished(run))


def test_one_round_has_no_section_of_moves(tmp_path):
    run = fabricate(tmp_path / "run", "triage", rounds={"num": 1})
    page = build_report(run, unfinished(run), decode).read_text(encoding="utf-8")
    assert "between the rounds" not in page
    assert next(iter(describe(run))) == f"run {run.path}, round 0"


def test_probes_are_trained_on_when_no_round_is_calibrated_on_them_any_more(two_rounds):
    run, again, _ = two_rounds
    probes = set(ids(again, "evidence"))
    first, left_out = training.read_training_rows(run)
    assert not probes & set(first["question_id"].to_pylist()) and left_out["probes"] > 0
    last, left_out = training.read_training_rows(again)
    assert probes & set(last["question_id"].to_pylist()) and "probes" not in left_out


def test_train_probes_every_round_and_labels_at_once(tmp_path):
    how = {"num": 2, "train_probes": "every_round", "spend": "at_once"}
    run = fabricate(tmp_path / "run", "label", rounds=how)
    assert run.stage_facts("label")["labels_used"] > 60
    rows, _ = training.read_training_rows(run)
    assert set(ids(run, "evidence")) & set(rows["question_id"].to_pylist())


def test_a_triage_that_was_killed_knows_the_same_labels(two_rounds, tmp_path):
    _, again, _ = two_rounds
    before = again.table_path("triage").read_bytes()
    manifest = again.manifest
    try:
        stages = {k: v for k, v in manifest["rounds"]["1"].items() if k not in ("triage", "label")}
        again.update_manifest(rounds=manifest["rounds"] | {"1": stages})
        routing.run(again)
        assert again.table_path("triage").read_bytes() == before
    finally:
        again.update_manifest(rounds=manifest["rounds"])


def test_people_are_asked_in_the_second_round_for_what_is_new(tmp_path):
    run = fabricate(tmp_path / "run", "sample", labels={"budget": 0.5, "source": "file"})
    pool = run.read_table("pool", made_by="run").to_pylist()
    truth = {row["id"]: row["answer"] for row in pool}

    def answer(view, stage):
        """Fill in what a stage asks for, and let it go on."""
        with pytest.raises(LabelsNeeded):
            stage.run(view)
        file = requests.waiting_file(rounds.current_round(view))
        asked = waiting.requested(view)
        missing = [i for i in asked if i not in budget.bought(view)]
        filled = tmp_path / "filled.csv"
        filled.write_text("id,answer\n" + "".join(f"{i},{truth[i]}\n" for i in missing))
        assert importing.store_file(view, importing.read_file(view, filled)).new == len(missing)
        stage.run(view)
        return file.name, missing

    answer(run, calibrate)
    routing.run(run)
    name, first = answer(run, label)
    assert name == "annotate_to_label.csv"
    run.mark_done("train", trained=False)
    again = trace_again(run)
    assert requests.waiting_file(again) is None
    calibrate.run(again)
    routing.run(again)
    assert requests.waiting_file(again) is None  # no file yet
    name, second = answer(again, label)
    assert name == "annotate_to_label_01.csv"
    assert second and not set(first) & set(second)
    assert len(budget.bought(run)) <= 80
    assert next_line(run, "").startswith("next: pivottrace run")


def test_a_round_starts_from_the_model_that_was_trained_last(tmp_path):
    run = fabricate(tmp_path / "run", "sample", rounds={"num": 3}, train={"steps": 10})
    models = [rounds.start_model(run.in_round(i)).path for i in range(4)]
    assert models == [EMBEDDED_MODEL] * 4
    run.mark_done("train", trained=True)
    run.in_round(1).mark_done("train", trained=False, reason="nothing")
    trained = str(run.path / "rounds" / "00" / "train" / "model")
    models = [rounds.start_model(run.in_round(i)).path for i in range(4)]
    assert models == [EMBEDDED_MODEL, trained, trained, trained]
    assert rounds.current_round(run).round_index == 2
    assert [rounds.train_settings(run.in_round(i)).steps for i in range(3)] == [4, 3, 3]
    assert [rounds.steps_before(run.in_round(i)) for i in range(3)] == [0, 4, 7]
    seeds = [rounds.round_seed(run.in_round(i)) for i in range(3)]
    assert seeds == [7, part_seed(7, "round", 1), part_seed(7, "round", 2)]
    assert len(set(seeds)) == 3


def test_one_round_is_as_it_was(tmp_path):
    run = fabricate(tmp_path / "run", "pool", rounds={"num": 1})
    assert rounds.current_round(run) is run and rounds.is_last_round(run)
    limit = {"max_new_tokens": run.config.rollouts.max_new_tokens}
    assert rounds.train_settings(run) == run.config.train.model_copy(update=limit)
    assert rounds.labels_by_then(run, 80, 40) == 80
    names = "pool greedy trace score sample calibrate triage label evaluate_before train"
    assert list(steps(run)) == [(0, name) for name in [*names.split(), "evaluate_after"]]
    assert run.table_path("evaluation_after").parent == run.round_path


def test_two_rounds_are_one_list_of_steps(tmp_path):
    run = fabricate(tmp_path / "run", "pool")
    whole = list(steps(run))
    again = ["greedy", "trace", "score", "sample", "calibrate", "triage", "label", "train"]
    assert [name for index, name in whole if index == 1] == [*again, "evaluate_after"]
    assert whole[-1] == (1, "evaluate_after") and len(whole) == 19
    # Until a stage: of the round that the run is in.
    assert list(steps(run, "triage"))[-1] == (0, "triage")
    run.mark_done("train", trained=True)
    assert list(steps(run, "triage"))[-1] == (1, "triage")
    assert run.in_round(1).table_path("evaluation_after").parent.name == "01"
    assert run.table_path("evaluation_after").parent.name == "01"
    assert run.in_round(1).table_path("evaluation_before").parent.name == "00"


def test_settings_that_rounds_bind(tmp_path):
    run = fabricate(tmp_path / "run", "triage")
    changed = run.config.model_copy(
        update={"rounds": run.config.rounds.model_copy(update={"num": 3})}
    )
    with pytest.raises(ConfigError, match=r"rounds\.num: was 2, now 3 \(used by triage\)"):
        RunDir.create(changed)


def test_a_run_of_an_older_version_had_one_round(tmp_path):
    run = fabricate(tmp_path / "run", "triage", rounds={"num": 1})
    recorded = run.manifest["rounds"]
    for facts in recorded["0"].values():
        for key in [key for key in facts["settings"] if key.startswith("rounds")]:
            del facts["settings"][key]
    run.update_manifest(rounds=recorded)
    with RunDir.create(run.config).locked():
        pass
    changed = run.config.model_copy(
        update={"rounds": run.config.rounds.model_copy(update={"num": 2})}
    )
    with pytest.raises(ConfigError, match=r"rounds\.num: was 1, now 2"):
        RunDir.create(changed)


def test_seconds_are_told_apart_by_round(tmp_path):
    run = fabricate(tmp_path / "run", "pool")
    with run.in_round(1).timed("greedy"):
        pass
    lines = (run.path / "timings.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["round"] == 1 and "round" not in json.loads(lines[0])
    assert "greedy" not in run.seconds(all_rounds=False) and "greedy" in run.seconds()
    assert STAGES[0] in run.seconds(all_rounds=False)


def test_status_shows_the_seconds_of_the_present_round(tmp_path):
    run = fabricate(tmp_path / "run", rounds={"num": 2})
    run.in_round(1).begin("greedy")
    lines = [line.strip() for line in describe(run)]
    assert lines[0].startswith(f"run {run.path}, round 1")
    assert "to do greedy" in lines and "done  pool                 0.4 s" in lines


def test_tables_of_labels_before_a_round_are_empty_in_the_first(tmp_path):
    from pivottrace.run.readings import earlier_labels

    run = fabricate(tmp_path / "run", "pool")
    assert earlier_labels(run) == []
    table = pa.table(
        {"question_id": ["a"], "purpose": ["annotation"], "num_correct": [1], "num_samples": [2]}
    )
    run.in_round(1).write_table("labelled", table)
    assert [row["question_id"] for row in earlier_labels(run.in_round(1))] == ["a"]
