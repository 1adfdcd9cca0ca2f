"""Who may import whom: data flow one way, and only the outer rooms know Hydra."""

import ast
from pathlib import Path

import pytest
import yaml

from nst import paths

#: From the inside out: a module may import those before it, and no other of ours.
ORDER = [
    "nst.errors", "nst.paths", "nst.torchrun", "nst.file", "nst.run_folder", "nst.sweep",
    "nst.compare.runs", "nst.compare.values", "nst.compare.comparison", "nst.compare.layout", "nst.compare.tiles",
    "nst.compare.sheet", "nst.compare.table", "nst.compare.page", "nst.compare.report", "nst.compare.__main__",
    "nst.weights", "nst.graph", "nst.architecture", "nst.image", "nst.output", "nst.color", "nst.asset",
    "nst.oxford", "nst.node_schema", "nst.config", "nst.precision", "nst.pooling",
    "nst.frozen", "nst.encoder", "nst.team", "nst.tile", "nst.memory", "nst.shared",
    "nst.objective.functional", "nst.objective.total", "nst.objective", "nst.init", "nst.schedule", "nst.optimizer",
    "nst.recovery", "nst.module", "nst.checkpoint",
    "nst.strategy", "nst.provenance", "nst.film", "nst.callbacks", "nst.inputs", "nst.nodes", "nst.painting",
    "nst.forecast", "nst.build", "nst.job", "nst.follow", "nst.source", "nst.study", "nst.multirun", "nst.check",
    "nst.cli", "nst.train", "nst.api",
    "nst.pretrain.texture", "nst.pretrain.network", "nst.pretrain.data", "nst.pretrain.module", "nst.pretrain.export",
    "nst.pretrain.job", "nst.pretrain.__main__",
]  # fmt: skip
KNOW_HYDRA = {
    "nst.nodes", "nst.painting", "nst.forecast", "nst.build", "nst.job", "nst.follow", "nst.source", "nst.study",
    "nst.multirun", "nst.check", "nst.cli", "nst.train", "nst.api", "nst.pretrain.job", "nst.pretrain.__main__",
}  # fmt: skip


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they lead"
            assert node.module is not None
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def modules() -> dict[str, Path]:
    named = {}
    for path in paths.PACKAGE.rglob("*.py"):
        parts = path.relative_to(paths.PACKAGE.parent).with_suffix("").parts
        named[".".join(parts).removesuffix(".__init__")] = path
    del named["nst"], named["nst.assets"], named["nst.compare"], named["nst.pretrain"]
    return named


def test_every_module_has_its_place() -> None:
    assert sorted(modules()) == sorted(ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_imports_follow_the_direction_of_the_house(name: str) -> None:
    ours = {
        max((module for module in ORDER if target == module or target.startswith(f"{module}.")), key=len, default="")
        for target in imports(modules()[name])
        if target.startswith("nst.")
    }
    assert "" not in ours
    assert ours <= set(ORDER[: ORDER.index(name)])


@pytest.mark.parametrize("name", sorted(set(ORDER) - KNOW_HYDRA))
def test_core_modules_know_nothing_of_hydra(name: str) -> None:
    assert not {target for target in imports(modules()[name]) if target.split(".")[0] in ("hydra", "omegaconf")}


def test_only_nodes_instantiates() -> None:
    assert [n for n, path in modules().items() if "hydra.utils.instantiate" in imports(path)] == ["nst.nodes"]


def test_no_target_points_into_the_entry_point() -> None:
    for path in paths.configs().rglob("*.yaml"):
        assert "nst.train." not in str(yaml.safe_load(path.read_text(encoding="utf-8")))
