"""The requests of the labelling page. Each of them says what the page shows next."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, unquote

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, PackageLoader
from pydantic import BaseModel, Field

from pivottrace.errors import PivotTraceError, RunBusyError
from pivottrace.label_page.access import Keys, same
from pivottrace.label_page.cards import Reading, Screen
from pivottrace.label_page.desk import Desk, NotReadError
from pivottrace.label_page.guard import Guard, cookie_names, read_cookie
from pivottrace.label_page.screens import Person
from pivottrace.report.texts import clean

MOST_CHARS = 10_000
"""Characters of a text that a request may have."""
MOST_NAME = 80
YEAR_S = 365 * 24 * 3600
Text = Annotated[str, Field(max_length=MOST_CHARS)]


class Token(BaseModel):
    """The token of the link."""

    token: Text


class Name(BaseModel):
    """The name of a person."""

    name: Annotated[str, Field(max_length=MOST_NAME)]


class OfQuestion(BaseModel):
    """A request about a question. A comment is stored before anything else is done."""

    id: Text
    comment: Text = ""


class OfAnswer(OfQuestion):
    """A request about a stored answer, by its number."""

    number: int


class Typed(OfQuestion):
    """An answer as it was typed. With `confirmed`, one may look like a slip.

    `number` is that of a stored answer which settles a conflict as it stands.
    """

    text: Text
    confirmed: bool = False
    number: int | None = None


def make_app(desk: Desk, keys: Keys, port: int, title: str) -> FastAPI:
    """The application of the page, behind its guard.

    Args:
        desk: The run's desk.
        keys: The keys of the page.
        port: The port on this machine. Another port in the request's host is refused.
        title: The name of the run, for the page.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    session_cookie, name_cookie = cookie_names(port)
    hosts = frozenset(f"{name}:{port}" for name in ("127.0.0.1", "localhost"))
    app.add_middleware(Guard, hosts=hosts, keys=keys, cookie=session_cookie)
    static = Path(str(files("pivottrace.label_page") / "static"))
    app.mount("/static", StaticFiles(directory=static), name="static")
    pages = Environment(loader=PackageLoader("pivottrace.label_page"), autoescape=True)

    def name_in(request: Request) -> str:
        return unquote(read_cookie(request.headers, name_cookie) or "").strip()

    def person_in(request: Request) -> Person:
        name = name_in(request)
        if not name:
            raise HTTPException(409, "Give your name first")
        return Person(request.state.seat, name)

    By = Annotated[Person, Depends(person_in)]

    def remember(response: Response, name: str, value: str) -> None:
        response.set_cookie(name, value, max_age=YEAR_S, path="/", httponly=True, samesite="strict")

    def noted(person: Person, body: OfQuestion) -> None:
        if body.comment.strip():
            desk.comment(person, body.id, body.comment)

    @app.get("/", response_class=HTMLResponse)
    def page(request: Request) -> HTMLResponse:
        seat = request.state.seat
        if seat is None:
            return HTMLResponse(pages.get_template("enter.html").render(), 401)
        header, name = keys.header_for(seat), clean(name_in(request))
        filled = pages.get_template("page.html").render(header=header, name=name, title=title)
        return HTMLResponse(filled)

    @app.post("/session")
    def enter(body: Token, response: Response) -> None:
        if not same(body.token, keys.token):
            raise HTTPException(401, "This link is of another run, or of an older server")
        remember(response, session_cookie, keys.new_cookie())

    @app.post("/name")
    def give_name(body: Name, response: Response) -> None:
        name = clean(" ".join(body.name.split()))
        if not name:
            raise HTTPException(409, "Write a name, so that answers have one")
        remember(response, name_cookie, quote(name))

    @app.post("/next")
    def next_screen(person: By) -> Screen:
        return desk.screen(person)

    @app.post("/hold")
    def hold(person: By) -> None:
        desk.hold(person)

    @app.post("/leave")
    def leave(person: By) -> None:
        desk.leave(person)

    @app.post("/read")
    def read(body: Typed, person: By) -> Reading:
        return desk.read(body.id, body.text)

    @app.post("/answer")
    def answer(body: Typed, person: By) -> Screen:
        noted(person, body)
        return desk.answer(person, body.id, body.text, confirmed=body.confirmed)

    @app.post("/settle")
    def settle(body: Typed, person: By) -> Screen:
        noted(person, body)
        return desk.settle(person, body.id, body.text, confirmed=body.confirmed, number=body.number)

    @app.post("/skip")
    def skip(body: OfQuestion, person: By) -> Screen:
        noted(person, body)
        return desk.skip(person, body.id)

    @app.post("/undo")
    def undo(body: OfAnswer, person: By) -> Screen:
        return desk.undo(person, body.id, body.number)

    @app.post("/vote")
    def vote(body: OfQuestion, person: By) -> dict[str, str]:
        return {"vote": desk.vote(person, body.id)}

    @app.exception_handler(PivotTraceError)
    def refused(request: Request, error: PivotTraceError) -> JSONResponse:
        """An error in words, and whether to confirm (422) or to try again soon (423)."""
        status = 422 if isinstance(error, NotReadError) else 409
        status = 423 if isinstance(error, RunBusyError) else status
        return JSONResponse({"detail": clean(str(error))}, status)

    @app.exception_handler(RequestValidationError)
    def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        """The error of a text that is too long or no text. It does not repeat the text."""
        where = " ".join(map(str, error.errors()[0]["loc"]))
        return JSONResponse({"detail": f"The page cannot use this ({clean(where)})"}, 400)

    return app
