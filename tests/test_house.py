"""The house: what importing costs and pulls in, what the wheel holds, and that the base install needs no OpenMMLab."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from dagn_pre.cli.main import COMMANDS

ROOT = Path(__file__).parents[1]
HOSTS = {"mmcv", "mmdet", "mmseg", "mmengine", "cv2"}
EXTRAS = {"spandrel", "spandrel_extra_arches", "jpeglib", "av", "pillow_heif"}
PLACES = {
    "dagn_pre": "dagn_pre",
    "integrations": "dagn_pre/integrations",
    "benchmarks": "dagn_pre/benchmarks",
}  # folder of the checkout -> where it is installed
BLOCK_HOSTS = f"""
import sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {sorted(HOSTS | EXTRAS)!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, NotInstalled())
"""


def python(code: str, *arguments: str, cwd: Path) -> str:
    """Run code in a fresh interpreter, outside the checkout, and return what it prints."""
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=cwd)
    assert run.returncode == 0, run.stderr
    return run.stdout


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
    sources = sorted((ROOT / "dagn_pre").rglob("*.py"))
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
        "['adapt', 'x.py', '--images', 'i', '-o', 'y.safetensors']\n"
        "print(*[main(command) for command in commands])\n"
    )
    (tmp_path / "x.py").write_text("model = {}\n")
    bench, insert, train, adapt, statuses = python(code, cwd=tmp_path).splitlines()
    assert statuses == "1 1 1 1" and "dagn-pre[train]" in train and "dagn-pre[train]" in adapt
    assert "dagn-pre[openmmlab,benchmarks]" in bench and "dagn-pre[openmmlab]" in insert


def test_editable_install_resolves_to_the_checkout(tmp_path):
    names = ("dagn_pre", "dagn_pre.integrations", "dagn_pre.benchmarks")
    code = "import importlib, sys\nfor name in sys.argv[1:]: print(importlib.import_module(name).__file__)"
    folders = [Path(line).parent.resolve() for line in python(code, *names, cwd=tmp_path).splitlines()]
    assert folders == [ROOT / "dagn_pre", ROOT / "integrations", ROOT / "benchmarks"]


def test_wheel_holds_the_package_and_nothing_generic(tmp_path):
    """Every module, config and weights file of restorers, at its installed path, and only dagn_pre on top."""
    source = tmp_path / "source"  # links to the sources: setuptools leaves build/ where it works
    for folder in PLACES:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, source / folder, ignore=ignore, copy_function=os.symlink)
    for name in ("setup.py", "pyproject.toml", "LICENSE", "README.md"):
        os.symlink(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([*pip, str(source)], check=True, capture_output=True)
    assert next(tmp_path.glob("*.whl")).stat().st_size < 20e6  # two sets of weights are 17.8 MB of it
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
        entry_points = wheel.read(next(n for n in wheel.namelist() if n.endswith("entry_points.txt"))).decode()
    expected = {
        f"{place}/{path.relative_to(source / folder)}"
        for folder, place in PLACES.items()
        for path in (source / folder).rglob("*")
        if path.is_file() and path.suffix != ".pth"  # the host models that are measured stay in the repository
    }
    assert held == expected
    assert {"dagn_pre/weights/dagn-s.safetensors", "dagn_pre/benchmarks/configs/demo_pspnet.py"} <= held
    assert "dagn-pre = dagn_pre.cli.main:main" in entry_points


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
