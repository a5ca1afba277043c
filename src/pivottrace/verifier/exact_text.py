"""An answer as exact text, and the length that an answer may have."""

import unicodedata

MAX_ANSWER_CHARS = 1_000
"""A longer "answer" is a derivation or garbage. No truth is that long, and comparison costs."""


def normalise_exact(answer: str) -> str:
    """Bring an answer to the form in which exact text is compared.

    The form is Unicode NFC (not NFKC, which turns "x²" into "x2"), without outer whitespace, and
    with one space for each inner run of whitespace. Case, punctuation and digits stay unchanged.
    """
    return " ".join(unicodedata.normalize("NFC", answer).split())
