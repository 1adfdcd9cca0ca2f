"""Does it pay to optimize something else than the pixels?

    python -m benchmarks.parametrizations [--size 192] [--evaluations 200] [OVERRIDE ...]

Each parametrization starts from the same picture under the same objective and has the same number of evaluations, by
L-BFGS and by Adam at six rates, of which the best counts. What is compared is the total of the picture that would be
saved, its best, rounded to 8 bits. `bounds` is what a run does: the pixels, by an optimizer that keeps to their range.
"""

import argparse
import itertools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional

from benchmarks.against_baseline import ours
from nst.image import output
from nst.optimizer import LBFGS, ProjectedLBFGS

RATES = (0.01, 0.03, 0.1, 1, 10, 100)

#: How colours go together in natural pictures: a square root of their covariance (Olah et al. 2017, Distill, "Feature
#: Visualization", as Lucid has it), divided by the largest column's norm.
COLORS = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.0, -0.05], [0.27, -0.09, 0.03]])
COLORS = COLORS / COLORS.norm(dim=0).max()

#: A tensor to optimize, and the picture (1, 3, H, W) that it stands for.
Parametrization = tuple[Tensor, Callable[[Tensor], Tensor]]


def logit(picture: Tensor) -> Tensor:
    return torch.logit(picture.clamp(1e-3, 1 - 1e-3))


def sigmoid_of_pixels(start: Tensor) -> Parametrization:
    return logit(start), torch.sigmoid


def fourier(start: Tensor) -> Parametrization:
    """Coefficients of decorrelated colours, each divided by its frequency."""
    height, width = start.shape[-2:]
    frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None])
    scale = 1 / frequency.clamp(min=1 / max(height, width)) / (height * width) ** 0.5
    channels = torch.linalg.solve(COLORS, logit(start)[0].flatten(1)).view_as(start)
    spectrum = torch.view_as_real(torch.fft.rfft2(channels, norm="ortho") / scale)

    def picture(values: Tensor) -> Tensor:
        plain = torch.fft.irfft2(torch.view_as_complex(values) * scale, s=(height, width), norm="ortho")
        return torch.sigmoid((COLORS @ plain[0].flatten(1)).view_as(start))

    return spectrum.contiguous(), picture


def laplacian_pyramid(start: Tensor, levels: int = 4) -> Parametrization:
    """The sum of pictures of halved sizes: the smallest, and what each next one adds."""
    shapes = [tuple(max(1, side >> level) for side in start.shape[-2:]) for level in range(levels)]

    def enlarge(small: Tensor, shape: Sequence[int]) -> Tensor:
        return functional.interpolate(small, size=tuple(shape), mode="bilinear")

    parts, rest = [], logit(start)
    for shape in shapes[1:]:
        small = functional.interpolate(rest, size=shape, mode="area")
        parts.append(rest - enlarge(small, rest.shape[-2:]))
        rest = small
    parts.append(rest)
    sizes = [part.numel() for part in parts]

    def picture(values: Tensor) -> Tensor:
        pieces = [piece.view(1, 3, *shape) for piece, shape in zip(values.split(sizes), shapes, strict=True)]
        built = pieces[-1]
        for piece in reversed(pieces[:-1]):
            built = piece + enlarge(built, piece.shape[-2:])
        return torch.sigmoid(built)

    return torch.cat([part.flatten() for part in parts]), picture


PARAMETRIZATIONS = {"sigmoid": sigmoid_of_pixels, "fourier": fourier, "laplacian pyramid": laplacian_pyramid}


def optimize(
    objective: Callable[[Tensor], Tensor], made: Parametrization, optimizer: torch.optim.Optimizer, evaluations: int
) -> tuple[float, Tensor]:
    """The total of the best picture, rounded, and the picture."""
    values, picture = made
    best, kept, count = float("inf"), picture(values).detach(), 0

    def closure() -> Tensor:
        nonlocal best, kept, count
        optimizer.zero_grad()
        shown = picture(values)
        total = objective(shown)
        total.backward()
        count += 1
        if total.item() < best:
            best, kept = total.item(), shown.detach().clone()
        return total

    while count < evaluations:
        optimizer.step(closure)
    rounded = (kept.clamp(0, 1) * 255).round() / 255
    return objective(rounded).item(), rounded


def compare(overrides: Sequence[str], folder: Path) -> dict[str, float]:
    """The totals by parametrization and optimizer; the pictures are left in the folder."""
    run = ours.make(["schedule=single", "logger=none", *overrides], folder)
    module = run.module
    evaluations = module.schedule.evaluations
    whole = module.make_objective(module.schedule.stages[-1], torch.device("cpu"))
    start = module.image.detach()

    def objective(picture: Tensor) -> Tensor:
        return whole(picture).total

    found = {}
    ways = {"bounds": lambda pixels: (pixels, lambda values: values), **PARAMETRIZATIONS}
    for name, make in ways.items():
        for rate in (None, *RATES):
            values, picture = make(start.clone())
            values.requires_grad_()
            if rate is not None:
                optimizer: torch.optim.Optimizer = torch.optim.Adam([values], lr=rate)
            else:
                optimizer = ProjectedLBFGS([values]) if name == "bounds" else LBFGS([values])
            if name == "bounds":
                picture = clamped
            key = f"{name}, {'L-BFGS' if rate is None else 'Adam'}"
            total, shown = optimize(objective, (values, picture), optimizer, evaluations)
            if total < found.get(key, float("inf")):
                found[key] = total
                output.save(shown, folder / f"{key}.png")
    return found


def clamped(values: Tensor) -> Tensor:
    """The pixels within their range, as a run clamps them in the closure."""
    with torch.no_grad():
        values.clamp_(0, 1)
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare parametrizations of the picture.")
    parser.add_argument("--size", type=int, default=192, help="longest side in px")
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--styles", nargs="+", default=["starry_night", "picasso", "scream"])
    parser.add_argument("--starts", nargs="+", default=["content_noise", "noise"])
    parser.add_argument("--out", type=Path, help="folder for the pictures")
    parser.add_argument("overrides", nargs="*", default=["encoder=slim"], metavar="OVERRIDE")
    options = parser.parse_args()
    table, rows = Table("start", "style"), []
    for start, style in itertools.product(options.starts, options.styles):
        words = [f"size={options.size}", f"evaluations={options.evaluations}", f"init={start}", f"style={style}"]
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) if options.out is None else options.out / f"{start}-{style}"
            folder.mkdir(parents=True, exist_ok=True)
            rows.append((start, style, compare([*words, *options.overrides], folder)))
    for key in rows[0][2]:
        table.add_column(key, justify="right")
    for start, style, found in rows:
        least = found["bounds, L-BFGS"]
        table.add_row(start, style, *(f"{total:.4g} ({total / least:.2f})" for total in found.values()))
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
