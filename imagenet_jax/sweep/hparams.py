"""What TensorBoard's HPARAMS page compares the trials of a sweep by: the fields that vary, and the
metric.

By tensorboard's protocol buffers alone: what writes them for others imports TensorFlow.
"""

import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo
from tensorboard.summary.writer.record_writer import RecordWriter

from imagenet_jax.sweep.space import Choices, Space


def write_columns(workdir: Path, space: Space, metric: str) -> None:
    """Says, once in a sweep, which fields and which metric of the evaluations to show."""
    if any(workdir.glob("events.out.tfevents.*")):
        return
    infos = [api_pb2.HParamInfo(name=name, type=_type(space, name)) for name in space]
    shown = api_pb2.MetricInfo(name=api_pb2.MetricName(tag=f"eval/{metric}"), display_name=metric)
    experiment = api_pb2.Experiment(hparam_infos=infos, metric_infos=[shown])
    content = HParamsPluginData(experiment=experiment)
    _write(workdir, metadata.EXPERIMENT_TAG, content)


def write_trial(folder: Path, trial: str, params: Mapping[str, Any], space: Space) -> None:
    """Says once, in the folder of a run of a trial, which values of the fields are its own.

    The training writes its fields as well; of two such facts TensorBoard takes the first.
    """
    if any(folder.glob("events.out.tfevents.*")):
        return
    info = SessionStartInfo(group_name=trial, start_time_secs=time.time())
    for name, value in params.items():
        if _type(space, name) == api_pb2.DATA_TYPE_FLOAT64:
            info.hparams[name].number_value = float(value)
        else:
            info.hparams[name].string_value = value
    _write(folder, metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=info))


def _type(space: Space, name: str) -> int:
    """That of numbers, whose column can be sorted, where all values are some."""
    values = space[name]
    if isinstance(values, Choices) and not all(map(_is_number, values.values)):
        return api_pb2.DATA_TYPE_STRING
    return api_pb2.DATA_TYPE_FLOAT64


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _write(folder: Path, tag: str, content: HParamsPluginData) -> None:
    """An event file of this one fact, before those of a training by its name."""
    content.version = metadata.PLUGIN_DATA_VERSION
    plugin = SummaryMetadata.PluginData(
        plugin_name=metadata.PLUGIN_NAME, content=content.SerializeToString()
    )
    value = Summary.Value(
        tag=tag, metadata=SummaryMetadata(plugin_data=plugin), tensor=metadata.NULL_TENSOR
    )
    now = time.time()
    events = (
        Event(wall_time=now, file_version="brain.Event:2"),
        Event(wall_time=now, summary=Summary(value=[value])),
    )
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"events.out.tfevents.{int(now)}.sweep.{os.getpid()}", "wb") as file:
        writer = RecordWriter(file)
        for event in events:
            writer.write(event.SerializeToString())
