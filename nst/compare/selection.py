"""The runs that a comparison is asked for: by conditions, and the latest."""

from collections.abc import Sequence
from functools import partial

from nst.compare import keys
from nst.compare.comparison import Comparison
from nst.compare.keys import Condition
from nst.compare.runs import Run
from nst.errors import UserError, attempt, choices, problem


def fitting(comparison: Comparison, texts: Sequence[str]) -> list[Run]:
    """Return the runs that meet every condition. Raise UserError for a mistake in one, and if no run meets them all."""
    lines: list[str] = []
    words = [word for text in texts for word in keys.conditions_in(text)]
    conditions = [attempt(lines, partial(_condition, word, comparison)) for word in words]
    if lines:
        raise UserError(lines)
    found = [
        entry.run
        for entry in comparison.entries
        if all(each.is_met(entry.key(each.key), entry.text(each.key)) for each in conditions if each)
    ]
    if not found:
        why = "no run meets all of these conditions; leave one out"
        raise UserError(problem("--where", " and ".join(words), why))
    return found


def latest(runs: Sequence[Run], number: int) -> list[Run]:
    """Return the runs that were started last, in their order."""
    newest = sorted(runs, key=lambda run: str(run.summary.get("started") or ""))[-number:]
    return [run for run in runs if any(run is each for each in newest)]


def _condition(word: str, comparison: Comparison) -> Condition:
    """Return a condition on the runs. Raise UserError for a key or a value that no run has."""
    condition = Condition.parse("--where", word)
    comparison.check("--where", condition.key, comparison.offered)
    values = comparison.values(condition.key)
    if condition.sign == "=" and not any(condition.is_met(value, text) for text, value in values.items()):
        raise UserError(problem("--where", word, f"no run has this value; {choices(condition.wanted, values)}"))
    return condition
