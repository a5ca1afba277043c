"""Checks of the settings of a server that must not hold a secret."""

from __future__ import annotations

import re
from urllib.parse import urlsplit


def server_address(url: str) -> str:
    """The base address of a server's API: without a slash at its end, by default under `/v1`.

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
        raise ValueError("give an address such as http://127.0.0.1:8000/v1")
    if parts.username is not None or parts.query or parts.fragment:
        # Settings are written to files, and messages show them.
        raise ValueError(
            "give the address alone, without a password or a query. Put a key into an environment "
            "variable, and name the variable in rollouts.server.api_key_env"
        )
    path = parts.path.rstrip("/") or "/v1"
    return f"{parts.scheme}://{parts.netloc}{path}"


def variable_name(name: str) -> str:
    """The name of an environment variable. Raises ValueError for anything else, such as a key."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("give the name of an environment variable, never the key itself")
    return name
