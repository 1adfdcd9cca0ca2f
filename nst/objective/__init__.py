"""The objective: formulas without state (``functional``), their choice (``Formulas``), the total (``Objective``)."""

from nst.objective.total import Formulas, Losses, Objective, Weights, content_targets, style_targets

__all__ = ["Formulas", "Losses", "Objective", "Weights", "content_targets", "style_targets"]
