"""Graphs of restorers, and the engines that run them."""

from __future__ import annotations

import json
import logging
import multiprocessing
import pickle
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from dagn_pre import Restorer, engines, models, quantisation, weights
from dagn_pre.cli.main import main
from dagn_pre.errors import UsageError
from dagn_pre.graphs import MatrixPool, WholeGraph
from dagn_pre.protocol import ImageInformation, RestorationModel
from dagn_pre.telemetry import untold
from tests.support import TINY, python

with untold():
    import openvino

SHAPES = [(1, 3, 64, 48), (2, 3, 32, 80), (1, 3, 16, 16)]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Graphs are kept for the module, and not in the user's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def images() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in ((33, 47), (16, 16), (70, 31))]


def restored(images, **options) -> list[np.ndarray]:
    return Restorer(device="cpu", max_quality=None, **options)(images, quality=10)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("model", ["tiny", "arcnn"])
def test_engines_give_the_pixels_of_torch(engine, model, tiny_weights, images):
    model = tiny_weights if model == "tiny" else model
    expected, found = (restored(images, model=model, engine=name) for name in ("torch", engine))
    assert any(not np.array_equal(one, image) for one, image in zip(expected, images))
    for one, other in zip(expected, found):
        assert np.abs(one.astype(int) - other.astype(int)).max() <= 1


def test_no_word_is_sent_of_their_use(tiny_weights, tmp_path):
    """From a fresh process: this one is pytest's, which keeps NNCF from it."""
    code = """
import multiprocessing, sys
import numpy
multiprocessing.Process.start = lambda process: sys.exit("a process was started")
from dagn_pre import Restorer, quantisation
quantisation.IMAGES = 1
for dtype in "float32", "int8":
    restorer = Restorer(sys.argv[1], "cpu", engine="openvino", dtype=dtype, max_quality=None)
    restorer(numpy.zeros((32, 32, 3), numpy.uint8), quality=10)
import nncf, openvino
print("openvino_telemetry" in sys.modules, type(nncf.telemetry.telemetry).__name__)
"""
    assert python(code, str(tiny_weights), cwd=tmp_path).splitlines()[-1] == "False MagicMock"


def test_tiles_equal_the_whole_on_an_engine(tiny_weights):
    image = np.random.default_rng(1).integers(0, 256, (200, 260, 3), dtype=np.uint8)
    whole, tiled = (restored(image, model=tiny_weights, engine="openvino", tile=tile) for tile in (0, 64))
    assert np.abs(whole.astype(int) - tiled.astype(int)).max() <= 1


def test_blind_quality_and_a_quality_set_by_hand_are_those_of_torch(tiny_weights, images, tmp_path):
    model, metadata = weights.load(tiny_weights)
    torch.nn.init.uniform_(model.quality.vectors)
    tiny_weights = tmp_path / "vectors.safetensors"
    weights.save(tiny_weights, model, None, metadata.card)
    ours, theirs = (Restorer(tiny_weights, "cpu", engine=name) for name in ("torch", "openvino"))
    assert [ours.estimate_quality(one) for one in images] == [theirs.estimate_quality(one) for one in images]
    ours, theirs = (restored(images, model=tiny_weights, assume_quality=20, engine=name) for name in ("torch", "openvino"))
    for one, other in zip(ours, theirs):
        assert np.abs(one.astype(int) - other.astype(int)).max() <= 1


def test_bfloat16_on_openvino_is_near_float32(tiny_weights, images):
    exact, rounded = (restored(images, model=tiny_weights, engine="openvino", dtype=dtype) for dtype in ("float32", "bfloat16"))
    for one, other in zip(exact, rounded):
        assert np.abs(one.astype(int) - other.astype(int)).max() <= 4


def test_graphs_are_made_once_and_kept(tiny_weights, images, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model, fingerprint = models.load(tiny_weights).model, models.fingerprint(tiny_weights)
    engines.make("openvino", model, "tiny", fingerprint, torch.float32)
    kept = sorted(path.name for path in engines.folder().iterdir())
    assert len(kept) == 2 and not any(name.startswith(".") for name in kept)
    monkeypatch.setattr(engines, "to_openvino", None)
    engines.make("openvino", model, "tiny", fingerprint, torch.bfloat16)
    assert sorted(path.name for path in engines.folder().iterdir()) == kept


def test_a_graph_that_fails_leaves_nothing_behind(tiny_weights, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def full(graph, example, path, **options):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(engines, "to_openvino", full)
    with pytest.raises(OSError, match="No space"):
        engines.make("openvino", models.load(tiny_weights).model, "tiny", "f", torch.float32)
    assert list(engines.folder().iterdir()) == []


def test_what_cannot_be_a_graph_is_refused_by_name_and_auto_takes_torch(caplog):
    model = NeedsTables()
    with pytest.raises(UsageError, match="engine 'openvino' cannot run 'needy': its guidance needs more than the pixels"):
        engines.make("openvino", model, "needy", "f", torch.float32)
    with caplog.at_level(logging.WARNING):
        assert engines.make("openvino", model, "needy", "f", torch.float32, strict=False) is model
    assert "torch does" in caplog.text


@pytest.mark.parametrize("fault", ["copy", "trace"])
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_whatever_fails_while_a_graph_is_made_is_the_reason(fault, engine, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model, reason = Odd(fault), {"copy": "TypeError: cannot pickle 'module' object", "trace": "KeyError: 'odd'"}[fault]
    with pytest.raises(UsageError, match=f"engine '{engine}' cannot run 'odd': making the graph raises .*{reason[:8]}"):
        engines.make(engine, model, "odd", "f", torch.float32)
    assert engines.make(engine, model, "odd", "f", torch.float32, strict=False) is model


class Odd(RestorationModel):
    def __init__(self, fault):
        super().__init__()
        self.fault, self.library = fault, sys if fault == "copy" else None

    def restore(self, x, guidance):
        raise KeyError("odd")


def test_a_restorer_pickles_as_its_options(tiny_weights, images):
    for engine in ("torch", "openvino"):
        restorer = Restorer(tiny_weights, "cpu", engine=engine, max_quality=None, strength={10: 0.5, 40: 1})
        data = pickle.dumps(restorer)
        other = pickle.loads(data)
        assert len(data) < 1000 and other.options == restorer.options and other.engine == engine
        assert np.array_equal(other(images[0], quality=20), restorer(images[0], quality=20))


class NeedsTables(RestorationModel):
    needs = "tables"

    def guide(self, x, information):
        return x.new_tensor([one.quality for one in information])


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"engine": "tensorflow"}, "engine must be one of auto, torch, openvino, onnxruntime, tensorrt, not 'tensorflow'"),
        ({"engine": "openvino", "dtype": "float16"}, "engine 'openvino' does not compute in float16"),
        ({"engine": "onnxruntime", "dtype": "bfloat16"}, "engine 'onnxruntime' does not compute in bfloat16"),
        ({"engine": "tensorrt"}, "engine 'tensorrt' works on CUDA, not on cpu; use engine='torch'"),
        ({"engine": "tensorrt", "dtype": "int8"}, "dtype 'int8' is for engine='openvino' on a CPU"),
    ],
)
def test_engines_that_will_not_do_are_refused(options, reason, tiny_weights):
    with pytest.raises(UsageError, match=reason):
        Restorer(tiny_weights, "cpu", **options)


def test_an_engine_that_is_not_installed_is_named_with_its_remedy(tiny_weights, monkeypatch):
    monkeypatch.setattr(engines, "missing", lambda engine: None if engine == "torch" else engine)
    with pytest.raises(UsageError, match=r"engine 'openvino' needs openvino: pip install \"dagn-pre\[openvino\]\""):
        Restorer(tiny_weights, "cpu", engine="openvino")
    assert Restorer(tiny_weights, "cpu", engine="auto").engine == "torch"


def test_auto_is_openvino_on_a_cpu_and_torch_elsewhere():
    assert engines.resolve("auto", torch.device("cpu"), torch.float32) == "openvino"
    assert engines.resolve("auto", torch.device("cuda"), torch.float32) == "torch"
    assert engines.resolve("auto", torch.device("cpu"), torch.float16) == "torch"
    with pytest.raises(UsageError, match="works on the CPU, not on cuda"):
        engines.resolve("openvino", torch.device("cuda"), torch.float32)


def test_tensorrt_names_what_is_missing(monkeypatch):
    """Here the packages are not, or ONNX Runtime is the one without TensorRT."""
    with pytest.raises(UsageError, match=r"engine 'tensorrt' needs tensorrt: pip install \"dagn-pre\[tensorrt\]\""):
        engines.resolve("tensorrt", torch.device("cuda"), torch.float16)
    monkeypatch.setitem(engines.PACKAGES, "tensorrt", ("onnxruntime",))
    with pytest.raises(UsageError, match="needs onnxruntime-gpu, which onnxruntime hides where both are installed: pip unin"):
        engines.resolve("tensorrt", torch.device("cuda"), torch.float16)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [engines.TENSORRT])
    assert engines.resolve("tensorrt", torch.device("cuda"), torch.float16) == "tensorrt"


def test_tensorrts_session_computes_on_tensors_where_they_are(tiny_weights, images, monkeypatch):
    """Its way through ONNX Runtime, with the CPU in the place of the GPU."""
    import onnxruntime

    asked = []

    def session(path, providers):
        asked.append(providers)
        made = onnxruntime_session(path, providers=["CPUExecutionProvider"])
        monkeypatch.setattr(made, "get_providers", lambda: [engines.TENSORRT])
        return made

    onnxruntime_session = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    model = models.load(tiny_weights).model
    compiled = engines.make("tensorrt", model, "tiny", models.fingerprint(tiny_weights), torch.float16)
    for size in ((48, 64), (32, 32)):
        x = torch.rand(2, 3, *size)
        with torch.inference_mode():
            expected = model.restore(x, model.guide(x, [ImageInformation()] * 2))
            found = compiled.restore(x, compiled.guide(x, [ImageInformation()] * 2))
        assert found.shape == x.shape and (found - expected).abs().max() < 1 / 255
    (restoring, _), (guiding, _) = asked  # the first provider of each graph; the second is CUDA's
    assert restoring[0] == guiding[0] == engines.TENSORRT and restoring[1]["trt_fp16_enable"] is True
    assert "trt_fp16_enable" not in guiding[1]  # it reads a QF from what half precision rounds away


def test_tensorrt_that_does_not_load_is_said(tiny_weights, monkeypatch):
    import onnxruntime

    made = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda path, providers: made(path, providers=["CPUExecutionProvider"]))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    model = models.load(tiny_weights).model
    with pytest.raises(UsageError, match="engine 'tensorrt' cannot run 'tiny': TensorRT could not be loaded"):
        engines.make("tensorrt", model, "tiny", models.fingerprint(tiny_weights), torch.float16)


FORKED = """
import multiprocessing, numpy, sys
from dagn_pre import Restorer
from dagn_pre.errors import UsageError
restorer, image = Restorer(sys.argv[1], "cpu", engine="openvino", max_quality=None), numpy.zeros((32, 32, 3), numpy.uint8)
restorer(image, quality=10)
def child(answers):
    try:
        restorer(image, quality=10)
    except UsageError as error:
        answers.put(str(error))
if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    context.Process(target=child, args=(answers,)).start()
    print(answers.get(timeout=60))
"""


def test_a_forked_process_is_told_and_does_not_hang(tiny_weights, tmp_path):
    (tmp_path / "forked.py").write_text(FORKED)
    assert "fork" in multiprocessing.get_all_start_methods()
    command = [sys.executable, str(tmp_path / "forked.py"), str(tiny_weights)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "does not work in a forked process" in done.stdout, done.stderr


@pytest.mark.parametrize("size", [(8, 8), (5, 7), (1, 1), (3, 20)])
def test_pooling_by_matrices_is_adaptive_pooling(size):
    x = torch.rand(2, 3, *size)
    for bins in (1, 2, 4, 8):
        assert torch.allclose(MatrixPool(bins)(x), torch.nn.AdaptiveAvgPool2d(bins)(x), atol=1e-6)


@pytest.fixture(scope="module", params=["tiny", "arcnn"])
def model(request, tiny_weights) -> str:
    return str(tiny_weights) if request.param == "tiny" else request.param


def pixels(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", ["onnx", "openvino", "torch_export"])
def test_exported_graphs_restore_pixels_of_any_size_as_eager_does(kind, model, tmp_path, capsys):
    suffix = {"onnx": ".onnx", "openvino": ".xml", "torch_export": ".pt2"}[kind]
    path = tmp_path / f"whole{suffix}"
    assert main(["export", model, "--format", kind, "-o", str(path)]) == 0
    assert capsys.readouterr().out.strip().endswith(str(path))
    expected = {"whole.onnx"} if kind == "onnx" else {"whole.xml", "whole.bin"} if kind == "openvino" else {"whole.pt2"}
    assert {file.name for file in tmp_path.iterdir()} == expected
    if kind == "onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        fingerprint = {entry.key: entry.value for entry in onnx.load(path).metadata_props}["fingerprint"]
        name = session.get_inputs()[0].name
        run = lambda image: session.run(None, {name: image.numpy()})[0]  # noqa: E731
    elif kind == "openvino":
        read = openvino.Core().read_model(path)
        fingerprint = read.get_rt_info(["dagn_pre", "fingerprint"]).astype(str)
        compiled = openvino.Core().compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        run = lambda image: compiled(image.numpy())[0]  # noqa: E731
    else:
        extra = {"dagn_pre.json": ""}
        program = torch.export.load(path, extra_files=extra)
        fingerprint = json.loads(extra["dagn_pre.json"])["fingerprint"]
        run = lambda image: program.module()(image).numpy()  # noqa: E731
    assert fingerprint == models.fingerprint(model)
    eager = WholeGraph(models.load(model).model)
    sizes = [(1, 3, 33, 47), (2, 3, 64, 21), (1, 3, 16, 16)]
    for shape in sizes[:2] if kind == "torch_export" else sizes:  # which takes a single cell of the stride for a constant
        image = pixels(shape)
        with torch.inference_mode():
            aim = eager(image).numpy()
        found = np.asarray(run(image))
        assert found.shape == shape and found.dtype == np.uint8
        assert np.abs(found.astype(int) - aim.astype(int)).max() <= 1


def test_the_whole_graph_is_what_the_restorer_does(tiny_weights, images):
    graph = WholeGraph(models.load(tiny_weights).model)
    for image, expected in zip(images, restored(images, model=tiny_weights)):
        with torch.inference_mode():
            found = graph(torch.from_numpy(image).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
        assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1


def test_graphs_for_tiles_come_apart(tiny_weights, tmp_path):
    assert main(["export", str(tiny_weights), "--format", "openvino", "--tiles", "-o", str(tmp_path / "t.xml")]) == 0
    expected = {f"t-{part}.{end}" for part in ("guide", "restore") for end in ("xml", "bin")}
    assert {path.name for path in tmp_path.iterdir()} == expected
    guide, restore = (openvino.Core().read_model(tmp_path / f"t-{part}.xml") for part in ("guide", "restore"))
    assert len(restore.inputs) == 1 + len(guide.outputs)
    assert int(restore.get_rt_info(["dagn_pre", "overlap"]).astype(str)) == models.load(tiny_weights).model.receptive_radius
    assert TINY.sensitive and len(guide.outputs) == 2 * 3 * 2 + 2 + 1


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (["dagn-s", "--format", "onnx", "-o", "a.xml"], "a.xml: the output must end in .onnx"),
        (["dagn-s", "--tiles", "-o", "a.safetensors"], "--tiles is for graphs"),
        (["dagn-l", "--format", "onnx", "-o", "a.onnx"], "dagn-l"),
        (["deblock", "--format", "onnx", "-o", "a.onnx"], "deblock: cannot be made a graph: making the graph raises TypeError"),
    ],
)
def test_exports_that_cannot_be_are_refused(arguments, reason, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["export", *arguments]) != 0
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options, name", [([], "a.onnx"), (["--tiles"], "a-restore.onnx")])
def test_a_folder_in_the_place_of_an_export_is_said(options, name, tmp_path, capsys):
    (tmp_path / name).mkdir()
    assert main(["export", "arcnn", "--format", "onnx", *options, "-o", str(tmp_path / "a.onnx")]) == 2
    assert capsys.readouterr().err.strip() == f"dagn-pre export: {tmp_path / name}: is a folder; name a file"


@pytest.fixture
def few_pictures(monkeypatch):
    """To read activations off: making a graph in int8 takes a while with as many as there should be."""
    monkeypatch.setattr(quantisation, "IMAGES", 3)
    monkeypatch.setattr(quantisation, "SIDE", 48)


@pytest.mark.parametrize("model", ["tiny", "arcnn"])
def test_int8_stays_near_float32(model, tiny_weights, images, few_pictures):
    model = tiny_weights if model == "tiny" else model
    expected, found = (restored(images, model=model, engine="openvino", dtype=dtype) for dtype in ("float32", "int8"))
    errors = [np.abs(one.astype(int) - other.astype(int)) for one, other in zip(expected, found)]
    assert any(error.any() for error in errors)  # it is another graph
    assert max(error.mean() for error in errors) < 2


def test_int8_is_for_openvino_on_a_cpu_that_has_it(monkeypatch):
    with pytest.raises(UsageError, match="engine='openvino'"):
        Restorer(dtype="int8")
    assert Restorer("arcnn", engine="auto", dtype="int8").engine == "openvino"
    monkeypatch.setattr(engines, "_capabilities", lambda: ["FP32"])
    with pytest.raises(UsageError, match="int8 instructions"):
        Restorer(engine="openvino", dtype="int8")
    monkeypatch.setitem(engines.PACKAGES, "int8", ("openvino", "no_such_package"))
    with pytest.raises(UsageError, match=r"dagn-pre\[int8\]"):
        Restorer(engine="openvino", dtype="int8")


def test_int8_graphs_keep_their_guidance_in_float(tiny_weights, tmp_path, few_pictures):
    main(["export", str(tiny_weights), "--format", "openvino", "--int8", "-o", str(tmp_path / "whole.xml")])
    main(["export", str(tiny_weights), "--format", "openvino", "--int8", "--tiles", "-o", str(tmp_path / "parts.xml")])
    core = openvino.Core()
    names = "whole", "parts-guide", "parts-restore"
    small = {name: quantised_layers(core.read_model(tmp_path / f"{name}.xml")) for name in names}
    assert small["parts-guide"] == set()
    assert small["whole"] == small["parts-restore"] != set()
    image = np.random.default_rng(2).integers(0, 256, (1, 3, 33, 47), dtype=np.uint8)
    (found,) = core.compile_model(tmp_path / "whole.xml", "CPU")(image).values()
    expected = restored(image[0].transpose(1, 2, 0), model=tiny_weights, restore_lossless="always")
    assert np.abs(found[0].transpose(1, 2, 0).astype(int) - expected.astype(int)).mean() < 2


def quantised_layers(graph: openvino.Model) -> set[str]:
    """Names of the convolutions whose weights are int8."""
    held = {"i8", "u8"}
    return {
        operation.get_friendly_name()
        for operation in graph.get_ordered_ops()
        if "Convolution" in operation.get_type_name() and held & set(sources(operation.input_value(1).get_node()))
    }


def sources(node) -> list[str]:
    """Types of the constants that a weight is made of."""
    if node.get_type_name() == "Constant":
        return [node.get_element_type().get_type_name()]
    return [name for value in node.input_values() for name in sources(value.get_node())]


def test_int8_is_for_openvinos_graphs(tmp_path, capsys):
    assert main(["export", "arcnn", "--format", "onnx", "--int8", "-o", str(tmp_path / "a.onnx")]) == 2
    assert "--format openvino" in capsys.readouterr().err
