"""Pictures: reading from files (``reading``, ``decoding``, ``tiff``) and from memory (``given``), their samples
(``samples``, ``spaces``), image tensors (``picture``), colours (``color``), and writing (``output``, ``film``).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nst.image.picture import Shape, detail, fit, load, load_mask, place, placed_shape, resize, to_bytes
    from nst.image.reading import FORMATS, MAX_PIXELS, frames, opened, pixels, read, read_mask, upright_srgb

__all__ = [
    "FORMATS", "MAX_PIXELS", "Shape", "detail", "fit", "frames", "load", "load_mask", "opened", "pixels", "place",
    "placed_shape", "read", "read_mask", "resize", "to_bytes", "upright_srgb",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import torch only for what needs it, as a mistake is told without it."""
    if name not in __all__:
        raise AttributeError(f"module 'nst.image' has no attribute {name!r}")
    from nst.image import reading

    if hasattr(reading, name):
        return getattr(reading, name)
    from nst.image import picture

    return getattr(picture, name)
