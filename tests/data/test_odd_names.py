"""Files and classes may be called anything that the file system takes."""

import json
import os
import sys
from pathlib import Path

import pytest

from alexnet.cli.app import compose
from alexnet.cli.evaluate import evaluate
from alexnet.cli.predict import predict
from alexnet.cli.preview import preview
from alexnet.cli.train import train
from tiny import config, directory

ODD = [
    "a b",
    "it's",
    '"quoted"',
    "new\nline",
    "tab\t",
    "$HOME",
    "`x`",
    "<b>bold",
    "ä é",
    "日本",
    "-rf",
    "a,b",
    "a=b",
    "%s",
    "\\",
]
LATIN_1 = b"caf\xe9"  # no UTF-8


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems refuse such names")
def test_names_of_files_and_classes_reach_all_that_is_made_of_them(own_folder: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        names = [*ODD, os.fsdecode(LATIN_1)]
        for folder in sorted((own_folder / split).iterdir()):
            for path, name in zip(sorted(folder.iterdir()), names, strict=False):
                path.rename(path.with_name(f"{name}{path.suffix}"))
            folder.rename(
                folder.with_name({"ant": "<b>ant", "bee": "new\nline"}.get(folder.name, folder.name))
            )
    folder = ("data=image_folder", f"data.root='{own_folder}'", "data.image_size=80", "data.crop_size=67")
    result = train(config(tmp_path / "runs", *folder, "data.epochs=1"))
    assert result["status"] == "completed"
    assert "<b>ant" in result["data"]["classes"]
    run = directory(tmp_path / "runs", result)
    said = evaluate(compose("evaluate", [f"checkpoint='{run}'", "accelerator=cpu"]))
    assert "error, %" in said
    images = next(path for path in (own_folder / "val").iterdir())
    told = json.loads(
        predict(
            compose(
                "predict", [f"checkpoint='{run}'", f"images='{images}'", "format=json", "accelerator=cpu"]
            )
        )
    )
    assert len(told["images"]) == 3
    assert all(
        path.exists()
        for path in preview(compose("preview", [*folder, f"output_dir='{tmp_path}'", "images=2", "views=1"]))
    )
