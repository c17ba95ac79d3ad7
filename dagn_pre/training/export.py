"""From a checkpoint to the weights file that :class:`dagn_pre.Restorer` loads."""

from __future__ import annotations

from pathlib import Path

import torch

from dagn_pre import __version__, models
from dagn_pre.errors import UsageError
from dagn_pre.networks.autoencoder import QualityPredictor
from dagn_pre.networks.dagn import DAGN, DAGNConfig
from dagn_pre.training import checkpoint

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


def export(source: str | Path, output: str | Path, dtype: str = "float16") -> Path:
    """Write a safetensors file: batch norm folded, weights in ``dtype``, and what made them in its card.

    Args:
        source: a checkpoint of stage dagn, its folder, or a weights file (``.safetensors``) to convert.

    Raises:
        UsageError: another dtype, or an output that is no ``.safetensors``.
        WeightsError: the source is missing, damaged, of another stage, or does not fit its network.
    """
    output = Path(output)
    if dtype not in DTYPES:
        raise UsageError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
    if output.suffix != ".safetensors":
        raise UsageError(f"{output}: the output must end in .safetensors")
    if Path(source).suffix == ".safetensors":
        loaded = models.load(source)
        network, predictor, card = loaded.network, loaded.predictor, loaded.card
    else:
        network, predictor, card = _from_checkpoint(source)
    card = {**card, "name": output.stem, "version": __version__, "dtype": dtype}
    models.save(output, network, predictor, card, DTYPES[dtype])
    return output


def _from_checkpoint(source: str | Path) -> tuple[DAGN, QualityPredictor | None, dict]:
    state = checkpoint.read(source)
    network = DAGN(DAGNConfig.from_dict(state["network"]))
    modules = torch.nn.ModuleDict({"network": network})
    if network.config.sensitive:
        modules["predictor"] = QualityPredictor(network.encoder_cs.out_channels)
    name = f"{source}: a checkpoint of stage {state['stage']}, for export,"
    models.check_keys(modules.state_dict(), state["state_dict"], name)
    modules.load_state_dict(state["state_dict"])
    modules.eval()
    card = {
        "config_sha256": checkpoint.config_hash(state["config"]),
        "steps": state["step"],
        "metrics": state["metrics"],
        "training": state["history"],
    }
    return network, modules["predictor"] if network.config.sensitive else None, card
