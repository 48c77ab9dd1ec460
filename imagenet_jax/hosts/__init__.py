"""The processes of a run: their start, what they tell each other, and how they end.

Preemption, hanging and the launchers of several machines are here.
"""

from imagenet_jax.lazy import lazy_names

_NAMES = {
    "doing": "watchdog",
    "is_first": "process",
    "start_process": "process",
    "stop_requests": "preemption",
    "workdir_lock": "lock",
}
__all__ = list(_NAMES)
__getattr__ = lazy_names(__name__, _NAMES)
