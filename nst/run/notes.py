"""What the user should know before a run: where its weights come from, stand-ins, and settings that do nothing."""

import logging
from collections.abc import Iterator

from nst.config.identity import DIGESTS
from nst.config.schema import Config
from nst.config.source import read_note
from nst.errors import written
from nst.files import paths
from nst.plan.planning import Plan

#: The command of the paper's own method.
PAPER = "python -m nst.train objective=paper weights=paper layers=paper encoder.normalize_on=bundled"


def notes(plan: Plan, *, sized: bool) -> Iterator[tuple[int, str]]:
    """Yield what the user should know before a run, each with its logging level. ``sized``: the user chose its size."""
    config, files = plan.config, plan.files
    made_of = {} if config.rerun is None else read_note(paths.of_user(config.rerun), key="rerun")
    for notice in [*files.notices(), *_size_notices(plan, sized)]:
        yield logging.INFO, notice
    unlike = files.unlike(made_of.get(DIGESTS, {}))
    told = [*files.warnings(), *plan.pictures.warnings, *unlike, *_weight_warnings(config)]
    for warning in [*told, *filter(None, [plan.forecast.notice])]:
        yield logging.WARNING, warning


def _size_notices(plan: Plan, sized: bool) -> Iterator[str]:
    """Yield one line if the picture will be larger than the content's, or, unasked, less than half as large."""
    (height, width), (whole, across) = plan.pictures.shape, plan.pictures.sizes["content"]
    larger = max(height, width) > max(whole, across)
    if larger or (not sized and 2 * max(height, width) < max(whole, across)):
        enlarged = ", and is enlarged" if larger else ""
        yield (
            f"The picture will have {width} x {height} px; the content picture has {across} x {whole} px{enlarged}. "
            "size=N sets the longest side, size=null keeps the content's size"
        )


def _weight_warnings(config: Config) -> Iterator[str]:
    """Yield a line for weights that don't do what is expected of them.

    These are a style weight for means beside the paper's sum, and the weight of the only style.
    """
    node, weights = config.objective.get("content") or {}, config.weights
    is_sum = str(node.get("_target_")).endswith(".half_squared_difference")
    if is_sum and weights.style < 1e7 * weights.content:
        yield (
            "objective=paper has the paper's content loss, a sum over all features, which is large: with "
            f"weights.style={written(weights.style)}, the picture stays a photograph. Add weights=paper. With the "
            f"paper's layers and filters as well: {PAPER}"
        )
    if len(config.styles) == 1 and config.style.weight != 1:
        yield (
            f"style.weight={written(config.style.weight)} changes nothing: it is relative to the weights of other "
            "styles (style/more). weights.style is the weight of the style loss"
        )
