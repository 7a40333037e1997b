"""Hooks of MkDocs: the notebook as a page, and code blocks without the words that are for the tests.

Invariant: a page says what its source says, and nothing is run.
"""

import json
import re
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add results.md to the pages, made of results.ipynb with the outputs it was saved with."""
    notebook = files.get_file_from_path("results.ipynb")
    assert notebook is not None, "docs/results.ipynb is not there"
    cells = json.loads(notebook.content_string)["cells"]
    files.append(File.generated(config, "results.md", content="\n\n".join(map(as_markdown, cells)) + "\n"))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leave a block's language and title alone, and lead to the notebook's page: sources link to the notebook itself."""
    plain = re.sub(r"^( *```\w+) (?!title=).*$", r"\1", markdown, flags=re.MULTILINE)
    return plain.replace("(results.ipynb)", "(results.md)").replace("(../results.ipynb)", "(../results.md)")


def as_markdown(cell: dict[str, Any]) -> str:
    """One cell and its outputs; each output in the plainest form that shows it."""
    text = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return text
    parts = [f"```python\n{text}\n```"]
    for output in cell["outputs"]:
        data = output.get("data", {})
        if "image/png" in data:
            parts.append(f"![](data:image/png;base64,{''.join(data['image/png']).strip()})")
        elif printed := output.get("text", data.get("text/plain")):
            parts.append(f"```text\n{''.join(printed).rstrip()}\n```")
    return "\n\n".join(parts)
