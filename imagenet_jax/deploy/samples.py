"""The photos that are looked at where there are no others: those that come with scikit-learn."""

from pathlib import Path

import numpy as np
from PIL import Image

ABOUT = "the photos that come with scikit-learn"


def sample_photos() -> list[Path]:
    """Two files."""
    import sklearn.datasets

    folder = Path(sklearn.datasets.__file__).parent / "images"
    return [folder / "china.jpg", folder / "flower.jpg"]


def sample_images(size: int) -> np.ndarray:
    """Them as squares uint8 [2, size, size, 3], whatever a run's crop is: they are of any kind."""
    found = [Image.open(file).resize((size, size)) for file in sample_photos()]
    return np.stack([np.asarray(one) for one in found])
