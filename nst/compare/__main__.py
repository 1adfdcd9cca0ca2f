"""Command line of the comparison, ``python -m nst.compare FOLDER…``, which reads run folders and compares the runs."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from nst.files.streams import unfailing_streams

DESCRIPTION = """\
Sets runs side by side: a table here, and in the folder compare/ a contact sheet (sheet.png), a page that needs nothing
else (index.html), and the table as runs.csv and runs.json. Only the runs' folders are read.

A KEY is one that varies (style, weights.style, optimizer, ...), one of the configuration, run or status. The order and
the conditions know the results, too (total, content_loss, cfsd, seconds, ...). Runs that differ in their seed alone are
one row of the table, with the mean and the range of their results.
"""


@unfailing_streams()
def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0, or 2 if the user made a mistake, reported in one message."""
    arguments = parser().parse_args(_joined(sys.argv[1:] if words is None else words))
    from nst.compare.report import report  # would slow down --help
    from nst.errors import UserError

    try:
        report(**vars(arguments))
    except UserError as error:
        for line in error.problems:
            print(f"error: {line}", file=sys.stderr)
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m nst.compare", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("folders", nargs="+", type=Path, metavar="FOLDER", help="a sweep, a run, or any folder with runs below it")
    add(
        "--where",
        action="append",
        default=[],
        dest="conditions",
        metavar="CONDITION",
        help="only the runs with KEY=VALUE, KEY<NUMBER, KEY>=NUMBER, ..., or several joined by `and`",
    )
    add("--latest", type=int, metavar="N", help="of these, only the N runs that were started last")
    add("--metrics", metavar="KEY[,KEY]", help="the results in the table here (default: two or three that compare)")
    add(
        "--sort",
        metavar="KEY",
        help="the order of the runs; -KEY reverses it",
    )
    add("--rows", metavar="KEY[,KEY]", help="the sheet's rows (default: style, or what varies)")
    add("--columns", metavar="KEY[,KEY]", help="the sheet's columns (default: content, or what varies)")
    add("--cell", type=_px, default=256, metavar="PX", help="the longest side of a picture on the sheet (default: 256)")
    add("--out", type=Path, metavar="FOLDER", help="where to write the files (default: compare/ in the first FOLDER)")
    return parser


def _joined(words: Sequence[str]) -> list[str]:
    """Join ``--sort -KEY`` into one word, because argparse would take ``-KEY`` for an option."""
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] == "--sort":
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _px(text: str) -> int:
    if not text.isdecimal() or not 32 <= int(text) <= 2048:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number of px from 32 to 2048")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
