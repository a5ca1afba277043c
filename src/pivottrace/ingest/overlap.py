"""Overlap: questions of the pool that are also evaluation questions."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator

import pyarrow as pa

from pivottrace.ingest.prompts import last_user_message
from pivottrace.ingest.questions import iter_messages

GRAM_TOKENS = 13  # GPT-3 (arXiv 2005.14165, appendix C) looks for shared 13-grams
MIN_CONTAINED = 0.5  # share of an evaluation question's own 13-grams; ours, see find_overlap
# A token is a number, a word, or one sign; sentence punctuation only separates tokens. Mathematical
# signs are kept, because 3 + 5 is not 3 - 5.
_TOKEN = re.compile(r"""\d+(?:[.,]\d+)*|[^\W\d_]+|[^\w\s.,;:?"“”…$]|_""")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_SPELLINGS = str.maketrans({"’": "'", "‘": "'", "−": "-", "–": "-"})

Gram = tuple[str, ...]


def find_overlap(pool: pa.Table, evaluation: pa.Table) -> list[tuple[str, str]]:
    """Find questions of the pool that are also, or nearly, in the evaluation questions.

    Two questions overlap if their last user messages have the same tokens (`tokens_of` ignores
    case, whitespace, sentence punctuation and thousands separators). They also overlap if the pool
    question contains all numbers of the evaluation question and at least half of its own 13-grams.
    Its own 13-grams occur in no other evaluation question. So instructions that evaluation
    questions share prove nothing, the same story with another number is another question, and a
    question of fewer than 13 tokens has no near-duplicates. Time is linear in the tokens of both
    tables.

    Args:
        pool: Table with the schema `QUESTIONS`.
        evaluation: Table with the same schema.

    Returns:
        Pairs (pool id, evaluation id) in the order of the pool, then of the evaluation; each once.

    Source: 13-gram decontamination of GPT-3 (arXiv 2005.14165, appendix C). Deviation: in GPT-3 one
    shared 13-gram is enough, which would refuse template-like questions and shared instructions.
    """
    ids = evaluation["id"].to_pylist()
    texts = [tokens_of(last_user_message(messages)) for _, messages in iter_messages(evaluation)]
    same: dict[Gram, list[int]] = {}
    for index, tokens in enumerate(texts):
        same.setdefault(tuple(tokens), []).append(index)
    owner = _own_grams(texts)
    num_own = Counter(owner.values())
    own = owner.keys()

    pairs = []
    for question_id, messages in iter_messages(pool):
        tokens = tokens_of(last_user_message(messages))
        contained = Counter(owner[gram] for gram in set(grams_of(tokens)) & own)
        near = {
            index
            for index, count in contained.items()
            if count >= MIN_CONTAINED * num_own[index]
            and _numbers(texts[index]) <= _numbers(tokens)
        }
        found = near.union(same.get(tuple(tokens), ()))
        pairs += [(question_id, ids[index]) for index in sorted(found)]
    return pairs


def tokens_of(text: str) -> list[str]:
    """Return case-folded words, numbers without thousands separators, and mathematical signs."""
    folded = unicodedata.normalize("NFC", text).casefold()
    if not folded.isascii():
        folded = folded.translate(_SPELLINGS)
    return _TOKEN.findall(_THOUSANDS.sub("", folded))


def grams_of(tokens: list[str]) -> Iterator[Gram]:
    """Return the runs of 13 tokens; none if there are fewer tokens."""
    return zip(*(tokens[start:] for start in range(GRAM_TOKENS)), strict=False)


def _numbers(tokens: list[str]) -> Counter[str]:
    return Counter(token for token in tokens if token[0].isdigit())


def _own_grams(texts: list[list[str]]) -> dict[Gram, int]:
    """Return gram → index of the text, for each gram that only one text has."""
    owner: dict[Gram, int] = {}
    shared: set[Gram] = set()
    for index, tokens in enumerate(texts):
        for gram in grams_of(tokens):
            if owner.setdefault(gram, index) != index:
                shared.add(gram)
    for gram in shared:
        del owner[gram]
    return owner
