"""The main job from Python: ``nst.stylize``."""

import argparse
import csv
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import yaml
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from PIL import Image
from torch import Tensor

from nst import image as images
from nst import job, output, paths
from nst.check import check_groups, checked, explain
from nst.errors import UserError, problem
from nst.run_folder import RunFolder
from nst.source import parse, quoted, source_of

T = TypeVar("T")

#: What a picture may be given as: an option's name, a file, or the picture itself.
Picture = str | Path | Image.Image | Tensor


@dataclass(frozen=True)
class Result:
    """What came of a run; a notebook shows it as its picture.

    Attributes:
        folder: the run's folder.
    """

    folder: Path

    @cached_property
    def picture(self) -> Image.Image:
        """The best picture that was evaluated, 8-bit sRGB."""
        with Image.open(RunFolder(self.folder).result) as opened:
            return opened.convert("RGB")

    @cached_property
    def losses(self) -> dict[str, list[float]]:
        """The columns of ``losses.csv``, a number for each evaluation."""
        with RunFolder(self.folder).losses.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        return {name: [float(row[place]) for row in rows] for place, name in enumerate(header)}

    @cached_property
    def summary(self) -> dict[str, Any]:
        """What ``summary.json`` says: the losses of the picture, seconds, memory, versions, and where all came from."""
        return RunFolder(self.folder).read_summary()

    def _repr_png_(self) -> bytes:
        return RunFolder(self.folder).result.read_bytes()


def stylize(content: Picture, style: Picture, overrides: Sequence[str] = (), *, preview: bool = False) -> Result:
    """Paints the content in the style, as ``python -m nst.train content=… style=… OVERRIDES`` does.

    ``nst.stylize("tubingen", "painting.jpg", ["size=512", "optimizer=adam"], preview=True).picture``

    Args:
        content: the name of an option (``tubingen``), a file, a PIL image, or an image tensor (1, 3, H, W) or (3, H, W)
            in [0, 1]. What is no file is kept beside the run, as PNG of 8 bits.
        style: the same.
        overrides: what the command line takes.
        preview: whether a notebook shows the picture on its way (``callbacks=notebook``).

    Raises:
        UserError: every mistake in the arguments, before anything is written; and too small a memory, which the run's
            folder tells, too.
        DivergedError: the losses did, and the run ended; its folder has the best picture.
        OSError: a disk is full, or can't be written.
        KeyboardInterrupt: the run was stopped; its folder has the best picture and what it takes to go on.
    """
    given = {"content": content, "style": style}
    words = [*(["callbacks=notebook"] if preview else []), *overrides]
    memory = {}
    for group, picture in given.items():
        if isinstance(picture, str | Path):
            words.append(_override(group, picture))
        else:
            memory[group] = picture
    return Result(_run(words, memory))


def _override(group: str, picture: str | Path) -> str:
    """What names a picture: the option where there is one of its name, else its file."""
    if (paths.configs() / group / f"{picture}.yaml").is_file():
        return f"{group}={picture}"
    return f"{group}.path={quoted(Path(picture).expanduser().absolute())}"


def _run(words: list[str], memory: Mapping[str, Image.Image | Tensor]) -> Path:
    """Checks, makes the folder, and lets Hydra run the job in it; returns the folder."""
    with tempfile.TemporaryDirectory(prefix="nst-") as scratch:
        found = {group: _save(group, image, Path(scratch)) for group, image in memory.items()}
        folder = _told([*words, *_paths(found)], checked)[1]
        inputs = RunFolder(folder).inputs
        for group, file in found.items():
            inputs.mkdir(exist_ok=True)
            found[group] = Path(shutil.move(file, inputs / file.name))
    try:
        _told([*words, *_paths(found), f"hydra.run.dir={quoted(folder)}"], _paint)
    except SystemExit:  # what a run makes of a signal
        raise KeyboardInterrupt from None
    return folder


def _paths(files: Mapping[str, Path]) -> list[str]:
    return [f"{group}.path={quoted(file)}" for group, file in files.items()]


def _save(group: str, image: Image.Image | Tensor, folder: Path) -> Path:
    """A picture that is no file, as one."""
    file = folder / f"{group}.png"
    if isinstance(image, Image.Image):
        try:
            images.upright_srgb(image).save(file)
        except Exception as error:  # what Pillow doesn't convert
            raise UserError(
                problem(group, f"PIL image of mode {image.mode}", f"can't be converted: {error}")
            ) from error
        return file
    batch = image.unsqueeze(0) if image.ndim == 3 else image
    if batch.ndim != 4 or batch.shape[:2] != (1, 3) or not batch.is_floating_point() or not batch.numel():
        why = "an image tensor is (1, 3, H, W) or (3, H, W), floats in [0, 1]"
        raise UserError(problem(group, f"tensor of shape {tuple(image.shape)}, {image.dtype}", why))
    output.save(batch.float(), file)
    return file


def _paint(arguments: argparse.Namespace) -> None:
    """The job as Hydra runs it, but for the logging, which is the caller's."""

    def task(cfg: DictConfig) -> float:
        with job.log_to(RunFolder(Path(HydraConfig.get().runtime.output_dir))):
            return job.paint(cfg)

    source = source_of(arguments)
    with source.initialized():
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        hydra.run(source.name, task, source.overrides, with_log_configuration=False)


def _told(overrides: list[str], action: Callable[[argparse.Namespace], T]) -> T:
    """What comes of an action on the overrides. Raises UserError for what Hydra complains of, in our words."""
    arguments = get_args_parser().parse_args([])
    arguments.overrides = overrides
    try:
        if any(override.key_or_group == "hydra.mode" for override in parse(overrides)):
            raise UserError("hydra.mode: this makes a single run; leave it out")
        check_groups(overrides)
        return action(arguments)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise UserError(explain(error, arguments)) from error
