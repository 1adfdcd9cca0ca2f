"""Instantiation of a configuration's nodes, each once. No other module calls ``hydra.utils.instantiate``."""

import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from types import FunctionType
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from nst.errors import UserError, one_line, problem
from nst.objective import Formulas
from nst.objective.terms import Term, not_tiled

#: Groups that are instantiated as partials, which the run completes once it knows its picture.
LATER = ("pooling", "init", "optimizer", "schedule", "trainer")

#: Groups that hold any number of nodes by name; null stands for none.
NAMED = ("logger", "callbacks")


@dataclass(frozen=True)
class Nodes:
    """Objects and factories made from the nodes of a configuration.

    Attributes:
        pooling: makes a pooling module.
        objective: the formulas.
        init: makes the start image (see ``nst.optimizer.start``).
        optimizer: makes the optimizer from a list of tensors.
        schedule: makes the schedule from a shape and a number of evaluations.
        trainer: makes Lightning's trainer.
        logger: make Lightning's loggers, by name.
        callbacks: Lightning callbacks, or factories that take the run's folder, by name.
        network: makes the user's own encoder; None for any other encoder.
    """

    pooling: Callable[..., Any]
    objective: Formulas
    init: Callable[..., Any]
    optimizer: Callable[..., Any]
    schedule: Callable[..., Any]
    trainer: Callable[..., Any]
    logger: Mapping[str, functools.partial[Any]]
    callbacks: Mapping[str, Any]
    network: Callable[..., Any] | None


def make(raw: Mapping[str, Any]) -> Nodes:
    """Instantiate the nodes of a resolved configuration, and check that the keys of partials match their signatures.

    Raise UserError with all problems found.
    """
    lines: list[str] = []
    made = {}
    for group in (*LATER, "objective", *NAMED):
        try:
            # The run gives the start image's path. Hydra would read ${ in it as an interpolation.
            made[group] = _made(group, {key: raw[group][key] for key in raw[group] if (group, key) != ("init", "path")})
        except UserError as error:
            lines += error.problems
            continue
        if group in LATER and not isinstance(made[group], functools.partial):
            lines.append(f"{group}._partial_: must be true, because nst calls {raw[group].get('_target_')} later")
        for name, each in made[group].items() if group in NAMED else [("", made[group])]:
            if isinstance(each, functools.partial):
                try:
                    inspect.signature(each.func).bind_partial(*each.args, **each.keywords)
                except TypeError as error:
                    lines.append(f"{group}{name and '.'}{name}: {error}")
    if isinstance(made.get("objective"), Formulas):
        made["objective"] = _direct(made["objective"])
    lines += _weight_problems(made.get("objective"))
    network = raw["encoder"].get("network")
    if network is not None:
        try:
            network = _made("encoder.network", network)
        except UserError as error:
            lines += error.problems
    if lines:
        raise UserError(lines)
    given = {group: {name: each for name, each in made[group].items() if each is not None} for group in NAMED}
    return Nodes(**{**made, **given}, network=network)


def _weight_problems(objective: Any) -> Iterator[str]:
    """Yield one line for each term, perhaps of the user's own class, whose weight is not a number of at least 0."""
    for name, term in objective.style.items() if isinstance(objective, Formulas) else ():
        if not isinstance(term.weight, int | float) or not 0 <= term.weight < math.inf:
            yield problem(f"objective.style.{name}.weight", term.weight, "must be a number of at least 0")


def _made(key: str, node: Any) -> Any:
    try:
        return instantiate(node, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from error
        raise UserError(f"{key}: {one_line(error)}") from error


def _direct(value: Any) -> Any:
    """Return the formulas with functions that are called directly.

    Hydra 1.3.8 checks its own partials at each call, a dozen times an evaluation, in 0.15 ms. A plain function, whose
    result is a tensor, needs no check after that of its name.
    """
    if isinstance(value, Mapping):
        return {name: _direct(each) for name, each in value.items()}
    if isinstance(value, functools.partial) and isinstance(value.func, FunctionType):
        return functools.partial(value.func, *value.args, **value.keywords)
    if isinstance(value, Formulas | Term):
        return replace(value, **{part.name: _direct(getattr(value, part.name)) for part in fields(value)})
    return value


def called(key: str, objective: Mapping[str, Any]) -> str:
    """Return what a user calls the formula at a key below ``objective``: the style term gram (objective/style)."""
    part, _, name = key.partition(".")
    if part == "style":
        return f"the style term {name.partition('.')[0]} (objective/style)"
    return f"the content loss {str(objective[part]['_target_']).rpartition('.')[2]} (objective/content)"


def untiled(nodes: Nodes, objective: Mapping[str, Any]) -> list[str]:
    """Return each part of the objective that can't be computed tile by tile, as a user calls it."""
    return [called(key, objective) for key in not_tiled(nodes.objective)]
