r"""The formats in which a response states its answer, each one a record.

A text without any of them has no answer. A format finds candidates, from the last to the first.
Every search is linear in the text's length.
"""

import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice

from pivottrace.errors import ConfigError
from pivottrace.verifier.multiple_choice import letter_first
from pivottrace.verifier.notation import without_text_commands
from pivottrace.verifier.splitting import words
from pivottrace.verifier.value_text import NUMBERED, clean, is_derivation, is_value, value_at

MOST_TRIED = 1_000
"""Only so many places of one format are looked at, against hostile input."""

# Tokens that matter for brace matching. An escaped brace or backslash is consumed as one token, so
# `\{` does not count and `\\boxed{` (double escaping, common in model output) is still a box.
# MATH writes `\boxed 2$` too.
_BOX_TOKEN = re.compile(
    r"\\[^a-zA-Z]|(?P<box>(?<=\\)(?:boxed|fbox)[ \t]*\{)|[{}]"
    r"|(?<=\\)boxed[ \t]+(?P<bare>[-+\d.,/]{1,30})(?=[\s$])"
)
MOST_BETWEEN = 60
"""Characters between two boxes of one answer. Ours."""
_SPACING = re.compile(r"[\s$*{}]|\\(?:[()\[\],;! ]|q?quad(?![A-Za-z])|text(?![A-Za-z]))")
_JOINT = re.compile(
    r"(?:[,;]?(?:and|or|&)|[,;])(?:also|either)?(?:\\?[A-Za-z](?:_\w+)?=)?", re.IGNORECASE
)
_NAME_BEFORE = re.compile(r"(\\?[A-Za-z](?:_\{?\w+\}?)?)\s*=\s*$")

_TAG = re.compile(r"<(/?)answer>", re.IGNORECASE)
_HASHES = re.compile(r"(?<!#)####(?!#)[ \t]*([^\n]*)")
_HEADS = (
    *words("steps? parts? case phase stage conclusion summary solution explanation answer final"),
    *words("result check verif\\w+ understand\\w* analy\\w+ approach reasoning calculat\\w+ given"),
    *words("problem question note proof example method introduction overview background setup"),
    *words("discussion therefore key let the we to first next finally \\w+ing\\s"),
    *words("find solve compute computation determine simplify substitute count breakdown detail"),
)
_HEADING = re.compile(rf"(?:{'|'.join(_HEADS)})s?\b|.*:$", re.IGNORECASE)
_ADJECTIVES = r"(?:(?:final|correct|right|only|best|exact|numerical)\s{1,3}){0,2}"
_FILLERS = words("therefore thus then simply just indeed")
_SUBJECT = (
    rf"\b(?:(?:the|my|our)\s{{1,3}}{_ADJECTIVES}answer"
    r"|(?:^|(?<=[.!?] )|(?:final|correct)\s{1,3})answer"
    r"|the\s{1,3}(?:correct|right|best)\s{1,3}(?:option|choice))"
)
_OF_QUESTION = (
    r"(?:\s{1,3}(?:to|of|for)\s{1,3}(?:the|this|our)\s{1,3}(?:\w{1,20}\s{1,3})?"
    r"(?:question|problem|equation|exercise|task|puzzle))?"
)
_IS = r"(?:\s{1,3}(?:is|would\s{1,3}be|must\s{1,3}be|should\s{1,3}be)\b[ \t]*:?|[ \t]?:)\s*"
_STATED = re.compile(
    _SUBJECT + _OF_QUESTION + _IS + rf"(?:(?:{'|'.join(_FILLERS)})\b,?\s{{1,3}})?",
    re.IGNORECASE | re.MULTILINE,
)
# Behind "the answer is", these begin a remark on it or a sentence, but no answer.
_JUDGEMENTS = words("wrong right correct incorrect above below")
_REMARKS = (
    *words("not clear clearly obvious obviously unclear found obtained given calculated computed"),
    *words(
        "determined derived reasonable verified consistent already as\\s+follows based to\\s+\\w+"
    ),
    *words("in\\s+(?:the|a)\\s+(?:form|box|format) we let let's first since because here"),
    *words("i\\s+(?:can|cannot|could|couldn|do|don|did|am|was|would|think|have) i['’]m"),
)
_NO_ANSWER = re.compile(
    rf"(?:(?:{'|'.join(_JUDGEMENTS)})(?=\W*$|[.,;!]|\s+(?:because|since|as|and)\b)"
    rf"|(?:{'|'.join(_REMARKS)})\b)",
    re.IGNORECASE,
)
_LINE = re.compile(
    r"(?:^[ \t>*_#•-]*|(?<=[.!?])[ \t]+[*_]{0,3})"
    r"(?:(?:the|my)[ \t]{1,8})?(?:(?:final|correct|short)[ \t]{1,8})?answer[ \t]{0,8}"
    r"(?:\([^()\n]{0,40}\)[ \t]{0,8})?[*_]{0,3}[ \t]{0,8}"
    r"(?:[:：=][ \t]{0,8}[*_]{0,3}(?P<same>[^\n]*)|$)",
    re.IGNORECASE | re.MULTILINE,
)
_NEXT_LINE = re.compile(r"\s*(?:```\w*\s*)?")
WORDS_ON_NEXT_LINE = 3
"""Most words of an answer that stands alone under "Answer:"; more words begin a derivation."""
_CONDITION = r"(?!.*\b(?:if|when|where|which|that|unless|not|none?)\b)"
_IS_VALUE = re.compile(
    rf"{_CONDITION}[A-Z][^.=]*\s(?:is|are|equals)\s+(\S[^.]*(?:\.\d+)?)", re.DOTALL
)
_LAST_BOLD = re.compile(r"\*\*([^*\n]{1,200})\*\*")


@dataclass(frozen=True)
class AnswerFormat:
    """One way in which responses state their answer.

    Attributes:
        name: Its name in `answers.formats`.
        reads: An example of it, for help texts and messages.
        candidates: Yields what may be the answer in a text, from the last place to the first.
    """

    name: str
    reads: str
    candidates: Callable[[str], Iterator[str]]


def _last(pattern: re.Pattern[str], text: str) -> list[re.Match[str]]:
    """The last `MOST_TRIED` matches, from the last to the first."""
    return list(deque(pattern.finditer(text), maxlen=MOST_TRIED))[::-1]


def _in_tags(text: str) -> Iterator[str]:
    """Contents of closed tags. A format inside them is read, and a derivation is none."""
    opened: int | None = None
    contents: list[str] = []
    for tag in _TAG.finditer(text):
        if not tag.group(1):
            opened = tag.end()
        elif opened is not None:
            contents.append(text[opened : tag.start()].strip())
            opened = None
    for content in contents[: -MOST_TRIED - 1 : -1]:
        yield from _read_inside(content, (BOXED, HASHES, LINE, STATED))


def _read_inside(content: str, formats: tuple[AnswerFormat, ...]) -> Iterator[str]:
    """The answer that stands in one of the formats, or the content itself if it is no prose."""
    for each in formats:
        if (found := next(each.candidates(content), None)) is not None:
            yield found
            return
    if (content := clean(content).removesuffix(".").rstrip()) and not is_derivation(content):
        yield content


def _boxed(text: str) -> Iterator[str]:
    """Contents of boxes; boxes that are joined in one sentence are one candidate."""
    group: list[tuple[str, str]] = []  # (name, content), from the last to the first
    after = 0
    for before, content, end in reversed(_boxes(text)):
        if group and not _are_joined(text[end:after]):
            yield _joined(group)
            group = []
        name = _NAME_BEFORE.search(text, max(0, before - 20), before)
        group.append((name.group(1) if name else "", content))
        after = before
    if group:
        yield _joined(group)


def _are_joined(between: str) -> bool:
    """Whether the text between two boxes is a comma, "or" or "and", perhaps with a name behind."""
    if len(between) > MOST_BETWEEN or "\n\n" in between:
        return False
    return _JOINT.fullmatch(_SPACING.sub("", between)) is not None


def _joined(group: list[tuple[str, str]]) -> str:
    """Several boxes as one text: "3, 8", and with names where the names differ."""
    if len(group) == 1:
        return _unwrapped(group[0][1])
    unique = list(dict.fromkeys(reversed(group)))
    if len({name for name, _ in unique}) == len(unique) > 1 and all(name for name, _ in unique):
        return ", ".join(f"{name}={content}" for name, content in unique)
    return ", ".join(dict.fromkeys(content for _, content in unique))


def _unwrapped(content: str) -> str:
    """The answer of a box that holds a statement, "Answer: 5"; any other content as it is."""
    if "answer" not in content.casefold():
        return content
    plain = without_text_commands(content).strip()
    found = (next(each.candidates(plain), None) for each in (LINE, STATED))
    return next((each for each in found if each), content)


def _boxes(text: str) -> list[tuple[int, str, int]]:
    """(position of the command, content, end) of closed boxes with content, innermost only."""
    if "boxed" not in text and "fbox" not in text:
        return []
    boxes: list[tuple[int, str, int]] = []
    open_braces: list[tuple[int, int] | None] = []  # a box's command and content; None for others
    last_start = -1
    for token in _BOX_TOKEN.finditer(text):
        kind = token.group()
        if token.group("bare"):
            boxes.append((_command(text, token.start()), token.group("bare"), token.end()))
        elif token.group("box"):
            open_braces.append((_command(text, token.start()), token.end()))
        elif kind == "{":
            open_braces.append(None)
        elif kind == "}" and open_braces:
            box = open_braces.pop()
            if box is not None and box[1] > last_start:
                content = text[box[1] : token.start()].strip()
                if content:
                    last_start = box[1]
                    boxes.append((box[0], content, token.end()))
    return boxes


def _command(text: str, name: int) -> int:
    """The position at which the backslashes before a command's name begin."""
    return name - 2 if text.startswith("\\\\", name - 2) and name >= 2 else name - 1


def _behind_hashes(text: str) -> Iterator[str]:
    """Values behind `####`, because in Markdown it heads a part; words if it stands once, last."""
    end, matches = len(text.rstrip()), _last(_HASHES, text)
    is_alone = len(matches) == 1
    for match in matches:
        content = clean(match.group(1)).rstrip("#").strip().removesuffix(".").rstrip()
        if not content:
            continue
        inside = (next(each.candidates(content), None) for each in (LINE, STATED))
        if found := next((each for each in inside if each), None):
            yield found
        elif is_value(content) or (is_alone and match.end() >= end and not _is_heading(content)):
            yield content


def _is_heading(text: str) -> bool:
    return bool(_HEADING.match(text) or NUMBERED.match(text))


def _on_a_line(text: str) -> Iterator[str]:
    """The text behind "Answer:", on its line or alone under it."""
    for match in _last(_LINE, text):
        same = match.group("same")
        if same and same.strip(" \t*_"):
            start = match.end("same") - len(same.lstrip())
            if (found := next(_stated(same), None)) is not None:
                yield found
            elif value := _value(text, start):
                yield end_of_sentence(value)
        else:
            start = _NEXT_LINE.match(text, match.end()).end()  # type: ignore[union-attr]
            value = _value(text, start)
            short = len(value.split()) <= WORDS_ON_NEXT_LINE and not value.endswith(":")
            if value and (is_value(value) or short):
                yield value


def end_of_sentence(value: str) -> str:
    """The value at the end of a sentence, "The largest n is 34"; any other text as it is."""
    said = _IS_VALUE.fullmatch(value)
    return said.group(1) if said and is_value(said.group(1)) else value


def _value(text: str, start: int) -> str:
    """The value of a line or sentence from `start` on; "" for a remark on the answer."""
    value = value_at(text, start)
    if r"\boxed" in value:
        return next(_boxed(value), "")
    return "" if _NO_ANSWER.match(value) else value


def _stated(text: str) -> Iterator[str]:
    """The text behind "the answer is", up to the end of its sentence."""
    for match in _last(_STATED, text):
        if value := _value(text, match.end()):
            yield value


def _bold(text: str) -> Iterator[str]:
    """The last bold value of the last line, if it is a value."""
    line = text.rstrip()[-2_000:].rpartition("\n")[2]
    for content in reversed(_LAST_BOLD.findall(line)):
        value = content.strip().rstrip(".,:;!").strip()
        if value and is_value(value):
            yield value


TAGS = AnswerFormat("tags", "`<answer>18</answer>`", _in_tags)
BOXED = AnswerFormat("boxed", r"`\boxed{18}`", _boxed)
HASHES = AnswerFormat("hashes", "`#### 18`", _behind_hashes)
LINE = AnswerFormat("line", "a line `Answer: 18`", _on_a_line)
STATED = AnswerFormat("stated", '"the answer is 18"', _stated)
BOLD = AnswerFormat("bold", "`**18**` on the last line", _bold)

LETTER = AnswerFormat("letter", "`B) 18` at the beginning", letter_first)

DEFAULT_FORMATS = tuple(each.name for each in (TAGS, BOXED, HASHES, LINE, STATED, BOLD))
"""A line comes before a sentence, because a sentence may go on in prose. A letter is none of them:
it is read of multiple-choice questions alone, behind all others."""
FORMATS = {each.name: each for each in (TAGS, BOXED, HASHES, LINE, STATED, BOLD, LETTER)}


def format_named(name: str) -> AnswerFormat:
    """The format of that name.

    Raises:
        ConfigError: There is none.
    """
    if name not in FORMATS:
        near = get_close_matches(name, FORMATS, n=1, cutoff=0.0)[0]
        raise ConfigError(
            f"answers.formats = {name!r}: there is no such format. The nearest one is {near}. Give "
            f"one or more of {', '.join(FORMATS)}, in the order in which they are tried"
        )
    return FORMATS[name]


def found_in(text: str, name: str) -> Iterator[str]:
    """Candidates of one format, `MOST_TRIED` at most. Raises as `format_named`."""
    return islice(format_named(name).candidates(text), MOST_TRIED)
