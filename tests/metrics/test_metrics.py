"""Measures agree with other implementations, and mean what they say; they are kept in the run's folder."""

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import ot
import pytest
import scipy.linalg
import scipy.ndimage
import torch
import torchvision
from omegaconf import OmegaConf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from torchmetrics.functional.image import learned_perceptual_image_patch_similarity

from nst import image as images
from nst.config.validation import validated
from nst.encoder import oxford
from nst.errors import written
from nst.files.run_folder import RunFolder
from nst.image.color import luminance
from nst.metrics import functional
from nst.metrics.__main__ import main
from nst.metrics.names import STYLE_LAYERS, measured_by, named
from nst.metrics.observer import observed, observer
from nst.metrics.report import told
from nst.objective.statistics import _axes
from nst.run import measuring
from tests.conftest import Command, image

Measure = Callable[[Tensor, Tensor], float]

#: Measures of two pictures, and their value for equal ones.
OF_PICTURES: dict[str, tuple[Measure, float]] = {
    "ssim": (functional.structural_similarity, 1),
    "edge_ssim": (functional.edge_similarity, 1),
    "palette": (functional.palette_distance, 0),
    "color_histogram": (functional.color_histogram_distance, 0),
}
#: Measures of the features of two pictures.
OF_FEATURES: dict[str, Measure] = {
    "cfsd": functional.feature_structure,
    "gram": functional.gram_distance,
    "frechet": functional.frechet_distance,
    "sliced_wasserstein": functional.sliced_wasserstein_distance,
}


def features(seed: int, *shape: int) -> Tensor:
    return torch.rand(1, *(shape or (6, 9, 11)), generator=torch.Generator().manual_seed(seed)).double().square()


def rows(each: Tensor) -> np.ndarray:
    return np.asarray(each[0].flatten(1).T)


def smooth(seed: int, height: int = 60, width: int = 80) -> Tensor:
    small = torch.rand(1, 3, 8, 10, generator=torch.Generator().manual_seed(seed)).double()
    return torch.nn.functional.interpolate(small, size=(height, width), mode="bilinear").clamp(0, 1)


@pytest.mark.parametrize("sizes", [((6, 9, 11), (6, 9, 11)), ((6, 30, 37), (6, 9, 11))])
def test_cfsd_agrees_with_a_transcription(sizes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    """Also if there are more positions than are compared at a time."""
    one, other = features(1, *sizes[0]), features(2, *sizes[0])

    def similarity(each: Tensor) -> np.ndarray:
        values = rows(each) / each.shape[1]
        exponentials = np.exp(values @ values.T)
        return np.asarray(exponentials / exponentials.sum(1, keepdims=True))

    p, q = similarity(other), similarity(one)
    assert functional.feature_structure(one, other) == pytest.approx((p * np.log(p / q)).sum(), rel=1e-9)


def test_cfsd_is_as_exact_in_32_bits() -> None:
    """The similarities of calibrated features are below 0.1, and differ by little."""
    one, other = features(1, 64, 30, 37), features(2, 64, 30, 37)
    for each in (other, one + other, one * 30, other * 1.001):
        expected = functional.feature_structure(one, each)
        assert functional.feature_structure(one.float(), each.float()) == pytest.approx(expected, rel=1e-5)


def test_ssim_agrees_with_a_transcription() -> None:
    one, other = smooth(1), smooth(2)
    blurred = partial(scipy.ndimage.gaussian_filter, sigma=1.5, truncate=3.5, mode="mirror")
    x, y = (np.asarray(luminance(each)[0, 0]) for each in (one, other))
    mean, another = blurred(x), blurred(y)
    spread, wide, both = blurred(x * x) - mean**2, blurred(y * y) - another**2, blurred(x * y) - mean * another
    expected = (2 * mean * another + 1e-4) * (2 * both + 9e-4)
    expected /= (mean**2 + another**2 + 1e-4) * (spread + wide + 9e-4)
    assert functional.structural_similarity(one, other) == pytest.approx(expected.mean(), abs=1e-7)


def test_gram_distance_agrees_with_a_transcription() -> None:
    one, other = features(1), features(2, 6, 5, 7)
    grams = [np.einsum("ic,id->cd", rows(each), rows(each)) / rows(each).size for each in (one, other)]
    expected = ((grams[0] - grams[1]) ** 2).sum() / (grams[1] ** 2).sum()
    assert functional.gram_distance(one, other) == pytest.approx(expected, rel=1e-10)


def test_frechet_distance_agrees_with_scipy() -> None:
    one, other = features(1), features(2, 6, 5, 7)
    (mean, spread), (another, wide) = ((rows(x).mean(0), np.cov(rows(x).T, bias=True)) for x in (one, other))
    root = scipy.linalg.sqrtm(spread @ wide)
    expected = (((mean - another) ** 2).sum() + np.trace(spread + wide - 2 * root.real)) / 6
    assert functional.frechet_distance(one, other) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shape", [(6, 9, 11), (6, 5, 7)])
def test_sliced_wasserstein_agrees_with_pot(shape: tuple[int, ...]) -> None:
    one, other = features(1), features(2, *shape)
    axes = _axes(6, functional.DIRECTIONS, 0, torch.device("cpu"), torch.float64)
    expected = ot.sliced.sliced_wasserstein_distance(rows(one), rows(other), projections=np.asarray(axes))
    assert functional.sliced_wasserstein_distance(one, other) == pytest.approx(expected, rel=1e-5)


def test_color_histogram_agrees_with_a_transcription() -> None:
    one, other = image(1, 12, 9), image(2, 7, 8)

    def histogram(each: Tensor) -> np.ndarray:
        counts, centres = np.zeros((3, 64, 64)), np.linspace(-3, 3, 64)
        for pixel in rows(each):
            logs = np.log(pixel + 1e-6)
            for channel, (first, second) in enumerate(((1, 2), (0, 2), (0, 1))):
                near = [1 / (1 + ((logs[channel] - logs[than] - centres) / 0.02) ** 2) for than in (first, second)]
                counts[channel] += math.sqrt((pixel**2).sum() + 1e-6) * np.outer(*near)
        return np.asarray(counts / counts.sum())

    expected = math.sqrt(((np.sqrt(histogram(one)) - np.sqrt(histogram(other))) ** 2).sum() / 2)
    assert functional.color_histogram_distance(one, other) == pytest.approx(expected, rel=1e-8)


def test_grain_is_that_of_noise_where_the_content_is_flat() -> None:
    """The Laplacian of white noise of deviation s in one channel has the variance 20 s²."""
    content = torch.full((1, 3, 200, 300), 0.5).double()
    content[..., 100:] = image(1, 200, 200)
    noise = torch.randn(1, 1, 200, 300, generator=torch.Generator().manual_seed(0)).double()
    style = torch.rand(1, 1, 400, 400, generator=torch.Generator().manual_seed(1)).double().expand(-1, 3, -1, -1)
    picture = content.clone()
    picture[..., :100] += 0.05 * noise[..., :100]
    assert functional.grain(picture, content, style) == pytest.approx(20 * 0.05**2 / (20 / 12), rel=0.03)
    assert functional.grain(content, content, style) == pytest.approx(0, abs=1e-12)


def test_clipped_counts_values_that_are_0_or_1() -> None:
    picture = torch.tensor([0.0, 1.0, 0.001, 0.9985, 0.5, 0.25]).view(1, 3, 1, 2)
    assert functional.clipped(picture) == pytest.approx(4 / 6)  # in 8 bits


@pytest.mark.parametrize("name", OF_PICTURES)
def test_a_picture_is_as_far_from_itself_as_can_be(name: str) -> None:
    measure, equal = OF_PICTURES[name]
    assert measure(smooth(1), smooth(1)) == pytest.approx(equal, abs=1e-7)
    assert abs(measure(smooth(2), smooth(1)) - equal) > 1e-3


@pytest.mark.parametrize("name", OF_FEATURES)
def test_features_are_at_no_distance_from_themselves(name: str) -> None:
    assert OF_FEATURES[name](features(1), features(1)) == pytest.approx(0, abs=1e-9)
    assert OF_FEATURES[name](features(1), features(2)) > 1e-6


@pytest.mark.parametrize("name", ["gram", "frechet", "sliced_wasserstein"])
def test_style_measures_know_nothing_of_places(name: str) -> None:
    """Neither if all positions change places, nor if all are there twice."""
    one, other = features(1, 6, 8, 8), features(2, 6, 8, 8)
    expected = OF_FEATURES[name](one, other)
    assert OF_FEATURES[name](one.roll((3, 2), (2, 3)), other) == pytest.approx(expected, rel=1e-9)
    assert OF_FEATURES[name](torch.cat([one, one], 2), other) == pytest.approx(expected, rel=1e-9)


def test_cfsd_knows_nothing_of_rotations_of_the_features_and_all_of_places() -> None:
    one, other = features(1), features(2)
    expected = functional.feature_structure(one, other)
    turn, _ = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0)).double())
    turned = torch.einsum("ij,njhw->nihw", turn, one)
    assert functional.feature_structure(turned, other) == pytest.approx(expected, rel=1e-9)
    assert functional.feature_structure(one.roll(1, 3), other) != pytest.approx(expected, rel=1e-3)
    assert functional.feature_structure(one.roll(1, 3), other.roll(1, 3)) == pytest.approx(expected, rel=1e-9)


def test_observers_read_512_px() -> None:
    assert observed(torch.rand(1, 3, 30, 40)).shape == (1, 3, 384, 512)
    assert observed(torch.rand(1, 3, 900, 600)).shape == (1, 3, 512, 341)
    small = observer("slim")
    assert small.name == "slim-512px-v1"
    assert list(small.read(torch.rand(1, 3, 64, 48))) == list(STYLE_LAYERS)


def test_the_observer_sees_calibrated_layers() -> None:
    """A picture of the paper's network has layers of the same order of magnitude, whatever the network's own scale."""
    found = observer("oxford_vgg19").read(observed(images.load(Path("nst/assets/content/tubingen.jpg"), key="content")))
    assert all(0.3 < float(each.mean()) < 3 for each in found.values())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are measured at 128 px."""
    monkeypatch.setattr("nst.metrics.observer.SIDE", 128)


def painted(inside: Command, small: list[str], *words: str) -> None:
    finished = inside(*small, *words, "evaluations=3", "schedule=single", "hydra.run.dir=run")
    assert finished.returncode == 0, finished.stderr


@pytest.mark.usefixtures("quick")
def test_runs_are_measured_once(
    inside: Command, small: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    painted(inside, small)
    assert main([str(tmp_path), "--observer", "slim", "--jobs", "1"]) == 0
    printed = capfd.readouterr().out
    assert "1 run measured by slim-512px-v1" in printed
    kept = json.loads((tmp_path / "run" / "metrics.json").read_text())
    values = {**kept["observers"]["512px-v1"]["values"], **kept["observers"]["slim-512px-v1"]["values"]}
    assert {name.partition("/")[0] for name in values} == {
        "ssim", "edge_ssim", "clipped", "palette", "color_histogram", "grain", "cfsd", "gram", "frechet",
        "sliced_wasserstein",
    }  # fmt: skip
    assert f"cfsd {written(values['cfsd'], 4)}" in printed
    saved = (tmp_path / "run" / "metrics.json").stat().st_mtime_ns
    assert main([str(tmp_path), "--observer", "slim", "--jobs", "1"]) == 0
    assert (tmp_path / "run" / "metrics.json").stat().st_mtime_ns == saved
    Image.new("RGB", (40, 32), "red").save(tmp_path / "run" / "result.png")  # another picture
    assert main([str(tmp_path), "--observer", "slim", "--jobs", "1"]) == 0
    again = json.loads((tmp_path / "run" / "metrics.json").read_text())["observers"]["512px-v1"]["values"]
    assert again["ssim"] != values["ssim"]


@pytest.mark.usefixtures("quick")
def test_only_the_content_is_measured_with_several_styles(inside: Command, small: list[str], tmp_path: Path) -> None:
    painted(inside, small, "style/more=[second]", f"style.more.second.{small[0].removeprefix('content.')}")
    assert main([str(tmp_path), "--observer", "slim", "--jobs", "1"]) == 0
    kept = json.loads((tmp_path / "run" / "metrics.json").read_text())["observers"]
    assert set(kept["slim-512px-v1"]["values"]) == {"cfsd"}
    assert set(kept["512px-v1"]["values"]) == {"ssim", "edge_ssim", "clipped"}


@pytest.mark.usefixtures("quick")
def test_a_run_measures_its_picture(inside: Command, small: list[str], tmp_path: Path) -> None:
    """Its measures are said, shown by TensorBoard, and what a sweeper minimizes."""
    words = ["metrics=[slim]", "minimize.metric=ssim", "evaluations=3", "schedule=single"]
    finished = inside(*small, *words, "hydra.run.dir=run")
    assert finished.returncode == 0, finished.stderr
    folder = RunFolder(tmp_path / "run")
    measures = folder.read_metrics()
    values = named(measures, "slim")
    assert set(values) == set(measured_by("slim"))
    assert f"Measured by slim-512px-v1: {told(measures, 'slim')}" in finished.stderr
    shown = EventAccumulator(str(next(folder.path.rglob("events.*")).parent)).Reload()
    assert shown.Scalars("slim-512px-v1/cfsd")[0].value == pytest.approx(values["cfsd"])
    assert shown.Scalars("512px-v1/ssim")[0].value == pytest.approx(values["ssim"])
    assert b"slim-512px-v1/gram" in shown.SummaryMetadata("_hparams_/experiment").plugin_data.content
    assert shown.SummaryMetadata("_hparams_/session_end_info").plugin_data.plugin_name == "hparams"
    config, *lines = validated(OmegaConf.to_container(OmegaConf.load(folder.config)))  # type: ignore[arg-type]
    assert config is not None, lines
    assert measuring.value(config, {}, measures) == -values["ssim"]
    before = folder.metrics.read_bytes()
    assert inside("resume=run", "evaluations=5").returncode == 0
    assert named(folder.read_metrics(), "slim")["ssim"] != values["ssim"]
    assert folder.metrics.read_bytes() != before


@pytest.mark.usefixtures("quick")
def test_a_search_for_a_measure(inside: Command, small: list[str], tmp_path: Path) -> None:
    """The same sweep again measures the pictures that are there, and says the same."""
    words = ["-m", *small, "evaluations=2", "schedule=single", "seed=1,2", "hydra.sweep.dir=sweep"]
    assert inside(*words).returncode == 0
    assert not list(tmp_path.rglob("metrics.json"))
    again = inside(*words, "metrics=[slim]", "minimize.metric=cfsd")
    assert again.returncode == 0, again.stderr
    assert len(list(tmp_path.rglob("metrics.json"))) == 2


def test_a_measure_that_there_will_not_be_is_refused(inside: Command, small: list[str]) -> None:
    refused = inside(*small, "minimize.metric=cfsd")
    assert refused.returncode == 2
    assert "minimize.metric=cfsd: nothing is measured; choose a network: metrics=[oxford_vgg19]" in refused.stderr
    region = "style.region=" + small[0].partition("=")[2]
    refused = inside(*small, "minimize.metric=palette", "metrics=[slim]", region)
    assert refused.returncode == 2
    assert "minimize.metric=palette: this measure needs a single style" in refused.stderr
    assert "choices: cfsd, lpips, ssim, edge_ssim, clipped" in refused.stderr
    refused = inside(*small, "minimize.metric=lpips", "metrics=[slim,alexnet]")
    assert (
        "minimize.metric=lpips: slim doesn't measure it; choose a measure by the first network of metrics"
        in refused.stderr
    )
    refused = inside(*small, "minimize.metric=beauty", "metrics=[resnet50]")
    assert refused.returncode == 2
    assert "minimize.metric=beauty: must be 'cfsd'" in refused.stderr
    assert "metrics.0=resnet50: must be 'oxford_vgg19', 'slim' or 'alexnet'" in refused.stderr
    for words in (["metrics=true"], ["metrics=[[slim]]"], ["minimize.metric=[cfsd]"], ["metrics=slim"]):
        refused = inside(*small, "metrics=[slim]", "minimize.metric=cfsd", *words)
        assert refused.returncode == 2
        assert "Traceback" not in refused.stderr
        assert refused.stderr.startswith(f"error: {words[0].partition('=')[0]}")


@pytest.mark.usefixtures("quick")
def test_a_picture_that_can_not_be_measured_is_there_all_the_same(
    inside: Command, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oxford, "PACKAGE", "not_installed")
    observer.cache_clear()
    words = ["metrics=[oxford_vgg19]", "evaluations=2", "schedule=single", "hydra.run.dir=run"]
    finished = inside(*small, *words)
    assert finished.returncode == 0
    assert "The picture can't be measured: observer=oxford_vgg19: install the package" in finished.stderr
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "completed"


def test_mistakes(inside: Command, small: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nowhere")]) == 2
    assert main([str(tmp_path), "--observer", "slim", "--jobs", "1"]) == 2
    assert main([str(tmp_path), "--observer", "alexnett"]) == 2
    assert main([str(tmp_path), "--jobs", "0"]) == 2
    said = capfd.readouterr().err.splitlines()
    assert "there is no such folder" in said[0]
    assert "there is no run in this folder or below it" in said[1]
    assert said[2].startswith("error: --observer=alexnett: there is no such observer; did you mean alexnet?")
    assert said[3] == "error: --jobs=0: must be above 0"
    painted(inside, small)
    content = tmp_path / "content.png"
    named = json.loads((tmp_path / "run" / "summary.json").read_text())["assets"]["content"]["path"]
    Image.open(named).save(content)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    summary["assets"]["content"]["path"] = str(content)
    summary["assets"]["content"]["sha256"] = "0" * 64
    (tmp_path / "run" / "summary.json").write_text(json.dumps(summary))
    assert main([str(tmp_path), "--observer", "slim", "--jobs", "1"]) == 1
    assert "the file has changed since the run" in capfd.readouterr().err
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_lpips_is_that_of_torchmetrics(
    inside: Command, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By random weights in the place of AlexNet's; without them, the run says what is missing."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    words = ["metrics=[alexnet]", "minimize.metric=lpips", "evaluations=1", "schedule=single"]
    lacking = inside(*small, *words, "hydra.run.dir=lacking")
    assert lacking.returncode == 2
    assert "alexnet-owt-7be5be79.pth: there is no such file" in lacking.stderr
    assert (tmp_path / "lacking" / "result.png").is_file()
    network = torchvision.models.alexnet()
    file = tmp_path / "torch" / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"
    file.parent.mkdir(parents=True)
    torch.save(network.state_dict(), file)
    painted(inside, small, *words)
    picture = observed(images.load(tmp_path / "run" / "result.png", key="result"))
    content = images.resize(images.load(Path(small[0][13:]), key="content"), (picture.shape[-2], picture.shape[-1]))
    expected = learned_perceptual_image_patch_similarity(picture, content, normalize=True)
    found = named(RunFolder(tmp_path / "run").read_metrics(), "alexnet")["lpips"]
    assert found == pytest.approx(float(expected), rel=1e-5)
    same = observer("alexnet").values(picture, picture, None)
    assert same == {"lpips": pytest.approx(0, abs=1e-7)}


@pytest.mark.usefixtures("quick")
def test_runs_are_laid_out_for_artfid(
    inside: Command, small: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    painted(inside, small)
    out = tmp_path / "sets"
    assert main([str(tmp_path), "--artfid", str(out)]) == 2
    assert "1 complete run with a single style; ArtFID compares sets" in capfd.readouterr().err
    assert not out.exists()
    assert inside(*small, "evaluations=1", "schedule=single", "hydra.run.dir=other").returncode == 0
    assert inside(*small, "evaluations=1", "schedule=single", "style.region=" + small[0][13:]).returncode == 0
    assert main([str(tmp_path), "--artfid", str(out)]) == 0
    assert sorted(str(path.relative_to(out)) for path in out.glob("*/*")) == [
        f"{kind}/00000{number}.png" for kind in ("content", "style", "stylized") for number in range(2)
    ]
    sizes = [Image.open(out / kind / "000000.png").size for kind in ("content", "stylized", "style")]
    assert sizes == [(32, 26), (32, 26), (36, 48)]
    assert main([str(tmp_path), "--artfid", str(out)]) == 2
    assert f"error: --artfid={out}: this folder already exists" in capfd.readouterr().err


@pytest.mark.usefixtures("quick")
def test_several_runs_are_measured_at_a_time(
    inside: Command, small: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """In processes of their own, which find what this one has measured."""
    assert inside("-m", *small, "evaluations=1", "schedule=single", "seed=1,2", "hydra.sweep.dir=sweep").returncode == 0
    (tmp_path / "sweep" / "broken").mkdir()
    (tmp_path / "sweep" / "broken" / "config.yaml").write_text("{}")
    assert main([str(tmp_path), "--observer", "slim", "--jobs", "1"]) == 1
    alone = capfd.readouterr()
    assert main([str(tmp_path), "--observer", "slim", "--jobs", "2"]) == 1
    told = capfd.readouterr()
    assert told.out.splitlines()[-3:] == alone.out.splitlines()[-3:]
    assert "2 runs measured by slim-512px-v1" in told.out
    assert "broken: can't be measured: result=" in told.err
    assert len(list(tmp_path.glob("sweep/*/metrics.json"))) == 2
