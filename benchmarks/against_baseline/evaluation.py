"""Seconds of one evaluation, the baseline's and ours by turns in one process."""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.against_baseline import ours, pictures, theirs
from benchmarks.against_baseline.clock import seconds
from benchmarks.against_baseline.results import Results, described, place
from nst.encoder import architecture as arch

DTYPES = {"64": torch.float64, "32": torch.float32, "16": torch.float16, "bf16": torch.bfloat16}


def add_options(parser: argparse.ArgumentParser) -> None:
    """What this part can be told."""
    parser.add_argument("--sizes", nargs="+", type=pictures.shape, default=[(256, 256), (512, 512)],
                        metavar="SIZE", help="size of the picture in px: 512 (a square) or HEIGHTxWIDTH")  # fmt: skip
    parser.add_argument("--pairs", type=int, default=10, help="number of evaluations of nst, and of the baseline")
    parser.add_argument("--precision", nargs="+", default=[], choices=list(DTYPES),
                        help="precision of nst (default: the configuration's); the baseline has 32")  # fmt: skip


def measure(options: argparse.Namespace, results: Results) -> None:
    """Every size at every precision."""
    given = [*ours.random_filters(*pictures.BUNDLED, options.device), *options.overrides]
    asked = [[f"precision={precision}"] for precision in options.precision] or [[]]
    precisions = [str(ours.settle([*given, *each]).precision) for each in asked]
    rates: dict[str, float] = {}
    for pixels in options.sizes:
        for precision in precisions:
            key = {"size": pictures.named(pixels), "precision": precision, "overrides": options.overrides}
            key |= place(options.device)
            if results.done("evaluation", key):
                continue
            for each in ("32", precision):
                if each not in rates:
                    rates[each] = product_rate(DTYPES[each], options.device)
            overrides = [*options.overrides, f"precision={precision}"]
            values = _measure(pixels, overrides, options.pairs, options.device)
            values |= {"baseline_peak": rates["32"], "our_peak": rates[precision]}
            results.keep("evaluation", key, values)
            _say(key, values)


def _measure(pixels: pictures.Shape, overrides: list[str], pairs: int, device: torch.device) -> dict[str, Any]:
    cfg = ours.compose(["encoder=vgg19", *overrides])
    layers = list(cfg.layers.content), list(cfg.layers.style)
    with tempfile.TemporaryDirectory() as folder:
        sides = {
            "baseline": theirs.evaluation(pixels, *layers, device),
            "ours": ours.evaluation(ours.ready(pixels, overrides, device, Path(folder))),
        }
        times = by_turns(sides, pairs, device)
    named = [*layers[0], *layers[1]]
    return {
        **{side: [pair[side] for pair in times] for side in sides},
        "baseline_flops": convolution_flops("vgg19", named, pixels),
        "our_flops": convolution_flops(cfg.encoder.architecture, named, pixels),
    }


def by_turns(sides: dict[str, Callable[[], object]], pairs: int, device: torch.device) -> list[dict[str, float]]:
    """Seconds of each side in each pair, after two evaluations that don't count; who is first alternates."""
    for evaluate in (*sides.values(), *sides.values()):
        evaluate()
    orders = [list(sides.items()), list(reversed(sides.items()))]
    return [{side: seconds(evaluate, device) for side, evaluate in orders[pair % 2]} for pair in range(pairs)]


def convolution_flops(architecture: str, layers: list[str], pixels: pictures.Shape) -> int:
    """Operations of the convolutions in one evaluation: forward, and as many backward to the pixels.

    A multiplication and an addition are two. The weights are frozen, so nothing is computed for them.
    """
    names = [name for name in arch.layer_names(architecture) if name.startswith("conv")]
    last = names.index(arch.deepest(architecture, layers).replace("relu", "conv"))
    (height, width), inputs, flops, block = pixels, 3, 0, 1
    channels = [channels for each in arch.BLOCKS[architecture] for channels in each]
    for name, outputs in list(zip(names, channels, strict=True))[: last + 1]:
        if int(name[4]) > block:
            height, width, block = height // 2, width // 2, block + 1
        flops += 2 * 9 * inputs * outputs * height * width
        inputs = outputs
    return 2 * flops


def product_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Operations a second of a large matrix product: what the device can do at this precision.

    On CUDA, float32 as the convolutions have it, which by torch's default is TF32.
    """
    size = 8192 if device.type == "cuda" else 1024  # 16 bits are slow on processors that aren't built for them
    matrix = torch.rand(size, size, device=device).to(dtype)
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision
    try:
        times = [seconds(lambda: torch.mm(matrix, matrix), device) for _ in range(5)]
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
    return 2 * size**3 / statistics.median(times[1:])


def summary(values: dict[str, Any]) -> dict[str, float]:
    """Medians, the pairs' ratios, and the shares of the device's rate, of a record's values."""
    ratios = sorted(baseline / our for baseline, our in zip(values["baseline"], values["ours"], strict=True))
    baseline, our = statistics.median(values["baseline"]), statistics.median(values["ours"])
    return {
        "baseline": baseline,
        "ours": our,
        "ratio": statistics.median(ratios),
        "least": ratios[0],
        "most": ratios[-1],
        "baseline_share": values["baseline_flops"] / baseline / values["baseline_peak"],
        "our_share": values["our_flops"] / our / values["our_peak"],
    }


def _say(key: dict[str, Any], values: dict[str, Any]) -> None:
    found = summary(values)
    print(
        f"{key['size']} {described(key)}: an evaluation takes the baseline "
        f"{found['baseline']:.4g} s, ours {found['ours']:.4g} s; ours is {found['ratio']:.2f} times as fast (median of "
        f"{len(values['ours'])} pairs; {found['least']:.2f} to {found['most']:.2f})",
        flush=True,
    )
