"""The pages of ``docs/learn`` and ``docs/research``: their links, code, commands, numbers and notebook."""

import importlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from PIL import Image

from experiments.learn import features
from experiments.learn.paintings import FIGURES
from nst.compare.__main__ import main as compare
from nst.metrics.__main__ import main as measure
from nst.objective.functional import gram_per_element
from tests.conftest import NOWHERE, Command
from tests.helpers import pages
from tests.helpers.pages import TOP

DOCS = TOP / "docs"
PAGES = sorted(page for folder in ("learn", "research") for page in (DOCS / folder).glob("*.md"))
NOTEBOOK = DOCS / "learn" / "first_steps.ipynb"

#: What makes a page's run small.
TINY = [
    "encoder=slim", "encoder.weights=random", "size=32", "evaluations=6", "schedule=single", "threads=1", "seed=0",
    "trainer.accelerator=cpu", "logger=none", "callbacks.film=null", "metrics=null",
    *(f"{group}.url={NOWHERE}/{group}.bin" for group in ("content", "style")),
]  # fmt: skip


def blocks(page: Path, language: str) -> list[str]:
    name = page.relative_to(TOP).as_posix()
    return [block.text for block in pages.blocks(language) if block.page == name]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_and_code_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s#]+)", text):
        assert target.startswith("https://") or (page.parent / target).exists(), target
    for name in re.findall(r"^::: (\S+)$", text, re.MULTILINE):
        assert callable(found(name)), name


def found(name: str) -> object:
    """Return the function or class of a dotted name."""
    module, _, rest = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), rest)
    except ModuleNotFoundError:
        return getattr(found(module), rest)


def test_every_picture_is_shown_and_is_small() -> None:
    pictures = {path.name for path in (DOCS / "learn").iterdir() if path.suffix in (".jpg", ".svg")}
    assert pictures == {f"{name}.jpg" for name in (*FIGURES, "features", "gram")} | {"curves.svg"}
    shown = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for name in pictures:
        assert f"]({name})" in shown
        assert (DOCS / "learn" / name).stat().st_size < 300_000


def test_a_gram_matrix_forgets_places() -> None:
    values = torch.rand(1, 5, 6, 7, dtype=torch.float64)
    order = torch.randperm(42)
    moved = values.flatten(2)[..., order].view_as(values)
    assert torch.allclose(gram_per_element(moved), gram_per_element(values), rtol=1e-12)
    picture = torch.rand(1, 3, 64, 96)
    mixed = features.shuffle(picture)
    assert not torch.equal(mixed, picture)
    assert torch.equal(mixed.flatten().sort().values, picture.flatten().sort().values)


def test_the_page_has_the_distances_that_the_picture_shows() -> None:
    text = (DOCS / "learn" / "2-style.md").read_text(encoding="utf-8")
    _, [_, mixed, other] = features.shuffled()
    assert mixed is not None
    assert other is not None
    first, second = (re.findall(r"([\d.]+)%", str(tile.lines)) for tile in (mixed, other))
    assert f"costs {first[0]} % in `relu1_1`" in text
    assert f"and {first[1]} % in `relu4_1`" in text
    assert f"at {float(second[0]):.0f} % and {float(second[1]):.0f} %" in text


def commands(page: Path) -> Iterator[str]:
    """Yield the commands of a page, each in one line."""
    for block in blocks(page, "sh"):
        yield from block.replace("\\\n", " ").splitlines()


def scaled_down(words: list[str]) -> list[str]:
    """Return the words of a run with what makes it small, as far as the page doesn't need it as it is."""
    text = " ".join(words)
    small = [word for word in TINY if not (word == "schedule=single" and "schedule." in text)]
    if "experiment=my_study" in text:
        small += ["pair=mine/boat", "metrics=[slim]"]
    if "strotss" in text or "nnst" in text:
        small = [
            *(word for word in small if word != "schedule=single"),
            "size=48",
            "evaluations=9",
            "schedule.scales=2",
        ]
    if "schedule.sizes" in text:
        small += ["size=48", "schedule.sizes=[24,32]"]
    if "minimize.metric" in text:
        small += ["metrics=[slim]", "hydra.sweeper.n_trials=1", "size=32"]
    return [*words, *small]


def prepare(page: Path, folder: Path) -> None:
    """Write the files that a page shows, and the pictures that it names."""
    for text in blocks(page, "yaml"):
        name, _, rest = text.partition("\n")
        file = folder / name.removeprefix("# ")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(rest)
    named = re.findall(r"path: (\S+\.jpg)", page.read_text(encoding="utf-8"))
    for number, name in enumerate(named):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.radial_gradient("L").rotate(30 * number).resize((40, 32)).convert("RGB").save(folder / name)


@pytest.mark.soak  # takes a minute; tests/docs/test_docs_commands.py composes most of the commands each time
@pytest.mark.parametrize("page", [page for page in PAGES if any(commands(page))], ids=lambda page: page.stem)
def test_every_command_runs(inside: Command, tmp_path: Path, page: Path, capfd: pytest.CaptureFixture[str]) -> None:
    prepare(DOCS / "research" / "studies.md", tmp_path)
    if page.stem == "metrics":
        assert inside("-m", *TINY, "init=content,noise", "hydra.sweep.dir=outputs/my_study").returncode == 0
    for number, command in enumerate(commands(page)):
        printed = subprocess.check_output(["bash", "-c", f"printf '%s\\n' {command}"], cwd=tmp_path, text=True)
        match printed.splitlines():
            case ["python", "-m", "nst.train", *words]:
                into = "hydra.sweep.dir" if "-m" in words else "hydra.run.dir"
                own = [] if into in command else [f"{into}=run{number}"]
                finished = inside(*scaled_down(words), *own)
                assert finished.returncode == 0, finished.stderr
            case ["python", "-m", "nst.compare", *words]:
                assert compare(words) == 0
            case ["python", "-m", "nst.metrics", *words]:
                assert measure([*words, "--jobs", "1"]) == 0
            case ["python", "-m", "experiments.learn"]:  # paints for half an hour
                pass
            case _:
                subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
    capfd.readouterr()
    for program in blocks(page, "python"):  # reads the table that the commands have made
        exec(program, {})
        assert re.fullmatch(r"(seed|mean_std) +[\d.]+ over 1 runs\n" * 2, capfd.readouterr().out)


def test_the_notebook_runs(tmp_path: Path) -> None:
    """Scaled down by its cell that is tagged ``parameters``."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    [settings] = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    words = [word for word in TINY if word != "logger=none"]
    settings.source += f"\nSETTINGS = {words!r}"
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in shown)
    [sheet] = (tmp_path / "outputs").glob("*/compare/sheet.png")
    assert sheet.is_file()
