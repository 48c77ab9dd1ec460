"""How a kernel moves over a map."""

from collections.abc import Sequence
from typing import NamedTuple

Pads = tuple[tuple[int, int], tuple[int, int]]


class Window(NamedTuple):
    """For rows and for columns, as XLA's window.

    Attributes:
      strides: from one place of the kernel to the next.
      pads: zeros before and after the map.
      dilation: from one value of the kernel to the next.
    """

    strides: tuple[int, int]
    pads: Pads
    dilation: tuple[int, int] = (1, 1)

    def sides(self, sides: Sequence[int], kernel: Sequence[int]) -> list[int]:
        """Height and width of the result for those of a map and of a kernel [K, L, ...]."""
        places = zip(sides, spans(kernel, self.dilation), self.strides, self.pads, strict=True)
        return [(side + sum(pad) - span) // stride + 1 for side, span, stride, pad in places]


def spans(kernel: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """Rows and columns from the first to the last value of a dilated kernel [K, L, ...]."""
    return [(size - 1) * step + 1 for size, step in zip(kernel[:2], dilation, strict=True)]
