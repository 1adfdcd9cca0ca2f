"""The film of a run: its frames, its holds, its formats, and that it outlives an interruption."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from nst.image import film
from tests.conftest import Command
from tests.run.test_run import begin


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def gray(number: int, folder: Path, side: tuple[int, int] = (33, 21)) -> Path:
    path = folder / f"{number:06d}.png"
    Image.new("RGB", side, (number, number, number)).save(path)
    return path


def test_frames_are_dense_at_first_and_include_both_ends() -> None:
    shown = sorted(film.schedule(600, 60))
    assert shown[:4] == [1, 2, 3, 4]
    assert shown[-1] == 600
    assert 55 <= len(shown) <= 60
    gaps = np.diff(shown)
    assert (gaps[1:] >= gaps[:-1] - 1).all()
    assert film.schedule(1, 60) == {1}
    assert film.schedule(5, 60) == {1, 2, 3, 5}


@pytest.mark.parametrize("format", ["mp4", "gif"])
def test_a_film_shows_its_pictures_in_order_and_holds_both_ends(tmp_path: Path, format: film.Format) -> None:  # noqa: A002
    values = [10, 90, 170, 250]
    pictures = [gray(value, tmp_path) for value in values]
    film.write(pictures, tmp_path / f"film.{format}", fps=10, hold=0.3, format=format)
    frames = decoded(tmp_path / f"film.{format}")
    means = [frame.mean() for frame in frames]
    assert means == pytest.approx([10] * 3 + values + [250] * 3, abs=4)
    even = format == "mp4"
    assert frames[0].shape == ((20, 32, 3) if even else (21, 33, 3))


def test_a_film_of_pictures_of_several_sizes_has_that_of_the_last(tmp_path: Path) -> None:
    pictures = [gray(value, tmp_path, side=side) for value, side in [(40, (17, 11)), (120, (24, 15)), (200, (33, 21))]]
    film.write(pictures, tmp_path / "film.gif", fps=10, hold=0, format="gif")
    frames = decoded(tmp_path / "film.gif")
    assert [frame.shape for frame in frames] == [(21, 33, 3)] * 3
    assert [frame.mean() for frame in frames] == pytest.approx([40, 120, 200], abs=4)


def test_a_run_leaves_a_film_and_not_its_frames(inside: Command, small: list[str], tmp_path: Path) -> None:
    finished = inside(*small, "evaluations=20", "callbacks.film.fps=10", "hydra.run.dir=run")
    assert finished.returncode == 0, finished.stderr
    frames = decoded(tmp_path / "run" / "progress.mp4")
    assert len(frames) == len(film.schedule(20, 60)) + 2 * 5
    result = np.asarray(Image.open(tmp_path / "run" / "result.png"))
    first, last = (np.abs(frame.mean(2) - result.mean(2)).mean() for frame in (frames[0], frames[-1]))
    assert last < min(6, first / 3), "the film ends with the result, but for the compression"
    assert not (tmp_path / "run" / "frames").exists()


def test_an_interrupted_run_keeps_its_frames_for_the_film(inside: Command, small: list[str], tmp_path: Path) -> None:
    process = begin(small, tmp_path, checkpoints=2)
    process.terminate()
    process.communicate(timeout=120)
    before = {path.name for path in (tmp_path / "run" / "frames").iterdir()}
    assert "000001.png" in before
    assert not (tmp_path / "run" / "progress.mp4").exists()
    done = max(int(path.stem) for path in tmp_path.glob("run/checkpoints/[0-9]*.ckpt"))
    assert inside("resume=run", f"evaluations={done + 5}", "callbacks.film.hold=0").returncode == 0
    assert len(decoded(tmp_path / "run" / "progress.mp4")) >= len(before)


def test_a_film_that_can_not_be_written_costs_no_checkpoint(inside: Command, small: list[str], tmp_path: Path) -> None:
    in_the_way = tmp_path / "run" / "progress.mp4"
    in_the_way.mkdir(parents=True)
    finished = inside(*small, "hydra.run.dir=run")
    assert finished.returncode == 1
    assert "progress.mp4: Is a directory" in finished.stderr
    assert (tmp_path / "run" / "checkpoints" / "000006.ckpt").is_file()
    in_the_way.rmdir()
    again = inside("resume=run")
    assert again.returncode == 0, again.stderr
    assert "The run is complete after 6 evaluations" in again.stderr
    assert in_the_way.is_file()
