"""The axes of the mesh, and how config.sharding names them."""

import re

from imagenet_jax.errors import ConfigError

DATA_AXIS, FSDP_AXIS, TENSOR_AXIS = "data", "fsdp", "tensor"
AXES = (DATA_AXIS, FSDP_AXIS, TENSOR_AXIS)
_WORDS = {"data_parallel": DATA_AXIS, "fsdp": FSDP_AXIS, "tensor_parallel": TENSOR_AXIS}


def parse_sharding(text: str) -> dict[str, int]:
    """{"fsdp": 4, "tensor": 2} of "fsdp=4,tensor_parallel=2"; 0: what is left of the devices.

    Raises:
      ConfigError: for a word that is none of data_parallel, fsdp and tensor_parallel, or more
        than one of them without a size.
    """
    sizes: dict[str, int] = {}
    for part in text.split(","):
        word, equals, size = part.strip().partition("=")
        good_size = re.fullmatch("[1-9][0-9]{0,8}", size) if equals else True
        if word not in _WORDS or _WORDS[word] in sizes or not good_size:
            raise ConfigError(
                f"config.sharding = {text!r}; expected data_parallel, fsdp, tensor_parallel or "
                "several of them with numbers of devices, as in 'fsdp=4,tensor_parallel=2'"
            )
        sizes[_WORDS[word]] = int(size) if equals else 0
    if list(sizes.values()).count(0) > 1:
        raise ConfigError(
            f"config.sharding = {text!r}: only one part can be without a number of devices"
        )
    return sizes
