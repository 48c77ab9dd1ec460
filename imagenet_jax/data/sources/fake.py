"""Images without a data set, for studies of the step: noise that differs by example."""

import dataclasses

import numpy as np

from imagenet_jax.data.sources.classes import ONE, SEGMENTATION, SEVERAL, ClassField
from imagenet_jax.data.sources.map_classes import NO_CLASS
from imagenet_jax.data.sources.masks import FIELD
from imagenet_jax.data.sources.objects import BOXES, Objects, make_objects, object_fields
from imagenet_jax.data.sources.outlines import OBJECT_MASKS

_POOL_BYTES = 1 << 24


@dataclasses.dataclass
class FakeSource:
    """`num_examples` images of `image_size` pixels; example i is a window into fixed noise.

    Labels are i modulo `num_classes`: nothing can be learnt, everything can be timed. Where images
    have several, the second is i divided by `num_classes`, modulo it. Maps of classes and
    boxes are noise.
    """

    num_examples: int
    num_classes: int
    image_size: int
    seed: int = 0
    reads: str = ONE
    height: int = 0  # of its views, one above the other; 0: image_size
    most: int = 100  # boxes that an image has room for

    def __post_init__(self) -> None:
        self.class_names = tuple(f"class {i}" for i in range(self.num_classes))
        others = {
            SEGMENTATION: {SEGMENTATION: FIELD},
            BOXES: object_fields(self.most),
            OBJECT_MASKS: object_fields(self.most, masks=True),
        }
        self._classes = ClassField("" if self.reads in others else self.reads, self.num_classes)
        self.fields = others.get(self.reads) or self._classes.fields
        self._shape = self.height or self.image_size, self.image_size, 3
        self._image_bytes = int(np.prod(self._shape))
        size = max(_POOL_BYTES, 2 * self._image_bytes)
        words = np.random.Philox(key=self.seed).random_raw(-(-size // 8))
        self._pool = words.view(np.uint8)

    def __len__(self) -> int:
        return self.num_examples

    def arrays(self, index: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
        starts = index.astype(np.int64) * 7919 % (len(self._pool) - self._image_bytes)
        windows = [self._pool[start : start + self._image_bytes] for start in starts]
        images = np.stack(windows).reshape(-1, *self._shape)
        if self.reads == SEGMENTATION:
            maps = images[..., 0] % min(self.num_classes, NO_CLASS)
            return images, {SEGMENTATION: maps}, np.ones(len(index), bool)
        if self.reads in (BOXES, OBJECT_MASKS):
            return images, self._boxes(index), np.ones(len(index), bool)
        second, first = np.divmod(index, self.num_classes)
        labels = [first, second % self.num_classes] if self.reads == SEVERAL else [first]
        values = self._classes.values(np.stack(labels, 1).tolist())
        return images, values, np.ones(len(index), bool)

    def groups(self) -> np.ndarray:
        """The label of each image that has one, int64 [N]."""
        return np.arange(self.num_examples) % self.num_classes

    def _boxes(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """Of each image up to eight boxes, of a tenth of its sides at least."""
        values = {name: field.filled(len(index)) for name, field in self.fields.items()}
        values["size"][:] = self.image_size
        for row, example in enumerate(index.tolist()):
            random = np.random.default_rng(example)
            count = min(int(random.integers(1, 9)), self.most)
            low = random.uniform(0, 0.9, (count, 2))
            high = low + 0.1 + random.uniform(0, 0.9 - low)
            values[BOXES][row, :count] = self.image_size * np.concatenate([low, high], 1)
            values["classes"][row, :count] = random.integers(0, self.num_classes, count)
            if OBJECT_MASKS in values:
                values[OBJECT_MASKS][row, :count] = 255  # each fills its box
        sides = values[BOXES][..., 2:] - values[BOXES][..., :2]
        values["area"][:] = sides.prod(-1)
        return values

    def objects(self, index: int) -> Objects:
        """What is in an image; each object fills its box."""
        values = {name: array[0] for name, array in self._boxes(np.array([index])).items()}
        there = values["classes"] >= 0
        boxes = values[BOXES][there]
        corners = [(box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2),) for box in np.float64(boxes)]
        sides = (self.image_size, self.image_size)
        return make_objects(boxes, values["classes"][there], sides, outlines=corners)
