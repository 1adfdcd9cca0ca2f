"""MLflow's runs and those of Weights & Biases, read back: of a sweep with two points, each of which goes on once."""

import importlib.util
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from nst.config.keys import with_named_loggers
from nst.files.run_folder import RunFolder
from tests.conftest import Command, free_port
from tests.helpers.wandb_file import records

BOTH = "logger=[mlflow,wandb]"
LOSSES = {"loss/total", "loss/content", "loss/style", "optimizer/gradient_norm", "share/style/relu1_1"}


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """No address of a server, whatever the environment of the tests says."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for MLflow's database, which takes seconds to make. Its name has characters that addresses quote."""
    return tmp_path_factory.mktemp("own place#1")


def kept(folder: Path) -> dict[str, Any]:
    """What a run's summary has kept for its loggers."""
    found: dict[str, Any] = RunFolder(folder).read_summary()["loggers"]
    return found


def values(items: Iterable[Any]) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def offline(session: Path) -> dict[str, Any]:
    """What a session of W&B has written: values by step, its configuration, its summary and how it ended."""
    found: dict[str, Any] = {"steps": {}, "summary": {}, "config": {}}
    for kind, record in records(next(session.glob("*.wandb"))):
        if kind == "history":
            row = values(record.item)
            found["steps"].setdefault(row["trainer/global_step"], {}).update(row)
        elif kind in ("summary", "config"):
            found[kind].update(values(record.update))
        elif kind == "run":
            found["run"] = record
        elif kind == "exit":
            found["exit"] = record.exit_code
    return found


def test_a_sweep_is_read_back(inside: Command, small: list[str], place: Path) -> None:
    """One run for each point, with all that TensorBoard gets; one that goes on is the same run."""
    from mlflow.tracking import MlflowClient

    words = [
        *small,
        BOTH,
        f"logger.mlflow.save_dir='{place}'",
        "metrics=[slim]",
        "callbacks.snapshot.every_evaluations=3",
        "callbacks.film=null",
    ]
    finished = inside("-m", *words, "weights.style=1e4,1e5", "hydra.sweep.dir=sweep")
    assert finished.returncode == 0, finished.stderr
    client = MlflowClient(f"sqlite:///{place}/mlflow.db")
    experiment = client.get_experiment_by_name("nst")
    assert experiment is not None
    runs = {run.data.params["weights.style"]: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"10000.0", "100000.0"}
    for weight, run in runs.items():
        folder = Path(run.data.tags["folder"])
        assert kept(folder)["mlflow"]["run_id"] == run.info.run_id
        assert (run.info.status, run.data.tags["sweep"]) == ("FINISHED", "sweep")
        losses = RunFolder(folder).read_summary()["losses"]
        assert run.data.metrics["summary/total"] == pytest.approx(losses["total"])
        [named] = [name for name in RunFolder(folder).read_metrics() if name.startswith("slim")]
        assert set(run.data.metrics) >= {*LOSSES, f"{named}/gram"}
        steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "loss/total")]
        assert steps == [1, 2, 3, 4, 5, 6]
        files = {
            file.path for place in ("", "input", "images") for file in client.list_artifacts(run.info.run_id, place)
        }
        assert files >= {"configuration.yaml", "assets.yaml", "input/content.png", "input/style.png"}
        assert {step for step in (3, 6) if any(f"step+{step}+" in name or f"step%{step}%" in name for name in files)}
        [session] = (folder / "wandb").glob("offline-run-*")
        told = offline(session)
        assert (told["run"].run_group, told["run"].project, told["exit"]) == ("sweep", "nst", 0)
        assert set(told["steps"]) == {0, 1, 2, 3, 4, 5, 6}
        assert told["steps"][3]["picture._type"] == "images/separated"
        assert set(told["steps"][6]) >= LOSSES
        assert told["summary"]["summary/total"] == pytest.approx(losses["total"])
        assert told["config"]["configuration"]["weights"]["style"] == float(weight)
        assert (session / "files" / told["steps"][3]["picture.filenames"][0]).is_file()
    goes_on(inside, client, runs["10000.0"])


def goes_on(inside: Command, client: Any, run: Any) -> None:
    folder = Path(run.data.tags["folder"])
    finished = inside(f"resume={folder}", "evaluations=8", "metrics=null")
    assert finished.returncode == 0, finished.stderr
    again = client.get_run(run.info.run_id)
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "loss/total")]
    assert (again.info.status, steps) == ("FINISHED", [1, 2, 3, 4, 5, 6, 7, 8])
    sessions = [offline(session) for session in sorted((folder / "wandb").glob("offline-run-*"))]
    assert [told["run"].run_id for told in sessions] == [kept(folder)["wandb"]["id"]] * 2
    assert [sorted(told["steps"]) for told in sessions] == [[0, 1, 2, 3, 4, 5, 6], [7, 8]]


def test_a_run_that_fails_ends_there_too(inside: Command, small: list[str], tmp_path: Path, place: Path) -> None:
    from mlflow.tracking import MlflowClient

    words = ["optimizer=adam", "optimizer.lr=1e30", "recovery.at_most=0", "weights.style=1e30"]
    finished = inside(*small, BOTH, *words, "hydra.run.dir=run", f"logger.mlflow.save_dir='{place}'")
    assert finished.returncode == 1, finished.stderr
    run = MlflowClient(f"sqlite:///{place}/mlflow.db").get_run(kept(tmp_path / "run")["mlflow"]["run_id"])
    assert run.info.run_name == "content-style-slim-random-size32-adam-lr1e30-style1e30"
    assert run.info.status == "FAILED"
    [session] = (tmp_path / "run" / "wandb").glob("offline-run-*")
    assert offline(session)["exit"] == 1


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_missing_extra_is_told(
    inside: Command, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("nst.config.node_schema.find_spec", lambda module: None if module == name else found(module))
    finished = inside(*small, f"logger=[csv,{name}]", "hydra.run.dir=run")
    assert finished.returncode == 2
    assert finished.stderr == f"error: logger.{name}: needs an extra: pip install 'nst[{name}]'\n"
    assert not (tmp_path / "run").exists()


def test_a_server_that_is_not_there_is_told(inside: Command, small: list[str], tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    finished = inside(*small, "logger=mlflow", f"logger.mlflow.tracking_uri={address}", "hydra.run.dir=run")
    assert finished.returncode == 2
    assert f"error: logger.mlflow.tracking_uri={address}: this server can't be reached" in finished.stderr
    assert not list(tmp_path.iterdir())


def test_a_run_from_before_loggers_had_names_goes_on(inside: Command, small: list[str], tmp_path: Path) -> None:
    assert inside(*small, "hydra.run.dir=run").returncode == 0
    folder = RunFolder(tmp_path / "run")
    config = yaml.safe_load(folder.config.read_text())
    old = {**config["logger"]["tensorboard"], "_target_": "pytorch_lightning.loggers.TensorBoardLogger"}
    folder.config.write_text(yaml.safe_dump({**config, "logger": old}))
    finished = inside("resume=run", "evaluations=8")
    assert finished.returncode == 0, finished.stderr
    assert len({path.parent for path in folder.path.rglob("events.*")}) == 1
    assert yaml.safe_load(folder.config.read_text())["logger"] == config["logger"]


@pytest.mark.parametrize(("target", "name"), [("a.CSVLogger", "csv"), ("a.DiaryLogger", "diary"), ("a.Logger", "logs")])
def test_an_older_configuration_names_its_logger_after_its_class(target: str, name: str) -> None:
    assert with_named_loggers({"logger": {"_target_": target}, "size": 1}) == {
        "logger": {name: {"_target_": target}},
        "size": 1,
    }
    assert with_named_loggers({"logger": {}}) == {"logger": {}}
