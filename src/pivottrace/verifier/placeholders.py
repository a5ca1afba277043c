r"""Template words: what stands in a prompt where the answer belongs, such as `\boxed{number}`.

A model that copies its prompt gives no answer, and all samples may copy the same words.
"""

import re
from collections.abc import Collection

from pivottrace.verifier.notation import without_text_commands
from pivottrace.verifier.splitting import words
from pivottrace.verifier.value_text import is_value

_LEADS = ("", "your ", "the ", "final ", "your final ", "the final ", "insert ", "put your ", "my ")
_KINDS = ("answer", "answer here", "result", "value", "number", "solution")
TEMPLATE_WORDS = frozenset(
    {
        *(lead + kind for lead in _LEADS for kind in _KINDS),
        *("answer goes here", "your answer goes here", "insert your answer here"),
        *("insert your answer", "write your answer here", "enter your answer here"),
        *("numerical answer", "numeric answer", "integer answer", "correct answer", "placeholder"),
        *("answer letter", "option letter", "choice letter", "letter of the correct option"),
    }
)
"""As `_key` spells them."""

NO_ANSWER_WORDS = frozenset(
    {
        *("", "?", "??", "???", "-", "--", "–", "—", "/", ".", "...", "…"),
        *("na", "n/a", "n.a", "n. a", "#n/a", "<na>", "nan", "null", "tbd", "todo", "idk", "skip"),
        *("don't know", "dont know", "do not know", "i don't know", "i dont know", "no idea"),
        *("i do not know", "not sure", "i'm not sure", "i am not sure", "unsure", "no answer"),
        *("not known", "unlabelled", "unlabeled", "unanswered", "can't tell", "can't say"),
        *("cannot tell", "cannot say", "dunno", "no clue", "i have no idea", "not certain"),
        *("unclear", "#ref", "#value", "#div/0", "#name?", "#num", "#null"),  # of a spreadsheet
    }
)
"""These are no answer in any format, of a person or a model. As `plain_words` spells them."""

UNANSWERABLE_WORDS = frozenset(
    {
        *("cannot be answered", "can't be answered", "cant be answered", "can not be answered"),
        *("unanswerable", "not answerable", "impossible to answer", "has no answer"),
        *("question is wrong", "the question is wrong", "question has no answer"),
        *("the question has no answer", "the question cannot be answered"),
        *("question cannot be answered", "this question cannot be answered"),
    }
)
"""With these a person says of a question that it has no answer. As `plain_words` spells them."""

# Answers that a prompt may well show: "write \boxed{yes}".
_TRUE_ANSWERS = frozenset(words("yes no true false none correct incorrect"))
_NOTHING = re.compile(r"(?:[.…?_\s$*]|\\[lcvd]?dots|\\(?:text|ldots)\s*\{[.…?_\s]*\}|\\square)+")
_SHOWN = (
    re.compile(r"\\(?:boxed|fbox)\s*\{([^{}]*(?:\{[^{}]*\}[^{}]*)?)\}"),
    re.compile(r"<answer>([^<]*)</answer>", re.IGNORECASE),
    re.compile(r"(?<!#)####(?!#)[ \t]*([^\n.,;'\"]+)"),
    re.compile(r"\banswer(?:\s+is)?\s*:[ \t]*([^\n.,;'\"()]+)", re.IGNORECASE),
)


def is_placeholder(text: str, of_prompt: Collection[str] = ()) -> bool:
    """Whether a text only stands for an answer.

    Args:
        text: An answer as read.
        of_prompt: The result of `placeholders_of`.
    """
    if len(text) > 100:
        return False
    if _NOTHING.fullmatch(text):
        return True
    key = _key(text)
    return key in TEMPLATE_WORDS or key in of_prompt


def says_none(text: str) -> bool:
    """Whether a text says that there is no answer: "N/A", "I don't know"."""
    return plain_words(text) in NO_ANSWER_WORDS and text.strip() != "Na"  # sodium


def says_unanswerable(text: str) -> bool:
    """Whether a person says that the question cannot be answered by anybody."""
    return plain_words(text) in UNANSWERABLE_WORDS


def plain_words(text: str) -> str:
    """A text in lower case, without text commands and its full stop."""
    return " ".join(without_text_commands(text).casefold().replace("’", "'").split()).rstrip(".!")


def placeholders_of(*prompts: str | None) -> frozenset[str]:
    r"""The template words of prompts: what they show in a box, in tags, or behind `####`.

    A possible answer is none: a value (`\boxed{42}`), a choice's letter, yes, no, true and
    false. If a prompt shows several words in one format (`\boxed{even}` or `\boxed{odd}`), it
    lists the answers that it allows, and none of them is a template word.

    Args:
        prompts: `pool.system_prompt` and `pool.prompt_suffix`; None is no text.
    """
    text = "\n".join(prompt for prompt in prompts if prompt)
    found: set[str] = set()
    for shown in _SHOWN:
        given = [match.strip() for match in shown.findall(text)]
        keys = {_key(each) for each in given if each and not _NOTHING.fullmatch(each)}
        others = {key for key in keys - TEMPLATE_WORDS if key}
        if len(others) == 1 and not _may_be_an_answer(next(iter(others))):
            found |= others
    return frozenset(found)


def _may_be_an_answer(key: str) -> bool:
    return key in _TRUE_ANSWERS or len(key) == 1 or is_value(key)


def _key(text: str) -> str:
    """A text without marks, brackets, case and underscores."""
    plain = without_text_commands(text).replace("_", " ").replace("\\", " ").casefold()
    return " ".join(plain.strip(" \t\n$*<>[](){}\"'`.:!…").split())
