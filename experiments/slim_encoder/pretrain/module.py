"""The LightningModule that trains the encoder."""

import math
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.slim_encoder.pretrain.data import Batches
from experiments.slim_encoder.pretrain.network import Learner, drawing
from nst.encoder.vgg import MEAN, STD


class Pretraining(pl.LightningModule):
    """Learns to tell textures apart by the statistics of its layers, and to draw the picture again from them.

    Args:
        batches: what it learns from.
        architecture: a key of ``nst.architecture.BLOCKS``.
        classes: number of texture classes.
        lr: the highest rate of AdamW (Loshchilov and Hutter, arXiv:1711.05101).
        weight_decay: AdamW's.
        steps: number of steps in all.
        draw: weight of the loss of drawing, the sum over the layers of what is left unexplained of 1; beside it
            stands the mean cross-entropy of the classifiers.
        smoothing: label smoothing.
    """

    def __init__(
        self, *, batches: Batches, architecture: str, classes: int, lr: float, weight_decay: float, steps: int,
        draw: float, smoothing: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.save_hyperparameters(ignore="batches")
        self.batches = batches
        self.learner = Learner(architecture, classes)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))

    def normalized(self, pictures: Tensor) -> Tensor:
        """Pictures (N, 3, H, W) in [0, 1] as the network reads them."""
        return (pictures - self.get_buffer("mean")) / self.get_buffer("std")

    def training_step(self, batch: object, index: int) -> Tensor:
        pictures, labels = (each.to(self.device) for each in self.batches.draw(self.global_step))
        x = self.normalized(pictures).contiguous(memory_format=torch.channels_last)
        logits, drawings = self.learner(x, len(labels))
        smoothing = self.hparams["smoothing"]
        losses = {name: F.cross_entropy(each, labels, label_smoothing=smoothing) for name, each in logits.items()}
        unexplained = {}
        for name, drawn in drawings.items():
            target = drawing(x, name)
            unexplained[name] = F.mse_loss(drawn, target) / target.var()
        if self.global_step % 20 == 0:
            right = {f"accuracy/{name}": (each.argmax(1) == labels).float().mean() for name, each in logits.items()}
            self.log_dict({f"unexplained/{name}": loss for name, loss in unexplained.items()} | right)
        loss = self.hparams["draw"] * torch.stack(list(unexplained.values())).sum()
        return loss + torch.stack(list(losses.values())).mean()

    def configure_optimizers(self) -> Any:
        steps = self.hparams["steps"]
        learned = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(learned, lr=self.hparams["lr"], weight_decay=self.hparams["weight_decay"])
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: half_cosine(step / steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def half_cosine(done: float) -> float:
    """A rate's factor: it rises over the first twentieth and falls along a cosine (Loshchilov, arXiv:1608.03983)."""
    return min(1.0, 20 * done + 0.01) * (1 + math.cos(math.pi * min(1.0, done))) / 2
