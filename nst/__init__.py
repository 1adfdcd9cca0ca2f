"""nst: a laboratory for neural style transfer (Gatys, Ecker and Bethge, arXiv:1508.06576)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nst.api import Result, stylize

__all__ = ["Result", "stylize"]


def __getattr__(name: str) -> Any:
    """Import an attribute from ``nst.api`` on first use, because the import takes a second."""
    if name not in __all__:
        raise AttributeError(f"module 'nst' has no attribute {name!r}")
    from nst import api

    return getattr(api, name)
