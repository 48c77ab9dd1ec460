"""The fields of pruning: config.prune."""

import re

from imagenet_jax.config.field import Field, choice, duration, share
from imagenet_jax.config.rules import is_set_or_pattern

_PATTERN = re.compile(r"([1-9][0-9]?):([1-9][0-9]?)")


def parse_pattern(text: str) -> tuple[int, int]:
    """N and M of "N:M". Raises ValueError unless 0 < N < M <= 32."""
    found = _PATTERN.fullmatch(text)
    kept, group = map(int, found.groups()) if found else (0, 0)
    if not 0 < kept < group <= 32:
        raise ValueError(text)
    return kept, group


def _is_pattern(text: str) -> bool:
    try:
        return text == "" or bool(parse_pattern(text))
    except ValueError:
        return False


PRUNE: dict[str, Field] = {
    "prune.share": share(
        0.0,
        "share of the weights that become zero and stay so, those of the smallest magnitude, e.g. "
        "0.8; 0: none",
    ),
    "prune.pattern": Field(
        "",
        "in place of prune.share: N:M keeps the N largest of each M weights that follow each other "
        "along the input channels, as 2:4, which NVIDIA's sparse tensor cores multiply; '': none",
        "'' or N:M with 0 < N < M <= 32, as in 2:4",
        _is_pattern,
    ),
    "prune.scope": choice(
        "global",
        ("global", "layer"),
        "what prune.share is of: all weights together, by one threshold, or those of each kernel",
    ),
    "prune.begin": duration(
        "0 steps", "when pruning begins; the share then rises by a cubic curve (Zhu & Gupta 2017)"
    ),
    "prune.end": duration(
        "50 percent",
        "when the whole share is pruned; the rest of the run is for what is left of the network; "
        "not after prune.begin: all at once",
    ),
    "prune.every": duration("100 steps", "from one rise of the share to the next"),
    "prune.skip": Field(
        ("@head",),
        "kernels that are left whole: patterns or sets as in optim.decayed, e.g. ('@head', "
        "'@stem'); what is no kernel (norms, biases, embeddings) is never pruned",
        "regular expressions or sets, as in ('@head',) or ('^layer1',)",
        lambda v: all(isinstance(p, str) and is_set_or_pattern(p) for p in v),
    ),
}
