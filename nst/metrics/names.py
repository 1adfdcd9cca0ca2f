"""Names of the measures and of the networks that measure. Imports no torch, so that configurations are checked fast."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, get_args

#: Longest side in px at which pictures are measured.
SIDE = 512

#: Version of the measures. It changes whenever the same picture would get another value.
VERSION = 1

#: The networks that measure: the paper's, the small one that is bundled, and that of LPIPS.
ObserverName = Literal["oxford_vgg19", "slim", "alexnet"]
OBSERVERS: tuple[ObserverName, ...] = get_args(ObserverName)

#: Layers of style measures, and the layer of ``feature_structure``.
STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
STRUCTURE_LAYER = "relu3_1"

#: Name under which the measures that need no network are kept.
PIXELS = f"{SIDE}px-v{VERSION}"

MeasureName = Literal[
    "cfsd", "lpips", "ssim", "edge_ssim", "gram", "frechet", "sliced_wasserstein", "palette", "color_histogram",
    "grain", "clipped",
]  # fmt: skip


#: The measures to report (experiments/metrics): of the style, of the content by two different ways, and of grain.
REPORTED: tuple[MeasureName, ...] = ("frechet", "ssim", "cfsd", "grain")


class Measure(NamedTuple):
    """What a measure says of a picture.

    Attributes:
        of: what the picture is compared with.
        by: what reads the pictures: no network, one of those whose layers are named, or AlexNet.
        meaning: what is measured, in words that are followed by the name of what measures it.
        higher_is_better: whether equal pictures have the value 1, not 0.
    """

    of: Literal["content", "style", "picture"]
    by: Literal["pixels", "features", "alexnet"]
    meaning: str
    higher_is_better: bool = False


MEASURES: dict[MeasureName, Measure] = {
    "cfsd": Measure("content", "features", "distance from the content: which places are similar to each other"),
    "lpips": Measure("content", "alexnet", "distance from the content, as people perceive it"),
    "ssim": Measure(
        "content", "pixels", "similarity to the content: structure of the luminance", higher_is_better=True
    ),
    "edge_ssim": Measure(
        "content", "pixels", "similarity to the content: structure of the edges", higher_is_better=True
    ),
    "gram": Measure("style", "features", "distance from the style: Gram matrices, mean of the layers"),
    "frechet": Measure(
        "style", "features", "distance from the style: Fréchet distance of the features, mean of the layers"
    ),
    "sliced_wasserstein": Measure(
        "style", "features", "distance from the style: sliced Wasserstein distance of the features, mean of the layers"
    ),
    "palette": Measure("style", "pixels", "distance from the style: colours, by sliced Wasserstein distance"),
    "color_histogram": Measure("style", "pixels", "distance from the style: histograms of the colours"),
    "grain": Measure("style", "pixels", "grain where the content is flat, relative to the grain of the style"),
    "clipped": Measure("picture", "pixels", "share of values at 0 or 1, which have lost their detail"),
}


def measured_by(observer: str) -> list[MeasureName]:
    """Return the measures by an observer, and those without a network."""
    kind = "alexnet" if observer == "alexnet" else "features"
    return [name for name, measure in MEASURES.items() if measure.by in (kind, "pixels")]


def full_name(observer: str) -> str:
    """Return the name of an observer with its size and version, which is part of the name of each of its measures."""
    return f"{observer}-{PIXELS}"


def higher_is_better(key: str) -> bool:
    """Return whether higher values of a result, a loss or a measure, are better. Its observer may precede a measure."""
    measure = MEASURES.get(key.rpartition("/")[2])  # type: ignore[call-overload]
    return measure is not None and measure.higher_is_better


def directions(names: Iterable[str]) -> str:
    """Return which values of results are better, as text: ``lower is better: cfsd; higher is better: ssim``."""
    sides: dict[str, list[str]] = {"lower": [], "higher": []}
    for name in names:
        sides["higher" if higher_is_better(name) else "lower"].append(name)
    return "; ".join(f"{side} is better: {', '.join(held)}" for side, held in sides.items() if held)


def named(metrics: Mapping[str, Any], observer: str) -> dict[str, float]:
    """Return the known values of an observer, and of the measures without a network, by measure.

    Args:
        metrics: the content of ``RunFolder.read_metrics``.
        observer: one of ``OBSERVERS``.
    """
    values = {**metrics.get(PIXELS, {}).get("values", {}), **metrics.get(full_name(observer), {}).get("values", {})}
    return {name: values[name] for name in MEASURES if values.get(name) is not None}


def has_one_style(style: Mapping[str, Any]) -> bool:
    """Return whether all of the picture has the same single style, which it can be measured against.

    ``style`` is the group of a resolved configuration.
    """
    return not style.get("more") and not style.get("region") and not style.get("mask")
