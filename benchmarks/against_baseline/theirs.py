"""The baseline's side."""

from collections.abc import Callable, Sequence

import torch

from benchmarks import baseline
from benchmarks.against_baseline import pictures
from nst.encoder import weights as encoder


def evaluation(
    pixels: pictures.Shape, content_layers: Sequence[str], style_layers: Sequence[str], device: torch.device
) -> Callable[[], None]:
    """One evaluation at a shape, on the bundled pictures with random filters: forward and backward to the pixels."""
    content, style = (picture.to(device) for picture in pictures.bundled(pixels))
    recipe = baseline.Recipe(encoder.random_state("vgg19", 0), content, style, content_layers, style_layers)
    leaf = pictures.anything(pixels).to(device).requires_grad_()

    def evaluate() -> None:
        leaf.grad = None
        recipe(leaf).backward()

    return evaluate
