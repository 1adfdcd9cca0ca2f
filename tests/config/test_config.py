"""Every option composes, fits its schema, and stands in the vocabulary of the contract."""

import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from nst.config.validation import validated
from nst.files import paths

GROUPS = {
    "content", "style", "pair", "encoder", "pooling", "layers", "objective", "weights", "init", "optimizer",
    "schedule", "trainer", "logger", "callbacks", "experiment",
}  # fmt: skip
#: Groups within groups; a list of options is picked of the first two.
NESTED = ("objective/style", "style/more", "style/use")
OPTIONS = sorted(
    f"{group}={path.relative_to(paths.configs() / group).with_suffix('')}"
    for group in (*GROUPS, *NESTED)
    for path in (paths.configs() / group).rglob("*.yaml")
    if group in NESTED or not any(path.is_relative_to(paths.configs() / nested) for nested in NESTED)
)
#: What an option needs beside it.
COMPANIONS = {
    "init=image": ["init.path=picture.png"],
    "encoder=torchvision": ["layers=resnet"],
    "layers=resnet": ["encoder=torchvision"],
    "experiment=continued": ["init.path=picture.png"],
    "style/more=second": ["style.more.second.path=picture.png"],
    "style/more=third": ["style.more.third.path=picture.png"],
}
PAIRS = {
    "ballerina-picasso": ("relu4_2", 5, 1e7),
    "ballerina-starry_night": ("relu4_1", 60, 1e7),
    "ballerina-shipwreck": ("relu5_1", 1, 1e6),
    "ballerina-scream": ("relu5_1", 0.7, 5e5),
    "ballerina-composition": ("relu4_2", 1, 1e6),
    "tubingen-picasso": ("relu5_1", 1, 1e6),
    "tubingen-starry_night": ("relu4_1", 60, 1e8),
    "tubingen-shipwreck": ("relu5_1", 1, 1e6),
    "tubingen-scream": ("relu5_1", 1.35, 5e5),
    "tubingen-composition": ("relu5_1", 1, 1e6),
}


def composed(*overrides: str) -> DictConfig:
    """The configuration; of some nested groups a list of options is picked."""
    overrides = tuple(re.sub(rf"^({'|'.join(NESTED[:2])})=(.*)", r"\1=[\2]", override) for override in overrides)
    with initialize_config_dir(str(paths.configs()), version_base="1.3"):
        return compose("train", list(overrides))


def test_the_groups_are_the_contracts() -> None:
    assert {path.name for path in paths.configs().iterdir() if path.is_dir()} == {*GROUPS, "hydra"}


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_fits_its_schema(option: str) -> None:
    raw = OmegaConf.to_container(composed(option, *COMPANIONS.get(option, [])), resolve=True)
    assert isinstance(raw, dict)
    assert validated(raw)[1:] == ([], [])


@pytest.mark.parametrize(
    "path", sorted(paths.configs().rglob("*.yaml")), ids=lambda path: f"{path.parent.name}={path.stem}"
)
def test_every_option_says_what_it_is(path: Path) -> None:
    assert path.read_text(encoding="utf-8").lstrip().startswith("#")


@pytest.mark.parametrize("pair", PAIRS)
def test_pairs_have_their_layer_and_weights(pair: str) -> None:
    cfg = composed(f"pair={pair}")
    assert f"{cfg.content.name}-{cfg.style.name}" == pair
    layer, content, style = PAIRS[pair]
    assert (list(cfg.layers.content), cfg.weights.content, cfg.weights.style) == ([layer], content, style)


def test_the_defaults() -> None:
    cfg = composed()
    assert list(cfg.layers.style) == ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]
    assert (cfg.weights.content, cfg.weights.style, cfg.weights.tv) == (1, 1e6, 3)
    assert (cfg.optimizer.lr, cfg.optimizer.history_size, cfg.evaluations) == (1, 100, 350)
    assert cfg.init.deviation == 0.01
    recipe = composed("experiment=seed_recipe")
    assert (recipe.weights.content, recipe.weights.style, recipe.weights.tv, recipe.evaluations) == (1, 1e6, 0, 600)


def test_all_mistakes_are_reported_at_once() -> None:
    raw = OmegaConf.to_container(
        composed("weights.style=-1", "size=0", "layers.style=[relu9_1]", "optimizer.lr=.nan"), resolve=True
    )
    assert isinstance(raw, dict)
    keys = [line.split("=")[0] for lines in validated(raw)[1:] for line in lines]
    assert keys == ["weights.style", "size", "optimizer.lr", "layers.style"]
