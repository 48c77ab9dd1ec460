"""Objects as TFDS stores them."""

import numpy as np
import pytest

from imagenet_jax.data.preparation.stored_objects import object_features, stored_objects
from imagenet_jax.data.sources.objects import make_objects


def test_areas_are_those_of_what_is_stored():
    boxes = [(10, 20, 30, 60), (0, 0, 100, 50)]
    objects = make_objects(boxes, [1, 0], (50, 100), [False, True], area=[np.nan, 300.0])
    (one, crowd), areas = stored_objects(objects, (50, 100), (25, 50))
    assert areas == (20 * 40 / 4, 75)
    assert one["area"] == 20 * 40 / 4 and crowd["area"] == 75
    assert one["bbox"] == pytest.approx((0.4, 0.1, 1.0, 0.3))  # top, left, bottom, right
    assert (one["is_crowd"], crowd["is_crowd"]) == (False, True)
    assert not crowd["is_difficult"]
    object_features(("a", "b")).encode_example([one, crowd])
    with pytest.raises(ValueError, match=r"60 x 100 pixels .* of an image of 50 x 100"):
        stored_objects(objects, (60, 100), (60, 100))
