"""The layout of the contact sheet: rows and columns by keys that vary."""

from collections.abc import Iterable
from dataclasses import dataclass

from nst.compare.comparison import Comparison, Entry
from nst.compare.values import ABSENT, Value, order
from nst.errors import UserError

Place = tuple[Value, ...]


@dataclass(frozen=True)
class Grid:
    """The runs by the values of the row keys and of the column keys; either may be empty.

    Attributes:
        rows, columns: the existing combinations of values, in order.
        cells: the runs of each row and column; the lowest total first if the totals compare.
        left_out: runs that have none of the keys, such as those that failed before they began.
    """

    row_keys: tuple[str, ...]
    column_keys: tuple[str, ...]
    rows: list[Place]
    columns: list[Place]
    cells: dict[tuple[Place, Place], list[Entry]]
    left_out: list[Entry]

    @property
    def fill(self) -> float:
        """The fraction of the cells that hold a run."""
        return len(self.cells) / max(1, len(self.rows) * len(self.columns))

    @property
    def crowded(self) -> list[list[Entry]]:
        """The cells that hold several runs. Only one of them can be shown."""
        return [cell for cell in self.cells.values() if len(cell) > 1]


def grid(comparison: Comparison, rows: tuple[str, ...], columns: tuple[str, ...]) -> Grid:
    """Arrange the runs in a grid."""
    entries = comparison.entries
    cells: dict[tuple[Place, Place], list[Entry]] = {}
    placed = [entry for entry in entries if any(entry.text(key) != ABSENT for key in (*rows, *columns))]
    for entry in placed:
        place = tuple(map(entry.key, rows)), tuple(map(entry.key, columns))
        cells.setdefault(place, []).append(entry)
    if comparison.totals_compare:
        for cell in cells.values():
            cell.sort(key=lambda entry: order(entry.results["total"]))
    by_name = columns == ("run",)  # in the order of the comparison
    return Grid(
        rows,
        columns,
        _places(place for place, _ in cells),
        list(dict.fromkeys(place for _, place in cells)) if by_name else _places(place for _, place in cells),
        cells,
        [entry for entry in entries if entry not in placed],
    )


def chosen(comparison: Comparison, rows: str | None, columns: str | None) -> Grid:
    """Return the grid by the requested keys, separated by commas, or by suitable ones if none are requested.

    Raise UserError for a key that no run has.
    """
    if rows is None and columns is None:
        return _sensible(comparison)
    asked = {option: tuple(filter(None, (keys or "").split(","))) for option, keys in
             (("--rows", rows), ("--columns", columns))}  # fmt: skip
    lines = []
    for option, key in ((option, key) for option, keys in asked.items() for key in keys):
        try:
            comparison.check(option, key, [*comparison.varied, "run", "status"])
        except UserError as error:
            lines += error.problems
    if lines:
        raise UserError(lines)
    free = [key for key in _preferred(comparison) if key not in (*asked["--rows"], *asked["--columns"])]
    if rows is None or columns is None:  # choose the other one
        asked["--rows" if rows is None else "--columns"] = tuple(free[:1])
    return grid(comparison, asked["--rows"], asked["--columns"])


def _sensible(comparison: Comparison) -> Grid:
    """Return a grid that shows every run, with more row keys if necessary; else one run after another."""
    keys = _preferred(comparison)
    rows, columns = (tuple(keys[:1]), tuple(keys[1:2])) if len(keys) > 1 else ((), tuple(keys))
    found = grid(comparison, rows, columns)
    if found.crowded:
        more = [
            key for key in comparison.varied
            if any(len({entry.key(key) for entry in cell}) > 1 for cell in found.crowded)
        ]  # fmt: skip
        found = grid(comparison, (*rows, *more), columns)
    if found.fill < 0.75 or found.crowded:
        return grid(comparison, (), ("run",))
    return found


def _preferred(comparison: Comparison) -> list[str]:
    """Return the keys for rows and columns: style and content, or those with the most values, words before numbers."""
    counts = {key: len({entry.key(key) for entry in comparison.entries}) for key in comparison.varied}
    pictures = [key for key in ("style", "content") if key in counts]
    others = sorted((key for key in counts if key not in pictures), key=lambda key: -counts[key])
    first = [*pictures, *others][:2]
    if not pictures:
        first.sort(key=lambda key: any(isinstance(entry.key(key), float) for entry in comparison.entries))
    return [*first, *[key for key in [*pictures, *others] if key not in first]] or ["run"]


def _places(places: Iterable[Place]) -> list[Place]:
    return sorted(set(places), key=lambda place: [order(value) for value in place])
