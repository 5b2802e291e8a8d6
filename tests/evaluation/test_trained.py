"""From a checkpoint to a network that predicts: what Trained gives, once, and what networks share."""

from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet.evaluation.errors import errors
from alexnet.evaluation.trained import Trained
from trained import Trained as Tiny


def test_errors_are_those_of_its_scores_on_its_images(fresh: Tiny) -> None:
    network = Trained(fresh.checkpoint, "cpu")
    scores = network.scores("val", 10)
    assert scores.shape == (20, 10)
    found = network.errors("val", crops=10)
    assert found == errors(scores, network.images.labels("val"))
    low, high = found.top1_interval
    assert f"top-1 {found.top1_error:.2f} [{low:.2f}, {high:.2f}], top-5 " in str(found)
    with torch.inference_mode():
        expected = fresh.forward(fresh.crops("val")).softmax(dim=1).numpy()
    np.testing.assert_allclose(network.scores(), expected, rtol=1e-4, atol=1e-6)


def test_images_are_found_once_for_networks_that_share_them(
    fresh: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Trained(fresh.checkpoint, "cpu")
    images = first.images
    monkeypatch.setattr("alexnet.evaluation.trained.find_images", None)  # which would fail
    assert Trained(fresh.checkpoint, "cpu", like=first).images is images


def test_what_is_unloaded_is_made_again(fresh: Tiny) -> None:
    network = Trained(fresh.checkpoint, "cpu")
    before, crops = network.predictor, fresh.crops("val")
    logits = before(crops)
    network.unload()
    assert network.predictor is not before
    assert torch.equal(network.predictor(crops), logits)
    assert not torch.allclose(network.untrained(crops), logits)


def test_images_of_a_folder_are_predicted(trained: Tiny, image_folder: Path) -> None:
    network = Trained(str(trained.checkpoint.path), "cpu")
    predictions = network.predict(image_folder / "val", top=3)
    rows = list(predictions)
    assert (len(predictions), len(rows), len(rows[0]["top"])) == (9, 9, 3)
    assert "ant_0.jpg" in str(predictions)
    assert not network.checkpoint.path.parent.joinpath("evaluation", "predictions.csv").exists()
