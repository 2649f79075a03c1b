"""Prints what TensorBoard's own reader finds in a folder of event files, as JSON."""
import json
import sys

from tensorboard.backend.event_processing import event_accumulator
from tensorboard.plugins.hparams import metadata
from tensorboard.util import tensor_util

reader = event_accumulator.EventAccumulator(
    sys.argv[1], size_guidance={"scalars": 0, "tensors": 0, "histograms": 0}
)
reader.Reload()
tags = reader.Tags()
told = {"scalars": {}, "histograms": {}, "texts": {}, "hparams": {}, "metrics": [], "status": None}
for tag in tags["scalars"]:
    told["scalars"][tag] = [[e.step, e.value, e.wall_time] for e in reader.Scalars(tag)]
for tag in tags["histograms"]:
    told["histograms"][tag] = [
        [e.step, e.histogram_value.bucket, e.histogram_value.num] for e in reader.Histograms(tag)
    ]
for tag in reader.summary_metadata:
    plugin = reader.SummaryMetadata(tag).plugin_data
    if plugin.plugin_name == "text":
        told["texts"][tag] = [
            [e.step, tensor_util.make_ndarray(e.tensor_proto).item().decode()]
            for e in reader.Tensors(tag)
        ]
    elif tag == metadata.SESSION_START_INFO_TAG:
        start = metadata.parse_session_start_info_plugin_data(plugin.content)
        for name, value in start.hparams.items():
            told["hparams"][name] = getattr(value, value.WhichOneof("kind"))
    elif tag == metadata.EXPERIMENT_TAG:
        experiment = metadata.parse_experiment_plugin_data(plugin.content)
        told["metrics"] = [metric.name.tag for metric in experiment.metric_infos]
        told["infos"] = {info.name: info.type for info in experiment.hparam_infos}
    elif tag == metadata.SESSION_END_INFO_TAG:
        told["status"] = metadata.parse_session_end_info_plugin_data(plugin.content).status
print(json.dumps(told))
