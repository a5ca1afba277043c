"""Label Studio over its HTTP API: projects, tasks and people.

Reading is repeated when the server is away for a moment. Writing is not, because the server may
have done it before it failed: the next push compares first and adds only what lacks. The tasks are
read by `/api/tasks`, because each call of `/export` leaves two files on the server. The facts are
of Label Studio 1.23.2.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import httpx2

from pivottrace.config.server_address import is_this_machine, key_in, plain_address
from pivottrace.errors import ConfigError, ServerError, first_line
from pivottrace.labels.label_studio import MODEL_VERSION, Task

URL, KEY = "LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"
"""The environment variables that the address and the key come from."""
TIMEOUT_S = 300.0  # for a reply; an import of a thousand tasks takes seconds
CONNECT_S = 10.0
PAUSES_S = (1.0, 3.0)  # before the second and the third time that something is read
BUSY = {408, 425, 429}  # beside 5xx: the server asks to come again
PAGE = 200  # tasks that are read at once
BATCH = 200  # tasks that are imported at once
MOST_WORDS = 400  # characters of a server's own message that ours quotes
# A personal access token is a JWT: three parts of base64. A legacy token is one word without dots.
_PERSONAL = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+")


class LabelStudio:
    """A server of Label Studio, and the key of one of its users; used in a `with` statement.

    Attributes:
        url: Its address, without a slash at its end.

    Args:
        url: The address; None takes it from the environment.

    Raises:
        ConfigError: The address or the key is missing, or is none.
    """

    def __init__(self, url: str | None = None) -> None:
        self.url = _address(url)
        self._key = _key()
        self._authorization = f"Token {self._key}"
        self._access: str | None = None
        if not self.url.startswith("https:") and not is_this_machine(self.url):
            print(
                f"note: {self.url} is http, so the key and all answers travel in the clear. Give "
                f"an https address if the server has one",
                file=sys.stderr,
            )
        self._http = httpx2.Client(
            timeout=httpx2.Timeout(TIMEOUT_S, connect=CONNECT_S),
            # A proxy of the environment cannot reach this machine's own addresses.
            trust_env=not is_this_machine(self.url),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._http.close()

    def project(self, number: int) -> dict[str, Any]:
        """The settings of a project. Raises ConfigError: there is none of this number."""
        return self._read(f"/api/projects/{number}/")

    def project_with(self, mark: str) -> int | None:
        """The number of the project whose description has a mark; None if no project has it."""
        fields = {"include": "id,description"}
        for found in self._pages("/api/projects/", "results", "count", fields):
            if mark in (found.get("description") or ""):
                return int(found["id"])
        return None

    def create_project(self, settings: Mapping[str, Any]) -> int:
        """Make a project, and return its number."""
        return int(self._entry(self._write("/api/projects/", settings), "id"))

    def tasks(self, number: int) -> list[Task]:
        """All tasks of a project with their annotations, in the order of their numbers."""
        # Without resolve_uri a text that begins like the address of a file would be replaced.
        fields = {"project": number, "fields": "all", "resolve_uri": "false"}
        return list(self._pages("/api/tasks/", "tasks", "total", fields))

    def import_tasks(self, number: int, tasks: Sequence[Task]) -> None:
        """Add tasks to a project. If this fails, some of them may have been added."""
        for start in range(0, len(tasks), BATCH):
            self._write(f"/api/projects/{number}/import", list(tasks[start : start + BATCH]))

    def predict(self, task: int, score: float) -> None:
        """Give a task that has none its score."""
        body = {"task": task, "model_version": MODEL_VERSION, "score": score, "result": []}
        self._write("/api/predictions/", body)

    def change_score(self, prediction: int, score: float) -> None:
        """Give a prediction another score."""
        self._send("PATCH", f"/api/predictions/{prediction}/", body={"score": score})

    def people(self) -> dict[int, str]:
        """The e-mail addresses of the users, by number."""
        return {user["id"]: user["email"] for user in self._read("/api/users/")}

    def _pages(
        self, path: str, key: str, total: str, query: Mapping[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """Yield the entries of a list that comes in pages."""
        page, seen, wanted = 0, 0, 1
        while seen < wanted:
            page += 1
            reply = self._read(path, {**query, "page": page, "page_size": PAGE})
            entries, wanted = self._entry(reply, key), self._entry(reply, total)
            if not entries:
                return
            seen += len(entries)
            yield from entries

    def _read(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        for pause in PAUSES_S:
            try:
                return self._send("GET", path, query=query)
            except ServerError:
                time.sleep(pause)
        return self._send("GET", path, query=query)

    def _write(self, path: str, body: Any) -> Any:
        return self._send("POST", path, body=body)

    def _send(
        self, method: str, path: str, query: Mapping[str, Any] | None = None, body: Any = None
    ) -> Any:
        """The reply to a request, as JSON. An access token that has run out is renewed once."""
        is_personal = _PERSONAL.fullmatch(self._key) is not None
        if is_personal and self._access is None:
            self._renew()
        response = self._request(method, path, query, body)
        if response.status_code == 401 and is_personal:
            self._renew()
            response = self._request(method, path, query, body)
        return self._checked(response)

    def _renew(self) -> None:
        """Exchange the personal access token for a token that lasts five minutes."""
        response = self._request("POST", "/api/token/refresh/", None, {"refresh": self._key})
        self._access = str(self._entry(self._checked(response), "access"))
        self._authorization = f"Bearer {self._access}"

    def _request(
        self, method: str, path: str, query: Mapping[str, Any] | None, body: Any
    ) -> httpx2.Response:
        headers = {"Authorization": self._authorization} if "token/refresh" not in path else {}
        try:
            return self._http.request(
                method, self.url + path, params=query, json=body, headers=headers
            )
        except httpx2.RequestError as error:
            raise ServerError(
                f"{self.url}: Label Studio does not answer ({first_line(error)}). Start it, or "
                f"correct --url or {URL}, and give the same command again"
            ) from error

    def _checked(self, response: httpx2.Response) -> Any:
        """The content of a reply.

        Raises:
            ConfigError: The key, the address or the project is wrong.
            ServerError: The server fails.
        """
        status, words = response.status_code, self._words(response)
        if status in BUSY or status >= 500:
            raise ServerError(
                f"{self.url}: Label Studio failed (HTTP {status}: {words}). Give the same command "
                f"again when it is well: nothing is lost, and nothing comes twice"
            )
        if status in (401, 403):
            raise ConfigError(
                f"{self.url} refuses the key (HTTP {status}: {words}). Put a token of yours into "
                f"{KEY}: a personal access token or a legacy token, from Account & Settings"
            )
        if status == 404:
            raise ConfigError(
                f"{response.url.copy_with(query=None)}: {words} (HTTP 404). Correct --url, or give "
                f"a project of yours with --project N"
            )
        if 300 <= status < 400:
            raise ConfigError(
                f"{self.url} sends us on to {response.headers.get('location')}. Give the address "
                f"of Label Studio there with --url"
            )
        if status >= 400:
            raise ConfigError(f"{self.url} refuses the request (HTTP {status}: {words})")
        try:
            return response.json()
        except ValueError:
            raise self._no_label_studio() from None

    def _entry(self, reply: Any, name: str) -> Any:
        """An entry of a reply. Raises ConfigError: another kind of server has answered."""
        if not isinstance(reply, dict) or name not in reply:
            raise self._no_label_studio()
        return reply[name]

    def _no_label_studio(self) -> ConfigError:
        return ConfigError(
            f"{self.url} answers, but not as Label Studio does. Correct --url or {URL}"
        )

    def _words(self, response: httpx2.Response) -> str:
        """The server's own message, in one line and without the key."""
        try:
            found = response.json()
        except ValueError:
            found = {}
        if not isinstance(found, dict):
            return "no message"
        faults = found.get("validation_errors")
        words = f"{found.get('detail', '')} {json.dumps(faults) if faults else ''}".strip()
        for secret in (self._key, self._access):
            words = words.replace(secret, "***") if secret else words
        return words[:MOST_WORDS] or "no message"


def _address(url: str | None) -> str:
    text = url or os.environ.get(URL, "")
    try:
        return plain_address(text, "http://127.0.0.1:8080", f"Put the key into {KEY}")
    except ValueError as error:
        named = "--url" if url else URL
        raise ConfigError(f"{named} = {text!r}: {error}") from None


def _key() -> str:
    try:
        return key_in(KEY)
    except ValueError as error:
        raise ConfigError(
            f"the environment variable {KEY} {error}. A token is in Label Studio under Account & "
            f"Settings"
        ) from None
