"""What a run does when its loss explodes, or is no number any more: it goes back and on in smaller steps."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Recovery:
    """When a run has gone astray, and how it is brought back to its best image.

    Attributes:
        at_most: how many times in a run. After that an explosion is let be, as the run may come down by itself; a loss
            or a gradient that is infinite or not a number ends it.
        explosion: how many times the lowest total of its scale a total is that an optimizer must not go on from; None
            for any. A loss or a gradient that is infinite or not a number always is.
        shrink: the factor of the optimizer's rate, each time.
    """

    at_most: int
    explosion: float | None
    shrink: float

    def exploded(self, total: float, best: float) -> bool:
        """Whether a total that an optimizer has accepted is too far above the best."""
        return self.explosion is not None and 0 < self.explosion * best < total

    def rate(self, lr: float, recoveries: int) -> float:
        """An optimizer's rate after so many recoveries."""
        return lr * self.shrink**recoveries


def no_number(total: float, gradient_norm: float) -> str | None:
    """What of an evaluation is infinite or not a number, in words; None where all is well."""
    if not math.isfinite(total):
        return f"the total loss is {total}"
    if not math.isfinite(gradient_norm):
        return f"the gradient is {gradient_norm}"
    return None
