"""One run from its configuration to its picture: prepare, build, fit, report."""

import errno
import itertools
import logging
import os
import re
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor

from nst import output, paths, provenance
from nst.build import Run, build, prepare
from nst.config import Config, styles_in
from nst.errors import DivergedError, UserError, of_disk, problem
from nst.file import unused, write_text
from nst.inputs import Inputs
from nst.precision import full_float32
from nst.run_folder import RunFolder
from nst.sweep import MAY_CHANGE, Outcome, Sweep, identity

log = logging.getLogger(__name__)

#: What tells single runs from each other, besides what was given on the command line.
USUAL = (
    "layers.content", "layers.style", "weights.content", "weights.style", "weights.tv", "pooling", "objective", "init",
    "optimizer", "optimizer.lr", "schedule", "size", "evaluations", "seed",
)  # fmt: skip

_ENDINGS = {"interrupted": "was interrupted", "failed": "failed", "diverged": "diverged"}


def paint(cfg: DictConfig) -> float:
    """Runs one configuration, alone or as a point of a sweep; returns what ``minimize`` asks for."""
    hydra = HydraConfig.get()
    if hydra.mode is RunMode.MULTIRUN:
        return _paint_point(cfg, Sweep(Path(hydra.sweep.dir)))
    folder = RunFolder(Path(hydra.runtime.output_dir))
    _check_folder(cfg, folder)
    try:
        config, files = prepare(cfg)
    except Exception as error:
        if cfg.resume is None:
            _note_failure(folder, error)
        raise
    given = [override.partition("=")[0].lstrip("+~") for override in hydra.overrides.task]
    named = [key for key in given if key.partition(".")[0] not in MAY_CHANGE]
    goes_on = config.resume is not None
    with folder.alone():
        return _paint(cfg, config, files, folder, named=named, shown=[*USUAL, *given], goes_on=goes_on)


def _paint_point(cfg: DictConfig, sweep: Sweep) -> float:
    """Keeps a finished run, goes on with an interrupted one, or begins anew; tells the sweep what became of it."""
    hydra = HydraConfig.get()
    outcome = Outcome(hydra.job.num, list(hydra.overrides.task), "running")
    sweep.record(outcome)
    try:
        with _folder_of_point(cfg, sweep) as (config, files, folder):
            summary = folder.read_summary()
            outcome = replace(outcome, folder=str(folder.path))
            if summary.get("status") == "completed" and folder.result.is_file():
                outcome = replace(outcome, state="kept")
                return _value(config, summary["losses"])
            goes_on = folder.config.is_file()
            sweep.record(outcome)
            varied = sweep.varied()
            value = _paint(cfg, config, files, folder, named=varied, shown=varied, goes_on=goes_on)
            outcome = replace(outcome, state="continued" if goes_on else "ran")
            return value
    except Exception as error:
        outcome = replace(outcome, state="failed", error=str(error) or type(error).__name__)
        if not isinstance(error, UserError | DivergedError):
            log.exception("The run failed")  # the table has only the message
        raise
    except BaseException:  # SystemExit, from a signal
        outcome = replace(outcome, state="interrupted")
        raise
    finally:
        sweep.record(outcome)


@contextmanager
def _folder_of_point(cfg: DictConfig, sweep: Sweep) -> Iterator[tuple[Config, Inputs, RunFolder]]:
    """The folder of what the configuration computes, for this job alone; an invalid one's holds only a summary."""
    try:
        config, files = prepare(cfg)
    except UserError as error:
        asked: Any = OmegaConf.to_container(cfg)
        with sweep.claim(
            identity(asked, {key: asked[key] for key in ("content", "style", "encoder")}), "invalid"
        ) as folder:
            _note_failure(folder, error)
        raise
    used = files.digests()
    computed = identity(config.model_dump(by_alias=True), {**used, "architecture": files.architecture})
    with sweep.claim(computed, _name(config, sweep.varied())) as folder, log_to(folder), folder.alone():
        yield config, files, folder


@contextmanager
def log_to(folder: RunFolder) -> Iterator[None]:
    """Keeps what is logged in the run's folder, too: Hydra's log of a sweep's job is elsewhere."""
    handler = logging.FileHandler(folder.log, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("[%(asctime)s][%(name)s][%(levelname)s] %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def _paint(
    cfg: DictConfig,
    config: Config,
    files: Inputs,
    folder: RunFolder,
    *,
    named: Sequence[str],
    shown: Sequence[str],
    goes_on: bool,
) -> float:
    """Builds, fits, reports. The keys and groups ``named`` make the run's name; ``shown`` are TensorBoard's."""
    try:
        made_of = {} if config.rerun is None else output.read_note(paths.of_user(config.rerun), key="rerun")
        for notice in files.notices():
            log.info(notice)
        for warning in [*files.warnings(), *files.unlike(made_of.get(output.DIGESTS, {}))]:
            log.warning(warning)
        config = _settle(cfg, config, named)
        provenance.forget_peak_memory()
        choices = _choices(folder)
        run = build(cfg, config, files, folder, choices=choices, shown=shown, goes_on=goes_on)
        if run.checkpoint is not None:
            log.info("Going on after %d evaluations", int(run.checkpoint.stem))
    except Exception as error:
        if not goes_on:
            _note_failure(folder, error)
        raise
    write_text(folder.config, OmegaConf.to_yaml(cfg))
    folder.update_summary(
        {
            "status": "running",
            "name": config.name,
            "evaluations": 0,
            "width": run.module.image.shape[-1],
            "height": run.module.image.shape[-2],
            "choices": choices,
            "assets": files.provenance(),
            "precision": config.precision,
            "seed": config.seed,
            "devices": config.trainer.devices,
            "predicted_memory_bytes": run.forecast.total,
            "error": None,
            **provenance.of_machine(run.trainer.strategy.root_device),
        }
    )
    return _value(config, _fit(run, folder))


def _note_failure(folder: RunFolder, error: Exception) -> None:
    folder.update_summary({"evaluations": 0, "status": "failed", "error": str(error)})


def _value(config: Config, losses: Mapping[str, float]) -> float:
    """What a sweeper minimizes: a loss of the picture; beyond the bound on the content, more than any picture within.

    Sweepers look at the order of the values, so how much more doesn't matter.
    """
    bound = config.minimize.content_at_most
    if bound is not None and losses["content"] > bound:
        return 1e12 * losses["content"] / bound
    return losses[config.minimize.loss]


def _check_folder(cfg: DictConfig, folder: RunFolder) -> None:
    """Refuses to mix two runs in one folder, whichever way Hydra was called."""
    if cfg.resume is None:
        if folder.config.is_file():
            why = "this folder already holds a run; go on with it by resume, or choose another"
            raise UserError(problem("hydra.run.dir", folder.path, why))
    elif paths.of_user(str(cfg.resume)).absolute() != folder.path.absolute():
        why = f"a run goes on in its own folder, not in {folder.path}; leave out hydra.run.dir"
        raise UserError(problem("resume", cfg.resume, why))


def _fit(run: Run, folder: RunFolder) -> Mapping[str, float]:
    status, error = "failed", None
    try:
        with full_float32():
            run.trainer.fit(run.module, itertools.repeat(0), ckpt_path=run.checkpoint)
        status = "completed" if run.stop.signal is None or run.module.finished else "interrupted"
    except DivergedError as divergence:
        status, error = "diverged", str(divergence)
        raise
    except OSError as failure:
        error = of_disk(failure)
        raise
    except SystemExit:  # what Lightning makes of a KeyboardInterrupt
        status = "interrupted"
    except Exception as failure:
        error = f"{type(failure).__name__}: {failure}"
        raise
    finally:
        with run.stop.later():
            if run.record.begun:
                _report(run, folder, status, error)
            else:
                folder.update_summary({"status": status, "error": error})
    if status == "interrupted" or run.stop.signal is not None:
        run.stop.pass_on()
        raise SystemExit(128 + (run.stop.signal or signal.SIGINT))
    return run.module.best.losses


def _report(run: Run, folder: RunFolder, status: str, error: str | None) -> None:
    """Saves the best picture so far, closes the summary, and says where the picture is, whichever of these fails."""
    module, picture = run.module, None
    try:
        picture = _save(module.picture, folder, run.format, run.note) if module.best.number else None
    finally:
        try:
            folder.update_summary(_ending(run, status, error))
        finally:
            if picture is not None:
                _tell(f"The picture is at {picture}")
    if status == "completed" and module.evaluation.number < module.schedule.evaluations:
        done, budget = module.evaluation.number, module.schedule.evaluations
        log.info("The run was complete after %d of %d evaluations: %s.", done, budget, module.ending)
    if status != "completed":
        log.warning("The run %s after %d evaluations.", _ENDINGS[status], module.evaluation.number)
    if status in ("interrupted", "failed"):
        log.warning("To go on: python -m nst.train resume=%s", shlex.quote(str(folder.path)))


def _ending(run: Run, status: str, error: str | None) -> dict[str, Any]:
    """What the summary says of how a run ended."""
    module = run.module
    return {
        "status": status,
        "evaluations": module.evaluation.number,
        "best_evaluation": module.best.number,
        "recoveries": module.recoveries,
        "width": module.best_image.shape[-1],
        "height": module.best_image.shape[-2],
        "losses": module.best.losses,
        "seconds": round(run.record.seconds, 3),
        "peak_memory_bytes": provenance.peak_memory(run.trainer.strategy.root_device),
        "error": error,
    }


def _tell(text: str) -> None:
    """Prints a line; that nobody reads it any more is no failure."""
    try:
        print(text, flush=True)
    except OSError:
        with suppress(OSError), Path(os.devnull).open("w") as nobody:  # else Python fails to write it at its end
            os.dup2(nobody.fileno(), sys.stdout.fileno())


def _save(picture: Tensor, folder: RunFolder, format: str, note: str) -> Path:  # noqa: A002
    """Saves the picture in the run's folder, or somewhere else where this can't be written; returns its file.

    There, it is saved in another format, too, where one is asked for.
    """
    suffix = output.SUFFIXES[format]
    if suffix != folder.result.suffix:
        try:
            output.save(picture, folder.copy(suffix), format=format, note=note)
        except OSError as failure:
            log.warning("The picture can't be saved: %s", of_disk(failure))
        format = "png"  # noqa: A001
    name = f"{folder.path.parent.name}_{folder.path.name}.png"
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
        except RuntimeError:  # there is no home
            continue
        else:
            return file
    raise OSError(errno.EIO, "the picture can't be saved anywhere", str(folder.result))


def _settle(cfg: DictConfig, config: Config, named: Sequence[str]) -> Config:
    """Writes into the configuration what must not change when the run goes on: its name, and whole paths."""
    with open_dict(cfg):
        files = [(cfg.content, "path"), (cfg.init, "path"), (cfg.encoder, "weights"), (cfg.encoder, "normalize_on")]
        files += [(style, key) for style in styles_in(cfg).values() for key in ("path", "region", "mask")]
        for node, key in files:
            value = node.get(key)
            if value not in (None, "auto", "random", "bundled"):
                node[key] = str(paths.of_user(value).absolute())
        if config.name is None:
            cfg.name = _name(config, named)
        OmegaConf.resolve(cfg)
        settled = Config.model_validate(OmegaConf.to_container(cfg))
        cfg.resume = cfg.rerun = None
    return settled


def _name(config: Config, named: Sequence[str]) -> str:
    """The pictures and the overrides, readable and fit for a file name: ``tubingen-picasso,weights.style=1e5``."""
    pictures = f"{config.content.title}-{config.style.title}"
    said = ("content", "style", "content.path", "style.path", "assets", "threads", "name", "pair", "resume")
    overrides = {word.partition("=")[0].lstrip("+~"): word for word in HydraConfig.get().overrides.task}
    words = [word for key, word in overrides.items() if key in named and key not in said]
    # Of a path the last part says enough; brackets, quotes and the like don't belong in a file name.
    fit = [re.sub(r"[^\w.,=+~-]+", "_", re.sub(r"=.*/", "=", word)).strip("_") for word in [pictures, *words]]
    return ",".join(fit)[:120]


def _choices(folder: RunFolder) -> dict[str, str]:
    """The option that was picked in each group; of a run that goes on, those that it began with."""
    earlier: dict[str, str] = folder.read_summary().get("choices", {})
    now = {
        group: option
        for group, option in HydraConfig.get().runtime.choices.items()
        if option is not None and not group.startswith("hydra/")
    }
    return {**earlier, **now}
