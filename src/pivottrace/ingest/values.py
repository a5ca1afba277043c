"""Conversion of a source's values to answer text, id text and extra JSON.

Each function returns the value or raises a `DataError` that states the problem and the cure. The
caller knows file, row and column, and puts them in front.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from pivottrace.errors import DataError
from pivottrace.verifier.gold import read_gold

# Above this number not every whole number is a float, so an integer's text would invent digits.
_EXACT_FLOAT = 2**53


def kind_of(value: Any) -> str:
    """Return the name of a value's type, for columns that must not mix types."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float, Decimal)):
        return "number"
    names: dict[type, str] = {str: "text", list: "list", dict: "object", bytes: "bytes"}
    return names.get(type(value), type(value).__name__)


def is_missing(value: Any) -> bool:
    """Return whether a value is null, or the NaN that dataframes use for null."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def to_answer(value: Any, pattern: str | None = None) -> str | None:
    """Return an answer as text; None if it is missing or blank.

    A text is read as `verifier.gold.read_gold` reads it, so a derivation gives None. 18 and 18.0
    give "18", and True gives "true". A list of one value gives that value.
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if is_missing(value):
        return None
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, (int, float, Decimal)):
        return number_text(value)
    if not isinstance(value, str):
        raise DataError(
            f"is {kind_of(value)}, but an answer is a text or a number. Map answer to another "
            "column, or write it as text"
        )
    return read_gold(valid_text(value), pattern).answer


def to_id(value: Any) -> str:
    """Return an id as text: 7 and 7.0 (7 in a dataframe) give "7", and " 7" stays " 7"."""
    if is_missing(value) or value == "" or (isinstance(value, str) and value.isspace()):
        raise DataError(
            "is empty. Give every row an id, or map id to nothing (--map id=) to have ids made "
            "from the prompts"
        )
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
        raise DataError(f"is {kind_of(value)}, but an id is a text or a number. Map id elsewhere")
    return valid_text(value) if isinstance(value, str) else number_text(value)


def number_text(value: int | float | Decimal) -> str:
    """Return the shortest text that reads back as the same number; whole numbers have no ".0"."""
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise DataError(f"is {value}, which is not a finite number. Correct it")
        text = f"{value:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, float):
        if not math.isfinite(value):
            raise DataError(f"is {value}, which is not a finite number. Correct it")
        if value.is_integer() and abs(value) <= _EXACT_FLOAT:
            return str(int(value))
        return repr(value)
    return str(value)


def valid_text(text: str) -> str:
    r"""Return the text; refuse half a surrogate pair ("\ud83d" alone), which is not Unicode."""
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise DataError(
                f"character {error.start + 1} is half a surrogate pair, not Unicode text. Take "
                "it out, or write the whole character"
            ) from None
    return text


def to_json(row: Mapping[str, Any]) -> str:
    """Return the values of a row as one JSON object.

    Dates and times become ISO 8601. Decimals and other types become text. Bytes become UTF-8, or
    else base64. NaN becomes null and an infinity "Infinity" or "-Infinity", because JSON has
    neither.
    """
    try:
        text = _ENCODER.encode(row)
    except ValueError:  # NaN or infinity is rare, so only such a row is walked through
        text = _ENCODER.encode(_finite(row))
    return valid_text(text)


def _plain(value: Any) -> Any:
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return base64.b64encode(value).decode("ascii")
    if hasattr(value, "tolist"):  # NumPy arrays and scalars
        return _finite(value.tolist())
    return str(value)


# The encoder is made once, because json.dumps with options makes one for every call.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_plain)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else f"{'-' if value < 0 else ''}Infinity"
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
