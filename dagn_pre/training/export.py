"""From a checkpoint to the weights file that :class:`dagn_pre.Restorer` loads."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from dagn_pre import __version__, architectures, models, weights
from dagn_pre.errors import UsageError, WeightsError
from dagn_pre.networks.autoencoder import QualityPredictor
from dagn_pre.networks.blind_dagn import BlindDAGN
from dagn_pre.networks.dagn import DAGN, DAGNConfig
from dagn_pre.networks.side_information import SideInformation, SideInformationConfig
from dagn_pre.protocol import RestorationModel
from dagn_pre.training import checkpoint
from dagn_pre.training.side_information import SideInformationStage

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


def export(source: str | Path, output: str | Path, dtype: str = "float16") -> Path:
    """Write a safetensors file: batch norm folded, weights in ``dtype``, and what made them in its card.

    Of stage side, whose trunk was trained too, the trunk is written beside it, as ``NAME-trunk.safetensors``.

    Args:
        source: a checkpoint of stage dagn, peer, side or semantic, its folder, or a weights file (``.safetensors``) to convert.

    Raises:
        UsageError: another dtype, or an output that is no ``.safetensors``.
        WeightsError: the source is missing, damaged, of another stage, or does not fit its network.
    """
    output = Path(output)
    if dtype not in DTYPES:
        raise UsageError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
    if output.suffix != ".safetensors":
        raise UsageError(f"{output}: the output must end in .safetensors")
    model: RestorationModel | SideInformation
    if Path(source).suffix == ".safetensors":
        model, metadata = weights.load(Path(source))
        card = metadata.card
    else:
        state = best(checkpoint.read(source))
        if state["stage"] == "side":
            model, card = _side_information(source, state, output, dtype)
        elif state["stage"] == "semantic":
            model, card = _semantic(source, state)
        else:
            model, card = _restorer(source, state), _card(state)
    card = {**card, "name": output.stem, "version": __version__, "dtype": dtype}
    weights.save(output, model, None, card, DTYPES[dtype])
    return output


def best(state: dict) -> dict:
    """A checkpoint's contents with the best weights, their step and figures in place of the last, where the run kept them."""
    return {**state, **{key: state["best"][key] for key in ("step", "metrics", "state_dict")}} if "best" in state else state


def _card(state: dict) -> dict:
    return {
        "config_sha256": checkpoint.config_hash(state["config"]),
        "steps": state["step"],
        "metrics": state["metrics"],
        "training": state["history"],
    }


def _restorer(source: str | Path, state: dict) -> RestorationModel | SideInformation:
    config = architectures.config(state.get("architecture", "dagn"), state["network"])
    if not isinstance(config, DAGNConfig):
        model = architectures.build(config)
        _fill({"model": model}, source, state)
        return model.eval()
    # Of a DAGN the stage trains the network before its batch norm is folded, and P_qf beside it.
    network = DAGN(config)
    predictor = QualityPredictor(network.encoder_cs.out_channels) if config.sensitive else None
    _fill({"network": network} if predictor is None else {"network": network, "predictor": predictor}, source, state)
    return BlindDAGN(network, predictor)


def _fill(parts: dict[str, torch.nn.Module], source: str | Path, state: dict) -> None:
    """Load a stage's weights into its modules; raises WeightsError where they do not fit."""
    stage = torch.nn.ModuleDict(parts)
    name = f"{source}: a checkpoint of stage {state['stage']}, for export,"
    weights.check_keys(stage.state_dict(), state["state_dict"], name)
    stage.load_state_dict(state["state_dict"])


def _semantic(source: str | Path, state: dict) -> tuple[RestorationModel, dict]:
    settings = json.loads(state["config"])
    model = models.load(settings["trunk"]).model  # its shape: the weights are the checkpoint's
    _fill({"model": model}, source, state)
    card = {**_card(state), "trunk": models.fingerprint(settings["trunk"]), "teachers": list(settings["teachers"])}
    return model, card | ({"metrics_before": state["first"]} if "first" in state else {})


def _side_information(source: str | Path, state: dict, output: Path, dtype: str) -> tuple[SideInformation, dict]:
    settings = json.loads(state["config"])
    config = SideInformationConfig.from_dict(state["network"])
    stage = SideInformationStage(config, settings["trunk"], settings["train_trunk"])
    weights.check_keys(stage.state_dict(), state["state_dict"], f"{source}: a checkpoint of stage side, for export,")
    before = dict(stage.trunk.state_dict())
    if not settings["train_trunk"] and any(not torch.equal(before[k], state["state_dict"][f"trunk.{k}"]) for k in before):
        raise WeightsError(f"{source}: its trunk {settings['trunk']!r} is no longer the file that it was trained on")
    stage.load_state_dict(state["state_dict"])
    card, trunk = _card(state), settings["trunk"]
    if settings["train_trunk"]:
        trunk = output.with_name(f"{output.stem}-trunk.safetensors")
        own = {**card, "name": trunk.stem, "version": __version__, "dtype": dtype}
        weights.save(trunk, stage.trunk, None, own, DTYPES[dtype])
    trade = {key: settings[key] for key in ("relative", "lambda_rate")}
    return stage.side.eval(), {**card, **trade, "trunk": models.fingerprint(trunk)}
