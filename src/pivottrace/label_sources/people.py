"""People who fill in a file or answer on the page: the run stops, and goes on with the answers."""

from __future__ import annotations

import shlex

from pivottrace.errors import counted
from pivottrace.label_sources import Asked, LabelSource


def ask(asked: Asked) -> str:
    """Write the file that people fill in; returns the steps that come next, by file or by page.

    Raises:
        DataError: The file has answers to other questions and is left as it is.
    """
    place, file = shlex.quote(str(asked.folder)), shlex.quote(str(asked.write_file()))
    what = "probe question" if asked.purpose == "probe" else "question"
    number = len(asked.question_ids)
    return (
        f"{counted(number, what)} {'waits' if number == 1 else 'wait'} for true answers. Next:\n"
        f"  1. fill in the column `answer` of {file}\n"
        f"  2. pivottrace label import {place} {file}\n"
        f"  3. pivottrace run {place}\n"
        f"Or answer in the browser: pivottrace label serve {place}, then pivottrace run {place}"
    )


FILE = LabelSource("file", "a file that people fill in, while the run waits", ask=ask)
