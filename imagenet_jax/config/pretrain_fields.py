"""The fields of learning without labels: config.pretrain."""

from imagenet_jax.config.field import Field, choice, duration, number

PRETRAIN: dict[str, Field] = {
    "pretrain.layers": number(2, "linear layers of the projector", 1, 8),
    "pretrain.hidden": number(2048, "outputs of its hidden layers", 1, 2**16),
    "pretrain.size": number(128, "outputs of its last one", 2, 2**16),
    "pretrain.norm": choice(
        "hidden",
        ("none", "hidden", "all"),
        "which layers of the projector have a BatchNorm; hidden: all but the last",
    ),
    "pretrain.predictor": number(
        0, "byol, simsiam, moco_v3: outputs of the predictor's hidden layer; 0: none", 0, 2**16
    ),
    "pretrain.predictor_norm": choice(
        "hidden", ("none", "hidden", "all"), "which of the two layers of the predictor have one"
    ),
    "pretrain.temperature": number(
        0.1, "simclr, moco_v3: by which cosines are divided; dino: the student's", 1e-3, 1e3
    ),
    "pretrain.prototypes": number(0, "dino: outputs of the last layer; 0: none", 0, 2**20),
    "pretrain.teacher_temperature": number(0.04, "dino: of the teacher", 1e-3, 1e3),
    "pretrain.teacher_temperature_start": number(
        0.04, "dino: of the teacher at the beginning, from where it rises linearly", 1e-3, 1e3
    ),
    "pretrain.teacher_warmup": duration("", "dino: how long it rises", empty=True),
    "pretrain.center_momentum": number(
        0.9, "dino: what a step keeps of the centre of the teacher's outputs", 0, 1
    ),
    "pretrain.freeze_prototypes": duration(
        "", "dino: how long the last layer has no gradient; 1 epoch in the paper", empty=True
    ),
}
