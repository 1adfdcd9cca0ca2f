"""Paint the masks of the bundled tubingen's sky and of the rest: `python -m experiments.control`."""

from pathlib import Path

import numpy as np
from PIL import Image

from experiments.bundled_pictures import tubingen
from experiments.bundled_pictures.fields import Array, blur
from experiments.bundled_pictures.frame import Frame


def sky() -> Array:
    """Where the picture is sky, with soft edges: what nothing was painted over, above the river."""
    frame = Frame(768, 576, 768)
    untouched = (tubingen.town_above_water(frame) == tubingen.sky(frame)).all(-1) & (frame.y < tubingen.QUAY)
    return np.clip(blur(untouched.astype(float), 3), 0, 1)


def main() -> None:
    """Write both masks beside this file."""
    for name, mask in (("sky", sky()), ("town", 1 - sky())):
        Image.fromarray(np.round(255 * mask).astype(np.uint8)).save(Path(__file__).parent / f"{name}.png")


if __name__ == "__main__":
    main()
