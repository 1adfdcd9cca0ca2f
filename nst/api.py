"""Python interface for a single run: ``nst.stylize``."""

import csv
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from PIL import Image

from nst.config import hydra_edge
from nst.config.mistakes import check_groups
from nst.config.overrides import from_keywords, quoted, with_quoted_paths
from nst.errors import UserError, problem
from nst.files import paths
from nst.files.run_folder import RunFolder
from nst.image import given as in_memory
from nst.image.given import Given
from nst.plan.planning import Plan
from nst.run import host, single

#: A picture argument: an option's name, a file, or the picture itself.
Picture = str | Path | Given


@dataclass(frozen=True)
class Result:
    """The result of a run. A notebook displays it as its picture.

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
        """The content of ``summary.json``: the picture's losses, seconds, memory, versions and origin of inputs."""
        return RunFolder(self.folder).read_summary()

    def _repr_png_(self) -> bytes:
        return RunFolder(self.folder).result.read_bytes()


def stylize(
    content: Picture, style: Picture, overrides: Sequence[str] = (), *, preview: bool = False, **settings: object
) -> Result:
    """Paint the content in the style, like ``python -m nst.train content=… style=… OVERRIDES``.

    ``nst.stylize("tubingen", "painting.jpg", size=512, optimizer="adam", optimizer__lr=0.05).picture``

    The state of the process (random numbers, threads, logging, signals and so on) is afterwards as it was before. Calls
    from several threads are executed one after another.

    Args:
        content: the name of an option (``tubingen``), a file, or a picture in memory: a PIL image, an array (H, W, 3)
            of uint8 or of floats in [0, 1], an image tensor (1, 3, H, W) or (3, H, W) of the same values, or the bytes
            of a picture file, also as an open file. A picture in memory is saved in the run's folder: bytes as they
            are, the others as an 8-bit PNG.
        style: like ``content``.
        overrides: overrides as on the command line: ``["size=512", "+weights.style_layers.relu1_1=0.5"]``.
        preview: whether to show the picture in a notebook while it is optimized (``callbacks=notebook``).
        settings: groups and keys of the configuration, with a double underscore instead of each dot or slash:
            ``size=512, weights__style=1e5, layers__content=["relu4_2"], objective__style=["gram", "mean_std"]``.
            Overrides with ``+`` or ``~``, and interpolations, can only be given in ``overrides``.

    Raises:
        UserError: the arguments contain mistakes, or the memory is too small; raised before anything is written.
        DivergedError: the losses diverged and the run ended; its folder has the best picture.
        OSError: a disk is full, or can't be written.
        KeyboardInterrupt: the run was stopped; its folder has the best picture and everything needed to resume it.
    """
    if isinstance(overrides, str):
        raise UserError(problem("overrides", overrides, "this is a text; give a list of texts"))
    given = {"content": content, "style": style}
    words = [*(["callbacks=notebook"] if preview else []), *overrides]
    memory = {}
    for group, picture in given.items():
        if isinstance(picture, str | Path):
            words.append(_override(group, picture))
        else:
            memory[group] = picture
    with host.untouched():
        return Result(_run(words, from_keywords(settings), memory))


def _override(group: str, picture: str | Path) -> str:
    """Return the override that names a picture: the option with its name if there is one, otherwise its file."""
    if (paths.configs() / group / f"{picture}.yaml").is_file():
        return f"{group}={picture}"
    return f"{group}.path={quoted(paths.of_user(str(picture)).absolute())}"


def _run(words: list[str], keywords: list[str], memory: Mapping[str, Given]) -> Path:
    """Run the overrides, with pictures in memory that have no files yet; return the run's folder."""
    with tempfile.TemporaryDirectory(prefix="nst-") as scratch:
        files = {group: in_memory.save(picture, Path(scratch), key=group) for group, picture in memory.items()}

        def keep(plan: Plan, folder: RunFolder) -> Plan:
            """Move the temporary picture files into the run's folder."""
            for text in plan.files.warnings():
                warnings.warn(text, stacklevel=2)  # the log of a run in a script isn't on the console
            if files:
                folder.inputs.mkdir(exist_ok=True)
            return plan.moved(
                {group: Path(shutil.move(file, folder.inputs, shutil.copyfile)) for group, file in files.items()}
            )

        named = [f"{group}.path={quoted(file)}" for group, file in files.items()]
        others = with_quoted_paths([*words, *named], sweep=False)
        overrides = [*others, *keywords]
        arguments = hydra_edge.arguments([])
        arguments.overrides = overrides
        try:
            with single.explained(arguments):
                given = hydra_edge.parse(overrides)
                if any(override.key_or_group == "hydra.mode" for override in given):
                    raise UserError("hydra.mode: stylize makes a single run; leave this key out")
                _check_once(given[: len(others)], given[len(others) :])
                check_groups(given)
                return single.run(arguments, own_logging=False, settle=keep).path
        except SystemExit:  # raised by a run that received a signal
            raise KeyboardInterrupt from None


def _check_once(others: Sequence[Override], keywords: Sequence[Override]) -> None:
    """Raise UserError for keys that are given by a keyword and otherwise, too."""
    elsewhere = {override.key_or_group: override.input_line for override in others}
    lines = [
        f"{override.input_line}: this key is given twice, by a keyword and by {elsewhere[override.key_or_group]}"
        for override in keywords
        if override.key_or_group in elsewhere
    ]
    if lines:
        raise UserError(lines)
