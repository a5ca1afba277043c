"""What triage promises, over random curves, budgets, ties and probes, by the pipeline's code."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from pivottrace.routing.auction import triage
from pivottrace.routing.curves import CurveValues, calibrate
from pivottrace.routing.probes import draw_probes, rank_fractions
from pivottrace.routing.question_evidence import QuestionEvidence
from pivottrace.routing.routes import PAPER_FRACTIONS, REASONS, ROUTES, TriageOptions
from pivottrace.run.scored_pool import probe_evidence, read_scored, route_pool, triage_batches

G = 8
KINDS = ("mixed", "constant scores", "all right", "all wrong")

option_sets = st.builds(
    TriageOptions,
    mastered_floor=st.sampled_from([0.5, 0.95, 1.0]),
    hopeless_ceiling=st.sampled_from([0.0, 0.05, 0.3]),
    vote_floor=st.sampled_from([0.5, 0.6, 0.9]),
    hopeless=st.sampled_from(["drop", "annotate"]),
    fractions=st.sampled_from([None, None, None, PAPER_FRACTIONS]),
)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 80), st.integers(0, 90), option_sets)
def test_any_curve_and_budget(seed: int, size: int, budget: int, options: TriageOptions) -> None:
    rng = np.random.default_rng(seed)
    ranks = rank_fractions(rng.integers(0, rng.integers(1, 20), size).astype(float))
    mu, vote, learnability, share = rng.random((4, size))
    learnability *= rng.choice([0.0, 0.25])
    curve = CurveValues(mu, mu / 2, (1 + mu) / 2, vote, vote / 2, vote, learnability, share)
    labelled = rng.random(size) < 0.2
    evidence = QuestionEvidence(
        vote_share=np.where(rng.random(size) < 0.5, rng.integers(1, G + 1, size) / G, np.nan),
        num_samples=np.full(size, G),
        labelled=labelled,
        correctness=np.where(labelled, rng.integers(0, G + 1, size) / G, np.nan),
    )
    one, two = (
        triage(
            ranks,
            budget=budget,
            curve=curve,
            vote_holds=share < 0.5,
            evidence=evidence,
            options=options,
        )
        for _ in range(2)
    )
    assert one.route.tolist() == two.route.tolist()
    assert one.reason.tolist() == two.reason.tolist()
    routes = np.array(one.routes())
    assert ((routes == "annotate") & ~labelled).sum() <= budget
    assert set(one.reasons()) <= set(REASONS)
    assert sum(one.counts().values()) == size
    # A bigger budget never takes a label away, but for the paper's fixed share.
    more = np.array(
        triage(
            ranks,
            budget=budget + 3,
            curve=curve,
            vote_holds=share < 0.5,
            evidence=evidence,
            options=options,
        ).routes()
    )
    assert (more[routes == "annotate"] == "annotate").all()
    hopeless = curve.mu <= options.hopeless_ceiling
    if options.hopeless == "drop" and options.fractions is None:
        mastered = options.is_mastered(mu, evidence.vote_share)
        assert (routes[hopeless & ~labelled & ~mastered] == "discard").all()
    if options.hopeless == "annotate" and options.fractions is None:
        assert "hopeless" not in one.reasons()
        assert "probe_hopeless" not in one.reasons()


def scored_rows(seed: int, size: int, kind: str) -> tuple[pa.Table, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    chance = {"all right": np.ones(size), "all wrong": np.zeros(size)}.get(kind, rng.random(size))
    right = rng.binomial(G, chance)
    rival = np.where(rng.random(size) < 0.3, G - right, (G - right) // 2)
    tie = right == rival
    score = np.round(1 - chance + rng.normal(0, 0.2, size), 1)
    if kind == "constant scores":
        score[:] = 0.5
    failed = rng.random(size) < 0.1
    table = pa.table(
        {
            "question_id": [f"q{i}" for i in range(size)],
            "score": pa.array(np.where(failed, np.nan, score), pa.float64(), from_pandas=True),
            "vote_answer": pa.array(["7"] * size, pa.string(), mask=tie),
            "vote_share": pa.array(np.maximum(right, rival) / G, pa.float64()),
            "vote_reason": pa.array(["tie" if t else "ok" for t in tie], pa.string()),
            "num_samples": pa.array([G] * size, pa.int32()),
            "failure": pa.array(["truncated"] * size, pa.string(), mask=~failed),
        }
    )
    return table, right, (right > rival)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(1, 150),
    st.sampled_from(KINDS),
    st.integers(0, 100),
    st.integers(0, 60),
    option_sets,
    st.integers(1, 4),
)
def test_from_parts_of_votes_to_rows_of_triage(
    tmp_path_factory,
    seed: int,
    size: int,
    kind: str,
    probes: int,
    budget: int,
    options: TriageOptions,
    parts: int,
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    table, right, vote_right = scored_rows(seed, size, kind)
    scores = table["score"].to_numpy()
    ranks = rank_fractions(scores)
    rows = [
        {
            "question_id": f"q{i}",
            "rank": ranks[i],
            "num_correct": int(right[i]),
            "num_samples": G,
            "vote_right": bool(vote_right[i]),
            "vote_abstained": table["vote_reason"][i].as_py() != "ok",
            "vote_share": table["vote_share"][i].as_py()
            if table["vote_reason"][i].as_py() == "ok"
            else None,
        }
        for i in draw_probes(scores, probes, seed)  # often more than there are questions
    ]
    evidence = probe_evidence(rows) if rows else None

    def routed(cuts: np.ndarray) -> list[dict]:
        votes, ranking = [], []
        for index, (start, end) in enumerate(pairwise(cuts)):
            part = table.slice(start, end - start)
            votes.append(folder / f"votes-{len(cuts)}-{index}.parquet")
            pq.write_table(part.drop_columns(["score"]), votes[-1])
            ranking.append(folder / f"scores-{len(cuts)}-{index}.parquet")
            pq.write_table(part.select(["question_id", "score"]), ranking[-1])
        scored = read_scored(
            votes, ranking, "score", {row["question_id"]: row["num_correct"] / G for row in rows}
        )
        found = route_pool(
            scored,
            budget=budget,
            probes=evidence,
            curve=calibrate(evidence) if evidence else None,
            options=options,
        )
        return [r for b in triage_batches(votes, scored, found) for r in b.to_pylist()]

    whole = routed(np.array([0, size]))
    assert whole == routed(np.linspace(0, size, parts + 1).astype(int))  # parts change nothing
    assert [row["question_id"] for row in whole] == table["question_id"].to_pylist()
    bought = sum(row["route"] == "annotate" and not row["is_probe"] for row in whole)
    assert bought <= budget
    for row, failed in zip(whole, table["failure"].to_pylist(), strict=True):
        assert row["route"] in ROUTES
        assert row["reason"] == "failed_truncated" if failed else row["reason"] in REASONS
        assert 0 <= row["weight"] <= 1
        assert (row["pseudo_label"] is None) == (row["route"] != "weak")
    if not rows and options.fractions is None:
        assert {row["route"] for row in whole} == {"defer"}
