"""A prompt's value as chat messages, from the forms that real files have.

Each function returns the value or raises a `DataError` that states the problem and the cure. The
caller knows file, row and column, and puts them in front.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pivottrace.errors import DataError
from pivottrace.ingest.prompts import ROLES
from pivottrace.ingest.values import kind_of, valid_text

# ShareGPT writes {"from": "human", "value": ...}; these are its names for the roles of chat
# templates.
_ROLE_OF = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function": "tool",
    "observation": "tool",
}
_KEYS = (("role", "content"), ("from", "value"))
# A text that begins and ends like messages: JSON, Python's str(list) or NumPy's repr.
_BEGINS = re.compile(r"\s*(?:array\()?\[?\s*\{\s*['\"](?:role|content|from|value)['\"]\s*:")
_OTHER_KEY = re.compile(r"['\"](?:content|value)['\"]\s*:")
_ENDS = ("}", "}]", "],dtype=object)")
_TEXT_PARTS = (None, "text", "input_text")


def to_messages(value: Any) -> list[dict[str, str]]:
    """Return a prompt as chat messages with `role` and `content`.

    A text becomes one user message. A list holds messages with role and content, or with from and
    value. A content may be a list of text parts, which are joined by line breaks.
    """
    if isinstance(value, str):
        if not value.strip():
            raise DataError("is empty. Write the question, or take the row out")
        return [{"role": "user", "content": valid_text(value)}]
    if not isinstance(value, list):
        raise DataError(
            f"is {kind_of(value)}, but a prompt is a text or a list of messages with role and "
            "content. Convert it"
        )
    messages = [_to_message(number, item) for number, item in enumerate(value, 1)]
    if not any(m["role"] == "user" and m["content"].strip() for m in messages):
        raise DataError("is empty: no user message has text. Write the question there")
    if messages[-1]["role"] == "assistant":
        raise DataError(
            "ends with an assistant message, which would give the answer away. Take it out, so "
            "that the user's question comes last"
        )
    return messages


def parse_messages(text: str) -> list[Any] | None:
    """Return the messages that a text holds as JSON; None if it is an ordinary text.

    Raises:
        DataError: The text looks like messages and is not JSON, such as Python's `str(messages)`.
    """
    if not _BEGINS.match(text):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        ending = "".join(text[-100:].split())
        if ending.endswith(_ENDS) and _OTHER_KEY.search(text):
            raise DataError(
                "is a list of messages written as a text that is not JSON. Write the messages as a "
                "list, or as JSON text (json.dumps)"
            ) from None
        return None
    items = value if isinstance(value, list) else [value]
    return items if all(_keys_of(item) for item in items) else None


def _to_message(number: int, item: Any) -> dict[str, str]:
    keys = _keys_of(item)
    if keys is None:
        raise DataError(
            f"message {number} has no role and content. Write it as "
            '{"role": "user", "content": "..."}'
        )
    role, content = item[keys[0]], item[keys[1]]
    if keys == _KEYS[1] and isinstance(role, str):
        role = _ROLE_OF.get(role, role)
    if role not in ROLES:
        raise DataError(f"message {number} has the unknown role {role!r}. Use {', '.join(ROLES)}")
    if isinstance(content, list):
        content = "\n".join(_text_of_part(number, part) for part in content)
    if not isinstance(content, str):
        raise DataError(f"message {number}: content is {kind_of(content)}. Only text is supported")
    # A parquet struct has every key in every message, so keys with null are ignored.
    more = [key for key, v in item.items() if key not in keys and v is not None]
    if more:
        raise DataError(
            f"message {number} has {more[0]!r} beside {keys[0]} and {keys[1]}, which would be "
            "lost. Take it out, or move it to a column of its own"
        )
    return {"role": role, "content": valid_text(content)}


def _keys_of(item: Any) -> tuple[str, str] | None:
    if not isinstance(item, Mapping):
        return None
    return next((keys for keys in _KEYS if all(item.get(key) is not None for key in keys)), None)


def _text_of_part(number: int, part: Any) -> str:
    """Return the text of one part of a content; images and other parts are refused."""
    if isinstance(part, str):
        return part
    given = {k: v for k, v in part.items() if v is not None} if isinstance(part, Mapping) else {}
    kind, text = given.pop("type", None), given.pop("text", None)
    if kind not in _TEXT_PARTS or given or not isinstance(text, str):
        what = next((k for k in (kind, *given) if k not in _TEXT_PARTS), kind_of(part))
        raise DataError(
            f"message {number}: a part of its content is {what!r}. Only text is supported; take "
            "the row out"
        )
    return text
