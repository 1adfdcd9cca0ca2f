"""What contributors and releases rely on: the files for GitHub, the version, and the names that pages give."""

import importlib.util
import pkgutil
import re
import subprocess
import sys
import tomllib

import pytest

from nst.files import paths

TOP = paths.PACKAGE.parent
pytestmark = pytest.mark.skipif(paths.checkout() is None, reason="not run from a checkout")


@pytest.mark.skipif(importlib.util.find_spec("check_jsonschema") is None, reason="check-jsonschema is not installed")
@pytest.mark.parametrize(
    ("schema", "pattern"),
    [
        ("vendor.github-workflows", ".github/workflows/*.yml"),
        ("vendor.github-issue-forms", ".github/ISSUE_TEMPLATE/[!c]*.yml"),
        ("vendor.github-issue-config", ".github/ISSUE_TEMPLATE/config.yml"),
        ("vendor.citation-file-format", "CITATION.cff"),
    ],
)
def test_files_for_github_have_their_schemas(schema: str, pattern: str) -> None:
    files = sorted(map(str, TOP.glob(pattern)))
    assert files
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *files]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_newest_changes_are_those_of_the_version() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    newest = re.search(r"^## (\S+)", (TOP / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == project["version"]


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md", "docs/install.md", "NOTICE.md"])
def test_what_a_page_names_is_there(page: str) -> None:
    """Files in code marks, the targets of ``make``, and links to files."""
    text = (TOP / page).read_text(encoding="utf-8")
    roots = (TOP, TOP / "nst", (TOP / page).parent)
    named = re.findall(r"`((?:[\w.-]+/)+[\w.-]*|\w+\.(?:py|md|txt))`", text)
    named = [
        name
        for name in named
        if not name.startswith(("options/", "dist/", "audit/", ".venv/")) and name not in ("mine.py", "utils.py")
    ]
    linked = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert not [name for name in (*named, *linked) if not any((root / name).exists() for root in roots)]
    makefile = (TOP / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"make (\w+)(?=[` ]*(?:$|`|#| {2}))", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_architecture_names_what_exists() -> None:
    text = (TOP / "docs" / "architecture.md").read_text(encoding="utf-8")
    packages = "|".join(path.name for path in paths.PACKAGE.iterdir() if path.is_dir())
    named = re.findall(rf"`(?:nst\.)?((?:{packages})\.[a-z]\w*[\w.]*)`", text)
    assert len(named) > 10
    for name in named:
        pkgutil.resolve_name(f"nst.{name}")
