"""Run folders as nst.train leaves them, without a run: for what only reads them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from nst.files.run_folder import RunFolder

VERSIONS = {"nst": "0.1.0", "python": "3.11.7", "torch": "2.15.0"}
WEIGHTS = {"path": "/weights/vgg19.pth", "source": "cache", "sha256": "dcbb9e" + "0" * 58, "detail": None}


def make_run(
    folder: Path,
    *,
    content: str = "tubingen",
    style: str = "picasso",
    colour: tuple[int, int, int] = (200, 60, 30),
    status: str = "completed",
    total: float = 0.5,
    changes: Mapping[str, Any] | None = None,
    choices: Mapping[str, str] | None = None,
    assets: Mapping[str, Any] | None = None,
    picture: Image.Image | None = None,
    made: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Mapping[str, float | None]] | None = None,
) -> Path:
    """A run's folder; ``changes`` are dotted keys of its configuration, ``assets`` says otherwise of its inputs.

    ``made`` says otherwise of the summary: where and with what it was made. ``metrics`` are measures by observer.
    """
    folder.mkdir(parents=True)
    config = _config(content, style)
    for key, value in (changes or {}).items():
        *parents, last = key.split(".")
        node = config
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(config, allow_unicode=True, sort_keys=False), encoding="utf-8")
    (picture or Image.new("RGB", (64, 48), colour)).save(folder / "result.png")
    curve = [(n, total * (1 + 50 / n), 0.6 * total, 4e-7 * total) for n in range(1, 31)]
    rows = [",".join(map(str, row)) for row in curve]
    (folder / "losses.csv").write_text("evaluation,total,content,style\n" + "\n".join(rows) + "\n")
    summary = {
        "status": status,
        "evaluations": 30,
        "best_evaluation": 30,
        "losses": {"total": total, "content": 0.6 * total, "style": 4e-7 * total, "tv": 0.0},
        "seconds": 12.5,
        "choices": {"optimizer": "lbfgs", "layers": "seed", "weights": "seed", **(choices or {})},
        "assets": {"content": input_of(content), "style": input_of(style), "weights": WEIGHTS, **(assets or {})},
        "error": None if status in ("completed", "running") else "what went wrong",
        "device": "cpu",
        "devices": 1,
        "processor": "AMD EPYC (AVX512)",
        "precision": 32,
        "threads": 2,
        "git_commit": "0123456789abcdef",
        "versions": VERSIONS,
        "peak_memory_bytes": 2**30,
        **(made or {}),
    }
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    if metrics is not None:
        observers = {name: {"sha256": name.encode().hex(), "values": dict(values)} for name, values in metrics.items()}
        RunFolder(folder).write_metrics(observers)
    return folder


def input_of(name: str, source: str = "cache") -> dict[str, Any]:
    """Where a picture came from; the file isn't there any more."""
    return {"path": f"/gone/{name}.jpg", "source": source, "sha256": (name.encode().hex() + "0" * 64)[:64]}


def noisy(seed: int, side: int = 512) -> Image.Image:
    """A picture as rich in detail as a painted one: clouds, strokes and grain."""
    random = np.random.default_rng(seed)
    layers = [
        np.asarray(
            Image.fromarray(random.integers(0, 256, (size, size, 3), dtype=np.uint8)).resize((side, side)), np.float32
        )
        for size in (6, 24, 96, side)
    ]
    mixed = sum(part * layer for part, layer in zip((0.45, 0.3, 0.2, 0.1), layers, strict=True))
    return Image.fromarray(np.clip(mixed, 0, 255).astype(np.uint8))


def _config(content: str, style: str) -> dict[str, Any]:
    return {
        "size": 64,
        "evaluations": 30,
        "seed": 0,
        "name": f"{content}-{style}",
        "threads": None,
        "content": {"name": content, "path": None, "url": f"https://example.org/{content}.jpg", "sha256": "0" * 64},
        "style": {"name": style, "path": None, "url": f"https://example.org/{style}.jpg", "sha256": "0" * 64},
        "encoder": {"architecture": "vgg19", "weights": "auto"},
        "layers": {"content": ["relu4_2"], "style": ["relu1_1", "relu2_1"]},
        "weights": {"content": 1.0, "style": 1e6, "tv": 0.0, "style_layers": {}},
        "optimizer": {"_target_": "nst.optimizer.ProjectedLBFGS", "_partial_": True, "lr": 1.0, "history_size": 100},
        "logger": {"name": ""},
    }
