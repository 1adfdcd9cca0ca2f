"""Loggers that get more of a run than its losses: pictures, the configuration, and the results.

``base`` says what such a logger gets. ``tensorboard``, ``mlflow`` and ``wandb`` are Lightning's loggers of these names,
extended by it. Any other logger of Lightning gets the losses.
"""

from nst.logger.base import RunLogger, Session, Status, kind_of
from nst.logger.mlflow import MLflow
from nst.logger.tensorboard import TensorBoard
from nst.logger.wandb import WandB

__all__ = ["MLflow", "RunLogger", "Session", "Status", "TensorBoard", "WandB", "kind_of"]
