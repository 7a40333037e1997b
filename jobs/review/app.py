"""The page itself: addresses, and what each answers.

Invariant: an address holds nothing but the number of a pair in its reviewer's order and the name of one of its pictures;
templates and assets are read once, when the application is made.
"""

import hashlib
import importlib.metadata
import importlib.resources
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from jobs.review.choose import ReviewPair
from jobs.review.guard import Guard, Session, SessionStore
from jobs.review.pictures import PARTS, Pictures
from jobs.review.verdict_store import VerdictStore
from storage.samples import DamagedShardError

NAME_LENGTH = 40
ASSETS = {"page.css": "text/css", "page.js": "text/javascript", "enter.js": "text/javascript"}


def page_version() -> str:
    """Names the version of the page in every verdict: of the package, and of what the browser is sent."""
    folder = importlib.resources.files("jobs.review")
    files = sorted(
        (each for part in ("assets", "templates") for each in (folder / part).iterdir()), key=lambda f: f.name
    )
    digest = hashlib.sha256(b"\0".join(each.read_bytes() for each in files)).hexdigest()[:8]
    return f"{importlib.metadata.version('ganlab')}+{digest}"


def make_app(
    verdicts: VerdictStore,
    pictures: Pictures,
    sessions: SessionStore,
    labels: Mapping[str, str],
    *,
    title: str,
    cookie: str,
    hosts: tuple[str, ...],
    any_address: bool = False,
    reviewer: str = "",
) -> Any:
    """Make the ASGI application.

    Parameters
    ----------
    labels
        Each trial in words.
    title
        Name of the sweep.
    cookie
        Name of the session's cookie: browsers send cookies to every port of a host, so it holds the port.
    hosts, any_address
        Names that the page answers to, and whether to any address too.
    reviewer
        Name that links let a browser in under; else it is asked for.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("jobs.review"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages = {name: environment.get_template(f"{name}.html.j2") for name in ("enter", "name", "review", "pair")}
    folder = importlib.resources.files("jobs.review") / "assets"
    assets = {name: (folder / name).read_bytes() for name in ASSETS}
    blind = verdicts.choice.blind

    def session(request: Request) -> Session:
        found: Session = request.scope["state"]["session"]
        return found

    def page(which: str, status: int = 200, /, **values: Any) -> HTMLResponse:
        content = pages[which].render(title=title, blind=blind, **values)
        return HTMLResponse(content, status, headers={"cache-control": "no-store"})

    def pair_values(name: str, number: int, verdict: str) -> dict[str, Any]:
        shown = verdicts.shown(name, number)
        return {
            "pair": shown,
            "number": number,
            "verdict": verdict,
            "label": labels.get(shown.trial, shown.trial),
            "threshold": verdicts.choice.threshold,
            "shape": pictures.shape,
            "parts": _parts_of(shown, blind),
        }

    async def enter(request: Request) -> Response:
        if request.method == "GET":
            return page("enter")
        secret = (await _form(request)).get("secret", "").strip()
        admitted = sessions.admit(secret, reviewer)
        if admitted is None:
            return PlainTextResponse("this link was used before, or the token is not right\n", 401)
        answer = Response(status_code=204)
        answer.set_cookie(cookie, admitted, httponly=True, samesite="strict", path="/")
        return answer

    async def name(request: Request) -> Response:
        given = " ".join((await _form(request)).get("name", "").split())
        if not 1 <= len(given) <= NAME_LENGTH or not given.isprintable():
            return page("name", 400, name=given[:NAME_LENGTH], problem=f"A name has 1 to {NAME_LENGTH} letters.")
        session(request).reviewer = given
        return RedirectResponse("/", 303)

    async def index(request: Request) -> Response:
        who = session(request).reviewer
        if not who or "rename" in request.query_params:
            return page("name", name=who, problem="")

        def render() -> Response:
            verdicts.refresh()
            given = verdicts.verdicts(who)
            number = next((place for place, verdict in enumerate(given) if not verdict), len(given))
            first = pair_values(who, number, "") if number < len(given) else None
            codes = "".join(verdict[:2] or "--" for verdict in given)
            return page(
                "review",
                reviewer=who,
                number=number,
                first=first,
                verdicts=codes,
                choice=verdicts.choice,
                sizes=[len(part.pairs) for part in verdicts.choice.parts],
            )

        return await run_in_threadpool(render)

    async def pair(request: Request) -> Response:
        who, number = session(request).reviewer, request.path_params["number"]
        try:
            return page("pair", **pair_values(who, number, ""))
        except ValueError as error:
            return PlainTextResponse(f"{error}\n", 404)

    async def picture(request: Request) -> Response:
        who, part = session(request).reviewer, request.path_params["part"]
        try:
            shown = verdicts.shown(who, request.path_params["number"])
            if part not in _parts_of(shown, blind):
                raise ValueError(f"no picture {part!r} of this pair")
            content = await run_in_threadpool(pictures.png, shown, part)
        except ValueError as error:
            return PlainTextResponse(f"{error}\n", 404)
        except DamagedShardError as error:
            return PlainTextResponse(f"{error}\n", 500)
        # Not kept by the browser: under another name the same number is another pair.
        return Response(content, media_type="image/png", headers={"cache-control": "no-store"})

    async def decide(request: Request) -> Response:
        who, form = session(request).reviewer, await _form(request)
        if not who or form.get("choice") != verdicts.choice.fingerprint or form.get("reviewer") != who:
            return PlainTextResponse("this page is of another review or reviewer: load it again\n", 409)
        label = form.get("id", "")
        if not 8 <= len(label) <= 64 or not label.isalnum() or not label.isascii():
            return PlainTextResponse("id: allowed are 8 to 64 letters and digits\n", 400)
        try:
            if "verdict" in form:
                number = int(form.get("number", ""))
                await run_in_threadpool(verdicts.record, who, number, form["verdict"], label)
                return JSONResponse({"number": number})
            return JSONResponse({"number": await run_in_threadpool(verdicts.undo, who, label)})
        except ValueError as error:
            return PlainTextResponse(f"{error}\n", 400)
        except OSError as error:
            return PlainTextResponse(f"not saved: {error.strerror}\n", 507)

    async def invite(request: Request) -> Response:
        return PlainTextResponse(f"http://{request.headers['host']}/enter#{sessions.link()}\n")

    async def asset(request: Request) -> Response:
        name = request.url.path[1:]
        return Response(assets[name], media_type=ASSETS[name], headers={"cache-control": "no-cache"})

    routes = [
        Route("/enter", enter, methods=["GET", "POST"]),
        Route("/name", name, methods=["POST"]),
        Route("/", index),
        Route("/pair/{number:int}", pair),
        Route("/pair/{number:int}/{part}.png", picture),
        Route("/verdict", decide, methods=["POST"]),
        Route("/undo", decide, methods=["POST"]),
        Route("/invite", invite, methods=["POST"]),
        *(Route(f"/{each}", asset) for each in ASSETS),
    ]
    return Guard(Starlette(routes=routes), sessions, cookie, hosts, any_address)


def _parts_of(shown: ReviewPair, blind: bool) -> tuple[str, ...]:
    """The pictures of a pair; blindly, its nearest training images would tell real pairs from generated ones."""
    return PARTS[:3] if blind or not shown.nearest else PARTS


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form; of several with one name, the first."""
    try:
        fields = parse_qs((await request.body()).decode(), max_num_fields=10, keep_blank_values=True)
    except ValueError:
        return {}
    return {key: values[0] for key, values in fields.items()}
