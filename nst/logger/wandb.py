"""Weights & Biases: a folder in the run's folder that can be uploaded, or the server."""

import os
import shlex
import sys
import uuid
from collections.abc import Mapping
from typing import Any, Literal

import yaml
from pytorch_lightning.loggers import WandbLogger
from torch import Tensor

from nst.errors import UserError, problem
from nst.files.run_folder import RunFolder
from nst.logger.base import Hyperparameters, RunLogger, Session, Status, pillow


class WandB(RunLogger, WandbLogger):
    """Lightning's logger for Weights & Biases, which also gets a run's pictures, configuration and results.

    A continuation of a run goes on in the run of the same id; offline, it has a folder of its own beside the first. A
    run that the calling program has begun is used, and isn't finished.

    Args:
        session: the run.
        mode: ``offline`` writes to the run's folder only; ``online`` also uploads.
        group: the runs that belong together; None: those of a sweep.
        arguments: further arguments of Lightning's logger, or of ``wandb.init``.
    """

    def __init__(
        self, *, session: Session, mode: Literal["offline", "online"], group: str | None, **arguments: Any
    ) -> None:
        if mode == "offline":
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # which would ask a server even then
            os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        self.session, self.mode = session, mode
        self._begun, self._own = False, wandb.run is None
        super().__init__(
            name=session.run,
            id=session.known().get("id", uuid.uuid4().hex[:8]),
            save_dir=session.folder.path,  # to which it adds wandb/
            mode=mode,
            group=group or session.sweep,
            settings={"console": "off"},  # nothing takes the place of standard output
            **arguments,
        )

    @property
    def experiment(self) -> Any:
        """The run of W&B, begun when it is first asked for. W&B replaces hooks of the process, which are restored."""
        if self._begun:
            return super().experiment
        import wandb

        hooks = sys.exit, sys.excepthook
        try:
            run = super().experiment
        except wandb.Error as error:
            raise UserError(problem(f"logger.{self.session.logger}.mode", self.mode, str(error))) from error
        finally:
            sys.exit, sys.excepthook = hooks
        self._begun = True
        return run

    def begin(self, hyperparameters: Hyperparameters, texts: Mapping[str, str]) -> None:
        self.session.keep({"id": self.experiment.id})
        self.log_hyperparams({**hyperparameters, **{name: yaml.safe_load(text) for name, text in texts.items()}})

    def picture(self, name: str, picture: Tensor, step: int) -> None:
        self.log_image(name, [pillow(picture)], step=step)

    def results(self, hyperparameters: Hyperparameters, values: Mapping[str, float], step: int) -> None:
        self.experiment.summary.update(dict(values))

    def end(self, status: Status) -> None:
        if self._begun and self._own:
            self.experiment.finish(exit_code=0 if status == "completed" else 1)

    @classmethod
    def hint(cls, folder: RunFolder, known: Mapping[str, Any]) -> str:
        return f"To upload it: wandb sync {shlex.quote(str(folder.logs('wandb')))}/offline-run-*"
