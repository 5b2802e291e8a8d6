"""Pictures of a data set as the network is shown it: python src/preview.py data=NAME; prints their paths."""

from pathlib import Path

from omegaconf import DictConfig

from alexnet.data.settings import SETTINGS, check_settings


def preview(cfg: DictConfig) -> list[Path]:
    """Writes augmentation.png, mean.png, components.png and gives their paths."""
    check_settings(**{name: cfg.data[name] for name in SETTINGS})
    from alexnet.data import SOURCES, ImageData, find_images, preview
    from alexnet.data.augment import AUGMENTS

    cache_dir = Path(cfg.cache_dir).expanduser()
    source = SOURCES.build(cfg.data.source)
    images, digest = find_images(
        *(source, cfg.data.pack, cfg.data.image_size, cache_dir, cfg.data.subset),
        *(cfg.data.channels, cfg.data.border),
    )
    print(images)
    data = ImageData.of(cfg, images, digest, AUGMENTS.build(cfg.augment))
    sizes = f"{cfg.data.image_size}-{cfg.data.crop_size}"
    folder = Path(cfg.directory or f"{cfg.output_dir}/preview-{images.name}-{sizes}-{digest[:8]}")
    print("augmentation: the central crop, then what the first epochs see of the same image")
    return preview.write(data, folder.expanduser(), cfg.images, cfg.views)


def main(cfg: DictConfig) -> None:
    """Entry; --help lists the groups."""
    print("\n".join(str(path) for path in preview(cfg)))
