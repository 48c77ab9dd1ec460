"""The host pipeline beside its peers: images per core-second, from JPEGs to uint8 batches.

    IMAGENET_JAX_TEST_DATA=DIR python benchmarks/input_pipeline.py [--json=FILE] [--rounds=5]

DIR holds imagenet_sample.zip, 500 photos of ImageNet. Every contender makes batches of 64
images of 224 x 224 pixels, randomly cropped as Szegedy et al. 2014 do and resized; ours read
prepared array_record files, the others hold the files in memory. Each runs in a process of its
own; in each round each measures one window, one after the other, and the medians are compared.
CPU time is user and system time of the process and its workers. Peers that are not installed
(torch and torchvision, grain) are left out by name.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
BATCH, SIZE, WARMUP = 64, 224, 16
AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


def photos() -> list[bytes]:
    """The 500 photos, encoded."""
    archive = Path(os.environ["IMAGENET_JAX_TEST_DATA"]) / "imagenet_sample.zip"
    with zipfile.ZipFile(archive) as file:
        return [file.read(name) for name in sorted(file.namelist())]


def random_box(height: int, width: int) -> tuple[int, int, int, int]:
    """Top, left, height, width of a random-resized-crop, as torchvision draws it."""
    for _ in range(10):
        area = height * width * random.uniform(*AREA)
        ratio = np.exp(random.uniform(*np.log(RATIO)))
        w, h = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if 0 < w <= width and 0 < h <= height:
            return random.randint(0, height - h), random.randint(0, width - w), h, w
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side, side


def ours(folder: Path, name: str) -> Iterator[int]:
    """This project's pipeline on a prepared data set."""
    sys.path.insert(0, str(ROOT))
    from imagenet_jax.config import base_config
    from imagenet_jax.data import open_split

    config = base_config()
    config.batch_size, config.data.image_size = BATCH, SIZE
    config.data.name, config.data.dir = name, str(folder)
    for batch in open_split(config, train=True).train_batches(np.arange(BATCH), 0, 10**6):
        yield len(batch["image"])


def flax_example(folder: Path) -> Iterator[int]:
    """What google/flax examples/imagenet does: crop at decoding, bicubic, normalise, bfloat16."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    files = tf.data.Dataset.from_tensor_slices(np.array(photos(), object))

    def one(encoded):
        box = tf.image.sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(encoded),
            tf.zeros((1, 0, 4)),
            area_range=AREA,
            aspect_ratio_range=RATIO,
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        window = tf.concat([box[0][:2], box[1][:2]], 0)
        image = tf.io.decode_and_crop_jpeg(encoded, window, channels=3)
        image = tf.image.resize(image, (SIZE, SIZE), "bicubic")
        image = tf.image.random_flip_left_right(image)
        image = (image - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]
        return tf.cast(image, tf.bfloat16)

    dataset = files.repeat().map(one, tf.data.AUTOTUNE).batch(BATCH).prefetch(4)
    for batch in dataset:
        yield len(batch)


def opencv(folder: Path) -> Iterator[int]:
    """A bare loop: decode, crop, resize into a batch; one thread, nothing else."""
    import cv2

    cv2.setNumThreads(1)
    files = [np.frombuffer(file, np.uint8) for file in photos()]
    while True:
        batch = np.empty((BATCH, SIZE, SIZE, 3), np.uint8)
        for out, file in zip(batch, random.choices(files, k=BATCH), strict=True):
            image = cv2.imdecode(file, cv2.IMREAD_COLOR)
            top, left, height, width = random_box(*image.shape[:2])
            crop = image[top : top + height, left : left + width]
            cv2.cvtColor(cv2.resize(crop, (SIZE, SIZE)), cv2.COLOR_BGR2RGB, dst=out)
        yield BATCH


def decode_alone(folder: Path) -> Iterator[int]:
    """libjpeg-turbo through OpenCV, whole images, nothing kept: the limit."""
    import cv2

    files = [np.frombuffer(file, np.uint8) for file in photos()]
    while True:
        for file in random.choices(files, k=BATCH):
            cv2.imdecode(file, cv2.IMREAD_COLOR)
        yield BATCH


def torchvision_dataloader(folder: Path) -> Iterator[int]:
    """torchvision's RandomResizedCrop on Pillow images in a DataLoader, one worker a core."""
    import io

    import torch
    from PIL import Image

    library = torch.library.Library("torchvision", "DEF")  # some wheels lack the compiled ops
    for operator in ("nms(Tensor a, Tensor b, float c) -> Tensor", "qnms(Tensor a) -> Tensor"):
        with contextlib.suppress(RuntimeError):
            library.define(operator)
    from torchvision import transforms

    crop = transforms.Compose([transforms.RandomResizedCrop(SIZE), transforms.PILToTensor()])

    class Photos(torch.utils.data.Dataset):
        files = photos()

        def __len__(self) -> int:
            return 10**9

        def __getitem__(self, number: int):
            file = self.files[number % len(self.files)]
            return crop(Image.open(io.BytesIO(file)).convert("RGB"))

    loader = torch.utils.data.DataLoader(Photos(), BATCH, num_workers=cores())
    for batch in loader:
        yield len(batch)


def grain_opencv(folder: Path) -> Iterator[int]:
    """Grain with OpenCV's decode, crop and resize, one worker process a core."""
    import grain
    from absl import flags

    flags.FLAGS.mark_as_parsed()  # grain asks for its own
    dataset = grain.MapDataset.source(photos()).shuffle(seed=0).repeat().map(opencv_crop)
    # A worker would otherwise run 500 batches ahead, in 16 threads.
    dataset = dataset.batch(BATCH).to_iter_dataset(grain.ReadOptions(1, 4))
    workers = grain.multiprocessing.MultiprocessingOptions(num_workers=cores())
    for batch in dataset.mp_prefetch(workers):
        yield len(batch)


def opencv_crop(file: bytes) -> np.ndarray:
    """Decode, crop and resize of one photo; uint8 [SIZE, SIZE, 3]."""
    import cv2

    cv2.setNumThreads(1)
    image = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)
    top, left, height, width = random_box(*image.shape[:2])
    crop = cv2.resize(image[top : top + height, left : left + width], (SIZE, SIZE))
    return cv2.cvtColor(crop, cv2.COLOR_BGR2RGB)


CONTENDERS: dict[str, tuple[Callable[[Path], Iterator[int]], tuple[str, ...]]] = {
    "decoding alone (libjpeg-turbo, OpenCV)": (decode_alone, ()),
    "flax ImageNet example (tf.data)": (flax_example, ()),
    "torchvision, Pillow, DataLoader": (torchvision_dataloader, ("torch", "torchvision")),
    "Grain, OpenCV": (grain_opencv, ("grain",)),
    "OpenCV, bare loop": (opencv, ()),
    "imagenet_jax, original JPEGs": (partial(ours, name="photos"), ()),
    "imagenet_jax, JPEGs of short side 256": (partial(ours, name="photos_256"), ()),
    "imagenet_jax, raw uint8 of short side 256": (partial(ours, name="photos_256_raw"), ()),
}
DATA_SETS = {
    "photos": [],
    "photos_256": ["--resize=256"],
    "photos_256_raw": ["--resize=256", "--encoding=raw"],
}
BASELINE = "flax ImageNet example (tf.data)"


def cores() -> int:
    return len(os.sched_getaffinity(0))


def cpu_seconds(process: int) -> float:
    """User and system time of a process and of all that it started."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    spent = sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    children = Path(f"/proc/{process}/task").glob("*/children")
    numbers = [number for file in children for number in file.read_text().split()]
    return spent + sum(cpu_seconds(int(number)) for number in numbers)


def serve(name: str, folder: Path, seconds: float) -> None:
    """Measures a window for each line on stdin and prints images per second of CPU and clock."""
    batches = CONTENDERS[name][0](folder)
    for _ in sys.stdin:
        until, count = time.perf_counter() + seconds / 4, 0
        while count < WARMUP or time.perf_counter() < until:
            next(batches)  # what was made ahead of time cost nothing in this window
            count += 1
        start, wall, made = cpu_seconds(os.getpid()), time.perf_counter(), 0
        while time.perf_counter() - wall < seconds:
            made += next(batches)
        spent, wall = cpu_seconds(os.getpid()) - start, time.perf_counter() - wall
        print(f"\n{json.dumps({'core': made / spent, 'wall': made / wall})}", flush=True)


def measure(folder: Path, rounds: int, seconds: float) -> dict[str, list[dict[str, float]]]:
    """All windows of all contenders that are installed, round by round."""
    servers, results = {}, {}
    for name, (_, packages) in CONTENDERS.items():
        missing = [package for package in packages if importlib.util.find_spec(package) is None]
        if missing:
            print(f"left out: {name} (not installed: {', '.join(missing)})", file=sys.stderr)
            continue
        command = [sys.executable, __file__, "--serve", name, "--folder", str(folder)]
        servers[name] = subprocess.Popen(
            [*command, f"--seconds={seconds}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        results[name] = []
    for number in range(rounds + 1):  # the first starts everything up
        for name, server in servers.items():
            server.stdin.write("go\n")
            server.stdin.flush()
            window = next(line for line in server.stdout if line.startswith("{"))
            if number:
                results[name].append(json.loads(window))
    for server in servers.values():
        os.killpg(server.pid, signal.SIGKILL)  # with its workers
    return results


def prepare(folder: Path) -> None:
    """The three data sets that our pipeline reads: as they are, and at a short side of 256."""
    archive = Path(os.environ["IMAGENET_JAX_TEST_DATA"]) / "imagenet_sample.zip"
    command = [sys.executable, str(ROOT / "launch.py"), "prepare", f"--dataset=zip:{archive}"]
    for name, options in DATA_SETS.items():
        subprocess.run([*command, f"--dir={folder}", f"--name={name}", *options], check=True)


def table(results: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Prints the medians and returns them."""
    medians = {
        name: {key: statistics.median(w[key] for w in windows) for key in ("core", "wall")}
        for name, windows in results.items()
    }
    baseline = medians[BASELINE]["core"]
    print(f"{'':44} {'images per':>12} {'of the flax':>12} {'images/s':>9}")
    print(f"{'':44} {'core-second':>12} {'example':>12}")
    for name, median in medians.items():
        median["ratio"] = median["core"] / baseline
        spread = [window["core"] for window in results[name]]
        print(
            f"{name:44} {median['core']:>12,.0f} {median['ratio']:>11.2f}x {median['wall']:>9,.0f}"
            f"   ({min(spread):,.0f} to {max(spread):,.0f})"
        )
    return medians


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.5, help="length of a window")
    parser.add_argument("--serve", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return serve(args.serve, args.folder, args.seconds)
    if "IMAGENET_JAX_TEST_DATA" not in os.environ:
        parser.error("set IMAGENET_JAX_TEST_DATA to the folder of imagenet_sample.zip")
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        medians = table(measure(Path(folder), args.rounds, args.seconds))
    if args.json:
        args.json.write_text(json.dumps(medians, indent=2) + "\n")


if __name__ == "__main__":
    main()
