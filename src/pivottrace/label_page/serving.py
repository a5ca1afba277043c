"""The server of the labelling page: a port of this machine, and the link that lets people in."""

from __future__ import annotations

import socket
import webbrowser
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pivottrace.errors import ConfigError

DEFAULT_PORT = 8750
HOST = "127.0.0.1"
HIGHEST_PORT = 65535


def serve(folder: Path, port: int = DEFAULT_PORT, *, opens: bool = False) -> Iterator[str]:
    """Serve the page of a run until Ctrl-C; yields lines for the terminal.

    Args:
        folder: The run directory.
        port: A port of this machine; 0 takes a free one.
        opens: Whether the link is opened in the user's browser.

    Raises:
        ConfigError: The package lacks FastAPI or uvicorn, or the port is taken.
        RunDirError: The keys of the page cannot be kept, or a table is torn.
        DataError: The file of the labels is no label store.
    """
    try:
        import uvicorn

        from pivottrace.label_page.app import make_app
    except ImportError:
        raise ConfigError("label serve needs FastAPI: pip install 'pivottrace[page]'") from None
    from pivottrace.label_page.access import load_keys
    from pivottrace.label_page.desk import Desk

    with _listening(port) as listener:
        port, keys, desk = listener.getsockname()[1], load_keys(folder), Desk(folder)
        link = f"http://{HOST}:{port}/#{keys.token}"
        before = desk.num_answers_of_page()
        yield f"labelling page: {link}"
        yield "Whoever has this link on this machine may label. Ctrl-C stops the page"
        if opens:
            webbrowser.open(link)
        app = make_app(desk, keys, port, folder.resolve().name)
        settings = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,
        )
        with suppress(KeyboardInterrupt):  # the way to stop it
            uvicorn.Server(settings).run(sockets=[listener])
        number = desk.num_answers_of_page() - before
    yield f"stopped; answers of this session: {number:,}, all stored"


def _listening(port: int) -> socket.socket:
    # With its protocol named, asyncio sends small parts at once. Else the body of a reply waits for
    # the browser to confirm the head, some 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # A page that was just stopped may have left connections that end later.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"--port {port} cannot be used ({error.strerror}). Stop the program that has it, or "
            f"give another one, such as --port {min(port + 1, HIGHEST_PORT)}"
        ) from error
    return listener
