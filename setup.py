"""Where the packages lie; everything else about the distribution is in pyproject.toml.

``integrations/`` and ``benchmarks/`` stand beside the library in the checkout but install inside it, as
``dagn_pre.integrations`` and ``dagn_pre.benchmarks``: nothing with a generic name reaches site-packages.
"""

from setuptools import find_packages, setup

ROOMS = {"dagn_pre": "dagn_pre", "dagn_pre.integrations": "integrations", "dagn_pre.benchmarks": "benchmarks"}


def packages() -> list[str]:
    """The three roots and every folder with an ``__init__.py`` below them, by import name."""
    return [name for room, folder in ROOMS.items() for name in (room, *(f"{room}.{p}" for p in find_packages(folder)))]


setup(
    packages=packages(),
    package_dir=ROOMS,
    package_data={
        "dagn_pre": ["weights/*"],
        # Configs are read by mmengine as files, never imported, so their folder is data and not a package.
        "dagn_pre.benchmarks": ["configs/*.py", "demo/*.md", "demo/checkpoints/*"],
    },
)
