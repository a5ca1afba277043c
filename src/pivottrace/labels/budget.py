"""The budget: the labels that a run may buy, the labels bought so far, and the probes.

This is arithmetic, with the refusals of numbers that cannot be. It knows nothing of where answers
come from.
"""

from __future__ import annotations

from pivottrace.config import Config
from pivottrace.errors import BudgetError, DataError, RunDirError, counted
from pivottrace.label_sources import LabelSource, label_source, source_for
from pivottrace.labels.store import Label, num_stored, read_labels
from pivottrace.routing.probes import default_num_probes
from pivottrace.run.directory import RunDir
from pivottrace.run.entries import with_entries

FEW_TO_CHOOSE = 0.25
"""A smaller share of the budget beside the probes is called too small for a choice."""
STORE = "labels.sqlite"
"""The label store's file in a run directory."""


def source_of(run: RunDir) -> LabelSource:
    """The run's label source, once its pool is read. Raises as `label_source`."""
    name, pool = run.config.labels.source, run.stage_facts("pool")
    if name is not None:
        return label_source(name)
    return source_for(name, pool["num_questions"], pool["num_with_answer"])


def allowed_labels(run: RunDir) -> int:
    """The run's budget as a number of labels.

    Raises:
        BudgetError: As `budget_labels`.
        RunDirError: The pool is not there.
    """
    pool = run.stage_facts("pool")
    if not pool:
        raise RunDirError(
            f"{run.path} has no pool now, and a budget is a share of it. Make it with: "
            f"{run.until('pool')}"
        )
    return budget_labels(run.config.labels.budget, pool["num_questions"])


def budget_labels(budget: float, questions: int) -> int:
    """A budget as a number of labels: a share up to 1 (rounded down), or a number above it.

    Raises:
        BudgetError: More labels than questions, or a number that is not whole.
    """
    if budget <= 1:
        # The small addend keeps 0.3 of 10 questions at 3.
        return int(budget * questions + 1e-9)
    if budget != int(budget):
        raise BudgetError(
            f"labels.budget = {budget}: give a share of the pool up to 1, or a whole number"
        )
    if budget > questions:
        raise BudgetError(
            f"labels.budget = {budget:.0f} is more than the pool's {questions} questions. "
            f"Give at most {questions}, or a share up to 1."
        )
    return int(budget)


def labels_of(run: RunDir, first: int | None = None) -> dict[str, Label]:
    """All labels of the run by question id, owned and disputed ones too. Nothing is written.

    Args:
        run: The run.
        first: Labels as they were when so many answers had arrived; None takes all answers.

    Raises:
        DataError: The file of the labels is no label store, or labels that were used are gone.
        RunDirError: It cannot be read.
    """
    labels = read_labels(run.path / STORE, first)
    if first is not None:
        return labels
    stages = (facts for of in run.manifest.get("rounds", {}).values() for facts in of.values())
    used = max((facts.get("labels_used", 0) for facts in stages), default=0)
    paid = sum(not label.owned for label in labels.values())
    if paid < used:
        raise DataError(
            f"{run.path / STORE} holds {paid} labels, and the run has paid for {used}. Put the "
            f"file back from a copy, or start again in another directory (--output) and import "
            f"the answers there."
        )
    return labels


def num_answers(run: RunDir) -> int:
    """Number of answers that have arrived, also several to one question and those taken back.

    Raises as `labels_of`.
    """
    return num_stored(run.path / STORE)


def bought(run: RunDir) -> dict[str, Label]:
    """The labels that cost a part of the budget: all but the pool's own. Raises as `labels_of`."""
    return {i: label for i, label in labels_of(run).items() if not label.owned}


def true_answers(run: RunDir, first: int | None = None) -> dict[str, str]:
    """The true answers that stages may use, by question id. Arguments and errors: `labels_of`.

    A disputed label is none until it is settled, and "cannot be answered" is none at all. An answer
    has what the verifier needs behind it; a label's own text is in `labels_of`.
    """
    known = labels_of(run, first).items()
    return with_entries(
        run, {i: label.answer for i, label in known if label.answer and not label.disputed}
    )


def unanswerable(run: RunDir, first: int | None = None) -> list[str]:
    """Questions that cannot be answered, as people say. Arguments and errors: `labels_of`."""
    known = labels_of(run, first).items()
    return [i for i, label in known if label.answer is None and not label.disputed]


def given_after_the_vote(run: RunDir, first: int | None = None) -> set[str]:
    """Questions whose label was given by a person who had seen the model's vote on them.

    Such labels are trained on, and calibration leaves them out: a shown answer draws people's own
    answers towards it, so the vote would look more reliable than it is. Arguments and errors:
    `labels_of`.
    """
    return {i for i, label in labels_of(run, first).items() if label.vote_shown}


def probes_wanted(run: RunDir) -> int:
    """How many probes to draw: what was settled when the first was labelled, else by the settings.

    Raises:
        BudgetError: They are more than the budget.
    """
    settled = run.begun_facts("calibrate").get("probes_wanted")
    allowed, wanted = allowed_labels(run), run.config.calibrate.num_probes
    if settled is not None:
        if settled > allowed and not run.config.labels.partial:
            raise BudgetError(
                f"labels.budget allows {allowed} labels, and {settled} probes were drawn, some of "
                f"them labelled. Give at least {settled}, go on with the labels that are there "
                f"(labels.partial = true), or begin a new run directory (--output)."
            )
        return int(settled)
    if wanted is None:
        by_value = run.config.calibrate.draw == "by_value"
        return default_num_probes(run.stage_facts("pool")["num_questions"], allowed, by_value)
    if wanted > allowed:
        raise BudgetError(
            f"calibrate.num_probes = {wanted} is more than the {allowed} labels of labels.budget. "
            f"Lower it to {allowed} at most, or raise the budget."
        )
    return wanted


def budget_in_words(allowed: int, num_probes: int, at_most: bool = False) -> str:
    """The use of a budget: the probes, and the labels that are left to choose with.

    Args:
        allowed: Labels that the budget allows.
        num_probes: Probes that are not owned.
        at_most: Whether some of the probes may yet turn out to be owned.
    """
    left = max(0, allowed - num_probes)
    take, leaves = ("take at most", "at least ") if at_most else ("take", "")
    words = (
        f"probes {take} {num_probes:,} of the {counted(allowed, 'label')}, to show how reliable "
        f"votes are; that leaves {leaves}{left:,} to choose with"
    )
    if num_probes and left < FEW_TO_CHOOSE * allowed:
        words += ". That is too few for a choice: most of the labels would be drawn by chance"
    return words


def refuse_unusable_budget(run: RunDir) -> None:
    """Refuse a budget that was changed after calibration and cannot be kept or used.

    Raises:
        BudgetError: It is less than the labels bought, or there is one now and was none for probes.
    """
    allowed, used = allowed_labels(run), len(bought(run))
    if used > allowed:
        raise BudgetError(
            f"labels.budget = {run.config.labels.budget:g} allows {allowed} labels, and {used} are "
            f"bought already, probes among them. Give at least {used}, or begin a new run "
            f"directory (--output)."
        )
    if allowed and run.stage_facts("calibrate").get("labels_allowed") == 0:
        raise BudgetError(
            f"{run.path} was calibrated with a budget of 0, so without a probe, and nothing says "
            f"what a label would teach. Begin a new run directory (--output) with --budget "
            f"{run.config.labels.budget:g}."
        )


def refuse_to_exceed(allowed: int, num_bought: int, num_needed: int) -> None:
    """Refuse to ask for more labels than are left. Raises BudgetError."""
    left = max(0, allowed - num_bought)
    if num_needed > left:
        raise BudgetError(f"{num_needed} labels are needed and {left} are left of the budget")


def refuse_missing_answers(
    config: Config, source: LabelSource, num_answered: int, allowed: int
) -> None:
    """Refuse a column of answers that has fewer than the labels that may be drawn from it.

    Args:
        config: The run's.
        source: The run's label source.
        num_answered: Questions of the pool that have an answer in its answer column.
        allowed: Labels that the budget allows.

    Raises:
        DataError: It has fewer. With `labels.partial`, one answer is enough.
    """
    needed = min(1, allowed) if config.labels.partial else allowed
    if source.needs_column and num_answered < needed:
        raise DataError(
            f"{config.pool.questions}: {counted(num_answered, 'question')} with an answer, and "
            f"{allowed} may be chosen for a label (labels.budget, with labels.source = "
            f"{source.name!r}). Leave labels.source out to have people answer the rest, "
            f"name the answers' column with --map answer=COLUMN, or lower labels.budget."
        )
