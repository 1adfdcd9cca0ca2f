"""Optimization of a picture: the ``lbfgs`` and ``first_order`` optimizers, the ``schedule`` of scales, the ``start``
image, and the LightningModule (``module``) that runs the schedule, with ``recovery`` from losses that explode.
"""

from nst.optimizer.first_order import FirstOrder
from nst.optimizer.lbfgs import LBFGS
from nst.optimizer.projected import ProjectedLBFGS

__all__ = ["LBFGS", "FirstOrder", "ProjectedLBFGS"]
