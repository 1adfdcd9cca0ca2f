"""Torchvision's own models as encoders, by the nodes of their graphs."""

import gc
import json
from pathlib import Path

import pytest
import torch
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor

from nst.encoder import torchvision_models as graph
from nst.encoder.torchvision_models import TorchvisionEncoder
from nst.errors import UserError
from tests.conftest import Command, assert_goes_on, image

MEAN, STD = (torch.tensor(values).view(1, 3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("resnet18", ["bn1", "relu", "layer1", "layer2.0.add"]),
        ("squeezenet1_1", ["features.3.cat"]),
        ("convnext_tiny", ["features.1"]),
    ],
)
def test_features_and_their_gradient_are_torchvisions(name: str, layers: list[str]) -> None:
    state = graph.random_state(name, 3)
    ours = TorchvisionEncoder(name, layers, state=state)
    model = models.get_model(name, weights=None).eval()
    model.load_state_dict(state)
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    theirs = create_feature_extractor(model, layers)
    one, two = (image(1, 64, 80).float().requires_grad_() for _ in range(2))
    found, wanted = ours(one), theirs((two - MEAN) / STD)
    assert set(found) == set(layers)
    for layer in layers:
        torch.testing.assert_close(found[layer], wanted[layer])
        assert ours.shapes((64, 80))[layer] == wanted[layer].shape
    sum(features.sin().sum() for features in found.values()).backward()
    sum(features.sin().sum() for features in wanted.values()).backward()
    torch.testing.assert_close(one.grad, two.grad)
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in ours.parameters())


def test_a_node_keeps_its_value_before_the_relu() -> None:
    features = TorchvisionEncoder("resnet18", ["bn1", "relu"], state=graph.random_state("resnet18", 0))(
        image(1).float()
    )
    assert (features["bn1"] < 0).any()
    assert torch.equal(features["relu"], features["bn1"].clamp(min=0))


def test_what_autograd_keeps_is_foretold() -> None:
    """Against what is alive after a forward pass, by the sizes of the tensors."""
    state = graph.random_state("resnet18", 0)
    own = {tensor.untyped_storage().data_ptr() for tensor in state.values()}
    encoder, geometry = (
        TorchvisionEncoder("resnet18", ["layer2"], state=state),
        TorchvisionEncoder("resnet18", ["layer2"]),
    )
    own |= {buffer.untyped_storage().data_ptr() for buffer in encoder.buffers()}
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    gc.collect()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        features = encoder(image(1, 128, 128).float().requires_grad_())
    assert features["layer2"].requires_grad
    foretold = geometry.evaluation_bytes((128, 128), traced=True)
    assert sum(kept.values()) < foretold < 1.6 * sum(kept.values())
    assert geometry.evaluation_bytes((128, 128), traced=False) < foretold


def test_the_smallest_picture_of_a_model() -> None:
    def smallest(name: str, layer: str) -> int:
        return TorchvisionEncoder(name, [layer]).smallest_side()

    assert smallest("resnet18", "layer1") == 1
    assert smallest("convnext_tiny", "features.3") == 8
    assert smallest("vit_b_16", "encoder.ln") == 0  # its features are no maps
    assert smallest("vit_b_16", "conv_proj") == 0  # it takes pictures of one size
    assert smallest("swin_t", "features.1") == 0  # its channels come last


def test_layers_are_nodes_and_the_modules_that_they_end() -> None:
    names = graph.layer_names("resnet18")
    assert names[:3] == ["conv1", "bn1", "relu"]
    assert names.index("layer1.1.relu_1") + 2 == names.index("layer1") < names.index("layer2.0.conv1")


SMALL = ["encoder=torchvision", "encoder.architecture=resnet18", "encoder.weights=random", "layers=resnet"]


@pytest.fixture
def few(small: list[str]) -> list[str]:
    return [word for word in small if not word.startswith("encoder")]


def test_a_run_with_a_model_of_torchvisions_goes_on(inside: Command, few: list[str], tmp_path: Path) -> None:
    assert_goes_on(inside, tmp_path, *few, *SMALL, "layers.style=[relu,layer2.0.add]", "style.scale=1.5")
    summary = json.loads((tmp_path / "whole" / "summary.json").read_text())
    assert summary["precision"] == 32
    assert summary["predicted_memory_bytes"] > 0


def test_its_layers_are_calibrated() -> None:
    encoder = graph.TorchvisionEncoder("resnet18", ["relu", "layer1", "bn1"], state=graph.random_state("resnet18", 0))
    pictures = [image(seed, 64, 48).float() for seed in (1, 2)]
    plain = encoder(pictures[0])
    encoder.calibrate(pictures)
    found = [encoder(picture) for picture in pictures]
    for name in ("relu", "layer1", "bn1"):
        assert float(torch.cat([each[name] for each in found]).abs().mean()) == pytest.approx(1, rel=1e-5)
        torch.testing.assert_close(found[0][name], plain[name] * encoder.factors[name])


def test_its_checkpoint_by_path(inside: Command, few: list[str], tmp_path: Path) -> None:
    torch.save(graph.random_state("resnet18", 0), tmp_path / "resnet18.pth")
    torch.save(graph.random_state("squeezenet1_1", 0), tmp_path / "other.pth")
    assert inside(*few, *SMALL, "hydra.run.dir=random").returncode == 0
    assert inside(*few, *SMALL, "encoder.weights=resnet18.pth", "hydra.run.dir=path").returncode == 0
    made = [(tmp_path / run / "losses.csv").read_bytes() for run in ("random", "path")]
    assert made[0] == made[1]
    with pytest.raises(UserError, match=r"this is not a checkpoint of resnet18: conv1\.weight is missing"):
        graph.load_state(tmp_path / "other.pth", "resnet18")
    older = {name: it for name, it in graph.random_state("resnet18", 0).items() if "num_batches" not in name}
    torch.save(older, tmp_path / "older.pth")
    assert graph.load_state(tmp_path / "older.pth", "resnet18").keys() == graph.random_state("resnet18", 0).keys()
    dense = {
        name.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): it
        for name, it in graph.random_state("densenet121", 0).items()
    }
    torch.save(dense, tmp_path / "dense.pth")
    assert graph.load_state(tmp_path / "dense.pth", "densenet121").keys() >= {
        "features.denseblock1.denselayer1.norm1.bias"
    }
    older["conv1.weight"][0, 0, 0, 0] = torch.nan
    torch.save(older, tmp_path / "nan.pth")
    with pytest.raises(UserError, match=r"conv1\.weight has infinite or NaN values"):
        graph.load_state(tmp_path / "nan.pth", "resnet18")
    (tmp_path / "broken.pth").write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match="this file is not a checkpoint"):
        graph.load_state(tmp_path / "broken.pth", "resnet18")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["encoder.architecture=resnet19"], "encoder.architecture: there is no model resnet19; did you mean resnet18?"),
        (["layers.style=[layer9]"], "layers.style=layer9: this is no layer of resnet18; did you mean layer4?"),
        (["tile=24"], "tile=24: the encoder resnet18 reads the picture as a whole"),
        (
            ["layers.style=[flatten]"],
            "layers.style=flatten: this layer of resnet18 doesn't return features (1, C, H, W)",
        ),
        (["precision=bf16"], "precision=bf16: this encoder doesn't support 16 bits"),
        (
            ["encoder.padding=reflect"],
            "encoder: convention, padding, normalize_on: resnet18 uses torchvision's preprocessing",
        ),
        (["encoder.weights=auto"], "encoder.weights=auto: not in the cache, and can't be downloaded from https://"),
    ],
)
def test_mistakes(
    inside: Command, few: list[str], monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.setattr(graph, "download", lambda name: ("https://127.0.0.1:9/resnet18-00000000.pth", "00000000"))
    finished = inside(*few, *SMALL, *words)
    assert finished.returncode == 2
    assert finished.stderr.startswith(f"error: {said}"), finished.stderr
    assert finished.stderr.count("\n") == 1
