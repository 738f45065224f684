"""Which page is at which address."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from mainspring.console.rendering import View, static_files
from mainspring.console.responses import FOREVER, SecurityHeaders, answer, answer_problem, wants_json
from mainspring.console.views import endpoints, events, models, monitors, overview, predictions, runs, search, tracking
from mainspring.core import MainspringError, NotFound
from mainspring.lineage import Store

MIDDLEWARE = [Middleware(SecurityHeaders), Middleware(GZipMiddleware, minimum_size=1024)]
_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class Page:
    """An address, the template of its HTML, and the function that makes what it shows."""

    path: str
    template: str
    view: Callable[[Store, Request], View]


PAGES = (
    Page("/", "overview.html", lambda store, _: overview.show_overview(store)),
    Page("/runs", "runs.html", lambda store, _: runs.show_runs(store)),
    Page("/runs/{id}", "run.html", lambda store, at: runs.show_run(store, _path(at, "id"), task=_query(at, "task"))),
    Page("/experiments", "experiments.html", lambda store, _: tracking.show_experiments(store)),
    Page(
        "/experiments/{id}",
        "experiment.html",
        lambda store, at: tracking.show_experiment(store, _path(at, "id"), filter=_query(at, "filter")),
    ),
    Page("/tracking/{id}", "tracking_run.html", lambda store, at: tracking.show_tracking_run(store, _path(at, "id"))),
    Page("/models", "models.html", lambda store, _: models.show_models(store)),
    Page("/models/{name}", "model.html", lambda store, at: models.show_model(store, _path(at, "name"))),
    Page(
        "/models/{name}/{version}",
        "version.html",
        lambda store, at: models.show_version(store, _path(at, "name"), _path(at, "version")),
    ),
    Page("/endpoints", "endpoints.html", lambda store, _: endpoints.show_endpoints(store)),
    Page("/endpoints/{name}", "endpoint.html", lambda store, at: endpoints.show_endpoint(store, _path(at, "name"))),
    Page("/monitors", "monitors.html", lambda store, _: monitors.show_monitors(store)),
    Page("/monitors/{name}", "monitor.html", lambda store, at: monitors.show_monitor(store, _path(at, "name"))),
    Page(
        "/monitors/{name}/{window}",
        "window.html",
        lambda store, at: monitors.show_window(store, _path(at, "name"), _path(at, "window")),
    ),
    Page(
        "/events",
        "events.html",
        lambda store, at: events.show_events(
            store, type=_query(at, "type"), cause=_query(at, "cause"), before=_whole(at, "before")
        ),
    ),
    Page("/predictions/{id}/why", "why.html", lambda store, at: predictions.explain(store, _path(at, "id"))),
    Page("/predictions/{id}", "prediction.html", lambda store, at: predictions.show_prediction(store, _path(at, "id"))),
)


def routes(store: Store) -> list[BaseRoute]:
    """Return the routes of the console; the last answers every address of a browser that nobody else did."""
    made: list[BaseRoute] = [_static_route(), *_search_routes(store)]
    for page in PAGES:
        twin = "/index.json" if page.path == "/" else f"{page.path}.json"
        endpoint = _endpoint(store, page)
        made += [Route(path, endpoint, methods=["GET"], middleware=MIDDLEWARE) for path in (twin, page.path)]
    return [*made, NotFoundPage(store)]


class NotFoundPage(Route):
    """Answers GETs of unknown addresses with a page, but leaves the programs' APIs their own error shapes."""

    def __init__(self, store: Store) -> None:
        def endpoint(request: Request) -> Response:
            error = NotFound(f"There is no page at {request.url.path}.", hint="The overview at / shows what there is.")
            return answer_problem(request, store.clock, error)

        super().__init__("/{path:path}", endpoint, methods=["GET"], middleware=MIDDLEWARE)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match only GETs by a browser."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            return Match.NONE, {}
        accept = dict(scope["headers"]).get(b"accept", b"")
        return super().matches(scope) if b"text/html" in accept else (Match.NONE, {})


def _endpoint(store: Store, page: Page) -> Callable[[Request], Response]:
    def show(request: Request) -> Response:
        try:
            return answer(request, page.template, page.view(store, request))
        except MainspringError as error:
            return answer_problem(request, store.clock, error)

    return show


def _search_routes(store: Store) -> list[Route]:
    def search_page(request: Request) -> Response:
        wanted = _query(request, "q").strip()
        found = search.find_pages(store, wanted)
        if len(found) == 1 and not wants_json(request):
            return RedirectResponse(found[0].href, status_code=303)
        return answer(request, "search.html", search.show_search(store, wanted, found))

    paths = ("/search", "/search.json")
    return [Route(path, search_page, methods=["GET"], middleware=MIDDLEWARE) for path in paths]


def _static_route() -> Route:
    files = static_files()

    def static(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in files:
            return Response("There is no such file.", 404, media_type="text/plain")
        kind = _TYPES[name.rpartition(".")[2]]
        return Response(files[name], headers={"Cache-Control": FOREVER}, media_type=kind)

    return Route("/static/{name}", static, methods=["GET"], middleware=MIDDLEWARE)


def _path(request: Request, name: str) -> str:
    return str(request.path_params[name])


def _query(request: Request, name: str) -> str:
    return request.query_params.get(name, "")[:256]


def _whole(request: Request, name: str) -> int:
    text = request.query_params.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0
