"""Images in larger files, WebDataset's tar files and Hugging Face's parquet, are what they are in folders."""

import gc
import io
import json
import random
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet as tables

import alexnet
from alexnet.cli.train import train
from alexnet.data import huggingface
from alexnet.data.decode import decode
from alexnet.data.fingerprint import fingerprint
from alexnet.data.huggingface import HuggingFace
from alexnet.data.manifest import find_images
from alexnet.data.pack import make_pack, prepare
from alexnet.data.sources import Folders, ImageSet, Split
from alexnet.data.webdataset import WebDataset
from alexnet.errors import UserError
from tiny import config, directory

datasets = pytest.importorskip("datasets")
webdataset = pytest.importorskip("webdataset")

SIZE = 24
Files = dict[str, list[tuple[str, str, bytes]]]  # split -> class, name, content

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning:datasets", "ignore::DeprecationWarning")


@pytest.fixture
def files(image_set: ImageSet) -> Files:
    """Those of a folder, in an order in which classes are mixed."""
    return {
        name: [
            (image_set.classes[split.labels[index]], Path(split.files[index]).name, read(split, int(index)))
            for index in np.random.default_rng(0).permutation(len(split))
        ]
        for name, split in image_set.splits.items()
    }


def read(split: Split, index: int) -> bytes:
    with split.path(index).open("rb") as file:
        return file.read()


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def write_shards(
    root: Path, files: Files, classes: list[str] | None = None, names: dict[str, str] | None = None
) -> Path:
    """As its own library writes them. classes: whose numbers stand in .cls; None: their names do."""
    root.mkdir(parents=True)
    for split, images in files.items():
        pattern = f"{root}/set-{(names or {}).get(split, split)}-%03d.tar"
        with webdataset.ShardWriter(pattern, maxcount=4, verbose=0) as writer:
            for number, (label, name, content) in enumerate(images):
                of_class = classes.index(label) if classes else label
                sample = {f"{Path(name).suffix[1:].upper()}": content, "cls": str(of_class).encode()}
                writer.write({"__key__": f"{number:04d}/{Path(name).stem}", **sample})
    return root


def dataset(images: list[tuple[str, str, bytes]], classes: list[str] | None) -> Any:
    kind = datasets.ClassLabel(names=classes) if classes else datasets.Value("string")
    features = datasets.Features({"image": datasets.Image(), "size": datasets.Value("int64"), "label": kind})
    columns = {
        "image": [{"bytes": content, "path": name} for _, name, content in images],
        "size": [len(content) for _, _, content in images],
        "label": [label for label, _, _ in images],
    }
    return datasets.Dataset.from_dict(columns, features=features)


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's copies go with the test."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "copies")
    datasets.disable_progress_bars()


def parquet(root: Path, files: Files, classes: list[str] | None) -> Path:
    root.mkdir(parents=True)
    for split, images in files.items():
        name = {"train": "train", "val": "validation"}[split]
        dataset(images, classes).to_parquet(root / f"{name}-00000-of-00001.parquet")
    return root


def saved(root: Path, files: Files, classes: list[str] | None) -> Path:
    splits = {"train": files["train"], "test": files["val"]}
    datasets.DatasetDict({key: dataset(of, classes) for key, of in splits.items()}).save_to_disk(root)
    return root


def written(kind: str, root: Path, files: Files, classes: list[str] | None) -> Folders:
    if kind == "webdataset":
        return WebDataset(write_shards(root, files, classes))
    return HuggingFace({"parquet": parquet, "saved": saved}[kind](root, files, classes))


KINDS = ("webdataset", "parquet", "saved")


@pytest.mark.parametrize("numbered", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_images_and_classes_are_those_that_were_written(
    kind: str, numbered: bool, files: Files, image_set: ImageSet, tmp_path: Path
) -> None:
    source = written(kind, tmp_path / "x", files, image_set.classes if numbered else None)
    assert source.present()
    images = source.load()
    of_numbers = kind == "webdataset" and numbered
    assert images.classes == (["0", "1", "2"] if of_numbers else image_set.classes)
    for name, split in images.splits.items():
        assert [read(split, index) for index in range(len(split))] == [
            content for _, _, content in files[name]
        ]
        assert [image_set.classes[label] for label in split.labels] == [label for label, _, _ in files[name]]
        assert len(set(split.files)) == len(split)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_tar_files_are_read_as_their_own_library_does(files: Files, tmp_path: Path) -> None:
    root = write_shards(tmp_path / "x", files)
    urls = sorted(map(str, root.glob("*train*.tar")))
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    train = WebDataset(root).load().train
    assert len(samples) == len(train) == 30
    for index, sample in enumerate(samples):
        assert sample.get("jpg", sample.get("png")) == read(train, index)
        assert sample["__key__"] in train.files[index]
    del samples
    gc.collect()  # it leaves its files open


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_and_packs_are_those_of_the_folder(
    kind: str, files: Files, image_set: ImageSet, tmp_path: Path
) -> None:
    images = written(kind, tmp_path / "x", files, image_set.classes).load()
    digest = fingerprint(images, tmp_path / "cache")
    reads = [prepare(images, SIZE, tmp_path / f"{pack}", pack, digest).reads for pack in (True, False)]
    for name, split in image_set.splits.items():
        order = np.random.default_rng(0).permutation(len(split)) if name == "train" else None
        for place in range(len(split)):
            pixels = [each[name](place) for each in reads]
            assert np.array_equal(*pixels)
            if order is not None:
                assert np.array_equal(pixels[0], decode(split.path(int(order[place])), SIZE))


def test_a_pack_serves_without_what_it_was_made_of(files: Files, image_set: ImageSet, tmp_path: Path) -> None:
    root = write_shards(tmp_path / "x", files, image_set.classes)
    images = WebDataset(root).load()
    digest = fingerprint(images, tmp_path / "cache")
    make_pack(images, SIZE, tmp_path / "pack", digest)
    assert find_images(WebDataset(root), str(tmp_path / "pack"), SIZE, tmp_path / "cache")[1] == digest
    packed, same = find_images(WebDataset(None), str(tmp_path / "pack"), SIZE, tmp_path / "cache")
    assert same == digest
    assert packed.classes == images.classes
    assert np.array_equal(packed.val.labels, images.val.labels)


@pytest.mark.parametrize("kind", KINDS)
def test_the_fingerprint_follows_images_and_classes(
    kind: str, files: Files, image_set: ImageSet, tmp_path: Path
) -> None:
    def digest(name: str, content: Files) -> str:
        source = written(kind, tmp_path / name, content, image_set.classes)
        return fingerprint(source.load(), tmp_path / "cache")

    first = digest("a", files)
    assert digest("b", files) == first
    (label, name, content), *others = files["val"]
    other = next(each for each in image_set.classes if each != label)
    assert digest("c", {**files, "val": [(other, name, content), *others]}) != first
    assert digest("d", {**files, "val": [(label, name, content + b"x"), *others]}) != first


def test_a_run_is_trained_and_evaluated(files: Files, image_set: ImageSet, tmp_path: Path) -> None:
    root = write_shards(tmp_path / "x", files, image_set.classes)
    of_run = ["data=webdataset", f"data.root={root}", "data.image_size=52", "data.crop_size=52"]
    result = train(config(tmp_path / "out", *of_run, "data.epochs=1"))
    assert result["status"] == "completed"
    assert result["data"]["val"] == 9
    net = alexnet.load(directory(tmp_path / "out", result))
    assert net.errors("val").top1_error == pytest.approx(result["metrics"]["val/top1_error"])


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_that_cannot_be_used_is_named(
    kind: str, files: Files, image_set: ImageSet, tmp_path: Path
) -> None:
    (label, name, _), *others = files["train"]
    images = written(
        kind, tmp_path / "x", {**files, "train": [(label, name, b"no image"), *others]}, image_set.classes
    ).load()
    broken = prepare(images, SIZE, tmp_path / "cache", True, "digest").broken
    assert broken == {"train": {0: "no image"}, "val": {}}
    assert str(images.train.path(0)).startswith(str(images.train.root))


def cut(root: Path) -> None:
    path = root / "set-train-001.tar"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def cut_between_files(root: Path) -> None:
    path = root / "set-train-001.tar"
    with tarfile.open(path) as tar:
        end = tar.getmembers()[2].offset
    path.write_bytes(path.read_bytes()[:end])


def overwritten(root: Path) -> None:
    path = root / "set-train-001.tar"
    with tarfile.open(path) as tar:
        start = tar.getmembers()[2].offset
    content = path.read_bytes()
    path.write_bytes(content[:start] + b"x" * 512 + content[start + 512 :])


def without_val(root: Path) -> None:
    for path in root.glob("*val*"):
        path.unlink()


def compressed_val(root: Path) -> None:
    for path in root.glob("*val*.tar"):
        path.rename(path.with_suffix(".tar.gz"))


def without_class(root: Path) -> None:
    with tarfile.open(root / "set-train-900.tar", "w") as tar:
        add(tar, "a.jpg", b"x")
        add(tar, "a.json", b'{"caption": "a cat"}')


def two_images(root: Path) -> None:
    with tarfile.open(root / "set-train-900.tar", "w") as tar:
        for name in ("a.jpg", "a.png", "a.cls"):
            add(tar, name, b"0")


def strange_class(root: Path) -> None:
    with tarfile.open(root / "set-val-900.tar", "w") as tar:
        add(tar, "a.jpg", b"x")
        add(tar, "a.cls", b"7")


def twice(root: Path) -> None:
    with tarfile.open(root / "set-train-900.tar", "w") as tar:
        for name in ("a.jpg", "a.JPG", "a.cls"):
            add(tar, name, b"0")


def sparse(root: Path) -> None:
    with (root / "big.bmp").open("wb") as file:
        file.write(b"x")
        file.seek(1_000_000)
        file.write(b"x")
    subprocess.run(["tar", "-S", "-C", root, "-cf", root / "set-train-900.tar", "big.bmp"], check=True)


def two_splits(root: Path) -> None:
    (root / "set-train-000.tar").rename(root / "train-val-000.tar")


def labelled(label: object) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        with tarfile.open(root / "set-train-900.tar", "w") as tar:
            add(tar, "a.jpg", b"x")
            kind = (
                ("cls", label)
                if isinstance(label, bytes)
                else ("json", json.dumps({"label": label}).encode())
            )
            add(tar, f"a.{kind[0]}", kind[1])

    return write


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, r"set-train-001.tar is not a whole tar file \(.*\): restore or remove it"),
        (cut_between_files, r"set-train-001.tar is not a whole tar file \(it has no end\)"),
        (overwritten, r"set-train-001.tar is not a whole tar file \(it has no end\)"),
        (without_val, r"has no val\*.tar: data=webdataset reads files such as train-0000.tar"),
        (
            compressed_val,
            r"set-val-000.tar.gz is compressed, so single images in it can't be read: unpack it to a .tar.",
        ),
        (without_class, r"set-train-900.tar has no class for a: there should be a a.cls"),
        (two_images, r"set-train-900.tar has 2 images called a \(jpg, png, cls\)"),
        (twice, r"set-train-900.tar: a.JPG occurs twice: write this file again"),
        (sparse, r"set-train-900.tar: big.bmp is sparse: write this file again"),
        (two_splits, r"train-val-000.tar may belong to train or val: name it after one split"),
        *(
            (labelled(label), "has no class for a: there")
            for label in (None, [0], 0.5, True, "", b"-1", b"\xff")
        ),
        (strange_class, r"has images of class 7 in its second split, and none in train"),
    ],
)
def test_what_is_wrong_with_tar_files_is_said(
    damage: Callable[[Path], None], words: str, files: Files, image_set: ImageSet, tmp_path: Path
) -> None:
    root = write_shards(tmp_path / "x", files, image_set.classes)
    damage(root)
    with pytest.raises(UserError, match=words):
        WebDataset(root).load()


def test_splits_are_those_of_file_names_and_then_of_folders(
    files: Files, image_set: ImageSet, tmp_path: Path
) -> None:
    flat = write_shards(tmp_path / "flat", files, image_set.classes)
    expected = {name: split.labels.tolist() for name, split in WebDataset(flat).load().splits.items()}
    for place in ("train-val-split/x", "test", "a/b", "train"):  # file names say it, whatever the folders do
        folder = tmp_path / place.replace("/", "_") / place
        shutil.copytree(flat, folder)
        found = WebDataset(tmp_path / place.replace("/", "_")).load()
        assert {name: split.labels.tolist() for name, split in found.splits.items()} == expected, place
    root = tmp_path / "folders"
    for split in ("train", "valid"):
        (root / "elsewhere" / split).mkdir(parents=True)
        for path in flat.glob(f"set-{split[:3]}*.tar"):
            path.rename(root / "elsewhere" / split / f"{path.stem[-3:]}.TAR")
    (root / "elsewhere").rename(tmp_path / "beside")
    (root / "linked").symlink_to(tmp_path / "beside")
    (root / "linked" / "train" / "._001.tar").write_bytes(b"of macOS")
    (root / "more.tar").write_bytes(b"")
    images = WebDataset(root).load()
    assert {name: split.labels.tolist() for name, split in images.splits.items()} == expected
    assert images.unused == ["more.tar"]


def test_what_belongs_to_no_image_is_told(files: Files, image_set: ImageSet, tmp_path: Path) -> None:
    root = write_shards(tmp_path / "x", files, image_set.classes)
    with tarfile.open(root / "set-train-900.tar", "w") as tar:
        for name in ("__index__.json", "._a.jpg", "README.md"):
            add(tar, name, b"x")
    images = WebDataset(root).load()
    assert len(images.train) == 30
    assert images.unused == ["set-train-900.tar/README.md"]


def test_classes_of_tar_files_have_names_and_may_stand_in_json(
    files: Files, image_set: ImageSet, tmp_path: Path
) -> None:
    root = write_shards(tmp_path / "x", files, image_set.classes)
    (root / "classes.txt").write_text("ant\nbee\ncat\n")
    with tarfile.open(root / "set-train-900.tar", "w") as tar:
        add(tar, "a.jpg", b"x")
        add(tar, "a.json", json.dumps({"label": 2}).encode())
    images = WebDataset(root).load()
    assert images.titles == ["ant (0)", "bee (1)", "cat (2)"]
    assert images.train.labels[-1] == 2
    assert len(images.train) == 31


@pytest.mark.parametrize("name", ["validation", "valid", "test"])
def test_the_second_split_has_any_of_its_usual_names(
    name: str, files: Files, image_set: ImageSet, tmp_path: Path
) -> None:
    root = write_shards(tmp_path / "x", files, image_set.classes, {"val": name})
    assert len(WebDataset(root).load().val) == 9


def test_columns_are_chosen_where_several_could_be_meant(files: Files, tmp_path: Path) -> None:
    root = tmp_path / "x"
    root.mkdir()
    for split, images in (("train", files["train"]), ("validation", files["val"])):
        table = dataset(images, None).rename_column("label", "fine_label")
        table = table.add_column("coarse_label", [label[0] for label, _, _ in images])
        table.to_parquet(root / f"{split}.parquet")
    with pytest.raises(
        UserError, match=r"2 columns of labels: add data.source.label=NAME, one of fine_label, coarse"
    ):
        HuggingFace(root).load()
    assert HuggingFace(root, label="coarse_label").load().classes == ["a", "b", "c"]
    assert HuggingFace(root, label="fine_label").load().classes == ["ant", "bee", "cat"]
    with pytest.raises(
        UserError, match=r"data.source.label=x is not a column of labels .*: choose one of size, fine_label"
    ):
        HuggingFace(root, label="x").load()
    with pytest.raises(UserError, match=r"data.source.label=image is not a column of labels"):
        HuggingFace(root, label="image").load()


def test_two_columns_of_images_are_two_data_sets(files: Files, tmp_path: Path) -> None:
    splits = {}
    for name, images in (("train", files["train"]), ("validation", files["val"])):
        table, other = dataset(images, None), dataset(images[::-1], None)
        splits[name] = table.add_column(
            "other", other.data["image"].combine_chunks(), feature=datasets.Image()
        )
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "x")
    digests = [
        fingerprint(HuggingFace(tmp_path / "x", image=column).load(), tmp_path / "cache")
        for column in ("image", "other")
    ]
    assert digests[0] != digests[1]


def test_classes_go_by_their_names_where_splits_order_them_otherwise(
    files: Files, image_set: ImageSet, tmp_path: Path
) -> None:
    splits = {"train": dataset(files["train"], image_set.classes)}
    splits["validation"] = dataset(files["val"], image_set.classes[::-1])
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "x")
    images = HuggingFace(tmp_path / "x").load()
    assert [images.classes[label] for label in images.val.labels] == [label for label, _, _ in files["val"]]
    splits["validation"] = dataset(files["val"], [*image_set.classes[:2], "dog", "cat"])
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "y")
    assert HuggingFace(tmp_path / "y").load().classes == image_set.classes
    splits["train"] = splits["train"].filter(lambda row: row["label"] != 2)
    splits["train"] = splits["train"].cast_column("label", datasets.ClassLabel(names=["ant", "bee"]))
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "z")
    with pytest.raises(UserError, match="has images of cat, a class that train lacks"):
        HuggingFace(tmp_path / "z").load()


def test_images_without_a_class_are_refused(files: Files, image_set: ImageSet, tmp_path: Path) -> None:
    splits = {name: dataset(of, image_set.classes) for name, of in files.items()}
    unlabelled = splits["val"].map(lambda row: {"label": -1})
    datasets.DatasetDict(train=splits["train"], test=unlabelled).save_to_disk(tmp_path / "x")
    with pytest.raises(UserError, match=r"images without a class \(label -1\): leave them out"):
        HuggingFace(tmp_path / "x").load()


@pytest.mark.parametrize("kind", ["torch", "numpy", "pandas"])
def test_a_format_that_was_saved_changes_nothing(
    kind: str, files: Files, image_set: ImageSet, tmp_path: Path
) -> None:
    splits = {
        name: dataset(of, image_set.classes)
        for name, of in (("train", files["train"]), ("test", files["val"]))
    }
    for split in splits.values():
        split.set_format(kind, columns=["image"])
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "x")
    images = HuggingFace(tmp_path / "x").load()
    assert images.classes == image_set.classes
    assert read(images.train, 3) == files["train"][3][2]


def with_images_apart(root: Path, images_in: Path, files: Files, classes: list[str]) -> Path:
    """A data set that says where its images are."""
    splits = {}
    images_in.mkdir(parents=True, exist_ok=True)
    for name, images in (("train", files["train"]), ("test", files["val"])):
        paths = []
        for number, (_, file, content) in enumerate(images):
            paths.append(images_in / f"{name}_{number}{Path(file).suffix}")
            paths[-1].write_bytes(content)
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=classes)})
        columns = {"image": [{"bytes": None, "path": str(path)} for path in paths]}
        columns["label"] = [label for label, _, _ in images]
        splits[name] = datasets.Dataset.from_dict(columns, features=features)
    root.mkdir(exist_ok=True)
    for name, split in splits.items():
        tables.write_table(split.data.table.combine_chunks(), root / f"{name}.parquet")
    return root


def test_images_that_lie_beside_the_data_set_are_read_and_watched(
    files: Files, image_set: ImageSet, tmp_path: Path
) -> None:
    root = with_images_apart(tmp_path / "x", tmp_path / "x" / ".images", files, image_set.classes)
    images = HuggingFace(root).load()
    assert [read(images.train, index) for index in range(30)] == [content for _, _, content in files["train"]]
    digest = fingerprint(images, tmp_path / "cache")
    next(root.glob(".images/train_4.*")).write_bytes(b"x")
    assert fingerprint(HuggingFace(root).load(), tmp_path / "cache") != digest


@pytest.mark.parametrize("absolute", [True, False])
def test_rows_that_lie_elsewhere_are_not_read(
    absolute: bool, files: Files, image_set: ImageSet, tmp_path: Path
) -> None:
    root, elsewhere = (saved(tmp_path / name, files, image_set.classes) for name in ("x", "elsewhere"))
    state = json.loads((root / "test" / "state.json").read_text())
    (arrow,) = (elsewhere / "test").glob("*.arrow")
    state["_data_files"] = [{"filename": str(arrow) if absolute else f"../../elsewhere/test/{arrow.name}"}]
    (root / "test" / "state.json").write_text(json.dumps(state))
    with pytest.raises(UserError, match=rf"data\.root={root} names .*, which does not lie in it"):
        HuggingFace(root).load()
    root, elsewhere = (parquet(tmp_path / name, files, image_set.classes) for name in ("y", "other"))
    there = str(elsewhere) if absolute else "../other"
    lists = [f"{{split: {name}, path: {there}/{name}*.parquet}}" for name in ("train", "validation")]
    card = f"configs: [{{config_name: default, data_files: [{', '.join(lists)}]}}]"
    (root / "README.md").write_text(f"---\n{card}\n---\n")
    with pytest.raises(UserError, match=rf"data\.root={root} "):
        HuggingFace(root).load()


@pytest.mark.parametrize("place", ["elsewhere", "x/../elsewhere", "x/link"])
def test_images_that_lie_elsewhere_are_not_read(
    place: str, files: Files, image_set: ImageSet, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "link").symlink_to(tmp_path / "elsewhere")
    root = with_images_apart(tmp_path / "x", tmp_path / place, files, image_set.classes)
    with pytest.raises(UserError, match=rf"that do not lie in {root}, as {tmp_path}/.*: put them there"):
        HuggingFace(root).load()


@pytest.mark.parametrize("bits", [15, pytest.param(300, marks=pytest.mark.slow)])
def test_a_bit_that_is_turned_round_is_named_or_harmless(
    bits: int, files: Files, image_set: ImageSet, tmp_path: Path
) -> None:
    root = saved(tmp_path / "x", files, image_set.classes)
    (path,) = (root / "train").glob("*.arrow")
    whole, rng = path.read_bytes(), random.Random(bits)
    outcomes = set()
    for number in range(bits):
        content = bytearray(whole)
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path = path.rename(path.with_name(f"{number}.arrow"))  # its pages may still be in use
        path.unlink()
        path.write_bytes(content)
        state = json.loads((root / "train" / "state.json").read_text())
        state["_data_files"] = [{"filename": path.name}]
        (root / "train" / "state.json").write_text(json.dumps(state))
        try:
            train_split = HuggingFace(root).load().train
            for index in range(len(train_split)):
                read(train_split, index)
            outcomes.add("read")
        except UserError as error:
            outcomes.add("named" if str(root) in str(error) else str(error))
    assert {"read"} <= outcomes <= {"read", "named"}


def test_parquet_that_is_written_anew_is_read_anew(files: Files, image_set: ImageSet, tmp_path: Path) -> None:
    source = HuggingFace(parquet(tmp_path / "x", files, None))
    before = fingerprint(source.load(), tmp_path / "cache")
    label, name, content = files["train"][0]
    changed = [(label, name, content + b"x"), *files["train"][1:]]
    dataset(changed, None).to_parquet(tmp_path / "x" / "train-00000-of-00001.parquet")
    images = source.load()
    assert read(images.train, 0) == content + b"x"
    assert fingerprint(images, tmp_path / "cache") != before


def test_parquet_that_does_not_know_of_images_is_read(
    files: Files, image_set: ImageSet, tmp_path: Path
) -> None:
    import pyarrow

    root = tmp_path / "x"
    root.mkdir()
    for split, images in (("train", files["train"]), ("validation", files["val"])):
        cells = [{"bytes": content, "path": name} for _, name, content in images]
        labels = [image_set.classes.index(label) for label, _, _ in images]
        tables.write_table(pyarrow.table({"image": cells, "label": labels}), root / f"{split}.parquet")
    images = HuggingFace(root).load()
    assert images.classes == ["0", "1", "2"]
    assert read(images.val, 0) == files["val"][0][2]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "holds nothing that datasets can read"),
        (
            ["train.parquet"],
            "has the splits train: data=huggingface needs the splits train, and one of val, validation",
        ),
    ],
)
def test_a_folder_without_both_splits_is_refused(
    names: list[str], words: str, files: Files, tmp_path: Path
) -> None:
    for name in names:
        dataset(files["train"], None).to_parquet(tmp_path / "x" / name)
    (tmp_path / "x").mkdir(exist_ok=True)
    with pytest.raises(UserError, match=words):
        HuggingFace(tmp_path / "x").load()


def test_without_the_library_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install -e '.\[huggingface\]'"):
        huggingface.HuggingFace(tmp_path).load()


@pytest.mark.parametrize("source", [WebDataset, HuggingFace])
def test_a_missing_root_is_named(source: type[Folders], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not a folder: give one that holds"):
        source(tmp_path / "x").load()
    assert not source(tmp_path / "x").present()
    assert not source(None).present()
