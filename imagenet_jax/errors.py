"""Errors whose message is meant for the person at the terminal, shown without a traceback."""


class UserError(Exception):
    """Something that the person running the program can mend; the message says how."""


class ConfigError(UserError):
    """A field that does not exist, a value that is not possible, or fields that disagree."""


class DataError(UserError):
    """A data set that is missing, or an image or record that cannot be read."""


class CheckpointError(UserError):
    """A checkpoint that cannot be written, read or matched with the config."""


class DivergenceError(UserError):
    """A training loss that is not finite."""


class WeightsError(UserError):
    """Pretrained weights that are missing, damaged or of another model."""
