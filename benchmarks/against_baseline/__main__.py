"""Ours against the baseline's recipe: ``python -m benchmarks.against_baseline evaluation|memory|quality|report``."""

import argparse
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from hydra.errors import HydraException

from benchmarks.against_baseline import evaluation, memory, ours, quality
from benchmarks.against_baseline.results import Results
from nst.errors import UserError, one_line

PARTS = {
    "evaluation": (evaluation, "seconds of one evaluation"),
    "memory": (memory, "peak memory of one evaluation against the size"),
    "quality": (quality, "time until a picture by nst is as good as the baseline's best one"),
}


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.against_baseline", description="Compares nst with the baseline."
    )
    parts = parser.add_subparsers(dest="part", required=True, metavar="PART")
    results = argparse.ArgumentParser(add_help=False)
    results.add_argument(
        "--results", type=Path, default=Path("outputs/against_baseline.json"), help="file of all measurements"
    )
    for name, (part, what) in PARTS.items():
        subparser = parts.add_parser(name, parents=[results], help=what, description=f"Measures {what}.")
        part.add_options(subparser)
        _add_common(subparser)
    report = parts.add_parser("report", parents=[results], help="write tables and plots of the measurements")
    report.add_argument("--folder", type=Path, default=Path("outputs/against_baseline"), help="folder of the report")
    return parser.parse_args(words)


def _add_common(parser: argparse.ArgumentParser) -> None:
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    parser.add_argument("--device", type=str, default=devices[-1], choices=devices)
    parser.add_argument("--again", action="store_true", help="repeat measurements that the results already contain")
    parser.add_argument(
        "--overrides",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="overrides of nst's configuration, as for nst.train",
    )


def run(words: Sequence[str]) -> None:
    """Measures or reports."""
    options = parse(words)
    if options.part == "report":
        try:
            from benchmarks.against_baseline import report
        except ModuleNotFoundError as error:  # Matplotlib is an extra
            raise UserError(f"{error}; the plots need an extra: pip install -e '.[benchmarks]'") from error
        report.write(Results(options.results), options.folder)
        return
    options.device = torch.device(options.device)
    threads = ours.compose(options.overrides).threads
    if threads is not None:  # for the baseline, too
        torch.set_num_threads(threads)
    command = shlex.join(["python", "-m", "benchmarks.against_baseline", *words])
    results = Results(options.results, command=command, device=options.device, again=options.again)
    PARTS[options.part][0].measure(options, results)


def main(words: Sequence[str] | None = None) -> int:
    """The exit status: 2 for a mistake, told in a line for each."""
    try:
        run(sys.argv[1:] if words is None else words)
    except (UserError, HydraException) as error:
        for line in error.problems if isinstance(error, UserError) else [one_line(error)]:
            print(f"error: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command makes the missing measurements", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


if __name__ == "__main__":
    sys.exit(main())
