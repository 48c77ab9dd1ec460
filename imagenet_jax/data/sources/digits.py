"""scikit-learn's handwritten digits as TFDS data sets, so that a newcomer needs no download.

They are 1,797 digits of 8x8 pixels from 43 writers (UCI optdigits test set, CC BY 4.0). A fixed
shuffle makes 1,437 training and 360 test digits; both parts have digits of the same writers.
"""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import sklearn.datasets
import tensorflow_datasets as tfds
from PIL import Image

_NUM_PAIRS = {"train": 2000, "test": 500}
_HOMEPAGE = "https://archive.ics.uci.edu/dataset/80"


class Digits(tfds.core.GeneratorBasedBuilder):
    """1,437 training and 360 test digits; the grey levels 0 to 16 become 0 to 255."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                "label": tfds.features.ClassLabel(num_classes=10),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self, description=__doc__, features=features, homepage=_HOMEPAGE
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager
        return {split: self._generate_examples(part) for split, part in digit_parts().items()}

    def _generate_examples(self, numbers: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
        digits = sklearn.datasets.load_digits()
        for number in numbers:
            label = int(digits.target[number])
            yield int(number), {"image": _png(digits.images[number]), "label": label}


class DigitPairs(tfds.core.GeneratorBasedBuilder):
    """2,000 training and 500 test images of 16x16 pixels with two digits side by side.

    The labels are what digits are in the image, so there are one or two. Each digit lies at a
    random height. Those of the training images are training digits, those of the test test digits.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(16, 16, 1), encoding_format="png"),
                "labels": tfds.features.Sequence(tfds.features.ClassLabel(num_classes=10)),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self, description=self.__doc__, features=features, homepage=_HOMEPAGE
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager
        return {
            split: self._generate_examples(split, part) for split, part in digit_parts().items()
        }

    def _generate_examples(
        self, split: str, numbers: np.ndarray
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        digits = sklearn.datasets.load_digits()
        random = np.random.RandomState(1)
        for example in range(_NUM_PAIRS[split]):
            pair, tops = random.choice(numbers, 2), random.randint(0, 9, 2)
            image = np.zeros((16, 16))
            for left, top, number in zip((0, 8), tops, pair, strict=True):
                image[top : top + 8, left : left + 8] = digits.images[number]
            labels = sorted({int(label) for label in digits.target[pair]})
            yield example, {"image": _png(image), "labels": labels}


def digit_parts() -> dict[str, np.ndarray]:
    """The numbers of the digits of each split."""
    order = np.random.RandomState(0).permutation(1797)  # a stream NumPy has frozen
    return {"train": order[:-360], "test": order[-360:]}


def _png(levels: np.ndarray) -> io.BytesIO:
    """A picture of grey levels 0 to 16."""
    png = io.BytesIO()
    Image.fromarray(np.round(levels * 255 / 16).astype(np.uint8)).save(png, "PNG")
    png.seek(0)
    return png
