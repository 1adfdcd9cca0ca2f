"""What MkDocs does for the pages of *Learn*: notebooks become pages, and the source code stands open."""

from pathlib import Path

import nbconvert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each notebook, with the outputs that it holds. The notebook itself can be downloaded."""
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        page = Path(notebook.src_uri).with_suffix(".md")
        keys = {"unique_key": f"{page.stem}_files", "output_files_dir": f"{page.stem}_files"}
        assert notebook.abs_src_path is not None
        text, resources = nbconvert.MarkdownExporter().from_filename(notebook.abs_src_path, resources=keys)
        title, _, rest = text.lstrip().partition("\n")
        download = f"[Download this notebook]({Path(notebook.src_uri).name})"
        files.append(File.generated(config, page.as_posix(), content=f"{title}\n\n{download}\n{rest}"))
        for name, content in resources["outputs"].items():
            files.append(File.generated(config, (page.parent / name).as_posix(), content=content))
    return files


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Open the source code of what a page of *Learn* explains."""
    if not page.file.src_uri.startswith("learn/"):
        return content
    return content.replace('<details class="mkdocstrings-source">', '<details class="mkdocstrings-source" open>')
