"""How good a model's features are for another data set: linear probe and few-shot accuracy."""

from typing import Any

import numpy as np

from imagenet_jax.data import Split, check_splits
from imagenet_jax.data.bank import bank_of
from imagenet_jax.data.catalog import open_split
from imagenet_jax.data.order import even_batch
from imagenet_jax.errors import ConfigError
from imagenet_jax.inference.features import head_inputs
from imagenet_jax.tasks.linear_probe import fit_linear
from imagenet_jax.training.trained import TrainedModel

SHOTS = (1, 2, 5, 10)
_DRAWS = 5


def probe(
    trained: TrainedModel, train_split: str, shots: tuple[int, ...] = SHOTS
) -> dict[str, Any]:
    """Logistic regression on the frozen features of the data set of the model's config.

    Args:
      trained: the model; its config.data names the data set, which has one label for each image.
      train_split: the split that the regression learns from; the other is data.eval_split.
      shots: numbers of training images per class; those that a class lacks are left out.

    Returns:
      model, dataset, features (their number), linear_probe with num_examples and top1 of all
      training images, and few_shot, a list of shots, top1 (mean of five draws) and top1_std.

    Raises:
      DataError: if the splits have other classes.
      ConfigError: for a task of several labels, or none.
    """
    if trained.task.reads != ("label",):
        raise ConfigError(
            f"--probe learns the one label of each image, which config.task = "
            f"{trained.config.task!r} does not have"
        )
    config = trained.config.copy_and_resolve_references()
    config.data.train_split = train_split
    config.data.labelled_share = 0.0  # images without labels teach it nothing
    eval_split = open_split(config, train=False)
    train_part = bank_of(open_split(config, train=True))
    check_splits(train_part, eval_split)
    x, y = features(trained, train_part)
    test_x, test_y = features(trained, eval_split)

    def accuracy(rows: np.ndarray) -> float:
        return float((fit_linear(x[rows], y[rows]).predict(test_x) == test_y).mean())

    per_class = np.bincount(y, minlength=train_part.num_classes).min()
    few_shot = []
    for count in [count for count in shots if count <= per_class]:
        found = [accuracy(_draw(y, count, seed)) for seed in range(_DRAWS)]
        few_shot.append(
            {"shots": count, "top1": float(np.mean(found)), "top1_std": float(np.std(found))}
        )
    return {
        "model": trained.name,
        "dataset": config.data.name,
        "features": x.shape[1],
        "linear_probe": {"num_examples": len(test_y), "top1": accuracy(np.arange(len(y)))},
        "few_shot": few_shot,
    }


def _draw(label: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The rows of `count` random examples of each class."""
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(label == k))[:count] for k in np.unique(label)]
    return np.concatenate(rows)


def features(trained: TrainedModel, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """See `head_inputs`, of each readable image, float32 [N, D], and labels int32 [N]."""
    config, before_head = split.config, head_inputs(trained)
    size = even_batch(split.num_examples, config.eval.batch_size)
    found, labels = [], []
    for batch in split.eval_batches(np.arange(size), size):
        out = np.asarray(before_head(trained.variables, batch["image"]))
        found.append(out[batch["mask"]])
        labels.append(batch["label"][batch["mask"]])
    return np.concatenate(found), np.concatenate(labels)


def probe_text(result: dict[str, Any]) -> str:
    """A line for each number of training images."""
    linear = result["linear_probe"]
    lines = [f"{result['model']} on {result['dataset']}, {result['features']} features"]
    lines += [
        f"  {row['shots']:3} image(s) a class  top-1 {row['top1']:.2%} +- {row['top1_std']:.2%}"
        for row in result["few_shot"]
    ]
    lines.append(f"  linear probe         top-1 {linear['top1']:.2%}  ({linear['num_examples']:,})")
    return "\n".join(lines)
