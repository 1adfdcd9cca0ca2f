"""What docs/extending.md shows works as it stands there."""

import json
import shlex
import sys
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.helpers import pages


def blocks(language: str) -> list[str]:
    return [block.text for block in pages.blocks(language) if block.page == "docs/extending.md"]


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's module and its options, in a folder that is not the project's."""
    (tmp_path / "mine.py").write_text("\n\n".join(blocks("python")))
    for text in blocks("yaml"):
        name, _, rest = text.partition("\n")
        file = tmp_path / name.removeprefix("# ")
        file.parent.mkdir(parents=True)
        file.write_text(rest)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("mine", None)
    return tmp_path / "options"


def test_each_example_is_short() -> None:
    assert len(blocks("python")) == len(blocks("yaml")) == 3
    for text in blocks("python"):
        assert len(text.splitlines()) <= 30


#: What each of the page's commands picks.
PICKED = [shlex.split(line.split("options ")[1]) for line in blocks("sh")[0].splitlines()]


@pytest.mark.parametrize("words", PICKED, ids=lambda words: words[0])
def test_an_example_paints_and_goes_on(inside: Command, small: list[str], options: Path, words: list[str]) -> None:
    own = [word for word in small if not (words[0].startswith("encoder=") and word.startswith("encoder"))]
    run = options.parent / "run"
    finished = inside("--config-dir", str(options), *own, *words, "precision=32", f"hydra.run.dir={run}")
    assert finished.returncode == 0, finished.stderr
    rows = (run / "losses.csv").read_text().splitlines()
    assert json.loads((run / "summary.json").read_text())["losses"]["total"] < float(rows[1].split(",")[1])
    again = inside(f"resume={run}", "evaluations=9")
    assert again.returncode == 0, again.stderr
    assert len((run / "losses.csv").read_text().splitlines()) == 10


def test_the_weight_of_a_term_of_ones_own_is_checked(inside: Command, small: list[str], options: Path) -> None:
    for weight in ("-1", "abc"):
        words = ["objective/style=[channel_means]", f"objective.style.channel_means.weight={weight}"]
        finished = inside("--config-dir", str(options), *small, *words)
        assert finished.returncode == 2
        why = f"objective.style.channel_means.weight={weight}: must be a number of at least 0"
        assert finished.stderr.splitlines() == [f"error: {why}"]


@pytest.mark.parametrize("chosen", ["[channel_means]", "channel_means", "[gram,channel_means]"])
def test_a_term_of_ones_own_needs_its_name(inside: Command, small: list[str], options: Path, chosen: str) -> None:
    """With or without brackets: a list of one option is that option."""
    file = options / "objective" / "style" / "channel_means.yaml"
    words = ["--config-dir", str(options), *small, f"objective/style={chosen}", "--cfg", "job"]
    assert "mine.ChannelMeans" in inside(*words).stdout
    file.write_text(file.read_text().replace("# @package objective.style.channel_means\n", ""))
    finished = inside(*words[:-2])
    assert finished.stderr == (
        "error: objective.style._target_=mine.ChannelMeans: this option has no name; begin its file with: "
        f"# @package objective.style.NAME (set by {file})\n"
    )


def test_a_folder_is_no_weights_of_an_encoder_of_ones_own(inside: Command, small: list[str], options: Path) -> None:
    own = [word for word in small if not word.startswith("encoder")]
    words = ["encoder=tiny", "layers.content=[second]", "layers.style=[first]", f"encoder.weights={options}"]
    finished = inside("--config-dir", str(options), *own, *words)
    assert (finished.returncode, finished.stderr) == (
        2,
        f"error: encoder.weights={options}: this is a folder, not a file\n",
    )


def test_a_term_of_ones_own_counts_in_regions_and_tiles(inside: Command, small: list[str], options: Path) -> None:
    from PIL import Image

    mask = options.parent / "mask.png"
    Image.new("L", (40, 32), 0).save(mask)
    with Image.open(mask) as black:
        black.paste(255, (0, 0, 20, 32))
        black.save(mask)
    losses = []
    for tile in ("off", "16"):
        run = options.parent / f"tile{tile}"
        words = ["objective/style=[channel_means]", f"style.region={mask}", "precision=32", f"tile={tile}", "size=64"]
        finished = inside("--config-dir", str(options), *small, *words, f"hydra.run.dir={run}")
        assert finished.returncode == 0, finished.stderr
        losses.append(float((run / "losses.csv").read_text().splitlines()[1].split(",")[3]))
    assert losses[0] > 0
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
