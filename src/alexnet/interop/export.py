"""A checkpoint in forms that other programs read: ONNX with its preprocessing inside, and safetensors.

Back from safetensors, bit for bit:

    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
        weights = {name: file.get_tensor(name) for name in file.keys()}
    mean, std = weights.pop("mean"), weights.pop("std", 1)
    network.load_state_dict(weights)  # of the model that config["model"] says
    logits = network.eval()((crops.float() - mean) / std)  # crops (N, channels, C, C) of 0-255
"""

import json
import logging
import warnings
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alexnet.errors import UserError
from alexnet.files import replacing, write_atomically
from alexnet.models.layers import PublishedDropout
from alexnet.runs.checkpoint import Checkpoint

PROJECT = "alexnet-claims"
NEEDS = {"onnx": ("onnx", "onnxruntime", "onnxscript"), "safetensors": ("safetensors",)}
OPSETS = range(18, 22)  # from torch's lowest to the highest of the oldest ONNX Runtime that is allowed
CHECKED = (1, 3)  # batches, of random pixels
LIMIT = 1e-3  # difference of logits, as a share of the largest
MEAN, STD = "mean", "std"  # the tensors' names in safetensors; std (channels, 1, 1), where there is one


class Agreement(NamedTuple):
    """The largest difference between ONNX Runtime's logits and the network's, and the largest logit."""

    difference: float
    largest: float

    def __str__(self) -> str:
        return (
            f"ONNX Runtime's logits differ from the network's by at most {self.difference:.1e},"
            f" where the largest is {self.largest:.3g} ({sum(CHECKED)} random images)"
        )


class Served(nn.Module):
    """pixels (N, channels, C, C) uint8 -> logits and probabilities (N, classes).

    mean (channels, C, C) is subtracted inside, and by std (channels,) is divided, if there is one.
    """

    mean: Tensor
    std: Tensor | None

    def __init__(self, network: nn.Module, mean: Tensor, std: Tensor | None = None) -> None:
        super().__init__()
        self.network = network.float().eval()
        self.register_buffer("mean", mean.float())
        self.register_buffer("std", None if std is None else std.float()[:, None, None])

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        centred = pixels.float() - self.mean
        logits = self.network(centred if self.std is None else centred / self.std)
        return logits, logits.softmax(dim=1)


def require(form: str) -> None:
    """Raises UserError unless the libraries of a form (a key of NEEDS) are installed."""
    for name in NEEDS[form]:
        try:
            import_module(name)
        except ImportError as error:
            raise UserError(f"form={form} needs {name}: pip install -e '.[export]'") from error


def check_opset(opset: object) -> None:
    """Raises UserError for another opset than OPSETS."""
    if not isinstance(opset, int) or opset not in OPSETS:
        raise UserError(
            f"opset={opset} is not possible: choose a whole number from {OPSETS[0]} to {OPSETS[-1]}."
        )


def to_onnx(checkpoint: Checkpoint, network: nn.Module, path: Path, opset: int = OPSETS[0]) -> Agreement:
    """Writes one file of the network in float32, for batches of any size, if ONNX Runtime agrees with it.

    Raises UserError if it does not, for other opsets, and for libraries that are missing.
    """
    require("onnx")
    check_opset(opset)
    import onnx

    served = Served(network.cpu(), checkpoint.mean, checkpoint.std)
    model = _graph(served, checkpoint.crop_size, opset)
    divided = "" if checkpoint.std is None else ", and the standard deviation divided by"
    inside = f"the mean is subtracted inside{divided}"
    onnx.helper.set_model_props(model, preprocessing(checkpoint, network, inside))
    with replacing(path) as temporary:
        onnx.save(model, temporary)
        onnx.checker.check_model(temporary, full_check=True)
        agreement = compare(temporary, served, checkpoint.crop_size)
        if not agreement.difference <= LIMIT * agreement.largest:  # nor for nan
            raise UserError(
                f"{path} is not written: {agreement}. Try another opset ({OPSETS[0]} to {OPSETS[-1]}) or"
                " version of onnxruntime; if training diverged, another checkpoint."
            )
    return agreement


def _graph(served: Served, crop_size: int, opset: int) -> Any:
    """onnx.ModelProto, without the traces of where it was made."""
    example = torch.zeros(2, len(served.mean), crop_size, crop_size, dtype=torch.uint8)
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # what the libraries say of their own insides
    try:
        with warnings.catch_warnings(action="ignore"):
            program = torch.onnx.export(
                served,
                (example,),
                input_names=["pixels"],
                output_names=["logits", "probabilities"],
                dynamic_shapes={"pixels": {0: torch.export.Dim("N", min=1)}},
                opset_version=opset,
                dynamo=True,
                verbose=False,
            )
    finally:
        logging.disable(level)
    assert program is not None
    model = program.model_proto
    model.producer_name, model.producer_version = PROJECT, _version()
    graph = model.graph
    values = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for part in (graph, *graph.node, *values):
        del part.metadata_props[:]
    return model


def compare(path: Path, served: Served, crop_size: int) -> Agreement:
    """On random pixels; the network computes with what it trains with, compiled norms included."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    draw = np.random.default_rng(0)
    differences, largest = [], 0.0
    for count in CHECKED:
        pixels = draw.integers(0, 256, (count, len(served.mean), crop_size, crop_size), dtype=np.uint8)
        theirs: NDArray[np.float32] = session.run(["logits"], {"pixels": pixels})[0]
        with torch.inference_mode():
            ours = served(torch.from_numpy(pixels))[0].numpy()
        differences.append(float(np.abs(theirs - ours).max()))
        largest = max(largest, float(np.abs(ours).max()))
    return Agreement(float(np.max(differences)), largest)


def to_safetensors(checkpoint: Checkpoint, network: nn.Module, path: Path) -> None:
    """Writes weights, mean and std as they are in the checkpoint; config, classes and the rest as metadata.

    Raises UserError where the library is missing.
    """
    require("safetensors")
    from safetensors.torch import save

    tensors = {name: value.contiguous() for name, value in checkpoint.weights.items()}
    tensors[MEAN] = checkpoint.mean.contiguous()
    mean = f"subtract the tensor {MEAN!r}"
    if checkpoint.std is not None:
        tensors[STD] = checkpoint.std[:, None, None].contiguous()
        mean += f" and divide by the tensor {STD!r}"
    words = preprocessing(checkpoint, network, mean)
    facts = {"config": json.dumps(checkpoint.config), "fingerprint": checkpoint.fingerprint}
    write_atomically(path, save(tensors, metadata={"format": "pt", **words, **facts}))


def preprocessing(checkpoint: Checkpoint, network: nn.Module, mean: str) -> dict[str, str]:
    """What users of the exported network have to know; mean: who subtracts it, in words."""
    image_size, crop_size, border = checkpoint.image_size, checkpoint.crop_size, checkpoint.border
    colours = "RGB" if checkpoint.channels == 3 else "grey"
    edge = f", with {border} black pixels added on each side" if border else ""
    dropouts = [item for item in network.named_modules() if isinstance(item[1], PublishedDropout)]
    scaled = ", ".join(f"{name} {1 - dropout.rate:g}" for name, dropout in dropouts)
    return {
        "project": f"{PROJECT} {_version()}".strip(),
        "checkpoint": checkpoint.digest,
        "image_size": str(image_size),
        "crop_size": str(crop_size),
        "channels": colours,
        "range": "0-255",
        "mean": mean,
        "preprocessing": (
            f"{colours}, upright; shorter side resized to {image_size - 2 * border} pixels (bilinear,"
            f" antialiased){edge}; central {image_size}x{image_size}, of that the central"
            f" {crop_size}x{crop_size}, from pixel {(image_size - crop_size) // 2} on; 0-255; {mean}"
        ),
        "dropout": f"units are scaled at test, by the network itself: {scaled}"
        if scaled
        else "nothing to scale at test",
        "classes": json.dumps(checkpoint.classes),
        "titles": json.dumps(checkpoint.titles),
    }


def _version() -> str:
    try:
        return version(PROJECT)
    except PackageNotFoundError:  # run from its folder, without installing
        return ""
