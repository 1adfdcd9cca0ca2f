"""The pictures of a run as image tensors; each file is decoded once."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from nst import image
from nst.config.schema import Config, StylePicture
from nst.errors import UserError, attempt, problem
from nst.image import Shape, color
from nst.plan import memory
from nst.plan.inputs import Inputs, is_mask, key_of


@dataclass(frozen=True)
class Pictures:
    """The pictures of a run, resized to match the finished picture.

    Attributes:
        shape: the height and width in px of the finished picture.
        tensors: the content image, the style images and masks by name; image tensors (1, 3, H, W), masks (1, 1, H, W).
        in_color: the content image with its colours, even if ``tensors`` has only its luminance.
        sizes: the height and width in px of each picture in its file.
        warnings: what the user should know about the files.
    """

    shape: Shape
    tensors: Mapping[str, Tensor]
    in_color: Tensor
    sizes: Mapping[str, Shape]
    warnings: Sequence[str] = ()

    def finish(self, painted: Tensor, config: Config) -> Tensor:
        """Return the picture to save, with colours of the content if ``config.color`` requires them."""
        kept = color.FINISHES.get(config.color)
        if kept is None and config.color != "chroma":
            return painted
        content = image.resize(self.in_color, (painted.shape[-2], painted.shape[-1]))
        if kept is not None:
            return kept(content, painted)
        masks = {
            name: {part: self.tensors.get(f"{name}.{part}") for part in ("mask", "region")} for name in config.styles
        }
        styles = [
            color.Palette(self.tensors[name], weight=style.weight, **masks[name])
            for name, style in config.styles.items()
            if style.weight
        ]
        return color.with_chroma(content, painted, styles)


@dataclass
class _Reader:
    """A reader that decodes the files of a run and collects their problems in ``lines``, and ``warnings``."""

    config: Config
    files: Inputs
    dtype: torch.dtype
    sizes: dict[str, Shape] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def __call__(self, name: str) -> Tensor | None:
        """Return a picture or a mask at its own size; None if it can't be read."""
        read = image.load_mask if is_mask(name) else image.load
        path = self.files.shown.get(name, self.files.path(name))
        loaded = attempt(self.lines, partial(read, path, key=key_of(name), max_pixels=self.config.max_pixels))
        if loaded is None:
            return None
        self.sizes[name] = (loaded.shape[-2], loaded.shape[-1])
        return loaded.to(self.dtype)

    def mask(self, name: str, of: str) -> Tensor | None:
        """Return a mask; None if it can't be read, or if its aspect ratio isn't that of its picture within a pixel."""
        mask = self(name)
        if mask is None or of not in self.sizes:
            return mask
        (height, width), whole = self.sizes[name], self.sizes[of]
        if abs(width * whole[0] - height * whole[1]) > max(*whole, width, height):
            why = f"the mask has {width} x {height} px, its picture ({of}) has {whole[1]} x {whole[0]} px"
            why = f"{why}; they must have the same aspect ratio"
            self.lines.append(problem(name, self.files.shown[name], why))
            return None
        if mask.min() == 1:
            why = "this mask is white everywhere, so it selects the whole picture"
            self.warnings.append(problem(name, self.files.shown[name], why))
        return mask


def load(config: Config, files: Inputs, *, needed: int, deepest: str, dtype: torch.dtype) -> Pictures:
    """Read the pictures of a run and resize them.

    ``needed`` is the smallest side in px for which the layer ``deepest`` has a position.

    Raise UserError for every picture that can't be read or used.
    """
    read = _Reader(config, files, dtype)
    content = read("content")
    shape = image.fit(*read.sizes["content"], config.size) if content is not None else None
    if shape is not None and min(shape) < needed:
        why = f"the picture would be {shape[1]} x {shape[0]} px, but {deepest} needs at least {needed} px on each side"
        read.lines.append(problem("size", config.size, f"{why}; choose a larger size or shallower layers"))
    if shape is not None:
        _check_room(shape, config, dtype)
    in_color = image.resize(content, shape) if content is not None and shape is not None else None
    del content
    tensors: dict[str, Tensor] = {} if in_color is None else {"content": in_color}
    for key, style in config.styles.items():
        tensors |= _style(read, key, style, shape, in_color)
    if read.lines or shape is None or in_color is None:
        raise UserError(read.lines)
    if config.color == "luminance":
        tensors = {name: color.luminance(each) if each.shape[1] == 3 else each for name, each in tensors.items()}
    return Pictures(shape, tensors, in_color, read.sizes, read.warnings)


def _check_room(shape: Shape, config: Config, dtype: torch.dtype) -> None:
    """Raise UserError if the content and the style alone are larger than the free memory, at the picture's size."""
    taken, free = 2 * 3 * math.prod(shape) * dtype.itemsize, memory.room(torch.device("cpu"), "auto", 1)
    if taken > free:
        why = (
            f"the picture would be {shape[1]} x {shape[0]} px; content and style alone need {taken / 1e9:.2f} GB, but "
            f"only {free / 1e9:.2f} GB are free; choose a smaller size"
        )
        raise UserError(problem("size", config.size, why))


def _style(
    read: _Reader, key: str, style: StylePicture, shape: Shape | None, content: Tensor | None
) -> dict[str, Tensor]:
    """Return a style's image tensor and its masks, by name."""
    found: dict[str, Tensor] = {}
    picture = read(key)
    if picture is not None and shape is not None and content is not None:
        found[key] = image.place(picture, shape, fit=style.fit, scale=style.scale)
        if read.config.color == "match":
            found[key] = color.matched(found[key], content)
    if style.mask is not None:
        mask = read.mask(f"{key}.mask", key)
        if mask is not None and shape is not None:
            found[f"{key}.mask"] = image.place(mask, shape, fit=style.fit, scale=style.scale)
            if style.fit == "crop" and not found[f"{key}.mask"].any():
                why = "fit=crop cuts away everything that the mask selects; choose another fit, or mark the middle"
                read.lines.append(problem(f"{key}.mask", style.mask, why))
    if style.region is not None:
        mask = read.mask(f"{key}.region", "content")
        if mask is not None and shape is not None:
            found[f"{key}.region"] = image.resize(mask, shape)
    return found
