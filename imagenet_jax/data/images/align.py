"""Faces cut out and turned so that eyes, nose and mouth come where a network expects them."""

from collections.abc import Sequence

import cv2
import numpy as np

# insightface's arcface_dst, as in ArcFace (Deng et al. 2019): left eye, right eye, nose, left and
# right corner of the mouth, x and y in pixels of an image of 112 x 112.
TEMPLATE = np.array(
    [
        (38.2946, 51.6963),
        (73.5318, 51.5014),
        (56.0252, 71.7366),
        (41.5493, 92.3655),
        (70.7299, 92.2041),
    ]
)
_SIDE = 112


def similarity(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The scaling, rotation and shift that best map points to others, by least squares.

    It is that of Umeyama (1991) without reflection. Of points in a plane it needs no singular
    values: as complex numbers z and w, less their means, w = a z is best with
    a = sum(w conj(z)) / sum(|z|^2).

    Args:
      points, targets: x and y, float [n, 2]; the points are not all the same.

    Returns:
      float64 [2, 3], of which the last column is the shift.
    """
    z, w = (np.float64(p)[:, 0] + 1j * np.float64(p)[:, 1] for p in (points, targets))
    from_mean = z - z.mean()
    a = (w * from_mean.conj()).sum() / (np.abs(from_mean) ** 2).sum()
    shift = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, shift.real], [a.imag, a.real, shift.imag]])


def align(pixels: np.ndarray, points: np.ndarray, out: np.ndarray, fill: Sequence[int]) -> None:
    """Cuts a face out and turns it so that its points come as near to `TEMPLATE` as they can.

    Args:
      pixels: the photo, uint8 [H, W, 3].
      points: x and y of the five in its pixels, float [5, 2].
      out: for the face, uint8 [S, S, 3]; the template is scaled by S / 112. Bilinear.
      fill: the levels of what is beside the photo, [3].
    """
    size = len(out)
    matrix = similarity(points, TEMPLATE * (size / _SIDE))
    out[:] = cv2.warpAffine(
        pixels,
        matrix,
        (size, size),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=tuple(map(int, fill)),
    )
