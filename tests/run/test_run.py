"""Whole runs through the command line: the run folder, going on, sweeps, other folders."""

import contextlib
import csv
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from PIL import Image
from pytorch_lightning.loggers import CSVLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nst.callbacks import Stop, progress
from nst.config.schema import Config
from nst.encoder import oxford
from nst.files import asset, paths
from nst.files.run_folder import make_folder
from nst.live import progress as live
from nst.optimizer.module import StyleTransfer
from nst.optimizer.schedule import Schedule, Stage
from tests.conftest import NOWHERE, Command, server
from tests.helpers.forking import Process


def summary(folder: Path) -> dict[str, object]:
    return json.loads((folder / "summary.json").read_text())


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "losses.csv").open() as file:
        return list(csv.DictReader(file))


def events(folder: Path) -> EventAccumulator:
    [made] = {event.parent for event in folder.rglob("events.*")}
    accumulator = EventAccumulator(str(made), size_guidance={"images": 0, "scalars": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


class DiaryLogger(CSVLogger):
    """A logger that Lightning doesn't have."""


def begin(small: list[str], folder: Path, *, checkpoints: int) -> Process:
    """A long run in ``folder``/run that has saved so many checkpoints."""
    arguments = [*small, "evaluations=100000", "callbacks.checkpoint.every_evaluations=10", "hydra.run.dir=run"]
    process = server.start(arguments, cwd=folder, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while len(list(folder.glob("run/checkpoints/[0-9]*.ckpt"))) < checkpoints and time.monotonic() < deadline:
        time.sleep(0.01)
    return process


def test_a_run_leaves_a_complete_folder(nst: Command, small: list[str], tmp_path: Path) -> None:
    finished = nst(
        *small,
        "evaluations=12",
        "callbacks.snapshot.every_evaluations=5",
        "callbacks.checkpoint.every_evaluations=4",
        "hydra.run.dir=run",
    )
    assert finished.returncode == 0, finished.stderr
    folder = tmp_path / "run"
    assert finished.stdout == f"The picture is at {folder}/result.png\n"
    assert {path.name for path in folder.iterdir()} == {
        ".hydra", ".lock", "result.png", "config.yaml", "losses.csv", "summary.json", "tensorboard", "snapshots",
        "checkpoints", "train.log", "progress.mp4",
    }  # fmt: skip
    assert Image.open(folder / "result.png").size == (32, 26)
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["000012.ckpt"]
    assert [path.name for path in sorted((folder / "snapshots").iterdir())] == ["000005.png", "000010.png"]
    assert [row["evaluation"] for row in rows(folder)] == [str(n) for n in range(1, 13)]
    last = {key: float(value) for key, value in rows(folder)[-1].items()}
    shares = [value for key, value in last.items() if key.startswith("share/")]
    assert len(shares) == 6
    assert sum(shares) + 3 * last["tv"] / last["total"] == pytest.approx(1)
    result = summary(folder)
    assert result["status"] == "completed"
    assert result["evaluations"] == 12
    totals = [float(row["total"]) for row in rows(folder)]
    assert result["losses"]["total"] == min(totals)  # type: ignore[index]
    assert result["best_evaluation"] == totals.index(min(totals)) + 1
    assert {
        "seconds", "peak_memory_bytes", "predicted_memory_bytes", "versions", "git_commit", "device", "devices",
        "processor", "precision", "threads",
    } <= set(result)  # fmt: skip
    for part in result["assets"].values():  # type: ignore[attr-defined]
        assert part["source"] in ("path", "random")
        assert part["source"] == "random" or re.fullmatch("[0-9a-f]{64}", part["sha256"])
    saved = OmegaConf.load(folder / "config.yaml")
    assert OmegaConf.to_yaml(saved) == OmegaConf.to_yaml(saved, resolve=True)
    assert (saved.evaluations, saved.resume) == (12, None)


def test_tensorboard_shows_losses_pictures_configuration_and_hyperparameters(
    inside: Command, small: list[str], tmp_path: Path
) -> None:
    assert inside(*small, "callbacks.snapshot.every_evaluations=3", "hydra.run.dir=run").returncode == 0
    shown = events(tmp_path / "run")
    for tag in ("loss/total", "loss/content", "loss/style", "optimizer/gradient_norm", "share/style/relu1_1"):
        assert [event.step for event in shown.Scalars(tag)] == [1, 2, 3, 4, 5, 6]
    assert {tag: [event.step for event in shown.Images(tag)] for tag in shown.Tags()["images"]} == {
        "input/content": [0], "input/style": [0], "input/start": [0], "picture": [3, 6],
    }  # fmt: skip
    [text] = shown.Tensors("configuration/text_summary")
    assert b"evaluations: 6" in text.tensor_proto.string_val[0]
    assert shown.Scalars("summary/total")[0].value == pytest.approx(summary(tmp_path / "run")["losses"]["total"])  # type: ignore[index]
    assert shown.SummaryMetadata("_hparams_/experiment").plugin_data.plugin_name == "hparams"
    assert (
        b"callbacks.snapshot.every_evaluations"
        in shown.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    )
    assert shown.SummaryMetadata("custom_scalars__config__").plugin_data.plugin_name == "custom_scalars"
    [run] = (tmp_path / "run" / "tensorboard").iterdir()
    assert run.name.startswith("content-style-slim-random")


def test_the_picture_at_the_end_is_the_last_in_tensorboard(
    nst: Command, inside: Command, small: list[str], tmp_path: Path
) -> None:
    """Of a run shorter than the interval of its snapshots, resumed, complete already, converged, or interrupted."""

    def steps(folder: Path = tmp_path / "run") -> list[int]:
        accumulator = EventAccumulator(str(next(folder.rglob("events.*")).parent), size_guidance={"images": 0})
        accumulator.Reload()
        return [event.step for event in accumulator.Images("picture")]

    assert (
        inside(*small, "callbacks.snapshot.every_evaluations=4", "evaluations=3", "hydra.run.dir=run").returncode == 0
    )
    assert steps() == [3]
    assert inside("resume=run", "evaluations=8").returncode == 0
    assert steps() == [3, 4, 8]
    assert inside("resume=run").returncode == 0
    assert steps() == [3, 4, 8]
    converging = ["schedule=single", "schedule.patience=2", "schedule.min_improvement=0.9"]
    assert inside(*small, *converging, "hydra.run.dir=early").returncode == 0
    assert steps(tmp_path / "early") == [summary(tmp_path / "early")["evaluations"]]
    assert steps(tmp_path / "early") < [6]

    (tmp_path / "stopped").mkdir()
    process = begin(small, tmp_path / "stopped", checkpoints=1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    folder = tmp_path / "stopped" / "run"
    assert steps(folder)[-1] == summary(folder)["evaluations"]


def test_event_files_are_where_tensorboard_shows_a_run_s_name_once(
    inside: Command, small: list[str], tmp_path: Path
) -> None:
    def shown() -> list[str]:
        return sorted({str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("events.*")})

    assert inside("-m", *small, "seed=1,2", "hydra.sweep.dir=sweep").returncode == 0
    assert all(re.fullmatch(r"sweep/content-style-seed[12]-\w{10}/tensorboard", name) for name in shown())
    assert len(shown()) == 2
    before = tmp_path / shown()[0]
    earlier = before / "content-style"
    earlier.mkdir()
    for event in before.glob("events.*"):
        event.rename(earlier / event.name)
    assert inside(f"resume={before.parent}", "evaluations=8").returncode == 0
    assert earlier.relative_to(tmp_path) == Path(shown()[0]), "an earlier run goes on where it was"
    assert len(shown()) == 2
    assert inside("-m", *small, "seed=3", "name=mine", "hydra.sweep.dir=named").returncode == 0
    assert inside(*small, "name=mine", "hydra.run.dir=run").returncode == 0
    assert re.fullmatch(r"named/[^/]+/tensorboard/mine", shown()[0])
    assert shown()[1] == "run/tensorboard/mine"


@pytest.mark.parametrize(
    ("logger", "folder", "file"),
    [
        (["logger=csv"], "csv", "metrics.csv"),
        (["logger=csv", "logger.csv._target_=tests.run.test_run.DiaryLogger"], "csv", "metrics.csv"),
        (["logger=none"], None, ""),
    ],
)
def test_each_logger_has_its_own_folder(
    inside: Command, small: list[str], tmp_path: Path, logger: list[str], folder: str | None, file: str
) -> None:
    assert inside(*small, *logger, "hydra.run.dir=run").returncode == 0
    made = {path.name for path in (tmp_path / "run").iterdir()}
    assert made & {"tensorboard", "csv", "logs"} == ({folder} if folder else set())
    assert folder is None or (tmp_path / "run" / folder / file).is_file()
    assert inside("resume=run", "evaluations=8").returncode == 0
    sessions = sorted(path.relative_to(tmp_path / "run") for path in (tmp_path / "run").rglob("metrics.csv"))
    assert sessions == ([Path(folder, "from_000006", file), Path(folder, file)] if folder else [])


@pytest.mark.parametrize("profiler", ["simple", "advanced", "pytorch"])
def test_a_profiler_writes_its_report_to_the_run_s_folder(
    nst: Command, small: list[str], tmp_path: Path, profiler: str
) -> None:
    finished = nst(*small, f"+trainer.profiler={profiler}", "hydra.run.dir=run")
    assert finished.returncode == 0, finished.stderr
    folder = tmp_path / "run" / "profile"
    assert f"The profiler's report is in {folder}" in finished.stderr
    report = (folder / "fit-report.txt").read_text()
    assert report.startswith("FIT Profiler Report")
    assert "run_training_batch" in report
    assert bool(list(folder.glob("*.pt.trace.json"))) == (profiler == "pytorch")


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_going_on_equals_never_having_stopped(
    inside: Command, small: list[str], tmp_path: Path, optimizer: str
) -> None:
    kept = "callbacks.checkpoint.keep_history=true"
    common = [*small, f"optimizer={optimizer}", "callbacks.snapshot.every_evaluations=4", kept]
    assert inside(*common, "evaluations=14", "hydra.run.dir=whole").returncode == 0
    assert inside(*common, "evaluations=8", "hydra.run.dir=parts").returncode == 0
    before = sorted(path.name for path in tmp_path.iterdir())
    finished = inside("resume=parts", "evaluations=14")
    assert finished.returncode == 0, finished.stderr
    assert "empty history" not in finished.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert (whole / "result.png").read_bytes() == (parts / "result.png").read_bytes()
    assert rows(whole) == rows(parts)
    assert (whole / "config.yaml").read_text() == (parts / "config.yaml").read_text()
    assert summary(parts)["evaluations"] == 14
    assert sorted(p.name for p in parts.glob("snapshots/*")) == sorted(p.name for p in whole.glob("snapshots/*"))


def test_going_on_with_a_finished_run_computes_nothing(inside: Command, small: list[str], tmp_path: Path) -> None:
    assert inside(*small, "hydra.run.dir=run").returncode == 0
    before = (tmp_path / "run" / "result.png").read_bytes(), rows(tmp_path / "run")
    assert inside("resume=run").returncode == 0
    assert ((tmp_path / "run" / "result.png").read_bytes(), rows(tmp_path / "run")) == before
    assert summary(tmp_path / "run")["evaluations"] == 6
    resumed = inside("resume=run", "evaluations=7")
    assert "L-BFGS begins with an empty history: a complete run keeps it only with callbacks." in resumed.stderr


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_interrupted_run_keeps_its_picture_and_goes_on(
    nst: Command, small: list[str], tmp_path: Path, number: signal.Signals, status: int
) -> None:
    process = begin(small, tmp_path, checkpoints=1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == status
    assert "Traceback" not in errors
    assert f"python -m nst.train resume={tmp_path / 'run'}" in errors
    result = summary(tmp_path / "run")
    assert result["status"] == "interrupted"
    done = int(str(result["evaluations"]))
    assert Image.open(tmp_path / "run" / "result.png").size == (32, 26)
    assert nst("resume=run", f"evaluations={done + 5}").returncode == 0
    assert summary(tmp_path / "run")["status"] == "completed"
    assert [int(row["evaluation"]) for row in rows(tmp_path / "run")] == list(range(1, done + 6))


def test_a_second_signal_ends_a_run_at_once(nst: Command, small: list[str], tmp_path: Path) -> None:
    process = begin(small, tmp_path, checkpoints=1)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert summary(tmp_path / "run")["status"] == "interrupted"


class Early:
    """Ends a run by a signal before its first evaluation: as a step of the run, or of Lightning's, calls it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, *args: object, **kwargs: object) -> None:
        os.kill(os.getpid(), self.number)
        time.sleep(5)  # the signal comes in between


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("step", ["nst.run.job.notes", "nst.run.job.provenance.of_machine", "nst.run.build._objective"])
def test_a_run_that_is_interrupted_before_its_first_evaluation_says_so(
    inside: Command, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: None,
    number: signal.Signals, status: int, step: str,
) -> None:  # fmt: skip
    with monkeypatch.context() as patched:
        patched.setattr(step, Early(number))
        interrupted = inside(*small, "hydra.run.dir=run")
    assert interrupted.returncode == status
    assert "Traceback" not in interrupted.stderr
    assert f"resume={tmp_path / 'run'}" in interrupted.stderr
    assert {key: summary(tmp_path / "run")[key] for key in ("status", "evaluations")} == {
        "status": "interrupted",
        "evaluations": 0,
    }
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert inside("resume=run").returncode == 0
    assert summary(tmp_path / "run")["status"] == "completed"


class AtTheEnd(pl.Callback):
    """Does something to a run whose evaluations are done, while others still write."""

    def __init__(self, what: str) -> None:
        self.what = what

    def on_train_end(self, *args: object) -> None:
        if self.what == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            Path.cwd().rmdir()


@pytest.mark.parametrize(("what", "status"), [("signal", 143), ("folder", 0)])
def test_what_happens_when_all_is_computed_costs_no_picture(
    nst: Command, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, status: int
) -> None:
    """A signal, or the loss of the folder that the command was given in."""
    monkeypatch.setenv("HOME", "/nowhere/that/can/be/written")
    here = tmp_path / "here"
    here.mkdir()
    end = f"+callbacks.end={{_target_: tests.run.test_run.AtTheEnd, what: {what}}}"
    finished = nst(*small, end, f"hydra.run.dir={tmp_path}/run", cwd=here)
    assert finished.returncode == status, finished.stderr
    assert summary(tmp_path / "run")["status"] == "completed"
    assert Image.open(tmp_path / "run" / "result.png").size == (32, 26)
    assert "To go on" not in finished.stderr


@pytest.fixture
def heard() -> Iterator[None]:
    """Ctrl-C means what it means at a prompt; in a shell's background it means nothing."""
    found = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, found)


def test_a_signal_during_the_report_comes_after_it(heard: None) -> None:
    stop, written = Stop(), []

    def report() -> None:
        with stop.later():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
            written.append("all")

    with pytest.raises(KeyboardInterrupt):
        report()
    assert written == ["all"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    stop.signal = signal.SIGTERM
    with stop.later():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)


@pytest.mark.parametrize("readers", ["2>/dev/null | true", "2>&1 >/dev/null | head -1"])
def test_nobody_has_to_read_what_a_run_prints(small: list[str], tmp_path: Path, readers: str) -> None:
    words = shlex.join([sys.executable, "-m", "nst.train", *small, "evaluations=30", "hydra.run.dir=run"])
    subprocess.run(["bash", "-c", f"{words} {readers}"], cwd=tmp_path, check=True, capture_output=True)
    assert summary(tmp_path / "run")["status"] == "completed"
    assert (tmp_path / "run" / "checkpoints" / "000030.ckpt").is_file()


def test_what_a_checkpoint_stands_on_is_on_disk(nst: Command, small: list[str], tmp_path: Path) -> None:
    """Killed without a warning, a run goes on, and neither its table nor its curves have a gap."""
    process = begin(small, tmp_path, checkpoints=2)
    process.kill()
    process.communicate(timeout=120)
    done = max(int(path.stem) for path in tmp_path.glob("run/checkpoints/[0-9]*.ckpt"))
    finished = nst("resume=run", f"evaluations={done + 5}")
    assert finished.returncode == 0, finished.stderr
    assert [int(row["evaluation"]) for row in rows(tmp_path / "run")] == list(range(1, done + 6))
    folder = next(tmp_path.glob("run/tensorboard/*"))
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    assert {event.step for event in accumulator.Scalars("loss/total")} == set(range(1, done + 6))


def test_going_on_with_anything_else_is_refused_and_nothing_is_lost(
    inside: Command, small: list[str], tmp_path: Path
) -> None:
    start = tmp_path / "start.png"
    Image.new("RGB", (40, 32), (255, 128, 0)).save(start)
    common = [*small, "init=image", f"init.path={start}", f"content.path={start}"]
    assert inside(*common, "hydra.run.dir=run").returncode == 0

    def state() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}

    before = state()
    for overrides, message in [
        (["size=48"], "size can't change when a run is resumed (it is 32); keys that can change: "),
        (["size=48"], "/result.png makes another run with it"),
        (["optimizer=adam"], "optimizer can't change when a run is resumed"),
        (["weights.style=2"], "weights.style can't change when a run is resumed"),
        (["hydra.run.dir=other"], "hydra.run.dir can't change when a run is resumed"),
    ]:
        finished = inside("resume=run", *overrides)
        assert finished.returncode == 2
        assert message in finished.stderr
        assert state() == before
    Image.new("RGB", (40, 32)).save(start)
    finished = inside("resume=run", "evaluations=8")
    assert finished.returncode == 2
    assert "content had the SHA-256" in finished.stderr
    assert {path: data for path, data in state().items() if path.suffix != ".log"} == {
        path: data for path, data in before.items() if path.suffix != ".log"
    }


def test_no_two_runs_share_a_folder(inside: Command, small: list[str], tmp_path: Path) -> None:
    assert inside(*small, "hydra.run.dir=run").returncode == 0
    before = (tmp_path / "run" / "config.yaml").read_bytes()
    again = inside(*small, "seed=1", "hydra.run.dir=run")
    assert again.returncode == 2
    assert "this folder already contains a run; resume it with resume=" in again.stderr
    assert (tmp_path / "run" / "config.yaml").read_bytes() == before
    dated = [inside(*small, "evaluations=1", "hydra.run.dir=${now:%Y}") for _ in range(2)]
    assert [finished.returncode for finished in dated] == [0, 2]


def test_runs_of_the_same_second_get_folders_of_their_own(tmp_path: Path) -> None:
    made = [make_folder("hydra.run.dir", tmp_path / "12-00-00", chosen=False).name for _ in range(3)]
    assert made == ["12-00-00", "12-00-00-2", "12-00-00-3"]


def test_stand_ins_are_loud_and_recorded(
    inside: Command, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oxford, "PACKAGE", "not_installed")
    arguments = [*small, "content.path=null", "style.path=null", "encoder=vgg19", "encoder.weights=auto"]
    urls = [f"{group}.url={NOWHERE}/{group}.bin" for group in ("content", "style", "encoder")]
    finished = inside(*arguments, *urls, "hydra.run.dir=run")
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr.count("WARNING: STAND-IN PICTURE") == 2
    assert finished.stderr.count("WARNING: STAND-IN ENCODER") == 1
    assets = summary(tmp_path / "run")["assets"]
    assert [assets[name]["source"] for name in ("content", "style", "weights")] == ["stand-in"] * 3  # type: ignore[index]
    [text] = events(tmp_path / "run").Tensors("assets/text_summary")
    assert text.tensor_proto.string_val[0].count(b"STAND-IN") == 3


@pytest.mark.parametrize("option", ["vgg19", "vgg19_caffe"])
def test_the_packaged_network_is_told_calmly_and_recorded(
    inside: Command, small: list[str], tmp_path: Path, option: str
) -> None:
    words = [*small, f"encoder={option}", "encoder.weights=auto", f"encoder.url={NOWHERE}/none.pth"]
    layers = ["layers.content=[relu1_1]", "layers.style=[relu1_1]"]
    finished = inside(*words, *layers, "hydra.run.dir=run")
    assert finished.returncode == 0, finished.stderr
    said = finished.stdout + finished.stderr
    assert said.count("INFO: The encoder is Oxford's VGG-19, the paper's own network, with 8 bits per weight") == 1
    assert ("weights, which it replaces, are not in the cache, and can't be downloaded from" in said) == (
        option == "vgg19"
    )
    assert "WARNING" not in said
    weights = summary(tmp_path / "run")["assets"]["weights"]  # type: ignore[index]
    assert (weights["source"], weights["sha256"]) == ("package", oxford.SHA256)


def test_a_run_goes_on_with_the_weights_that_it_began_with(
    inside: Command, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in where the package has come since; the package where others could be downloaded now."""
    words = [*small, "encoder=vgg19", "encoder.weights=auto", f"encoder.url={NOWHERE}/none.pth", "size=64"]
    with monkeypatch.context() as patch:
        patch.setattr(oxford, "PACKAGE", "not_installed")
        assert inside(*words, "hydra.run.dir=old").returncode == 0
    assert inside(*words, "evaluations=1", "hydra.run.dir=new").returncode == 0
    saved = tmp_path / "old" / "config.yaml"
    saved.write_text(saved.read_text().replace("  calibrate: true\n", ""))  # as it was before there was this key
    monkeypatch.setattr(asset, "fetch", lambda **_: pytest.fail("nothing is asked for"))
    for run, source, evaluations in (("old", "stand-in", 8), ("new", "package", 2)):
        finished = inside(f"resume={run}", f"evaluations={evaluations}")
        assert finished.returncode == 0, finished.stderr
        assert summary(tmp_path / run)["evaluations"] == evaluations
        assert summary(tmp_path / run)["assets"]["weights"]["source"] == source  # type: ignore[index]


def test_whether_the_layers_are_calibrated_decides_the_picture(
    inside: Command, small: list[str], tmp_path: Path
) -> None:
    """In one process, which keeps the encoder and the targets from run to run."""
    layers = ["layers.content=[relu1_1]", "layers.style=[relu1_1]", "evaluations=2"]
    finished = inside(
        "-m", *small, "encoder=vgg19_caffe", *layers, "encoder.calibrate=true,false", "hydra.sweep.dir=both"
    )
    assert finished.returncode == 0, finished.stderr
    calibrated, raw = sorted(float(rows(run)[1]["content"]) for run in (tmp_path / "both").glob("*-*"))
    assert raw > 1e2 * calibrated


@pytest.mark.parametrize("logger", ["csv", "none"])
def test_other_loggers(inside: Command, small: list[str], tmp_path: Path, logger: str) -> None:
    finished = inside(*small, f"logger={logger}", "hydra.run.dir=run")
    assert finished.returncode == 0, finished.stderr
    assert len(rows(tmp_path / "run")) == 6
    assert not list(tmp_path.rglob("events.*"))
    assert len(list(tmp_path.rglob("metrics.csv"))) == (logger == "csv")


def test_double_precision_and_partial_per_layer_weights(inside: Command, small: list[str], tmp_path: Path) -> None:
    finished = inside(*small, "precision=64", "weights.tv=0.1", "+weights.style_layers.relu1_1=0", "hydra.run.dir=run")
    assert finished.returncode == 0, finished.stderr
    assert {row["share/style/relu1_1"] for row in rows(tmp_path / "run")} == {"0.0"}
    assert float(rows(tmp_path / "run")[0]["tv"]) > 0
    saved = next(tmp_path.glob("run/checkpoints/*.ckpt"))
    assert torch.load(saved, weights_only=True)["state_dict"]["image"].dtype == torch.float64


def test_help_is_quick_and_fits_a_screen(nst: Command) -> None:
    seconds = []
    for _ in range(2):  # the first may wait for the server that forks, and other tests run beside this one
        started = time.monotonic()
        finished = nst("--help")
        seconds.append(time.monotonic() - started)
        assert finished.returncode == 0
    assert min(seconds) < 3 * float(os.environ.get("NST_TEST_SLOWNESS", "1"))
    lines = finished.stdout.splitlines()
    assert len(lines) < 24
    assert max(map(len, lines)) <= 80
    assert len([line for line in lines if line.startswith("  python -m nst.train ")]) == 5
    [named] = re.findall(r"Groups: (.*?)\nKeys: (.*?), \.\.\.", finished.stdout, re.DOTALL)
    groups = {path.name for path in paths.configs().iterdir() if path.is_dir() and path.name != "hydra"}
    assert set(named[0].replace(",", "").split()) == groups
    assert set(named[1].replace(",", "").split()) <= Config.model_fields.keys() - groups


def test_help_all_shows_every_option_and_the_keys_of_what_is_chosen(inside: Command) -> None:
    finished = inside("--help-all", "optimizer=adam_averaged")
    assert finished.returncode == 0
    assert "\nschedule: pyramid, pyramid_upsample, single\n" in finished.stdout
    assert "\n  averaging: 0.99\n" in finished.stdout


def test_any_picture_can_be_the_start(inside: Command, small: list[str], tmp_path: Path) -> None:
    start = tmp_path / "it's a start = ö.png"
    Image.new("RGB", (50, 50), (255, 128, 0)).save(start)
    escaped = str(start).replace("'", "\\'")
    finished = inside(*small, "init=image", f"init.path='{escaped}'", "hydra.run.dir=run")
    assert finished.returncode == 0, finished.stderr
    [shown] = events(tmp_path / "run").Images("input/start")
    pixel = Image.open(io.BytesIO(shown.encoded_image_string)).getpixel((10, 10))
    assert pixel == (255, 128, 0)


DATA = os.environ.get("NST_TEST_DATA")


@pytest.mark.skipif(DATA is None, reason="NST_TEST_DATA names no folder of test data")
def test_real_filters_paint_real_pictures(inside: Command, tmp_path: Path) -> None:
    data = Path(str(DATA))
    finished = inside(
        f"content.path={data}/images/content/tubingen.jpg",
        f"style.path={data}/images/style/starry_night.jpg",
        f"encoder.weights={data}/weights/vgg19-conv1_1-to-conv3_1.pth",
        "layers.content=[relu3_1]",
        "layers.style=[relu1_1,relu2_1,relu3_1]",
        "size=128",
        "evaluations=60",
        "metrics=null",
        "hydra.run.dir=run",
    )
    assert finished.returncode == 0, finished.stderr
    styles = [float(row["style"]) for row in rows(tmp_path / "run")]
    assert min(styles) < styles[0] / 100


@pytest.mark.parametrize(
    "variables", [{"RANK": "1"}, {"SLURM_PROCID": "2"}, {"SLURM_PROCID": "2", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "7"}]
)
def test_a_job_around_it_does_not_count(
    nst: Command, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    finished = nst(*small, "evaluations=2", "hydra.run.dir=run")
    assert finished.returncode == 0, finished.stderr
    assert list((tmp_path / "run" / "tensorboard").rglob("events.*"))
    assert (tmp_path / "run" / "losses.csv").is_file()


def test_another_repository_of_a_hook_is_not_ours(
    inside: Command, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert inside(*small, "evaluations=1", "hydra.run.dir=one").returncode == 0
    subprocess.run(["git", "init", "-q", str(tmp_path / "other")], check=True)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    assert inside(*small, "evaluations=1", "hydra.run.dir=two").returncode == 0
    one, two = (summary(tmp_path / name) for name in ("one", "two"))
    assert one["git_commit"] == two["git_commit"]
    assert not {"content", "style"} & one["choices"].keys(), "its pictures were given by their paths"


def test_a_home_folder_is_not_needed(
    inside: Command, small: list[str], pictures: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", lambda path: nowhere(path) if str(path).startswith("~") else path)
    (tmp_path / "~photo.png").write_bytes(pictures[0].read_bytes())
    finished = inside(*small, "content.path=~photo.png", "evaluations=1", "hydra.run.dir=run")
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "run" / "result.png").is_file()


def test_a_picture_much_smaller_than_its_content_is_told(inside: Command, small: list[str], tmp_path: Path) -> None:
    """But not to a user who chose the size."""
    Image.new("RGB", (800, 80), "red").save(tmp_path / "large.png")
    unsized = [word for word in small if word != "size=32"]
    for words, told in ((unsized, True), ([*unsized, "size=384"], False)):
        finished = inside(*words, "content.path=large.png", "evaluations=1")
        assert finished.returncode == 0, finished.stderr
        assert ("will have 384 x 38 px; the content picture has 800 x 80 px. size=N" in finished.stderr) is told


@pytest.mark.skipif(os.name != "posix", reason="a terminal of its own")
def test_the_progress_bar_and_the_log_share_a_terminal(small: list[str], tmp_path: Path) -> None:
    """A log line stands on a line of its own above the bar, and the bar's time says what it is."""
    import termios

    terminal, end = os.openpty()
    termios.tcsetwinsize(end, (24, 80))
    words = [*small, "size=48", "evaluations=40", "schedule.scales=2", "schedule.smallest=null", "hydra.run.dir=run"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    command = [sys.executable, "-m", "nst.train", *words]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=end, stdout=subprocess.DEVNULL) as process:
        os.close(end)
        shown = b""
        with contextlib.suppress(OSError):  # Linux's answer when the other end is closed
            while read := os.read(terminal, 2**16):
                shown += read
        os.close(terminal)
    assert process.returncode == 0
    plain = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", shown.decode())
    lines = [part for line in plain.split("\r\n") for part in line.split("\r") if part.strip()]
    assert sum(line.startswith("INFO: Continuing with scale 2 of 2, 48 x 38 px, after ") for line in lines) == 1
    assert all(line.startswith("INFO: ") for line in lines if "INFO" in line)
    bars = [line for line in lines if line.startswith("evaluations")]
    assert bars
    assert all(len(line) <= 80 for line in bars)
    assert bars[-1].rstrip().endswith(" left")
    assert "40/40 total " in bars[-1]


class AtTheScale:
    """What a clock reads of a module, after an evaluation of 40 x 20 px, or of 80 x 40 px after the 10th of 20."""

    def __init__(self, number: int) -> None:
        self.schedule = Schedule(stages=[Stage(shape=(20, 40), end=10), Stage(shape=(40, 80), end=20)])
        self.position = int(number > 10)
        self.stage = self.schedule.stages[self.position]
        self.evaluation = SimpleNamespace(number=number, losses={"total": 1.0})
        self.draws = False


def test_the_time_left_has_a_part_that_does_not_grow_with_the_pixels() -> None:
    """5 s at 100 px and 6 s at 400 px are 4 2/3 s and 1/300 s per px."""
    scales = [(10, 10, 10), (20, 20, 20), (40, 40, 30)]
    assert live.seconds_left(scales, [(100, 5.0)], since=5) == pytest.approx(25 + 10 * 20 + 10 * 80)
    assert live.seconds_left(scales, [(100, 5.0), (400, 6.0)], since=15) == pytest.approx(5 * 6 + 10 * 10)
    assert live.seconds_left(scales, [(100, 5.0), (400, 4.0)], since=15) == pytest.approx(15 * 4)
    assert live.seconds_left(scales, [(100, 1.0), (400, 8.0)], since=15) == pytest.approx(5 * 8 + 10 * 32)


def test_the_time_left_of_a_run_folder_is_from_its_last_two_scales() -> None:
    scales, marks = [(10, 10, 10), (20, 20, 20)], [(0.0, 2), (20.0, 7), (60.0, 12), (72.0, 14)]
    assert live._rates(scales, marks, 1, 2 / 12) == [(100, 4.0), (400, 6.0)]
    assert live._rates(scales, marks[1:], 1, 2 / 12) == [(400, 6.0)]
    assert live._rates(scales, marks[:2], 0, 5 / 20) == [(100, 4.0)]


def test_the_first_scale_of_an_objective_that_draws_tells_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    clock, left = progress.Clock(), {}
    for number in range(1, 16):
        now[0] += 4 if number <= 10 else 8
        module = AtTheScale(number)
        module.draws = True
        left[number] = clock.left(cast(StyleTransfer, module))
    assert [number for number, seconds in left.items() if seconds is not None] == [12, 13, 14, 15]
    assert left[15] == pytest.approx(5 * 8)


def test_the_time_left_counts_the_pixels_of_the_scales_to_come(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "StyleTransfer", AtTheScale)
    bar, trainer = progress.ProgressBar(), cast(pl.Trainer, None)
    said = {}
    for number in range(21):
        module = cast(StyleTransfer, AtTheScale(number))
        if number == 0:
            bar.on_fit_start(trainer, module)
            bar.on_train_start(trainer, module)
            continue
        now[0] += 4 if number <= 10 else 8
        bar.on_after_backward(trainer, module)
        said[number] = capfd.readouterr().err.strip()
    assert said[1] == ""  # nothing is known yet
    assert said[2] == f"evaluation 2/20: total 1; about {4 * (8 + 4 * 10) / 60:.0f} min left"  # not only at a tenth
    assert said[4].endswith("; about 3 min left")
    assert said[3] == said[13] == ""
    assert said[14].endswith("evaluation 14/20: total 1")  # 48 s
    assert [progress.told(seconds) for seconds in (42.4, 119, 11100)] == ["42 s", "2 min", "3 h 5 min"]


def test_the_end_of_a_run_says_what_was_made(inside: Command, small: list[str], tmp_path: Path) -> None:
    finished = inside(*small, "evaluations=1", "hydra.run.dir=run", "logger=none")
    told = finished.stderr.splitlines()
    assert re.fullmatch(r"INFO: The picture has 32 x 26 px, after 1 evaluation in \d+\.\d s", told[-4])
    assert told[-3].startswith("INFO: To make it larger: python -m nst.train ")
    assert told[-3].endswith(" size=64")
    assert told[-2].startswith("INFO: To keep more of the content: python -m nst.train ")
    assert told[-2].endswith(" weights.style=2e5")
    assert told[-1] == f"INFO: To see its inputs, losses and settings: python -m nst.compare {tmp_path / 'run'}"
    assert told[-1].removeprefix("INFO: ") in (tmp_path / "run" / "train.log").read_text()
    resumed = inside("resume=run", "evaluations=2")
    assert "after 2 evaluations" in resumed.stderr
    assert (
        f"this is a file of a run; resume its folder: resume={tmp_path / 'run'}"
        in inside("resume=run/result.png", "evaluations=3").stderr
    )
    words = [*small, "logger=none", "evaluations=2"]  # of both commands, the later one's where both have the key
    given = re.findall(r"To keep more of the content: python -m nst.train (.*)$", resumed.stderr, re.MULTILINE)
    assert set(shlex.split(given[0])) == {*words, "weights.style=2e5"} - {"evaluations=6"}


def test_a_start_that_is_not_contiguous_is_optimized(inside: Command, small: list[str], tmp_path: Path) -> None:
    """A picture that isn't resized has the order of its file, channels last."""
    Image.new("RGB", (32, 26), "gray").save(tmp_path / "same.png")
    words = ["content.path=same.png", "init=content", "schedule=single", "optimizer=lbfgs", "hydra.run.dir=run"]
    done = inside(*small, *words)
    assert done.returncode == 0, done.stderr
