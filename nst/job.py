"""One run from its configuration to its picture: prepare, build, fit, report."""

import itertools
import logging
import platform
import re
import resource
import signal
import subprocess
import sys
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from nst import paths
from nst.build import Run, build, prepare
from nst.config import Config
from nst.errors import DivergedError
from nst.file import write_text
from nst.inputs import Inputs
from nst.run_folder import RunFolder

log = logging.getLogger(__name__)

_PACKAGES = (
    "torch",
    "torchvision",
    "pytorch-lightning",
    "hydra-core",
    "omegaconf",
    "tensorboard",
    "pillow",
    "numpy",
)


def paint(cfg: DictConfig) -> float:
    """Runs one configuration in Hydra's output folder; returns the total loss of the picture that was saved."""
    folder = RunFolder(Path(HydraConfig.get().runtime.output_dir))
    _quieten_lightning()
    try:
        config, files = prepare(cfg)
        for warning in files.warnings():
            log.warning(warning)
        config = _settle(cfg, config, folder)
        choices = _choices(folder)
        run = build(cfg, config, files, folder, choices)
    except Exception as error:
        folder.update_summary({"status": "failed", "evaluations": 0, "error": str(error)})
        raise
    write_text(folder.config, OmegaConf.to_yaml(cfg))
    folder.update_summary(_provenance(config, files, run, choices))
    return _fit(run, folder)


def _fit(run: Run, folder: RunFolder) -> float:
    status, error = "failed", None
    try:
        run.trainer.fit(run.module, itertools.repeat(0), ckpt_path=run.checkpoint)
        status = "completed"
    except DivergedError as divergence:
        status, error = "diverged", str(divergence)
        raise
    except SystemExit as stop:  # what Lightning makes of Ctrl-C (status 1) and SIGTERM (none)
        status = "interrupted"
        raise SystemExit(128 + (signal.SIGINT if stop.code == 1 else signal.SIGTERM)) from None
    except Exception as failure:
        error = f"{type(failure).__name__}: {failure}"
        raise
    finally:
        _report(run, folder, status, error)
    return run.module.best.losses["total"]


def _report(run: Run, folder: RunFolder, status: str, error: str | None) -> None:
    """Saves the best picture so far, closes the summary, and says where the picture is."""
    module = run.module
    if module.best.number:
        folder.save_result(module.best_image)
    folder.update_summary(
        {
            "status": status,
            "evaluations": module.evaluation.number,
            "best_evaluation": module.best.number,
            "losses": module.best.losses,
            "seconds": round(run.record.seconds, 3),
            "peak_memory_bytes": _peak_memory(module.image.device),
            "error": error,
        }
    )
    if status == "completed" and module.evaluation.number < module.evaluations:
        log.info("The optimizer converged: no further step improves the picture.")
    if status != "completed":
        log.warning("The run was %s after %d evaluations.", status, module.evaluation.number)
        log.warning("To go on: python -m nst.train resume=%s", folder.path)
    if module.best.number:
        print(f"The picture is at {folder.result}", flush=True)


def _settle(cfg: DictConfig, config: Config, folder: RunFolder) -> Config:
    """Writes into the configuration what must not change when the run goes on: its name, and whole paths."""
    with open_dict(cfg):
        for group, key in (("content", "path"), ("style", "path"), ("init", "path"), ("encoder", "weights")):
            value = cfg[group].get(key)
            if value not in (None, "auto", "random"):
                cfg[group][key] = str(Path(value).absolute())
        if config.name is None:
            cfg.name = _name(config)
        OmegaConf.resolve(cfg)
        settled = Config.model_validate(OmegaConf.to_container(cfg))
        cfg.resume = None
    return settled


def _name(config: Config) -> str:
    """The pictures and the overrides, readable and fit for a file name: ``tubingen-picasso,weights.style=1e5``."""
    pictures = "-".join(
        picture.name if picture.path is None else Path(picture.path).stem for picture in (config.content, config.style)
    )
    apart = re.compile(r"(content|style|content\.path|style\.path|assets|threads|name|pair|resume)=")
    shown = [override for override in HydraConfig.get().overrides.task if not apart.match(override)]
    # Of a path the last part says enough; brackets, quotes and the like don't belong in a file name.
    words = [re.sub(r"[^\w.,=+~-]+", "_", re.sub(r"=.*/", "=", word)).strip("_") for word in [pictures, *shown]]
    return ",".join(words)[:120]


def _choices(folder: RunFolder) -> dict[str, str]:
    """The option that was picked in each group; of a run that goes on, those that it began with."""
    earlier: dict[str, str] = folder.read_summary().get("choices", {})
    now = {
        group: option
        for group, option in HydraConfig.get().runtime.choices.items()
        if option is not None and not group.startswith("hydra/")
    }
    return {**earlier, **now}


def _provenance(config: Config, files: Inputs, run: Run, choices: Mapping[str, str]) -> dict[str, Any]:
    """All of the summary that is known before the first evaluation."""
    height, width = run.module.image.shape[-2:]
    return {
        "status": "running",
        "name": config.name,
        "evaluations": 0,
        "width": width,
        "height": height,
        "choices": dict(choices),
        "assets": files.provenance(),
        "device": _device_name(run.trainer.strategy.root_device),
        "precision": config.precision,
        "threads": torch.get_num_threads(),
        "seed": config.seed,
        "git_commit": _git_commit(),
        "versions": {
            "nst": _own_version(),
            "python": platform.python_version(),
            **{p: version(p) for p in _PACKAGES},
        },
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _device_name(device: torch.device) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def _peak_memory(device: torch.device) -> int:
    """Bytes: of the device on CUDA, of the process elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _own_version() -> str | None:
    try:
        return version("nst")
    except PackageNotFoundError:  # run from a checkout that isn't installed
        return None


def _git_commit() -> str | None:
    """The commit of the checkout that runs, with ``-dirty`` where files differ from it; None when installed."""
    top = paths.checkout()
    if top is None:
        return None
    command = ["git", "-C", str(top), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _quieten_lightning() -> None:
    """Lightning's remarks on devices and loaders don't apply: there is no data set."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
