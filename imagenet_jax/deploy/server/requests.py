"""From the bytes of a request to files of photos, within limits."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from imagenet_jax.deploy.server.limits import Limits


class Refused(Exception):
    """A request that is not answered: status and reason."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status, self.reason = status, reason


class Bodies:
    """Reads bodies, and counts the bytes of all that are there."""

    def __init__(self, limits: Limits):
        self._limits, self._bytes = limits, 0

    @contextmanager
    def counted(self) -> Iterator[Callable[[int], None]]:
        """A function that adds bytes of a request, which are let go at the end.

        Raises:
          Refused: for too many of one request (413) or of all (429).
        """
        mine = 0

        def add(count: int) -> None:
            nonlocal mine
            mine += count
            self._bytes += count
            if mine > self._limits.body:
                raise Refused(413, f"the body has more than {self._limits.body} bytes")
            if self._bytes > self._limits.bodies:
                raise Refused(429, "too many bytes of other requests are being answered")

        try:
            yield add
        finally:
            self._bytes -= mine


async def read_photos(
    request: Request, limits: Limits, add: Callable[[int], None]
) -> list[tuple[str, bytes]]:
    """The name and the bytes of each photo of a request.

    Args:
      request: a photo as its body; or multipart/form-data with one or more files.
      limits: see there.
      add: is told how many bytes come.

    Raises:
      Refused: for a body that is too large, empty, no form, or a form without files.
    """
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > limits.body:
        raise Refused(413, f"the body has more than {limits.body} bytes")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    chunks = bytearray()
    try:
        async for chunk in request.stream():
            add(len(chunk))
            chunks += chunk
    except ClientDisconnect as error:
        raise Refused(400, "the client went away") from error
    body = bytes(chunks)
    if kind == "multipart/form-data":
        return await _files(request, body, limits)
    if not body:
        raise Refused(400, "there is no photo: send one as the body, or files as a form")
    return [("image", body)]


async def _files(request: Request, body: bytes, limits: Limits) -> list[tuple[str, bytes]]:
    async def stream() -> AsyncIterator[bytes]:
        yield body
        yield b""

    # In memory, all of it: nothing that is sent comes onto a disk.
    parser = MultiPartParser(
        request.headers, stream(), max_files=limits.images, max_fields=limits.images
    )
    parser.spool_max_size = limits.body + 1
    try:
        form = await parser.parse()
    except MultiPartException as error:
        status = 413 if "Too many" in error.message else 400
        raise Refused(status, f"the form cannot be read: {error.message}") from error
    except (KeyError, ValueError, UnicodeError) as error:
        raise Refused(400, f"the form cannot be read: {error}") from error
    try:
        files = [value for _, value in form.multi_items() if hasattr(value, "read")]
        if not files:
            raise Refused(400, "the form has no files")
        return [(file.filename or "image", await file.read()) for file in files]
    finally:
        await form.close()


async def within(seconds: float, work: Awaitable, status: int, why: str) -> Any:
    """What `work` gives, or Refused with such a status if it takes too long."""
    try:
        return await asyncio.wait_for(work, seconds)
    except TimeoutError as error:
        raise Refused(status, why) from error
