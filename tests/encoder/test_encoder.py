"""The encoder is torchvision's VGG, by layer name."""

import csv
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models import vgg

from nst.encoder import architecture as arch
from nst.encoder import oxford
from nst.encoder import weights as encoder
from nst.encoder.vgg import MEAN, STD, VGG
from nst.errors import UserError
from nst.files import paths
from tests.conftest import Command, image

POOLS = {"avg": lambda: nn.AvgPool2d(2, 2), "max": lambda: nn.MaxPool2d(2, 2)}


def make(architecture: str, layers: list[str], pooling: str = "avg") -> VGG:
    state = encoder.random_state(architecture, 0)
    return VGG(architecture=architecture, layers=layers, pooling=POOLS[pooling], state=state, dtype=torch.float64)


@pytest.mark.parametrize(("name", "key"), [("vgg16", "D"), ("vgg19", "E")])
def test_the_blocks_are_torchvisions(name: str, key: str) -> None:
    assert [c for block in arch.BLOCKS[name] for c in (*block, "M")] == vgg.cfgs[key]


@pytest.mark.parametrize("pooling", ["avg", "max"])
@pytest.mark.parametrize("architecture", ["vgg16", "vgg19"])
def test_every_feature_equals_torchvisions_layer_by_layer(architecture: str, pooling: str) -> None:
    layers = arch.layer_names(architecture)
    ours = make(architecture, layers, pooling)
    theirs = getattr(models, architecture)(weights=None).features.double()
    theirs.load_state_dict({k.removeprefix("features."): v for k, v in encoder.random_state(architecture, 0).items()})
    picture = image(1, 32, 32)
    features = ours(picture)
    mean, std = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (MEAN, STD))
    x = (picture - mean) / std
    names = iter(layers)
    for module in theirs:
        if isinstance(module, nn.MaxPool2d):
            x = POOLS[pooling]()(x)
            continue
        x = nn.functional.relu(x) if isinstance(module, nn.ReLU) else module(x)
        torch.testing.assert_close(features[next(names)], x, rtol=1e-6, atol=1e-7)
    assert list(names) == []


def test_conv_is_before_the_relu_and_relu_after_it() -> None:
    features = make("slim", ["conv2_1", "relu2_1"])(image(1))
    assert (features["conv2_1"] < 0).any()
    assert torch.equal(features["relu2_1"], features["conv2_1"].clamp(min=0))


def test_nothing_is_computed_past_the_deepest_layer() -> None:
    assert list(make("vgg19", ["relu2_1", "relu1_1"]).sequence)[-1] == "relu2_1"


def test_the_weights_are_frozen() -> None:
    assert not any(parameter.requires_grad for parameter in make("slim", ["relu1_1"]).parameters())


def test_a_partial_checkpoint_serves_the_layers_that_it_holds(partial_checkpoint: Path) -> None:
    state = encoder.load_state(partial_checkpoint, "vgg19")
    assert encoder.available_layers(state, "vgg19")[-1] == "relu2_2"
    network = VGG(architecture="vgg19", layers=["relu2_2"], pooling=POOLS["avg"], state=state)
    assert network(image(1).float())["relu2_2"].shape == (1, 128, 12, 10)


@pytest.mark.parametrize("architecture", ["vgg19", "vgg16"])
def test_a_checkpoint_of_another_architecture_is_refused(checkpoint: Path, architecture: str) -> None:
    with pytest.raises(UserError, match="this checkpoint is of slim, not of"):
        encoder.load_state(checkpoint, architecture)


@pytest.mark.parametrize("architecture", ["vgg16_bn", "vgg19_bn"])
def test_batch_norm_is_torchvisions_layer_by_layer(architecture: str, tmp_path: Path) -> None:
    theirs = getattr(models, architecture)(weights=None)
    generator = torch.Generator().manual_seed(0)
    for name, tensor in [*theirs.named_parameters(), *theirs.named_buffers()]:
        if name.startswith("features") and tensor.ndim == 1:  # what training would have made of it
            tensor.data.uniform_(0.5, 1.5, generator=generator)
    torch.save(theirs.state_dict(), tmp_path / "bn.pth")
    state = encoder.load_state(tmp_path / "bn.pth", architecture)
    layers = arch.layer_names(architecture)
    ours = VGG(architecture=architecture, layers=layers, pooling=POOLS["max"], state=state, dtype=torch.float64)
    picture = image(1, 32, 32)
    features = ours(picture)
    mean, std = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (MEAN, STD))
    x, names = (picture - mean) / std, iter(layers)
    for module in theirs.features.double().eval():
        x = nn.functional.relu(x) if isinstance(module, nn.ReLU) else module(x)
        if isinstance(module, nn.BatchNorm2d | nn.ReLU):
            assert (features[next(names)] - x).norm() < 1e-5 * x.norm()
    assert list(names) == []
    with pytest.raises(UserError, match=f"is of {architecture}, not of vgg19"):
        encoder.load_state(tmp_path / "bn.pth", "vgg19")


def test_caffes_weights_see_what_they_expect() -> None:
    """BGR from 0 to 255 less the means of each channel."""
    state = encoder.random_state("slim", 0)
    ours = VGG(
        architecture="slim", layers=["conv1_1"], pooling=POOLS["avg"], state=state, convention="caffe",
        dtype=torch.float64,
    )  # fmt: skip
    picture = image(1)
    caffe = 255 * picture[:, [2, 1, 0]] - torch.tensor([103.939, 116.779, 123.68], dtype=torch.float64).view(3, 1, 1)
    weight, bias = (state[f"features.0.{part}"].double() for part in ("weight", "bias"))
    torch.testing.assert_close(ours(picture)["conv1_1"], nn.functional.conv2d(caffe, weight, bias, padding=1))


@pytest.mark.parametrize("pooling", POOLS)
def test_normalized_filters_have_a_mean_activation_of_1(pooling: str) -> None:
    state = encoder.random_state("slim", 0)
    pictures = [image(seed, *size).float() for seed, size in ((1, (32, 40)), (2, (48, 32)))]
    usual = {"pooling": POOLS[pooling], "convention": "caffe", "padding": "reflect"}
    normalized = encoder.normalize(state, "slim", encoder.mean_activations(state, "slim", pictures, **usual))
    layers = [name for name in arch.layer_names("slim") if name.startswith("relu")]
    before, after = (
        [VGG(architecture="slim", layers=layers, state=each, **usual)(picture) for picture in pictures]
        for each in (state, normalized)
    )
    for name in layers:
        whole, plain = (torch.cat([found[name][0].flatten(1) for found in each], 1) for each in (after, before))
        least = 0.01 * plain.mean()
        active = plain.mean(1) >= least
        torch.testing.assert_close(whole.mean(1)[active], torch.ones(int(active.sum())), rtol=1e-2, atol=0)
        wanted = plain / plain.mean(1).clamp(min=least)[:, None]
        assert (whole - wanted).norm() < 1e-3 * wanted.norm()


@pytest.mark.parametrize("factor", [1, 0.01])
def test_published_filters_are_known_at_any_scale(factor: float) -> None:
    packaged = oxford.find()
    assert packaged is not None
    assert packaged.path is not None
    state = encoder.load_state(packaged.path, "vgg19")
    first = factor * state["features.0.weight"]
    assert encoder.published_convention({"features.0.weight": first}) == ("Oxford's VGG-19", "caffe")
    assert encoder.published_convention({"features.0.weight": first.flip(1)}) == (
        "Oxford's VGG-19, in RGB",
        "torchvision",
    )
    for network in ("torchvision's VGG-19", "torchvision's VGG-16"):
        [values] = [values for name, _, _, values in encoder._PUBLISHED if name == network]
        first[0] = factor * torch.tensor(values).view(3, 3, 3)
        first[1] = 0
        assert encoder.published_convention({"features.0.weight": first}) == (network, "torchvision")
    assert encoder.published_convention(encoder.random_state("vgg19", 0)) is None


def test_the_layers_of_any_checkpoint_are_calibrated() -> None:
    state = encoder.random_state("slim", 0)
    pictures = [image(seed, *size).float() for seed, size in ((1, (32, 40)), (2, (48, 32)))]
    found = encoder.mean_activations(state, "slim", pictures, convention="torchvision")
    calibrated = encoder.calibrate(state, "slim", {name: float(mean.mean()) for name, mean in found.items()})
    after = encoder.mean_activations(calibrated, "slim", pictures, convention="torchvision")
    for name, mean in after.items():
        assert float(mean.mean()) == pytest.approx(1, rel=1e-4)
        torch.testing.assert_close(mean, found[name] / found[name].mean(), rtol=1e-4, atol=1e-6)  # one factor a layer


def test_all_layers_may_be_calibrated_by_one_factor(inside: Command, small: list[str], tmp_path: Path) -> None:
    """The Gram matrices of layers keep their proportions: their losses at white noise are those without, times one."""
    given = ["init=noise", "schedule=single", "evaluations=1", "objective/style=[sliced_wasserstein]", "precision=32"]
    shares = []
    for value in ("false", "whole", "true"):
        words = [word for word in small if not word.startswith("encoder")]
        finished = inside(*words, *given, "encoder=vgg19_caffe", "encoder.weights=random",
                          f"encoder.calibrate={value}", f"hydra.run.dir=run_{value}")  # fmt: skip
        assert finished.returncode == 0, finished.stderr
        with (tmp_path / f"run_{value}" / "losses.csv").open() as file:
            [row] = csv.DictReader(file)
        style = {name: float(share) for name, share in row.items() if "style" in name and "relu" in name}
        shares.append({name: share / sum(style.values()) for name, share in style.items()})
    assert len(shares[0]) == 5
    assert shares[1] == pytest.approx(shares[0], rel=1e-3)
    assert shares[2] != pytest.approx(shares[0], rel=0.1)


def test_a_damaged_file_of_the_packages_layout_is_refused(tmp_path: Path) -> None:
    torch.save({"block1_conv1_W_q": torch.zeros(64, 3, 3, 3)}, tmp_path / "packed.bin")
    with pytest.raises(UserError, match="this checkpoint is damaged: block1_conv1 has another type or shape"):
        encoder.load_state(tmp_path / "packed.bin", "vgg19")


def test_a_checkpoint_with_batch_norm_is_not_one_without(tmp_path: Path) -> None:
    torch.save(models.vgg19_bn(weights=None).state_dict(), tmp_path / "bn.pth")
    with pytest.raises(UserError, match="this checkpoint is of vgg19_bn, not of vgg19; choose encoder=vgg19_bn"):
        encoder.load_state(tmp_path / "bn.pth", "vgg19")


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


@pytest.mark.parametrize("writer", [pickle.dump, torch.save])
def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path, writer: object) -> None:
    with (tmp_path / "evil.pth").open("wb") as file:
        writer({"features.0.weight": Evil(tmp_path / "owned")}, file)  # type: ignore[operator]
    with pytest.raises(UserError, match="not a checkpoint of weights"):
        encoder.load_state(tmp_path / "evil.pth", "vgg19")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04broken"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(UserError, match="not a checkpoint"):
        encoder.load_state(tmp_path / "x.pth", "vgg19")


@pytest.mark.parametrize("name", ["weights", "WEIGHTS.SAFETENSORS", "weights.pth", "weights.bin"])
def test_a_checkpoint_is_known_by_its_content_not_by_its_name(
    inside: Command, small: list[str], tmp_path: Path, name: str
) -> None:
    """Caches keep files under other names, and link to them."""
    (tmp_path / name).write_bytes(paths.bundled_encoder().read_bytes())
    (tmp_path / "link").symlink_to(tmp_path / name)
    for file in (name, "link"):
        finished = inside(*small, f"encoder.weights={file}", "evaluations=1", f"hydra.run.dir=run-{file}")
        assert finished.returncode == 0, finished.stderr


def test_a_picture_is_no_checkpoint(inside: Command, small: list[str], pictures: tuple[Path, Path]) -> None:
    finished = inside(*small, f"encoder.weights={pictures[0]}")
    assert finished.returncode == 2
    assert "this file is not a checkpoint of weights: " in finished.stderr
    assert "weights_only" not in finished.stderr
    assert "torch.load" not in finished.stderr
