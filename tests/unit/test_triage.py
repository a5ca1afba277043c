"""Triage: a slow question-by-question reference, and properties over random pools."""

import math
from dataclasses import dataclass, replace

import answer_pools
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pivottrace.errors import BudgetError, ConfigError, DataError
from pivottrace.routing import auction as tri
from pivottrace.routing.expectations import Expectations, expect
from pivottrace.routing.probes import draw_by_value, rank_fractions
from pivottrace.routing.vote_model import answer_chances


@dataclass(frozen=True)
class Pool:
    """One random pool, ready for `triage`."""

    ranks: np.ndarray
    expected: Expectations | None
    vote_holds: np.ndarray | None
    evidence: tri.QuestionEvidence
    budget: int
    options: tri.TriageOptions

    def __repr__(self) -> str:
        """Stay short: hypothesis refuses long ones."""
        return f"<pool of {self.ranks.size}, budget {self.budget}, {self.options}>"

    def triage(self) -> tri.TriageResult:
        return tri.triage(
            self.ranks,
            budget=self.budget,
            expected=self.expected,
            vote_holds=self.vote_holds,
            evidence=self.evidence,
            options=self.options,
        )


def make_pool(seed: int, size: int, budget: int, options: tri.TriageOptions) -> Pool:
    """Draw a pool: answers, a vote model, probes, earlier labels, failures; few distinct gains."""
    rng = np.random.default_rng(seed)
    kind = ("mixed", "alike", "sure", "no probes")[seed % 4]
    counts = answer_pools.some_counts(rng, size)
    model = answer_pools.some_model(rng, 1)
    features = rng.integers(-1, 1 if kind == "alike" else 3, (size, 1)) / 2.0
    failed = np.where(rng.random(size) < 0.05, rng.integers(1, 3, size), 0)
    scores = np.where((failed > 0) | (rng.random(size) < 0.05), np.nan, features[:, 0])
    expected = None
    if kind != "no probes":
        prior = tuple(np.full(size, value) for value in rng.exponential(2.0, 2) + 1e-3)
        chances = answer_chances(model, counts, features)
        mu, label, vote, weight = expect(chances, prior)
        if kind == "sure":  # gains on the thresholds, and no doubt
            label, mu = rng.choice([0.0, 0.01, 0.03, 0.1], size), rng.choice([0.0, 0.5, 1.0], size)
            vote = label * rng.choice([-1.0, 0.0, 1.0], size)
        unknown = rng.random(size) < 0.05
        columns = (mu, chances.vote, chances.vote, chances.vote, label, vote, weight)
        expected = Expectations(*(np.where(unknown, np.nan, column) for column in columns))
    labelled = rng.random(size) < (0.0 if expected is None else 0.3)
    abstained = ~counts.has_winner[counts.pattern]
    evidence = tri.QuestionEvidence(
        vote_share=np.where(abstained, np.nan, rng.random(size)),
        vote_abstained=abstained,
        num_samples=counts.num_samples[counts.pattern],
        labelled=labelled,
        earlier=labelled & (rng.random(size) < 0.3),
        correctness=np.where(
            labelled & (rng.random(size) < 0.9), rng.integers(0, 3, size) / 2, np.nan
        ),
        failure_code=failed,
        failure_names=("no_answer", "truncated"),
    )
    holds = None if rng.random() < 0.4 else rng.random(size) < rng.choice([0.0, 0.5, 1.0])
    return Pool(rank_fractions(scores), expected, holds, evidence, budget, options)


def slow_triage(pool: Pool) -> list[str]:
    """Reasons by expectation, one question at a time."""
    o, e, x = pool.options, pool.evidence, pool.expected
    size = pool.ranks.size
    reasons = [""] * size
    bids: list[tuple[float, float, int]] = []
    left_over: list[tuple[float, float, int]] = []
    holds = [True] * size if pool.vote_holds is None else list(pool.vote_holds)
    for i, rank in enumerate(pool.ranks):
        who = "labelled" if e.earlier[i] else "probe"
        gain = math.nan if x is None else x.label_gain[i]
        if e.failure_code[i]:
            reasons[i] = "failed_" + e.failure_names[e.failure_code[i] - 1]
        elif math.isnan(rank):
            reasons[i] = "failed_no_score"
        elif e.labelled[i] and e.correctness[i] == 1 and not gain > o.least_gain:
            reasons[i] = f"{who}_mastered"
        elif e.labelled[i] and e.correctness[i] == 0 and o.hopeless == "drop":
            reasons[i] = f"{who}_hopeless"
        elif e.labelled[i]:
            reasons[i] = f"annotate_{who}"
        elif math.isnan(gain):
            reasons[i] = "defer_unknown"
        else:
            could = holds[i] and not e.vote_abstained[i]
            beyond = round(gain - (max(x.vote_gain[i], 0.0) if could else 0.0), 9)
            if beyond > o.least_label_gain:
                bids.append((-beyond, -rank, i))
    bids.sort()
    for _, _, i in bids[: pool.budget]:
        reasons[i] = "annotate_gain"
    if o.hopeless == "annotate":
        for i in range(size):
            if not reasons[i] and x.label_gain[i] <= o.least_gain and x.mu[i] < 0.5:
                left_over.append((-x.label_gain[i], -pool.ranks[i], i))
        for _, _, i in sorted(left_over)[: max(0, pool.budget - len(bids))]:
            reasons[i] = "annotate_hopeless"
    rows = sum(reason.startswith("annotate") for reason in reasons)
    places = size if o.most_rows is None else max(0, o.most_rows - rows)
    teaching = [
        i
        for i in range(size)
        if not reasons[i] and holds[i] and not e.vote_abstained[i]
        if x is not None and x.vote_gain[i] > o.least_gain
    ]
    teaching.sort(key=lambda i: (-x.vote_gain[i], pool.ranks[i], i))
    for i in range(size):
        if reasons[i]:
            continue
        assert x is not None
        if i in teaching:
            reasons[i] = "weak_vote" if teaching.index(i) < places else "defer_no_place"
        elif x.label_gain[i] <= o.least_gain and x.mu[i] >= 0.5:
            reasons[i] = "mastered"
        elif x.label_gain[i] <= o.least_gain:
            reasons[i] = "hopeless" if o.hopeless == "drop" else "defer_budget"
        elif e.vote_abstained[i]:
            reasons[i] = "defer_no_vote"
        elif not holds[i]:
            reasons[i] = "defer_vote_unreliable"
        else:
            little = x.vote_gain[i] > 0
            reasons[i] = "defer_vote_little" if little else "defer_vote_harmful"
    return reasons


options_ = st.builds(
    tri.TriageOptions,
    least_gain=st.sampled_from([0.0, 0.03, 0.1]),
    least_label_gain=st.sampled_from([0.0, 0.01, 0.1]),
    hopeless=st.sampled_from(["drop", "annotate"]),
    most_rows=st.sampled_from([None, 1, 5, 20, 60]),
)
fractions = st.sampled_from([None, tri.PAPER_FRACTIONS, (0.0, 0.0), (0.5, 0.5), (1.0, 0.0)])
pools = st.builds(
    lambda seed, size, share, options: make_pool(seed, size, round(share * size), options),
    st.integers(0, 10**6),
    st.integers(0, 120),
    st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    options_,
)


@settings(max_examples=200, deadline=None)
@given(pools)
def test_triage_by_expectation_equals_the_slow_reference(pool: Pool) -> None:
    assert pool.triage().reasons() == slow_triage(pool)


@settings(max_examples=150, deadline=None)
@given(pools, fractions)
def test_every_row_is_decided_within_the_budget(
    pool: Pool, shares: tuple[float, float] | None
) -> None:
    pool = replace(pool, options=replace(pool.options, fractions=shares))
    result = pool.triage()
    routes, reasons = np.array(result.routes()), np.array(result.reasons())
    assert routes.size == reasons.size == result.weight.size == pool.ranks.size
    paid = pool.evidence.labelled
    assert np.sum((routes == "annotate") & ~paid) <= pool.budget
    assert ((result.weight >= 0) & (result.weight <= 1)).all()
    assert (result.weight[routes == "annotate"] == 1).all()
    assert (result.weight[routes == "discard"] == 0).all()
    assert (result.weight[routes == "defer"] == 0).all()
    assert not pool.evidence.vote_abstained[routes == "weak"].any()
    failed = (pool.evidence.failure_code > 0) | np.isnan(pool.ranks)
    assert (routes[failed] == "defer").all()
    assert (result.weight[failed] == 0).all()
    assert all(reason.startswith("failed_") for reason in reasons[failed])
    known = ~np.isnan(result.priority)
    assert (result.priority[known] >= 0).all()
    if pool.expected is not None:
        assert (known == ~np.isnan(pool.expected.label_gain)).all()
        assert (result.priority <= pool.expected.label_gain)[known].all()
        weak = routes == "weak"
        slope = pool.expected.vote_weight[weak]
        unknown = np.isnan(slope)
        assert (result.weight[weak][~unknown] == slope[~unknown]).all()
        assert (result.weight[weak][unknown] == 1).all()
    if pool.vote_holds is not None and shares is None:
        assert pool.vote_holds[routes == "weak"].all()
    assert sum(result.counts().values()) == pool.ranks.size


@settings(max_examples=100, deadline=None)
@given(pools, fractions, st.integers(0, 2**31))
def test_input_order_matters_only_for_ties(
    pool: Pool, shares: tuple[float, float] | None, seed: int
) -> None:
    # Break the declared ties (by index) beforehand, so that nothing may depend on the order.
    order = np.argsort(pool.ranks, kind="stable")
    ranks = pool.ranks.copy()
    ranks[order] += np.arange(order.size) * 1e-9
    options = replace(pool.options, fractions=shares)
    pool = replace(pool, ranks=ranks, options=options)
    shuffled = np.random.default_rng(seed).permutation(ranks.size)

    def at(values):
        return values[shuffled] if isinstance(values, np.ndarray) and values.size else values

    def all_at(columns):
        return columns and replace(columns, **{k: at(v) for k, v in vars(columns).items()})

    other = replace(
        pool,
        ranks=at(ranks),
        vote_holds=at(pool.vote_holds),
        expected=all_at(pool.expected),
        evidence=all_at(pool.evidence),
    )
    one, two = pool.triage(), other.triage()
    np.testing.assert_array_equal(one.route[shuffled], two.route)
    np.testing.assert_array_equal(one.reason[shuffled], two.reason)
    np.testing.assert_array_equal(one.weight[shuffled], two.weight)
    np.testing.assert_array_equal(one.priority[shuffled], two.priority)


@settings(max_examples=100, deadline=None)
@given(pools, st.integers(1, 40))
def test_a_larger_budget_takes_no_label_away(pool: Pool, more: int) -> None:
    one = pool.triage()
    two = replace(pool, budget=pool.budget + more).triage()
    labelled = [np.array(r.routes()) == "annotate" for r in (one, two)]
    assert (labelled[1] >= labelled[0]).all()
    # Whatever is not labelled keeps its route, except a vote whose place a labelled row takes.
    crowded = np.array(two.reasons()) == "defer_no_place"
    assert (crowded >= (np.array(one.reasons()) == "defer_no_place") & ~labelled[1]).all()
    same = ~labelled[1] & ~crowded
    assert (one.route[same] == two.route[same]).all()
    assert (one.reason[same] == two.reason[same]).all()


@settings(max_examples=100, deadline=None)
@given(pools)
def test_a_higher_least_gain_trains_on_fewer_rows(pool: Pool) -> None:
    pool = replace(pool, options=replace(pool.options, least_gain=0.02, hopeless="drop"))
    stricter = replace(pool, options=replace(pool.options, least_gain=0.1))
    one, two = pool.triage(), stricter.triage()
    weak, fewer = (np.array(r.routes()) == "weak" for r in (one, two))
    # A labelled row that is mastered now leaves its place to a vote that had found none.
    waiting = np.array(one.reasons()) == "defer_no_place"
    assert (fewer <= weak | waiting).all()


@settings(max_examples=100, deadline=None)
@given(pools, st.integers(1, 60))
def test_votes_fill_the_places_that_labels_leave(pool: Pool, most_rows: int) -> None:
    free = replace(pool, options=replace(pool.options, most_rows=None)).triage()
    limited = replace(pool, options=replace(pool.options, most_rows=most_rows)).triage()
    weak, fewer = (np.array(r.routes()) == "weak" for r in (free, limited))
    labelled = np.array(free.routes()) == "annotate"
    assert (labelled == (np.array(limited.routes()) == "annotate")).all()
    assert (fewer <= weak).all()
    assert fewer.sum() == min(weak.sum(), max(0, most_rows - labelled.sum()))
    if pool.expected is not None and fewer.any():
        gains = pool.expected.vote_gain
        assert gains[fewer].min() >= gains[weak & ~fewer].max(initial=-1.0)


def flat(size: int, **values: object) -> Expectations:
    base = {
        "mu": 0.6,
        "vote": 0.9,
        "vote_low": 0.75,
        "vote_high": 0.97,
        "label_gain": 0.2,
        "vote_gain": 0.15,
        "vote_weight": 0.8,
    }
    return Expectations(
        **{k: np.broadcast_to(v, size).astype(float) for k, v in (base | values).items()}
    )


def test_labels_go_where_the_vote_helps_least() -> None:
    expected = flat(6, vote_gain=[0.19, 0.18, 0.15, 0.12, 0.08, 0.19])
    result = tri.triage(
        (np.arange(6) + 0.5) / 6, budget=2, expected=expected, vote_holds=np.arange(6) < 5
    )
    assert result.priority.argmax() == 5  # its vote may not be trained on: no alternative
    assert result.priority.tolist() == pytest.approx([0.01, 0.02, 0.05, 0.08, 0.12, 0.2])
    assert result.routes() == ["weak"] * 4 + ["annotate"] * 2
    assert result.weight.tolist() == pytest.approx([0.8] * 4 + [1.0] * 2)


def test_votes_that_teach_most_get_the_places_and_the_others_say_so() -> None:
    expected = flat(5, vote_gain=[0.1, 0.15, 0.19, 0.15, 0.05])
    options = tri.TriageOptions(most_rows=3)
    ranks = [0.1, 0.7, 0.5, 0.3, 0.9]
    result = tri.triage(ranks, budget=1, expected=expected, options=options)
    assert result.reasons() == [
        "defer_no_place",
        "defer_no_place",  # as much as the fourth, and less certain
        "weak_vote",
        "weak_vote",
        "annotate_gain",
    ]
    assert result.weight.tolist() == pytest.approx([0.0, 0.0, 0.8, 0.8, 1.0])


def test_fixed_fractions_have_no_places() -> None:
    options = tri.TriageOptions(most_rows=1, fractions=(0.2, 0.2))
    result = tri.triage(np.linspace(0.1, 0.9, 5), budget=1, options=options)
    assert result.counts() == {"discard": 1, "weak": 3, "annotate": 1, "defer": 0}


def test_equal_gains_go_to_the_more_uncertain_then_to_the_lower_index() -> None:
    result = tri.triage([0.1, 0.9, 0.5, 0.9, 0.9], budget=2, expected=flat(5, vote_gain=0.0))
    assert np.flatnonzero(np.array(result.routes()) == "annotate").tolist() == [1, 3]


def test_a_label_that_teaches_little_beyond_the_vote_stays_in_the_budget() -> None:
    expected = flat(2, label_gain=[0.17, 0.171], vote_gain=0.15)
    result = tri.triage([0.5, 0.5], budget=2, expected=expected)
    assert result.reasons() == ["weak_vote", "annotate_gain"]


def test_every_rest_says_what_is_wrong_with_its_vote() -> None:
    expected = flat(
        6,
        mu=[0.6, 0.6, 0.6, 0.6, 0.9, 0.1],
        label_gain=[0.2, 0.2, 0.2, 0.2, 0.02, 0.02],
        vote_gain=[0.15, 0.15, 0.02, -0.1, 0.02, -0.02],
    )
    abstained = np.array([True, False, False, False, False, False])
    result = tri.triage(
        np.full(6, 0.5),
        budget=0,
        expected=expected,
        vote_holds=np.array([True, False, True, True, True, True]),
        evidence=tri.QuestionEvidence(vote_abstained=abstained),
    )
    assert result.reasons() == [
        "defer_no_vote",
        "defer_vote_unreliable",
        "defer_vote_little",
        "defer_vote_harmful",
        "mastered",
        "hopeless",
    ]


def test_hopeless_is_dropped_or_gets_the_labels_that_are_left() -> None:
    expected = flat(3, mu=[0.5, 0.01, 0.02], label_gain=[0.2, 0.01, 0.02], vote_gain=-0.1)
    ranks = [0.2, 0.8, 0.9]
    dropped = tri.triage(
        ranks, budget=3, expected=expected, options=tri.TriageOptions(least_label_gain=0.02)
    )
    assert dropped.reasons() == ["annotate_gain", "hopeless", "hopeless"]
    options = tri.TriageOptions(hopeless="annotate", least_label_gain=0.02)
    left = tri.triage(ranks, budget=2, expected=expected, options=options)
    assert left.reasons() == ["annotate_gain", "defer_budget", "annotate_hopeless"]


def test_paper_fractions_cut_by_rank() -> None:
    size = 1000
    ranks = np.random.default_rng(0).permutation((np.arange(size) + 0.5) / size)
    options = tri.TriageOptions(fractions=tri.PAPER_FRACTIONS)
    result = tri.triage(ranks, budget=size, options=options)
    assert result.counts() == {"discard": 421, "weak": 286, "annotate": 293, "defer": 0}
    routes = np.array(result.routes())
    assert ranks[routes == "discard"].max() < 0.421 < ranks[routes == "weak"].min()
    assert ranks[routes == "weak"].max() < 0.707 < ranks[routes == "annotate"].min()
    assert (result.weight == np.isin(routes, ["weak", "annotate"])).all()
    short = tri.triage(ranks, budget=100, options=options)
    assert short.counts() == {"discard": 421, "weak": 286, "annotate": 100, "defer": 193}
    assert ranks[np.array(short.routes()) == "annotate"].min() > 0.9


def test_labelled_probes_are_not_paid_twice() -> None:
    evidence = tri.QuestionEvidence(
        labelled=np.array([True, True, True, True, True, False]),
        correctness=np.array([1.0, 1.0, 0.0, 0.5, np.nan, np.nan]),
    )
    expected = flat(6, label_gain=[0.02, 0.05, 0.05, 0.2, 0.2, 0.2])
    result = tri.triage(np.full(6, 0.5), budget=1, expected=expected, evidence=evidence)
    assert result.reasons() == [
        "probe_mastered",
        "annotate_probe",  # few samples that are all right prove nothing
        "probe_hopeless",
        "annotate_probe",
        "annotate_probe",
        "annotate_gain",
    ]


def test_no_route_reads_an_answer_that_was_not_paid_for() -> None:
    """The correctness of questions without a label changes nothing."""
    pool = make_pool(4, 100, 20, tri.TriageOptions())
    known = np.where(pool.evidence.labelled, pool.evidence.correctness, np.nan)
    hidden = replace(pool, evidence=replace(pool.evidence, correctness=known))
    told = np.where(pool.evidence.labelled, known, 1.0)
    peeking = replace(pool, evidence=replace(pool.evidence, correctness=told))
    assert hidden.triage().reasons() == peeking.triage().reasons()


def test_labels_by_value_go_with_the_triage() -> None:
    """Questions that are drawn as probes by value are those that the auction would buy most."""
    pool = make_pool(0, 120, 10, tri.TriageOptions(least_label_gain=0.0))
    assert pool.expected is not None
    value = np.nan_to_num(pool.triage().priority)
    chances = np.zeros(120)
    drawn, chance = draw_by_value(pool.ranks, value, 10, seed=0)
    chances[drawn] = chance
    order = np.argsort(value[drawn])
    assert (np.diff(chances[drawn][order]) >= -1e-12).all()


def test_failure_codes_do_not_depend_on_order() -> None:
    codes, names = tri.failure_codes(["truncated", None, "no_answer", "", "truncated"])
    assert names == ("no_answer", "truncated")
    assert codes.tolist() == [2, 0, 1, 0, 2]


def test_bad_input_says_what_is_wrong() -> None:
    with pytest.raises(BudgetError, match="-1 labels"):
        tri.triage([0.5], budget=-1)
    with pytest.raises(DataError, match="don't match 2 ranks"):
        tri.triage([0.5, 0.6], budget=0, expected=flat(3))
    with pytest.raises(DataError, match=r"vote_holds has shape \(3,\)"):
        tri.triage([0.5, 0.6], budget=0, vote_holds=np.ones(3, bool))
    with pytest.raises(DataError, match="labelled has shape"):
        tri.triage([0.5], budget=0, evidence=tri.QuestionEvidence(labelled=np.ones(2, bool)))
    with pytest.raises(DataError, match="vote_share is outside"):
        tri.triage([0.5], budget=0, evidence=tri.QuestionEvidence(vote_share=np.array([1.5])))
    with pytest.raises(DataError, match="failure_code"):
        tri.triage([0.5], budget=0, evidence=tri.QuestionEvidence(failure_code=np.array([1])))
    with pytest.raises(DataError, match="shape"):
        tri.triage([[0.5]], budget=0)
    for wrong, message in (
        ({"fractions": (0.6, 0.6)}, "add up"),
        ({"vote_floor": 1.0}, "vote_floor is 1.0"),
        ({"vote_alpha": 0.0}, "vote_alpha is 0.0"),
        ({"hopeless": "keep"}, "'drop' or 'annotate'"),
        ({"least_gain": 0.25}, "least_gain is 0.25"),
        ({"most_rows": 0}, "most_rows is 0"),
        ({"least_label_gain": -0.1}, "least_label_gain is -0.1"),
    ):
        with pytest.raises(ConfigError, match=message):
            tri.TriageOptions(**wrong)
