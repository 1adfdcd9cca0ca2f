"""Recovery from losses that explode or are not finite: the run returns to its best image and takes smaller steps."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Recovery:
    """The conditions for a diverged run, and the settings for its return to the best image.

    Attributes:
        at_most: maximum number of recoveries in a run. After that an explosion is ignored, as the loss may fall again
            by itself; a loss or a gradient that is infinite or not a number ends the run.
        explosion: a total above this many times the lowest total of its scale is an explosion; None for no limit. A
            loss or a gradient that is infinite or not a number always is one.
        shrink: factor of the optimizer's rate for each recovery.
    """

    at_most: int
    explosion: float | None
    shrink: float

    def exploded(self, total: float, best: float) -> bool:
        """Return whether a total that an optimizer has accepted is too far above the best."""
        return self.explosion is not None and 0 < self.explosion * best < total

    def rate(self, lr: float, recoveries: int) -> float:
        """Return an optimizer's rate after a number of recoveries."""
        return lr * self.shrink**recoveries


def no_number(total: float, gradient_norm: float) -> str | None:
    """Return a text that names a loss or gradient that is infinite or not a number; None if both are finite."""
    if not math.isfinite(total):
        return f"the total loss is {total}"
    if not math.isfinite(gradient_norm):
        return f"the gradient is {gradient_norm}"
    return None
