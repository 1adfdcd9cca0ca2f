"""Command line of the measures, ``python -m nst.metrics FOLDER…``, which measures the pictures of runs."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from nst.files.streams import unfailing_streams

DESCRIPTION = """\
Measures the pictures of runs by a fixed network, to compare runs with different objectives, layers and encoders. Writes
the measures to metrics.json in each run's folder, and skips pictures that were measured before.
"""


@unfailing_streams()
def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0; 1 if a picture can't be measured; 2 for the user's mistake."""
    arguments = parser().parse_args(words)
    from nst.errors import UserError  # would slow down --help
    from nst.metrics.artfid import lay_out
    from nst.metrics.report import report

    try:
        if arguments.artfid is not None:
            number = lay_out(arguments.folders, arguments.artfid)
            print(f"{number} pictures, contents and styles are in {arguments.artfid}", flush=True)
            return 0
        return report(arguments.folders, arguments.observer, jobs=arguments.jobs)
    except UserError as error:
        for line in error.problems:
            print(f"error: {line}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m nst.metrics", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="FOLDER", help="a sweep, a run, or any folder with runs below it"
    )
    parser.add_argument(
        "--observer",
        default="oxford_vgg19",
        help="the network that measures: oxford_vgg19 (default), the paper's; slim, the bundled one; alexnet: LPIPS",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=min(4, os.cpu_count() or 1),
        metavar="N",
        help="how many runs are measured at a time (default: one for each processor, at most 4)",
    )
    parser.add_argument(
        "--artfid",
        type=Path,
        metavar="FOLDER",
        help="measure nothing; copy the pictures to this new folder, in the layout that the ArtFID tool reads",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
