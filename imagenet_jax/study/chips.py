"""The facts of accelerators that a study reckons with; the data is in chips.csv."""

import csv
import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Chip:
    """One device as JAX counts them: on TPU v2, v3 and 7x a core, else a chip.

    Attributes:
      name: as in a topology, e.g. "v5e".
      platform: "tpu", "gpu" or "cpu".
      flops: peak dense FLOP/s in bfloat16 (float32 on a CPU).
      hbm_bytes: memory of the device.
      hbm_bandwidth: bytes/s of that memory.
      link_bandwidth: bytes/s that the device can send over ICI, NVLink or PCIe, all links together.
      clock: Hz; 0 where unknown.
      source: of the numbers.
    """

    name: str
    platform: str
    flops: float
    hbm_bytes: float
    hbm_bandwidth: float
    link_bandwidth: float
    clock: float
    source: str

    def roofline_seconds(self, flops: float, num_bytes: float) -> float:
        """The least time for so much arithmetic and memory traffic (Williams et al. 2009)."""
        return max(flops / self.flops, num_bytes / self.hbm_bandwidth)


def _read() -> dict[str, Chip]:
    with (Path(__file__).parent / "chips.csv").open(newline="") as file:
        return {
            row["name"]: Chip(
                name=row["name"],
                platform=row["platform"],
                flops=1e12 * float(row["tflops_bf16"]),
                hbm_bytes=2**30 * float(row["hbm_gib"]),
                hbm_bandwidth=1e9 * float(row["hbm_gbps"]),
                link_bandwidth=1e9 * float(row["link_gbps"]),
                clock=1e6 * float(row["clock_mhz"]),
                source=row["source"],
            )
            for row in csv.DictReader(file)
        }


CHIPS = _read()


def collective_seconds(chip: Chip, kind: str, num_bytes: float, devices: int) -> float:
    """Time of a collective around a ring of devices; latency is left out.

    Args:
      chip: what sends and receives.
      kind: of the operation in HLO, e.g. "all-reduce".
      num_bytes: what every device contributes.
      devices: in the ring. A collective among fewer of them (fsdp beside data_parallel) is
        taken as one among all.
    """
    # Times that what a device contributes goes over its link.
    passes = {
        "all-reduce": 2 * (devices - 1) / devices,
        "all-gather": devices - 1,
        "reduce-scatter": (devices - 1) / devices,
        "all-to-all": (devices - 1) / devices,
        "collective-permute": 1,
    }
    return passes[kind] * num_bytes / chip.link_bandwidth if devices > 1 else 0.0
