"""An extension of griffe: roles such as ``:class:`dagn_pre.Restorer``` become links where the reference has their target."""

from __future__ import annotations

import re

from griffe import Extension, Object

ROLE = re.compile(r":(?:class|func|meth|mod|attr|data|exc):`(~?)([\w.]+)`")


class Roles(Extension):
    """Rewrites the docstrings of all objects before they are parsed."""

    def on_object(self, *, obj: Object, **kwargs: object) -> None:
        """Called by griffe for each object that it has read."""
        if obj.docstring:
            obj.docstring.value = ROLE.sub(lambda found: linked(found[2], bool(found[1]), obj), obj.docstring.value)


def linked(target: str, short: bool, obj: Object) -> str:
    """The name, as a link that is dropped where nothing of that name is documented."""
    owner = obj if obj.is_class else obj.parent
    shown = target.rpartition(".")[2] if short else target
    target = {"dagn_pre.Restorer": "dagn_pre.restorer.Restorer"}.get(target, target)
    if "." not in target and owner is not None:
        target = f"{owner.path}.{target}"
    return f'<autoref identifier="{target}" optional><code>{shown}</code></autoref>'
