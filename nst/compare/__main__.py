"""Command line of the comparison, ``python -m nst.compare FOLDER…``, which reads run folders and compares the runs."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from nst.files.streams import unfailing_streams

DESCRIPTION = """\
Compares runs. Prints a table, and writes a contact sheet (sheet.png), a self-contained page (index.html) and the table
(runs.csv and runs.json) to the folder compare/, and says where that is. It reads only the folders of the runs.

A KEY is a key that varies (style, weights.style, optimizer, ...), another key of the configuration, run or status.
--sort and --where also accept results (total, content_loss, cfsd, seconds, ...). Runs that differ only in their seed
share a row of the table, with the mean and the range of their results.
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
        help="only the runs with KEY=VALUE, KEY<NUMBER, KEY>=NUMBER, ...; join several conditions by `and`",
    )
    add("--latest", type=int, metavar="N", help="only the last N of these runs, by their start")
    add("--metrics", metavar="KEY[,KEY]", help="the results in the printed table (default: the measures to report)")
    add(
        "--sort",
        metavar="KEY",
        help="sort the runs by this key; -KEY reverses the order",
    )
    add("--rows", metavar="KEY[,KEY]", help="the keys of the sheet's rows (default: style, or keys that vary)")
    add("--columns", metavar="KEY[,KEY]", help="the keys of the sheet's columns (default: content, or keys that vary)")
    add("--cell", type=_px, default=256, metavar="PX", help="the longest side of a picture on the sheet (default: 256)")
    add(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="where to write the files (default: compare/ in FOLDER, or in the folder that contains all FOLDERs)",
    )
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
