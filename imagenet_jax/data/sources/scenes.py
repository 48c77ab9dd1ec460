"""Scenes of handwritten digits, so that detection and segmentation need no download.

Each image has 1 to 8 of scikit-learn's digits (UCI optdigits, CC BY 4.0) in several sizes and
colours, turned and one over another, on a ground with a texture. Boxes, masks, classes and depth
are exact. Digits of the test images are none of those of the training images, nor is their ground.
"""

import functools
import io
from collections.abc import Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
import sklearn.datasets
import tensorflow_datasets as tfds
from PIL import Image

from imagenet_jax.data.sources.digits import digit_parts
from imagenet_jax.data.sources.map_classes import NO_CLASS

SIZE = 128  # pixels, height and width
_COUNTS = {"train": 4000, "test": 400}
_MOST = 8  # digits in an image
_LEAST_SEEN = 0.6  # of what is seen of a digit; what hides more of one is not put there
_NAMES = ("background", *map(str, range(10)))


class Scene(NamedTuple):
    """An image and what is where in it.

    Attributes:
      image: uint8 [S, S, 3].
      instances: uint8 [S, S]: 0 where the ground is, else the number of the digit from 1 on.
      labels: of the digits, int [n].
      depth: uint8 [S, S]: 255 is nearest.
    """

    image: np.ndarray
    instances: np.ndarray
    labels: np.ndarray
    depth: np.ndarray

    @property
    def segmentation(self) -> np.ndarray:
        """Classes uint8 [S, S]: 0 is the ground, 1 to 10 the digits; 255 in a line of a pixel
        around each digit, as in Pascal VOC."""
        classes = np.append(0, self.labels + 1).astype(np.uint8)[self.instances]
        around = np.ones((3, 3), np.uint8)
        edge = cv2.dilate(self.instances, around) != cv2.erode(self.instances, around)
        return np.where(edge & (self.instances == 0), NO_CLASS, classes).astype(np.uint8)

    @property
    def boxes(self) -> np.ndarray:
        """Left, top, right and bottom of what is seen of each digit, in pixels, int [n, 4]."""
        boxes = []
        for number in range(1, len(self.labels) + 1):
            rows, columns = np.nonzero(self.instances == number)
            boxes.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
        return np.array(boxes)


class Scenes(tfds.core.GeneratorBasedBuilder):
    """4,000 training and 400 test images of 128 x 128 pixels."""

    VERSION = tfds.core.Version("2.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        picture, plane = (SIZE, SIZE, 3), (SIZE, SIZE, 1)
        png = {"shape": plane, "encoding_format": "png"}
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=picture, encoding_format="jpeg"),
                "segmentation": tfds.features.LabeledImage(labels=list(_NAMES), **png),
                "instances": tfds.features.Image(**png),
                "depth": tfds.features.Image(**png),
                "objects": tfds.features.Sequence(
                    {
                        "bbox": tfds.features.BBoxFeature(),
                        "label": tfds.features.ClassLabel(names=list(_NAMES[1:])),
                    }
                ),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=features,
            homepage="https://archive.ics.uci.edu/dataset/80",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager
        return {split: self._generate_examples(split) for split in _COUNTS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for number in range(_COUNTS[split]):
            scene = make_scene(split, number)
            yield (
                number,
                {
                    "image": _file(scene.image, "JPEG", quality=95),
                    "segmentation": _file(scene.segmentation, "PNG"),
                    "instances": _file(scene.instances, "PNG"),
                    "depth": _file(scene.depth, "PNG"),
                    "objects": [
                        {
                            "bbox": tfds.features.BBox(*(box[[1, 0, 3, 2]] / SIZE)),
                            "label": str(label),
                        }
                        for box, label in zip(scene.boxes, scene.labels, strict=True)
                    ],
                },
            )


@functools.cache
def _digits() -> Any:
    return sklearn.datasets.load_digits()  # which reads its file each time


def make_scene(split: str, number: int) -> Scene:
    """The scene of a number from 0 on; a function of the two arguments."""
    random = np.random.RandomState(2 * number + (split == "test"))
    digits, part = _digits(), digit_parts()[split]
    ground = random.uniform(40, 215, (2, 3))
    image = _ground(ground, random, split)
    instances, depth = np.zeros((SIZE, SIZE), np.uint8), np.zeros((SIZE, SIZE), np.uint8)
    labels = []
    for _ in range(random.randint(1, _MOST + 1)):
        chosen = part[random.randint(len(part))]
        ink = _placed(digits.images[chosen] / 16, random)
        mask = ink > 0.35
        whole = [int((instances == other).sum()) for other in range(1, len(labels) + 1)]
        after = np.where(mask, len(labels) + 1, instances)
        left = [int((after == other).sum()) for other in range(1, len(labels) + 1)]
        hides = any(new < _LEAST_SEEN * old for new, old in zip(left, whole, strict=True))
        if hides or mask.sum() < 20:
            continue
        # Of a few colours the one that is farthest from the ground's.
        colours = random.uniform(0, 255, (4, 3))
        apart = np.abs(colours[:, None] - ground).max(2).min(1)
        colour = colours[apart.argmax()]
        opacity = np.where(mask, 0.4 + 0.6 * ink, 0)[..., None]
        image = image * (1 - opacity) + colour * opacity
        instances = after.astype(np.uint8)
        labels.append(int(digits.target[chosen]))
        depth = np.where(mask, 255 * len(labels) // (_MOST + 1), depth)
    return Scene(
        np.round(image).clip(0, 255).astype(np.uint8),
        instances,
        np.array(labels),
        np.round(depth).astype(np.uint8),
    )


def _placed(levels: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """A digit [8, 8] somewhere in the image, larger and turned: opacities [S, S]."""
    scale, angle = random.uniform(2, 6), random.uniform(-30, 30)
    half = 4 * scale
    x, y = random.uniform(half * 0.7, SIZE - half * 0.7, 2)
    turn = cv2.getRotationMatrix2D((3.5, 3.5), angle, scale)
    turn[:, 2] += (x - 3.5, y - 3.5)
    return cv2.warpAffine(levels, turn, (SIZE, SIZE), flags=cv2.INTER_CUBIC).clip(0, 1)


def _ground(colours: np.ndarray, random: np.random.RandomState, split: str) -> np.ndarray:
    """A texture of two colours float64 [S, S, 3]: waves in training, clouds in the test images."""
    if split == "train":
        rows, columns = np.mgrid[:SIZE, :SIZE]
        share = np.zeros((SIZE, SIZE))
        for _ in range(3):
            a, b, phase = random.uniform(-0.4, 0.4), random.uniform(-0.4, 0.4), random.uniform(0, 6)
            share += np.sin(a * rows + b * columns + phase) / 3
    else:
        share = np.zeros((SIZE, SIZE))
        for cells in (6, 12):
            coarse = random.uniform(-1, 1, (cells, cells))
            share += cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) / 2
    share = (0.5 + 0.5 * share).clip(0, 1)[..., None]
    grain = random.normal(0, 6, (SIZE, SIZE, 1))
    return colours[0] * share + colours[1] * (1 - share) + grain


def _file(pixels: np.ndarray, kind: str, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    file.seek(0)
    return file
