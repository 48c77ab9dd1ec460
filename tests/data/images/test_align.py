"""Faces that are aligned by five points: against Umeyama's own form, and dots on pictures."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from imagenet_jax.config import base_config, validate
from imagenet_jax.data import open_split
from imagenet_jax.data.images.align import TEMPLATE, align, similarity
from imagenet_jax.data.landmarks import landmarks_of_photo, read_landmarks
from imagenet_jax.deploy.savedmodel_photos import photo_function
from imagenet_jax.errors import ConfigError, DataError, ExportError
from imagenet_jax.inference.photos import model_inputs

HEADER = "name," + ",".join(
    f"{point}_{axis}"
    for point in ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
    for axis in "xy"
)
COLOURS = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255)])


def umeyama(source, target):
    """Equations 38 to 42 of Umeyama 1991, by singular values."""
    means = source.mean(0), target.mean(0)
    one, two = source - means[0], target - means[1]
    left, values, right = np.linalg.svd(two.T @ one / len(one))
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    turn = left @ np.diag(signs) @ right
    scale = (values * signs).sum() / (one**2).sum(1).mean()
    return np.column_stack([scale * turn, means[1] - scale * turn @ means[0]])


def moved(rng, points):
    """Points that are turned any way, scaled and shifted."""
    angle, scale = rng.uniform(-np.pi, np.pi), np.exp(rng.uniform(-1, 1.5))
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return points @ turn.T + rng.uniform(-300, 300, 2)


@pytest.mark.parametrize("noise", [0, 3, 40])
def test_the_transform_is_umeyamas(noise):
    rng = np.random.default_rng(noise)
    for _ in range(50):
        points = moved(rng, TEMPLATE) + noise * rng.normal(size=(5, 2))
        found = similarity(points, TEMPLATE)
        np.testing.assert_allclose(found, umeyama(points, TEMPLATE), rtol=1e-9, atol=1e-7)
        assert np.linalg.det(found[:, :2]) > 0
        if not noise:
            np.testing.assert_allclose(points @ found[:, :2].T + found[:, 2], TEMPLATE, atol=1e-6)
            opencv, _ = cv2.estimateAffinePartial2D(points, TEMPLATE)
            np.testing.assert_allclose(found, opencv, atol=0.01)  # by iterations
    mirrored = TEMPLATE * (-1, 1)  # of which no reflection makes the template
    np.testing.assert_allclose(similarity(mirrored, TEMPLATE), umeyama(mirrored, TEMPLATE))


def face(rng, size=(230, 260), radius=4):
    """A grey picture with five dots where a face that is turned has them, and the points."""
    while True:
        angle, scale = rng.uniform(-np.pi, np.pi), rng.uniform(0.8, 1.5)
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        points = (TEMPLATE - TEMPLATE.mean(0)) @ turn.T + rng.uniform(80, 150, 2)
        if points.min() > 10 and (points.max(0) < (size[1] - 10, size[0] - 10)).all():
            break
    picture = np.full((*size, 3), 128, np.uint8)
    y, x = np.mgrid[: size[0], : size[1]]
    for (at_x, at_y), colour in zip(points, COLOURS, strict=True):
        picture[(x - at_x) ** 2 + (y - at_y) ** 2 <= radius**2] = colour
    return picture, points


def dots(image):
    """The middles of the five dots, x and y, by how near each pixel is to their colours."""
    levels, (y, x) = image.astype(float), np.mgrid[: image.shape[0], : image.shape[1]]
    found = []
    for colour in COLOURS:
        near = 1 - np.abs(levels - colour).max(-1) / 128
        near = np.where(near > 0.4, near, 0)  # JPEG changes what is around a dot
        found.append([(near * x).sum() / near.sum(), (near * y).sum() / near.sum()])
    return np.array(found)


@pytest.mark.parametrize("size", [112, 224])
def test_dots_of_a_picture_come_to_the_template(size):
    rng = np.random.default_rng(size)
    for _ in range(5):
        picture, points = face(rng)
        out = np.empty((size, size, 3), np.uint8)
        align(picture, points, out, (124, 116, 104))
        np.testing.assert_allclose(dots(out), TEMPLATE * size / 112, atol=0.5)


def test_what_is_beside_the_photo_is_filled():
    out = np.empty((112, 112, 3), np.uint8)
    align(np.full((112, 60, 3), 200, np.uint8), TEMPLATE, out, (1, 2, 3))
    assert (out[:, :60] == 200).all() and (out[:, 60:] == (1, 2, 3)).all()


def people(folder, count=6, format="png"):
    """Pictures of two people in two splits, and their points by the names of the images."""
    rng = np.random.default_rng(0)
    lines = [HEADER]
    for split in ("train", "val"):
        for number in range(count):
            name = f"{split}/{('ann', 'bob')[number % 2]}/{number}.{format}"
            picture, points = face(rng)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(folder / name, quality=98, subsampling=0)
            lines.append(f"{name}," + ",".join(f"{v:.3f}" for v in points.ravel()))
    (folder / "points.csv").write_text("\n".join(lines) + "\n")
    return folder / "points.csv"


def config_of(folder, **data):
    config = base_config()
    config.task = "embedding"
    config.data.update(name=f"folder:{folder}", eval_split="val", image_size=112)
    config.data.update(landmarks=f"{folder}/points.csv", train_crop="align", eval_crop="align")
    config.data.update(data)
    validate(config)
    return config


@pytest.mark.parametrize(("format", "train"), [("png", False), ("jpg", True)])
def test_batches_have_aligned_faces(tmp_path, format, train):
    """JPEGs are decoded by TensorFlow, other files by Pillow; rows come in any order."""
    people(tmp_path, format=format)
    split = open_split(config_of(tmp_path), train=train)
    if train:
        (batch,) = split.train_batches(np.arange(4), 0, 1)
        assert len(set(batch["index"].tolist())) == 4
    else:
        (batch,) = split.eval_batches(np.arange(8), 8)
        assert batch["mask"].sum() == 6
    for image in batch["image"][batch["mask"]]:
        np.testing.assert_allclose(dots(image), TEMPLATE, atol=0.5)


def test_names_without_splits_and_images_in_memory(tmp_path):
    people(tmp_path, count=4)
    file, whole = tmp_path / "val/points.csv", tmp_path / "val"
    text = (tmp_path / "points.csv").read_text()
    file.write_text(text.replace("val/", ""))
    config = config_of(whole, train_split="train", eval_split="train", cache=True)
    config.data.landmarks = str(file)
    split = open_split(config, train=False)
    assert split.example_name(0) == "ann/0.png"
    for image in split.images(np.arange(4)):
        np.testing.assert_allclose(dots(image), TEMPLATE, atol=0.5)


def test_a_part_of_a_split_has_its_own_points(tmp_path):
    people(tmp_path)
    config = config_of(tmp_path, held_out_classes=("bob",), eval_split="train")
    split = open_split(config, train=False)
    assert [split.example_name(n)[:9] for n in range(3)] == ["train/bob"] * 3
    for image in split.images(np.arange(3)):
        np.testing.assert_allclose(dots(image), TEMPLATE, atol=0.5)


def test_images_without_points_are_counted_and_named(tmp_path):
    file = people(tmp_path)
    kept = [line for line in file.read_text().splitlines() if "val/ann" not in line]
    file.write_text("\n".join(kept))
    with pytest.raises(DataError, match=r"lacks the points of 3 of 6 images of val: 'val/ann/0"):
        open_split(config_of(tmp_path), train=False)
    split = open_split(config_of(tmp_path, bad_images="skip", max_bad_fraction=0.5), train=False)
    (batch,) = split.eval_batches(np.arange(6), 6)
    assert batch["mask"].tolist() == [False] * 3 + [True] * 3
    assert len(split.unreadable) == 3 and "has no points of it" in split.unreadable[0]
    file.write_text("\n".join(kept[:7]))
    with pytest.raises(DataError, match=r"of none of the 6 images of val, as 'val/ann/0.png'; it"):
        open_split(config_of(tmp_path, bad_images="skip"), train=False)


def test_a_photo_is_known_by_the_end_of_its_path(tmp_path):
    file = tmp_path / "points.csv"
    rows = {"1.jpg": TEMPLATE, "ann/1.jpg": TEMPLATE + 1, "val/bob/1.jpg": TEMPLATE + 2}
    lines = [f"{name}," + ",".join(map(str, p.ravel())) for name, p in rows.items()]
    file.write_text("\n".join([HEADER, *lines]))
    for path, name in (
        ("1.jpg", "1.jpg"),
        ("/photos/ann/1.jpg", "ann/1.jpg"),
        ("photos/val/bob/1.jpg", "val/bob/1.jpg"),
        ("bob/1.jpg", "1.jpg"),
    ):
        np.testing.assert_array_equal(landmarks_of_photo(str(file), path), rows[name])
    with pytest.raises(DataError, match=r"^ann/2.jpg: config.data.landmarks = .* has no points"):
        landmarks_of_photo(str(file), "ann/2.jpg")


GOOD = "a.jpg," + ",".join(map(str, TEMPLATE.ravel()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: there must be one column name, left_eye_x"),
        (HEADER.replace("nose_x", "nose"), "line 1: there must be one column nose_x; expected"),
        (HEADER, "has no line but the first"),
        (f"{HEADER}\n{GOOD[:-9]}", "line 2: 'a.jpg,.* expected a name and ten numbers"),
        (f"{HEADER}\n{GOOD},1", "line 2: 'a.jpg,.* expected a name and ten numbers"),
        (f"{HEADER}\n{GOOD[5:]}", "line 2: .* expected a name and ten numbers"),
        (f"{HEADER}\na,{','.join(['nan'] * 10)}", "line 2: .* expected a name and ten numbers"),
        (f"{HEADER}\na,{','.join(['3'] * 10)}", "of points that are not all the same"),
        (f"{HEADER}\n{GOOD}\n{GOOD}", "line 3: 'a.jpg' has points in a line before"),
        (
            f"{HEADER}\na," + ",".join(map(str, TEMPLATE[[1, 0, 2, 4, 3]].ravel())),
            "1 of 1 faces have left and right exchanged",
        ),
    ],
)
def test_damaged_lists_are_named_with_their_line(tmp_path, text, message):
    (tmp_path / "points.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_landmarks(str(tmp_path / "points.csv"))


def test_a_list_that_changes_is_read_anew(tmp_path):
    file = tmp_path / "points.csv"
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_landmarks(str(file))
    file.write_bytes(f"{HEADER}\n{GOOD}".encode("utf-8-sig"))
    assert [*read_landmarks(str(file)).row_of] == ["a.jpg"]
    columns, cells = HEADER.split(","), GOOD.replace("a.jpg", "b.jpg").split(",")
    mixed = io.StringIO()
    mixed.write(",".join(["age", *columns[::-1]]) + "\n" + ",".join(["7", *cells[::-1]]))
    file.unlink()
    file.write_text(mixed.getvalue())
    found = read_landmarks(str(file))
    assert [*found.row_of] == ["b.jpg"]
    np.testing.assert_array_equal(found.points[0], TEMPLATE)


def test_an_image_without_a_name_is_refused(tmp_path):
    people(tmp_path)
    config, photo = config_of(tmp_path), tmp_path / "val/ann/0.png"
    ((image,), shapes) = next(model_inputs(str(photo), config))
    np.testing.assert_allclose(dots(image), TEMPLATE, atol=0.5)
    assert shapes == [(230, 260)]
    with pytest.raises(DataError, match=r"image 0: .* by the name of its file, and this image has"):
        next(model_inputs(photo.read_bytes(), config))
    with pytest.raises(ExportError, match=r"eval_crop = 'align' needs points of each face"):
        photo_function(None, config)


@pytest.mark.parametrize(
    ("task", "data", "message"),
    [
        ("embedding", {"landmarks": ""}, "train_crop = 'align' needs config.data.landmarks"),
        ("classification", {}, "train_crop = 'align' is for config.task = 'embedding', not 'cl"),
        (
            "embedding",
            {"train_crop": "resize", "eval_crop": "resize"},
            r"landmarks = 'p.csv' is for config.data.train_crop = 'align' or eval_crop",
        ),
    ],
)
def test_fields_that_do_not_go_together(task, data, message):
    config = base_config()
    config.task = task
    config.data.update(landmarks="p.csv", train_crop="align", eval_crop="align")
    config.data.update(data)
    with pytest.raises(ConfigError, match=message):
        validate(config)
