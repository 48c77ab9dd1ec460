"""The fields of evaluations by features: what those are worth that are learnt without labels."""

from imagenet_jax.config.field import Field, number

FEATURES: dict[str, Field] = {
    "eval.knn": number(
        20,
        "of features: training images that vote for the class of each evaluated one, its nearest "
        "neighbours; 0: none",
        0,
    ),
    "eval.knn_temperature": number(
        0.07,
        "of features: a neighbour's vote is exp(cosine similarity / temperature)",
        1e-3,
        1e3,
    ),
    "eval.linear_probe": Field(
        False,
        "of features: in each evaluation also a logistic regression that learns classes from those "
        "of the training images",
    ),
    "eval.probe_examples": number(
        0,
        "of features: training images at most that an evaluation compares with and learns from, "
        "evenly from the whole split and the same ones each time; 0: all",
        0,
    ),
}
