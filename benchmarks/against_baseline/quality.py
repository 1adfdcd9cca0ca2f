"""Time until our picture is as good as the best of the baseline's recipe, judged by the baseline's own objective."""

import argparse
import hashlib
import itertools
import math
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Generator

from benchmarks import baseline
from benchmarks.against_baseline import ours, packaged, pictures
from benchmarks.against_baseline.race import Race
from benchmarks.against_baseline.results import Record, Results, described, place
from nst.config.source import quoted
from nst.encoder import weights as encoder
from nst.errors import DivergedError, UserError, problem
from nst.files.atomic import sha256

#: The layers of a checkpoint that ends at conv3_1.
FIRST_LAYERS = ["layers.content=[relu3_1]", "layers.style=[relu1_1,relu2_1,relu3_1]"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """What this part can be told."""
    parser.add_argument("--pictures", type=Path, required=True, help="folder with content/NAME.jpg and style/NAME.jpg")
    parser.add_argument(
        "--weights", type=Path, help="a checkpoint of VGG-19, which may end at conv3_1; default: the packaged network"
    )
    parser.add_argument("--contents", nargs="+", default=["tubingen", "ballerina"], metavar="NAME")
    parser.add_argument("--styles", nargs="+", default=["starry_night", "picasso", "scream"], metavar="NAME")
    parser.add_argument("--start", default="content_noise", choices=["noise", "content_noise"])
    parser.add_argument("--size", type=int, default=512, help="longest side in px")
    parser.add_argument(
        "--evaluations", type=int, default=600, help="number of the baseline's evaluations; maximum for nst"
    )
    parser.add_argument(
        "--block", type=int, default=5, help="evaluations of nst between two losses by the baseline's objective"
    )
    parser.add_argument(
        "--whole", action="store_true", help="continue to the last evaluation after the picture is as good"
    )


@dataclass(frozen=True)
class Match:
    """A pair of pictures that both sides paint from one start."""

    content: Path
    style: Path
    options: argparse.Namespace

    @property
    def name(self) -> str:
        return f"{self.content.stem}-{self.style.stem}"

    def overrides(self) -> list[str]:
        """Of ours: an ordinary run, with everything that one has switched on."""
        return [
            f"content.path={quoted(self.content)}", f"style.path={quoted(self.style)}", "encoder=vgg19",
            f"encoder.weights={quoted(self.options.weights)}", "encoder.calibrate=false", "weights=seed",
            *self.options.layers, f"init={self.options.start}",
            f"size={self.options.size}", f"evaluations={self.options.evaluations}", "name=ours",
            ours.where(self.options.device), *self.options.overrides,
        ]  # fmt: skip

    def key(self, layers: dict[str, list[str]]) -> dict[str, Any]:
        """What the baseline's losses depend on."""
        files = (self.content, self.style, self.options.weights)
        digest = hashlib.sha256("".join(map(sha256, files)).encode()).hexdigest()[:12]
        asked = {name: getattr(self.options, name) for name in ("start", "size", "evaluations")}
        return {"pair": self.name, **asked, **layers, "files": digest}

    def recipe(self, layers: dict[str, list[str]]) -> tuple[baseline.Recipe, Iterator[float]]:
        """The baseline's objective, and its evaluations from the start."""
        device = self.options.device
        content, style = (each.to(device) for each in pictures.pair(self.content, self.style, self.options.size))
        recipe = baseline.Recipe(encoder.load_state(self.options.weights, "vgg19"), content, style, **layers)
        start = baseline.start(self.options.start, content, Generator().manual_seed(0))
        return recipe.to(device), baseline.optimize(recipe, start)


def measure(options: argparse.Namespace, results: Results) -> None:
    """Every pair; a finished one is kept."""
    if options.weights is None:
        options.weights = packaged.write(Path("outputs/packaged_vgg19.pth"))
    _check_files(options)
    held = encoder.available_layers(encoder.load_state(options.weights, "vgg19"), "vgg19")
    options.layers = [] if "relu5_1" in held else FIRST_LAYERS
    for content, style in itertools.product(options.contents, options.styles):
        files = (options.pictures / "content" / f"{content}.jpg", options.pictures / "style" / f"{style}.jpg")
        match = Match(*files, options)
        cfg = ours.settle(match.overrides())
        layers = {"content_layers": list(cfg.layers.content), "style_layers": list(cfg.layers.style)}
        key = {**match.key(layers), "overrides": options.overrides, **place(options.device)}
        key["precision"] = str(cfg.precision)
        if results.done("quality", key):
            continue
        reference = results.find("reference", match.key(layers)) or _run_baseline(match, layers, results)
        record = results.keep("quality", key, _run_ours(match, layers, reference["values"]))
        print(told(record), flush=True)
    for name, records in by_contest(results.of("quality")).items():
        print(f"{name}: {median(records)}")


def _check_files(options: argparse.Namespace) -> None:
    named = [options.pictures / "content" / f"{name}.jpg" for name in options.contents]
    named += [options.pictures / "style" / f"{name}.jpg" for name in options.styles]
    lines = [problem("--pictures", path, "there is no such file") for path in named if not path.is_file()]
    if not options.weights.is_file():
        lines.append(problem("--weights", options.weights, "there is no such file"))
    if lines:
        raise UserError(lines)


def _run_baseline(match: Match, layers: dict[str, list[str]], results: Results) -> Record:
    """The losses of all evaluations of the baseline's recipe. They need be computed only once, beside anything else."""
    _, evaluations = match.recipe(layers)
    losses = [
        loss if math.isfinite(loss) else None for loss in itertools.islice(evaluations, match.options.evaluations)
    ]
    values = {"losses": losses}
    best, number = best_of(values)
    print(f"{match.name} {match.options.start}: the baseline's best is {best:.5g}, at evaluation {number}", flush=True)
    return results.keep("reference", match.key(layers), values)


def best_of(reference: dict[str, Any]) -> tuple[float, int]:
    """The baseline's lowest loss, and the number of the evaluation that had it."""
    losses = [math.inf if loss is None else loss for loss in reference["losses"]]
    return min(losses), losses.index(min(losses)) + 1


def _run_ours(match: Match, layers: dict[str, list[str]], reference: dict[str, Any]) -> dict[str, Any]:
    """An ordinary run of ours that races against the baseline's."""
    recipe, evaluations = match.recipe(layers)
    goal, number = best_of(reference)
    race = Race(recipe, evaluations, goal=goal, block=match.options.block, whole=match.options.whole)
    status = "completed"
    with tempfile.TemporaryDirectory() as folder:
        run = ours.make(match.overrides(), Path(folder))
        race.start()
        try:
            ours.fit(run, race)
        except DivergedError as error:
            status = f"diverged: {error}"
    if run.stop.signal is not None:
        raise KeyboardInterrupt  # the pair isn't finished
    return {
        "baseline": {
            "loss": goal,
            "evaluations": number,
            "seconds": race.turn * number,
            "seconds_of_all": race.turn * len(reference["losses"]),
        },
        "ours": {"reached": race.reached, "curve": race.curve, "status": status},
        "turn": race.turn,
    }


def ratio(values: dict[str, Any]) -> float:
    """The baseline's seconds to its best by ours until as good; 0 where ours never was."""
    reached = values["ours"]["reached"]
    return values["baseline"]["seconds"] / reached[1] if reached else 0.0


def by_contest(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The pairs that belong together: one start, size, budget and configuration of ours, on one device."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        key = record["key"]
        name = f"{key['start']}, {key['size']} px, {key['evaluations']} evaluations, {key['device']}, {described(key)}"
        groups.setdefault(name, []).append(record)
    return groups


def median(records: list[Record]) -> str:
    """Several pairs in a sentence."""
    ratios = [ratio(record["values"]) for record in records]
    return (
        f"reaches the baseline's best loss {statistics.median(ratios):.2f} times as soon (median of {len(ratios)} "
        f"pairs, {min(ratios):.2f} to {max(ratios):.2f}; a pair that never reaches it counts as 0)"
    )


def told(record: Record) -> str:
    """One pair in a sentence."""
    key, theirs, our = record["key"], record["values"]["baseline"], record["values"]["ours"]
    line = (
        f"{key['pair']} {key['start']} {key['size']} px {described(key)}: the baseline reaches its best loss after "
        f"{theirs['seconds']:.4g} s ({theirs['evaluations']} evaluations), and ends after "
        f"{theirs['seconds_of_all']:.4g} s; "
    )
    if not our["reached"]:
        made = our["curve"][-1][0] if our["curve"] else 0
        return f"{line}nst doesn't reach it within {made} evaluations ({our['status']})"
    number, seconds, _ = our["reached"]
    sooner = ratio(record["values"])
    return f"{line}nst reaches it after {seconds:.4g} s ({number} evaluations), {sooner:.2f} times as soon"
