"""Images of several requests as one batch.

While the program looks at a batch the next one gathers, so that under load batches are large and a
single image waits for `Limits.wait` at most.
"""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from imagenet_jax.deploy.server.limits import Limits


class _Waiting(NamedTuple):
    pixels: np.ndarray
    shape: tuple[int, int]
    top: int | None
    answer: asyncio.Future


class Batcher:
    """Gathers images, has them looked at, and gives each request its answer.

    Args:
      look: (pixels uint8 [B, S, S, 3], shapes of the photos, how many things to tell of each) ->
        B answers. It is called in a thread of its own, once at a time.
      limits: see there.
      observe: is told the size of each batch.
      coming: how many images may be in the next batch; it waits for no more than these.
    """

    def __init__(
        self,
        look: Callable[[np.ndarray, list[tuple[int, int]], list[int | None]], list[Any]],
        limits: Limits,
        observe: Callable[[int], None],
        coming: Callable[[], int],
    ):
        self._look, self._limits, self._observe, self._coming = look, limits, observe, coming
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, "device")

    async def answer(
        self, pixels: np.ndarray, shape: tuple[int, int], top: int | None = None
    ) -> Any:
        """What is told of an image uint8 [S, S, 3] of a photo of such height and width."""
        future = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(_Waiting(pixels, shape, top, future))
        return await future

    async def run(self) -> None:
        """Looks at images until it is cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                batch = await self._gather()
                if not batch:
                    continue
                self._observe(len(batch))
                pixels = np.stack([one.pixels for one in batch])
                how = [one.shape for one in batch], [one.top for one in batch]
                try:
                    answers = await loop.run_in_executor(self._thread, self._look, pixels, *how)
                except Exception as error:  # of one batch: the server goes on with the next
                    answers = [error] * len(batch)
                for one, answer in zip(batch, answers, strict=True):
                    if one.answer.done():  # its request was given up
                        continue
                    if isinstance(answer, Exception):
                        one.answer.set_exception(answer)
                    else:
                        one.answer.set_result(answer)
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _gather(self) -> list[_Waiting]:
        """The next batch: what is there, and what comes within `Limits.wait`."""
        batch = [await self._queue.get()]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.wait / 1000):
                while len(batch) < min(self._limits.batch, self._coming()):
                    batch.append(await self._queue.get())
        return [one for one in batch if not one.answer.done()]
