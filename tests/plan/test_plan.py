"""Everything that a run needs is found once."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import OmegaConf
from torch import Tensor, nn

from nst.config import hydra_edge, identity, keys, overrides
from nst.config import nodes as making
from nst.config.schema import Config
from nst.encoder.vgg import VGG
from nst.encoder.weights import random_state
from nst.image import picture as pictures
from nst.objective import Formulas, JointTerm, Objective, Reading, Style, Weights, functional, style_targets
from nst.objective.terms import not_tiled
from tests.conftest import Command, image


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each of the costly steps was taken."""
    counts: Counter[str] = Counter()

    def count(owner: Any, name: str, label: Callable[..., str]) -> None:
        original = getattr(owner, name)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            counts[label(*args, **kwargs)] += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, wrapper)

    count(ConfigLoaderImpl, "load_configuration", lambda *args, **kwargs: "compositions")
    count(Config, "model_validate", lambda raw: "validations")
    count(pl.Trainer, "__init__", lambda *args, **kwargs: "trainers")
    count(pictures, "read", lambda path, **kwargs: f"decoded {path.name}")
    count(making, "instantiate", lambda node, **kwargs: f"made {sorted(node)[-1]} of {node.get('_target_')}")
    return counts


def once(counts: Counter[str], times: int = 1) -> None:
    assert counts["validations"] == counts["trainers"] == times
    decoded = {name: number for name, number in counts.items() if name.startswith("decoded")}
    assert decoded == {"decoded content.png": times, "decoded style.png": times}
    made = {name: number for name, number in counts.items() if name.startswith("made")}
    assert len(made) == 8, made
    assert set(made.values()) == {times}, made


def test_a_plain_run_is_planned_once(inside: Command, small: list[str], counted: Counter[str]) -> None:
    finished = inside(*small, "hydra.run.dir=run")
    assert finished.returncode == 0, finished.stderr
    assert counted["compositions"] == 1
    once(counted)


def test_a_run_that_goes_on_is_planned_once(inside: Command, small: list[str], counted: Counter[str]) -> None:
    assert inside(*small, "hydra.run.dir=run").returncode == 0
    counted.clear()
    finished = inside("resume=run", "evaluations=9")
    assert finished.returncode == 0, finished.stderr
    assert counted["compositions"] == 1
    once(counted)


def test_each_point_of_a_sweep_is_planned_once(inside: Command, small: list[str], counted: Counter[str]) -> None:
    points = ",".join(f"1e{number}" for number in range(10))
    finished = inside("-m", *small, "evaluations=1", f"weights.style={points}", "hydra.sweep.dir=sweep")
    assert finished.returncode == 0, finished.stderr
    assert counted["compositions"] == 10 + 1, "each point, and what the sweep itself begins with"
    once(counted, 10)


def test_stylize_plans_once(small: list[str], tmp_path: Path, counted: Counter[str]) -> None:
    import nst

    content, style = (word.partition("=")[2] for word in small[:2])
    nst.stylize(content, style, [*small[2:], f"hydra.run.dir={tmp_path / 'run'}"])
    assert counted["compositions"] == 1
    once(counted)


def test_every_key_says_what_it_has_to_do_with_the_picture() -> None:
    """A new key has no part in identities, notes and comparisons by being forgotten."""
    assert set(keys.parts(Config)) == set(Config.model_fields)

    class Forgetful(Config):
        another: int

    with pytest.raises(LookupError, match="another: its declaration has 0 parts"):
        keys.parts(Forgetful)


def test_what_the_keys_are_used_for_follows_from_their_parts() -> None:
    assert "threads" in identity.HOW
    assert "content" in identity.NOT_COMPUTED - identity.HOW
    others = {"assets", "callbacks", "cuda_graphs", "max_pixels", "memory", "metrics", "output", "threads", "tile"}
    others |= {"scratch", "trainer"}
    assert set(identity.MAY_CHANGE) == {"evaluations", "recovery", *others}
    assert {"metrics", "minimize"} == identity.HOW - identity.NOT_MINIMIZED
    assert {"path", "region", "weights", "normalize_on"} <= identity.FILES
    assert "region" not in identity.NAMES


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("weights", []), ("seed", []), ("size", ["content", "style"]), ("pooling", ["encoder"]),
        ("precision", ["encoder", "content", "style"]), ("objective", ["style"]), ("threads", []),
    ],
)  # fmt: skip
def test_what_runs_share_depends_on_the_keys_that_say_so(key: str, what: list[str]) -> None:
    one = {name: {"a": 1} for name in Config.model_fields}
    other = {**one, key: {"a": 2}}
    every: tuple[keys.Shared, ...] = ("encoder", "content", "style")
    assert [each for each in every if identity.fingerprint(one, each) != identity.fingerprint(other, each)] == what


def test_names_of_before_mean_the_same() -> None:
    """In folders, checkpoints and pictures of earlier versions; and they have the same identity."""
    old = {"_target_": "nst.schedule.pyramid", "sizes": [1], "deep": [{"_target_": "nst.init.noise"}]}
    new = keys.renamed(old)
    assert new["_target_"] == "nst.optimizer.schedule.pyramid"
    assert new["deep"] == [{"_target_": "nst.optimizer.start.noise"}]
    assert keys.renamed(new, back=True) == old
    config = {"schedule": new, "encoder": {"network": None}}
    assert identity.identity(config, {}) == identity.identity({"schedule": old, "encoder": {}}, {})


@pytest.mark.parametrize("value", ["a b", "it's", "C:\\new", "ends\\", "\\'", "'", "a=b,[c]{d}", "${x}"])
def test_a_quoted_value_is_read_back(value: str) -> None:
    [override] = hydra_edge.parse([f"name={overrides.quoted(value)}"])
    assert OmegaConf.create({"name": override.value()}).name == value


class Draw(JointTerm):
    """Remembers what it draws."""

    def __init__(self) -> None:
        self.drawn: list[float] = []

    def target(self, style: Reading, *turned: Reading) -> Sequence[Tensor]:
        return [style.features[name].mean() for name in sorted(style.features)]

    def loss(self, picture: Reading, target: Sequence[Tensor]) -> Tensor:
        self.drawn.append(torch.rand(1, generator=picture.generator()).item())
        means = [picture.features[name].mean() for name in sorted(picture.features)]
        return torch.stack([(one - other).square() for one, other in zip(means, target, strict=True)]).sum()


def test_a_joint_term_sees_all_layers_and_draws_anew_at_each_evaluation() -> None:
    network = VGG(
        architecture="slim",
        layers=["relu1_1", "relu2_1"],
        pooling=lambda: nn.AvgPool2d(2),
        state=random_state("slim", 0),
    )
    term = Draw()
    formulas = Formulas(
        content=functional.mean_squared_difference, style={"draw": term}, style_layers_averaged=False, relative=False,
        tv=functional.total_variation, laplacian=lambda image, content: image.sum(),
    )  # fmt: skip
    style, picture = image(1).float(), image(2).float().requires_grad_()
    targets = style_targets(network, style, ["relu1_1", "relu2_1"], formulas)
    objective = Objective(
        encoder=network, formulas=formulas, weights=Weights(content=0, style=2, tv=0), content={},
        styles=[Style(targets=targets)], seed=3,
    )  # fmt: skip
    losses = objective(picture, 5)
    losses.total.backward()
    assert picture.grad is not None
    assert picture.grad.abs().max() > 0
    assert losses.total.item() == pytest.approx(2 * losses.style.item())
    assert set(losses.parts) == {"style/draw"}
    objective(picture, 6)
    objective(picture, 5)
    assert term.drawn[0] == term.drawn[2] != term.drawn[1]
    assert objective(style, 5).total.item() == pytest.approx(0, abs=1e-9)
    assert not_tiled(formulas) == ["style.draw"]
