"""Notes about columns that may be the ids or the answers, without being named so."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pivottrace.errors import first_of
from pivottrace.ingest.columns import DEFAULT_NAMES, Columns, Path, map_flag

# A column with one of these words in its name is perhaps the user's id.
ID_WORDS = {"id", "ids", "nr", "no", "num", "number", "key", "uid", "uuid", "idx", "index"}


def perhaps_ids(available: Sequence[str], columns: Columns) -> Iterator[str]:
    """Yield a note about columns that may be the user's ids, if ids are made from the prompts."""
    if columns.id or columns.id_mapped:
        return
    taken = {path[0] for path in (columns.prompt, columns.answer or ()) if path}
    names = [n for n in available if n not in taken and ID_WORDS & set(_words(n))]
    if names:
        yield (
            f"ids are made from the questions, because no column is called "
            f"{', '.join(DEFAULT_NAMES['id'])}. To keep your own: {map_flag('id', names[0])}"
        )


def perhaps_answers(
    available: Sequence[str], columns: Columns, asked: Sequence[Path], unused: Sequence[str]
) -> Iterator[str]:
    """Yield a note about the columns that may be the answers, if no column is.

    Args:
        available: The columns of the source.
        columns: The chosen columns.
        asked: Columns of the template.
        unused: Columns that are no part of the question, by the user's word.
    """
    if columns.answer is not None:
        return
    taken = {path[0] for path in (columns.prompt, columns.tolerance or (), *columns.id) if path}
    taken |= {path[0] for path in asked} | set(unused)
    left = [n for n in available if n not in taken and not ID_WORDS & set(_words(n))]
    if left:
        yield (
            f"no column is the answer (looked for {', '.join(DEFAULT_NAMES['answer'][:4])} and "
            f"others). Columns that are left: {first_of(left)}. If one of them has the answers: "
            f"{map_flag('answer', left[0])}. If none has: --map answer="
        )


def _words(name: str) -> list[str]:
    """Return the words of a column's name, in lower case: chat_id and chatId have the same."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[\W_]+", " ", name).lower().split()
