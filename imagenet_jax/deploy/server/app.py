"""The application: which address does what."""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from imagenet_jax.deploy.server.batcher import Batcher
from imagenet_jax.deploy.server.explaining import Explaining
from imagenet_jax.deploy.server.limits import Limits
from imagenet_jax.deploy.server.metrics import Metrics
from imagenet_jax.deploy.server.openapi import description
from imagenet_jax.deploy.server.requests import Bodies, Refused, read_photos, within
from imagenet_jax.errors import ConfigError, DataError
from imagenet_jax.inference.photos import model_input, to_pixels
from imagenet_jax.inference.predictor import Predictor
from imagenet_jax.printable import printable

_EXPLAINED = 8  # photos that may wait to be explained
PAGE = Path(__file__).with_name("page.html")
# Nothing on the page comes from elsewhere, and it can send photos nowhere else.
_SAFE = {
    "content-security-policy": "default-src 'none'; img-src 'self' data: blob:; "
    "connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


class Server:
    """A trained model behind HTTP.

    Args:
      predictor: the model.
      limits: see there.
      threads: that decode photos.

    Attributes:
      failure: why the program could not be compiled; it calls `stop`, which the owner may set.
    """

    def __init__(self, predictor: Predictor, limits: Limits, threads: int = 2):
        self.predictor, self.limits, self.metrics = predictor, limits, Metrics()
        self._bodies, self._in_flight, self.ready = Bodies(limits), 0, False
        self.failure: BaseException | None = None
        self.stop: Callable[[], None] = lambda: None
        self._reading = predictor.config.copy_and_resolve_references()
        self._reading.data.max_pixels = min(self._reading.data.max_pixels, limits.pixels)
        self._decoders = ThreadPoolExecutor(threads, "decode")
        self._explaining, self._explained = Explaining(predictor), 0
        self._explainer = ThreadPoolExecutor(1, "explain")
        self._batcher = Batcher(self._look, limits, self.metrics.batch, lambda: self._in_flight)

    def app(self) -> Starlette:
        """The ASGI application."""
        routes = [
            Route("/", self._counted(self._page)),
            Route("/predict", self._counted(self._predict), methods=["POST"]),
            Route("/explain", self._counted(self._explain), methods=["POST"]),
            Route("/health", self._counted(self._health)),
            Route("/ready", self._counted(self._is_ready)),
            Route("/metrics", self._counted(self._metrics)),
            Route("/openapi.json", self._counted(self._openapi)),
        ]
        return Starlette(
            routes=routes,
            lifespan=self._lifespan,
            exception_handlers={HTTPException: self._not_found},
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Compiles the program for each size of a batch, and looks at images until the end."""
        work = asyncio.create_task(self._batcher.run())
        warm = asyncio.create_task(asyncio.to_thread(self._compile))
        warm.add_done_callback(self._compiled)
        try:
            yield
        finally:
            self.ready = False
            work.cancel()
            for pool in (self._decoders, self._explainer):
                pool.shutdown(wait=False, cancel_futures=True)

    def _compile(self) -> None:
        size = self.predictor.config.data.image_size
        count = 1
        while count < 2 * self.limits.batch:
            count_now = min(count, self.limits.batch)
            self.predictor.shown(np.zeros((count_now, size, size, 3), np.uint8))
            count *= 2

    def _compiled(self, task: asyncio.Task) -> None:
        self.failure = None if task.cancelled() else task.exception()
        self.ready = not task.cancelled() and self.failure is None
        if self.failure:
            self.stop()

    def _counted(
        self, handler: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """A handler that is counted and timed, and whose refusals are told as JSON."""

        async def handle(request: Request) -> Response:
            start, path = time.perf_counter(), request.url.path
            try:
                response = await handler(request)
            except Refused as error:
                response = JSONResponse({"error": error.reason}, error.status)
                if error.status == 429:
                    response.headers["retry-after"] = "1"
            except Exception as error:  # of the model: the server goes on
                response = JSONResponse({"error": f"{type(error).__name__}, not foreseen"}, 500)
            response.headers.update(_SAFE)
            self.metrics.requests.labels(request.method, path, response.status_code).inc()
            self.metrics.seconds.labels(path).observe(time.perf_counter() - start)
            return response

        return handle

    async def _predict(self, request: Request) -> Response:
        top, limits = _whole_number(request, "top"), self.limits
        with self._bodies.counted() as add:
            photos = await self._photos(request, add)
            if len(photos) > (most := min(limits.images, limits.queue)):
                raise Refused(413, f"it has {len(photos)} photos; at most {most}")
            if self._in_flight + len(photos) > limits.queue:
                raise Refused(429, f"{self._in_flight} images wait, of {limits.queue} at most")
            self._count(len(photos))
            try:
                work = asyncio.gather(*(self._answer(name, data, top) for name, data in photos))
                found = await within(limits.seconds, work, 503, self._late)
            finally:
                self._count(-len(photos))
        errors = [one for one in found if "error" in one]
        told = {
            "task": self.predictor.config.task,
            "model": self.predictor.name,
            "image_size": self.predictor.config.data.image_size,
            "predictions": [one for one in found if "error" not in one],
            "errors": errors,
        }
        if errors and len(errors) == len(found):
            told["error"] = "; ".join(one["error"] for one in errors[:5])
            return JSONResponse(told, 400)
        return JSONResponse(told)

    async def _photos(
        self, request: Request, add: Callable[[int], None]
    ) -> list[tuple[str, bytes]]:
        if not self.ready:
            raise Refused(503, "the model is being compiled; ask /ready")
        seconds = self.limits.seconds
        late = f"the request did not come within {seconds:g} s"
        return await within(seconds, read_photos(request, self.limits, add), 408, late)

    @property
    def _late(self) -> str:
        return f"it could not be answered within {self.limits.seconds:g} s"

    async def _explain(self, request: Request) -> Response:
        box = _whole_number(request, "box") or 1
        method, of_class = (request.query_params.get(name, "") for name in ("method", "class"))
        with self._bodies.counted() as add:
            photos = await self._photos(request, add)
            if len(photos) > 1:
                raise Refused(413, f"it has {len(photos)} photos; one is explained at once")
            if self._explained >= _EXPLAINED:
                raise Refused(429, f"{self._explained} photos are waiting to be explained")
            ((name, data),) = photos
            path, loop = printable(name), asyncio.get_running_loop()
            self._explained += 1
            asked = path, data, method, of_class, box
            work = loop.run_in_executor(self._explainer, self._explaining.explain, *asked)
            work.add_done_callback(self._was_explained)  # it ends later where nobody waits for it
            try:
                told = await within(self.limits.seconds, work, 503, self._late)
            except (ConfigError, DataError) as error:
                raise Refused(400, f"{path}: {_reason(error)}") from error
        return JSONResponse(told)

    def _was_explained(self, work: asyncio.Future) -> None:
        self._explained -= 1
        if not work.cancelled():
            work.exception()  # it was told, or nobody waited for it

    def _count(self, images: int) -> None:
        self._in_flight += images
        self.metrics.waiting.set(self._in_flight)

    async def _answer(self, name: str, data: bytes, top: int | None) -> dict[str, Any]:
        loop, path = asyncio.get_running_loop(), printable(name)
        try:
            pixels, shape = await loop.run_in_executor(self._decoders, self._decoded, data)
        except (DataError, ValueError) as error:
            return {"path": path, "error": f"{path} cannot be read: {_reason(error)}"}
        return {"path": path, **await self._batcher.answer(pixels, shape, top)}

    def _decoded(self, data: bytes) -> tuple[np.ndarray, tuple[int, int]]:
        pixels = to_pixels(data, self._reading)
        return model_input(pixels, self.predictor.config), pixels.shape[:2]

    def _look(
        self, pixels: np.ndarray, shapes: list[tuple[int, int]], tops: list[int | None]
    ) -> list[dict[str, Any]]:
        found = self.predictor.shown(pixels)
        rows = enumerate(zip(tops, shapes, strict=True))
        return [self.predictor.answer(found, row, top, shape) for row, (top, shape) in rows]

    async def _page(self, request: Request) -> Response:
        return HTMLResponse(PAGE.read_text())

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _is_ready(self, request: Request) -> Response:
        config = self.predictor.config
        facts = {
            "ready": self.ready,
            "model": self.predictor.name,
            "task": config.task,
            "image_size": config.data.image_size,
        }
        return JSONResponse(facts, 200 if self.ready else 503)

    async def _metrics(self, request: Request) -> Response:
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return PlainTextResponse(self.metrics.text(), media_type=kind)

    async def _openapi(self, request: Request) -> Response:
        return JSONResponse(description(self.predictor.config.task, self.limits))

    async def _not_found(self, request: Request, error: Exception) -> Response:
        status = getattr(error, "status_code", 500)
        method = request.method if request.method in ("GET", "HEAD", "POST") else "other"
        self.metrics.requests.labels(method, "other", status).inc()
        headers = {**(getattr(error, "headers", None) or {}), **_SAFE}
        return JSONResponse({"error": getattr(error, "detail", "")}, status, headers=headers)


def _whole_number(request: Request, name: str) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    if not re.fullmatch("[0-9]{1,4}", text) or not 1 <= int(text) <= 1000:
        raise Refused(400, f"{name}={printable(text[:40])}: expected a whole number, 1 to 1000")
    return int(text)


def _reason(error: Exception) -> str:
    return str(error).removeprefix("an image cannot be read: ")
