"""Schedules: at which sizes a picture is optimized, and for how many evaluations at each."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """``evaluations`` of the objective at ``shape`` (height, width) in px."""

    shape: tuple[int, int]
    evaluations: int


def single(shape: tuple[int, int], evaluations: int) -> list[Stage]:
    """The whole optimization at the final size."""
    return [Stage(shape, evaluations)]
