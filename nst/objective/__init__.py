"""The objective that a run minimizes: content + style + total variation (Gatys et al. 2015, eq. 7).

``functional`` has the formulas as pure functions, ``statistics`` the statistics of a layer's features, and ``products``
the sums of products that both use. ``joint`` and ``neighbors`` have the terms that use several layers at once, of a
``reading``. ``terms`` selects the formulas of an objective, ``targets`` computes once the values that a picture should
match, and ``total`` adds up the losses. ``tiles`` reads a picture in parts, and ``processes`` distributes them.
"""

from nst.objective.reading import Reading
from nst.objective.targets import content_targets, matched, style_targets
from nst.objective.terms import Formulas, JointTerm, Style, StyleTerm, Term, Weights
from nst.objective.total import Losses, Objective

__all__ = [
    "Formulas", "JointTerm", "Losses", "Objective", "Reading", "Style", "StyleTerm", "Term", "Weights",
    "content_targets", "matched", "style_targets",
]  # fmt: skip
