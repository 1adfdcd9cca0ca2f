"""Schedules: the sizes at which a picture is optimized, the evaluations for each, and the steps between sizes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, Literal

from torch import Tensor
from torch.nn import functional

from nst import image as images
from nst.errors import UserError, problem
from nst.image import Shape


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The part of a run at one size.

    Attributes:
        shape: height and width in px.
        end: number of evaluations of the run, including those of earlier stages, after which the stage ends at the
            latest. So evaluations that an earlier stage doesn't use are left for the next one.
        content, style, tv: factors of the weights of these names.
        lr: factor of the optimizer's learning rate.
        terms: factors of the weights of style terms, by name; 1 for a term that isn't named.
        only: names of the style terms that count; None for all.
    """

    shape: Shape
    end: int
    content: float = 1.0
    style: float = 1.0
    tv: float = 1.0
    lr: float = 1.0
    terms: Mapping[str, float] = field(default_factory=dict)
    only: Sequence[str] | None = None


def upsample(picture: Tensor, content: Tensor) -> Tensor:
    """Return the picture (1, 3, h, w) at the size of the content image (1, 3, H, W), by bicubic interpolation."""
    return images.resize(picture, _shape(content))


def upsample_bilinear(picture: Tensor, content: Tensor) -> Tensor:
    """Return the picture (1, 3, h, w) at the size of the content image (1, 3, H, W), without anything sharper."""
    return functional.interpolate(picture, size=list(_shape(content)), mode="bilinear")


def content_detail(picture: Tensor, content: Tensor) -> Tensor:
    """Return the picture (1, 3, h, w) at the size of the content image (1, 3, H, W), with the content's detail added.

    The detail is what the content image loses at h × w: the difference from its own reduced and enlarged copy, a band
    of its Laplacian pyramid (Burt and Adelson 1983, IEEE Trans. Commun. 31).
    """
    shape = _shape(content)
    coarse = images.resize(images.resize(content, _shape(picture)), shape)
    return (images.resize(picture, shape) + content - coarse).clamp(0, 1)


def finest_detail(picture: Tensor, content: Tensor) -> Tensor:
    """Return ``upsample_bilinear`` with the finest detail of the content image added."""
    return (upsample_bilinear(picture, content) + images.detail(content)).clamp(0, 1)


#: How a picture is enlarged, by the values of ``schedule.carry``: for the scales before the last, and for the last.
CARRIES: Mapping[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "upsample": (upsample, upsample),
    "upsample_bilinear": (upsample_bilinear, upsample_bilinear),
    "content_detail": (content_detail, content_detail),
    "finest_detail_before_last": (finest_detail, upsample_bilinear),
}

#: Factors of each of a number of stages, by the name of their rule.
RULES: Mapping[str, Callable[[int], list[float]]] = {
    "halving": lambda count: [0.5**number for number in range(count)],
    "doubling": lambda count: [2.0**number for number in range(count)],
    "half_at_last": lambda count: [*[1.0] * (count - 1), 0.5],
}

#: Shares of each of a number of stages in the evaluations, by the name of their rule.
SHARES: Mapping[str, Callable[[int], list[float]]] = {
    "doubling": RULES["doubling"],
    "equal": lambda count: [1.0] * count,
    "half_for_the_last": lambda count: [*[1.0] * (count - 1), max(1.0, count - 1)],
}


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The stages of a run, in order.

    Attributes:
        stages: at least one; the last has the size of the result.
        carries: two functions that return the start of a stage, from the best picture of the stage before and the
            content image at the stage's size; the second is for stages of the final size.
        patience: a stage also ends if the total has not improved within this number of evaluations; None for no limit.
        min_improvement: fraction of the total that counts as an improvement.
    """

    stages: Sequence[Stage]
    carries: tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]] = (upsample, upsample)
    patience: int | None = None
    min_improvement: float = 0.0

    @property
    def evaluations(self) -> int:
        """The budget of all stages."""
        return self.stages[-1].end

    @property
    def scales(self) -> list[tuple[int, int, int]]:
        """Width, height and end of each stage."""
        return [(stage.shape[1], stage.shape[0], stage.end) for stage in self.stages]

    def carry(self, picture: Tensor, content: Tensor) -> Tensor:
        """Return the start of the stage that has the size of the content image, from the picture of the one before."""
        before, last = self.carries
        return (last if _shape(content) == self.stages[-1].shape else before)(picture, content)


def single(shape: Shape, evaluations: int, *, patience: int | None = None, min_improvement: float = 0.0) -> Schedule:
    """Return a schedule with a single stage at the final size."""
    stages = [Stage(shape=shape, end=evaluations)]
    return Schedule(stages=stages, patience=patience, min_improvement=min_improvement)


def pyramid(
    shape: Shape,
    evaluations: int,
    *,
    scales: int | None,
    smallest: int | None,
    ratio: float,
    sizes: Sequence[int] | None,
    shares: Sequence[float] | Literal["doubling", "equal"] | None,
    factors: Mapping[str, Any],
    carry: str,
    patience: int | None,
    min_improvement: float,
    finish: Sequence[str] | None = None,
) -> Schedule:
    """Return a coarse-to-fine schedule with the last stage at ``shape``.

    The other arguments are the keys of ``configs/schedule/pyramid.yaml``. If none of them is a list with a value for
    each scale, the smallest scales are left out if there are too few evaluations for all.

    Raise UserError for sizes that are not smaller than the final one, for lists without a value for each scale, and for
    scales without an evaluation.
    """
    longest = max(shape)
    sides = _sides(shape, scales, smallest, ratio) if sizes is None else list(sizes)
    last = 1 if finish is None else 2  # stages of the final size
    rule = SHARES[shares if isinstance(shares, str) else "half_for_the_last"]
    given_shares = None if shares is None or isinstance(shares, str) else shares
    of_weights = {name: values for name, values in factors.items() if name != "terms" and values is not None}
    of_terms = factors.get("terms") or {}
    lists = {"shares": given_shares}
    for key, given in (("factors", of_weights), ("factors.terms", of_terms)):
        lists |= {f"{key}.{name}": values for name, values in given.items() if not isinstance(values, str)}
    fixed = sizes is not None or any(lists.values())
    while _starved(ends := _ends(evaluations, given_shares or rule(len(sides) + last))) and sides and not fixed:
        del sides[0]
    count = len(sides) + last
    lines = list(_problems(sides, [longest] * last, sizes, lists))
    if not lines and _starved(ends):
        key, value = ("schedule.shares", shares) if given_shares else ("evaluations", evaluations)
        why = f"leaves one of the {count} scales without an evaluation; choose more evaluations or fewer scales"
        lines.append(problem(key, value, why))
    if lines:
        raise UserError(lines)
    shapes = [*(images.fit(*shape, side) for side in sides), *[shape] * last]
    stages = [
        Stage(shape=each, end=end, **_at(n, count, of_weights), terms=_at(n, count, of_terms))
        for n, (each, end) in enumerate(zip(shapes, ends, strict=True))
    ]
    if finish is not None:
        off = dict.fromkeys(finish, 0.0)
        stages = [replace(stage, terms={**stage.terms, **off}) for stage in stages[:-1]] + [
            replace(stages[-1], only=finish)
        ]
    return Schedule(stages=stages, carries=CARRIES[carry], patience=patience, min_improvement=min_improvement)


def _at(stage: int, count: int, factors: Mapping[str, Sequence[float] | str]) -> dict[str, Any]:
    """Return the factors of one of ``count`` stages, from lists or rules by name."""
    return {name: (RULES[given](count) if isinstance(given, str) else given)[stage] for name, given in factors.items()}


def _problems(
    coarse: Sequence[int],
    final: Sequence[int],
    sizes: Sequence[int] | None,
    lists: Mapping[str, Sequence[float] | None],
) -> Iterator[str]:
    """Yield the problems with the sizes, and with the lists that must have a value for each of the scales."""
    scales, longest = [*coarse, *final], final[-1]
    if max(coarse, default=0) >= longest:
        yield problem("schedule.sizes", sizes, f"the last scale is {longest} px; the others must be smaller")
    for name, values in lists.items():
        if values is not None and len(values) != len(scales):
            why = f"a value for each of the {len(scales)} scales is needed ({', '.join(map(str, scales))} px)"
            yield problem(f"schedule.{name}", values, why)


def _sides(shape: Shape, scales: int | None, smallest: int | None, ratio: float) -> list[int]:
    """Return the longest sides in px of the scales before the last, ascending; ``scales`` or ``smallest`` is given."""
    sides: list[int] = []
    while scales is None or len(sides) < scales - 1:
        side = round(max(shape) / ratio ** (len(sides) + 1))
        if side < 1 or min(images.fit(*shape, side)) < (1 if smallest is None else smallest):
            break
        sides.append(side)
    return sides[::-1]


def _ends(evaluations: int, shares: Sequence[float]) -> list[int]:
    """Return the evaluations after which each stage ends, in proportion to the shares; the last ends after all."""
    *_, whole = parts = list(accumulate(shares))
    return [round(evaluations * part / whole) for part in parts]


def _starved(ends: Sequence[int]) -> bool:
    """Return whether a stage is left without an evaluation."""
    return len({0, *ends}) <= len(ends)


def _shape(image: Tensor) -> Shape:
    return image.shape[-2], image.shape[-1]
