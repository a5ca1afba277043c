"""Requests to a server: many at once, repeated while the server is away, answered whole or not."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2

from pivottrace.config import ServerConfig
from pivottrace.config.server_address import is_this_machine, key_in
from pivottrace.errors import ConfigError, ModelError, first_line

FIRST_PAUSE_S = 1.0
"""Pause before the first repetition of a request; each further pause is twice as long."""
LONGEST_PAUSE_S = 15.0
CONNECT_S = 10.0  # for a connection alone; the server accepts it before it computes anything
BUSY = {408, 425, 429}  # beside 5xx: the server asks to come again
MOST_WORDS = 400  # characters of a server's own message that ours quotes

Body = Mapping[str, Any]
T = TypeVar("T")


class UnfinishedReply(Exception):
    """A reply that was cut short by the server, so that the request has to be repeated."""


class ServerClient:
    """A server under one address.

    Args:
        server: The settings of `rollouts.server`.

    Attributes:
        url: The address.
        outages: How often a request failed and was repeated with success. A server that was away
            may have come back with another model.

    Raises:
        ConfigError: The settings give no address, or the name of a variable that holds no key.
    """

    def __init__(self, server: ServerConfig) -> None:
        if server.url is None:
            raise ConfigError(
                "rollouts.server.url is not set. Give the address of the server, such as "
                "http://127.0.0.1:8000/v1, or set rollouts.backend to transformers."
            )
        self.server, self.url, self.outages = server, server.url, 0
        self._key = _key(server)
        self._is_waiting = False

    def get(self, path: str) -> Any:
        """The reply to a GET request, as JSON.

        Args:
            path: The path after the address. One that begins with two slashes stands at the root of
                the host.

        Raises:
            ConfigError: The server refuses the request.
            ModelError: The server stays away.
        """
        return _run(lambda: self._all("GET", path, [{}], _as_it_is))[0]

    def post_all(self, path: str, bodies: Sequence[Body], read: Callable[[int, Any], T]) -> list[T]:
        """Post every body, at most `concurrency` at once.

        Args:
            path: As in `get`.
            bodies: (N,) the requests, as JSON.
            read: A function of a request's index and of its reply. If it raises
                `UnfinishedReply`, the request is sent again. Any other error ends all requests.

        Returns:
            (N,) what `read` gave for each reply.

        Raises:
            ConfigError: The server refuses a request.
            ModelError: The server stays away, or `read` refuses a reply.
        """
        return _run(lambda: self._all("POST", path, bodies, read))

    async def _all(
        self, method: str, path: str, bodies: Sequence[Body], read: Callable[[int, Any], T]
    ) -> list[T]:
        room = asyncio.Semaphore(self.server.concurrency)
        try:
            async with self._open() as http, asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._one(http, room, method, path, body, index, read))
                    for index, body in enumerate(bodies)
                ]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors.exceptions[0].__cause__
        return [task.result() for task in tasks]

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[httpx2.AsyncClient]:
        limit = self.server.concurrency
        async with httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx2.Timeout(self.server.timeout_s, connect=CONNECT_S, pool=None),
            limits=httpx2.Limits(max_connections=limit, max_keepalive_connections=limit),
            # A proxy of the environment cannot reach this machine's own addresses.
            trust_env=not is_this_machine(self.url),
        ) as http:
            yield http

    async def _one(
        self,
        http: httpx2.AsyncClient,
        room: asyncio.Semaphore,
        method: str,
        path: str,
        body: Body,
        index: int,
        read: Callable[[int, Any], T],
    ) -> T:
        """Send one request until it is answered whole."""
        async with room:
            first_failure, pause = None, FIRST_PAUSE_S
            while True:
                try:
                    reply = await self._send(http, method, path, body)
                    result = read(index, reply)
                except (_Away, UnfinishedReply) as away:
                    now = time.monotonic()
                    first_failure = first_failure or now
                    left = first_failure + self.server.wait_s - now
                    if left <= 0:
                        raise self._gave_up(str(away)) from away
                    self._say_waiting(str(away))
                    asked_for = away.pause_s if isinstance(away, _Away) else None
                    # Pauses differ, so that requests do not come back all at once.
                    wanted = asked_for or pause * random.uniform(0.5, 1.0)
                    await asyncio.sleep(min(wanted, LONGEST_PAUSE_S, left))
                    pause = min(2 * pause, LONGEST_PAUSE_S)
                    continue
                if first_failure is not None:
                    self.outages += 1
                self._say_back()
                return result

    async def _send(self, http: httpx2.AsyncClient, method: str, path: str, body: Body) -> Any:
        url = self._url(path)
        try:
            response = await http.request(method, url, json=body if method == "POST" else None)
        except httpx2.TimeoutException as error:
            kind = "connection" if isinstance(error, httpx2.ConnectTimeout) else "reply"
            seconds = CONNECT_S if kind == "connection" else self.server.timeout_s
            raise _Away(f"no {kind} within {seconds:g} s") from error
        except httpx2.RequestError as error:
            raise _Away(self._scrubbed(first_line(error))) from error
        status = response.status_code
        if status in BUSY or status >= 500:
            words = f"HTTP {status}: {self._words(response)}"
            raise _Away(words, _retry_after(response))
        if status != 200:
            raise self._refusal(url, status, self._words(response))
        try:
            return response.json()
        except ValueError:
            raise ConfigError(
                f"rollouts.server.url = {self.url!r}: {url} answers, but not with JSON. "
                f"Give the address of a server with the API of OpenAI, usually ending in /v1."
            ) from None

    def _url(self, path: str) -> str:
        if path.startswith("//"):
            parts = urlsplit(self.url)
            return f"{parts.scheme}://{parts.netloc}{path[1:]}"
        return self.url + path

    def _refusal(self, url: str, status: int, words: str) -> ConfigError:
        cure = "Correct [rollouts.server], or start the server with the options that it lacks."
        if status in (401, 403):
            named = self.server.api_key_env
            cure = (
                f"Put the server's key into the environment variable {named}."
                if named
                else "Name the environment variable that holds the server's key in "
                "rollouts.server.api_key_env."
            )
        elif status == 404 or 300 <= status < 400:
            cure = "Correct rollouts.server.url (it usually ends in /v1) or rollouts.server.model."
        return ConfigError(f"{url} refuses the request (HTTP {status}: {words}). {cure}")

    def _words(self, response: httpx2.Response) -> str:
        """The server's own message, in one line and without the key."""
        try:
            found = response.json()
        except ValueError:
            found = response.text
        while isinstance(found, dict):
            named = (found[key] for key in ("error", "message", "detail") if found.get(key))
            found = next(named, response.text)
        words = self._scrubbed(" ".join(str(found).split()))
        return words[:MOST_WORDS] or "no message"

    def _scrubbed(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text

    def _gave_up(self, why: str) -> ModelError:
        waited = self.server.wait_s
        if not waited:
            return ModelError(
                f"{self.url}: the server does not answer ({why}). Start it, or correct "
                f"rollouts.server.url."
            )
        return ModelError(
            f"{self.url}: the server did not answer for {waited:g} s ({why}). Start it and "
            f"run the same command again: finished parts are kept. rollouts.server.wait_s sets how "
            f"long we wait."
        )

    def _say_waiting(self, why: str) -> None:
        if not self._is_waiting:
            self._is_waiting = True
            print(
                f"waiting for {self.url}: {why}; requests are repeated for up to "
                f"{self.server.wait_s:g} s",
                file=sys.stderr,
                flush=True,
            )

    def _say_back(self) -> None:
        if self._is_waiting:
            self._is_waiting = False
            print(f"{self.url} answers again", file=sys.stderr, flush=True)


class _Away(Exception):
    """The server cannot be reached, or asks to come again.

    Attributes:
        pause_s: The pause that the server asks for; None if it names none.
    """

    def __init__(self, why: str, pause_s: float | None = None) -> None:
        super().__init__(why)
        self.pause_s = pause_s


def _as_it_is(index: int, reply: Any) -> Any:
    return reply


def _key(server: ServerConfig) -> str | None:
    """The key of the server, from the environment; None where the settings name none."""
    if server.api_key_env is None:
        return None
    try:
        return key_in(server.api_key_env)
    except ValueError as error:
        raise ConfigError(
            f"rollouts.server.api_key_env = {server.api_key_env!r}: this environment variable "
            f"{error}."
        ) from None


def _retry_after(response: httpx2.Response) -> float | None:
    """The seconds in the header Retry-After; None if it has a date or nothing."""
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdecimal() and int(value) else None


def _run(start: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end, in a thread of its own where this one has a loop (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(start())
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(asyncio.run(start()))
        except BaseException as error:  # it is raised again by the caller's thread
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
