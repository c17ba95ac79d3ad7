"""Configs as files: found by path or by the host's name for it, and loaded."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE

from dagn_pre.errors import ConfigError, UsageError, failure


def find(source: str | Path) -> Path:
    """The file of a config given by path or as "package::folder/name.py"; raises UsageError if there is none.

    mmengine's own ``get_config`` is not used: it installs packages that it does not find.
    """
    named = re.fullmatch(r"(\w+)::(.+)", str(source))
    if not named:
        path = Path(source)
    else:
        spec = importlib.util.find_spec(named[1])
        if spec is None or not spec.submodule_search_locations:
            raise UsageError(f"{source}: the package {named[1]} is not installed")
        path = Path(spec.submodule_search_locations[0]) / ".mim" / "configs" / named[2]
    if not path.is_file():
        raise UsageError(f"{source}: there is no such config file")
    return path


@contextmanager
def mmseg_under_any_name() -> Iterator[None]:
    """Let ``mmseg::`` in ``_base_`` be found where its distribution is onedl-mmsegmentation.

    mmengine looks for the distribution by upstream's name, and for a module only by the name given for it here.
    """
    upstream = MODULE2PACKAGE["mmseg"]
    MODULE2PACKAGE["mmseg"] = "mmseg"
    try:
        yield
    finally:
        MODULE2PACKAGE["mmseg"] = upstream


def load(path: Path) -> Config:
    """``Config.fromfile``; raises ConfigError for whatever goes wrong inside, since a config is code."""
    try:
        with mmseg_under_any_name():
            return Config.fromfile(path)
    except SystemExit as error:
        raise ConfigError(f"{path}: the config cannot be loaded: it ends the program") from error
    except Exception as error:
        raise ConfigError(f"{path}: {failure('the config cannot be loaded', error)}") from error
