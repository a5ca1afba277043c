"""Whether the Hub can be reached, found out once and within seconds.

The Hub's own libraries repeat a failed request, with pauses, and ask again for each file. So on a
machine without a network even a model in the cache takes minutes. Here a bare connection is tried
first. It is given as long as the libraries give one request, so a slow network is fast enough.
"""

from __future__ import annotations

import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cache
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from huggingface_hub import constants

PATIENCE_S = 10.0
# A name server that is busy fails at once. So there is a second try, after this pause.
PAUSE_S = 2.0
CURE = (
    "Give a local file or folder. For a network behind a proxy, set HTTPS_PROXY. Without a "
    "network, copy the cache (HF_HOME) of a machine that has it, and set HF_HUB_OFFLINE=1; to ask "
    "the Hub again, unset it"
)


def unreachable() -> str | None:
    """Why the Hub cannot be asked, for messages; None if it can."""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    return _no_connection(constants.ENDPOINT)


@cache
def tell_of_cache(name: str, why: str) -> None:
    """Say once that a copy is used, perhaps an old one."""
    print(f"note: {why}; the copy of {name} in the Hub's cache is used", file=sys.stderr)


@cache
def _no_connection(endpoint: str) -> str | None:
    """Why no connection to an address, or to the proxy before it, can be opened."""
    target = urlsplit(endpoint)
    proxies = {} if proxy_bypass(target.hostname or "") else getproxies()
    proxy = proxies.get(target.scheme) or proxies.get("all")
    door = target if proxy is None else urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    host, port = door.hostname or "", door.port or {"https": 443, "http": 80}.get(door.scheme, 1080)
    problem = _problem(host, port)
    if problem is not None:
        time.sleep(PAUSE_S)
        problem = _problem(host, port)
    if problem is None:
        return None
    through = "" if proxy is None else f" through the proxy {host}:{port}"
    return f"{endpoint} cannot be reached{through} ({problem})"


def _problem(host: str, port: int) -> str | None:
    """Why no address of a host takes a connection; None if one does."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return error.strerror or str(error)
    # At once, because addresses of one kind may not work on this network (IPv6).
    pool = ThreadPoolExecutor(len(addresses))
    tries = [pool.submit(_connect, family, address) for family, _, _, _, address in addresses]
    pool.shutdown(wait=False)
    problem = None
    for each in as_completed(tries):
        problem = each.result()
        if problem is None:
            break
    return problem


def _connect(family: int, address: Any) -> str | None:
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(PATIENCE_S)
        try:
            connection.connect(address)
        except OSError as error:
            return error.strerror or str(error)
    return None
