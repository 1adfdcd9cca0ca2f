"""nst: a laboratory for neural style transfer (Gatys, Ecker and Bethge, arXiv:1508.06576)."""

import os
import sys
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from nst.errors import DivergedError, UserError, say_what_is_missing

if TYPE_CHECKING:
    from nst.api import Result, stylize

    __version__: str

__all__ = ["DivergedError", "Result", "UserError", "__version__", "stylize"]

#: How often a thread of torch asks for its next work before it sleeps. GNU's OpenMP would ask 300,000 times, and take
#: the processor from other runs on the same cores (docs/benchmarks.md). torch reads it when it is imported.
SPIN = "3000"
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = SPIN

# For nst's own commands only: while `python -m nst.train` looks for its module, the program's name is -m.
if PurePath(sys.argv[0] if sys.argv else "").stem in ("-m", "nst"):
    sys.excepthook = say_what_is_missing


def __getattr__(name: str) -> Any:
    """Import an attribute from ``nst.api`` on first use, because the import takes a second."""
    if name == "__version__":
        return _version()
    if name not in __all__:
        raise AttributeError(f"module 'nst' has no attribute {name!r}")
    from nst import api

    return getattr(api, name)


def _version() -> str:
    """Return the version of the installed package, which ``pyproject.toml`` sets."""
    from importlib import metadata  # a slow import

    try:
        return metadata.version("nst")
    except metadata.PackageNotFoundError:  # run from a checkout that isn't installed
        return "unknown"
