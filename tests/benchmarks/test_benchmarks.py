"""The benchmark against the baseline: the transcription computes what ours does, and every part works and goes on."""

import itertools
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import against_peer, baseline, gpu, roofline, side_by_side
from benchmarks.against_baseline import __main__ as against_baseline
from benchmarks.against_baseline import evaluation, memory, ours, packaged, pictures, quality, race
from nst.config.source import quoted
from nst.encoder import oxford
from nst.encoder import weights as encoder
from nst.encoder.vgg import VGG
from nst.errors import UserError
from nst.files import paths
from tests.conftest import paint
from tests.project.test_house import imports

OVERRIDES = ("--overrides", "threads=1", "precision=32")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the benchmark is run: one content and two style pictures lie there."""
    monkeypatch.chdir(tmp_path)
    for index, name in enumerate(("content/shore", "style/waves", "style/dots")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        paint(index, 40, 48).save(tmp_path / f"{name}.jpg")
    return tmp_path


def recipe_and_ours(tmp_path: Path, pixels: pictures.Shape) -> tuple[baseline.Recipe, Any]:
    """The transcription and our objective, for the default configuration with random filters."""
    files = {kind: paths.bundled(kind, name) for kind, name in (("content", "tubingen"), ("style", "starry_night"))}
    overrides = [f"{kind}.path={quoted(path)}" for kind, path in files.items()]
    run = ours.make(
        [
            *overrides,
            "encoder.weights=random",
            "encoder.calibrate=false",
            "weights=seed",
            "logger=none",
            f"size={max(pixels)}",
            "threads=1",
            "precision=32",
        ],
        tmp_path,
    )
    ours.fit(run, ours.Ready())
    content, style = pictures.pair(files["content"], files["style"], max(pixels))
    layers = ours.compose([]).layers
    recipe = baseline.Recipe(encoder.random_state("vgg19", 0), content, style, layers.content, layers.style)
    return recipe, run.module.objective


def test_the_transcription_is_our_default_objective(tmp_path: Path) -> None:
    recipe, objective = recipe_and_ours(tmp_path, (48, 64))
    theirs, our = (torch.rand(1, 3, *recipe.shape, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    torch.testing.assert_close(theirs, our)
    total = recipe(theirs.requires_grad_())
    losses = objective(our.requires_grad_())
    total.backward()
    losses.total.backward()
    assert theirs.grad is not None
    assert our.grad is not None
    torch.testing.assert_close(losses.total, total, rtol=1e-5, atol=0)
    assert (our.grad - theirs.grad).norm() < 1e-5 * theirs.grad.norm()


def test_the_transcription_knows_nothing_of_ours() -> None:
    assert {name.split(".")[0] for name in imports(Path(baseline.__file__))} == {"collections", "torch", "torchvision"}


def test_its_optimizer_visits_the_points_of_one_long_step_with_clamping() -> None:
    target = torch.linspace(-0.5, 1.5, 12).view(1, 3, 2, 2)
    scale = torch.linspace(1, 9, 12).view(1, 3, 2, 2)

    def recipe(image: torch.Tensor) -> torch.Tensor:
        return (scale * (image - target).square()).sum()

    visited: list[float] = []
    image = torch.full((1, 3, 2, 2), 0.5, requires_grad=True)
    optimizer = torch.optim.LBFGS([image], max_iter=9, tolerance_grad=0, tolerance_change=0)

    def closure() -> torch.Tensor:
        with torch.no_grad():
            image.clamp_(0, 1)
        optimizer.zero_grad()
        loss = recipe(image)
        loss.backward()
        visited.append(loss.item())
        return loss

    optimizer.step(closure)
    losses = baseline.optimize(recipe, torch.full((1, 3, 2, 2), 0.5))  # type: ignore[arg-type]
    assert list(itertools.islice(losses, 9)) == visited


def test_convolutions_are_counted_by_hand() -> None:
    # conv1_1: 3 to 64, conv1_2: 64 to 64 at 16 px; conv2_1: 64 to 128 at 8 px.
    forward = 2 * 9 * ((3 * 64 + 64 * 64) * 16 * 16 + 64 * 128 * 8 * 8)
    assert evaluation.convolution_flops("vgg19", ["relu1_1", "relu2_1"], (16, 16)) == 2 * forward


def test_pairs_alternate_who_is_first() -> None:
    order: list[str] = []
    sides = {name: lambda name=name: order.append(name) for name in ("baseline", "ours")}
    times = evaluation.by_turns(sides, 3, torch.device("cpu"))
    assert order[4:] == ["baseline", "ours", "ours", "baseline", "baseline", "ours"]
    assert [set(pair) for pair in times] == [{"baseline", "ours"}] * 3


def test_evaluation_and_its_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("evaluation", "--sizes", "32", "16x48", "--pairs", "2", *OVERRIDES)
    assert against_baseline.main(words) == 0
    assert "times as fast (median of 2 pairs" in capsys.readouterr().out
    assert against_baseline.main(words) == 0
    assert capsys.readouterr().out.count("kept from") == 2
    records = json.loads((folder / "outputs/against_baseline.json").read_text())
    assert [record["key"]["size"] for record in records] == ["32x32", "16x48"]
    assert all(evaluation.summary(record["values"])["our_share"] > 0 for record in records)
    report(folder, ["| 16x48 | cpu | `precision=32 threads=1` |", "--sizes 32 16x48 --pairs 2", "torch 2."])
    assert (folder / "outputs/against_baseline/evaluation.png").stat().st_size > 1000


def report(folder: Path, expected: list[str]) -> None:
    pytest.importorskip("matplotlib")
    assert against_baseline.main(["report"]) == 0
    text = (folder / "outputs/against_baseline/report.md").read_text()
    assert [words for words in expected if words not in text] == []


def test_memory_and_its_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert against_baseline.main(("memory", "--sizes", "32x64", *OVERRIDES)) == 0
    assert "32x64 baseline: peak" in capsys.readouterr().out
    records = json.loads((folder / "outputs/against_baseline.json").read_text())
    assert {record["key"]["side"] for record in records} == {"baseline", "ours"}
    assert all(record["values"]["bytes"] >= record["values"]["imports"] > 1e8 for record in records)
    report(folder, ["| 32x64 | cpu | `baseline` |", "| 32x64 | cpu | `ours precision=32 threads=1"])


def test_an_iteration_with_a_full_history(folder: Path) -> None:
    run = ours.ready((32, 64), [*OVERRIDES[1:], "optimizer.history_size=3"], torch.device("cpu"), folder)
    made = []
    make = run.module.make_optimizer
    run.module.make_optimizer = lambda pixels: made.append(make(pixels)) or made[-1]  # type: ignore[func-returns-value]
    before, evaluate = run.module.image.detach().clone(), ours.evaluation(run)
    losses = []
    ours.iterate(run, lambda: losses.append(evaluate()) or losses[-1])  # type: ignore[func-returns-value]
    assert len(losses) == 1
    assert len(made[0].history) == 3
    assert not torch.equal(run.module.image, before)


def test_an_optimizer_without_a_history_has_none_to_fill(folder: Path) -> None:
    run = ours.ready((32, 64), [*OVERRIDES[1:], "optimizer=adam"], torch.device("cpu"), folder)
    with pytest.raises(UserError, match="--history: Adam has none; choose an L-BFGS"):
        ours.iterate(run, ours.evaluation(run))


def test_a_slope_is_between_the_two_largest_sizes() -> None:
    sizes = {"1000x1000": 2e9, "1000x2000": 5e9, "16x16": 1e9}
    key = {"side": "baseline", "overrides": [], "device": "cpu"}
    records: list[Any] = [
        {"key": {**key, "size": size}, "values": {"bytes": taken, "seconds": 3 * taken / 2e9}}
        for size, taken in sizes.items()
    ]
    records.append({"key": {**key, "size": "4000x4000"}, "values": {"failed": "no memory"}})
    assert memory.slopes(records) == [
        "baseline on cpu: 3.00 GB per megapixel, from 1 to 2 megapixels; a megapixel takes 1.25 times as long there"
    ]


def race_words(folder: Path, checkpoint: Path, *more: str) -> list[str]:
    return [
        "quality", "--pictures", str(folder), "--weights", str(checkpoint), "--contents", "shore", "--styles", "waves",
        "dots", "--size", "32", "--evaluations", "3", "--block", "1", "--overrides", "threads=1", "precision=32",
        "layers.content=[relu2_1]", "layers.style=[relu1_1,relu2_1]", *more,
    ]  # fmt: skip


def test_a_stopped_race_goes_on_where_it_was(
    folder: Path, partial_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = race_words(folder, partial_checkpoint)
    runs = []
    make = ours.make
    monkeypatch.setattr(ours, "make", lambda *arguments: runs.append(arguments) or make(*arguments))
    judge = race.Race._judge

    def interrupted(self: race.Race, *arguments: Any) -> None:
        judge(self, *arguments)
        if len(runs) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(race.Race, "_judge", interrupted)
        assert against_baseline.main(words) == 128 + signal.SIGINT
    stopped = json.loads((folder / "outputs/against_baseline.json").read_text())
    assert [(r["part"], r["key"]["pair"]) for r in stopped] == [
        ("reference", "shore-waves"), ("quality", "shore-waves"), ("reference", "shore-dots"),
    ]  # fmt: skip

    assert against_baseline.main(words) == 0
    assert len(runs) == 3
    finished = json.loads((folder / "outputs/against_baseline.json").read_text())
    assert finished[:3] == stopped
    assert [(r["part"], r["key"]["pair"]) for r in finished[3:]] == [("quality", "shore-dots")]
    assert "median of 2 pairs" in capsys.readouterr().out
    report(folder, ["| shore-dots | content_noise | 32 px | cpu |"])


def test_our_picture_is_judged_by_the_baselines_objective_from_the_same_start(
    folder: Path, partial_checkpoint: Path
) -> None:
    more = "optimizer=lbfgs_clamped"
    assert against_baseline.main(race_words(folder, partial_checkpoint, more)) == 0
    records = json.loads((folder / "outputs/against_baseline.json").read_text())
    for reference, result in zip(records[::2], records[1::2], strict=True):
        losses, curve = reference["values"]["losses"], result["values"]["ours"]["curve"]
        assert [number for number, _, _ in curve] == sorted({number for number, _, _ in curve})
        assert all(later[1] > earlier[1] for earlier, later in itertools.pairwise(curve))
        # Ours with the baseline's optimizer visits the baseline's points.
        assert [loss for _, _, loss in curve] == pytest.approx([losses[number - 1] for number, _, _ in curve], rel=1e-3)


def test_a_picture_on_its_way_through_smaller_sizes_is_not_judged() -> None:
    content = torch.rand(1, 3, 32, 32)
    recipe = baseline.Recipe(encoder.random_state("vgg19", 0), content, content, ["relu1_1"], ["relu1_1"])
    judge = race.Race(recipe, itertools.repeat(0.0), goal=1e9, block=1, whole=False)
    judge._judge(1, torch.rand(1, 3, 16, 16))
    assert judge.reached is None
    judge._judge(2, torch.rand(1, 3, 32, 32))
    assert judge.reached is not None


def test_the_packaged_network_is_the_same_in_torchvisions_convention(tmp_path: Path) -> None:
    """But at the border, where the zeros around the picture stand for another colour."""
    found = oxford.find()
    assert found is not None
    assert found.path is not None
    calibrated = encoder.calibrate(encoder.load_state(found.path, "vgg19"), "vgg19", oxford.MEANS)
    written = encoder.load_state(packaged.write(tmp_path / "packaged.pth"), "vgg19")
    picture = torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(0))
    features = []
    for state, convention in ((written, "torchvision"), (calibrated, "caffe")):
        network = VGG(
            architecture="vgg19",
            layers=["relu3_1"],
            pooling=lambda: nn.AvgPool2d(2),
            state=state,
            convention=convention,
        )
        features.append(network(picture)["relu3_1"][..., 4:-4, 4:-4])
    torch.testing.assert_close(*features, rtol=1e-3, atol=1e-3)


def test_the_peer_is_judged_by_its_own_objective(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--pictures", str(folder), "--contents", "shore", "--styles", "waves", "--size", "32", "--steps", "6"]
    words += ["--evaluations", "10", "--overrides", "precision=32", "schedule=single", "threads=1"]
    assert against_peer.main(words) == 0
    assert "median of 1 pairs" in capsys.readouterr().out
    reference, record = json.loads((folder / "outputs/against_peer.json").read_text())
    assert reference["values"].keys() == {"loss", "seconds"}
    curve = record["values"]["curve"]
    assert [point[0] for point in curve] == [5, 10]
    assert curve[-1][2] < curve[0][2]
    assert record["values"]["peer"]["loss"] == reference["values"]["loss"] > 0
    assert against_peer.main(words) == 0  # kept


def test_the_baselines_time_is_that_of_its_turns_in_the_race() -> None:
    content = torch.rand(1, 3, 16, 16)
    recipe = baseline.Recipe(encoder.random_state("vgg19", 0), content, content, ["relu1_1"], ["relu1_1"])
    judge = race.Race(recipe, itertools.repeat(0.0), goal=0, block=1, whole=False)
    judge.turns = [90.0, 2.0, 3.0, 7.0]
    assert judge.turn == 3.0


def test_never_as_good_counts_as_nothing() -> None:
    values = {"baseline": {"seconds": 6.0}, "ours": {"reached": [4, 2.0, 0.1]}}
    never = {"baseline": {"seconds": 6.0}, "ours": {"reached": None}}
    assert quality.ratio(values) == 3.0
    assert quality.ratio(never) == 0.0
    assert "best loss 1.50 times as soon" in quality.median([{"values": values}, {"values": never}])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["evaluation", "--overrides", "tyle=3"], "tyle"),
        (["evaluation", "--sizes", "32", "--overrides", "optimizer.lr=-1"], "optimizer.lr"),
        (["quality", "--pictures", "nowhere", "--weights", "none.pth"], "none.pth"),
        (["report"], "there are no measurements"),
    ],
)
def test_a_mistake_is_told_without_a_traceback(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], expected: str
) -> None:
    pytest.importorskip("matplotlib")
    assert against_baseline.main(words) == 2
    assert expected in capsys.readouterr().err


def test_memory_tells_a_mistake_that_its_process_met(folder: Path) -> None:
    task = {
        "side": "ours", "pixels": [32, 32], "device": "cpu", "overrides": ["optimizer.lr=-1"], "threads": 1,
        "content_layers": ["relu1_1"], "style_layers": ["relu1_1"],
    }  # fmt: skip
    with pytest.raises(UserError, match=r"optimizer\.lr"):
        memory.in_own_process(task)


def test_the_checks_of_a_gpu_run_on_a_cpu(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it runs, and what has a meaning there is right. The parts that measure the speed have their own tests."""
    words = ["content.path=content/shore.jpg", "style.path=style/waves.jpg", "encoder=slim", "threads=1"]
    checks = ["--device", "cpu", "--size", "40", "--evaluations", "4", "--overrides", *words]
    measured: list[list[str]] = []
    monkeypatch.setattr(against_baseline, "main", lambda words: measured.append(words) or 0)
    status = gpu.main(checks)
    told = json.loads(Path("outputs/gpu.json").read_text())
    failed = [check["name"] for check in told["checks"] if not check["passed"]]
    assert not failed, capsys.readouterr().out
    assert status == 0
    names = {check["name"].partition(":")[0] for check in told["checks"]}
    assert {"cosine of the gradient", "distance of Gaussians", "weights of a region, from odd sizes"} <= names
    assert [against_baseline.parse(words).part for words in measured] == ["evaluation", "quality", "memory"]
    assert all((Path(words[2]) / "content" / "tubingen.jpg").is_file() for words in measured if words[0] == "quality")
    assert gpu.main(["--device", "cuda"]) == 2


def test_the_roofline_counts_what_a_run_computes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--sizes", "32", "--precision", "32", "--evaluations", "8", "--each", "3", "--products", "64"]
    assert roofline.main([*words, "--device", "cpu", "--overrides", "threads=1", "logger=csv"]) == 0
    told = json.loads(Path("outputs/roofline.json").read_text())
    [run] = told["runs"]
    parts = run["parts"]
    assert "convolutions, backward" in capsys.readouterr().out
    convolutions = evaluation.convolution_flops("vgg19", ["relu4_2", "relu5_1"], (32, 32))
    counted = [parts[f"convolutions, {way}"]["operations"]["torch.float32"] for way in ("forward", "backward")]
    assert counted == [convolutions / 2] * 2
    # Each layer's Gram matrix, and its gradient: two products of (C, M) and (M, C) each.
    grams = sum(4 * channels**2 * (32 // 2**block) ** 2 for block, channels in enumerate((64, 128, 256, 512, 512)))
    assert parts["losses and statistics"]["operations"]["torch.float32"] == grams
    assert all(part["seconds"] > 0 for part in parts.values())
    assert sum(part["seconds"] for part in parts.values()) == pytest.approx(run["seconds"], rel=1)
    assert roofline.main(["--sizes", "32", "--overrides", "tyle=3"]) == 2


def test_side_by_side_tells_ratios(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["content.path=content/shore.jpg", "style.path=style/waves.jpg", "encoder=slim", "threads=1", "size=32"]
    small = [*words, "evaluations=2", "metrics=null", "logger=none", "callbacks.film=null"]
    assert side_by_side.seconds(1, "3000", small) > 0
    times = {(1, "300000"): 8.0, (1, "3000"): 8.4, (2, "300000"): 40.0, (2, "3000"): 16.0}
    monkeypatch.setattr(side_by_side, "seconds", lambda number, spin, words: times[number, spin])
    side_by_side.main(["--pairs", "2"])
    assert "3000: alone 1.05 (1.05 to 1.05) times that, 2 at once 2.00 (2.00 to 2.00)" in capsys.readouterr().out
