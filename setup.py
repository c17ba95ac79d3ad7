"""Which folders are packages; everything else about the distribution is in pyproject.toml.

``integrations/`` and ``benchmarks/`` stand beside the library in the checkout and import as ``dagn_pre.integrations`` and
``dagn_pre.benchmarks`` through two relative links in ``dagn_pre/``, which ``find_namespace_packages`` follows: import path is
file path, in a bare checkout as in an installation.

The checkpoints of the host models that the benchmark measures (benchmarks/weights/*.pth, 18 MB) stay in the repository: the
base install cannot use them.
"""

from setuptools import find_namespace_packages, setup

setup(
    packages=find_namespace_packages(include=["dagn_pre", "dagn_pre.*"], exclude=["*__pycache__"]),
    package_data={"": ["py.typed", "*.safetensors", "*.md", "*.j2", "*.css", "*.js"]},
)
