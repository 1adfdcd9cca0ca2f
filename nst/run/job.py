"""One run from its plan to its picture: build, fit, report."""

import errno
import itertools
import logging
import shlex
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from torch import Tensor

from nst.callbacks.stop import ended_at_once
from nst.config.overrides import command, searched
from nst.config.source import keys
from nst.encoder.precision import full_float32
from nst.errors import DivergedError, count, of_disk, written
from nst.files.atomic import unused, write_text
from nst.files.run_folder import RunFolder
from nst.image import output
from nst.optimizer.module import StyleTransfer
from nst.plan.planning import Plan
from nst.run import loggers, measuring, provenance
from nst.run.build import Run, build
from nst.run.notes import notes

log = logging.getLogger(__name__)

#: Keys and groups that distinguish single runs, besides those given on the command line.
USUAL = (
    "layers.content", "layers.style", "weights.content", "weights.style", "weights.tv", "pooling", "objective", "init",
    "optimizer", "optimizer.lr", "schedule", "size", "evaluations", "seed",
)  # fmt: skip

_ENDINGS = {"interrupted": "was interrupted", "failed": "failed", "diverged": "diverged"}


def paint(plan: Plan, folder: RunFolder, words: Sequence[str]) -> float:
    """Run a plan in a folder, as a single run; return the value that ``minimize`` selects.

    ``words`` are the overrides that the plan was composed with.
    """
    with folder.alone():
        return run(plan, folder, shown=[*USUAL, *keys(words)], goes_on=plan.config.resume is not None)


@contextmanager
def log_to(folder: RunFolder) -> Iterator[None]:
    """Also write the log to the run's folder, because Hydra's log of a sweep's job is elsewhere."""
    handler = logging.FileHandler(folder.log, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("[%(asctime)s][%(name)s][%(levelname)s] %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def run(
    plan: Plan,
    folder: RunFolder,
    *,
    shown: Sequence[str],
    goes_on: bool,
    is_new: Callable[[str], bool] = lambda text: True,
) -> float:
    """Build, fit and report a run; return the value that ``minimize`` selects.

    The keys and groups ``shown`` become the loggers' hyperparameters. The terminal shows a note if it ``is_new``.
    """
    with _interruption_told(plan, folder, goes_on=goes_on), ended_at_once():
        return _run(plan, folder, shown=shown, goes_on=goes_on, is_new=is_new)


@contextmanager
def _interruption_told(plan: Plan, folder: RunFolder, *, goes_on: bool) -> Iterator[None]:
    """Write to the summary if the block is interrupted before the first evaluation, from which on ``_fit`` does it."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if folder.read_summary().get("status", "running") == "running":
            if not goes_on:
                write_text(folder.config, plan.yaml)
            folder.update_summary({"evaluations": 0, "status": "interrupted"})
            log.warning("The run was interrupted before its first evaluation.")
            log.warning("To resume: python -m nst.train resume=%s", shlex.quote(str(folder.path)))
        raise


def _run(plan: Plan, folder: RunFolder, *, shown: Sequence[str], goes_on: bool, is_new: Callable[[str], bool]) -> float:
    config, files = plan.config, plan.files
    try:
        overrides, choices = _overrides(folder), _choices(folder)
        for level, note in notes(plan, sized="size" in keys(overrides)):
            log.log(level, note, extra={"repeated": not is_new(note)})
        built = build(plan, folder, choices=choices, shown=shown, goes_on=goes_on)
        if built.checkpoint is not None:
            done = int(built.checkpoint.stem)
            complete = "The run is complete after %s: its files are written again. evaluations=N continues it"
            what = "Resuming after %s" if done < plan.schedule.evaluations else complete
            log.info(what, count(done, "evaluation"))
    except Exception as error:
        if not goes_on:
            note_failure(folder, error)
        raise
    write_text(folder.config, plan.yaml)
    folder.update_summary(
        {
            "status": "running",
            "name": config.name,
            "evaluations": 0,
            "width": built.module.image.shape[-1],
            "height": built.module.image.shape[-2],
            "choices": choices,
            "overrides": overrides,
            "assets": files.provenance(),
            "scales": built.record.scales(plan.schedule),
            "precision": config.precision,
            "seed": config.seed,
            "devices": config.trainer.devices,
            "predicted_memory_bytes": plan.forecast.total,
            "error": None,
            **provenance.of_machine(plan.device),
        }
    )
    made, hyperparameters = built.trainer.loggers, built.hyperparameters
    with loggers.ended(made):
        losses = _fit(built, folder)
        last = built.module.evaluation.number
        del built  # the measures need its memory
        measures = measuring.measured(config, folder, plan.device)
        loggers.log_results(made, hyperparameters, losses, measures, step=last)
    return measuring.value(config, losses, measures)


def note_failure(folder: RunFolder, error: Exception) -> None:
    folder.update_summary({"evaluations": 0, "status": "failed", "error": str(error)})


def _fit(built: Run, folder: RunFolder) -> Mapping[str, float]:
    status, error, code = "failed", None, 128 + signal.SIGINT
    try:
        with full_float32():
            built.trainer.fit(built.module, itertools.repeat(0), ckpt_path=built.checkpoint)
        status = "completed" if built.stop.signal is None or built.module.finished else "interrupted"
    except DivergedError as divergence:
        status, error = "diverged", str(divergence)
        raise
    except OSError as failure:
        error = of_disk(failure)
        raise
    except SystemExit as end:  # of a signal, or Lightning's status 1 instead of a KeyboardInterrupt
        status, code = "interrupted", code if end.code == 1 else int(str(end.code))
    except Exception as failure:
        error = f"{type(failure).__name__}: {failure}"
        raise
    finally:
        with built.stop.later():
            if built.record.begun:
                _report(built, folder, status, error)
            elif status != "interrupted":  # before the first evaluation
                folder.update_summary({"status": status, "error": error})
    if status == "interrupted" or built.stop.signal is not None:
        last = built.module.evaluation.number
        loggers.log_results(built.trainer.loggers, built.hyperparameters, built.module.best.losses, {}, step=last)
        built.stop.pass_on()
        raise SystemExit(code if built.stop.signal is None else 128 + built.stop.signal)
    return built.module.best.losses


def _report(built: Run, folder: RunFolder, status: str, error: str | None) -> None:
    """Save the best picture so far, complete the summary, and print the picture's path, even if one of these fails."""
    module, picture = built.module, None
    try:
        picture = _save(module.picture, folder, built.format, built.note) if module.best.number else None
    finally:
        try:
            folder.update_summary(_ending(built, status, error))
        finally:
            if picture is not None:
                print(f"The picture is at {picture}", flush=True)
    if folder.profile.is_dir():
        log.info("The profiler's report is in %s", folder.profile)
    if status == "completed" and module.evaluation.number < module.schedule.evaluations:
        done, budget = module.evaluation.number, module.schedule.evaluations
        log.info("The run was complete after %d of %s: %s.", done, count(budget, "evaluation"), module.ending)
    if status != "completed":
        log.warning(
            "The run %s after %s.%s", _ENDINGS[status], count(module.evaluation.number, "evaluation"), _size(module)
        )
    if status in ("interrupted", "failed"):
        log.warning("To resume: python -m nst.train resume=%s", shlex.quote(str(folder.path)))


def _size(module: StyleTransfer) -> str:
    """Return a sentence about the size of the best picture, if it isn't the final one; else nothing."""
    (height, width), (rows, columns) = module.best_image.shape[-2:], module.schedule.stages[-1].shape
    smaller = module.best.number and (height, width) != (rows, columns)
    return f" The picture has {width} x {height} of {columns} x {rows} px." if smaller else ""


def tell_what_next(plan: Plan, folder: RunFolder) -> None:
    """Log what a completed run has made, and commands that go on from there."""
    summary, size, weights = folder.read_summary(), plan.config.size, plan.config.weights
    words = summary["overrides"]  # of a resumed run, all of them
    made = summary["width"], summary["height"], count(summary["evaluations"], "evaluation"), summary["seconds"]
    log.info("The picture has %d x %d px, after %s in %.1f s", *made)
    if size is not None:
        others = [word for word in words if keys([word]) != ["size"]]
        log.info("To make it larger: %s", command([*others, f"size={2 * size}"]))
    if "weights.style" not in keys(words) and weights.content:
        less = f"weights.style={written(weights.style / 5)}"
        log.info("To keep more of the content: %s", command([*words, less]))
    log.info("To see its inputs, losses and settings: python -m nst.compare %s", shlex.quote(str(folder.path)))
    for hint in loggers.hints(plan, folder):
        log.info(hint)


def _ending(built: Run, status: str, error: str | None) -> dict[str, Any]:
    """Return the entries of the summary about the end of a run."""
    module = built.module
    return {
        "status": status,
        "evaluations": module.evaluation.number,
        "best_evaluation": module.best.number,
        "recoveries": module.recoveries,
        "width": module.best_image.shape[-1],
        "height": module.best_image.shape[-2],
        "losses": module.best.losses,
        "scales": built.record.scales(module.schedule),
        "seconds": round(built.record.seconds, 3),
        "peak_memory_bytes": provenance.peak_memory(built.trainer.strategy.root_device),
        "error": error,
    }


def _save(picture: Tensor, folder: RunFolder, format: str, note: str) -> Path:  # noqa: A002
    """Save the picture in the run's folder, or elsewhere if the folder can't be written; return its file.

    If ``format`` has another ending than PNG, also save a copy in that format in the run's folder, and return its file.
    """
    suffix, copy = output.SUFFIXES[format], None
    if suffix != folder.result.suffix:
        try:
            output.save(picture, folder.copy(suffix), format=format, note=note)
            copy = folder.copy(suffix)
        except OSError as failure:
            log.warning("The picture can't be saved: %s", of_disk(failure))
        format = "png"  # noqa: A001
    name = f"{folder.path.parent.name}_{folder.path.name}.png".encode()[-200:].decode(errors="ignore")
    files: list[Callable[[], Path]] = [
        lambda: folder.result,
        lambda: unused(Path.cwd() / name),
        lambda: unused(Path.home() / name),
        lambda: unused(Path(tempfile.gettempdir()) / name),
    ]
    for place in files:
        try:
            file = place()
            output.save(picture, file, format=format, note=note)
        except OSError as failure:
            log.warning("The picture can't be saved: %s", of_disk(failure))
        except RuntimeError:  # there is no home folder
            continue
        else:
            return copy or file
    raise OSError(errno.EIO, "the picture can't be saved anywhere", str(folder.result))


def _overrides(folder: RunFolder) -> list[str]:
    """Return the overrides of a run, with the folder of ``--config-dir`` as ``hydra.searchpath``.

    For a resumed run, those that it began with and those of its continuations.
    """
    earlier: list[str] = folder.read_summary().get("overrides", [])
    given = HydraConfig.get().overrides
    words = [*earlier, *searched(given.hydra), *given.task]
    last = {key: word for word in words for key in keys([word]) if key != "resume"}
    return list(last.values())


def _choices(folder: RunFolder) -> dict[str, str]:
    """Return the chosen option of each group; for a resumed run, including the options that it began with.

    A group has none if its picture was given by a path.
    """
    earlier: dict[str, str] = folder.read_summary().get("choices", {})
    given = keys(HydraConfig.get().overrides.task)
    now = {
        group: option
        for group, option in HydraConfig.get().runtime.choices.items()
        if option is not None and not group.startswith("hydra/") and f"{group}.path" not in given
    }
    return {**earlier, **now}
