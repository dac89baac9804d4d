"""The paths of the service."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from polyface import __version__
from polyface.errors import ConfigError, Fix, PolyfaceError, UnknownNameError, nearest, quoted
from polyface.results import Item
from polyface.storage.files import json_bytes
from polyface_serve import description
from polyface_serve.answers import File, failed_line, make_anonymous, make_crops, make_line
from polyface_serve.batching import Model
from polyface_serve.bodies import check_count, read_items
from polyface_serve.door import Door
from polyface_serve.limits import HELD_BODIES, HeldBytes, Limits
from polyface_serve.metrics import CONTENT_TYPE_LATEST, Metrics
from polyface_serve.query import ANONYMIZE, CROP, DETECT, read_query
from polyface_serve.refusals import Refusal, refuse

if TYPE_CHECKING:
    from polyface.plugins.records import OptionSpec
    from polyface.results import Result
    from polyface.settings.config import Config

    Make = Callable[[Result, Mapping[str, Any], Config], Any]

LOG = logging.getLogger(__name__)

PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
"""The page: what stands at which path, and what it is."""

CLIENT_CLOSED = 499
"""What nginx calls the status of a request whose client has gone; nobody gets it."""


class Service:
    """The models, and what is done with the requests that come for them.

    Args:
        models: the first is the one that is taken where a request names none.
        limits: of requests.
        metrics: where they are counted.
    """

    def __init__(self, models: Sequence[Model], limits: Limits, metrics: Metrics) -> None:
        self._models = {model.name: model for model in models}
        self._limits, self._metrics = limits, metrics
        self._held = HeldBytes(HELD_BODIES * limits.max_bytes)

    async def detect(self, request: Request) -> Response:
        """Find the faces in one image or several."""
        model, query = self._read(request, DETECT)
        with self._held.lend() as loan:
            items = await self._receive(request, model, loan)
            found = await self._examine(request, model, items, make_line, query)
        if len(found) == 1 and isinstance(found[0], Refusal):
            raise found[0]
        lines = [
            failed_line(item.name, line) if isinstance(line, Refusal) else line
            for item, line in zip(items, found, strict=True)
        ]
        landmarks = list(model.detector.spec.landmarks)
        return _json({"model": model.name, "landmarks": landmarks, "results": lines})

    async def anonymize(self, request: Request) -> Response:
        """Make the faces of an image unrecognisable."""
        return await self._make_file(request, ANONYMIZE, make_anonymous)

    async def crop(self, request: Request) -> Response:
        """Cut out the faces of an image."""
        return await self._make_file(request, CROP, make_crops)

    async def list_models(self) -> Response:
        """Return what is served, and within which bounds."""
        limits = self._limits
        return _json(
            {
                "models": [_describe(model) for model in self._models.values()],
                "limits": {"max_bytes": limits.max_bytes, "max_images": limits.max_images, "queue": limits.queue},
            }
        )

    async def check_health(self) -> Response:
        """Say whether the process does its work."""
        return self._check("healthy")

    async def check_ready(self) -> Response:
        """Say whether requests are taken."""
        return self._check("ready")

    async def show_metrics(self) -> Response:
        """Return the counters, in the format of Prometheus."""
        return Response(self._metrics.write(), media_type=CONTENT_TYPE_LATEST)

    def close(self) -> None:
        """Examine what waits, and release the detectors."""
        for model in self._models.values():
            model.close()

    def _check(self, what: str) -> Response:
        down = [name for name, model in self._models.items() if not model.alive]
        return _json({what: not down, "stopped": down}, 503 if down else 200)

    def _read(self, request: Request, options: Sequence[OptionSpec]) -> tuple[Model, dict[str, Any]]:
        """The model and the query settings of a request."""
        query = read_query(request.url.path, options, request.query_params.multi_items())
        name = query.get("model", next(iter(self._models)))
        if name not in self._models:
            what = f"There is no model {quoted(name)} here{nearest(name, self._models) or '.'}"
            raise UnknownNameError(what, why=[f"the models: {', '.join(self._models)}"], fix=Fix(names=("model",)))
        model = self._models[name]
        least = model.detector.score_threshold
        if query.get("score_threshold", least) < least:
            raise ConfigError(
                f"The query setting score_threshold must be at least {least:g}.",
                why=[f"this server looks for faces that score so much with '{name}'"],
                fix=Fix(settings={"score_threshold": least})
                | Fix("have the server run with", settings={"score_threshold": query["score_threshold"]}),
            )
        return model, query

    async def _receive(self, request: Request, model: Model, loan: Any) -> list[Item]:
        started = time.perf_counter()
        items = await read_items(request, self._limits, loan)
        self._metrics.stages.labels(model.name, "upload").observe(time.perf_counter() - started)
        return items

    async def _make_file(self, request: Request, options: Sequence[OptionSpec], make: Make) -> Response:
        model, query = self._read(request, options)
        with self._held.lend() as loan:
            items = await self._receive(request, model, loan)
            check_count(items, 1)
            (made,) = await self._examine(request, model, items, make, query)
        if isinstance(made, Refusal):
            raise made
        file: File = made
        named = {"Content-Disposition": f'attachment; filename="{file.name}"', "Polyface-Faces": str(file.faces)}
        return Response(file.data, media_type=file.media_type, headers=named)

    async def _examine(
        self, request: Request, model: Model, items: Sequence[Item], make: Make, query: Mapping[str, Any]
    ) -> list[Any]:
        """What is made of each image, or the refusal that stands for it."""
        config = model.detector.config
        submitted = model.submit(items, lambda result: make(result, query, config))
        examined = [asyncio.wrap_future(future) for future in submitted]
        done = asyncio.gather(*examined, return_exceptions=True)
        gone = asyncio.ensure_future(_wait_until_gone(request))
        either: list[asyncio.Future[Any]] = [done, gone]
        try:
            await asyncio.wait(either, timeout=self._limits.answer_seconds, return_when=asyncio.FIRST_COMPLETED)
            if done.done():
                return [_refuse(one) if isinstance(one, BaseException) else one for one in done.result()]
            if gone.done():
                raise ClientDisconnect
            seconds = self._limits.answer_seconds
            error = PolyfaceError(
                f"There was no answer within {seconds:g} seconds.",
                why=[f"the queue of '{model.name}' is long, or the images are large"],
                fix="send fewer or smaller images, or send them again later",
            )
            raise Refusal(504, error)
        finally:
            for future in (gone, *examined):
                future.cancel()  # what has not begun is not examined, then


def _refuse(error: BaseException) -> Refusal:
    """As :func:`refuse`; what is the server's fault is logged, as uvicorn does where nobody handles it."""
    refusal = refuse(error)
    if refusal.status == 500:
        LOG.error("An image could not be examined.", exc_info=error)
    return refusal


async def _wait_until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def make_app(
    models: Sequence[Model],
    limits: Limits,
    metrics: Metrics,
    *,
    token: str | None = None,
    during: Callable[[], Any] | None = None,
) -> FastAPI:
    """Return the ASGI application.

    Args:
        models: closed when the application ends.
        limits: of requests.
        metrics: where requests are counted.
        token: what clients must present, if anything.
        during: returns a coroutine that runs as long as the application does.
    """
    service = Service(models, limits, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        task = None if during is None else asyncio.ensure_future(during())
        if task is not None:
            task.add_done_callback(_log_failure)
        try:
            yield
        finally:
            if task is not None:
                task.cancel()
            await asyncio.to_thread(service.close)

    # No pages of documentation: they load their scripts from elsewhere.
    app = FastAPI(
        title="polyface",
        version=__version__,
        description=description.SUMMARY,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    for method, path, endpoint, extra in (
        ("POST", "/v1/detect", service.detect, description.describe_detect()),
        ("POST", "/v1/anonymize", service.anonymize, description.describe_file(ANONYMIZE, "image/*")),
        ("POST", "/v1/crop", service.crop, description.describe_file(CROP, "application/zip")),
        ("GET", "/v1/models", service.list_models, {}),
        ("GET", "/healthz", service.check_health, {}),
        ("GET", "/readyz", service.check_ready, {}),
        ("GET", "/metrics", service.show_metrics, {}),
    ):
        app.add_api_route(path, endpoint, methods=[method], response_model=None, openapi_extra=extra)
    for path, (name, media_type) in PAGE.items():
        data = (files("polyface_serve") / "page" / name).read_bytes()
        app.add_route(path, functools.partial(_send_page, data=data, media_type=media_type), methods=["GET", "HEAD"])
    for kind, answer in _HANDLERS.items():
        app.add_exception_handler(kind, answer)
    paths = [str(getattr(route, "path", "")) for route in app.routes]
    app.add_middleware(Door, paths=paths, token=token, metrics=metrics, linger=limits.idle_seconds)
    return app


def _log_failure(task: asyncio.Future[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        LOG.error("What runs beside the requests has failed; slow clients may be cut no more.", exc_info=error)


def _describe(model: Model) -> dict[str, Any]:
    detector = model.detector
    return {
        "name": model.name,
        "summary": detector.spec.summary,
        "landmarks": list(detector.spec.landmarks),
        "backend": detector.backend.name,
        "device": detector.execution.device,
        "precision": detector.execution.precision,
        "score_threshold": detector.score_threshold,
        "max_pixels": detector.config.max_pixels,
    }


async def _send_page(_: Request, data: bytes, media_type: str) -> Response:
    return Response(data, media_type=media_type)


def _json(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(json_bytes(document), status, headers, media_type="application/json")


async def _answer_error(_: Request, error: Exception) -> Response:
    refusal = refuse(error)
    return _json({"error": refusal.to_dict()}, refusal.status, refusal.headers)


async def _answer_http(request: Request, error: HTTPException) -> Response:
    what = {
        404: f"There is no {quoted(request.url.path)} here.",
        405: f"{quoted(request.url.path)} is not for {request.method}.",
    }.get(error.status_code, str(error.detail))
    fix = Fix("see", command="GET /openapi.json")
    refusal = Refusal(error.status_code, PolyfaceError(what, fix=fix))
    return _json({"error": refusal.to_dict()}, refusal.status, {**refusal.headers, **(error.headers or {})})


async def _answer_nobody(_: Request, __: ClientDisconnect) -> Response:
    return Response(status_code=CLIENT_CLOSED)


_HANDLERS: dict[Any, Any] = {
    Refusal: _answer_error,
    PolyfaceError: _answer_error,
    Exception: _answer_error,
    HTTPException: _answer_http,
    ClientDisconnect: _answer_nobody,
}
