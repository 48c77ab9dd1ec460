"""The fields of metric learning: config.embedding."""

import math

from imagenet_jax.config.field import Field, choice, number

# Losses with a direction for each class, and those that compare the images of a batch.
WITH_CLASSES = ("arcface", "cosface", "proxy_anchor")
OF_BATCH = ("triplet", "supcon", "proxy_anchor")

EMBEDDING: dict[str, Field] = {
    "embedding.size": number(128, "numbers of an embedding", 2, 2**16),
    "embedding.norm": Field(
        True, "a BatchNorm before embeddings are divided by their length, as in ArcFace"
    ),
    "embedding.loss": choice(
        "triplet",
        ("triplet", "arcface", "cosface", "supcon", "proxy_anchor"),
        "triplet: FaceNet's, an image nearer to those of its class than to others; arcface, "
        "cosface: a softmax over classes with a margin; supcon: supervised contrastive; "
        "proxy_anchor: directions of classes among the images of a batch",
    ),
    "embedding.mining": choice(
        "semi_hard",
        ("semi_hard", "hard"),
        "triplet: the images compared, of a batch. semi_hard: each of the class with the nearest "
        "other image that is farther; hard: the farthest of the class with the nearest other",
    ),
    "embedding.turns": Field(
        1,
        "training: into how many classes each is divided by turning its images: 4: by quarters of "
        "a circle, as with the characters of Omniglot (Vinyals et al. 2016); 8: these and their "
        "mirror images; for few classes whose images have a way up",
        "1, 4 or 8",
        lambda v: v in (1, 4, 8),
    ),
    "embedding.triplet_margin": number(
        0.2, "triplet: by how much nearer, of squared Euclidean distances", 0, 4
    ),
    "embedding.angular_margin": Field(
        0.5, "arcface: in radians", "from 0 to below pi", lambda v: 0 <= v < math.pi
    ),
    "embedding.cosine_margin": number(0.35, "cosface: of cosines", 0, 2),
    "embedding.scale": number(64.0, "arcface, cosface: factor of the cosines", 1e-3, 1e4),
    "embedding.temperature": number(0.1, "supcon: by which cosines are divided", 1e-3, 1e3),
    "embedding.proxy_margin": number(0.1, "proxy_anchor: delta, of cosines", 0, 2),
    "embedding.proxy_scale": number(32.0, "proxy_anchor: alpha, factor of the cosines", 1e-3, 1e4),
    "embedding.pairs": Field(
        "",
        "evaluation: a file of pairs of images in the form of LFW's pairs.txt; '': pairs are made "
        "of the evaluation split",
    ),
    "embedding.num_pairs": number(
        6000,
        "evaluation: pairs that are made at most, half of them of one class; the same ones in "
        "every run",
        20,
        10**7,
    ),
    "embedding.groups": Field(
        "",
        "evaluation: a CSV file with the columns name, of images or of identities, and the group "
        "each belongs to: results are also told of each group, over the pairs within it",
    ),
    "embedding.group_column": Field("", "the column of embedding.groups; '': the only other one"),
    "embedding.group_far": number(
        1e-3,
        "embedding.groups: the false-accept rate over all pairs that says at which distance false "
        "accepts and rejects of the groups are counted; if less than one pair, that of one",
        0,
        1,
    ),
}
