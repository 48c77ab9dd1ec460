"""A classifier of ImageNet's classes with random weights, and miniatures of the published sets.

What they hold is known by NumPy alone: pixels by Pillow, logits by `model.apply`.
"""

import csv
import json
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from imagenet_jax.data.sources.imagenet import SYNSETS
from imagenet_jax.models import create_model
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.weights.files import write_safetensors

SIZE = 32
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])  # torchvision's
with (Path(__file__).parents[2] / "imagenet_jax/suites/classes.csv").open() as file:
    CLASSES = list(csv.DictReader(file))


class Classifier:
    """A LeNet of 1000 classes."""

    def __init__(self, file, variables=None):
        rng = np.random.default_rng(0)
        self.model = create_model("lenet", num_classes=1000)
        self.variables = variables or jax.tree.map(
            lambda leaf: rng.normal(0, 0.2, leaf.shape).astype(np.float32),
            variable_shapes(self.model, SIZE),
        )
        self.apply = jax.jit(lambda images: self.model.apply(self.variables, images, train=False))
        write_safetensors(file, self.variables)
        self.flags = (
            *("--model=lenet", f"--weights={file}", f"--config.data.image_size={SIZE}"),
            *("--config.data.eval_crop=resize", "--config.eval.batch_size=64"),
        )

    def reordered(self, order, file):
        """The same with its classes in another order."""
        params = self.variables["params"]
        last = {name: array[..., order] for name, array in params["fc3"].items()}
        return Classifier(file, {"params": {**params, "fc3": last}})

    def logits(self, pixels):
        """float32 [N, 1000] of images uint8 [N, S, S, 3]."""
        return np.asarray(self.apply((np.float32(pixels) / 255 - MEAN) / STD))

    def logits_of(self, files, border=0):
        """Of image files, without so many pixels around them."""
        images = [np.asarray(Image.open(file)) for file in files]
        if border:
            images = [image[border:-border, border:-border] for image in images]
        return self.logits(np.stack(images))


def pictures(count, seed):
    """Coarse patterns uint8 [N, S, S, 3], whose logits differ more than those of noise."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), np.uint8)
    return coarse.repeat(SIZE // 4, 1).repeat(SIZE // 4, 2)


def put(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=1)


def synsets(column):
    return [row["synset"] for row in CLASSES if row[column]]


def chosen(logits, classes, rank):
    """For each image the class, of some, that is so many places behind the best."""
    order = np.argsort(-logits[:, classes], 1, kind="stable")
    return np.asarray(classes)[order[np.arange(len(order)), rank]]


def write_by_folder(classifier, root, count, seed, folders, name="{}.png"):
    """Images in folders of their classes {number: folder}: every third the best of them, every
    third the next best, the others some class."""
    images = pictures(count, seed)
    classes = sorted(folders)
    number = np.arange(count)
    rank = np.where(number % 3 == 2, number % len(classes), number % 3)
    for k, label in enumerate(chosen(classifier.logits(images), classes, rank)):
        put(root / folders[label] / name.format(k), images[k])


def write_one_each(root, folders, seed):
    images = pictures(len(folders), seed)
    for k, folder in enumerate(folders):
        put(root / folder / "one.png", images[k])


def write_sets(classifier, root):
    """All sets, under their published names."""
    numbers = {number: str(number) for number in range(1000)}
    by_synset = dict(enumerate(SYNSETS))
    matched = root / "imagenetv2-matched-frequency-format-val"
    write_by_folder(classifier, matched, 60, 1, numbers)
    write_one_each(matched, ["0", "1", "2", "10", "999"], 2)
    write_by_folder(classifier, root / "sketch", 40, 4, by_synset)
    known = synsets("a")
    write_one_each(root / "imagenet-a", known, 5)
    mine = {SYNSETS.index(synset): synset for synset in known}
    write_by_folder(classifier, root / "imagenet-a", 30, 6, mine)
    (root / "imagenet-a/README.txt").write_text("about it")
    folder = root / "imagenet-c/extra/saturate/2"
    write_by_folder(classifier, folder, 30, 20, by_synset, "{}.PNG")
    write_real(classifier, root / "imagenet-real")
    write_objectnet(classifier, root / "objectnet-1.0")


def write_real(classifier, root):
    images = pictures(40, 30)
    best = classifier.logits(images).argmax(1).tolist()
    labels = []
    for k, image in enumerate(images):
        put(root / "val" / f"{k}.png", image)
        (root / "val" / f"{k}.png").rename(root / "val" / f"ILSVRC2012_val_{k + 1:08d}.JPEG")
        others = [(best[k] + 7) % 1000, (best[k] + 400) % 1000]
        labels.append([[], [best[k]], [others[0], best[k]], others][k % 4])
    (root / "real.json").write_text(json.dumps(labels))


def write_objectnet(classifier, root):
    """Images in the class of their best answer or of the next best, and others."""
    shared = [row for row in CLASSES if row["objectnet"]]
    folders = {SYNSETS.index(row["synset"]): row["objectnet"] for row in shared}
    inner = pictures(300, 40)
    best = np.argsort(-classifier.logits(inner), 1)
    for k, image in enumerate(inner):
        framed = np.full((SIZE + 4, SIZE + 4, 3), np.uint8([255, 0, 0]))
        framed[2:-2, 2:-2] = image
        others = {0: "squeegee", 1: "tie", 2: "chair"}.get(k % 30)  # the first is not shared
        folder = folders.get(best[k, 0]) or folders.get(best[k, 1]) or others
        if folder:
            put(root / "images" / folder / f"{k}.png", framed)
    (root / "mappings").mkdir()
    (root / "mappings" / "folder_to_objectnet_label.json").write_text("{}")
