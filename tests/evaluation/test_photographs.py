"""Which files are meant by images=, and what folder names say of them."""

from pathlib import Path

import pytest

from alexnet.errors import UserError
from alexnet.evaluation.predictions import UNKNOWN, find, right_labels


def test_names_that_exist_win_over_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a [12] b"
    (folder / ".hidden").mkdir(parents=True)
    for name in ("1.png", "[1].png", "2.jpg", "notes.txt", ".hidden.png", ".hidden/3.png"):
        (folder / name).touch()
    assert find(f"{folder}/[1].png") == [folder / "[1].png"]
    assert find(f"{folder}/[12].*") == [folder / "1.png", folder / "2.jpg"]
    assert (
        find(str(folder)) == find(str(tmp_path)) == [folder / each for each in ("1.png", "2.jpg", "[1].png")]
    )
    assert find(f"{tmp_path}/**/*.txt") == [folder / "notes.txt"], "who asks for it gets it"
    monkeypatch.setenv("HOME", str(folder))
    assert find("~/2.jpg") == [folder / "2.jpg"]
    monkeypatch.chdir(folder)
    assert find("*.jpg") == [Path("2.jpg")]


@pytest.mark.parametrize("images", ["nothing.jpg", "*.jpg", "no/such/[folder", ".", None])
def test_no_image_is_an_error(images: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes.txt").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"images=.*: give a file, a folder, or a pattern"):
        find(images)


def test_the_right_class_is_that_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bee").mkdir()
    monkeypatch.chdir(tmp_path / "bee")
    paths = [Path("a.jpg"), Path("/x/cat/a.jpg"), Path("/cat/x/a.jpg"), Path("/x/ant.jpg")]
    assert right_labels(paths, ["ant", "bee", "cat"]) == [1, 2, UNKNOWN, UNKNOWN]
