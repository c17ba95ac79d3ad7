"""Whole data sets on a cluster: ``RestoreActor`` for Ray Data and for Hugging Face's ``datasets``, and what ``dagn-pre restore
--cluster`` does with it.

    dataset = ray.data.read_binary_files("s3://bucket/photos", include_paths=True)
    dataset.map_batches(RestoreActor, fn_constructor_kwargs={"format": "png"}, concurrency=8, num_gpus=0.5, batch_size=64)

    datasets.load_dataset("imagefolder", data_dir="photos").map(RestoreActor(), batched=True, batch_size=64)

:func:`restore_dataset` goes from storage to storage.
"""

from dagn_pre.integrations.ray.actor import RestoreActor
from dagn_pre.integrations.ray.blocks import Summary
from dagn_pre.integrations.ray.dataset import restore_dataset

__all__ = ["RestoreActor", "Summary", "restore_dataset"]
