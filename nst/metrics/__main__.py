"""Command line of the measures, ``python -m nst.metrics FOLDER…``, which measures the pictures of runs."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from nst.files.streams import unfailing_streams

DESCRIPTION = """\
Measures the pictures of runs by a fixed network, so that runs with different objectives, layers and encoders compare.
The measures are kept in each run's folder, in metrics.json; pictures that were measured before are left alone.
"""


@unfailing_streams()
def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0; 1 if a picture can't be measured; 2 for the user's mistake."""
    arguments = _parser().parse_args(words)
    from nst.errors import UserError  # would slow down --help
    from nst.metrics.report import report

    try:
        return report(arguments.folders, arguments.observer)
    except UserError as error:
        for line in error.problems:
            print(f"error: {line}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m nst.metrics", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="FOLDER", help="a sweep, a run, or any folder with runs below it"
    )
    parser.add_argument(
        "--observer",
        default="oxford_vgg19",
        help="the network that measures: oxford_vgg19 (default), the paper's, or slim, the bundled one",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
