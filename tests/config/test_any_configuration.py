"""Whatever configuration passes the checks runs: nothing that they let through ends in an exception."""

import json
import shutil
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from allpairspy import AllPairs
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from nst.encoder import architecture as arch
from nst.files import paths
from tests.conftest import Command

LAYERS = arch.layer_names("slim")
#: Options that need another beside them, and loggers whose first value takes seconds (``test_loggers`` runs those).
OTHERS = ("image", "resnet", "mlflow", "wandb")
#: Options that differ from another one in numbers or in their layers only; studies and ``test_first_order`` run them.
ALIKE = (
    "adam_lr0.01", "adam_lr0.05", "adam_lr0.1", "adam_pyramid", "figure3_b", "figure3_c", "figure3_d", "figure3_e",
)  # fmt: skip


def options(group: str, without: tuple[str, ...] = ()) -> st.SearchStrategy[str]:
    """Any option of a group, by name: a new one is tried without being listed here."""
    return st.sampled_from(sorted(path.stem for path in paths.configs().glob(f"{group}/*.yaml"))).filter(
        lambda option: option not in without
    )


def listed(values: list[str] | list[int] | list[float]) -> str:
    return "[" + ",".join(map(str, values)) + "]"


layers = st.lists(st.sampled_from(LAYERS), min_size=1, max_size=4, unique=True).map(listed)
weights = st.sampled_from([0, 1e-12, 1, 1e3, 1e9])

#: Strategies of whole overrides, by the key; each run has some of them.
KEYS: dict[str, st.SearchStrategy[object]] = {
    "pooling": options("pooling"),
    "layers": options("layers", without=OTHERS),
    "objective": options("objective"),
    "objective/style": st.lists(options("objective/style"), min_size=1, max_size=3, unique=True).map(listed),
    "objective.relative": st.booleans(),
    "weights": options("weights"),
    "init": options("init", without=OTHERS),
    "optimizer": options("optimizer"),
    "schedule": options("schedule"),
    "logger": options("logger", without=OTHERS),
    "layers.content": layers | st.just("[]"),
    "layers.style": layers,
    "weights.content": weights,
    "weights.style": weights,
    "weights.tv": weights,
    "weights.laplacian": weights,
    "optimizer.lr": st.sampled_from([1e-6, 0.3, 1, 50]),
    "schedule.patience": st.sampled_from(["null", 1, 2]),
    "schedule.min_improvement": st.sampled_from([0, 0.5, 0.999]),
    "pooling.kernel_size": st.integers(2, 3),
    "encoder.calibrate": st.booleans(),
    "size": st.integers(16, 64) | st.just("null"),
    "evaluations": st.integers(2, 4),
    "seed": st.integers(0, 2**32 - 1),
    "color": st.sampled_from(["style", "match", "luminance", "yiq", "lab", "chroma"]),
    "style.fit": st.sampled_from(["stretch", "fit", "crop", "own"]),
    "style.scale": st.sampled_from([0.1, 1, 3]),
    "style.weight": st.sampled_from([0, 1]),
    "precision": st.sampled_from(["auto", "bf16", 32, 64]),
    "tile": st.sampled_from(["auto", "off"]) | st.integers(8, 70),
    "memory": st.sampled_from(["auto", 20, 1e6]),
    "recovery.at_most": st.integers(0, 2),
    "recovery.explosion": st.sampled_from(["null", 1.001, 1e300]),
    "recovery.shrink": st.sampled_from([1e-9, 1]),
    "callbacks.snapshot.every_evaluations": st.integers(1, 4),
    "callbacks.checkpoint.every_evaluations": st.integers(1, 4),
    "callbacks.checkpoint.every_seconds": st.sampled_from(["null", 1e-9, 1e9]),
    "callbacks.checkpoint.keep_history": st.booleans(),
    "callbacks.film.format": st.sampled_from(["mp4", "gif"]),
    "callbacks.film.frames": st.integers(1, 5),
    "callbacks.film.hold": st.sampled_from([0, 0.2]),
    "callbacks.progress": st.just("null"),
    "minimize.loss": st.sampled_from(["total", "content", "style", "tv"]),
    "minimize.content_at_most": st.sampled_from(["null", 1e-9, 1]),
    "trainer.deterministic": st.booleans(),
}  # fmt: skip


#: Words for terms that draw at each evaluation, which the default optimizer refuses.
DRAWING = ("strotss", "nnst", "relaxed_emd", "hypercolumn_moments", "palette", "feature_splitting", "drawn")


@st.composite
def configurations(draw: st.DrawFn) -> list[str]:
    """Some keys with some of their values; those of one optimizer or schedule only where it has them."""
    chosen = draw(st.lists(st.sampled_from(sorted(KEYS)), min_size=3, max_size=12, unique=True))
    words = [f"{key}={draw(KEYS[key])}" for key in sorted(chosen, key=list(KEYS).index)]
    drawing = any(name in word for word in words if word.startswith("objective") for name in DRAWING)
    return [*words, "optimizer=adam"] if drawing and "optimizer" not in chosen else words


def check_any(run: Callable[[list[str]], tuple[int, str]], folder: Path, examples: int) -> None:
    endings: Counter[str] = Counter()

    @settings(
        max_examples=examples, deadline=None, database=None, derandomize=examples < 100,
        suppress_health_check=[HealthCheck.too_slow], phases=[Phase.explicit, Phase.generate],
    )  # fmt: skip
    @given(configurations())
    def runs(words: list[str]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        status, errors = run(words)
        assert "Traceback" not in errors, errors
        if status == 2:
            lines = [line for line in errors.splitlines() if line.startswith("error: ")]
            assert lines, errors
            # What is refused is told by a key that was given, here or by the test's own size.
            keys = {word.partition("=")[0].partition(".")[0] for word in [*words, "size=32"]}
            assert all(any(key in line for key in keys) for line in lines), lines
            assert not folder.exists() or json.loads((folder / "summary.json").read_text())["status"] == "failed"
        else:
            told = json.loads((folder / "summary.json").read_text())
            assert (status, told["status"]) in [(0, "completed"), (1, "diverged")], errors
            assert (folder / "result.png").is_file()
            assert told["evaluations"] >= 1
        endings[str(status)] += 1

    runs()
    assert endings["0"] >= 0.6 * endings.total(), endings


@pytest.fixture
def run(inside: Command, small: list[str]) -> Callable[[list[str]], tuple[int, str]]:
    """The command line within this process; what is given goes before what is usual in these tests."""

    def command(words: list[str]) -> tuple[int, str]:
        given = {word.partition("=")[0]: word for word in [*small, *words]}
        finished = inside(*given.values(), "hydra.run.dir=run")
        return finished.returncode, finished.stderr

    return command


#: What is combined with what, besides the options of the groups themselves.
VALUES = {
    "objective/style": [
        "[gram,mean_std]", "[wasserstein,shifted_gram]", "[covariance,gram_softmax]", "[sliced_wasserstein,histogram]",
        "[relaxed_emd,hypercolumn_moments,palette]", "[nearest_neighbors,patch_neighbors]",
        "[feature_splitting,sliced_wasserstein_drawn]",
    ],
    "objective.relative": ["true", "false"],
    "precision": ["32", "bf16", "64"],
    "tile": ["off", "auto", "24"],
    "weights.laplacian": ["0", "1"],
    "encoder.padding": ["zeros", "reflect", "replicate"],
    "encoder.normalize_on": ["null", "bundled"],
    "color": ["style", "match", "luminance", "yiq", "lab", "chroma"],
    "style/more": ["[]", "[second]"],
    "style.fit": ["stretch", "fit", "crop", "own"],
    "style.scale": ["1", "1.5"],
}  # fmt: skip
GROUPS = ("pooling", "layers", "objective", "weights", "init", "optimizer", "schedule", "logger", "callbacks")
#: Objectives that differ in more than their style terms, which are combined with everything.
OBJECTIVES = ["gram", "paper", "relative", "strotss"]
#: Words for terms that need all positions, that draw at each evaluation, and that need the pixels as a layer.
GLOBAL = ("sliced_wasserstein", "histogram", "strotss", "relaxed_emd", "nearest_neighbors", "feature_splitting")
DRAWN = ("objective=strotss", "relaxed_emd", "feature_splitting")


def pairs() -> list[list[str]]:
    """Configurations among which any two options of two groups are together in one."""
    left_out = {*OTHERS, *ALIKE}
    groups = {
        group: sorted({path.stem for path in paths.configs().glob(f"{group}/*.yaml")} - left_out) for group in GROUPS
    }
    parts = OrderedDict({**groups, "objective": OBJECTIVES, **VALUES})

    def words(row: list[str]) -> list[str]:
        return [f"{key}={value}" for key, value in zip(parts, row, strict=False)]

    def runs(row: list[str]) -> bool:
        """Whether nothing refuses a row, as far as it goes."""
        return not any(refusals(words(row)))

    return [words(row) for row in AllPairs(parts.values(), filter_func=runs)]


def refusals(words: list[str]) -> Iterator[str]:
    """Yield the reasons for which a configuration is refused."""
    objective = " ".join(word for word in words if word.startswith("objective"))
    if "tile=24" in words and any(name in objective for name in GLOBAL):
        yield "reads the picture as a whole, not in tiles"
    if any(word.startswith("optimizer=lbfgs") for word in words) and any(name in objective for name in DRAWN):
        yield "draws new samples at each evaluation, whose losses L-BFGS can't compare"
    if "palette" in objective and "layers=strotss" not in words:
        yield "palette (objective/style) also needs the layer pixels"


@pytest.mark.parametrize("words", pairs(), ids=" ".join)
def test_any_two_options_go_together(
    run: Callable[[list[str]], tuple[int, str]],
    inside: Command,
    tmp_path: Path,
    pictures: tuple[Path, Path],
    words: list[str],
) -> None:
    """And go on; but for those that are refused. A second style has the left of the picture."""
    if "style/more=[second]" in words:
        half = np.zeros((32, 40), dtype=np.uint8)
        half[:, :20] = 255
        Image.fromarray(half).save(tmp_path / "left.png")
        words += [f"style.more.second.path={pictures[1]}", f"style.more.second.region={tmp_path / 'left.png'}"]
    status, errors = run([*words, "evaluations=2", "size=56", "callbacks.film=null"])
    assert status == 0, errors
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["evaluations"] == 2
    finished = inside("resume=run", "evaluations=3")
    assert finished.returncode == 0, finished.stderr
    told = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert told["status"] == "completed"
    # A line search may find that no step improves the picture.
    assert told["evaluations"] == 3 or "optimizer=lbfgs_line_search" in words


REFUSED = [
    [objective, other]
    for objective in ("objective=strotss", *(f"objective/style={value}" for value in VALUES["objective/style"]))
    for other in ("tile=24", "optimizer=lbfgs", "layers=seed")
    if any(refusals([objective, other]))
]


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_options_that_do_not_go_together_are_refused(
    run: Callable[[list[str]], tuple[int, str]], tmp_path: Path, words: list[str]
) -> None:
    status, errors = run([*words, "size=40"])
    assert status == 2
    assert all(reason in errors for reason in refusals(words)), errors
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("encoder", sorted(path.stem for path in paths.configs().glob("encoder/*.yaml")))
def test_every_encoder_runs(run: Callable[[list[str]], tuple[int, str]], tmp_path: Path, encoder: str) -> None:
    layers = "resnet" if encoder == "torchvision" else "seed"
    status, errors = run([f"encoder={encoder}", f"layers={layers}", "weights.style=1", "evaluations=2"])
    assert status == 0, errors
    losses = json.loads((tmp_path / "run" / "summary.json").read_text())["losses"]
    assert losses["content"] > 0
    assert losses["style"] > 0


def test_any_configuration_runs_or_is_refused(run: Callable[[list[str]], tuple[int, str]], tmp_path: Path) -> None:
    check_any(run, tmp_path / "run", 30)


@pytest.mark.soak
def test_any_of_many_configurations_runs_or_is_refused(
    run: Callable[[list[str]], tuple[int, str]], tmp_path: Path
) -> None:
    check_any(run, tmp_path / "run", 1000)
