"""From parts of scored rows to rows of triage, by the pipeline's code, over random pools."""

from itertools import pairwise

import answer_pools
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pivottrace.errors import DataError, RunDirError
from pivottrace.routing.answer_counts import answer_counts
from pivottrace.routing.probes import draw_probes, rank_fractions
from pivottrace.routing.routes import PAPER_FRACTIONS, REASONS, ROUTES, TriageOptions
from pivottrace.routing.vote_model import NONE, fit_votes
from pivottrace.run.pool_routes import (
    EXPECTED_COLUMNS,
    agreement_of,
    expectations,
    route_pool,
    triage_batches,
)
from pivottrace.run.scored_pool import Label, Scored, probe_evidence, read_scored, standardised

KINDS = ("mixed", "constant scores", "all right", "all wrong")
FEATURES = ("score", "other")

option_sets = st.builds(
    TriageOptions,
    least_gain=st.sampled_from([0.0, 0.03, 0.1]),
    least_label_gain=st.sampled_from([0.0, 0.01]),
    vote_floor=st.sampled_from([None, None, 0.5, 0.9]),
    hopeless=st.sampled_from(["drop", "annotate"]),
    most_rows=st.sampled_from([None, None, 1, 30]),
    fractions=st.sampled_from([None, None, None, PAPER_FRACTIONS]),
)


class Table:
    """A random scored pool, with the labels of its probes as `evidence` has them."""

    def __init__(self, seed: int, size: int, kind: str, num_probes: int) -> None:
        rng = np.random.default_rng(seed)
        self.lists = answer_pools.some_lists(rng, size, most=(2, 4, 8))
        class_counts, greedy, samples = self.lists
        self.failed = rng.random(size) < 0.1
        score = np.round(rng.normal(size=size), 1)
        if kind == "constant scores":
            score[:] = 0.5
        self.scores = np.where(self.failed, np.nan, score)
        counts = answer_counts(*self.lists)
        self.right = answer_pools.some_right(rng, counts)
        if kind == "all right":
            self.right = np.where(counts.is_class[counts.pattern, 0], 0, NONE)
        if kind == "all wrong":
            self.right[:] = NONE
        wins = counts.has_winner[counts.pattern]
        pairs = zip(class_counts, samples, strict=True)
        share = [sizes[0] / n if sizes else 0.0 for sizes, n in pairs]
        other = np.where(rng.random(size) < 0.1, np.nan, rng.normal(size=size))
        self.table = pa.table(
            {
                "question_id": pa.array([f"q{i}" for i in range(size)], pa.string()),
                "score": pa.array(self.scores, from_pandas=True),
                "other": pa.array(other, from_pandas=True),
                "vote_answer": pa.array(["7"] * size, pa.string(), mask=~wins),
                "vote_share": pa.array(share, pa.float64()),
                "vote_reason": pa.array(["ok" if w else "tie" for w in wins], pa.string()),
                "num_samples": pa.array(samples, pa.int32()),
                "class_counts": pa.array(class_counts, pa.list_(pa.int32())),
                "greedy_class": pa.array(greedy, pa.int32()),
                "failure": pa.array(["truncated"] * size, pa.string(), mask=~self.failed),
            }
        )
        ranks = rank_fractions(self.scores)
        self.rows = []
        for i in draw_probes(self.scores, num_probes, seed).tolist():  # often more than there are
            sizes = [*class_counts[i], 0]
            self.rows.append(
                {
                    "question_id": f"q{i}",
                    "rank": ranks[i],
                    "num_correct": 0 if self.right[i] == NONE else sizes[self.right[i]],
                    "num_samples": samples[i],
                    "vote_right": bool(self.right[i] == 0 and wins[i]),
                    "vote_abstained": not wins[i],
                    "vote_share": share[i] if wins[i] else None,
                    "right_class": int(self.right[i]),
                }
            )

    def read(self, folder, cuts, features=FEATURES) -> tuple[list, Scored]:
        votes, scores = [], []
        for index, (start, end) in enumerate(pairwise(cuts)):
            part = self.table.slice(start, end - start)
            votes.append(folder / f"votes-{len(cuts)}-{index}.parquet")
            own = [name for name in FEATURES if name not in features]
            pq.write_table(part.drop_columns([n for n in FEATURES if n not in own]), votes[-1])
            scores.append(folder / f"scores-{len(cuts)}-{index}.parquet")
            pq.write_table(part.select(["question_id", *FEATURES]), scores[-1])
        labels = {
            row["question_id"]: Label(row["num_correct"] / row["num_samples"], row["right_class"])
            for row in self.rows
        }
        return votes, read_scored(votes, scores, "score", features, labels)


def expected_of(scored: Scored):
    labelled = np.flatnonzero(scored.evidence.labelled)
    model = fit_votes(
        scored.names,
        scored.counts.rows(labelled),
        scored.features[labelled],
        scored.right[labelled],
    )
    return model, expectations(scored, model, agreement_of(scored))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(1, 120),
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
    pool = Table(seed, size, kind, probes)
    evidence = probe_evidence(pool.rows) if pool.rows else None

    def routed(cuts: np.ndarray) -> list[dict]:
        votes, scored = pool.read(folder, cuts)
        found = route_pool(
            scored,
            budget=budget,
            expected=expected_of(scored)[1] if pool.rows else None,
            probes=evidence,
            options=options,
        )
        assert (found.floor is None) == (options.vote_floor is None or not pool.rows)
        return [r for b in triage_batches(votes, scored, found) for r in b.to_pylist()]

    whole = routed(np.array([0, size]))
    assert whole == routed(np.linspace(0, size, parts + 1).astype(int))  # parts change nothing
    assert [row["question_id"] for row in whole] == pool.table["question_id"].to_pylist()
    bought = sum(row["route"] == "annotate" and not row["is_probe"] for row in whole)
    assert bought <= budget
    for row, failed in zip(whole, pool.failed.tolist(), strict=True):
        assert row["route"] in ROUTES
        assert row["reason"] == "failed_truncated" if failed else row["reason"] in REASONS
        assert 0 <= row["weight"] <= 1
        assert (row["pseudo_label"] is None) == (row["route"] != "weak")
        known = [row[name] is not None for name in EXPECTED_COLUMNS]
        assert all(known) if pool.rows and not failed else not any(known)
        if all(known):
            assert row["vote_low"] - 1e-9 <= row["vote"] <= row["vote_high"] + 1e-9
    if not pool.rows and options.fractions is None:
        assert {row["route"] for row in whole} == {"defer"}
        assert {row["reason"] for row in whole} <= {"defer_unknown", "failed_truncated"}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 80), st.integers(1, 6), st.integers(0, 20))
def test_what_is_read_is_what_the_tables_say(
    tmp_path_factory, seed: int, size: int, parts: int, probes: int
) -> None:
    """Counts as Python groups them, features standardised over all parts, labels at their rows."""
    folder = tmp_path_factory.mktemp("read")
    pool = Table(seed, size, "mixed", probes)
    _, scored = pool.read(folder, np.linspace(0, size, parts + 1).astype(int))
    same = answer_counts(*pool.lists)
    assert [answer_pools.one_of(scored.counts, i) for i in range(size)] == [
        answer_pools.one_of(same, i) for i in range(size)
    ]
    assert scored.counts.pattern.tolist() == same.pattern.tolist()  # by first appearance
    np.testing.assert_array_equal(scored.scores, pool.scores)
    assert scored.names == FEATURES and scored.features.shape == (size, 2)
    for place, name in enumerate(FEATURES):
        column = pool.table[name].to_numpy()
        sound = ~pool.failed & ~np.isnan(column)
        spread = column[sound].std() if sound.any() else 0.0
        scaled = (column - column[sound].mean()) / spread if spread > 1e-6 else column * 0
        by_hand = np.where(sound, np.clip(scaled, -3, 3), 0)
        np.testing.assert_allclose(scored.features[:, place], by_hand, atol=1e-4)
    labelled = {int(row["question_id"][1:]): row for row in pool.rows}
    assert np.flatnonzero(scored.evidence.labelled).tolist() == sorted(labelled)
    for i, row in labelled.items():
        assert scored.probe[i] == pool.rows.index(row)
        assert scored.right[i] == row["right_class"]
        assert scored.evidence.correctness[i] == row["num_correct"] / row["num_samples"]
    others = [i for i in range(size) if i not in labelled]
    assert (scored.right[others] == NONE).all() and (scored.probe[others] == -1).all()
    assert np.isnan(scored.evidence.correctness[others]).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 40), st.integers(1, 20))
def test_a_pool_is_expected_what_its_questions_are(
    tmp_path_factory, seed: int, size: int, probes: int
) -> None:
    folder = tmp_path_factory.mktemp("expected")
    pool = Table(seed, size, "mixed", probes)
    if not pool.rows:
        return
    _, scored = pool.read(folder, [0, size])
    model, expected = expected_of(scored)
    a, b = agreement_of(scored).prior(scored.features)
    for i in range(size):
        if pool.failed[i]:
            assert all(np.isnan(column[i]) for column in vars(expected).values())
            continue
        one, x = answer_pools.one_of(scored.counts, i), scored.features[i]
        steps = answer_pools.steps_of(scored.counts)
        mu, label, vote, weight = answer_pools.slow_expect(model.values, one, x, a[i], b[i], steps)
        assert (expected.mu[i], expected.vote_gain[i]) == pytest.approx((mu, vote), abs=1e-5)
        assert expected.vote_weight[i] == pytest.approx(weight, abs=1e-3)
        if scored.evidence.labelled[i]:  # its true answer is known
            alphas, unseen, total = answer_pools.slow_alphas(*one, a[i], b[i])
            alpha = unseen if scored.right[i] == NONE else alphas[scored.right[i]]
            label = alpha * (total - alpha) / (total * (total + 1))
        assert expected.label_gain[i] == pytest.approx(label, abs=1e-5)


def test_answers_of_unlabelled_questions_change_nothing(tmp_path) -> None:
    """Who has the right answer beyond the labels is not known, so it decides nothing."""
    pool = Table(3, 80, "mixed", 20)
    _, scored = pool.read(tmp_path, [0, 80])
    _, expected = expected_of(scored)
    other = Table(3, 80, "mixed", 20)
    labelled = {int(row["question_id"][1:]) for row in pool.rows}
    other.right = np.array([r if i in labelled else NONE for i, r in enumerate(other.right)])
    _, same = other.read(tmp_path, [0, 80])
    for name, column in vars(expected_of(same)[1]).items():
        np.testing.assert_array_equal(column, getattr(expected, name))


def test_without_features_votes_alone_decide(tmp_path) -> None:
    pool = Table(5, 60, "mixed", 20)
    _, scored = pool.read(tmp_path, [0, 30, 60], features=())
    assert scored.names == () and scored.features.shape == (60, 0)
    np.testing.assert_array_equal(scored.scores, pool.scores)
    _, expected = expected_of(scored)
    same = {}
    for i in np.flatnonzero(~pool.failed):
        same.setdefault(scored.counts.pattern[i], set()).add(float(expected.vote[i]))
    assert all(len(chances) == 1 for chances in same.values())


def test_tables_that_do_not_fit_are_refused(tmp_path) -> None:
    pool = Table(1, 20, "mixed", 8)
    votes, scored = pool.read(tmp_path, [0, 20])
    scores = tmp_path / "short.parquet"
    pq.write_table(pool.table.slice(0, 19).select(["question_id", *FEATURES]), scores)
    with pytest.raises(RunDirError, match=r"short.parquet has 19 rows.*has 20"):
        read_scored(votes, [scores], "score", FEATURES, {})
    model, _ = expected_of(scored)
    _, bare = pool.read(tmp_path, [0, 20], features=())
    with pytest.raises(DataError, match=r"fitted on score, other, and the pool has none"):
        expectations(bare, model, agreement_of(scored))


def test_features_of_one_value_or_none_say_nothing() -> None:
    sound = np.array([True, True, False])
    for values in ([5.0, 5.0, 9.0], [np.nan, np.inf, 1.0], [np.nan] * 3):
        assert standardised(np.array(values, np.float32), sound).tolist() == [0, 0, 0]
    found = standardised(np.array([1.0, 3.0, 9.0], np.float32), sound)
    assert found.tolist() == [-1, 1, 0]  # a failed question has no say and no value
