"""The interface of a logger that gets more of a run than its losses."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image
from torch import Tensor

from nst.files.run_folder import RunFolder
from nst.image import to_bytes

Status = Literal["completed", "interrupted", "failed"]

#: The hyperparameters of a run by name.
Hyperparameters = Mapping[str, str | float]


@dataclass(frozen=True)
class Session:
    """A run, or the continuation of one, for which a logger is made.

    Attributes:
        folder: the run's folder.
        run: the run's name.
        logger: the logger's name, its key in ``logger``.
        sweep: the sweep's folder, relative to the working directory if it is below it; None for a single run.
        resumed: number of the evaluation after which the run goes on, 0 if it has no checkpoint; None for a new run.
    """

    folder: RunFolder
    run: str
    logger: str
    sweep: str | None
    resumed: int | None

    def known(self) -> dict[str, Any]:
        """Return what an earlier session of the run has kept for this logger."""
        found: dict[str, Any] = self.folder.read_summary().get("loggers", {}).get(self.logger, {})
        return found

    def keep(self, values: Mapping[str, Any]) -> None:
        """Keep values for later sessions of the run, in its summary."""
        others = self.folder.read_summary().get("loggers", {})
        self.folder.update_summary({"loggers": {**others, self.logger: dict(values)}})


class RunLogger(ABC):
    """A logger that also gets a run's pictures, configuration and results.

    A subclass also inherits from one of Lightning's loggers, and takes ``session`` besides that logger's arguments.
    Steps are evaluations.
    """

    @classmethod
    def problems(cls, key: str, arguments: Mapping[str, Any]) -> Iterator[str]:
        """Yield one line for each reason why a logger with these arguments can't work. Nothing is written yet."""
        yield from ()

    @abstractmethod
    def begin(self, hyperparameters: Hyperparameters, texts: Mapping[str, str]) -> None:
        """Begin to log, or go on. ``texts`` are YAML: the configuration, and the sources of pictures and weights."""

    @abstractmethod
    def picture(self, name: str, picture: Tensor, step: int) -> None:
        """Log an image tensor."""

    @abstractmethod
    def results(self, hyperparameters: Hyperparameters, values: Mapping[str, float], step: int) -> None:
        """Log the losses and the measures of the finished picture."""

    @abstractmethod
    def end(self, status: Status) -> None:
        """End the run, if it has begun."""

    @classmethod
    @abstractmethod
    def hint(cls, folder: RunFolder, known: Mapping[str, Any]) -> str:
        """Return how to look at the run. ``known`` is what its sessions have kept."""


def kind_of(make: functools.partial[Any]) -> type[RunLogger] | None:
    """Return the class of the logger that a partial makes; None if it isn't a RunLogger."""
    return make.func if isinstance(make.func, type) and issubclass(make.func, RunLogger) else None


def pillow(picture: Tensor) -> Image.Image:
    """Return an image tensor as an image of Pillow, with 8 bits per channel."""
    return Image.fromarray(to_bytes(picture).permute(1, 2, 0).numpy())
