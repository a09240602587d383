"""Model files: what they keep, and what is refused with what words."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stn_icnn.config import TrainConfig
from stn_icnn.config_dict import to_stored
from stn_icnn.label_sets import PAPER9
from stn_icnn.networks.checkpoint import Checkpoint, DataFacts, load_checkpoint, save_checkpoint
from stn_icnn.networks.model import build_model

SHIPPED = Path(__file__).parents[3] / "models" / "celebamask" / "model.pt"

DATA = DataFacts(dataset="helen", fingerprint="abc", scale_px=1024, scale_fit="at_most")


@pytest.fixture(scope="module")
def checkpoint(tiny_config: TrainConfig) -> Checkpoint:
    torch.manual_seed(0)
    model = build_model(tiny_config.model)
    model.coarse.head[0][1].running_mean.fill_(0.25)
    return Checkpoint(model, tiny_config, DATA, "end_to_end", {"val/f1_overall": 0.5})


@pytest.fixture
def written(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "model.pt", checkpoint)
    return tmp_path / "model.pt"


def test_all_of_a_model_comes_back(checkpoint: Checkpoint, written: Path):
    loaded = load_checkpoint(written)
    assert loaded.config == checkpoint.config
    assert loaded.data == DATA
    assert loaded.phase == "end_to_end"
    assert loaded.metrics == {"val/f1_overall": 0.5}
    assert not loaded.model.training
    weights = loaded.model.state_dict()
    for name, tensor in checkpoint.model.state_dict().items():
        assert torch.equal(weights[name], tensor), name


def test_a_folder_stands_for_the_model_in_it(written: Path):
    assert load_checkpoint(str(written.parent)).data == DATA


def conv_bn(name: str) -> set[str]:
    """Keys of a convolution without a bias and its batch norm."""
    statistics = {"running_mean", "running_var", "num_batches_tracked"}
    return {f"{name}.0.weight"} | {f"{name}.1.{key}" for key in {"weight", "bias"} | statistics}


def icnn(name: str) -> set[str]:
    """Keys of an interlinked CNN: four rows, three interlinked layers."""
    blocks = {f"stems.{row}" for row in range(4)}
    blocks |= {
        f"interlinked.{i}.rows.{row}.{j}" for i in range(3) for row in range(4) for j in (0, 1)
    }
    blocks |= {f"integrate.{row}" for row in range(3)} | {"head.0"}
    plain = {f"{name}.head.{i}.{key}" for i in (1, 2) for key in ("weight", "bias")}
    return plain.union(*(conv_bn(f"{name}.{block}") for block in blocks))


def localizer() -> set[str]:
    """Keys of the localizer: eight convolutions, poolings between every two, and a linear head."""
    blocks = (conv_bn(f"localizer.features.{i}") for i in (0, 1, 3, 4, 6, 7, 9, 10))
    return {"localizer.head.weight", "localizer.head.bias"}.union(*blocks)


@pytest.mark.parametrize("stored", ["written now", "shipped"])
def test_keys_of_the_file_are_those_of_every_model_stored_so_far(stored: str, written: Path):
    """They are a file format: whoever renames a layer makes the stored models unreadable."""
    content = torch.load(SHIPPED if stored == "shipped" else written, weights_only=True)
    if stored == "shipped":  # it has a finder, which others may lack
        finder = {name for name in content["weights"] if name.startswith("finder.")}
        means = {"finder.mean_face", "finder.num_averaged"}
        assert finder == means | icnn("finder.network")
        content["weights"] = {k: w for k, w in content["weights"].items() if k not in finder}
        assert set(content.pop("calibration")) == {
            "presence",
            "face",
            *(part.name for part in PAPER9.parts),
        }
    assert set(content) == {"format", "version", "phase", "config", "data", "metrics", "weights"}
    assert (content["format"], content["version"]) == ("stn-icnn", 1)
    assert set(content["data"]) == {"dataset", "fingerprint", "scale_px", "scale_fit"}
    fine = (icnn(f"fine.{network}") for network in ("brow", "eye", "nose", "mouth"))
    assert set(content["weights"]) == (icnn("coarse") | localizer()).union(*fine)
    assert len(content["weights"]) == 1030
    assert content["weights"]["coarse.interlinked.0.rows.1.0.0.weight"].shape == (16, 48, 3, 3)


def test_the_file_holds_tensors_and_plain_types_only(written: Path, tiny_config: TrainConfig):
    content = torch.load(written, weights_only=True)
    assert content["config"] == to_stored(tiny_config)
    assert all(isinstance(value, torch.Tensor) for value in content["weights"].values())


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


NOT_MODELS = {
    "empty": b"",
    "text": b"hello, I am not a model\n",
    "picture": picture(),
    "zip": b"PK\x03\x04" + bytes(100),
    "random": np.random.default_rng(17).bytes(400),
}


@pytest.mark.parametrize("content", NOT_MODELS.values(), ids=NOT_MODELS.keys())
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.pt is not a model of STN-iCNN"):
        load_checkpoint(tmp_path / "x.pt")


def test_a_model_file_that_is_cut_off_is_refused(written: Path):
    written.write_bytes(written.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"model\.pt is not a model of STN-iCNN"):
        load_checkpoint(written)


@pytest.mark.parametrize("content", [{"weights": {}}, [1, 2], {"format": "other", "version": 1}])
def test_another_program_s_checkpoint_is_refused(tmp_path: Path, content: object):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"x\.pt is not a model of STN-iCNN: expected a file that"):
        load_checkpoint(tmp_path / "x.pt")


def test_a_pickle_of_code_is_not_run(tmp_path: Path):
    torch.save({"format": "stn-icnn", "version": 1, "weights": Path("x")}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match="is not a model of STN-iCNN"):
        load_checkpoint(tmp_path / "x.pt")


def test_another_version_is_refused(written: Path):
    content = torch.load(written, weights_only=True)
    torch.save(content | {"version": 99}, written)
    with pytest.raises(ValueError, match=r"has format version 99, this code reads 1: use the rel"):
        load_checkpoint(written)


def test_a_missing_model_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"no model at .*nowhere: expected a model file or a fol"):
        load_checkpoint(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"no model at .*model\.pt"):
        load_checkpoint(tmp_path)


class Greedy:
    """A tensor that is none: reading it takes any memory that it names."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return bytearray, (1 << 50,)


def test_a_file_that_takes_memory_by_a_call_is_refused(tmp_path: Path):
    """PyTorch counts it among what is safe."""
    torch.save({"format": "stn-icnn", "version": 1, "weights": Greedy()}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"x\.pt is not a model of STN-iCNN: not readable"):
        load_checkpoint(tmp_path / "x.pt")


def test_a_compressed_file_is_refused(tmp_path: Path):
    """PyTorch reads one, and a small one may become larger than any memory."""
    whole = io.BytesIO()
    torch.save({"format": "stn-icnn", "version": 1, "weights": torch.zeros(1 << 20)}, whole)
    with (
        zipfile.ZipFile(whole) as archive,
        zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED) as compressed,
    ):
        for name in archive.namelist():
            compressed.writestr(name, archive.read(name))
    assert (tmp_path / "x.pt").stat().st_size < 1 << 14
    with pytest.raises(ValueError, match=r"x\.pt is not a model of STN-iCNN: not readable"):
        load_checkpoint(tmp_path / "x.pt")


def test_settings_of_a_model_larger_than_its_file_are_refused(written: Path):
    content = torch.load(written, weights_only=True)
    content["config"]["model"]["kernel_size"] = 9_999
    torch.save(content, written)
    with pytest.raises(ValueError, match=r"model\.pt is too small to hold the model"):
        load_checkpoint(written)
