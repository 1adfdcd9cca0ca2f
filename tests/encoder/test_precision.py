"""16-bit encoders: which is taken where, and how their gradients keep within their numbers' range."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from nst.encoder import precision
from nst.encoder import weights as encoder
from nst.encoder.precision import LossScale, full_float32
from nst.encoder.vgg import VGG
from nst.errors import UserError
from nst.objective import functional
from tests.conftest import image

LAYERS = ["relu1_1", "relu2_1", "relu3_1"]
CPU = torch.device("cpu")


def pool() -> nn.Module:
    return nn.AvgPool2d(2, 2)


def losses(dtype: torch.dtype, picture: Tensor) -> Callable[[], Tensor]:
    """A style loss whose gradient at the features is too small for 16 bits."""
    state = encoder.random_state("slim", 0)
    network = VGG(architecture="slim", layers=LAYERS, pooling=pool, state=state, dtype=dtype)

    def loss() -> Tensor:
        grams = [functional.gram_per_element(feature) for feature in network(picture).values()]
        return sum((gram.square().mean() for gram in grams), start=torch.zeros(()))

    return loss


def gradient(dtype: torch.dtype, scale: LossScale | None = None) -> Tensor:
    picture = image(1, 64, 64).to(torch.float64 if dtype == torch.float64 else torch.float32).requires_grad_()
    loss = losses(dtype, picture)
    if scale is None:
        loss().backward()
    else:
        scale.backward(loss(), loss, picture)
    assert picture.grad is not None
    return picture.grad


@pytest.mark.parametrize("factor", [2.0**16, 2.0**60])
def test_a_scale_keeps_small_gradients_from_vanishing_and_large_ones_finite(factor: float) -> None:
    truth = gradient(torch.float64)
    assert (gradient(torch.float16) - truth).norm() > 0.5 * truth.norm(), "without a scale they vanish"
    scale = LossScale(factor)
    assert (gradient(torch.float16, scale) - truth).norm() < 0.02 * truth.norm()
    assert scale.factor <= factor
    assert math.log2(scale.factor).is_integer()


def test_a_gram_matrix_of_16_bits_is_summed_in_32() -> None:
    features = torch.randn(1, 24, 150, 150, generator=torch.Generator().manual_seed(0)).bfloat16()
    truth = functional.gram_per_position(features.double())
    assert (functional.gram_per_position(features) - truth).norm() < 1e-5 * truth.norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_rounding_errors_of_a_filter_sum_to_nearly_zero(dtype: torch.dtype) -> None:
    weight = torch.randn(40, 24, 3, 3, generator=torch.Generator().manual_seed(0))
    rounded = precision.round_filters(weight, dtype)
    assert rounded.dtype == dtype
    step = torch.finfo(dtype).eps * weight.abs().max()
    assert ((rounded.double() - weight).abs() <= step).all()
    together, alone = (each.double().sub(weight).sum(dim=(1, 2, 3)).abs() for each in (rounded, weight.to(dtype)))
    assert together.max() <= step / 2
    assert together.mean() < 0.3 * alone.mean()


def test_weights_of_no_fewer_bits_are_kept() -> None:
    weight = torch.randn(4, 3, 3, 3)
    for dtype in (torch.float32, torch.float64):
        kept = precision.round_filters(weight, dtype)
        assert torch.equal(kept, weight.to(dtype))
        assert kept.data_ptr() != weight.data_ptr()


def test_float32_is_not_rounded_on_a_gpu() -> None:
    """By torch's default, convolutions there compute in TF32."""
    parts = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = [part.fp32_precision for part in parts]
    with full_float32():
        assert [part.fp32_precision for part in parts] == ["ieee", "ieee"]
    assert [part.fp32_precision for part in parts] == before


def test_a_scale_grows_again() -> None:
    scale = LossScale(4.0)
    picture = image(1, 16, 16).requires_grad_()
    for _ in range(200):
        picture.grad = None
        scale.backward(picture.sum(), picture.sum, picture)
        assert torch.equal(picture.grad, torch.ones_like(picture))  # type: ignore[arg-type]
    assert (scale.factor, scale.good) == (8.0, 0)


def test_a_gradient_that_no_scale_makes_finite_is_left_to_the_caller() -> None:
    picture = torch.zeros(1, 3, 4, 4, requires_grad=True)
    scale = LossScale()

    def loss() -> Tensor:
        return picture.sqrt().sum()

    scale.backward(loss(), loss, picture)
    assert picture.grad is not None
    assert not picture.grad.isfinite().any()


@pytest.mark.parametrize(
    ("able", "chosen"),
    [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx512_f": True}, 32), ({}, 32)],
)
def test_auto_takes_bf16_where_the_processor_is_built_for_it(
    able: dict[str, bool], chosen: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert precision.settle("auto", CPU) == chosen
    assert precision.settle(64, CPU) == 64


def test_what_a_device_does_not_have_is_refused() -> None:
    with pytest.raises(UserError, match="precision=16: runs on CPU don't support it; choices: auto, bf16, 32, 64"):
        precision.settle(16, CPU)
    with pytest.raises(UserError, match="precision=64: runs on MPS don't support it; choices: auto, bf16, 32"):
        precision.settle(64, torch.device("mps"))
