"""The frozen layers' own gradient is autograd's, and keeps less."""

import gc
import weakref
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from nst.encoder import architecture as arch
from nst.encoder import layers, signs
from nst.encoder import weights as encoder
from nst.encoder.pooling import L2Pool2d, RescaledAvgPool2d
from nst.encoder.vgg import MEAN, STD, VGG
from tests.conftest import image

POOLS = {
    "average": lambda: nn.AvgPool2d(2, 2),
    "max": lambda: nn.MaxPool2d(2, 2),
    "thirds": lambda: nn.AvgPool2d(3, 3),
    "overlapping": lambda: nn.AvgPool2d(3, 2),
    "up": lambda: nn.AvgPool2d(2, 2, ceil_mode=True),
    "norm": lambda: nn.LPPool2d(2.0, 2, 2),
    "rescaled": lambda: RescaledAvgPool2d(2, 2, 2.0),
    "rescaled thirds": lambda: RescaledAvgPool2d(3, 2, 1.5),
    "l2": lambda: L2Pool2d(2, 2, 0.78),
}
KINDS = {"ours": torch.float32, "plain": torch.float32, "truth": torch.float64}
LAYERS = ["relu1_1", "conv1_2", "relu2_1", "relu2_2", "conv3_1", "relu3_1"]


def reference(
    picture: Tensor, pooling: nn.Module, layers: list[str], dtype: torch.dtype, padding: str = "constant"
) -> dict[str, Tensor]:
    """The features by torch's own functions, which autograd can differentiate."""
    state = encoder.random_state("slim", 0)
    x = (picture - torch.tensor(MEAN, dtype=picture.dtype).view(3, 1, 1)) / torch.tensor(STD, dtype=picture.dtype).view(
        3, 1, 1
    )
    x, features, deepest = x.to(dtype), {}, arch.deepest("slim", layers)
    for name, index in arch.convolution_indices("slim").items():
        if name.endswith("_1") and name != "conv1_1":
            x = pooling(x)
        weight, bias = (state[f"features.{index}.{part}"].to(dtype) for part in ("weight", "bias"))
        features[name] = nn.functional.conv2d(nn.functional.pad(x, (1, 1, 1, 1), mode=padding), weight, bias)
        x = features[name.replace("conv", "relu")] = features[name].relu()
        if deepest in features:
            break
    return {name: features[name] for name in layers}


def make(pooling: str, layers: list[str], dtype: torch.dtype = torch.float64, padding: str = "zeros") -> VGG:
    return VGG(
        architecture="slim",
        layers=layers,
        pooling=POOLS[pooling],
        state=encoder.random_state("slim", 0),
        padding=padding,
        dtype=dtype,
    )


def scalar(features: dict[str, Tensor]) -> Tensor:
    """Something to differentiate, that looks at every value of every layer in its own way."""
    return sum(
        ((index + 1) * feature.double().sin() * torch.linspace(0, 1, feature.shape[-1])).sum()
        for index, feature in enumerate(features.values())
    )  # type: ignore[return-value]


@pytest.mark.parametrize("few", [0, signs.FEW], ids=["bits", "activations"])
@pytest.mark.parametrize("size", [(20, 28), (23, 37)])
@pytest.mark.parametrize("pooling", POOLS)
def test_the_gradient_is_autograds(
    pooling: str, size: tuple[int, int], few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not few:
        monkeypatch.setattr(layers, "signs", packed)
    ours, theirs = (image(1, *size).requires_grad_() for _ in range(2))
    scalar(make(pooling, LAYERS)(ours)).backward()
    scalar(reference(theirs, POOLS[pooling](), LAYERS, torch.float64)).backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    assert (ours.grad - theirs.grad).norm() < 1e-12 * theirs.grad.norm()


@pytest.mark.parametrize("size", [(8, 8), (23, 37)])
@pytest.mark.parametrize("padding", ["reflect", "replicate"])
def test_the_gradient_at_the_edge_is_autograds(padding: str, size: tuple[int, int]) -> None:
    ours, theirs = (image(1, *size).requires_grad_() for _ in range(2))
    found, wanted = (
        make("average", LAYERS, padding=padding)(ours),
        reference(theirs, POOLS["average"](), LAYERS, torch.float64, padding),
    )
    for name in LAYERS:
        torch.testing.assert_close(found[name], wanted[name])
    scalar(found).backward()
    scalar(wanted).backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    assert (ours.grad - theirs.grad).norm() < 1e-12 * theirs.grad.norm()


def test_pooling_by_norm_has_a_gradient_where_nothing_is_active() -> None:
    x = torch.zeros(1, 1, 2, 4)
    x[..., 2:] = 3
    x.requires_grad_()
    pooled = L2Pool2d(2, 2, 0.5)(x)
    assert pooled.flatten().tolist() == pytest.approx([0, 0.5 * 6], abs=1e-12)
    pooled.sum().backward()
    assert x.grad is not None
    assert x.grad[0, 0].tolist() == [[0, 0, 0.25, 0.25]] * 2


def packed(activations: Tensor) -> Tensor:
    """The signs as many activations have them, made plainly."""
    values = activations.permute(0, 2, 3, 1).reshape(-1, 8)
    return ((values > 0) * 2 ** torch.arange(8)).sum(1).to(torch.uint8)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_bits_are_the_signs(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    activations = torch.randn(1, 16, 7, 5, generator=torch.Generator().manual_seed(0)).relu().to(dtype)
    activations = activations.contiguous(memory_format=torch.channels_last)
    monkeypatch.setattr(signs, "FEW", 64)
    bits = signs.signs(activations)
    assert torch.equal(bits, packed(activations))
    gradient = torch.randn(1, 16, 7, 5, generator=torch.Generator().manual_seed(1)).to(dtype)
    positive = gradient * (activations > 0)
    assert torch.equal(signs.keep_positive(gradient, bits), positive)
    for kept in (bits, activations):
        overwritten = gradient.clone(memory_format=torch.channels_last)
        assert signs.keep_positive(overwritten, kept) is overwritten
        assert torch.equal(overwritten, positive)


def test_bf16_is_no_further_from_the_truth_than_autograds() -> None:
    pictures = {name: image(1, 24, 24).to(dtype).requires_grad_() for name, dtype in KINDS.items()}
    features = make("average", LAYERS, torch.bfloat16)(pictures["ours"])
    assert {feature.dtype for feature in features.values()} == {torch.bfloat16}
    scalar(features).backward()
    scalar(reference(pictures["plain"], POOLS["average"](), LAYERS, torch.bfloat16)).backward()
    scalar(reference(pictures["truth"], POOLS["average"](), LAYERS, torch.float64)).backward()
    gradients = {name: picture.grad for name, picture in pictures.items() if picture.grad is not None}
    assert gradients["ours"].dtype == torch.float32
    ours, plain = ((gradients[name] - gradients["truth"]).norm() for name in ("ours", "plain"))
    assert ours < plain


@pytest.mark.parametrize("margin", ["zeros", "reflect", "replicate"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_split_convolution_is_as_exact_as_its_outputs(dtype: torch.dtype, margin: str) -> None:
    """Its outputs are those of the exact convolution, rounded; a plain one's are ten times as far away."""
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(8, 3, 3, 3, generator=generator).double(), torch.zeros(8, dtype=torch.float64)
    pixels = torch.rand(1, 3, 12, 10, generator=generator).double()
    truth = layers.Convolution(weight, bias, relu=False, dtype=torch.float64, margin=margin)
    split = layers.SplitConvolution(weight.float(), bias.float(), relu=False, dtype=dtype, margin=margin)
    gradient = torch.randn(1, 8, 12, 10, generator=generator).to(dtype)
    exact = truth(pixels)
    rounding = (exact.to(dtype).double() - exact).norm()
    assert (split(pixels.float()).double() - exact).norm() < 1.1 * rounding
    wanted, found = truth.backward(gradient.double(), None), split.backward(gradient, None)
    assert found.dtype == torch.float32
    assert (found.double() - wanted).norm() < torch.finfo(dtype).eps * wanted.norm()


def test_a_layer_that_nothing_depends_on_has_no_gradient() -> None:
    picture = image(1, 24, 24).requires_grad_()
    features = make("average", ["relu1_1", "relu3_1"])(picture)
    features["relu1_1"].sum().backward()
    assert picture.grad is not None
    assert picture.grad.abs().sum() > 0


def test_activations_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signs, "FEW", 0)
    seen: list[weakref.ref[Tensor]] = []
    network = make("average", ["relu3_1"])
    for layer in network.sequence.values():
        layer.register_forward_hook(lambda _, __, output: seen.append(weakref.ref(output)))
    features = network(image(1, 24, 24).requires_grad_())
    gc.collect()
    alive = [reference() for reference in seen if reference() is not None]
    assert len(seen) == 7
    assert all(tensor.shape == features["relu3_1"].shape for tensor in alive if tensor is not None)


def test_the_layers_stand_in_their_order() -> None:
    names = list(make("average", LAYERS).sequence)
    assert names == ["relu1_1", "conv1_2", "relu1_2", "pool1", "relu2_1", "relu2_2", "pool2", "conv3_1", "relu3_1"]
    order = [*arch.layer_names("slim")]
    assert all(order.index(a) < order.index(b) for a, b in pairwise(n for n in names if n in order))


@pytest.mark.parametrize("size", [2, 3])
def test_pooling_on_cuda_computes_the_means_and_repeats_the_gradient(size: int) -> None:
    x = torch.rand(1, 8, 4 * size, 3 * size, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    means = layers.window_means(x, size)
    torch.testing.assert_close(means, nn.functional.avg_pool2d(x, size))
    assert means.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(layers.repeated(means, size), nn.functional.interpolate(means, scale_factor=float(size)))
    module = layers.Averaging(nn.AvgPool2d(size, size))
    plain = module(x), module.backward(means, x.shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "is_cuda", property(lambda tensor: True))
        torch.testing.assert_close((module(x), module.backward(means, x.shape)), plain)
        torch.testing.assert_close(module(x[..., 1:]), nn.functional.avg_pool2d(x[..., 1:], size))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_bits_are_unpacked_alike_on_a_gpu(dtype: torch.dtype) -> None:
    gradient = torch.randn(40, 8).to(dtype)
    kept = torch.randint(256, (40,), dtype=torch.uint8)
    kinds = {torch.bfloat16: torch.int16, torch.float32: torch.int32}
    here, there = (gradient.clone().view(kinds[dtype]) for _ in range(2))
    signs._mask_in_cache(here, kept, size=16)
    signs._mask(there, kept, size=16)
    assert torch.equal(here, there)
    assert (here == 0).any()
