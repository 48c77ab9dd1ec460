"""What is cut out of an image and how it is resized: the host's part of preprocessing."""

import dataclasses
import math
from collections.abc import Sequence

import cv2
import ml_collections
import numpy as np
from PIL import Image

from imagenet_jax.data.images import boxes, policies
from imagenet_jax.data.images.align import align
from imagenet_jax.data.names import train_size
from imagenet_jax.data.order import LATER

_DRAWN = 40  # random numbers of a crop
_LONG = 32  # times its short side: no photo is so long
cv2.setNumThreads(1)  # the pipeline runs images in parallel, OpenCV need not

OPENCV = {
    "nearest": cv2.INTER_NEAREST_EXACT,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
}
PILLOW = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "area": Image.Resampling.BOX,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """Preprocessing of a split, from config.data; training or evaluation.

    Rules (data.train_crop, data.eval_crop), S being `size`:
      random_resized_crop: a random box (see `boxes.random_resized_crop`), resized to S x S.
      resize_random_crop: the whole image is squeezed to data.train_resize pixels each way, then
        S x S is cut out of it at random, as in BiT's fine-tuning.
      center_crop: a square of data.eval_crop_fraction of the short side, resized to S x S,
        as TensorFlow's EfficientNet does it.
      resize_center_crop: the short side is resized to data.eval_resize, then S x S is cut
        out of the middle, as torchvision and timm do it.
      resize: the whole image is squeezed to S x S (timm's "squash").
      letterbox: the whole image is resized so that its long side is S, and lies at the upper left;
        the rest is data.pad_fill, and of a map of classes nothing.
      scale_jitter: in training, as letterbox or so that the short side is S, see
        data.jitter_side, times a random factor of data.jitter; of what is larger S x S are cut
        out at random, what is smaller is padded at the lower right, as torchvision's references do.
      ssd_crop: in training, SSD's crop, which depends on the objects, see `object_crop`.
      align: a face is cut out and turned by five points of it, see `align`.
      none: the image has S x S pixels already.

    Attributes:
      landmarks: of align, the points of the examples, float [N, 5, 2], NaN where there are none.
    """

    data: ml_collections.ConfigDict
    seed: int
    train: bool
    landmarks: np.ndarray | None = None

    @property
    def size(self) -> int:
        """Height and width of what comes out."""
        return train_size(self.data) if self.train else self.data.image_size

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of what comes out of a crop: its views, one above the other."""
        views = self.data.views if self.train else 1
        return views * self.size, self.size, 3

    @property
    def rule(self) -> str:
        return self.data.train_crop if self.train else self.data.eval_crop

    def boxes(self, shape: np.ndarray, index: np.ndarray, epoch: np.ndarray) -> np.ndarray:
        """The part of each image that `finish` needs, int32 [k, 4].

        Args:
          shape: heights and widths int [k, 2].
          index, epoch: int [k]; with the seed they decide on the random boxes.
        """
        data = self.data
        if self.rule == "random_resized_crop":
            uniform = boxes.uniforms(self.seed, epoch, index, _DRAWN)
            found = boxes.random_resized_crop(shape, uniform, data.crop_area, data.crop_ratio)
            if not (self.train and data.local_crops):
                return found
            small = boxes.random_resized_crop(shape, uniform, data.local_area, data.crop_ratio)
            return np.where(self._is_local(epoch)[:, None], small, found)
        if self.rule == "center_crop":
            return boxes.center_square(shape, data.eval_crop_fraction)
        return boxes.whole(shape)

    def halvings(self, box: np.ndarray) -> np.ndarray:
        """How often, 0 to 3 times, to halve a JPEG's boxes [k, 4] in decoding them; int32 [k]."""
        count = np.zeros(len(box), np.int32)
        if self.train and self.data.draft and self.rule in ("random_resized_crop", "center_crop"):
            for times in (1, 2, 3):
                count[box[:, 2:].min(1) >= 2**times * self.size] = times
        return count

    def finish(
        self,
        pixels: np.ndarray,
        out: np.ndarray,
        index: int,
        epoch: int,
        place: Sequence[int] = (),
    ) -> None:
        """Resizes the box uint8 [h, w, 3] into `out`, uint8 [S, S, 3], and augments it there.

        `place`: where it comes, of the rule ssd_crop; (): where `self.place` says.

        One of data.local_crops is made in the upper left corner of it.

        With data.views = V in training `out` is [V * S, S, 3]: the box as it is, and below it
        V - 1 times augmented.

        Raises:
          ValueError: if the rule is none and the image is of another size, or align and it has
            no points.
        """
        method = self._method(index, epoch)
        first, *others = out.reshape(-1, out.shape[1], *out.shape[1:])
        if self.train and self.data.local_crops and self._is_local(epoch):
            side = self.data.local_size
            first, place = first[:side, :side], (0, 0, side, side)
        place = tuple(place) or self.place(pixels.shape[:2], index, epoch)
        if self.rule == "align":
            align(pixels, self._points(index), first, self.data.pad_fill)
        else:
            self._put(pixels, first, method, place)
        if self.train and (others or policies.is_on(self.data)):
            for number, view in enumerate(others or [first]):
                view[:] = policies.augment(first, self.data, self.seed, epoch, index, number)

    def finish_map(
        self,
        levels: np.ndarray,
        out: np.ndarray,
        index: int,
        epoch: int,
        place: Sequence[int] = (),
    ) -> None:
        """As `finish`, of the box uint8 [h, w] of a map of classes; `out` is uint8 [S, S] and
        holds what stands where no pixel is."""
        place = tuple(place) or self.place(levels.shape, index, epoch)
        starts_and_sides = np.reshape(place, (2, 2)).T
        known, nearest = [], []
        for (start, side), whole in zip(starts_and_sides, levels.shape, strict=True):
            place = np.arange(self.size) - start
            inside = np.flatnonzero((place >= 0) & (place < side))
            known.append(inside)
            nearest.append(((place[inside] + 0.5) * whole / side).astype(np.int64))
        out[np.ix_(*known)] = levels[np.ix_(*nearest)]

    def restore_map(self, levels: np.ndarray, shape: Sequence[int], fill: int) -> np.ndarray:
        """A map uint8 [S, S] of an image as evaluation makes it ready, as one [H, W] of the image.

        Args:
          levels: of the pixels that the network saw.
          shape: H and W.
          fill: where it saw nothing.
        """
        zero = np.zeros(1, np.int64)
        (box,) = self.boxes(np.array([shape]), zero, zero)
        place = np.reshape(self.place(box[2:], 0, 0), (2, 2)).T
        known, seen = [], []
        for axis, (start, side) in enumerate(place):
            inside = np.arange(shape[axis]) - box[axis]
            at = np.floor((inside + 0.5) * side / box[axis + 2]).astype(np.int64) + start
            there = (inside >= 0) & (inside < box[axis + 2]) & (at >= 0) & (at < self.size)
            known.append(np.flatnonzero(there))
            seen.append(at[there])
        found = np.full(tuple(shape), fill, np.uint8)
        found[np.ix_(*known)] = levels[np.ix_(*seen)]
        return found

    def place_boxes(self, pixels: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Boxes [n, 4] of an image [H, W] as evaluation makes it ready, in pixels of the output."""
        scale, shift = self._scale_and_shift(shape)
        return pixels * scale + shift

    def restore_boxes(self, pixels: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """The opposite of `place_boxes`, float64, within the image."""
        scale, shift = self._scale_and_shift(shape)
        edges = np.array([shape[1], shape[0]] * 2, np.float64)
        return np.clip((np.float64(pixels) - shift) / scale, 0, edges)

    def _scale_and_shift(self, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Of left, top, right and bottom of boxes, in evaluation, float64 [4] each."""
        zero = np.zeros(1, np.int64)
        (box,) = self.boxes(np.array([shape]), zero, zero)
        place = self.place(box[2:], 0, 0)
        scale = np.array([place[3] / box[3], place[2] / box[2]] * 2)
        return scale, np.array([place[1], place[0]] * 2) - scale * np.array([box[1], box[0]] * 2)

    def place(self, shape: Sequence[int], index: int, epoch: int) -> tuple[int, int, int, int]:
        """Where in the output a box of this height and width comes: top, left, height and width of
        what it is resized to, of which that is cut off which does not fit."""
        size, (height, width) = self.size, shape
        if self.rule == "resize_random_crop":
            side = self.data.train_resize
            draw = boxes.uniforms(self.seed, np.array([epoch]), np.array([index]), 2)[0]
            top, left = (draw * (side - size + 1)).astype(int)
            return -int(top), -int(left), side, side
        if self.rule == "resize_center_crop":
            short = self.data.eval_resize or math.floor(size / self.data.eval_crop_fraction)
            long = int(short * max(height, width) / min(height, width))
            height, width = (short, long) if height <= width else (long, short)
            return -round((height - size) / 2), -round((width - size) / 2), height, width
        if self.rule == "letterbox":
            return boxes.scaled(shape, size / max(shape), size)
        if self.rule == "scale_jitter":
            draw = boxes.uniforms(self.seed, np.array([epoch]), np.array([index]), 3)[0]
            side = max(shape) if self.data.jitter_side == "long" else min(shape)
            low, high = self.data.jitter
            factor = (low + (high - low) * draw[0]) * size / side
            factor = min(factor, _LONG * size / max(shape))
            return boxes.scaled(shape, factor, size, draw[1:])
        return 0, 0, size, size

    def _points(self, index: int) -> np.ndarray:
        """The landmarks of an example, float [5, 2]."""
        if self.landmarks is None or np.isnan(self.landmarks[index]).any():
            raise ValueError(f"data.landmarks = {self.data.landmarks!r} has no points of it")
        return self.landmarks[index]

    def _is_local(self, epoch: int | np.ndarray) -> bool | np.ndarray:
        """Whether a crop of this epoch is one of data.local_crops, see `crop_views`."""
        return epoch // LATER >= self.data.crops

    def _method(self, index: int, epoch: int) -> str:
        """The interpolation."""
        method = self.data.resize_method
        if not self.train:
            return self.data.eval_resize_method or method
        if method != "random":
            return method
        number = boxes.uniforms(self.seed, np.array([epoch]), np.array([index]), _DRAWN + 1)[0, -1]
        return "bilinear" if number < 0.5 else "bicubic"

    def _put(self, pixels: np.ndarray, out: np.ndarray, method: str, place: Sequence[int]) -> None:
        """The box resized to where `place` says."""
        size, shape = len(out), pixels.shape[:2]
        if self.rule == "none" and shape != (size, size):
            field = "train_size" if self.train and self.data.train_size else "image_size"
            raise ValueError(
                f"it has {shape[0]} x {shape[1]} pixels, not data.{field} = {size}; set a crop"
            )
        top, left, height, width = place
        if (top, left, height, width) == (0, 0, size, size):
            return self._resize(pixels, out, method)
        if self.rule == "resize_center_crop" and max(height, width) > _LONG * min(height, width):
            return self._put_long(pixels, out, min(height, width), method)
        resized = np.empty((height, width, 3), np.uint8)
        self._resize(pixels, resized, method)
        if top > 0 or left > 0 or top + height < size or left + width < size:
            out[:] = self.data.pad_fill
        _paste(resized, out, top, left)

    def _put_long(self, pixels: np.ndarray, out: np.ndarray, short: int, method: str) -> None:
        """`_put` of an image so long that only what is left of it is resized."""
        span = max(1, round(min(pixels.shape[:2]) * len(out) / short))  # that is left, each way
        top, left = (max(0, (side - span) // 2) for side in pixels.shape[:2])
        pixels = np.ascontiguousarray(pixels[top : top + span, left : left + span])
        self._resize(pixels, out, method)

    def _resize(self, pixels: np.ndarray, out: np.ndarray, method: str) -> None:
        """Pillow filters before it shrinks (antialias), OpenCV does not and is faster."""
        height, width = out.shape[:2]
        if pixels.shape == out.shape:
            out[:] = pixels
        elif self.data.resize_antialias:
            out[:] = np.asarray(Image.fromarray(pixels).resize((width, height), PILLOW[method]))
        else:
            cv2.resize(pixels, (width, height), dst=out, interpolation=OPENCV[method])


def _paste(part: np.ndarray, out: np.ndarray, top: int, left: int) -> None:
    """Puts [h, w, 3] into [H, W, 3] at (top, left); what does not fit is left out."""
    above, before = max(-top, 0), max(-left, 0)
    part, top, left = part[above:, before:], max(top, 0), max(left, 0)
    here = out[top : top + part.shape[0], left : left + part.shape[1]]
    here[:] = part[: here.shape[0], : here.shape[1]]
