"""Measures of a run's finished picture, and the value that a sweeper minimizes."""

import logging
from collections.abc import Mapping
from typing import Any

import torch

from nst.config.schema import Config
from nst.encoder.precision import abilities
from nst.errors import UserError, of_disk, problem
from nst.files.run_folder import RunFolder
from nst.metrics.measure import measure
from nst.metrics.names import MEASURES, directions, full_name, named
from nst.metrics.observer import CPU, observer
from nst.metrics.report import told

log = logging.getLogger(__name__)


def measured(config: Config, folder: RunFolder, device: torch.device) -> dict[str, Any]:
    """Measure the finished picture by the networks that ``metrics`` names; return the measures by network.

    What was measured before is kept. A picture that can't be measured is reported, and has no measures; raise UserError
    if ``minimize`` needs one.
    """
    if not config.metrics:
        return {}
    if {full_name(name) for name in config.metrics} - folder.read_metrics().keys():
        log.info("Measuring the picture, which takes 10 to 20 s on two cores (metrics=null skips this)")
    try:
        for name in config.metrics:
            measure(folder, observer(name, device if abilities(device).widest == torch.float64 else CPU))
    except UserError as error:
        if config.minimize.metric is not None:
            raise
        log.warning("The picture can't be measured: %s", "; ".join(error.problems))
    except OSError as failure:
        log.warning("The measures can't be saved: %s", of_disk(failure))
    measures = folder.read_metrics()
    for name in config.metrics:
        if full_name(name) in measures:
            better = directions(named(measures, name))
            log.info("Measured by %s: %s (%s)", full_name(name), told(measures, name), better)
    return measures


def value(config: Config, losses: Mapping[str, float], measures: Mapping[str, Any]) -> float:
    """Return the value that a sweeper minimizes: a loss or a measure of the picture.

    If the content loss exceeds its bound, the value is above that of any picture within the bound. Sweepers only
    compare values, so it doesn't matter by how much.
    """
    bound = config.minimize.content_at_most
    if bound is not None and losses["content"] > bound:
        return 1e12 * losses["content"] / bound
    name = config.minimize.metric
    if name is None or not config.metrics:
        return losses[config.minimize.loss]
    found = named(measures, config.metrics[0]).get(name)
    if found is None:
        raise UserError(problem("minimize.metric", name, "the picture doesn't have this measure; it may be too small"))
    return -found if MEASURES[name].higher_is_better else found
