"""The built wheel carries every configuration and every bundled asset, and works away from the checkout."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import nst
from nst.files import paths

TOP = paths.PACKAGE.parent
pytestmark = pytest.mark.skipif(paths.checkout() is None, reason="not run from a checkout")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of what git tracks, built in a copy of the files that the container is built from."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=TOP, capture_output=True, check=True
    )
    copied = tuple(copied_into_the_container())
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (TOP / name).is_file() and name.startswith(copied):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((TOP / name).read_bytes())
    # Without --wheel, the wheel is built from the source distribution, which must have all that it takes.
    subprocess.run([sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", "."], cwd=folder, check=True)
    [built] = (folder / "dist").glob("nst-*.whl")
    return built


def copied_into_the_container() -> list[str]:
    """The files and folders that the Dockerfile copies, each of which its context must have."""
    lines = (TOP / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]]
    context = (TOP / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert copied
    assert {f"!{name}" for name in copied} <= set(context)
    return copied


def test_the_wheel_carries_every_file_it_needs(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    configs = {f"nst/configs/{path.relative_to(paths.configs())}" for path in paths.configs().rglob("*.yaml")}
    package = {
        f"nst/{path.relative_to(paths.PACKAGE)}"
        for path in paths.PACKAGE.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert configs | package <= names
    assert not {name for name in names if name.split("/")[0] in ("tests", "benchmarks", "experiments", "configs")}
    assert {"LICENSE", "NOTICE.md"} == {name.rpartition("/")[2] for name in names if "/licenses/" in name}


def test_the_wheel_paints_in_an_environment_of_its_own(wheel: Path, small: list[str], tmp_path: Path) -> None:
    """The environment is new but for its dependencies, which it takes from ours; nst itself comes from the wheel."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    run = [str(python), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"]
    site = Path(subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip())
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, "--ignore-installed", str(wheel)], check=True)  # a checkout on PYTHONPATH counts, too
    # A plain path entry: unlike site.addsitedir it does not run the .pth file of an editable install.
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    where = "import nst.files.paths; print(nst.files.paths.configs())"
    told = subprocess.run(
        [python, "-c", where], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert Path(told.stdout.strip()).is_relative_to(site)
    command = [python.with_name("nst"), "--version"]
    told = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert told.stdout == f"nst {nst.__version__}\n"
    finished = subprocess.run(
        [python.with_name("nst"), "train", *small, "hydra.run.dir=run"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "run" / "result.png").is_file()
