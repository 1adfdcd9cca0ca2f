"""Pictures of features and of Gram matrices, which need no run."""

import torch
from PIL import Image
from torch import Tensor, nn

from nst import image
from nst.compare.sheet.tiles import Tile
from nst.encoder import oxford
from nst.encoder import weights as reading
from nst.encoder.vgg import VGG
from nst.files import paths
from nst.objective.functional import gram_per_element, mean_squared_difference

#: Layers whose channels are shown, and how many of them.
SEEN = ("relu1_1", "relu2_1", "relu3_1", "relu4_2")
CHANNELS = 5
#: Longest side of the pictures, and side of the blocks that are shuffled, in px.
SIZE, BLOCK = 256, 32


def encoder(layers: tuple[str, ...]) -> VGG:
    """Return Oxford's VGG-19 with calibrated layers and average pooling, as ``encoder=vgg19_caffe`` has it."""
    found = oxford.find()
    assert found is not None
    assert found.path is not None
    state = reading.load_state(found.path, oxford.ARCHITECTURE)
    state = reading.calibrate(state, oxford.ARCHITECTURE, oxford.MEANS)
    return VGG(
        architecture=oxford.ARCHITECTURE,
        layers=layers,
        pooling=lambda: nn.AvgPool2d(2),
        state=state,
        convention="caffe",
    )


def bundled(kind: str, name: str) -> Tensor:
    """Return a bundled picture at SIZE px, its sides multiples of BLOCK."""
    picture = image.load(paths.bundled(kind, name), key=kind)
    height, width = (side // BLOCK * BLOCK for side in image.fit(*picture.shape[-2:], SIZE))
    return image.resize(picture, (height, width))


def grey(values: Tensor, size: tuple[int, int]) -> Image.Image:
    """Return a matrix as a picture of ``size`` (width, height), white where it is largest."""
    scaled = (values / values.flatten().quantile(0.995).clamp(min=1e-9)).clamp(0, 1)
    return Image.fromarray((255 * scaled).round().byte().numpy()).convert("RGB").resize(size, Image.Resampling.NEAREST)


def colored(picture: Tensor) -> Image.Image:
    """Return an image tensor as a picture."""
    return Image.fromarray(image.to_bytes(picture).permute(1, 2, 0).numpy())


@torch.no_grad()
def seen() -> list[list[Tile | None]]:
    """Return rows of the channels that vary most over the content, for each of the layers SEEN."""
    content = bundled("content", "tubingen")
    shown = colored(content)
    rows: list[list[Tile | None]] = []
    for layer, features in encoder(SEEN)(content).items():
        channels = features[0].flatten(1).var(1).topk(CHANNELS).indices.tolist()
        height, width = features.shape[-2:]
        row = [
            Tile(grey(features[0, channel], shown.size), "", [(f"channel {channel}", "plain")]) for channel in channels
        ]
        label = Tile(
            None,
            "",
            [(layer, "plain"), (f"{features.shape[1]} channels", "faint"), (f"{width} x {height}", "faint")],
            is_label=True,
        )
        rows.append([label, *row])
    return rows


@torch.no_grad()
def shuffled() -> list[list[Tile | None]]:
    """Return a picture, the same with its blocks shuffled, and another one, above their Gram matrices of relu1_1."""
    style = bundled("style", "starry_night")
    pictures = {"starry_night": style, "its blocks, shuffled": shuffle(style), "scream": bundled("style", "scream")}
    layers = ("relu1_1", "relu4_1")
    network = encoder(layers)
    grams = {name: {key: gram_per_element(each) for key, each in network(it).items()} for name, it in pictures.items()}
    target = grams["starry_night"]
    top, bottom = [], []
    for name, found in grams.items():
        top.append(Tile(colored(pictures[name]), "", [(name, "plain")]))
        lines = [(f"distance at {key}: {share(found[key], target[key]):.1%}", "plain") for key in layers]
        bottom.append(Tile(grey(found["relu1_1"].sqrt(), (192, 192)), "", lines))
    return [top, bottom]


def share(found: Tensor, target: Tensor) -> float:
    """Return the distance of two Gram matrices, as a fraction of that of the second from zero."""
    return float(mean_squared_difference(found, target) / target.square().mean())


def shuffle(picture: Tensor) -> Tensor:
    """Return the picture with its blocks of BLOCK px in another order."""
    _, channels, height, width = picture.shape
    rows, columns = height // BLOCK, width // BLOCK
    blocks = picture.view(channels, rows, BLOCK, columns, BLOCK).permute(1, 3, 0, 2, 4).flatten(0, 1)
    order = torch.randperm(len(blocks), generator=torch.Generator().manual_seed(0))
    mixed = blocks[order].view(rows, columns, channels, BLOCK, BLOCK).permute(2, 0, 3, 1, 4)
    return mixed.reshape(1, channels, height, width)
