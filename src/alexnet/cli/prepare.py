"""Decodes all images of a data set once: python src/prepare.py data=NAME [data.pack=PATH] [form=jpeg]."""

import time
from pathlib import Path

from omegaconf import DictConfig

from alexnet.data import SOURCES
from alexnet.data.fingerprint import fingerprint
from alexnet.data.manifest import FORMS, NONE, Manifest, load, pack_path
from alexnet.data.settings import check_shape
from alexnet.errors import UserError, check_choice, check_whole


def prepare(cfg: DictConfig) -> Path:
    """Makes the pack that cfg describes, if it is not there, and gives its folder."""
    check_choice("form", cfg.form, FORMS)
    check_whole("data.image_size", cfg.data.image_size, 1)
    check_whole("data.threads", cfg.data.threads, 0)
    check_shape(cfg.data.image_size, cfg.data.channels, cfg.data.border)
    if cfg.data.pack == NONE:
        raise UserError("data.pack=none makes no pack: give data.pack=PATH, or leave it out.")
    images = load(SOURCES.build(cfg.data.source), cfg.data.subset)
    print(images)
    cache_dir = Path(cfg.cache_dir).expanduser()
    digest = fingerprint(images, cache_dir)
    from alexnet.data.pack import folder_of, make_pack, refuse_broken, tell_broken  # torch with it

    shape = {"channels": cfg.data.channels or 3, "border": cfg.data.border or 0}
    folder = pack_path(cfg.data.pack) or folder_of(cache_dir, digest, cfg.data.image_size, cfg.form, **shape)
    pack = make_pack(images, cfg.data.image_size, folder, digest, cfg.form, cfg.data.threads, **shape)
    if not cfg.data.skip_broken:
        refuse_broken(images, pack.broken, cache_dir / "broken.txt")
    for line in tell_broken(images, pack.broken):
        print(f"left out: {line}")
    return folder


def main(cfg: DictConfig) -> None:
    """Entry; --help lists the groups."""
    started = time.perf_counter()
    folder = prepare(cfg)
    size = sum(Manifest.load(folder).sizes.values()) / 1e9
    print(f"{size:.3g} GB, {time.perf_counter() - started:.0f} s; to train on it, add data.pack={folder}")
