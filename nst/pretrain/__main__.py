"""``python -m nst.pretrain``: makes the pictures, trains, exports."""

import hydra
from omegaconf import DictConfig

from nst import paths


@hydra.main(version_base="1.3", config_path=str(paths.configs()), config_name="pretrain")
def pretrain(cfg: DictConfig) -> None:
    """One training of the encoder, from its configuration to its file."""
    from nst.pretrain.job import run  # imports torch, which --help need not wait for

    run(cfg)


if __name__ == "__main__":
    pretrain()
