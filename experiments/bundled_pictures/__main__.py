"""Paint the pictures: `python -m experiments.bundled_pictures [NAME ...] --out FOLDER --size 768`."""

from __future__ import annotations

import argparse
import importlib
import time
from pathlib import Path

PICTURES = {
    "tubingen": "content",
    "ballerina": "content",
    "starry_night": "style",
    "picasso": "style",
    "shipwreck": "style",
    "scream": "style",
    "composition": "style",
}


def main() -> None:
    """Paint the pictures named on the command line, or all of them."""
    parser = argparse.ArgumentParser(description="Paint the example pictures.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PICTURES))
    parser.add_argument("--out", type=Path, default=Path("nst/assets"), help="folder for the pictures")
    parser.add_argument("--size", type=int, default=768, help="longest side in px")
    parser.add_argument("--quality", type=int, default=92, help="JPEG quality")
    args = parser.parse_args()
    for name in args.names or PICTURES:
        if name not in PICTURES:
            parser.error(f"no picture is called {name!r}; there are: {', '.join(PICTURES)}")
    for name in args.names or PICTURES:
        began = time.perf_counter()
        image = importlib.import_module(f".{name}", __package__).paint(args.size)
        path = args.out / PICTURES[name] / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, quality=args.quality, optimize=True)
        seconds, weight = time.perf_counter() - began, path.stat().st_size / 1000
        print(f"{path}: {image.width}x{image.height}, {weight:.0f} kB, {seconds:.1f} s")


if __name__ == "__main__":
    main()
