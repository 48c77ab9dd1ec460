"""`launch.py serve`: the server as a process, from its first request to the end of its last."""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from imagenet_jax.deploy.server.app import Server
from imagenet_jax.deploy.server.limits import Limits
from imagenet_jax.errors import ConfigError, ExportError
from imagenet_jax.inference.predictor import Predictor
from imagenet_jax.terminal import say

_CONNECTIONS = 1000  # at once; further ones are told 503


class _Uvicorn(uvicorn.Server):
    """Ends at SIGTERM and SIGINT, after the requests that are there, and then returns."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


def serve(predictor: Predictor, limits: Limits, host: str, port: int) -> dict[str, Any]:
    """Serves until SIGTERM or SIGINT.

    Args:
      predictor: the model.
      limits: see there.
      host, port: to listen at.

    Returns:
      task, model, address, and how many requests and images were answered.

    Raises:
      ConfigError: if the address cannot be had.
      ExportError: if the program cannot be compiled for `limits.batch` images.
    """
    server = Server(predictor, limits)
    config = uvicorn.Config(
        server.app(),
        host=host,
        port=port,
        log_level="error",
        timeout_graceful_shutdown=limits.drain,
        timeout_keep_alive=15,
        limit_concurrency=_CONNECTIONS,
        server_header=False,
    )
    try:
        listening = config.bind_socket()
    except (SystemExit, OSError) as error:
        raise ConfigError(
            f"--host={host} --port={port} cannot be had: another program has it, or this machine "
            "has no such address"
        ) from error
    # Else the second part of an answer waits 40 ms for the client to confirm the first one.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    port = listening.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{port}"
    # One line for each form that is broken would fill a disk.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    say(f"{predictor.name} is served at {address}; the page is there, and POST {address}/predict")
    running = _Uvicorn(config)
    server.stop = lambda: setattr(running, "should_exit", True)
    asyncio.run(running.serve([listening]))
    if server.failure:
        reason = (str(server.failure).splitlines() or [""])[0]
        raise ExportError(
            f"the program cannot be compiled for --max_batch={limits.batch} images: "
            f"{type(server.failure).__name__}: {reason}"
        ) from server.failure
    counts = {"requests": 0, "images": 0}
    for metric in (server.metrics.requests, server.metrics.images):
        for sample in metric.collect()[0].samples:
            if sample.name.endswith("_total"):
                counts[sample.name.split("_")[-2]] += int(sample.value)
    facts = {"task": predictor.config.task, "model": predictor.name, "address": address}
    return {**facts, **counts}
