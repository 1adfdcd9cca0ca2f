"""Peak memory of one evaluation against the picture's size, each measured in a process of its own."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.against_baseline import ours, pictures
from benchmarks.against_baseline.results import Record, Results, described, place
from nst.errors import UserError


def add_options(parser: argparse.ArgumentParser) -> None:
    """What this part can be told."""
    parser.add_argument("--sizes", nargs="+", type=pictures.shape, default=[(768, 1024), (1536, 2048)],
                        metavar="SIZE", help="size of the picture in px: 512 (a square) or HEIGHTxWIDTH")  # fmt: skip
    parser.add_argument("--sides", nargs="+", default=["baseline", "ours"], choices=["baseline", "ours"])
    parser.add_argument("--history", action="store_true",
                        help="also measure an iteration of nst's L-BFGS with a full history")  # fmt: skip


def measure(options: argparse.Namespace, results: Results) -> None:
    """Every size for the baseline and for ours, whole and in tiles."""
    cfg = ours.settle([*ours.random_filters(*pictures.BUNDLED, options.device), *options.overrides])
    layers = {"content_layers": list(cfg.layers.content), "style_layers": list(cfg.layers.style)}
    # Tiles as the overrides say; else both ways.
    tiled = "tile" in cfg and not any(override.startswith("tile=") for override in options.overrides)
    variants = [["tile=off"], ["tile=auto"]] if tiled else [[]]
    sides: list[tuple[str, list[str]]] = [
        ("baseline", []),
        *(("ours", [*options.overrides, *each]) for each in variants),
    ]
    for pixels in options.sizes:
        for side, overrides in sides:
            if side not in options.sides:
                continue
            key = {"size": pictures.named(pixels), "side": side, "overrides": overrides, **place(options.device)}
            key["precision"] = "32" if side == "baseline" else str(cfg.precision)
            if side == "ours" and options.history:
                key["history"] = True
            if results.done("memory", key):
                continue
            task = {"side": side, "pixels": pixels, "device": str(options.device), "overrides": overrides, **layers}
            task |= {"threads": torch.get_num_threads(), "history": "history" in key, "before": 1}
            values = in_own_process(task)
            results.keep("memory", key, values)
            _say(key, values)
    for line in slopes(results.of("memory")):
        print(line)


def in_own_process(task: dict[str, Any]) -> dict[str, Any]:
    """What ``one_evaluation`` prints; where the memory was not enough, ``failed`` says so."""
    command = [sys.executable, "-m", "benchmarks.against_baseline.one_evaluation", json.dumps(task)]
    found = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": found})
    if done.returncode == 0:
        values: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return values
    words = done.stderr.strip().splitlines()
    if done.returncode == 2:
        raise UserError(words)
    if done.returncode > 0 and "memory" not in "".join(words[-1:]).lower():  # a mistake, not a lack of memory
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return {"failed": "killed, most likely for its memory" if done.returncode < 0 else words[-1]}


def label(key: dict[str, Any]) -> str:
    """Who was measured: the baseline, or ours with its configuration."""
    history = ", a full history" if "history" in key else ""
    return "baseline" if key["side"] == "baseline" else f"ours {described(key)}{history}"


def slopes(records: Sequence[Record]) -> list[str]:
    """What a megapixel takes between, and at, the two largest sizes of each side on each device."""
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for record in records:
        if "bytes" in record["values"]:
            values, size = record["values"], pictures.megapixels(record["key"]["size"])
            point = size, values["bytes"] / 1e9, values["seconds"]
            found.setdefault((label(record["key"]), record["key"]["device"]), []).append(point)
    lines = []
    for (side, device), points in found.items():
        if len({size for size, *_ in points}) > 1:
            (small, less, short), (large, more, long) = sorted(points)[-2:]
            slope, growth = (more - less) / (large - small), long / large / (short / small)
            lines.append(
                f"{side} on {device}: {slope:.2f} GB per megapixel, from {small:.3g} to {large:.3g} megapixels; "
                f"a megapixel takes {growth:.2f} times as long there"
            )
    return lines


def _say(key: dict[str, Any], values: dict[str, Any]) -> None:
    if "failed" in values:
        told = f"did not fit into the memory: {values['failed']}"
    else:
        told = f"peak {values['bytes'] / 1e9:.2f} GB, {values['seconds']:.3g} s per evaluation"
    print(f"{key['size']} {label(key)}: {told}", flush=True)
