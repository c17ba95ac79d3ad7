"""What computes a restorer's networks: torch, or an inference engine made for the machine.

An engine takes the two graphs of :mod:`dagn_pre.graphs`: the local part always, the guidance of models that go by the pixels
alone. Where a graph cannot serve (a QF set by hand, side information) torch computes the same. Graphs are made once per content
of a weights file and kept on disk (:func:`folder`), since making them takes seconds.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib.util
import json
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from dagn_pre import __version__, quantisation
from dagn_pre.errors import UsageError
from dagn_pre.graphs import GuideGraph, RestoreGraph, WholeGraph
from dagn_pre.protocol import ImageInformation, RestorationModel
from dagn_pre.telemetry import untold

ENGINES = ("auto", "torch", "openvino", "onnxruntime", "tensorrt")
PACKAGES = {  # what an extra brings: to make graphs, and to run them
    "openvino": ("openvino",),
    "onnx": ("onnx", "onnxscript"),
    "onnxruntime": ("onnxruntime", "onnx", "onnxscript"),
    "tensorrt": ("onnxruntime", "tensorrt", "onnx", "onnxscript"),
    "int8": ("openvino", "nncf"),
}

Example = tuple[nn.Module, list[Tensor]]  # a graph, and inputs for it
Graph = Callable[[Sequence[Tensor]], list[Tensor]]

_log = logging.getLogger(__name__)


class Engine(Protocol):
    """What runs a model; the arguments are those of :class:`dagn_pre.protocol.RestorationModel`."""

    def guide(self, x: Tensor, information: Sequence[ImageInformation]) -> Any: ...

    def restore(self, x: Tensor, guidance: Any) -> Tensor: ...


def missing(extra: str) -> str | None:
    """The package of an extra that is not installed, or None."""
    return next((name for name in PACKAGES.get(extra, ()) if importlib.util.find_spec(name) is None), None)


def lacks(what: str, extra: str) -> str | None:
    """That ``what`` lacks a package of its extra, with the remedy; None where all are installed."""
    package = missing(extra)
    return None if package is None else f'{what} needs {package}: pip install "dagn-pre[{extra}]"'


def resolve(engine: str, device: torch.device, dtype: torch.dtype) -> str:
    """An engine's name for "auto": OpenVINO where it is installed and the device is a CPU, else torch.

    Raises:
        UsageError: an engine that is not installed, or does not work on this device or in this precision.
    """
    if dtype == torch.int8:
        return _resolve_int8(engine, device)
    if engine == "tensorrt":
        return _resolve_tensorrt(device)
    unfit = None
    if device.type != "cpu":
        unfit = f"works on the CPU, not on {device}"
    elif dtype not in (torch.float32, torch.bfloat16) or (engine == "onnxruntime" and dtype != torch.float32):
        unfit = f"does not compute in {str(dtype).removeprefix('torch.')}"
    if engine == "auto":
        return "torch" if unfit or missing("openvino") else "openvino"
    if engine != "torch":
        if told := lacks(f"engine {engine!r}", engine):
            raise UsageError(told)
        if unfit:
            raise UsageError(f"engine {engine!r} {unfit}; use engine='torch'")
    return engine


def _resolve_int8(engine: str, device: torch.device) -> str:
    if engine not in ("auto", "openvino") or device.type != "cpu":
        raise UsageError("dtype 'int8' is for engine='openvino' on a CPU")
    if told := lacks("dtype 'int8'", "int8"):
        raise UsageError(told)
    if "INT8" not in _capabilities():
        raise UsageError("dtype 'int8' needs a CPU with int8 instructions (AVX2 or later); use dtype='float32'")
    return "openvino"


def _resolve_tensorrt(device: torch.device) -> str:
    if device.type != "cuda":
        raise UsageError(f"engine 'tensorrt' works on CUDA, not on {device}; use engine='torch'")
    if told := lacks("engine 'tensorrt'", "tensorrt"):
        raise UsageError(told)
    import onnxruntime

    if TENSORRT not in onnxruntime.get_available_providers():
        raise UsageError(
            "engine 'tensorrt' needs onnxruntime-gpu, which onnxruntime hides where both are installed: "
            'pip uninstall onnxruntime; pip install --force-reinstall "dagn-pre[tensorrt]"'
        )
    return "tensorrt"


def _capabilities() -> list[str]:
    """What OpenVINO says that this CPU computes in: FP32, and where it can BF16, INT8 and others."""
    with untold():
        import openvino

    return openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def make(engine: str, model: RestorationModel, name: str, fingerprint: str, dtype: torch.dtype, strict: bool = True) -> Engine:
    """An engine, by its resolved name, for a model on its device.

    Args:
        name: the model's, for messages.
        fingerprint: of its weights, by which graphs are kept.
        strict: raise where the model cannot be made a graph; otherwise torch computes it, which is logged once.

    Raises:
        UsageError: the model cannot be made a graph.
    """
    if engine == "torch":
        return model
    try:
        with making():
            return Compiled(engine, model, fingerprint, dtype)
    except UsageError as error:
        if strict:
            raise UsageError(f"engine {engine!r} cannot run {name!r}: {error}") from error
        _log.warning("engine %r cannot run %r (%s); torch does", engine, name, error)
        return model


@contextlib.contextmanager
def making() -> Iterator[None]:
    """Whatever copying, tracing or compiling a model raises becomes a UsageError with the reason; a full disk does not."""
    try:
        yield
    except (UsageError, OSError, MemoryError):
        raise
    except Exception as error:  # somebody else's code: anything may be wrong with it
        cause: BaseException = error
        while cause.__cause__ is not None:  # exporters wrap it in advice of many lines
            cause = cause.__cause__
        reason = next(iter(str(cause).splitlines()), "")
        raise UsageError(f"making the graph raises {type(cause).__name__}: {reason}") from error


def folder() -> Path:
    """Where graphs are kept: ``dagn-pre/graphs`` in the user's cache folder; old ones may be deleted at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dagn-pre" / "graphs"


def split(model: RestorationModel) -> dict[str, Callable[[], Example]]:
    """What makes a model's graphs: "guide" where it has guidance, and "restore".

    Raises:
        UsageError: the model cannot be made a graph.
    """
    if not model.pixel_guidance and type(model).guide is not RestorationModel.guide:
        raise UsageError("its guidance needs more than the pixels")
    image = torch.zeros(1, 3, 4 * model.stride, 5 * model.stride)

    def guide() -> Example:
        return GuideGraph(model), [image]

    def restore() -> Example:
        with torch.inference_mode():
            guidance = model.pack(model.guide(image, [])) if model.pixel_guidance else []
        return RestoreGraph(model), [image, *(torch.zeros(tensor.shape) for tensor in guidance)]

    return {"guide": guide, "restore": restore} if model.pixel_guidance else {"restore": restore}


class Compiled:
    """A model whose graphs an engine runs. Safe to call from several threads, one at a time each graph; not after a fork."""

    def __init__(self, engine: str, model: RestorationModel, fingerprint: str, dtype: torch.dtype) -> None:
        self.model, self.process = model, os.getpid()
        # The graphs are made on the CPU, where they are the same whatever runs them.
        parts = split(model if engine != "tensorrt" else copy.deepcopy(model).cpu())
        compiled = COMPILERS[engine]
        self._restore = compiled(parts["restore"], f"{fingerprint}-restore", dtype)
        # in float32 always: it reads a QF from what half precision rounds away
        self._guide = compiled(parts["guide"], f"{fingerprint}-guide", torch.float32) if "guide" in parts else None

    def guide(self, x: Tensor, information: Sequence[ImageInformation]) -> Any:
        if self._guide is None or any(one.assumed is not None for one in information):
            return self.model.guide(x, information)
        return self.model.unpack(self.run(self._guide, [x]))

    def restore(self, x: Tensor, guidance: Any) -> Tensor:
        if getattr(guidance, "side", None) is not None:
            return self.model.restore(x, guidance)
        return self.run(self._restore, [x, *self.model.pack(guidance)])[0]

    def run(self, graph: Graph, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Raises UsageError in a process that was forked since: an engine's threads do not survive it."""
        if os.getpid() != self.process:
            raise UsageError("an inference engine does not work in a forked process: start it by spawn, or use engine='torch'")
        return graph([tensor.float().contiguous() for tensor in tensors])


def _openvino(make: Callable[[], Example], name: str, dtype: torch.dtype) -> Graph:
    with untold():
        import openvino

    small = dtype == torch.int8
    path = _kept(
        f"{name}-openvino-{openvino.__version__}{'-int8' if small else ''}",
        lambda path: to_openvino(*make(), path / "graph.xml", int8=small),
    )
    # beside convolutions in int8 the rest may as well be in bfloat16, where the CPU has it
    half = dtype == torch.bfloat16 or (small and "BF16" in _capabilities())
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = openvino.Core().compile_model(path / "graph.xml", "CPU", settings)
    lock = threading.Lock()

    def run(tensors: Sequence[Tensor]) -> list[Tensor]:
        with lock:
            found = compiled([tensor.numpy() for tensor in tensors])
            return [torch.from_numpy(np.array(found[output])) for output in compiled.outputs]

    return run


def _kept_onnx(make: Callable[[], Example], name: str) -> Path:
    """The folder that holds a graph as graph.onnx."""
    return _kept(f"{name}-onnx-{torch.__version__}", lambda path: to_onnx(*make(), path / "graph.onnx"))


def _onnxruntime(make: Callable[[], Example], name: str, dtype: torch.dtype) -> Graph:
    import onnxruntime

    path = _kept_onnx(make, name)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path / "graph.onnx", options, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]

    def run(tensors: Sequence[Tensor]) -> list[Tensor]:
        found = session.run(None, dict(zip(names, (tensor.numpy() for tensor in tensors))))
        return [torch.from_numpy(array) for array in found]

    return run


def _tensorrt(make: Callable[[], Example], name: str, dtype: torch.dtype) -> Graph:
    """TensorRT through ONNX Runtime, and CUDA for the rest. Its engines, one per image size, are kept beside the graph."""
    import onnxruntime

    place = _kept_onnx(make, name)
    device = torch.cuda.current_device()
    options: dict[str, Any] = {"device_id": device}
    for cache in ("engine", "timing"):
        options |= {f"trt_{cache}_cache_enable": True, f"trt_{cache}_cache_path": str(place)}
    if dtype in HALF:
        options[HALF[dtype]] = True
    providers: list = [(TENSORRT, options), ("CUDAExecutionProvider", {"device_id": device})]
    session = onnxruntime.InferenceSession(place / "graph.onnx", providers=providers)
    if session.get_providers()[0] != TENSORRT:  # it only warns where a library does not load
        raise UsageError("TensorRT could not be loaded; ONNX Runtime's warning names the library")
    return bound(session, make)


def bound(session: Any, make: Callable[[], Example]) -> Graph:
    """An ``onnxruntime.InferenceSession`` that reads and writes tensors where they are, on any device.

    Args:
        make: the graph that it holds. A :class:`RestoreGraph` gives what the image's shape is; shapes of guidance do not depend
            on it but for the batch.
    """
    names, outputs = ([one.name for one in group] for group in (session.get_inputs(), session.get_outputs()))
    graph, example = make()
    shapes = None
    if not isinstance(graph, RestoreGraph):
        with torch.inference_mode():
            shapes = [tensor.shape[1:] for tensor in graph(*example)]

    def run(tensors: Sequence[Tensor]) -> list[Tensor]:
        image = tensors[0]
        made = [image.new_empty((len(image), *shape)) for shape in shapes] if shapes else [torch.empty_like(image)]
        binding, where, index = session.io_binding(), image.device.type, image.device.index or 0
        for name, tensor in zip(names, tensors):
            binding.bind_input(name, where, index, np.float32, tuple(tensor.shape), tensor.data_ptr())
        for name, tensor in zip(outputs, made):
            binding.bind_output(name, where, index, np.float32, tuple(tensor.shape), tensor.data_ptr())
        if where == "cuda":
            torch.cuda.current_stream(image.device).synchronize()  # ONNX Runtime has a stream of its own
        session.run_with_iobinding(binding)
        return made

    return run


TENSORRT = "TensorrtExecutionProvider"
HALF = {torch.float16: "trt_fp16_enable", torch.bfloat16: "trt_bf16_enable"}
COMPILERS = {"openvino": _openvino, "onnxruntime": _onnxruntime, "tensorrt": _tensorrt}


def to_openvino(
    graph: nn.Module,
    example: Sequence[Tensor],
    path: Path,
    metadata: Mapping[str, str] | None = None,
    int8: bool = False,
) -> None:
    """Write a graph as OpenVINO's IR: ``path``, an .xml, and its .bin beside it. Any batch; any size of the image, the first
    input, in multiples of the stride but for a :class:`WholeGraph`. ``int8``: what restores in int8."""
    with untold():
        import openvino

    made = _converted(graph, example)
    if int8:
        made = _quantised(made, graph)
    for key, value in (metadata or {}).items():
        made.set_rt_info(value, ["dagn_pre", key])
    openvino.save_model(made, path, compress_to_fp16=False)


def _converted(graph: nn.Module, example: Sequence[Tensor]) -> Any:
    """An ``openvino.Model``."""
    with untold():
        import openvino

    with torch.no_grad():
        traced = torch.jit.freeze(torch.jit.trace(graph.eval(), tuple(example), check_trace=False))
        made = openvino.convert_model(traced, example_input=tuple(example))
    for index, (given, tensor) in enumerate(zip(made.inputs, example)):
        sizes = [-1, tensor.shape[1], -1, -1] if index == 0 else [-1, *tensor.shape[1:]]
        given.get_node().set_partial_shape(openvino.PartialShape(sizes))
    made.validate_nodes_and_infer_types()
    return made


def _quantised(made: Any, graph: nn.Module) -> Any:
    """The same in int8, but for the guidance of a :class:`WholeGraph`, which reads a QF from what rounding takes away."""
    model = cast(RestorationModel, graph.model)
    if not isinstance(graph, WholeGraph):
        return quantisation.quantised(made, quantisation.examples(model))
    parts = split(model)
    guidance = quantisation.layers(_converted(*parts["guide"]())) if "guide" in parts else []
    return quantisation.quantised(made, ([picture] for picture in quantisation.pictures()), guidance)


def to_onnx(graph: nn.Module, example: Sequence[Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a graph as an ONNX file; sizes as of :func:`to_openvino`."""
    both, shapes = _any_size(graph, example)
    with torch.no_grad():
        made = torch.onnx.export(graph.eval(), both, dynamo=True, dynamic_shapes=shapes, verbose=False)
    assert made is not None  # it is with dynamo
    made.model.metadata_props.update(metadata or {})
    made.save(path)


def to_torch_export(graph: nn.Module, example: Sequence[Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a graph as ``torch.export.load`` reads it; sizes as of :func:`to_openvino`."""
    both, shapes = _any_size(graph, example)
    made = torch.export.export(graph.eval(), both, dynamic_shapes=shapes, strict=False)
    torch.export.save(made, path, extra_files={"dagn_pre.json": json.dumps(dict(metadata or {}))})


def _any_size(graph: nn.Module, example: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], tuple]:
    """Example inputs as a batch of two, since one would be taken for a constant, and which of their sizes are free."""
    free = torch.export.Dim.DYNAMIC
    shapes: list = [{0: free, 2: free, 3: free}, *({0: free} for _ in example[1:])]
    if isinstance(graph, RestoreGraph) and len(shapes) > 1:
        shapes = [shapes[0], tuple(shapes[1:])]
    return tuple(torch.cat([tensor, tensor]) for tensor in example), tuple(shapes)


def _kept(name: str, export: Callable[[Path], None]) -> Path:
    """The folder that ``export`` has filled, now or before; whole or absent, whoever else makes it at the same time."""
    place = folder() / hashlib.sha256(f"{name}-{__version__}".encode()).hexdigest()[:32]
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix=".making-", dir=place.parent))
        try:
            export(making)
            making.rename(place)
        except OSError:  # another process was first, or the disk is full
            if not place.is_dir():
                raise
        finally:
            shutil.rmtree(making, ignore_errors=True)
    return place
