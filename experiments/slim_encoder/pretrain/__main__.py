"""``python -m experiments.slim_encoder.pretrain``: make the pictures, train, export."""

from pathlib import Path

import hydra
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path=str(Path(__file__).resolve().parent), config_name="pretrain")
def pretrain(cfg: DictConfig) -> None:
    """Train the encoder once, from its configuration to its file."""
    from experiments.slim_encoder.pretrain.job import run  # imports torch, which --help need not wait for

    run(cfg)


if __name__ == "__main__":
    pretrain()
