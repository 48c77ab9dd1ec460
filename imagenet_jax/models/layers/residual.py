"""Blocks that a network is well formed without."""

from typing import Any

import flax.linen as nn


class Residual(nn.Module):
    """A block with an identity as its shortcut wherever it keeps the shape of its input.

    One with a `stride` has to have a stride of 1 for it, too. See `Layers.without_blocks`.
    """

    @nn.nowrap
    def may_go(self, x: Any, y: Any) -> bool:
        """Whether a network can do without it, x and y being its input and its output."""
        return getattr(self, "stride", 1) == 1 and getattr(y, "shape", None) == x.shape
