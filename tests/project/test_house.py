"""Who may import whom: packages lead one way, and only the outer ones know Hydra."""

import ast
import functools
from pathlib import Path

import pytest
import yaml

from nst.files import paths

#: From the inside out: a package may import those before it, and no other of ours.
ORDER = [
    "nst.errors", "nst.files", "nst.image", "nst.encoder", "nst.objective", "nst.metrics", "nst.optimizer",
    "nst.config", "nst.live", "nst.logger", "nst.callbacks", "nst.plan", "nst.run", "nst.sweep", "nst.compare",
    "nst.api", "nst.studio", "nst.train", "nst.cli", "nst.__main__",
]  # fmt: skip

#: The packages that run Hydra; of ``nst.config`` these modules, and no other, know it.
KNOW_HYDRA = {"nst.plan", "nst.run", "nst.sweep", "nst.api", "nst.train"}
KNOW_HYDRA_IN_CONFIG = {"nst.config.hydra_edge", "nst.config.mistakes", "nst.config.nodes", "nst.config.source"}

#: The names of other libraries that are private; each in one module, with an upper bound in ``pyproject.toml``.
PRIVATE = {
    "hydra._internal.callbacks.Callbacks": "nst.config.hydra_edge",
    "hydra._internal.utils.get_args_parser": "nst.config.hydra_edge",
    "pytorch_lightning.strategies.launchers.launcher._Launcher": "nst.plan.devices",
    "torch.optim.lbfgs._strong_wolfe": "nst.optimizer.lbfgs",
}


@functools.cache
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


@functools.cache
def modules() -> dict[str, Path]:
    named = {}
    for path in paths.PACKAGE.rglob("*.py"):
        parts = path.relative_to(paths.PACKAGE.parent).with_suffix("").parts
        named[".".join(parts).removesuffix(".__init__")] = path
    del named["nst"], named["nst.assets"]
    return named


def package(name: str) -> str:
    return ".".join(name.split(".")[:2])


def test_every_package_has_its_place() -> None:
    assert {package(name) for name in modules()} == set(ORDER)


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_follow_the_direction_of_the_packages(name: str) -> None:
    used = {package(target) for target in imports(modules()[name]) if target.startswith("nst.")} - {package(name)}
    assert used <= set(ORDER[: ORDER.index(package(name))])


@pytest.mark.parametrize("name", sorted(modules()))
def test_no_module_imports_one_that_imports_it(name: str) -> None:
    seen: set[str] = set()
    ahead = [name]
    while ahead:
        for target in imports(modules()[ahead.pop()]):
            found = max((each for each in modules() if target == each or target.startswith(f"{each}.")), default="")
            if found and found not in seen and len(found.split(".")) > 2:
                seen.add(found)
                ahead.append(found)
    assert name not in seen


def test_the_front_has_six_files_and_no_package_more_than_twelve() -> None:
    assert len([path for path in paths.PACKAGE.iterdir() if path.is_file()]) <= 6
    for folder in {path.parent for path in modules().values()} - {paths.PACKAGE}:
        assert len(list(folder.glob("*.py"))) <= 12, f"{folder} has more than 12 modules; add to an existing one"


@pytest.mark.parametrize("name", sorted(modules()))
def test_no_module_is_longer_than_a_sitting(name: str) -> None:
    lines = len(modules()[name].read_text(encoding="utf-8").splitlines())
    assert lines <= 300, f"{name} has {lines} lines; move a part of it to another module"


@pytest.mark.parametrize("name", sorted(modules()))
def test_only_the_outer_packages_know_hydra(name: str) -> None:
    if package(name) not in KNOW_HYDRA and name not in KNOW_HYDRA_IN_CONFIG:
        assert not {target for target in imports(modules()[name]) if target.split(".")[0] in ("hydra", "omegaconf")}


def test_only_nodes_instantiates() -> None:
    found = [n for n, path in modules().items() if "hydra.utils.instantiate" in imports(path)]
    assert found == ["nst.config.nodes"]


def test_private_names_are_where_they_are_kept() -> None:
    """Each is in one module, and the library still has it."""
    used = {
        (target, name)
        for name, path in modules().items()
        for target in imports(path)
        if any(part.startswith("_") for part in target.split(".")) and not target.startswith(("nst.", "__future__"))
    }
    assert dict(used) == PRIVATE
    for target in PRIVATE:
        module, _, attribute = target.rpartition(".")
        assert hasattr(__import__(module, fromlist=[attribute]), attribute), target


def test_no_target_points_into_the_entry_point() -> None:
    for path in paths.configs().rglob("*.yaml"):
        assert "nst.train." not in str(yaml.safe_load(path.read_text(encoding="utf-8")))
