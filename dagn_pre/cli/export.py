"""``dagn-pre export``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dagn_pre.cli.extras import needed
from dagn_pre.errors import DagnPreError, UsageError

if TYPE_CHECKING:
    from dagn_pre.protocol import RestorationModel

HELP = "Turn a checkpoint into a weights file, or a restorer into a graph for other programs."
EXAMPLE = "dagn-pre export dagn-s --format onnx -o dagn-s.onnx"
SUFFIXES = {"safetensors": ".safetensors", "onnx": ".onnx", "openvino": ".xml", "torch_export": ".pt2"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "weights", metavar="WEIGHTS", help="checkpoint, its folder, or a .safetensors file; for a graph a model's name or file"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the file to write")
    parser.add_argument("--format", default="safetensors", choices=tuple(SUFFIXES), help="default: %(default)s")
    parser.add_argument(
        "--dtype", default="float16", choices=("float16", "bfloat16", "float32"), help="of safetensors; graphs hold float32"
    )
    parser.add_argument(
        "--tiles",
        action="store_true",
        help="two graphs, NAME-guide and NAME-restore, for programs that restore large images tile by tile",
    )
    parser.add_argument("--int8", action="store_true", help="with --format openvino: what restores in int8, the guidance not")


def run(options: argparse.Namespace) -> int:
    if options.output.suffix != SUFFIXES[options.format]:
        raise UsageError(f"{options.output}: the output must end in {SUFFIXES[options.format]}")
    for part in ("guide", "restore") if options.tiles else ("",):
        if (path := _path(options.output, part)).is_dir():
            raise UsageError(f"{path}: is a folder; name a file")
    if options.int8 and options.format != "openvino":
        raise UsageError("--int8 is for --format openvino")
    if options.format != "safetensors":
        return graphs(options)
    if options.tiles:
        raise UsageError("--tiles is for graphs: give --format onnx, openvino or torch_export")
    with needed("export", "mmengine", "train"):
        from dagn_pre.training.export import export

    print(export(options.weights, options.output, options.dtype))
    return 0


def graphs(options: argparse.Namespace) -> int:
    """Write the graphs, each whole or not at all; returns 0."""
    from dagn_pre import engines, models

    lacking = [engines.lacks(f"export to {options.format}", options.format)]
    lacking += [engines.lacks("--int8", "int8")] * options.int8
    if told := next(filter(None, lacking), None):
        raise DagnPreError(told)
    model = models.load(options.weights).model
    try:
        with engines.making():
            for path in _written(options, model):
                print(path)
    except UsageError as error:
        raise UsageError(f"{options.weights}: cannot be made a graph: {error}") from error
    return 0


def _path(output: Path, part: str) -> Path:
    return output.with_stem(f"{output.stem}-{part}" if part else output.stem)


def _written(options: argparse.Namespace, model: RestorationModel) -> Iterator[Path]:
    import torch

    from dagn_pre import __version__, engines, models
    from dagn_pre.files import atomic_path
    from dagn_pre.graphs import WholeGraph

    write = {"onnx": engines.to_onnx, "openvino": engines.to_openvino, "torch_export": engines.to_torch_export}[options.format]
    metadata = {"version": __version__, "model": str(options.weights), "fingerprint": models.fingerprint(options.weights)}
    makers = engines.split(model)
    if options.tiles:
        metadata["overlap"] = str(model.receptive_radius)
        parts = {part: make() for part, make in makers.items()}
    else:
        side = 4 * model.stride
        parts = {"": (WholeGraph(model), [torch.zeros(1, 3, side + 1, side + 3, dtype=torch.uint8)])}
    for part, (graph, example) in parts.items():
        path = _path(options.output, part)
        with atomic_path(path) as temporary:
            weights = temporary.with_suffix(".bin")  # which OpenVINO writes beside
            try:
                write(graph, example, temporary, metadata, **({"int8": True} if options.int8 and part != "guide" else {}))
                if weights.exists():
                    weights.replace(path.with_suffix(".bin"))
            finally:
                weights.unlink(missing_ok=True)
        yield path
