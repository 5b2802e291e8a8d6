"""predictions.npz: what was predicted for each image of val, and that the errors are those of result.json."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchmetrics.functional.classification import multiclass_accuracy

from alexnet.cli.train import train
from alexnet.data import SOURCES
from alexnet.data.datamodule import ImageData
from alexnet.models import from_config
from alexnet.models.ranking import top_classes
from alexnet.runs import checkpoint
from alexnet.training.classifier import TopKError
from tiny import config, directory

Arrays = dict[str, NDArray[Any]]


def predicted(output_dir: Path, result: Any) -> Arrays:
    with np.load(directory(output_dir, result) / "predictions.npz") as arrays:
        return dict(arrays)


def errors(arrays: Arrays) -> dict[str, float]:
    """Share in percent of images whose label is not among the first 1 and 5 classes."""
    hits = arrays["top5"] == arrays["labels"][:, None]
    return {f"val/top{k}_error": 100 - 100 * hits[:, :k].any(1).mean() for k in (1, 5)}


def same_errors(arrays: Arrays, result: Any) -> bool:
    found = errors(arrays)
    return found == pytest.approx({name: result["metrics"][name] for name in found}, abs=1e-4)


@pytest.fixture(scope="module")
def finished(outputs: Path) -> Any:
    return train(config(outputs, "data.source.val_images=53"))


def test_the_errors_of_the_file_are_those_of_the_result(outputs: Path, finished: Any) -> None:
    arrays = predicted(outputs, finished)
    assert same_errors(arrays, finished)
    assert 0 < finished["metrics"]["val/top5_error"] < finished["metrics"]["val/top1_error"]


def test_images_are_named_by_their_position_in_val(outputs: Path, finished: Any) -> None:
    arrays = predicted(outputs, finished)
    val = SOURCES.build(config(outputs, "data.source.val_images=53").data.source).load().val
    assert arrays["index"].tolist() == list(range(53))
    assert arrays["labels"].tolist() == val.labels.tolist()
    assert {name: (each.dtype, each.shape) for name, each in arrays.items()} == {
        "index": (np.int32, (53,)),
        "labels": (np.uint16, (53,)),
        "top5": (np.uint16, (53, 5)),
    }


def test_the_classes_are_those_of_the_final_weights(outputs: Path, finished: Any) -> None:
    cfg = config(outputs, "data.source.val_images=53", "model.num_classes=10")
    images = SOURCES.build(cfg.data.source).load()
    data = ImageData(images, finished["data"]["fingerprint"], outputs / "cache", 80, 67, threads=1)
    data.prepare()
    crops = np.stack([data.reads["val"](place)[:, 6:73, 6:73] for place in range(53)])
    saved = checkpoint.load(directory(outputs, finished))
    network = from_config(cfg.model)
    network.load_state_dict(saved.weights)
    with torch.no_grad():
        logits = network.eval()(torch.from_numpy(crops).float() - saved.mean)
    assert torch.topk(logits, 5).indices.tolist() == predicted(outputs, finished)["top5"].tolist()


def test_training_again_replaces_the_file(outputs: Path, finished: Any) -> None:
    path = directory(outputs, finished) / "predictions.npz"
    path.write_bytes(b"of an older run")
    train(config(outputs, "data.source.val_images=53", "rerun=true"))
    assert same_errors(predicted(outputs, finished), finished)


def test_an_image_left_out_is_missing_in_the_index(tmp_path: Path, own_folder: Path) -> None:
    broken = own_folder / "val" / "bee" / "bee_0.jpg"
    broken.write_bytes(broken.read_bytes()[:100])
    folder = ("data=image_folder", f"data.root='{own_folder}'", "data.image_size=80", "model.crop_size=67")
    result = train(config(tmp_path, *folder, "data.skip_broken=true", "data.minival_fraction=0.2"))
    arrays = predicted(tmp_path, result)
    assert arrays["index"].tolist() == [0, 1, 2, 4, 5, 6, 7, 8]  # ant 0-2, bee 3-5, cat 6-8
    assert arrays["labels"].tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert arrays["top5"].shape == (8, 3)
    assert same_errors(arrays, result)


def test_only_measured_images_are_in_the_file(tmp_path: Path) -> None:
    result = train(config(tmp_path, "trainer.limit_test_batches=1"))
    arrays = predicted(tmp_path, result)
    assert arrays["index"].tolist() == list(range(16))
    assert same_errors(arrays, result)


def test_of_equal_logits_the_lower_class_leads_in_both() -> None:
    logits = torch.randint(0, 3, (500, 12), generator=torch.Generator().manual_seed(0)).float()
    labels = torch.arange(500) % 12
    top = top_classes(logits)
    by_hand = [sorted(range(12), key=lambda c, row=row: (-row[c], c))[:5] for row in logits.tolist()]  # type: ignore[misc]
    assert top.tolist() == by_hand
    for k in (1, 5):
        hits = (top[:, :k] == labels[:, None]).any(1).float().mean()
        assert float(TopKError(12, k)(logits, labels)) == pytest.approx(100 - 100 * float(hits))


def test_without_ties_nothing_changes_for_torchmetrics() -> None:
    logits = torch.randn(300, 20, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(300) % 20
    for k in (1, 5):
        theirs = multiclass_accuracy(logits, labels, 20, average="micro", top_k=k)
        assert float(TopKError(20, k)(logits, labels)) == pytest.approx(100 - 100 * float(theirs), abs=1e-4)
