"""Images that can't be used are refused all at once, or left out where that is asked for."""

from pathlib import Path

import pytest

from alexnet.data.datamodule import ImageData
from alexnet.data.sources import Folders, ImageSet
from alexnet.errors import UserError


@pytest.fixture
def broken(own_folder: Path) -> ImageSet:
    for number in range(6):  # of the 10 bees: some are in train, some in minival
        next((own_folder / "train" / "bee").glob(f"bee_{number}.*")).write_bytes(b"broken")
    (own_folder / "val" / "ant" / "ant_0.jpg").write_bytes(b"broken")
    return Folders(own_folder).load()


def _data(images: ImageSet, cache_dir: Path, skip_broken: bool = True) -> ImageData:
    return ImageData(images, "f" * 32, cache_dir, 24, 16, 8, 0.25, threads=2, skip_broken=skip_broken)


def _members(module: ImageData) -> list[list[int]]:
    """The images of train, minival and val."""
    module.setup("fit")
    loaders = module.train_dataloader(), module.val_dataloader(), module.test_dataloader()
    return [loader.members.tolist() for loader in loaders]


def test_broken_images_are_refused_all_at_once(broken: ImageSet, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"7 of the images .*data\.skip_broken=true") as caught:
        _data(broken, tmp_path / "cache", skip_broken=False).setup("fit")
    places = [broken.train.path(index) for index in range(8, 14)] + [broken.val.path(0)]
    assert all(str(place) in str(caught.value) for place in places)


def test_broken_images_are_left_out_and_the_others_stay_where_they_were(
    broken: ImageSet, image_set: ImageSet, tmp_path: Path
) -> None:
    parts = _members(_data(broken, tmp_path / "cache")), _members(_data(image_set, tmp_path / "other"))
    lost = [set(whole) - set(left) for left, whole in zip(*parts, strict=True)]
    assert lost[0] | lost[1] == set(range(8, 14))
    assert lost[0], "some in train"
    assert lost[1], "and some in minival, else this says little"
    assert lost[2] == {0}
    assert all(set(left) <= set(whole) for left, whole in zip(*parts, strict=True))


@pytest.mark.parametrize("pack", ["auto", "none"])
def test_no_batch_holds_a_broken_image(pack: str, broken: ImageSet, tmp_path: Path) -> None:
    module = _data(broken, tmp_path / "cache")
    module.pack = pack
    counts = [len(part) for part in _members(module)]
    loaders = module.train_dataloader(), module.val_dataloader(), module.test_dataloader()
    for loader, count in zip(loaders, counts, strict=True):
        crops = [crop for batch in loader for crop in batch.crops]
        assert len(crops) == count
        assert all(crop.any() for crop in crops), "a black one stands for a broken image in the pack"


def test_a_result_names_what_was_skipped_and_counts_what_was_used(broken: ImageSet, tmp_path: Path) -> None:
    module = _data(broken, tmp_path / "cache")
    assert module.describe()["skipped"] == []
    counts = [len(part) for part in _members(module)]
    facts = module.describe()
    assert len(facts["skipped"]) == 7
    assert facts["skipped"][-1] == f"{broken.val.path(0)}: no image"
    assert [facts[key] for key in ("train", "minival", "val")] == counts


def test_skipping_changes_nothing_where_nothing_is_broken(image_set: ImageSet, tmp_path: Path) -> None:
    kept, refused = (_data(image_set, tmp_path, skip_broken) for skip_broken in (True, False))
    assert _members(kept) == _members(refused)
    assert not (refused.cache_dir / "broken.txt").exists()


def test_an_image_that_changes_while_it_is_read_again_and_again_is_named(
    own_folder: Path, tmp_path: Path
) -> None:
    module = _data(Folders(own_folder).load(), tmp_path / "cache")
    module.pack = "none"
    module.setup("fit")
    loader = module.train_dataloader()
    assert len(list(loader)) == len(list(loader)) > 0
    changed = module.images.train.path(int(loader.members[0]))
    assert isinstance(changed, Path)
    other = module.images.train.path(int(loader.members[1]))
    assert isinstance(other, Path)
    changed.write_bytes(other.read_bytes())
    with pytest.raises(UserError, match=rf"{changed} was changed while the run was reading it"):
        list(loader)
