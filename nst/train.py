"""The main job: ``python -m nst.train style=starry_night optimizer=lbfgs``."""

import sys

import hydra
from omegaconf import DictConfig

from nst import cli, paths, torchrun


@hydra.main(version_base="1.3", config_path=str(paths.configs()), config_name="train")
def train(cfg: DictConfig) -> float:
    """Paints one picture; returns its total loss, for sweepers."""
    from nst import job  # imports torch, which --help need not wait for

    return job.paint(cfg)


def main() -> None:
    """The console's entry point."""
    if not torchrun.is_first():
        from nst.follow import follow

        sys.exit(follow(torchrun.hear()))
    sys.exit(cli.run(train))


if __name__ == "__main__":
    main()
