"""scikit-learn's handwritten digits as a TFDS data set, so that a newcomer needs no download."""

import io

import numpy as np
import sklearn.datasets
import tensorflow_datasets as tfds
from PIL import Image


class Digits(tfds.core.GeneratorBasedBuilder):
    """1,797 digits of 8x8 pixels from 43 writers (UCI optdigits test set, CC BY 4.0).

    The grey levels 0 to 16 become 0 to 255. A fixed shuffle makes 1,437 training and 360
    test images; both parts have digits of the same writers.
    """

    VERSION = tfds.core.Version("1.0.0")
    NUM_TEST = 360

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                "label": tfds.features.ClassLabel(num_classes=10),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=features,
            homepage="https://archive.ics.uci.edu/dataset/80",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        del dl_manager
        order = np.random.RandomState(0).permutation(1797)  # a stream NumPy has frozen
        return {
            "train": self._generate_examples(order[: -self.NUM_TEST]),
            "test": self._generate_examples(order[-self.NUM_TEST :]),
        }

    def _generate_examples(self, numbers: np.ndarray):
        digits = sklearn.datasets.load_digits()
        for number in numbers:
            grey = np.round(digits.images[number] * 255 / 16).astype(np.uint8)
            png = io.BytesIO()
            Image.fromarray(grey).save(png, "PNG")
            png.seek(0)
            yield int(number), {"image": png, "label": int(digits.target[number])}
