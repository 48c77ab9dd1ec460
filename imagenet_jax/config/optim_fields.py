"""The fields of the optimizer and of the course of the rate: config.optim, config.schedule."""

import math

from imagenet_jax.config.durations import is_duration
from imagenet_jax.config.field import Field, choice, duration, number, share
from imagenet_jax.config.rules import is_rule, is_set_or_pattern

OPTIMIZERS = (
    *("sgd", "adamw", "nadamw", "adafactor", "rmsprop", "lars", "larc", "lamb", "lion", "muon"),
    *("ademamix", "prodigy", "schedule_free_sgd", "schedule_free_adamw"),
)

OPTIM: dict[str, Field] = {
    "optim.name": choice(
        "sgd",
        OPTIMIZERS,
        "the optimizer: rmsprop is TensorFlow's, adafactor big_vision's, nadamw AlgoPerf's, lars "
        "MLPerf's, larc apex' (no step is longer than without the ratio), lamb timm's without its "
        "clip_norm = 1; prodigy's learning_rate is 1; lion's rate is 3 to 10 times below AdamW's, "
        "its decay as much above",
    ),
    "optim.learning_rate": number(0.1, "peak learning rate for this batch_size", 0),
    "optim.momentum": share(
        0.9,
        "sgd, rmsprop, lars, larc, muon (0.95 by its authors): momentum; adafactor: of the "
        "updates; schedule_free_sgd: share of the average in the point of the gradients",
    ),
    "optim.nesterov": Field(
        True, "sgd, lars, larc, muon: Nesterov's form of the momentum; MLPerf: False"
    ),
    "optim.b1": share(
        0.9,
        "Adam and its relatives, lion: decay of the first moment; ademamix: of the fast one; "
        "schedule_free_adamw: share of the average in the point of the gradients",
    ),
    "optim.b2": share(
        0.999,
        "Adam and its relatives: decay of the second moment, adafactor: highest; rmsprop: 0.9 in "
        "EfficientNets; lion: of the momentum, 0.99 by its authors",
    ),
    "optim.b3": share(0.9999, "ademamix: decay of the slow moment; less for short runs"),
    "optim.alpha": number(5.0, "ademamix: weight of the slow moment", 0),
    "optim.eps": number(
        1e-8,
        "Adam and its relatives: added to the root of the second moment, 1e-6 with lamb; rmsprop: "
        "within the root, 0.001 in EfficientNets, 1 in Inception v3",
        0,
    ),
    "optim.trust": number(0.001, "lars, larc: the trust coefficient; 0.02 in apex", 0),
    "optim.adam_learning_rate": number(
        3e-4, "muon: peak rate of what Adam moves: head, stem, embeddings, norms, biases", 0
    ),
    "optim.newton_schulz_steps": number(5, "muon: iterations; 3 in airbench", 1, 20),
    "optim.muon_scale": choice(
        "shape",
        ("shape", "rms"),
        "muon: updates times sqrt(max(1, out / in)), or times 0.2 sqrt(max(in, out)), which is "
        "the size of AdamW's and takes its rate",
    ),
    "optim.momentum_dtype": choice(
        "float32",
        ("float32", "bfloat16"),
        "in which the momentum, with Adam and its relatives the first moment, is kept",
    ),
    "optim.weight_decay": number(
        1e-4, "weight decay of the kernels, see optim.decay_coupling; 0: none", 0
    ),
    "optim.weight_decay_end": Field(
        -1.0,
        "weight decay at the end of the run, to which it goes by a cosine (DINO); -1: it stays; "
        "not with lars, larc and prodigy",
        "-1, or at least 0",
        lambda v: v == -1 or 0 <= v < math.inf,
    ),
    "optim.decay_coupling": choice(
        "",
        ("", "l2", "rate", "schedule"),
        "l2: added to the gradient; rate: weights shrink by decay times the learning rate a step "
        "(AdamW); schedule: by decay times the rate's share of its peak (big_vision, Composer's "
        "DecoupledSGDW); '': l2 with sgd, rmsprop, lars and larc, rate with others",
    ),
    "optim.decayed": Field(
        ("kernel$", "lora_[ab]$"),
        "which parameters decay: patterns (regular expressions) of their paths, as "
        "'layer1.0/conv1/kernel'; no norms, biases, position embeddings, tokens, gains. Or sets: "
        "@all, @not_norms, @torchvision (no norms, biases, embeddings), @timm (of two axes and "
        "more, no embeddings), @kernels, @norms, @biases, @embeddings, @head, @stem",
        "regular expressions or sets, as in ('kernel$',) or ('@timm',)",
        lambda v: all(isinstance(p, str) and is_set_or_pattern(p) for p in v),
    ),
    "optim.decay_norm_and_bias": Field(False, "decay all parameters, whatever optim.decayed says"),
    "optim.rules": Field(
        (),
        "what is other for some parameters: a pattern or set as in optim.decayed, then rate=FACTOR "
        "of the learning rate and decay=FACTOR of the weight decay, or frozen; of several the last "
        "one that says something counts",
        "rules, as in ('@norms decay=0', '/bias$ rate=2 decay=0', '^layer1 frozen')",
        lambda v: all(isinstance(rule, str) and is_rule(rule) for rule in v),
    ),
    "optim.clip_norm": number(0.0, "largest global norm of the gradient; 0: any", 0),
    "optim.agc": number(
        0.0,
        "adaptive gradient clipping: longest gradient of a unit as a share of its parameters, "
        "0.01 in NFNets; not of the head; what starts at zero, as with model.zero_init_residual, "
        "hardly moves; 0: any",
        0,
    ),
    "optim.sam": number(
        0.0,
        "sharpness-aware minimization: radius rho, over the whole batch, around which the gradient "
        "is taken, 0.05 by its authors; a second pass through the network; 0: none",
        0,
    ),
    "optim.sam_every": number(1, "sharpness-aware minimization at every n-th step", 1),
    "optim.lookahead": number(
        0.0,
        "lookahead: every so many steps an average of the parameters moves by this share of the "
        "way to them, and they become it, 0.5 by its authors; 0: none",
        0,
        1,
    ),
    "optim.lookahead_every": number(5, "lookahead: steps from one move to the next", 1),
    "optim.lookahead_power": number(
        0.0,
        "lookahead: the share falls from 1 to optim.lookahead by this power of the share of the "
        "run that is done, 3 in airbench; 0: it stays",
        0,
        10,
    ),
    "optim.nonfinite": number(
        0,
        "updates in a row that may be skipped as loss, gradient or update are not finite; one "
        "more ends the run; 0: the first loss that is not finite does",
        0,
    ),
}

SCHEDULE: dict[str, Field] = {
    "schedule.name": choice(
        "cosine",
        (
            *("cosine", "quarter_cosine", "linear", "polynomial", "step", "exponential", "rsqrt"),
            "constant",
        ),
        "course of the rate after warmup; quarter_cosine falls slowly at first, as the cosine of "
        "an angle from 0 on (FixMatch: to 7/16 pi, where schedule.end = 0.195 of the peak is "
        "left); linear after a warmup is the triangle of FFCV and airbench, constant with a "
        "cooldown is warmup-stable-decay",
    ),
    "schedule.warmup": duration("0 steps", "linear rise from schedule.warmup_start to the peak"),
    "schedule.warmup_start": number(
        0.0,
        "rate of the first step of the warmup, a share of the peak or see schedule.unit; 0.01 in "
        "torchvision's recipes, 0.0001 in FFCV's",
        0,
        1,
    ),
    "schedule.warmup_prefix": Field(
        True,
        "the course begins where the warmup ends; False: with the run, and the warmup takes the "
        "place of its beginning, as timm and DeiT have the cosine, TensorFlow the exponential",
    ),
    "schedule.hold": duration(
        "0 steps",
        "how long the rate stays at the peak before its course begins: behind the warmup, or where "
        "schedule.warmup_prefix is False from the start of the run; an epoch in NVIDIA's "
        "ResNet-50, whose warmup reaches the peak an epoch early",
    ),
    "schedule.boundaries": Field(
        (),
        "step: when the rate is multiplied by schedule.factor, counted from the start",
        "durations, as in ('30 epochs', '60 epochs')",
        lambda v: all(is_duration(d) for d in v),
    ),
    "schedule.factor": number(0.1, "step, exponential: the factor", 0, 1),
    "schedule.timescale": duration(
        "1 epochs",
        "exponential: how often the rate is multiplied by schedule.factor, in stairs, 2.4 epochs "
        "for EfficientNets; rsqrt: T in peak / sqrt(1 + time after warmup / T), 10000 steps in "
        "big_vision, the warmup in Transformers",
    ),
    "schedule.power": number(
        2.0, "polynomial: of the share of the course that is left, 2 with LARS in MLPerf", 0, 10
    ),
    "schedule.end": number(
        0.0,
        "cosines, linear, polynomial, and all at the end of a cooldown: last rate, exponential: "
        "lowest rate; a share of the peak or see schedule.unit",
        0,
        1,
    ),
    "schedule.unit": choice(
        "share",
        ("share", "rate"),
        "of schedule.warmup_start and schedule.end: shares of the peak, or learning rates, as "
        "1e-6 and 1e-5 in DeiT",
    ),
    "schedule.cooldown": duration(
        "0 steps",
        "the last part of the run: cosine, linear, polynomial have ended before it, and stay at "
        "schedule.end (timm's cooldown epochs); others fall to it linearly",
    ),
    "schedule.interval": choice(
        "step",
        ("step", "epoch"),
        "how often the rate changes; epoch: it is that of the epoch's first step, as in "
        "torchvision and timm",
    ),
}
