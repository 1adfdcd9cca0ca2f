"""The objective: formulas without state (``functional``), their choice (``Formulas``), the total (``Objective``)."""

from nst.objective.total import Formulas, Losses, Objective, Style, Term, Weights, content_targets, style_targets

__all__ = ["Formulas", "Losses", "Objective", "Style", "Term", "Weights", "content_targets", "style_targets"]
