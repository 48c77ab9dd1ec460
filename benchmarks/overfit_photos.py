"""Every detector learns eight photos by heart, or something in it is wrong.

    IMAGENET_JAX_TEST_DATA=DATA python benchmarks/overfit_photos.py fcos yolox --steps=400

DATA/coco_photos.zip has photos in COCO's form. The first eight whose objects are all at least 24
pixels large, once the long side of the photo has 256, are trained on, without any augmentation, and
evaluated on. Prints a line of JSON for each detector, with the average precision of its boxes, and
of its masks where it tells them.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

PHOTOS, SIDE, LEAST = 8, 256, 24
# The backbone of each, and what else it needs.
SMALL = {"model.name": "resnet18", "model.width": 32, "model.zero_init_residual": False}
RESNET: dict[str, Any] = {**SMALL, "model.fpn_width": 64}
PYRAMID = {**RESNET, "model.fpn_strides": (8, 16, 32, 64, 128)}
# Their own momentum, 0.99, needs more steps than these until an evaluation has statistics.
MOBILE = {"model.name": "mobilenet_v3_small", "model.bn_momentum": 0.9}
RCNN = {**RESNET, "model.roi_samples": 128, "model.roi_width": 256, "model.proposals": 200}
CASES: dict[str, dict[str, Any]] = {
    "fcos": PYRAMID,
    "retinanet": PYRAMID,
    "retinanet_v2": PYRAMID,
    "faster_rcnn": RCNN,
    "faster_rcnn_v2": RCNN,
    "faster_rcnn_mobile": {**MOBILE, "model.fpn_width": 64},
    "mask_rcnn": RCNN,
    "mask_rcnn_v2": RCNN,
    "ssd": {**SMALL, "data.image_size": 300},
    "ssdlite": MOBILE,
    "yolox": {"model.name": "cspdarknet_nano", "model.bn_momentum": 0.9},
    "detr": {**RESNET, "model.fpn_width": 128},
}


def write_photos(archive: Path, folder: Path) -> list[str]:
    """Writes the photos and their annotations below `folder`; their names."""
    with zipfile.ZipFile(archive) as files:
        found = json.loads(files.read("annotations/instances.json"))
        of_image: dict[int, list[dict[str, Any]]] = {}
        for one in found["annotations"]:
            of_image.setdefault(one["image_id"], []).append(one)
        chosen = []
        for image in sorted(found["images"], key=lambda image: image["file_name"]):
            scale = SIDE / max(image["width"], image["height"])
            sides = [min(one["bbox"][2:]) * scale for one in of_image.get(image["id"], ())]
            if sides and min(sides) >= LEAST and len(chosen) < PHOTOS:
                chosen.append(image)
        ids = {image["id"] for image in chosen}
        kept = [one for one in found["annotations"] if one["image_id"] in ids]
        names = [next(n for n in files.namelist() if n.endswith(i["file_name"])) for i in chosen]
        for name in names:
            files.extract(name, folder)
    (folder / "annotations").mkdir(parents=True)
    record = {**found, "images": chosen, "annotations": kept}
    (folder / "annotations/train.json").write_text(json.dumps(record))
    return names


def overfit(head: str, photos: Path, steps: int, workdir: Path) -> dict[str, Any]:
    """Trains a detector, and evaluates it on what it was trained on."""
    from imagenet_jax.config import apply_fields, base_config
    from imagenet_jax.training.loop import train

    config = base_config()
    fields = {
        "task": "instances" if "mask" in head else "detection",
        "batch_size": PHOTOS,
        "duration": f"{steps} steps",
        "model.head": head,
        "model.dtype": "float32",
        "model.bn_group_size": 4,
        "data.name": f"coco:{photos}",
        "data.train_split": "train",
        "data.eval_split": "train",
        "data.image_size": SIDE,
        "data.train_crop": "letterbox",
        "data.eval_crop": "letterbox",
        "augment.flip": False,
        "optim.name": "adamw",
        "optim.learning_rate": 1e-3,
        "optim.weight_decay": 1e-4,
        "optim.clip_norm": 10.0,
        "schedule.warmup": f"{steps // 10} steps",
        "eval.batch_size": PHOTOS,
        "eval.every": f"{steps} steps",
        "checkpoint.every": f"{steps} steps",
        "log.every": f"{max(steps // 10, 1)} steps",
        "log.tensorboard": False,
    }
    apply_fields(config, {**fields, **CASES[head]})
    start = time.perf_counter()
    result = train(config, workdir)["eval"]
    found = {"head": head, "steps": steps, "seconds": round(time.perf_counter() - start)}
    names = [name for name in ("map", "map50", "mask_map") if name in result]
    return found | {name: result[name] for name in names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("heads", nargs="*", metavar="HEAD", help=", ".join(CASES))
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()
    data = os.environ.get("IMAGENET_JAX_TEST_DATA", "")
    archive = Path(data) / "coco_photos.zip"
    if not data or not archive.exists():
        sys.exit("set IMAGENET_JAX_TEST_DATA to a folder with coco_photos.zip")
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        write_photos(archive, photos)
        for head in args.heads or CASES:
            workdir = Path(folder) / head
            print(json.dumps(overfit(head, photos, args.steps, workdir)), flush=True)
            shutil.rmtree(workdir)


if __name__ == "__main__":
    main()
