"""The bundled pictures are those that the project's own code paints."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.bundled_pictures import __main__ as bundled
from nst.files import paths


def test_every_named_picture_has_its_stand_in() -> None:
    named = {
        path.stem: path.parent.name for kind in ("content", "style") for path in (paths.configs() / kind).glob("*.yaml")
    }
    assert named == bundled.PICTURES
    for name, kind in named.items():
        assert max(Image.open(paths.bundled(kind, name)).size) == 768


def test_painting_again_gives_the_bundled_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["paint", "scream", "--out", str(tmp_path)])
    bundled.main()
    again = np.asarray(Image.open(tmp_path / "style" / "scream.jpg"), dtype=float)
    shipped = np.asarray(Image.open(paths.bundled("style", "scream")), dtype=float)
    assert np.abs(again - shipped).mean() < 2
