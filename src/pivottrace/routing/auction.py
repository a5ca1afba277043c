"""The triage: expectations and a budget give every question a route, a reason and a weight.

The paper's (DE-Venus): three routes by uncertainty (lowest discarded as mastered, middle trained
with self-made labels, highest annotated) and their shares, 42.1 % and 29.3 % (`PAPER_FRACTIONS`).
Ours: what a label and a vote are expected to teach, in `routing.expectations`; labels where they
teach most; `hopeless` and `defer`; the optional floor; the probes' own evidence; the weights.

By expectation (the default), each question takes the first rule that applies:

    1. People say that it cannot be answered: discard. It failed, or has no rank: defer.
    2. It is labelled already, and the label is paid for: annotate if its own rollouts are partly
       right, or if it is still expected to teach; else discard.
    3. Nothing is known of its votes: defer.
    4. What its label teaches beyond its vote is among the most that the budget covers: annotate.
    5. It has a vote that holds the floor, if one is set, and that teaches enough: weak, while there
       are places (`TriageOptions.most_rows`). The votes that teach most come first.
    6. Not even its label would teach enough: discard, as mastered or as hopeless.
    7. Otherwise: defer. The reason says what is wrong with its vote.

All arrays are vectorised over questions. The result does not depend on the order of the questions,
except that ties go to the lower index.
"""

import numpy as np
import numpy.typing as npt

from pivottrace.errors import BudgetError, DataError
from pivottrace.routing.expectations import GAIN_DECIMALS, Expectations
from pivottrace.routing.question_evidence import QuestionEvidence, failure_codes
from pivottrace.routing.routes import (
    PAPER_FRACTIONS,
    REASON_CODE,
    REASONS,
    ROUTE_CODE,
    ROUTES,
    Reason,
    Route,
    TriageOptions,
    TriageResult,
)

__all__ = [
    "PAPER_FRACTIONS",
    "REASONS",
    "ROUTES",
    "QuestionEvidence",
    "Reason",
    "Route",
    "TriageOptions",
    "TriageResult",
    "failure_codes",
    "triage",
]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

# A question that no label would teach enough is mastered from this expected correctness on, and
# hopeless below. Few lie in between, because there a label teaches most.
MASTERED_FROM = 0.5


def triage(
    ranks: npt.ArrayLike,
    *,
    budget: int,
    expected: Expectations | None = None,
    vote_holds: npt.ArrayLike | None = None,
    evidence: QuestionEvidence | None = None,
    options: TriageOptions | None = None,
) -> TriageResult:
    """Route every question by expected learning under a label budget, or by fixed fractions.

    Args:
        ranks: (Q,) place in the ranking, low is certain; NaN for a question without a score.
        budget: Number of labels that may still be bought; labelled probes do not count again.
        expected: The expectations of the questions; None (or NaN) if nothing was calibrated.
        vote_holds: (Q,) bool, whether the vote's floor holds for this question (`weak_route`). None
            means that no floor is set. It is not used with `options.fractions`.
        evidence: Facts known about single questions; None means no facts.
        options: Thresholds; None means the defaults.

    Returns:
        A `TriageResult`. The same input gives the same result. Permuted input gives the permuted
        result up to ties (equal priority and rank), which go to the lower index.

    Raises:
        BudgetError: The budget is negative.
        DataError: The arrays differ in length.

    Source: DE-Venus (routes, fractions); docs/method.md (the rest).
    """
    options = options or TriageOptions()
    places = np.asarray(ranks, dtype=np.float64)
    if places.ndim != 1:
        raise DataError(f"ranks have shape {places.shape}; give one number per question, (Q,)")
    if budget < 0:
        raise BudgetError(f"{budget} labels are left to buy; the budget is already exceeded")
    evidence = (evidence or QuestionEvidence()).filled(places.size)
    expected = _checked(expected, places.size)
    holds = _checked_holds(vote_holds, places.size)
    board = _Board(places, evidence)
    _route_known(board, expected, evidence, options)
    # A vote that may not be trained on is no alternative to a label. The difference of rounded
    # gains is rounded again, because equal ones would not tie otherwise.
    usable = holds & ~evidence.vote_abstained
    alternative = np.fmax(expected.vote_gain, 0.0)
    alternative[~usable] = 0.0
    priority = np.subtract(expected.label_gain, alternative, out=alternative)
    np.round(priority, GAIN_DECIMALS, out=priority)
    if options.fractions is None:
        board.put(np.isnan(expected.label_gain), Route.DEFER, Reason.DEFER_UNKNOWN)
        _route_auction(board, priority, expected, budget, options)
        _route_unlabelled(board, holds, expected, evidence, options)
    else:
        _route_by_fraction(board, options.fractions, budget, evidence)
    return TriageResult(
        route=board.route,
        reason=board.reason,
        reason_names=REASONS + tuple(f"failed_{name}" for name in evidence.failure_names),
        weight=_weights(board, expected),
        priority=np.maximum(priority, 0.0, out=priority),
    )


class _Board:
    """Routes and reasons (Q,) while they are filled in; a question is open until it has a route."""

    def __init__(self, ranks: FloatArray, evidence: QuestionEvidence) -> None:
        self.ranks = ranks
        self.route = np.full(ranks.size, -1, dtype=np.int8)
        self.reason = np.full(ranks.size, -1, dtype=np.int16)
        self.put(evidence.unanswerable, Route.DISCARD, Reason.CANNOT_BE_ANSWERED)
        failed = (evidence.failure_code > 0) & self.open()
        self.put(failed, Route.DEFER, Reason.FAILED_NO_SCORE)
        self.reason[failed] = len(REASONS) - 1 + evidence.failure_code[failed]
        self.put(np.isnan(ranks), Route.DEFER, Reason.FAILED_NO_SCORE)

    def open(self) -> BoolArray:
        return self.route < 0

    def put(self, mask: BoolArray, route: Route, reason: Reason) -> None:
        """Decide the questions in `mask` (Q,) that are still open."""
        chosen = mask & self.open()
        self.route[chosen] = ROUTE_CODE[route]
        self.reason[chosen] = REASON_CODE[reason]


def _route_known(
    board: _Board, expected: Expectations, evidence: QuestionEvidence, options: TriageOptions
) -> None:
    """Route labelled questions by their own rollouts; unknown correctness counts as informative.

    Few equal samples are no proof that nothing is left to learn, so the expected gain counts, too.
    """
    labelled, correctness = evidence.labelled, evidence.correctness
    probe, earlier = labelled & ~evidence.earlier, labelled & evidence.earlier
    mastered = (correctness >= 1.0) & ~(expected.label_gain > options.least_gain)
    board.put(probe & mastered, Route.DISCARD, Reason.PROBE_MASTERED)
    board.put(earlier & mastered, Route.DISCARD, Reason.LABELLED_MASTERED)
    if options.hopeless == "drop":
        board.put(probe & (correctness <= 0.0), Route.DISCARD, Reason.PROBE_HOPELESS)
        board.put(earlier & (correctness <= 0.0), Route.DISCARD, Reason.LABELLED_HOPELESS)
    board.put(probe, Route.ANNOTATE, Reason.ANNOTATE_PROBE)
    board.put(earlier, Route.ANNOTATE, Reason.ANNOTATE_LABELLED)


def _route_auction(
    board: _Board,
    priority: FloatArray,
    expected: Expectations,
    budget: int,
    options: TriageOptions,
) -> None:
    """Give labels to the best priorities; ties go to the more uncertain, then the lower index."""
    before = board.open()
    bidders = np.flatnonzero(before & (priority > options.least_label_gain))
    won = np.zeros(board.route.size, dtype=bool)
    won[_highest(bidders, priority, board.ranks, budget)] = True
    board.put(won, Route.ANNOTATE, Reason.ANNOTATE_GAIN)
    if options.hopeless == "annotate":
        left = budget - int(won.sum())
        hopeless = _teaches_little(expected, options) & (expected.mu < MASTERED_FROM)
        others = np.flatnonzero(board.open() & hopeless)
        won[_highest(others, expected.label_gain, board.ranks, left)] = True
        board.put(won, Route.ANNOTATE, Reason.ANNOTATE_HOPELESS)


def _highest(bidders: IntArray, priority: FloatArray, ranks: FloatArray, budget: int) -> IntArray:
    """Return the `budget` best bidders; only the bidders level with the last one need sorting."""
    if budget >= bidders.size or budget == 0:
        return bidders[:budget]
    bids = priority[bidders]
    last = np.partition(bids, bids.size - budget)[bids.size - budget]
    # Bidders above the last winning bid win for sure; ties on it go by rank, then by index.
    sure, level = bidders[bids > last], bidders[bids == last]
    order = np.lexsort((level, -ranks[level]))
    return np.concatenate([sure, level[order[: budget - sure.size]]])


def _route_unlabelled(
    board: _Board,
    holds: BoolArray,
    expected: Expectations,
    evidence: QuestionEvidence,
    options: TriageOptions,
) -> None:
    """Route questions that get no label from the budget: weak, or discard, or defer."""
    votes = holds & ~evidence.vote_abstained
    teaching = votes & (expected.vote_gain > options.least_gain)
    if options.most_rows is not None:
        crowded = _beyond_the_places(board, teaching, expected, options.most_rows)
        board.put(crowded, Route.DEFER, Reason.DEFER_NO_PLACE)
    board.put(teaching, Route.WEAK, Reason.WEAK_VOTE)
    little = _teaches_little(expected, options)
    board.put(little & (expected.mu >= MASTERED_FROM), Route.DISCARD, Reason.MASTERED)
    if options.hopeless == "annotate":
        board.put(little, Route.DEFER, Reason.DEFER_BUDGET)
    board.put(little, Route.DISCARD, Reason.HOPELESS)
    board.put(evidence.vote_abstained, Route.DEFER, Reason.DEFER_NO_VOTE)
    board.put(~holds, Route.DEFER, Reason.DEFER_VOTE_UNRELIABLE)
    board.put(expected.vote_gain > 0.0, Route.DEFER, Reason.DEFER_VOTE_LITTLE)
    board.put(board.open(), Route.DEFER, Reason.DEFER_VOTE_HARMFUL)


def _beyond_the_places(
    board: _Board, teaching: BoolArray, expected: Expectations, most_rows: int
) -> BoolArray:
    """Return the teaching votes that find no place (Q,); ties go to the more certain votes.

    A vote that takes a place beyond these takes visits from labelled rows, which teach more.
    """
    crowded = teaching & board.open()
    room = max(0, most_rows - int(np.sum(board.route == ROUTE_CODE[Route.ANNOTATE])))
    rivals = np.flatnonzero(crowded)
    crowded[_highest(rivals, expected.vote_gain, -board.ranks, room)] = False
    return crowded


def _teaches_little(expected: Expectations, options: TriageOptions) -> BoolArray:
    little: BoolArray = expected.label_gain <= options.least_gain
    return little


def _route_by_fraction(
    board: _Board, fractions: tuple[float, float], budget: int, evidence: QuestionEvidence
) -> None:
    """Cut the ranking at the paper's shares; the cuts count labelled probes, but not failures."""
    ranked = np.flatnonzero(~np.isnan(board.ranks) & (evidence.failure_code == 0))
    order = ranked[np.argsort(board.ranks[ranked], kind="stable")].astype(np.int64)
    annotate, discard = (int(share * order.size + 0.5) for share in fractions)
    discard = min(discard, order.size - annotate)  # both may have been rounded up
    # Place of each question in the ranking (Q,), -1 without one; the highest N are to be annotated.
    place = np.full(board.route.size, -1)
    place[order] = np.arange(order.size)
    highest = order[::-1][:annotate]
    # Within a tie the lower index goes first, as in calibration.
    highest = highest[np.lexsort((highest, -board.ranks[highest]))]
    won = np.zeros(board.route.size, dtype=bool)
    won[highest[board.open()[highest]][:budget]] = True
    board.put(place < discard, Route.DISCARD, Reason.FRACTION_LOWEST)
    board.put(won, Route.ANNOTATE, Reason.ANNOTATE_FRACTION_HIGHEST)
    board.put(place >= order.size - annotate, Route.DEFER, Reason.DEFER_BUDGET)
    board.put(evidence.vote_abstained, Route.DEFER, Reason.DEFER_NO_VOTE)
    board.put(board.open(), Route.WEAK, Reason.WEAK_FRACTION_MIDDLE)


def _weights(board: _Board, expected: Expectations) -> FloatArray:
    """Return the weight of the training signal (Q,), see `TriageResult.weight`."""
    weights = (board.route == ROUTE_CODE[Route.ANNOTATE]).astype(np.float64)
    votes = np.flatnonzero(board.route == ROUTE_CODE[Route.WEAK])
    weights[votes] = np.nan_to_num(expected.vote_weight[votes], nan=1.0)
    return weights


def _checked_holds(vote_holds: npt.ArrayLike | None, num_questions: int) -> BoolArray:
    if vote_holds is None:
        return np.ones(num_questions, dtype=np.bool_)
    holds = np.asarray(vote_holds, dtype=np.bool_)
    if holds.shape != (num_questions,):
        raise DataError(f"vote_holds has shape {holds.shape}; there are {num_questions} ranks")
    return holds


def _checked(expected: Expectations | None, num_questions: int) -> Expectations:
    if expected is None:
        nothing = np.full(num_questions, np.nan)
        return Expectations(*([nothing] * 7))
    sizes = {name: np.shape(values) for name, values in vars(expected).items()}
    if set(sizes.values()) != {(num_questions,)}:
        raise DataError(f"expectations {sizes} don't match {num_questions} ranks")
    return expected
