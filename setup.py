"""Where the packages lie; everything else about the distribution is in pyproject.toml.

``integrations/`` and ``benchmarks/`` stand beside the library in the checkout but install inside it, as
``dagn_pre.integrations`` and ``dagn_pre.benchmarks``: nothing with a generic name reaches site-packages.
"""

from setuptools import find_namespace_packages, setup

ROOMS = {"dagn_pre": "dagn_pre", "dagn_pre.integrations": "integrations", "dagn_pre.benchmarks": "benchmarks"}


def packages() -> list[str]:
    """The three rooms and every folder below them, by import name; folders of data (weights, configs) too."""
    below = {room: find_namespace_packages(folder, exclude=["*__pycache__"]) for room, folder in ROOMS.items()}
    return [name for room in ROOMS for name in (room, *(f"{room}.{folder}" for folder in below[room]))]


setup(packages=packages(), package_dir=ROOMS, package_data={"": ["*.safetensors", "*.pth", "*.md", "*.j2", "*.css", "*.js"]})
