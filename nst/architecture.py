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
    """Whether each convolution has a batch normalization after it, before its ReLU."""
    return architecture.endswith("_bn")


def known() -> list[str]:
    """Every architecture: those above, and torchvision's own."""
    from nst import graph  # imports torchvision, which a VGG need not wait for

    return [*BLOCKS, *(name for name in graph.names() if name not in BLOCKS)]


def layer_names(architecture: str) -> list[str]:
    """Every layer that can be asked for, in the order of computation: conv1_1 (before the ReLU), relu1_1, …"""
    if architecture not in BLOCKS:
        from nst import graph

        return graph.layer_names(architecture)
    return [
        f"{kind}{block}_{index}"
        for block, channels in enumerate(BLOCKS[architecture], 1)
        for index in range(1, len(channels) + 1)
        for kind in ("conv", "relu")
    ]


def deepest(architecture: str, layers: Sequence[str]) -> str:
    """Of ``layers``, the one that is computed last."""
    return max(layers, key=layer_names(architecture).index)


def smallest_side(layers: Sequence[str], *, kernel: int = 2, stride: int = 2, left: int = 1) -> int:
    """The smallest side in px that the poolings before the deepest of ``layers`` leave at least ``left`` px of."""
    side = left
    for _ in range(max(int(layer[4]) for layer in layers) - 1):
        side = (side - 1) * stride + kernel
    return side


def convolution_indices(architecture: str) -> dict[str, int]:
    """The index of each convolution in torchvision's ``features``: conv1_1 → 0, conv1_2 → 2, conv2_1 → 5, …"""
    indices, position = {}, 0
    apart = 3 if has_batch_norm(architecture) else 2  # a ReLU follows each convolution
    for block, channels in enumerate(BLOCKS[architecture], 1):
        for index in range(1, len(channels) + 1):
            indices[f"conv{block}_{index}"] = position
            position += apart
        position += 1  # and a pooling each block
    return indices
