"""TensorBoard: event files in the run's folder."""

import shlex
import textwrap
from collections.abc import Mapping
from typing import Any

from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from nst.files.run_folder import RunFolder
from nst.image import to_bytes
from nst.logger.base import Hyperparameters, RunLogger, Session, Status

#: Layout of TensorBoard's page of custom scalars: charts of several curves, given as regular expressions of tags.
LAYOUT = {
    "losses": {
        "total, weighted": ["Multiline", ["loss/total"]],
        "content, unweighted": ["Multiline", ["loss/content"]],
        "style, unweighted": ["Multiline", ["loss/style"]],
    },
    "shares of the total": {
        "content layers": ["Multiline", ["share/content/.*"]],
        "style layers": ["Multiline", ["share/style/.*"]],
    },
}


class TensorBoard(RunLogger, TensorBoardLogger):
    """Lightning's TensorBoard logger, which also gets a run's pictures, configuration and results.

    Args:
        session: the run.
        arguments: further arguments of Lightning's logger.
    """

    def __init__(self, *, session: Session, **arguments: Any) -> None:
        if session.resumed is not None:
            # Purge the steps that an interrupted run logged after its checkpoint, because they are computed again.
            arguments["purge_step"] = session.resumed + 1 if session.resumed else 0
        super().__init__(session.folder.events(session.run), **arguments)
        self.session = session

    def begin(self, hyperparameters: Hyperparameters, texts: Mapping[str, str]) -> None:
        if self.session.resumed:
            return
        self.experiment.add_custom_scalars(LAYOUT)
        for name, text in texts.items():  # four spaces make any text a code block in Markdown
            self.experiment.add_text(name, textwrap.indent(text, "    "), 0)

    def picture(self, name: str, picture: Tensor, step: int) -> None:
        self.experiment.add_image(name, to_bytes(picture), step)

    def results(self, hyperparameters: Hyperparameters, values: Mapping[str, float], step: int) -> None:
        """Log the hyperparameters as well.

        TensorBoard shows the results that it is told of first, so they are written once, when all of them are known.
        """
        self.log_hyperparams(dict(hyperparameters), dict(values), step=step)
        self.finalize("success")

    def end(self, status: Status) -> None:
        """Do nothing: Lightning has closed the event file."""

    @classmethod
    def hint(cls, folder: RunFolder, known: Mapping[str, Any]) -> str:
        return f"To see its curves: {shlex.join(['tensorboard', '--logdir', str(folder.path)])}"
