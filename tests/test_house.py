"""The house: what importing costs and pulls in, what the wheel holds, and that the base install needs no OpenMMLab."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

from dagn_pre import Restorer, codec
from dagn_pre.cli.main import COMMANDS
from tests.support import BLOCK_HOSTS, HOSTS, photograph, python

ROOT = Path(__file__).parents[1]
def imported(path: Path) -> set[str]:
    """Top-level names that a source file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


def test_importing_the_library_imports_no_host(tmp_path):
    code = "import sys, dagn_pre; from dagn_pre import Restorer; import dagn_pre.cli.main; print(*sys.modules)"
    modules = {name.partition(".")[0] for name in python(code, cwd=tmp_path).split()}
    assert "torch" in modules and not modules & HOSTS


def test_importing_the_package_waits_with_torch(tmp_path):
    """So that ``dagn-pre --help`` answers at once; the ratio of the times is measured by tools/import_time.py."""
    assert "torch" not in python("import sys, dagn_pre, dagn_pre.cli.main; print(*sys.modules)", cwd=tmp_path).split()


def test_library_sources_import_no_host():
    """Also not inside functions, where only a call would show it; mmengine is for the training room alone."""
    folders = os.walk(ROOT / "dagn_pre")  # which does not follow the links to integrations and benchmarks
    sources = [Path(folder, name) for folder, _, names in folders for name in names if name.endswith(".py")]
    assert len(sources) > 10
    training = ROOT / "dagn_pre" / "training"
    allowed = {path: {"mmengine"} if training in path.parents else set() for path in sources}
    assert not {str(path): found for path in sources if (found := (imported(path) & HOSTS) - allowed[path])}
    assert any("mmengine" in imported(path) for path in sources if training in path.parents)


def test_base_install_works_without_the_hosts(tmp_path):
    """Restorer, the torchvision transform and the CLI, with every host's import failing."""
    code = BLOCK_HOSTS + (
        "import numpy as np\n"
        "from dagn_pre import Restorer\n"
        "from dagn_pre.cli.main import main\n"
        "from dagn_pre.integrations.torchvision import DAGNRestore\n"
        "import torch\n"
        "image = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)\n"
        "assert Restorer(device='cpu', max_quality=None)(image).shape == image.shape\n"
        "assert DAGNRestore(max_quality=None)(torch.from_numpy(image).permute(2, 0, 1)).shape == (3, 24, 40)\n"
        "assert main(['models']) == 0\n"
        "from PIL import Image\n"
        "Image.fromarray(image).save('in.jpg', quality=10)\n"
        "assert main(['restore', 'in.jpg', 'out.png', '--max-quality', 'none']) == 0\n"
        "assert Image.open('out.png').size == (40, 24)\n"
        "torch.save({'x': torch.zeros(1)}, 'peer.pth')\n"
        "for model in ('deblock', 'libjpeg', 'peer.pth'):\n"
        "    try:\n"
        "        Restorer(model)\n"
        "    except Exception as error:\n"
        "        print(error)\n"
    )
    printed = python(code, cwd=tmp_path)
    assert "dagn-s" in printed and printed.count('pip install "dagn-pre[peers]"') == 3


def test_commands_that_need_a_host_say_so(tmp_path):
    """One sentence each that names the extra, and status 1."""
    code = BLOCK_HOSTS + (
        "from dagn_pre.cli.main import main\n"
        "sys.stderr = sys.stdout\n"
        "commands = ['bench', 'run', 'x.py', '--work-dir', 'w'], ['insert', 'x.py', '-o', 'y.py'], ['train', 'x.py'], "
        "['adapt', 'x.py', '--images', 'i', '-o', 'y.safetensors'], "
        "['train-data', 'texture', 'd', '-o', 't.safetensors']\n"
        "print(*[main(command) for command in commands])\n"
    )
    (tmp_path / "x.py").write_text("model = {}\n")
    bench, insert, train, adapt, texture, statuses = python(code, cwd=tmp_path).splitlines()
    assert statuses == "1 1 1 1 1" and all("dagn-pre[train]" in said for said in (train, adapt, texture))
    assert "dagn-pre[openmmlab,benchmarks]" in bench and "dagn-pre[openmmlab]" in insert


def test_import_path_is_file_path(tmp_path):
    """Installed as editable, from anywhere; and in a bare checkout, from its root, where nothing is installed."""
    names = ("dagn_pre", "dagn_pre.integrations", "dagn_pre.benchmarks", "dagn_pre.benchmarks.restoration")
    code = "import importlib, sys\nfor name in sys.argv[1:]: print(importlib.import_module(name).__file__)"
    bare = checkout(tmp_path / "bare")
    for root, folder in ((ROOT, tmp_path), (bare, bare)):
        found = [Path(line).parent for line in python(code, *names, cwd=folder).splitlines()]
        assert found == [root.joinpath(*name.split(".")) for name in names]
        real = [root / "dagn_pre", root / "integrations", root / "benchmarks", root / "benchmarks" / "restoration"]
        assert [path.resolve() for path in found] == [path.resolve() for path in real]


def checkout(folder: Path) -> Path:
    """What setuptools reads of this checkout, file by file as links to it, the two folders' links as they are."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("dagn_pre", "integrations", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored, copy_function=os.symlink)
    for name in ("setup.py", "pyproject.toml", "LICENSE", "README.md"):
        os.symlink(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel from the source distribution, as `python -m build` makes them."""
    source = checkout(tmp_path_factory.mktemp("build") / "source")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist"]
    run = subprocess.run(build, cwd=source, capture_output=True, text=True)  # build/ stays in the copy, too
    assert run.returncode == 0, run.stdout + run.stderr
    (found,) = (source / "dist").glob("*.whl")
    return found


@pytest.mark.slow
def test_wheel_holds_the_package_and_nothing_generic(wheel):
    """Every module, config and weights file of the checkout at its path, only dagn_pre on top, and no host's checkpoints."""
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        entry_points = archive.read(next(n for n in archive.namelist() if n.endswith("entry_points.txt"))).decode()
    folders = os.walk(ROOT / "dagn_pre", followlinks=True)
    files = [Path(folder, name).relative_to(ROOT) for folder, _, names in folders for name in names]
    expected = {path.as_posix() for path in files if path.suffix not in (".pyc", ".pth")}
    assert held == expected
    assert {"dagn_pre/weights/dagn-s.safetensors", "dagn_pre/benchmarks/configs/demo_pspnet.py", "dagn_pre/py.typed"} <= held
    assert any(path.suffix == ".pth" for path in files)
    assert wheel.stat().st_size < 23e6  # four sets of weights, 18 MB of it of two
    assert "dagn-pre = dagn_pre.cli.main:main" in entry_points


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The console script of the wheel in an environment of its own, which finds the libraries of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", "--ignore-installed", str(wheel)], check=True)
    return folder / "bin" / "dagn-pre"


def outside(script: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    """Run the environment's console script or Python as somebody without the checkout would."""
    own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run([script, *arguments], cwd=cwd, env=own, capture_output=True, text=True)


@pytest.mark.slow
def test_installed_wheel_restores_a_picture(installed, tmp_path):
    """As this checkout restores it, up to the rounding of other thread counts; the code is the wheel's own."""
    code = "import dagn_pre.restorer, dagn_pre.benchmarks.restoration as room; print(dagn_pre.restorer.__file__, room.__file__)"
    there = outside(installed.with_name("python"), "-c", code, cwd=tmp_path)
    assert there.stdout and all(Path(file).is_relative_to(installed.parents[1]) for file in there.stdout.split()), there
    (tmp_path / "in.jpg").write_bytes(codec.encode(photograph(), 10))
    run = outside(installed, "restore", "in.jpg", "out.png", "--device", "cpu", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    found, before = (codec.decode((tmp_path / name).read_bytes()).astype(int) for name in ("out.png", "in.jpg"))
    expected = Restorer(device="cpu")(tmp_path / "in.jpg").astype(int)
    assert np.abs(found - expected).max() <= 1 and np.abs(found - before).max() > 5


@pytest.mark.slow
@pytest.mark.openmmlab
def test_installed_wheel_says_where_the_checkpoints_are(installed, tmp_path):
    """One sentence, before anything is rendered."""
    run = outside(installed, "bench", "run", "demo", "--work-dir", "work", cwd=tmp_path)
    (line,) = run.stderr.strip().splitlines()
    assert run.returncode == 1 and "demo_faster_rcnn.pth is not part of an installed dagn-pre" in line
    assert "benchmarks/weights/demo_faster_rcnn.pth" in line and not (tmp_path / "work").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command):
    """Through the installed console script."""
    script = Path(sys.executable).with_name("dagn-pre")
    run = subprocess.run([script, *command.split(), "--help"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert f"dagn-pre {command}" in run.stdout.split("example:")[1]


def test_constraints_pin_one_version_each():
    """Every requirement is an exact pin, and the pins of setup and upstream traps are there."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all("==" in line for line in lines)
    assert {"torch==2.11.0", "torchvision==0.26.0", "onedl-mmcv==2.3.6"} <= set(lines)
