"""Damaged, hostile and strange files: each is read, or refused in one message; nothing in it is executed."""

import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save, save_file

from nst import image
from nst.callbacks import checkpoint_io as checkpoint
from nst.compare.__main__ import main as compare
from nst.encoder import weights as encoder
from nst.errors import UserError
from nst.files.run_folder import LossTable, RunFolder
from nst.train import main
from tests.conftest import Command
from tests.run.test_run import summary

#: Files are made anew for each example, so that sharing the folder does no harm.
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
FORMATS = ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "TGA"]


def encoded(form: str, mode: str = "RGB", size: tuple[int, int] = (23, 17), **options: object) -> bytes:
    """A picture as the bytes of a file."""
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, form, **options)
    return file.getvalue()


def read_or_refused(path: Path) -> str | None:
    """None for a picture that was read; the message otherwise, which must be one line about the file."""
    try:
        tensor = image.load(path, key="content.path", max_pixels=1_000_000)
    except UserError as error:
        [line] = error.problems
        assert line.startswith(f"content.path={path}: ")
        assert "\n" not in line.replace(str(path), "")
        return line
    assert tensor.shape[:2] == (1, 3)
    assert float(tensor.min()) >= 0
    assert float(tensor.max()) <= 1
    return None


@pytest.mark.parametrize("form", FORMATS)
def test_a_picture_truncated_anywhere(tmp_path: Path, form: str) -> None:
    whole = encoded(form)
    path = tmp_path / "picture"
    path.write_bytes(whole)
    assert read_or_refused(path) is None
    refused = 0
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        refused += read_or_refused(path) is not None
    assert refused > 0.9 * len(whole)  # of some formats the last bytes say nothing of the picture


@FUZZ
@given(form=st.sampled_from(FORMATS), changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=20))
def test_a_picture_with_changed_bytes(tmp_path: Path, form: str, changes: list[tuple[float, int]]) -> None:
    damaged = bytearray(encoded(form))
    for place, value in changes:
        damaged[int(place * (len(damaged) - 1))] = value
    (tmp_path / "picture").write_bytes(damaged)
    read_or_refused(tmp_path / "picture")


@FUZZ
@given(start=st.sampled_from([b"", *(encoded(form)[:12] for form in FORMATS)]), rest=st.binary(max_size=300))
def test_anything_at_all_as_a_picture(tmp_path: Path, start: bytes, rest: bytes) -> None:
    (tmp_path / "picture").write_bytes(start + rest)
    read_or_refused(tmp_path / "picture")


def test_a_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    """A PNG of 60,000 × 60,000 px would be 10 GB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(1000))), chunk(b"IEND", b"")]
    )
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb)
    with pytest.raises(UserError, match="60000 x 60000 px are 3600000000 pixels, more than max_pixels=200000000"):
        image.read(path, key="content.path")
    Image.new("L", (14_000, 14_500)).save(path)  # more than Pillow's own limit, less than twice as many
    with pytest.raises(UserError, match="more than max_pixels=200000000; choose a smaller picture, or allow more"):
        image.read(path, key="content.path")
    assert image.read(path, key="content.path", max_pixels=203_000_000).size == (14_000, 14_500)
    assert Image.MAX_IMAGE_PIXELS is not None, "Pillow's limit holds for others again"


def test_the_limit_is_a_key(inside: Command, small: list[str], tmp_path: Path) -> None:
    refused = inside(*small, "max_pixels=1000", "hydra.run.dir=run")
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 2
    assert all("pixels, more than max_pixels=1000" in line for line in refused.stderr.splitlines())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (10_000, 1)])
def test_the_strangest_shapes_are_read(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "x.png").write_bytes(encoded("PNG", size=size))
    assert image.read(tmp_path / "x.png", key="content.path").size == size


@pytest.mark.parametrize("field", ["icc_profile", "exif"])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_huge_and_senseless_profiles_and_exif(tmp_path: Path, form: str, field: str) -> None:
    block = (b"Exif\0\0MM\0*" if field == "exif" else b"") + os.urandom(60_000 if form == "JPEG" else 3_000_000)
    try:
        (tmp_path / "x").write_bytes(encoded(form, **{field: block}))
    except Exception as error:  # Pillow itself does not write such a file
        pytest.skip(f"{form} with such {field}: {error}")
    read_or_refused(tmp_path / "x")


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken_and_that_is_said(
    inside: Command, small: list[str], tmp_path: Path, form: str
) -> None:
    frames = [Image.new("RGB", (40, 32), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    path = tmp_path / f"moving.{form.lower()}"
    frames[0].save(path, form, save_all=True, append_images=frames[1:])
    assert image.frames(path, key="style.path") == 3
    pixel = image.read(path, key="style.path").getpixel((5, 5))
    assert isinstance(pixel, tuple)
    assert np.abs(np.array(pixel) - (255, 0, 0)).max() < 8
    if form == "GIF":
        finished = inside(*small, f"style.path={path}", "evaluations=1", "hydra.run.dir=run")
        assert finished.returncode == 0, finished.stderr
        assert f"style.path={path}: this is an animation of 3 frames; nst uses the first one" in finished.stderr


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_a_damaged_animation_the_frames_are_counted_or_not(tmp_path: Path, form: str) -> None:
    """Whatever is read is also asked for its frames, for a warning: no more may come of it."""
    frames = [Image.fromarray(np.full((17, 23, 3), value, dtype=np.uint8)) for value in (0, 100, 200)]
    file = io.BytesIO()
    frames[0].save(file, form, save_all=True, append_images=frames[1:])
    whole, path = file.getvalue(), tmp_path / "animation"
    counted = set()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        if read_or_refused(path) is None:
            counted.add(image.frames(path, key="content.path"))
    assert counted <= {1, 2, 3}


def test_icons_are_refused_before_what_is_in_them_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "x.ico"
    Image.new("RGB", (64, 64)).save(path, "ICO")
    assert "not a picture in a supported format; formats: " in str(read_or_refused(path))


def test_documents_are_no_pictures(tmp_path: Path) -> None:
    """Pillow hands PostScript to Ghostscript, which executes it."""
    (tmp_path / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    line = read_or_refused(tmp_path / "x.png")
    assert line is not None
    assert "not a picture in a supported format; formats: AVIF, BMP" in line


def test_files_of_any_name(inside: Command, small: list[str], tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    given = {"content": "new\nline.png", "style": "$HOME's [1].png", "init": "ünïcödé 画 a=b,c.png"}
    named = []
    for group, name in given.items():
        shutil.copy(small[0].partition("=")[2], tmp_path / name)
        quoted = str(tmp_path / "pictures" / ".." / name).replace("'", "\\'")
        named.append(f"{group}.path='{quoted}'")
    finished = inside(*small, "init=image", *named, "evaluations=1", "hydra.run.dir='a run é'")
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "a run é" / "result.png").is_file()
    assert inside("resume='a run é'", "evaluations=2").returncode == 0
    assert compare([str(tmp_path / "a run é")]) == 0


def test_links_are_followed_and_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(encoded("PNG"))
    (tmp_path / "link.png").symlink_to("x.png")
    assert read_or_refused(tmp_path / "link.png") is None
    (tmp_path / "nowhere.png").symlink_to("gone.png")
    (tmp_path / "circle.png").symlink_to("circle.png")
    os.mkfifo(tmp_path / "fifo.png")  # who opens it waits for a writer
    for name, why in [
        ("nowhere.png", "there is no such file"),
        ("circle.png", "there is no such file"),
        ("fifo.png", "this is not a file"),
        (".", "this is a folder, not a file"),
    ]:
        assert why in str(read_or_refused(tmp_path / name))
        with pytest.raises(UserError, match=why):
            encoder.load_state(tmp_path / name, "slim")


def first_block() -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in encoder.random_state("slim", 0).items() if name.startswith("features.0.")}


def weights(form: str) -> bytes:
    """A small checkpoint as the bytes of a file."""
    if form == "safetensors":
        return save(first_block())
    file = io.BytesIO()
    torch.save(first_block(), file, _use_new_zipfile_serialization=form == "zip")
    return file.getvalue()


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_weights_truncated_anywhere_or_with_changed_bytes(tmp_path: Path, form: str) -> None:
    whole = weights(form)
    path = tmp_path / f"weights.{form}"
    path.write_bytes(whole)
    encoder.load_state(path, "slim")
    random = np.random.default_rng(0)
    damages = [whole[:length] for length in random.integers(0, len(whole), 150)]
    for _ in range(150):
        changed = bytearray(whole)
        for place in random.integers(0, len(whole), random.integers(1, 20)):
            changed[place] = random.integers(256)
        damages.append(bytes(changed))
    told: list[bool] = []
    for damaged in damages:
        path.write_bytes(damaged)
        try:
            encoder.load_state(path, "slim")
        except UserError as error:
            told += [len(error.problems) == 1 and str(error).startswith(f"encoder.weights={path}: ")]
    assert len(told) >= 149
    assert all(told)


class Witness:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("reader", ["weights", "checkpoint"])
@pytest.mark.parametrize("writer", ["pickle", "zip", "legacy"])
def test_nothing_is_executed(tmp_path: Path, reader: str, writer: str) -> None:
    content = {**first_block(), "state_dict": {}, "hostile": Witness(tmp_path / "trace")}
    path = tmp_path / "000005.ckpt"
    if writer == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=writer == "zip")
    with pytest.raises(UserError):
        encoder.load_state(path, "slim") if reader == "weights" else checkpoint.shape_in(path)
    assert not (tmp_path / "trace").exists()


def test_weights_without_values_or_with_strange_names(tmp_path: Path) -> None:
    for changes in (
        {"features.0.weight": torch.empty(64, 3, 3, 3, device="meta")},
        {"features.².weight": torch.ones(1)},
    ):
        state = encoder.random_state("vgg19", 0)
        torch.save({**state, **changes} if "features.0.weight" in changes else changes, tmp_path / "x.pth")
        with pytest.raises(UserError, match=r"encoder.weights="):
            encoder.load_state(tmp_path / "x.pth", "vgg19")


@pytest.mark.parametrize(
    "codes",
    [
        "words",
        None,
        torch.zeros((), dtype=torch.uint8).expand(10**6, 10**6),
        torch.zeros(64, 3, 3, 3, dtype=torch.uint8).to_sparse(),
        torch.zeros(64, 3, 3, 3),
    ],
)
def test_packed_weights_that_are_none(tmp_path: Path, codes: object) -> None:
    first = {"block1_conv1_W_q": codes, "block1_conv1_W_table": torch.zeros(256), "block1_conv1_b": torch.zeros(64)}
    torch.save(first, tmp_path / "packed.bin")
    with pytest.raises(UserError, match=r"encoder.weights=.*this checkpoint"):
        encoder.load_state(tmp_path / "packed.bin", "vgg19")


@pytest.mark.parametrize("value", [torch.nan, torch.inf, None])
def test_weights_that_are_no_numbers(tmp_path: Path, value: float | None) -> None:
    state = first_block()
    if value is None:
        state["features.0.bias"] = state["features.0.bias"].int()
    else:
        state["features.0.bias"][1] = value
    save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="bias has infinite or NaN values, or isn't of a floating-point type"):
        encoder.load_state(tmp_path / "x.safetensors", "slim")


#: Stands for a file of which a few bits are others.
FLIPPED = b"flipped"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, small: list[str]) -> Path:
    """A run that has ended, with two checkpoints."""
    folder = tmp_path_factory.mktemp("hostile")
    command = [sys.executable, "-m", "nst.train", *small, "hydra.run.dir=run", "callbacks.film=null", "logger=none"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "run"


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("config.yaml", b"", "its config.yaml has no assets, callbacks, color"),
        ("config.yaml", b"[1, 2]", "its config.yaml has no keys: it is damaged"),
        ("config.yaml", b"\xff\xfe{[(", "its config.yaml can't be read"),
        ("config.yaml", None, "its config.yaml "),
        ("summary.json", b"[]", "summary.json: this file is damaged: it contains no keys"),
        ("summary.json", None, "summary.json: this file is damaged"),
        ("checkpoints/000006.ckpt", b"", "this checkpoint can't be read ("),
        ("checkpoints/000006.ckpt", None, "remove it to resume from the previous one"),
        (
            "checkpoints/000006.ckpt",
            FLIPPED,
            "has changed since it was written); remove it to resume from the previous one",
        ),
    ],
)
def test_a_run_with_a_damaged_file_does_not_go_on(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    file: str,
    content: bytes | None,
    told: str,
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    damaged = tmp_path / "run" / file
    whole = damaged.read_bytes()
    middle = len(whole) // 2
    if content is None:
        content = whole[:middle]
    elif content is FLIPPED:
        content = whole[:middle] + bytes(byte ^ 1 for byte in whole[middle : middle + 8]) + whole[middle + 8 :]
    damaged.write_bytes(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["nst.train", "resume=run", "evaluations=8"])
    assert main() == 2
    [line] = capfd.readouterr().err.splitlines()
    assert told in line
    assert damaged.read_bytes() == content


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {"best_image": torch.zeros(1, 3, 26, 32)}}, tmp_path / "000006.ckpt")
    with pytest.raises(UserError, match=r"can't be read \(best, evaluation, optimizer_states, random_state"):
        checkpoint.shape_in(tmp_path / "000006.ckpt")


def test_a_damaged_table_of_losses_keeps_what_is_whole(tmp_path: Path) -> None:
    (tmp_path / "losses.csv").write_bytes(b"evaluation,total\n1,5.0\n\xff\xfe\nx\n2,4.0\n3")
    table = LossTable(tmp_path / "losses.csv", kept=2)
    table.flush()
    assert (tmp_path / "losses.csv").read_text() == "evaluation,total\n1,5.0\n2,4.0\n"
    for content in (b"", b"\0\0\0"):
        (tmp_path / "losses.csv").write_bytes(content)
        LossTable(tmp_path / "losses.csv", kept=2).flush()
        assert (tmp_path / "losses.csv").read_text() == ""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    ["status", "losses", "assets", "choices", "evaluations", "seconds", "best_evaluation", "width", "name", "versions"]
)


@settings(FUZZ, max_examples=25)
@given(
    changes=st.dictionaries(KEYS, JSON, max_size=4), config=st.binary(max_size=60) | JSON, table=st.text(max_size=80)
)
def test_any_run_folder_can_be_compared(
    finished: Path, tmp_path: Path, changes: dict[str, object], config: object, table: str
) -> None:
    shutil.rmtree(tmp_path / "runs", ignore_errors=True)
    shutil.copytree(finished, tmp_path / "runs" / "whole", ignore=shutil.ignore_patterns("checkpoints"))
    strange = RunFolder(tmp_path / "runs" / "strange")
    shutil.copytree(finished, strange.path, ignore=shutil.ignore_patterns("checkpoints"))
    strange.summary.write_text(json.dumps({**summary(finished), **changes}))
    strange.config.write_bytes(config if isinstance(config, bytes) else json.dumps(config).encode())
    strange.losses.write_text(f"evaluation,total,content,style\n{table}", encoding="utf-8", errors="replace")
    assert compare([str(tmp_path / "runs")]) == 0
    page = (tmp_path / "runs" / "compare" / "index.html").read_text(encoding="utf-8")
    assert page.count("<script") == page.count("</script")
