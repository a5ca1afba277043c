r"""A piece of text as a value: cut out of its sentence, freed of marks, and told from prose."""

import re

from pivottrace.verifier.exact_text import MAX_ANSWER_CHARS
from pivottrace.verifier.forms import form_of
from pivottrace.verifier.notation import without_text_commands

MOST_WORDS = 20
"""A text with more words is a derivation. Ours; the longest gold in words that we met has 14."""
WORDS_OF_SENTENCES = 4
"""Several sentences with more words than this are a derivation, so "Yes. He can." is none."""
MOST_PROSE_CHARS = 300
"""The same for scripts without spaces between words."""

_BOLD = re.compile(r"(?<!\S)\*\*(?=\S)|(?<=\S)\*\*(?!\S)|\*\*(?=[.,:;]?$)")
_SENTENCE_END = re.compile(r"(?<!approx)[.!?](?=\s|\**$|\*\*\s)|\n|[。！？]")
_DISPLAY = ((r"\[", r"\]"), ("$$", "$$"), (r"\(", r"\)"))
_REASON = re.compile(
    r",?\s+(?:because|since|as\s+(?:we|it|there)|given\s+that)\b|,\s*(?:not|which|so|where)\b",
    re.IGNORECASE,
)
NUMBERED = re.compile(r"\(?\d{1,2}[.)]\s+\D")
"""The begin of "2. Add them", which heads a part."""
_BULLET = re.compile(r"[-*•][ \t]+")
_LETTER = re.compile(r"\(?[A-Z]\)?")
_BARE_WORD = re.compile(r"[A-Za-z]{2,}")
_COMMAND = re.compile(r"\\(?:begin|end)\s*\{[^{}]*\}|\\[A-Za-z]+")
_WORD = re.compile(r"[^\W\d_]{2,}")
# A full stop behind a short word may be an abbreviation: "Dr. Martin Luther King".
_NEXT_SENTENCE = re.compile(
    r"(?:(?<=[a-z]{3})|(?<=[\d$)}\]]))[.!?][\"')\]$*]*\s+(?=[A-Z\\$\[])|[。！？](?=\s*\S)|\n\s*(?=\S)"
)


def clean(text: str) -> str:
    r"""Drop Markdown's bold marks, and the brackets of displayed mathematics around the whole.

    A `**` that is a power stays, and so do single dollar signs, which `verifier.notation` reads.
    """
    text = _BOLD.sub("", text).strip()
    for opening, closing in _DISPLAY:
        ends = text.startswith(opening) and text.endswith(closing)
        if ends and len(text) > len(opening + closing):
            inside = text[len(opening) : -len(closing)]
            if opening not in inside:
                return inside.strip()
    return text


def value_at(text: str, start: int) -> str:
    """The rest of the sentence that holds `start`, without its full stop and its reasons.

    Displayed mathematics is read to its end. The result may be empty, and it is one character
    longer than `MAX_ANSWER_CHARS` if the sentence is longer.
    """
    if (bullet := _BULLET.match(text, start)) and text[start - 1 : start] == "\n":
        start = bullet.end()  # or "- 18" would be negative
    limit = start + MAX_ANSWER_CHARS + 2  # one beyond, so that over-long stays over-long
    for opening, closing in _DISPLAY[:2]:
        if text.startswith(opening, start):
            end = text.find(closing, start + 2, limit)
            if end > 0:
                return clean(text[start : end + 2])
    end_found = _SENTENCE_END.search(text, start, limit)
    sentence = clean(text[start : end_found.start() if end_found else limit])
    if (reason := _REASON.search(sentence)) and sentence[: reason.start()].strip():
        sentence = sentence[: reason.start()]
    return sentence.rstrip(" \t.!?,;")


def is_value(text: str) -> bool:
    """Whether a text is a value by itself: mathematics, an amount, a time, or a choice's letter."""
    if NUMBERED.match(text) or _BARE_WORD.fullmatch(text):
        return False
    return bool(_LETTER.fullmatch(text)) or form_of(text) not in ("text", "empty")


def is_derivation(text: str) -> bool:
    """Whether a text is a way to an answer: several sentences, or long prose."""
    num_words = len(_WORD.findall(_COMMAND.sub(" ", without_text_commands(text))))
    if num_words > MOST_WORDS:
        return True
    several = r"\begin" not in text and _NEXT_SENTENCE.search(text.strip()) is not None
    if several and (num_words > WORDS_OF_SENTENCES or text.count("=") > 1):
        return True
    return len(text) > MOST_PROSE_CHARS and num_words > 0 and form_of(text) == "text"
