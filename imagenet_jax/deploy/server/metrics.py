"""What a server counts, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters of one server; names are those of Prometheus's conventions."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        how = {"namespace": "imagenet_jax", "registry": self._registry}
        self.requests = Counter(
            "requests", "Requests answered", ["method", "path", "status"], **how
        )
        self.seconds = Histogram(
            "request_seconds", "From a request to its answer", ["path"], buckets=_SECONDS, **how
        )
        self.images = Counter("images", "Images looked at", **how)
        self.batches = Histogram("batch_size", "Images of a batch", buckets=_SIZES, **how)
        self.waiting = Gauge("images_in_flight", "Images decoded, waiting or looked at", **how)

    def batch(self, size: int) -> None:
        """Counts a batch."""
        self.images.inc(size)
        self.batches.observe(size)

    def text(self) -> bytes:
        """All of them in Prometheus's text format."""
        return generate_latest(self._registry)
