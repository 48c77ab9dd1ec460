"""Images without a data set, for studies of the step: noise that differs by example."""

import dataclasses

import numpy as np

from imagenet_jax.data.sources.classes import ONE, SEGMENTATION, SEVERAL, ClassField
from imagenet_jax.data.sources.masks import FIELD, NO_CLASS

_POOL_BYTES = 1 << 24


@dataclasses.dataclass
class FakeSource:
    """`num_examples` images of `image_size` pixels; example i is a window into fixed noise.

    Labels are i modulo `num_classes`: nothing can be learnt, everything can be timed. Where images
    have several, the second is i divided by `num_classes`, modulo it. Maps of classes are noise.
    """

    num_examples: int
    num_classes: int
    image_size: int
    seed: int = 0
    reads: str = ONE
    views: int = 1  # of an image, one above the other

    def __post_init__(self) -> None:
        self.class_names = tuple(f"class {i}" for i in range(self.num_classes))
        maps = self.reads == SEGMENTATION
        self._classes = ClassField("" if maps else self.reads, self.num_classes)
        self.fields = {SEGMENTATION: FIELD} if maps else self._classes.fields
        self._image_bytes = self.views * self.image_size**2 * 3
        size = max(_POOL_BYTES, 2 * self._image_bytes)
        words = np.random.Philox(key=self.seed).random_raw(-(-size // 8))
        self._pool = words.view(np.uint8)

    def __len__(self) -> int:
        return self.num_examples

    def arrays(self, index: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
        shape = (self.views * self.image_size, self.image_size, 3)
        starts = index.astype(np.int64) * 7919 % (len(self._pool) - self._image_bytes)
        windows = [self._pool[start : start + self._image_bytes] for start in starts]
        images = np.stack(windows).reshape(-1, *shape)
        if self.reads == SEGMENTATION:
            maps = images[..., 0] % min(self.num_classes, NO_CLASS)
            return images, {SEGMENTATION: maps}, np.ones(len(index), bool)
        second, first = np.divmod(index, self.num_classes)
        labels = [first, second % self.num_classes] if self.reads == SEVERAL else [first]
        values = self._classes.values(np.stack(labels, 1).tolist())
        return images, values, np.ones(len(index), bool)
