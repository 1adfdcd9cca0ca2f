"""The objective: formulas without state (``functional``), their choice (``Formulas``), the total (``Objective``)."""

from nst.objective.total import Formulas, Losses, Objective, Weights

__all__ = ["Formulas", "Losses", "Objective", "Weights"]
