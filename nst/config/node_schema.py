"""Schemas of the nodes that Hydra instantiates, by their ``_target_``."""

from importlib.util import find_spec
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, PositiveInt, model_validator

from nst.config.base import Node, NonNegative, Positive, Strict, Text


class Pooling(Node):
    kernel_size: PositiveInt
    stride: PositiveInt


class RescaledPooling(Pooling):
    factor: Positive


class TermConfig(Strict):
    """A term in ``objective.style`` made of two functions. Their keys are checked if NODES has their targets."""

    target: str = Field(alias="_target_")
    statistic: dict[str, Any]
    distance: dict[str, Any]
    weight: NonNegative


class FormulasConfig(Strict):
    """The group ``objective``."""

    target: str = Field(alias="_target_")
    content: dict[str, Any]
    style: dict[str, dict[str, Any]]
    style_layers_averaged: bool
    relative: bool
    tv: dict[str, Any]
    laplacian: dict[str, Any]


class TotalVariation(Node):
    exponent: Positive


class Laplacian(Node):
    pool: PositiveInt


class ShiftedGram(Node):
    shifts: Annotated[list[PositiveInt], Field(min_length=1)]


class SortedProjections(Node):
    directions: PositiveInt | None
    seed: Annotated[int, Field(ge=0)]


class JointConfig(Strict):
    target: str = Field(alias="_target_")
    weight: NonNegative


class DrawnProjections(JointConfig):
    directions: PositiveInt | None


class SelfSimilarityConfig(JointConfig):
    samples: Annotated[int, Field(ge=2)]


class SampledConfig(SelfSimilarityConfig):
    style_samples: Annotated[int, Field(ge=2)]


class Turned(JointConfig):
    turns: Annotated[int, Field(ge=1, le=4)]


class NearestNeighborsConfig(Turned):
    content_share: Annotated[float, Field(ge=0, le=1)]


class PatchNeighborsConfig(Turned):
    size: PositiveInt
    stride: PositiveInt


class GaussianWasserstein(Node):
    eps: Positive


class ContentNoise(Node):
    deviation: NonNegative


class Blend(Node):
    content_share: NonNegative
    style_share: NonNegative
    noise_share: NonNegative

    @model_validator(mode="after")
    def _has_one(self) -> "Blend":
        if not self.content_share + self.style_share + self.noise_share:
            raise ValueError("content_share, style_share, noise_share: all are 0; at least one must be above 0")
        return self


class StartImage(Node):
    path: Text
    max_pixels: PositiveInt


class LBFGSBase(Node):
    lr: Positive
    history_size: PositiveInt
    history_dtype: Literal["bfloat16"] | None
    tolerance_grad: NonNegative
    tolerance_change: NonNegative


class ProjectedLBFGSConfig(LBFGSBase):
    rounding: NonNegative


class LBFGSConfig(LBFGSBase):
    line_search_fn: Literal["strong_wolfe"] | None


class AdamConfig(Node):
    lr: Positive
    betas: Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)]
    eps: Positive


class RMSpropConfig(Node):
    lr: Positive
    alpha: Annotated[float, Field(ge=0, lt=1)]
    eps: Positive


class FirstOrderConfig(Node):
    optimizer: dict[str, Any]
    lr: Positive
    levels: PositiveInt | None
    averaging: Annotated[float, Field(gt=0, lt=1)] | None


class SingleConfig(Node):
    patience: PositiveInt | None
    min_improvement: Annotated[float, Field(ge=0, lt=1)]


Rule = Literal["halving", "doubling", "half_at_last"]


class ScaleFactors(Strict):
    content: list[NonNegative] | Rule | None
    style: list[NonNegative] | Rule | None
    tv: list[NonNegative] | Rule | None
    lr: list[Positive] | Rule | None = None
    terms: dict[str, list[NonNegative] | Rule] = Field(default_factory=dict)


class PyramidConfig(SingleConfig):
    scales: PositiveInt | None
    smallest: PositiveInt | None
    ratio: Annotated[float, Field(gt=1, le=16)]
    sizes: list[PositiveInt] | None
    shares: list[Positive] | Literal["doubling", "equal"] | None
    factors: ScaleFactors
    carry: Literal["upsample", "upsample_bilinear", "content_detail", "finest_detail_before_last"]
    finish: Annotated[list[str], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _has_an_end(self) -> "PyramidConfig":
        if self.scales is None and self.smallest is None and self.sizes is None:
            raise ValueError("scales, smallest, sizes: all are null; give at least one of them")
        if self.sizes is not None and self.sizes != sorted(set(self.sizes)):
            raise ValueError(f"sizes={self.sizes}: must ascend, such as [96, 192]")
        return self


class Periodic(Node):
    every_evaluations: PositiveInt


class PreviewConfig(Strict):
    target: str = Field(alias="_target_")
    every_evaluations: PositiveInt


class LiveConfig(Node):
    port: Annotated[int, Field(ge=0, le=65535)]


class CheckpointConfig(Periodic):
    every_seconds: Positive | None
    keep_history: bool


class FilmConfig(Node):
    frames: PositiveInt
    fps: Annotated[int, Field(ge=1, le=100)]
    hold: NonNegative
    format: Literal["mp4", "gif"]


class ExtraNode(Node):
    """A node that needs an extra of nst."""

    @model_validator(mode="after")
    def _is_installed(self) -> "ExtraNode":
        module = self.target.rpartition(".")[2].lower()
        if find_spec(module) is None:
            raise ValueError(f"needs an extra: pip install 'nst[{module}]'")
        return self


class MLflowConfig(ExtraNode):
    experiment_name: Text
    tracking_uri: Text | None
    save_dir: Text


class WandBConfig(ExtraNode):
    project: Text
    entity: Text | None
    group: Text | None
    tags: list[Text] | None
    mode: Literal["offline", "online"]


#: Schemas of the nodes with known keys. The keys of other nodes are checked when they are instantiated.
NODES: dict[str, type[BaseModel]] = {
    "torch.nn.AvgPool2d": Pooling,
    "torch.nn.MaxPool2d": Pooling,
    "nst.encoder.pooling.RescaledAvgPool2d": RescaledPooling,
    "nst.encoder.pooling.L2Pool2d": RescaledPooling,
    "nst.objective.Formulas": FormulasConfig,
    "nst.objective.Term": TermConfig,
    "nst.objective.functional.total_variation": TotalVariation,
    "nst.objective.functional.laplacian_difference": Laplacian,
    "nst.objective.functional.gram_of_shifted": ShiftedGram,
    "nst.objective.functional.sorted_projections": SortedProjections,
    "nst.objective.functional.gaussian_wasserstein": GaussianWasserstein,
    "nst.objective.joint.SlicedWasserstein": DrawnProjections,
    "nst.objective.joint.RelaxedEMD": SampledConfig,
    "nst.objective.joint.HypercolumnMoments": SampledConfig,
    "nst.objective.joint.Palette": SampledConfig,
    "nst.objective.joint.SelfSimilarity": SelfSimilarityConfig,
    "nst.objective.neighbors.NearestNeighbors": NearestNeighborsConfig,
    "nst.objective.neighbors.FeatureSplitting": Turned,
    "nst.objective.neighbors.PatchNeighbors": PatchNeighborsConfig,
    "nst.optimizer.start.content": Node,
    "nst.optimizer.start.content_noise": ContentNoise,
    "nst.optimizer.start.noise": Node,
    "nst.optimizer.start.blend": Blend,
    "nst.optimizer.start.style": Node,
    "nst.optimizer.start.style_mean": Node,
    "nst.optimizer.start.image": StartImage,
    "nst.optimizer.LBFGS": LBFGSConfig,
    "nst.optimizer.ProjectedLBFGS": ProjectedLBFGSConfig,
    "nst.optimizer.FirstOrder": FirstOrderConfig,
    "torch.optim.Adam": AdamConfig,
    "torch.optim.RMSprop": RMSpropConfig,
    "nst.optimizer.schedule.single": SingleConfig,
    "nst.optimizer.schedule.pyramid": PyramidConfig,
    "nst.logger.MLflow": MLflowConfig,
    "nst.logger.WandB": WandBConfig,
    "nst.callbacks.Snapshot": Periodic,
    "nst.callbacks.Live": LiveConfig,
    "nst.callbacks.Preview": PreviewConfig,
    "nst.callbacks.Checkpoint": CheckpointConfig,
    "nst.callbacks.Film": FilmConfig,
}
