"""The shapes of the VGG networks and the names of their layers (Simonyan and Zisserman, arXiv:1409.1556)."""

from collections.abc import Sequence

#: Output channels of each convolution, block by block; a pooling follows each block.
BLOCKS: dict[str, tuple[tuple[int, ...], ...]] = {
    "vgg16": ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3),
    "vgg19": ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4),
    "slim": ((24, 16), (32, 48), (128, 48, 48, 64), (128, 192, 64, 96), (80, 48, 48, 48)),
}
BLOCKS |= {f"{name}_bn": BLOCKS[name] for name in ("vgg16", "vgg19")}


def has_batch_norm(architecture: str) -> bool:
    """Return whether a batch normalization follows each convolution, before its ReLU."""
    return architecture.endswith("_bn")


def known() -> list[str]:
    """Return the names of all architectures: the keys of ``BLOCKS`` and torchvision's models."""
    from nst.encoder import torchvision_models  # deferred: a VGG should not wait for this import

    return [*BLOCKS, *(name for name in torchvision_models.names() if name not in BLOCKS)]


def layer_names(architecture: str) -> list[str]:
    """Return the names of all layers, in order of computation: conv1_1 (before the ReLU), relu1_1, …"""
    if architecture not in BLOCKS:
        from nst.encoder import torchvision_models

        return torchvision_models.layer_names(architecture)
    return [
        f"{kind}{block}_{index}"
        for block, channels in enumerate(BLOCKS[architecture], 1)
        for index in range(1, len(channels) + 1)
        for kind in ("conv", "relu")
    ]


def deepest(architecture: str, layers: Sequence[str]) -> str:
    """Return the layer of ``layers`` that is computed last."""
    return max(layers, key=layer_names(architecture).index)


def convolution_indices(architecture: str) -> dict[str, int]:
    """Return the index of each convolution in torchvision's ``features``: conv1_1 → 0, conv1_2 → 2, conv2_1 → 5, …"""
    indices, position = {}, 0
    apart = 3 if has_batch_norm(architecture) else 2  # a ReLU follows each convolution
    for block, channels in enumerate(BLOCKS[architecture], 1):
        for index in range(1, len(channels) + 1):
            indices[f"conv{block}_{index}"] = position
            position += apart
        position += 1  # a pooling follows each block
    return indices


def weight_shapes(architecture: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all weights and biases of a VGG by their names in torchvision's layout."""
    shapes: dict[str, tuple[int, ...]] = {}
    inputs = 3
    indices = iter(convolution_indices(architecture).values())
    for channels in (channels for block in BLOCKS[architecture] for channels in block):
        prefix = f"features.{next(indices)}"
        shapes[f"{prefix}.weight"] = (channels, inputs, 3, 3)
        shapes[f"{prefix}.bias"] = (channels,)
        inputs = channels
    return shapes
