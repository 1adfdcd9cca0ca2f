"""What MkDocs does beside rendering ``docs/``: generated pages, included files, links out of ``docs/``, mathematics."""

import html
import posixpath
import re
from pathlib import Path
from typing import Any

import latex2mathml.converter
import reference
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

TOP = Path(__file__).parents[2]

#: Files of the project that are pages or pictures of the site, at the same paths.
INCLUDED = (
    "README.md", "CHANGELOG.md", "CITATION.cff", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "LICENSE", "NOTICE.md",
    "experiments/README.md", "experiments/*/README.md",
    "experiments/**/*.jpg", "experiments/**/*.png", "experiments/**/*.yaml", "nst/assets/content/*.jpg",
    "nst/assets/style/*.jpg",
)  # fmt: skip

_LINK = re.compile(r"(\]\()([^)\s#:]+)([^)]*\))")
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages and the included files, and complete the navigation."""
    for path, content in reference.pages():
        files.append(File.generated(config, path, content=content))
    for pattern in INCLUDED:
        for file in sorted(TOP.glob(pattern)):
            files.append(File.generated(config, file.relative_to(TOP).as_posix(), abs_src_path=str(file)))
    config.nav = _expanded(config.nav, [file.src_uri for file in files.documentation_pages()])
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links out of ``docs/`` lead to pages of the site, those to a folder of ``configs/`` to the reference."""
    here = page.file.src_uri
    if page.is_homepage:
        page.meta["hide"] = ["navigation"]
    generated = here.startswith(reference.FOLDER)
    inside = "" if page.file.generated_by and not generated else "docs/"

    def moved(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(inside + here), found[2]))
        if group := re.fullmatch(r"configs(?:/(\w+))?", target):  # the folder whose YAML files the reference explains
            target = f"docs/{reference.FOLDER}/{group[1] or 'index'}.md"
        elif target.startswith("docs/") == bool(inside):
            return found[0]
        return found[1] + posixpath.relpath(target.removeprefix("docs/"), posixpath.dirname(here) or ".") + found[3]

    return _LINK.sub(moved, markdown)


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Write formulas as MathML, which browsers show without a script."""
    return _FORMULA.sub(_formula, content)


def _formula(found: re.Match[str]) -> str:
    display = "block" if found[1] == "div" else "inline"
    return latex2mathml.converter.convert(html.unescape(found[2]).strip(), display=display)


def _expanded(nav: Any, pages: list[str]) -> Any:
    """Replace each folder in the navigation, such as ``learn/``, by its pages, the index first; none if it has none."""
    if isinstance(nav, dict):
        sections = {title: _expanded(each, pages) for title, each in nav.items()}
        return {title: each for title, each in sections.items() if each}
    if not isinstance(nav, list):
        return nav
    found = []
    for each in nav:
        if isinstance(each, str) and each.endswith("/"):
            mine = [page for page in pages if page.startswith(each)]
            found += sorted(mine, key=lambda page: (Path(page).stem not in ("index", "README"), page))
        else:
            found.append(_expanded(each, pages))
    return [each for each in found if each]
