"""What the processes of a job tell each other beside their devices, through JAX's coordinator."""

import atexit
import contextlib
import functools
import json
import platform
import threading
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax
from jax._src import distributed  # the client has no public name; Orbax takes it from here, too

from imagenet_jax.errors import ConfigError

PACKAGES = (
    *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy"),
    *("tensorflow-cpu", "tensorflow", "tensorflow-datasets", "array-record"),
)
_PREFIX = "imagenet_jax"
_NEWS = f"{_PREFIX}/news/"
_LOOK = 0.5  # seconds between looks for news
_reactions: dict[str, Callable[[Any], None]] = {}
_listener: threading.Thread | None = None
_over = threading.Event()


def tell(key: str, value: Any) -> None:
    """Keeps a JSON-like value of this process under a key, in place of the one before."""
    client = distributed.global_state.client
    if client is not None:
        name = f"{_PREFIX}/{key}/{jax.process_index()}"
        client.key_value_set(name, json.dumps(value), allow_overwrite=True)


def told(key: str) -> dict[int, Any]:
    """{process: value} of what has been told so far."""
    client = distributed.global_state.client
    if client is None:
        return {}
    found = client.key_value_dir_get(f"{_PREFIX}/{key}/")
    return {int(name.rpartition("/")[2]): json.loads(value) for name, value in found}


def ask(key: str, process: int, timeout: float) -> Any:
    """What a process tells under a key, as soon as it does.

    Raises:
      jax.errors.JaxRuntimeError: DEADLINE_EXCEEDED after `timeout` seconds.
    """
    client = distributed.global_state.client
    name = f"{_PREFIX}/{key}/{process}"
    return json.loads(client.blocking_key_value_get(name, int(1000 * timeout)))


def is_job() -> bool:
    """Whether this process works with others."""
    return distributed.global_state.client is not None and jax.process_count() > 1


def announce(key: str, value: Any) -> None:
    """Keeps JSON-like news for the whole job; those of the first process stay."""
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        distributed.global_state.client.key_value_set(f"{_NEWS}{key}", json.dumps(value))


def on_news(key: str, react: Callable[[Any], None]) -> None:
    """Calls `react` with what any process announces under a key, once, in a thread of its own."""
    global _listener
    _reactions[key] = react
    if _listener is None:
        _listener = threading.Thread(target=_listen, name="news of the job", daemon=True)
        _listener.start()
        # Python would end the process if it found a thread within a call to the coordinator.
        atexit.register(_stop_listening)


def _listen() -> None:
    while not _over.wait(_LOOK) and (client := distributed.global_state.client) is not None:
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            for name, value in client.key_value_dir_get(_NEWS):
                react = _reactions.pop(name.removeprefix(_NEWS), None)
                if react:
                    news = json.loads(value)
                    threading.Thread(target=react, args=(news,), daemon=True).start()


def _stop_listening() -> None:
    _over.set()
    _listener.join()


def check_same(facts: Mapping[str, Any], timeout: float) -> None:
    """Compares the facts of all processes with those of process 0, before anything is compiled.

    Args:
      facts: {name: JSON-like value}, of the config, the libraries and the code.
      timeout: seconds to wait for each other process.

    Raises:
      ConfigError: in every process, for what differs, with both values.
    """
    if not jax.distributed.is_initialized():
        return
    tell("facts", dict(facts))
    if jax.process_index() == 0:
        tell("different", _differences(timeout))
    wrong = ask("different", 0, timeout)
    if wrong:
        jax.distributed.shutdown()  # together: who leaves alone aborts the others
        raise ConfigError(
            "the processes of this job do not fit together:\n  "
            + "\n  ".join(wrong)
            + "\nStart the same code with the same command and libraries everywhere"
        )


def _differences(timeout: float) -> list[str]:
    """A line for each fact of another process that is not that of process 0."""
    first, absent, lines = ask("facts", 0, timeout), "(absent)", []
    for process in range(1, jax.process_count()):
        other = ask("facts", process, timeout)
        lines += [
            f"{name}: {first.get(name, absent)!r} in process 0, "
            f"{other.get(name, absent)!r} in process {process}"
            for name in dict.fromkeys((*first, *other))
            if first.get(name, absent) != other.get(name, absent)
        ]
    return lines


@functools.cache
def versions() -> dict[str, str]:
    """The versions of what a result depends on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
