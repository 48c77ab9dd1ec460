"""Why a photo was answered so: a heat map over it, on demand."""

import base64
import functools
import io
from typing import Any

import numpy as np
from PIL import Image

from imagenet_jax.errors import DataError
from imagenet_jax.inference.explanation import Explainer
from imagenet_jax.inference.explanation.photos import ExplainedPhoto, photo_facts, seen_edges
from imagenet_jax.inference.explanation.pictures import heat, in_photo, shown
from imagenet_jax.inference.photos import model_input, to_pixels
from imagenet_jax.inference.predictor import Predictor

_SIDE = 640  # pixels of the picture, at most


class Explaining:
    """Explains photos of requests, one after the other.

    Args:
      predictor: the model.
    """

    def __init__(self, predictor: Predictor):
        self._predictor = predictor

    @functools.cached_property
    def _explainer(self) -> Explainer:
        return Explainer(self._predictor.trained)

    def explain(self, path: str, data: bytes, method: str, of_class: str, box: int) -> Any:
        """What `explain --json` says of a photo, and picture, a JPEG in base64 with the heat map.

        Args:
          path: the photo's name.
          data: its bytes.
          method: of `methods.METHODS`; "": the model's default.
          of_class, box: see `Explainer.explain`.

        Raises:
          ConfigError: for a method, class or box that is not possible.
          DataError: for what is no photo, or has not what is asked for.
        """
        config = self._predictor.config
        try:
            pixels = to_pixels(data, config)
            images = model_input(pixels, config)[None]
        except ValueError as error:
            raise DataError(str(error)) from error
        asked = {"of_class": of_class, "box": box}
        methods, _ = self._explainer.what([method] if method else [], **asked)
        (found,) = self._explainer.explain(images, methods, **asked)
        if isinstance(found, DataError):
            raise found
        shape = pixels.shape[:2]
        photo = ExplainedPhoto(path, shape, seen_edges(shape, config), found)
        small = Image.fromarray(pixels)
        small.thumbnail((_SIDE, _SIDE))
        small = np.asarray(small)
        array = shown(found.maps[methods[0]], methods[0])
        file = io.BytesIO()
        Image.fromarray(heat(small, in_photo(array, photo, small.shape[:2]))).save(file, "JPEG")
        picture = base64.b64encode(file.getvalue()).decode()
        return {**photo_facts(photo), "picture": picture}
