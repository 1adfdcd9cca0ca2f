"""The bundled encoder: its training runs, goes on, and exports what was trained."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from experiments.slim_encoder.pretrain import __main__ as command
from experiments.slim_encoder.pretrain import export
from experiments.slim_encoder.pretrain.data import Batches, augment, generate
from experiments.slim_encoder.pretrain.job import fit
from experiments.slim_encoder.pretrain.module import Pretraining
from experiments.slim_encoder.pretrain.network import Learner, Trunk, drawing, first_filters
from nst import image
from nst.encoder import architecture as arch
from nst.encoder import weights as encoder
from nst.encoder.vgg import MEAN, STD, VGG
from nst.files import paths
from tests.conftest import Command
from tests.conftest import image as random_image

TINY = ["classes=6", "samples=4", "size=64", "batch_size=8", "palettes=3", "checkpoint_every_steps=1", "threads=1"]


@pytest.fixture
def pretrain(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs ``python -m experiments.slim_encoder.pretrain`` within this process."""

    def run(folder: Path, *overrides: str) -> None:
        monkeypatch.setattr(sys, "argv", ["pretrain", *TINY, f"hydra.run.dir={folder}", *overrides])
        command.pretrain()

    return run


def whitened_trunk() -> Trunk:
    """A trunk that has seen something."""
    torch.manual_seed(0)
    trunk = Trunk("slim")
    trunk.whiten(torch.cat([normalized(random_image(seed, 64, 64).float()) for seed in range(4)]), torch.Generator())
    return trunk.eval()


def normalized(picture: Tensor) -> Tensor:
    return (picture - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def test_training_goes_on_and_exports_a_small_file_that_paints(
    pretrain: Callable[..., None], nst: Command, small: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "pre"
    pretrain(run, "steps=2")
    made = (run / "textures.npy").stat().st_mtime_ns
    pretrain(run, "steps=4")
    assert (run / "textures.npy").stat().st_mtime_ns == made
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 4
    assert list((run / "tensorboard").glob("events.*"))
    exported = run / "slim.safetensors"
    assert exported.stat().st_size <= 4_000_000
    finished = nst(*small, f"encoder.weights={exported}", "hydra.run.dir=run")
    assert finished.returncode == 0, finished.stderr


def test_a_training_stopped_half_way_equals_one_that_was_not(tmp_path: Path) -> None:
    textures = generate(tmp_path / "x.npy", classes=6, samples=4, palettes=3, size=64, seed=0)

    def train(folder: Path, until: int) -> Pretraining:
        torch.manual_seed(0)
        batches = Batches(textures, [random_image(1, 70, 80).float()], batch_size=8, crop=48, seed=0)
        options = {"lr": 1e-3, "weight_decay": 0, "steps": 6, "draw": 1, "smoothing": 0}
        module = Pretraining(batches=batches, architecture="slim", classes=6, **options)
        fit(module, folder, steps=until, checkpoint_every_steps=1)
        return module

    whole = train(tmp_path / "whole", 5)
    train(tmp_path / "parts", 3)
    resumed = train(tmp_path / "parts", 5)
    for (name, expected), found in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(expected, found), name


def test_the_exported_file_has_the_trained_features_at_the_calibrated_power(tmp_path: Path) -> None:
    trunk = whitened_trunk()
    pictures = [random_image(seed, 48, 40).float() for seed in range(3)]
    state = export.calibrate(export.unpaired(trunk, "slim"), "slim", pictures)
    digest = export.write(state, tmp_path / "x.safetensors", {"seed": 3})
    layers = [name for name in arch.layer_names("slim") if name.startswith("relu")]
    loaded = encoder.load_state(tmp_path / "x.safetensors", "slim")
    network = VGG(architecture="slim", layers=layers, pooling=lambda: nn.AvgPool2d(2, 2), state=loaded)
    for name in layers:
        ours = torch.cat([network(picture)[name] for picture in pictures])
        theirs = torch.cat([trunk(normalized(picture))[name] for picture in pictures])
        scale = ours.norm() / theirs.norm()
        assert (ours - scale * theirs).norm() / ours.norm() < 1e-5
        assert ours.square().mean().item() == pytest.approx(export.power(name, ours.shape[1]), rel=1e-4)
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert file.metadata() == {"recipe": '{"seed": 3}', "sha256": digest}


def test_pairs_keep_what_the_rectifiers_cut_off() -> None:
    """relu(a) - relu(-a) = a, so the picture's gradients can be read from the features linearly."""
    features = whitened_trunk()(normalized(random_image(1, 32, 32).float()))["relu1_1"]
    half = features.shape[1] // 2
    assert ((features[:, :half] == 0) | (features[:, half:] == 0)).all()


def test_whitening_leaves_every_filter_with_the_same_power() -> None:
    pictures = torch.cat([normalized(random_image(seed, 64, 64).float()) for seed in range(4)])
    trunk = Trunk("slim")
    trunk.whiten(pictures, torch.Generator().manual_seed(1))
    for name, features in trunk(pictures).items():
        if name != "relu1_1":
            positive, negative = features[..., 1:-1, 1:-1].chunk(2, dim=1)
            deviation = (positive - negative).std((0, 2, 3))
            assert deviation.min() > 0.7, name
            assert deviation.max() < 1.4, name


def test_the_first_filters_see_every_frequency_of_every_colour() -> None:
    """No noise is invisible: at each frequency the filters' responses span the three colours."""
    filters = first_filters(12)
    spectrum = torch.fft.fft2(filters, s=(16, 16)).permute(2, 3, 0, 1)
    assert torch.linalg.svdvals(spectrum)[..., -1].min() > 0.1


def test_the_drawing_has_the_shape_that_the_layer_draws_and_knows_no_brightness() -> None:
    picture = normalized(random_image(1, 64, 64).float())
    learner = Learner("slim", 0)
    _, drawings = learner(picture, 0)
    for name, drawn in drawings.items():
        target = drawing(picture, name)
        assert target.shape == drawn.shape
        assert torch.allclose(target, drawing(picture + 0.5, name), atol=1e-3)


def test_the_bundled_encoder_is_small_whole_and_says_how_it_was_trained() -> None:
    path = paths.bundled_encoder()
    assert path.stat().st_size <= 4_000_000
    state = encoder.load_state(path, "slim")
    assert encoder.available_layers(state, "slim") == arch.layer_names("vgg19")
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert {"classes", "steps", "seed"} <= set(json.loads(metadata["recipe"]))
    assert metadata["sha256"] == export.digest(state)


def test_textures_are_the_same_for_a_seed_and_differ_between_classes(tmp_path: Path) -> None:
    options = {"classes": 12, "samples": 2, "palettes": 4, "size": 32}
    first, again = (generate(tmp_path / f"{n}.npy", **options, seed=1) for n in range(2))
    other = generate(tmp_path / "other.npy", **options, seed=2)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (12, 2, 3, 32, 32)
    assert (first.float().std(dim=(1, 3, 4)).amax(1) > 1).sum() >= 9
    assert len({bytes(np.asarray(texture)) for texture in first.flatten(0, 1)}) == 24


def test_augmentation_keeps_shape_and_range() -> None:
    pictures = torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8)
    augmented = augment(pictures, 48, torch.Generator())
    assert augmented.shape == (5, 3, 48, 48)
    assert 0 <= augmented.min() <= augmented.max() <= 1
    assert image.to_bytes(augmented[:1]).shape == (3, 48, 48)
