"""The fields of semi-supervised learning: config.semi, and which training images have labels."""

import ml_collections

from imagenet_jax.config.field import Field, duration, number, share

# Tasks that learn from images without labels, too, and all whose network tells one class an image.
SEMI_SUPERVISED = ("fixmatch", "mean_teacher")
CLASSIFIERS = ("classification", *SEMI_SUPERVISED)

LABELLED: dict[str, Field] = {
    "data.labelled_per_class": number(
        0,
        "training: images of each class that have their labels, drawn by the seed, those of a "
        "smaller number among those of a larger one; 0: all",
        0,
    ),
    "data.labelled_fraction": Field(
        1.0,
        "training: share of the images of each class that have their labels, drawn by the seed, "
        "one at least",
        "above 0, at most 1",
        lambda v: 0 < v <= 1,
    ),
    "data.labelled_list": Field(
        "",
        "training: a text file with the names of the images that have their labels, one a line, "
        "as the data set has them (train/cat/1.jpg) or with fewer folders; or with their numbers; "
        "'': all",
    ),
    "data.unlabelled_class": Field(
        "",
        "the class whose training images have no label, as the folder unlabelled: it is none of "
        "the classes then, and what else is in training has its label; '': none",
    ),
    "data.labelled_share": share(
        0.0,
        "fixmatch, mean_teacher: share of the rows of each batch that have labels, the others are "
        "of images without; 1/8 in FixMatch; 0: only images with labels are trained on",
    ),
}

SEMI: dict[str, Field] = {
    "semi.weight": number(
        1.0,
        "weight of the loss that needs no labels: 1 in FixMatch; in Mean Teacher's reference 100 "
        "times the labelled share of the data set",
        0,
    ),
    "semi.threshold": number(
        0.95, "fixmatch: how probable a class must be to stand for the label of an image", 0, 1
    ),
    "semi.ramp_up": duration(
        "",
        "mean_teacher: how long semi.weight takes to rise to its value, as exp(-5 (1 - t)^2)",
        empty=True,
    ),
}


def labelled_fields(data: ml_collections.ConfigDict) -> list[str]:
    """The names of those of config.data that choose which training images have their labels."""
    chosen = {
        "labelled_per_class": data.labelled_per_class > 0,
        "labelled_fraction": data.labelled_fraction < 1,
        "labelled_list": bool(data.labelled_list),
        "unlabelled_class": bool(data.unlabelled_class),
    }
    return [name for name, is_set in chosen.items() if is_set]
