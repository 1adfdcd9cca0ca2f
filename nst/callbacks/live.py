"""The callback that serves a page on which a run can be watched and stopped."""

import logging
from typing import Any

import pytorch_lightning as pl

from nst.errors import of_disk
from nst.files.run_folder import RunFolder
from nst.live.server import LiveServer

log = logging.getLogger(__name__)


class Live(pl.Callback):
    """A callback that serves a page on loopback with the run's picture, losses and progress, and a button to stop it.

    A run whose port another program has can't be watched; it says so and goes on.

    Args:
        folder: folder of the run.
        port: port of the page; 0 for a free one.
    """

    def __init__(self, *, folder: RunFolder, port: int = 0) -> None:
        self.folder = folder
        self.port = port
        self.server: LiveServer | None = None

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        try:
            self.server = LiveServer(self.folder.path, self.port)
        except OSError as error:
            log.warning("The run can't be watched: callbacks.live.port=%d: %s", self.port, of_disk(error))
        else:
            log.info("The run can be watched at %s", self.server.address)

    def on_train_end(self, *args: Any) -> None:
        if self.server is not None:
            self.server.close()

    def on_exception(self, *args: Any) -> None:
        self.on_train_end()
