"""Measures the pictures of the study ``weights`` by each of the two networks, with which half of them were painted.

    python -m experiments.weights FOLDER

FOLDER is the study's. For each picture it prints, by Oxford's VGG-19 and by the bundled slim network, the distances of
``experiments.slim_encoder.judge``: *style distance*, the mean over relu1_1, relu2_1, relu3_1 of
|G(x) - G(style)|² / |G(style)|², and *content distance*, mean((F(x) - F(content))²) / var(F(content)) at relu3_1.
"""

import argparse
import statistics
from pathlib import Path

from rich.console import Console
from rich.table import Table

from experiments.slim_encoder.judge import Judge
from nst import image
from nst.encoder import oxford
from nst.files import paths
from nst.files.run_folder import RunFolder


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="Measures the pictures of the study weights by each network.")
    parser.add_argument("folder", type=Path, help="folder of the study weights")
    options = parser.parse_args()
    packaged = oxford.find()
    assert packaged is not None
    assert packaged.path is not None
    judges = [Judge(packaged.path, convention="caffe"), Judge(paths.bundled_encoder(), "slim")]
    table = Table(
        "encoder", "pair", *(f"{what}, by {who}" for who in ("Oxford", "slim") for what in ("style", "content"))
    )
    found: dict[str, list[list[float]]] = {}
    for file in sorted(options.folder.glob("*/result.png")):
        assets = RunFolder(file.parent).read_summary()["assets"]
        picture = image.load(file, key="FOLDER")
        shape = (picture.shape[-2], picture.shape[-1])
        files = {kind: Path(assets[kind]["path"]) for kind in ("content", "style")}
        content, style = (image.resize(image.load(path, key=kind), shape) for kind, path in files.items())
        painter = "slim" if assets["weights"]["source"] == "bundled" else "Oxford"
        row = [distance for judge in judges for distance in judge.distances(picture, content, style)]
        found.setdefault(painter, []).append(row)
        table.add_row(painter, "-".join(path.stem for path in files.values()), *(f"{value:.4f}" for value in row))
    table.add_section()
    for painter, rows in found.items():
        table.add_row(painter, "median", *(f"{statistics.median(column):.4f}" for column in zip(*rows, strict=True)))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
