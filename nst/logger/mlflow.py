"""MLflow: a database in a folder that many runs share, or a server."""

import logging
import os
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from pytorch_lightning.loggers import MLFlowLogger
from torch import Tensor

from nst.errors import problem
from nst.files import paths
from nst.files.lock import locked
from nst.files.run_folder import RunFolder
from nst.logger.base import Hyperparameters, RunLogger, Session, Status, pillow

#: MLflow's variable for the address of a server or a database.
ADDRESS = "MLFLOW_TRACKING_URI"

#: Seconds between two writings of values, and the number of values that MLflow takes at once.
INTERVAL, AT_ONCE = 5.0, 1000

#: MLflow's names of the ways in which a run ends.
STATUSES = {"completed": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


class MLflow(RunLogger, MLFlowLogger):
    """Lightning's MLflow logger, which also gets a run's pictures, configuration and results.

    A continuation of a run goes on in the same run of MLflow. Values are written every few seconds and with each
    checkpoint, because writing them one by one can take longer than an evaluation.

    Args:
        session: the run.
        tracking_uri: the address of a server or a database. None: what MLFLOW_TRACKING_URI says, otherwise a database
            in ``save_dir``.
        save_dir: folder of the database and the artifacts, if no address is given.
        arguments: further arguments of Lightning's logger.
    """

    def __init__(self, *, session: Session, tracking_uri: str | None, save_dir: str, **arguments: Any) -> None:
        known = session.known()
        self.session = session
        self.address = tracking_uri or os.environ.get(ADDRESS) or known.get("tracking_uri")
        self.folder = None
        if self.address is None or "save_dir" in known:
            self.folder = Path(known.get("save_dir", paths.of_user(save_dir).absolute()))
            self.folder.mkdir(parents=True, exist_ok=True)
            self.address = _database(self.folder)
            arguments["artifact_location"] = (self.folder / "artifacts").as_uri()
        tags = {"folder": str(session.folder.path), **({} if session.sweep is None else {"sweep": session.sweep})}
        self._begun = self._lost = False
        self._values: list[Any] = []
        self._written = time.monotonic()
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # which would ask a server of MLflow's
        import mlflow  # noqa: F401  # sets the level of its logger

        for name in ("mlflow", "alembic", "pytorch_lightning.loggers.mlflow"):  # they tell how a database is made
            logging.getLogger(name).setLevel(logging.ERROR)
        with self._reached():
            super().__init__(
                run_name=session.run, tracking_uri=self.address, run_id=known.get("run_id"), tags=tags, **arguments
            )

    @classmethod
    def problems(cls, key: str, arguments: Mapping[str, Any]) -> Iterator[str]:
        address = arguments["tracking_uri"] or os.environ.get(ADDRESS) or ""
        if address.startswith(("http://", "https://")):
            try:
                requests.get(address, timeout=10)
            except requests.RequestException as error:
                why = f"this server can't be reached ({type(error).__name__}); start it, or choose another"
                yield problem(f"{key}.tracking_uri", _without_password(address), why)

    @property
    def experiment(self) -> Any:
        """MLflow's client, once the experiment and the run are made or found. MLflow's variable stays as it was."""
        if self._begun:
            return super().experiment
        before = os.environ.get(ADDRESS)  # which Lightning sets
        try:
            with ExitStack() as stack:
                stack.enter_context(self._reached())
                if self.folder is not None:  # or two runs would make the same experiment
                    stack.enter_context(locked(self.folder / ".lock"))
                client = super().experiment
        finally:
            os.environ.pop(ADDRESS, None)
            if before is not None:
                os.environ[ADDRESS] = before
        self._begun = True
        return client

    def begin(self, hyperparameters: Hyperparameters, texts: Mapping[str, str]) -> None:
        """Open the run. MLflow can't change a parameter, so one that an earlier session has logged stays."""
        with self._reached():
            client = self.experiment
            address = {"tracking_uri": _without_password(str(self.address))}
            place = address if self.folder is None else {"save_dir": str(self.folder)}
            self.session.keep({"run_id": self.run_id, **place})
            client.update_run(self.run_id, status="RUNNING")
            there = client.get_run(self.run_id).data.params
            self.log_hyperparams({key: value for key, value in hyperparameters.items() if key not in there})
            for name, text in texts.items():
                client.log_text(self.run_id, text, f"{name}.yaml")

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log values, which are written with the next ones."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._values += [
            Metric(key=name, value=value, timestamp=now, step=step or 0) for name, value in metrics.items()
        ]
        if time.monotonic() - self._written >= INTERVAL:
            self.save()

    def save(self) -> None:
        """Write the values that wait."""
        if not self._begun:
            return
        with self._reached():
            while self._values:
                self.experiment.log_batch(run_id=self.run_id, metrics=self._values[:AT_ONCE])
                del self._values[:AT_ONCE]
        self._written = time.monotonic()

    def picture(self, name: str, picture: Tensor, step: int) -> None:
        """Log a picture: one of the start as a file, one of the way with its step."""
        where = {"key": name, "step": step} if step else {"artifact_file": f"{name}.png"}
        with self._reached():
            self.experiment.log_image(self.run_id, pillow(picture), **where)

    def results(self, hyperparameters: Hyperparameters, values: Mapping[str, float], step: int) -> None:
        self.log_metrics(values, step)

    def finalize(self, status: str = "success") -> None:
        """Write the values that wait. The run doesn't end with the optimization, as its picture is measured then."""
        if not self._lost:
            self.save()

    def end(self, status: Status) -> None:
        if self._begun and not self._lost:
            self.save()
            with self._reached():
                self.experiment.set_terminated(self.run_id, STATUSES[status])

    @classmethod
    def hint(cls, folder: RunFolder, known: Mapping[str, Any]) -> str:
        if "save_dir" not in known:
            return f"To see its curves: MLflow at {known['tracking_uri']}, run {known['run_id']}"
        command = ["pipx", "run", "mlflow", "ui", "--backend-store-uri", _database(Path(known["save_dir"]))]
        return f"To see its curves: {shlex.join(command)}"

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Raise ConnectionError, which ends the run, if MLflow can't be reached. Nothing more is logged then."""
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            self._lost = True
            text = f"MLflow at {_without_password(str(self.address))}: {str(error).splitlines()[0]}"
            raise ConnectionError(text) from error


def _database(folder: Path) -> str:
    """Return the address of the database in a folder."""
    return f"sqlite:///{(folder / 'mlflow.db').as_posix()}"


def _without_password(address: str) -> str:
    """Return an address without the user's name and password."""
    host = urlsplit(address).netloc
    return address.replace(host, host.rpartition("@")[2], 1) if "@" in host else address
