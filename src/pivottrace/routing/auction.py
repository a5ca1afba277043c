"""The triage: ranks, curves and a budget give every question a route, a reason and a weight.

The paper's (DE-Venus): three routes by uncertainty (lowest discarded as mastered, middle trained
with self-made labels, highest annotated) and their shares, 42.1 % and 29.3 % (`PAPER_FRACTIONS`).
Reconstructed: "mastered" is read off the curve as window-mean correctness at a floor.
Ours (docs/method.md): the expected learning from a label and from a pseudo-label, in
`routing.gains`; `hopeless` and `defer`; the vote's floor; the probes' own evidence; the weights.

By calibration (the default), each question takes the first rule that applies:

    1. It failed, or has no rank: defer.
    2. It is labelled already, and the label is paid for: annotate if its own rollouts are partly
       right (0 < correctness < 1), else discard.
    3. There is no curve: defer.
    4. It is mastered, hopeless, or no label would teach anything: discard.
    5. The label's gain over its alternative is among the best that the budget covers: annotate.
    6. It has a vote, the vote's floor holds at its risk, and the pseudo-label is expected to
       teach: weak.
    7. Otherwise: defer.

The curve's mean, not its bound, decides whether a row is mastered: a wrong discard costs one unused
question. A wrong pseudo-label does harm, so the weak route needs a bound.
All arrays are vectorised over questions. The result does not depend on the order of the questions,
except that ties go to the lower index.
"""

import numpy as np
import numpy.typing as npt

from pivottrace.errors import BudgetError, DataError
from pivottrace.routing.curves import CurveValues
from pivottrace.routing.gains import GAIN_DECIMALS, expected_gains
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


def triage(
    ranks: npt.ArrayLike,
    *,
    budget: int,
    curve: CurveValues | None = None,
    vote_holds: npt.ArrayLike | None = None,
    evidence: QuestionEvidence | None = None,
    options: TriageOptions | None = None,
) -> TriageResult:
    """Route every question by expected learning under a label budget, or by fixed fractions.

    Args:
        ranks: (Q,) place in the ranking, low is certain; NaN for a question without a score.
        budget: Number of labels that may still be bought; labelled probes do not count again.
        curve: The calibration at `ranks`; None (or NaN) if nothing was calibrated. The vote's part
            is taken at the questions' own vote shares if they are stored (`with_own_votes`).
        vote_holds: (Q,) bool, whether the vote's floor holds for this question (`weak_route`); None
            means for no question. It is not used with `options.fractions`.
        evidence: Facts known about single questions; None means no facts. The score's curve alone
            is enough.
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
    curve = _checked_curve(curve, places.size)
    label_gain, pseudo_gain = expected_gains(curve, evidence)
    holds = _checked_holds(vote_holds, places.size)
    board = _Board(places, evidence)
    _route_known(board, evidence, options)
    if options.fractions is None:
        may_be_weak = holds & ~evidence.vote_abstained & (pseudo_gain > 0)
        # A question without a curve (NaN) never reaches the auction. The difference of rounded
        # gains is rounded again, because equal ones would not tie otherwise.
        priority = label_gain - np.where(may_be_weak, pseudo_gain, 0.0)
        priority = np.round(priority, GAIN_DECIMALS)
        _route_by_gain(board, curve, label_gain, evidence, options)
        _route_auction(board, priority, curve, budget, options)
        _route_unlabelled(board, holds, pseudo_gain, evidence)
    else:
        priority = label_gain - np.fmax(pseudo_gain, 0.0)
        _route_by_fraction(board, options.fractions, budget, evidence)
    return TriageResult(
        route=board.route,
        reason=board.reason,
        reason_names=REASONS + tuple(f"failed_{name}" for name in evidence.failure_names),
        weight=_weights(board, curve),
        label_gain=label_gain,
        pseudo_gain=pseudo_gain,
        priority=np.maximum(priority, 0.0),
    )


class _Board:
    """Routes and reasons (Q,) while they are filled in; a question is open until it has a route."""

    def __init__(self, ranks: FloatArray, evidence: QuestionEvidence) -> None:
        self.ranks = ranks
        self.route = np.full(ranks.size, -1, dtype=np.int8)
        self.reason = np.full(ranks.size, -1, dtype=np.int16)
        failed = evidence.failure_code > 0
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


def _route_known(board: _Board, evidence: QuestionEvidence, options: TriageOptions) -> None:
    """Route labelled questions by their own rollouts; unknown correctness counts as informative."""
    labelled, correctness = evidence.labelled, evidence.correctness
    probe, earlier = labelled & ~evidence.earlier, labelled & evidence.earlier
    board.put(probe & (correctness >= 1.0), Route.DISCARD, Reason.PROBE_MASTERED)
    board.put(earlier & (correctness >= 1.0), Route.DISCARD, Reason.LABELLED_MASTERED)
    if options.hopeless == "drop":
        board.put(probe & (correctness <= 0.0), Route.DISCARD, Reason.PROBE_HOPELESS)
        board.put(earlier & (correctness <= 0.0), Route.DISCARD, Reason.LABELLED_HOPELESS)
    board.put(probe, Route.ANNOTATE, Reason.ANNOTATE_PROBE)
    board.put(earlier, Route.ANNOTATE, Reason.ANNOTATE_LABELLED)


def _route_by_gain(
    board: _Board,
    curve: CurveValues,
    label_gain: FloatArray,
    evidence: QuestionEvidence,
    options: TriageOptions,
) -> None:
    """Defer questions without a curve; discard mastered and hopeless ones and ones without gain."""
    board.put(np.isnan(label_gain), Route.DEFER, Reason.DEFER_NO_CURVE)
    # A vote without a winner has no share that could contradict the curve, and is no sign of
    # mastery.
    mastered = options.is_mastered(curve.mu, evidence.vote_share) & ~evidence.vote_abstained
    board.put(mastered, Route.DISCARD, Reason.MASTERED)
    hopeless = curve.mu <= options.hopeless_ceiling
    if options.hopeless == "drop":
        board.put(hopeless, Route.DISCARD, Reason.HOPELESS)
        hopeless = np.zeros_like(hopeless)
    board.put((label_gain <= 0.0) & ~hopeless, Route.DISCARD, Reason.NOTHING_TO_LEARN)


def _route_auction(
    board: _Board, priority: FloatArray, curve: CurveValues, budget: int, options: TriageOptions
) -> None:
    """Give labels to the best priorities; ties go to the more uncertain, then the lower index."""
    hopeless = curve.mu <= options.hopeless_ceiling
    bidders = np.flatnonzero(board.open() & ((priority > 0.0) | hopeless))
    won = np.zeros(board.route.size, dtype=bool)
    won[_highest(bidders, priority, board.ranks, budget)] = True
    board.put(won & hopeless, Route.ANNOTATE, Reason.ANNOTATE_HOPELESS)
    board.put(won, Route.ANNOTATE, Reason.ANNOTATE_GAIN)
    # The votes of hopeless questions are almost surely wrong: without a label they are not trained
    # on.
    board.put(hopeless, Route.DEFER, Reason.DEFER_BUDGET)


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
    board: _Board, holds: BoolArray, pseudo_gain: FloatArray, evidence: QuestionEvidence
) -> None:
    """Route questions that get no label from the budget: weak if the vote may teach, or defer."""
    board.put(evidence.vote_abstained, Route.DEFER, Reason.DEFER_NO_VOTE)
    board.put(~holds, Route.DEFER, Reason.DEFER_VOTE_UNRELIABLE)
    board.put(pseudo_gain > 0.0, Route.WEAK, Reason.WEAK_VOTE_RELIABLE)
    board.put(board.open(), Route.DEFER, Reason.DEFER_VOTE_HARMFUL)


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


def _weights(board: _Board, curve: CurveValues) -> FloatArray:
    """Return the weight of the training signal (Q,), see `TriageResult.weight`."""
    votes = board.route == ROUTE_CODE[Route.WEAK]
    reliability = np.where(np.isnan(curve.vote_low), 1.0, curve.vote_low)
    verified = board.route == ROUTE_CODE[Route.ANNOTATE]
    return np.where(verified, 1.0, np.where(votes, reliability, 0.0))


def _checked_holds(vote_holds: npt.ArrayLike | None, num_questions: int) -> BoolArray:
    if vote_holds is None:
        return np.zeros(num_questions, dtype=np.bool_)
    holds = np.asarray(vote_holds, dtype=np.bool_)
    if holds.shape != (num_questions,):
        raise DataError(f"vote_holds has shape {holds.shape}; there are {num_questions} ranks")
    return holds


def _checked_curve(curve: CurveValues | None, num_questions: int) -> CurveValues:
    if curve is None:
        nothing = np.full(num_questions, np.nan)
        return CurveValues(*([nothing] * 8))
    sizes = {name: np.shape(values) for name, values in vars(curve).items()}
    if set(sizes.values()) != {(num_questions,)}:
        raise DataError(
            f"curve values {sizes} don't match {num_questions} ranks; evaluate it at those ranks"
        )
    return curve
