"""Edits as the text of a short config that inherits from the original."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from mmengine.config import Config

from dagn_pre.errors import ConfigError
from dagn_pre.integrations.openmmlab.deferred import type_name
from dagn_pre.integrations.openmmlab.insert.plan import BY_HAND, MODULE, OURS, Edit, Reference, Update, custom_imports, plain


def render_text(source: str, path: Path, out: Path, config: Config, edits: list[Edit | Update]) -> str:
    """A text-style config that inherits through ``_base_`` and edits its lists in place."""
    imports = custom_imports(config)
    if "custom_imports" in config and not isinstance(config.custom_imports, dict):
        imports["_delete_"] = True  # None in the base: replace it, a dict cannot be merged into it
    return "\n".join(
        [
            f"# Written by `dagn-pre insert` from {source}; everything else is inherited.",
            f"_base_ = {base_of(source, path, out)}",
            f"custom_imports = {made(imports, prefix='')}",
            *(statement(edit, "_base_.") for edit in edits),
            "",
        ]
    )


def render_lazy(source: str, path: Path, out: Path, config: Config, edits: list[Edit | Update]) -> str:
    """A pure-Python config that inherits through ``read_base`` and edits the imported lists in place."""
    relative = relative_path(path, out)
    parts = Path(relative).with_suffix("").parts
    ups = parts.count("..")
    if not all(part.isidentifier() for part in parts[ups:]):
        raise ConfigError(
            f"{source}: a pure-Python config can only be inherited from by names that Python can import, which "
            f"{relative} is not; write to another folder, or {BY_HAND}"
        )
    new = [step for edit in edits for step in (edit.steps if isinstance(edit, Edit) else [edit.values])]
    names = sorted({type_name(step) for step in new} & set(OURS))
    return "\n".join(
        [
            f"# Written by `dagn-pre insert` from {source}; everything else is inherited.",
            "from mmengine.config import read_base",
            "",
            "with read_base():",
            f"    from {'.' * (ups + 1)}{'.'.join(parts[ups:])} import *",
            "",
            *([f"from {MODULE} import {', '.join(names)}"] if names else []),
            "",
            *(statement(edit, "") for edit in edits),
            "",
        ]
    )


def statement(edit: Edit | Update, prefix: str) -> str:
    """``edit`` as Python code."""
    if isinstance(edit, Update):
        lines = [f"{prefix}{edit.path}.{key} = {made(value, prefix)}" for key, value in edit.values.items()]
        return "\n".join([*lines, *(f"{prefix}{edit.path}.pop({key!r}, None)" for key in edit.removed)])
    if edit.stop == edit.start + 1 == edit.start + len(edit.steps):
        return f"{prefix}{edit.path}[{edit.start}] = {made(edit.steps[0], prefix)}"
    lines = [f"{prefix}{edit.path}[{edit.start}:{edit.stop}] = ["]
    return "\n".join([*lines, *(f"    {made(step, prefix)}," for step in edit.steps), "]"])


def made(value: object, prefix: str) -> str:
    """A step or an argument as code: what stays is named by where it stands."""
    if isinstance(value, Reference):
        return f"{prefix}{value.path}"
    if isinstance(value, type):  # of ours, imported above
        return value.__name__
    if not isinstance(value, dict):
        return repr(plain(value))
    return f"dict({', '.join(f'{key}={made(item, prefix)}' for key, item in value.items())})"


def base_of(source: str, path: Path, out: Path) -> str:
    """The expression for ``_base_``: as short as the installed mmengine understands, and not bound to this machine."""
    if "::" not in source:
        return repr(relative_path(path, out))
    package, inner = source.split("::")
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder) / "probe.py"
        probe.write_text(f"_base_ = {source!r}\n", encoding="utf-8")
        try:
            Config.fromfile(probe, import_custom_modules=False)
            return repr(source)
        except (ImportError, AssertionError, ValueError):
            # mmengine knows mmseg by the upstream distribution's name only, and no folders with a plus or a dot in their names;
            # there the package's folder is asked for instead. mmengine evaluates the expression.
            return f"__import__({package!r}).__path__[0] + {f'/.mim/configs/{inner}'!r}"


def relative_path(path: Path, out: Path) -> str:
    """``path`` seen from ``out``'s folder; ".." is resolved by the file system, hence real folders."""
    target = path.parent.resolve() / path.name
    return Path(os.path.relpath(target, out.parent.resolve())).as_posix()
