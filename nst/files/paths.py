"""Paths of configurations, caches and bundled assets. No other module determines them."""

import os
import re
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def of_user(text: str) -> Path:
    """Return the path that a user's text stands for: ``~`` is the home folder, if there is one."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # no home folder, or a file whose name begins with ~
        return Path(text)


def configs() -> Path:
    """Return the folder of the YAML files: inside the package if installed from a wheel, next to it in a checkout."""
    inside = PACKAGE / "configs"
    return inside if inside.is_dir() else PACKAGE.parent / "configs"


def package(path: Path, group: str) -> str:
    """Return the node that an option's file sets, as Hydra has it: what its header declares, or that of its group.

    The node of the whole configuration is empty.
    """
    with path.open(encoding="utf-8") as file:
        declared = re.match(r"#\s*@package\s+(\S+)", file.readline())
    return (group.replace("/", ".") if declared is None else declared[1]).replace("_global_", "")


def bundled(kind: str, name: str) -> Path:
    """Return the bundled stand-in for the picture ``name`` of the group ``kind`` (``content`` or ``style``)."""
    return PACKAGE / "assets" / kind / f"{name}.jpg"


def bundled_pictures(kind: str) -> list[Path]:
    """Return all bundled pictures of the group ``kind``."""
    return sorted((PACKAGE / "assets" / kind).glob("*.jpg"))


def bundled_encoder() -> Path:
    """Return the file of the bundled slim encoder's weights, trained by ``experiments.slim_encoder.pretrain``."""
    return PACKAGE / "assets" / "encoder" / "slim.safetensors"


def picture_cache(kind: str) -> Path:
    """Return the cache folder of downloaded pictures; the environment variable ``NST_CACHE`` changes its location."""
    import pooch  # a slow import

    return Path(os.environ.get("NST_CACHE") or pooch.os_cache("nst")) / kind


def weights_cache() -> Path:
    """Return the folder where torchvision also caches its checkpoints, so that no file is downloaded twice."""
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch"
    return of_user(str(home)) / "hub" / "checkpoints"


def checkout() -> Path | None:
    """Return the git checkout that this package runs from, or None if it is installed."""
    top = PACKAGE.parent
    return top if (top / ".git").exists() and (top / "configs").is_dir() else None
