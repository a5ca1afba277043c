"""The access to the page: the link has a token, and a browser gets a cookie for it.

The keys lie in the run directory, so a server that starts again knows the browsers of before.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pivottrace.errors import RunDirError

KEYS = "label_page.json"
"""The file of the keys in a run directory. Only its owner can read it."""


@dataclass(frozen=True)
class Keys:
    """The keys of a run's page.

    Attributes:
        token: The token in the link. Whoever has it may label.
        secret: The key that signs cookies. It never leaves this machine.
    """

    token: str
    secret: str

    def new_cookie(self) -> str:
        """A signed name for a browser, different for each."""
        seat = secrets.token_urlsafe(16)
        return f"{seat}.{self._signed('seat', seat)}"

    def seat_of(self, cookie: str | None) -> str | None:
        """The browser's name in a cookie; None if these keys have not signed it."""
        seat, _, signature = (cookie or "").partition(".")
        return seat if same(signature, self._signed("seat", seat)) else None

    def header_for(self, seat: str) -> str:
        """The header that a browser's page sends with each request. No other site can send it."""
        return self._signed("header", seat)

    def _signed(self, purpose: str, text: str) -> str:
        message = f"{purpose}:{text}".encode()
        return hmac.new(self.secret.encode(), message, hashlib.sha256).hexdigest()


def same(one: str, other: str) -> bool:
    """Compare two secrets in a time that does not depend on where they differ."""
    return hmac.compare_digest(one.encode(), other.encode())


def load_keys(folder: Path) -> Keys:
    """Read the keys of a run's page, or make them.

    Raises:
        RunDirError: The file has no keys, or cannot be written.
    """
    path = folder / KEYS
    try:
        if not path.is_file():
            _make(path)
        stored = json.loads(path.read_text())
        return Keys(token=stored["token"], secret=stored["secret"])
    except OSError as error:
        raise RunDirError(f"{path}: the page's keys cannot be kept there ({error})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunDirError(
            f"{path} has no keys of the labelling page. Remove it: the same command then makes new "
            f"ones, and prints another link"
        ) from error


def _make(path: Path) -> None:
    """Write new keys whole, unless another process is faster. Then its keys count."""
    text = json.dumps({"token": secrets.token_urlsafe(24), "secret": secrets.token_urlsafe(32)})
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with suppress(FileNotFoundError):
        beside.unlink()
    with os.fdopen(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    with suppress(FileExistsError):
        os.link(beside, path)
    beside.unlink()
