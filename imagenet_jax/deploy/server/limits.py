"""What a server takes at most, without JAX or a web framework."""

import dataclasses
import importlib.util

from imagenet_jax.errors import ConfigError

PACKAGES = {
    "starlette": "starlette",
    "uvicorn": "uvicorn",
    "python_multipart": "python-multipart",
    "prometheus_client": "prometheus-client",
}


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a server takes at most; what is beyond is refused.

    Attributes:
      batch: images that the program sees at once.
      wait: milliseconds that an image waits for others to come.
      queue: images that are being decoded, wait or are looked at; further ones are told 429.
      body: bytes of a request; more are told 413.
      bodies: bytes of all requests that are being read or answered; more are told 429.
      images: of one request; more are told 413, as are more than `queue`.
      pixels: of an image, less if data.max_pixels is; what has more is told so.
      seconds: for a request to come, else it is told 408; and for its answer, else 503.
      drain: seconds that requests have to end after SIGTERM.
    """

    batch: int = 32
    wait: float = 5.0
    queue: int = 256
    body: int = 32 * 2**20
    bodies: int = 512 * 2**20
    images: int = 64
    pixels: int = 2**26
    seconds: float = 30.0
    drain: float = 30.0


def check_packages() -> None:
    """Raises ConfigError if a package of the server is not installed."""
    absent = [name for module, name in PACKAGES.items() if not importlib.util.find_spec(module)]
    if absent:
        raise ConfigError(f"serve needs packages: pip install {' '.join(absent)}")
