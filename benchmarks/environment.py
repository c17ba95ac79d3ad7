"""Where numbers were measured: versions, JPEG decoders, threads, device, commit. Nothing that names a path."""

from __future__ import annotations

import functools
import platform
import re
import subprocess
from importlib.metadata import packages_distributions, version
from pathlib import Path

import PIL
import torch
from PIL import features

PACKAGES = ("dagn_pre", "torch", "torchvision", "numpy", "cv2", "mmengine", "mmcv", "mmdet", "mmseg", "pycocotools")


def describe(device: str, packages: tuple[str, ...] = PACKAGES) -> dict:
    """A JSON-ready description of this process's surroundings; ``device`` is "cpu" or "cuda", ``packages`` are those that
    the numbers depend on."""
    return {
        "versions": {"python": platform.python_version(), **versions(packages)},
        "decoder": decoders(opencv="cv2" in packages),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device == "cuda" else f"CPU ({processor()})",
        "platform": f"{platform.system()} {platform.machine()}",
        "commit": commit(),
    }


@functools.lru_cache(maxsize=4)
def versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Versions by import name; a distribution of another name, such as onedl-mmcv, is told."""
    owners, found = packages_distributions(), {}
    for package in packages:
        for owner in owners.get(package, [])[:1]:
            same = owner.replace("-", "_") == package
            found[package] = version(owner) if same else f"{version(owner)} ({owner})"
    return found


def decoders(opencv: bool = True) -> dict[str, str]:
    """The JPEG library behind Pillow, which compresses here, and behind OpenCV, where hosts load their images with it."""
    turbo = features.version_feature("libjpeg_turbo")
    used = f"libjpeg-turbo {turbo}" if turbo else f"libjpeg {features.version('jpg')}"
    found = {"pillow": f"{PIL.__version__}, {used}"}
    if opencv:
        import cv2

        line = re.search(r"^\s*JPEG:\s*(.+)$", cv2.getBuildInformation(), re.MULTILINE)
        library = re.sub(r"\S*/\S*", "", line[1]).strip() if line else "unknown"  # a path when it is the system's own
        found["opencv"] = f"{cv2.__version__}, {library}"
    return found


def processor() -> str:
    """The processor's name as Linux tells it, else its architecture."""
    info = Path("/proc/cpuinfo")
    line = re.search(r"^model name\s*:\s*(.+)$", info.read_text() if info.is_file() else "", re.MULTILINE)
    return line[1] if line else platform.machine()


def commit() -> str | None:
    """The commit of the checkout this runs from, "-dirty" if tracked files differ; None for an installed package."""
    here = Path(__file__).resolve()

    def git(*words: str) -> str:
        done = subprocess.run(("git", *words), cwd=here.parent, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        if not git("ls-files", here.name):  # inside some repository, but not a part of it
            return None
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
