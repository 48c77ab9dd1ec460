"""The fields of what is learnt from labels and from a teacher: config.loss, config.distill."""

import math
from typing import Any

from imagenet_jax.config.field import Field, choice, number

BALANCED = ("balanced",)


def _are_weights(value: Any) -> bool:
    """Whether it is one of the values of loss.class_weights."""
    try:
        return value == BALANCED or all(0 <= float(v) < math.inf for v in value)
    except (TypeError, ValueError):
        return False


LOSS: dict[str, Field] = {
    "loss.name": choice(
        "softmax",
        ("softmax", "sigmoid"),
        "classification: cross-entropy of the softmax, or binary cross-entropy of each class",
    ),
    "loss.label_smoothing": number(
        0.1, "share of the target spread over all classes; multilabel: that becomes one half", 0, 1
    ),
    "loss.auxiliary": number(
        0.3, "weight of the loss of each auxiliary head (GoogLeNet, Inception v3)", 0
    ),
    "loss.class_reduction": choice(
        "mean", ("mean", "sum"), "multilabel, sigmoid: the loss of an image over its classes"
    ),
    "loss.target_threshold": number(
        0.0,
        "multilabel, sigmoid: targets above it count as 1, others as 0 (1e-6: all that are mixed "
        "in, as in DeiT III); 0: as mixed and smoothed",
        0,
        1,
    ),
    "loss.jsd": number(
        0.0,
        "softmax: weight of the Jensen-Shannon divergence between the views of an image, of which "
        "the first alone has a label, see data.views; 12 with three views in AugMix; 0: none",
        0,
    ),
    "loss.class_weights": Field(
        (),
        "what each class counts in training, as `weight` of torch's losses: softmax: a weighted "
        "mean over the images; multilabel, sigmoid: a factor of each class's term. balanced: "
        "images / (classes x images of the class) of the training split, as scikit-learn has it; "
        "(): all the same",
        "('balanced',), or a number from 0 on for each class in the order of the data set, as in "
        "(1.0, 2.5)",
        _are_weights,
    ),
}

DISTILL: dict[str, Field] = {
    "distill.weights": Field(
        "",
        "a teacher that sees the same crops and mixes as the network that is trained: pretrained "
        "weights (resnet50, resnet50.tv_in1k), a .pth, .safetensors or .npz file, the workdir of a "
        "run, or '': none",
    ),
    "distill.model": Field(
        "", "the teacher's name in the table of models, where a file does not say; '': as it says"
    ),
    "distill.kind": choice(
        "soft",
        ("soft", "hard"),
        "soft: divergence from the teacher's probabilities (Hinton et al. 2015); hard: "
        "cross-entropy with its most probable class (DeiT)",
    ),
    "distill.temperature": Field(
        1.0,
        "soft: by which both's logits are divided; the loss is multiplied by its square",
        "above 0",
        lambda v: 0 < v < math.inf,
    ),
    "distill.share": number(
        0.5, "the teacher's share of the loss, the labels' is the rest; 1: no labels are used", 0, 1
    ),
    "distill.image_size": number(
        0, "to what the teacher's images are resized on the device; 0: as they are", 0
    ),
}


def _are_numbers(value: Any) -> bool:
    """Whether it is one of the values of multi_task.weights."""
    try:
        return all(0 < float(v) < math.inf for v in value)
    except (TypeError, ValueError):
        return False


MULTI_TASK: dict[str, Field] = {
    "multi_task.tasks": Field(
        (),
        "what config.task = 'multi_task' learns over one backbone: classification, multilabel, "
        "segmentation, detection or instances, each once at most and with its head, as "
        "('detection:fcos', 'segmentation:unet')",
        "names of tasks, a head behind a colon",
        lambda v: all(isinstance(task, str) for task in v),
    ),
    "multi_task.weights": Field(
        (),
        "what the loss of each of them counts; (): 1",
        "a number above 0 for each task",
        _are_numbers,
    ),
    "multi_task.learned": Field(
        False,
        "that each loss counts as much as the network finds it certain, too: exp(-s) L + s / 2 "
        "with a parameter s (Kendall et al. 2018)",
    ),
}
