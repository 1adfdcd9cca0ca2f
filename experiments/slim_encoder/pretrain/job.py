"""One training of the encoder: pictures, fit, export."""

import itertools
import logging
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers import TensorBoardLogger

from experiments.slim_encoder.pretrain import export
from experiments.slim_encoder.pretrain.data import Batches, at_sizes, bundled, generate
from experiments.slim_encoder.pretrain.module import Pretraining
from nst import image
from nst.callbacks.checkpoint_io import WholeCheckpointIO

log = logging.getLogger(__name__)


def run(cfg: DictConfig) -> None:
    """Trains and exports; goes on from the folder's last checkpoint where there is one."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    recipe: Any = OmegaConf.to_container(cfg, resolve=True)
    del recipe["export"], recipe["threads"], recipe["checkpoint_every_steps"]
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    pl.seed_everything(cfg.seed, verbose=False)
    log.info("Generating %d classes of %d textures", cfg.classes, cfg.samples)
    made = {key: cfg[key] for key in ("classes", "samples", "palettes", "size", "seed")}
    textures = generate(folder / "textures.npy", **made)
    pictures = bundled()
    batches = Batches(textures, at_sizes(pictures), batch_size=cfg.batch_size, crop=cfg.crop, seed=cfg.seed)
    keys = ("architecture", "classes", "lr", "weight_decay", "steps", "draw", "smoothing")
    module = Pretraining(batches=batches, **{key: cfg[key] for key in keys})
    small = [image.resize(picture, (256, 256)) for picture in pictures]
    module.learner.trunk.whiten(module.normalized(torch.cat(small)), torch.Generator().manual_seed(cfg.seed))
    fit(module, folder, steps=cfg.steps, checkpoint_every_steps=cfg.checkpoint_every_steps)
    state = export.unpaired(module.learner.trunk.cpu().eval(), cfg.architecture)
    digest = export.write(export.calibrate(state, cfg.architecture, small), Path(cfg.export), recipe)
    log.info("The encoder is at %s (SHA-256 of its weights %s)", cfg.export, digest)


def fit(module: Pretraining, folder: Path, *, steps: int, checkpoint_every_steps: int) -> None:
    """Trains, from the last checkpoint in ``folder`` where there is one."""
    last = folder / "checkpoints" / "last.ckpt"
    trainer = pl.Trainer(
        max_steps=steps,
        max_epochs=-1,
        logger=TensorBoardLogger(folder, name="", version="tensorboard", default_hp_metric=False),
        callbacks=[
            ModelCheckpoint(last.parent, save_last=True, save_top_k=0, every_n_train_steps=checkpoint_every_steps),
            TQDMProgressBar(refresh_rate=20),
        ],
        plugins=[WholeCheckpointIO()],
        gradient_clip_val=1.0,
        log_every_n_steps=20,
        enable_model_summary=False,
    )
    trainer.fit(module, itertools.repeat(0), ckpt_path=last if last.is_file() else None)
