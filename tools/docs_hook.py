"""What mkdocs is told about this repository, as a hook of mkdocs.yml: pages outside docs/, the notebook, links, the commands.

Pages link to each other as files of the repository, which works where the repository is looked at. Those outside docs/ that the
site shows are in ``PAGES``; a link to any other file outside docs/ becomes its text, as the site holds no sources.
"""

from __future__ import annotations

import argparse
import json
import os
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES = {  # file of the repository -> page of the site
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "dagn_pre/weights/dagn-s.md": "cards/dagn-s.md",
    "dagn_pre/weights/dagn-s-psnr.md": "cards/dagn-s-psnr.md",
    "dagn_pre/weights/dagn-xs.md": "cards/dagn-xs.md",
    "dagn_pre/weights/dagn-xs-psnr.md": "cards/dagn-xs-psnr.md",
    "dagn_pre/weights/arcnn.md": "cards/arcnn.md",
    "dagn_pre/weights/side_information/dagn-s-psnr.md": "cards/side-information.md",
    "benchmarks/weights/README.md": "cards/host-models.md",
    "benchmarks/demo/DATA_CARD.md": "cards/demo.md",
    "docs/tutorial.ipynb": "tutorial.md",
}
SOURCES = {page: file for file, page in PAGES.items()}
CODE = r"^```.*?^```|^ {4}[^\n]*$|`[^`\n]+`"
LINK = re.compile(rf"(?P<code>{CODE})|\[(?P<text>(?:[^\[\]`]|`[^`\n]*`|\[[^\[\]]*\])*)\]\((?P<target>[^()\s]+)\)", re.M | re.S)
COMMANDS = "<!-- commands -->"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages outside docs/, and the notebook as one."""
    for file, page in PAGES.items():
        text = ROOT.joinpath(file).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=notebook(text) if file.endswith(".ipynb") else text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as the site has them, and the commands in their place."""
    here = page.file.src_uri
    source = SOURCES.get(here, f"docs/{here}")
    if COMMANDS in markdown:
        markdown = markdown.replace(COMMANDS, "\n\n".join(commands()))
    return LINK.sub(lambda found: found["code"] or link(found["text"], found["target"], source, here), markdown)


def link(text: str, target: str, source: str, here: str) -> str:
    """A link from the file ``source``, which is the page ``here``, as the site's page has it."""
    path, mark, anchor = target.partition("#")
    if re.match(r"[a-z]+:", target) or not path:
        return f"[{text}]({target})"
    file = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    if not ROOT.joinpath(file).exists():
        raise PluginError(f"{source} links to {target}, and there is no {file}")
    if file in PAGES:
        shown = PAGES[file]
    elif file.startswith("docs/"):
        shown = file.removeprefix("docs/")
    else:
        return text
    return f"[{text}]({posixpath.relpath(shown, posixpath.dirname(here) or '.')}{mark}{anchor})"


def notebook(text: str) -> str:
    """A notebook's cells and its outputs, which are text and pictures, as Markdown."""
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", ()):
            data = output.get("data", {"text/plain": output.get("text", ())})
            picture = next((kind for kind in data if kind.startswith("image/")), None)
            if picture:
                parts.append(f"![output](data:{picture};base64,{''.join(data[picture]).strip()})")
            else:
                parts.append(f"```text\n{''.join(data['text/plain']).rstrip()}\n```")
    return "\n\n".join(parts)


def commands() -> Iterator[str]:
    """The help of ``dagn-pre`` and of each of its commands, as a terminal of 80 columns shows it."""
    os.environ["COLUMNS"] = "80"
    sys.path.insert(0, str(ROOT))  # the checkout's, wherever mkdocs is installed
    from dagn_pre.cli.main import build_parser

    waiting = [build_parser()]
    while waiting:
        parser = waiting.pop(0)
        yield f"## {parser.prog}\n\n```text\n{parser.format_help().rstrip()}\n```"
        below = (action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction))
        waiting[:0] = [parser for choices in below for parser in choices.values()]
