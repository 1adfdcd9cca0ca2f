"""Where configurations, caches and bundled assets live; nothing else in the project asks."""

import os
from pathlib import Path

import pooch

PACKAGE = Path(__file__).resolve().parent


def of_user(text: str) -> Path:
    """The path that a user's words mean: ``~`` is the home folder."""
    return Path(text).expanduser()


def configs() -> Path:
    """The folder of the YAML files: inside the package when installed from a wheel, beside it in a checkout."""
    inside = PACKAGE / "configs"
    return inside if inside.is_dir() else PACKAGE.parent / "configs"


def bundled(kind: str, name: str) -> Path:
    """The bundled stand-in for the picture ``name`` of the group ``kind`` (``content`` or ``style``)."""
    return PACKAGE / "assets" / kind / f"{name}.jpg"


def bundled_pictures(kind: str) -> list[Path]:
    """All bundled pictures of the group ``kind``."""
    return sorted((PACKAGE / "assets" / kind).glob("*.jpg"))


def bundled_encoder() -> Path:
    """The weights of the bundled slim encoder, which ``nst.pretrain`` trained."""
    return PACKAGE / "assets" / "encoder" / "slim.safetensors"


def picture_cache(kind: str) -> Path:
    """Where downloaded pictures are kept; ``NST_CACHE`` moves it."""
    return Path(os.environ.get("NST_CACHE") or pooch.os_cache("nst")) / kind


def weights_cache() -> Path:
    """Where torchvision, too, keeps its checkpoints, so that neither downloads what the other has."""
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch"
    return Path(home).expanduser() / "hub" / "checkpoints"


def checkout() -> Path | None:
    """The git checkout this package runs from, or None when it is installed."""
    top = PACKAGE.parent
    return top if (top / ".git").exists() and (top / "configs").is_dir() else None
