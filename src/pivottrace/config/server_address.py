"""Checks of a server's address and key: an address holds no secret, and a key stands in no file."""

from __future__ import annotations

import ipaddress
import os
import re
from urllib.parse import urlsplit


def server_address(url: str) -> str:
    """The base address of a server's API: without a slash at its end, by default under `/v1`.

    Raises:
        ValueError: It is no http address, or it holds a password or a query.
    """
    address = plain_address(
        url,
        "http://127.0.0.1:8000/v1",
        "Put a key into an environment variable, and name the variable in "
        "rollouts.server.api_key_env",
    )
    return address if urlsplit(address).path else f"{address}/v1"


def plain_address(url: str, example: str, for_key: str) -> str:
    """An http address without a slash at its end.

    Args:
        url: The text of the user.
        example: An address, for the message.
        for_key: A sentence that says where a key goes, for the message.

    Raises:
        ValueError: It is no http address, or it holds a password or a query.
    """
    try:
        parts = urlsplit(url.strip())
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port  # it raises ValueError for a wrong one
    except ValueError:
        is_address = False
    if not is_address:
        raise ValueError(f"give an address such as {example}")
    if parts.username is not None or parts.query or parts.fragment:
        # Settings are written to files, and messages show them.
        raise ValueError(f"give the address alone, without a password or a query. {for_key}")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def is_this_machine(url: str) -> bool:
    """Whether an address is one of this machine's own, which no proxy reaches."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def variable_name(name: str) -> str:
    """The name of an environment variable. Raises ValueError for anything else, such as a key."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("give the name of an environment variable, never the key itself")
    return name


def key_in(variable: str) -> str:
    """The key that an environment variable holds. No message shows it.

    Raises:
        ValueError: The variable is not set, or holds no key.
    """
    key = os.environ.get(variable, "").strip()
    # A header takes visible ASCII; the message of the library would show the key.
    if not key or not key.isascii() or not key.isprintable():
        what = "is not set" if not key else "holds no key (a key is plain text in one line)"
        raise ValueError(f"{what}. Set it in the shell that runs pivottrace")
    return key
