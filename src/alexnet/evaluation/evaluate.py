"""One or several networks on a split: their errors, those of their average, and what they confuse."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from alexnet.data.datamodule import ImageData, part_of
from alexnet.errors import UserError
from alexnet.evaluation import confusion, selection
from alexnet.evaluation.averaging import BySize, Spread, averaged, save_mean
from alexnet.evaluation.confusion import Worst
from alexnet.evaluation.crops import crop_places
from alexnet.evaluation.errors import Errors, errors
from alexnet.evaluation.predictions import write_parquet
from alexnet.evaluation.scores import Scores, stem
from alexnet.evaluation.trained import Trained
from alexnet.files import save_figure, write_atomically
from alexnet.runs import tracking
from alexnet.runs.checkpoint import Checkpoint
from alexnet.runs.results import LAST
from alexnet.tables import NONE, aligned, no_top5, spread

MEAN = "averaged_softmax"
AMONG_SET = "among_set_"  # how keys of files begin where only outputs of the images' classes count
WORST_COLUMNS = ("class", "images", "top-1 error, %", "most often mistaken for", "times")


@dataclass(frozen=True)
class Network:
    """One of those that were evaluated: the file of its softmax, and its errors alone.

    among_set: its errors as Evaluation's.
    """

    checkpoint: Checkpoint
    scores: Path
    errors: Errors
    among_set: Errors | None

    @property
    def name(self) -> str:
        return selection.name_of(self.checkpoint)


@dataclass(frozen=True)
class Evaluation:
    """errors: of the softmax averaged over all networks, as are confusion, worst classes and predictions.

    by_size: for each number of networks. files: what was written, by what it is. own: whether the networks
    were trained on these images. among_set, by_size_among_set: where the images have only some of the
    networks' classes, the errors if only the outputs of these count; else None and nothing.
    """

    data: ImageData
    split: str
    crops: int
    errors: Errors
    networks: list[Network]
    by_size: list[BySize]
    worst: list[Worst]
    files: dict[str, Path]
    own: bool
    among_set: Errors | None
    by_size_among_set: list[BySize]

    @property
    def kinds(self) -> int:
        """How many kinds of networks there are, which differ in more than their seeds."""
        return len(selection.kinds(network.checkpoint for network in self.networks))

    @property
    def head(self) -> str:
        """What was evaluated, in a line."""
        crops = "1 crop" if self.crops == 1 else f"{self.crops} crops"
        many = len(self.networks)
        of_kinds = f" of {self.kinds} kinds" if self.kinds > 1 else ""
        which = self.networks[0].name if many == 1 else f"averaged softmax of {many} networks{of_kinds}"
        return f"{which}: {self.data.images.title}, {self.split}, {self.errors.images:,} images, {crops}"

    @property
    def notes(self) -> list[str]:
        """On the images, and on crops that a network never saw the like of."""
        mirrored = any(crop.flip for crop in crop_places(self.crops, 0))
        augments = (network.checkpoint.config.get("augment") or {} for network in self.networks)
        unlike = mirrored and any(augment.get("flips") is False for augment in augments)
        said = "half of the crops are mirrored, but no training image was; crops=9 mirrors none"
        notes = [*filter(None, [self.data.images.note]), *[said] * unlike]
        if few := self.among_set:
            notes.append(
                f"the images show {few.outputs} of the network's {self.errors.outputs:,} classes. Errors"
                f" are given twice: with any of the {self.errors.outputs:,} outputs as the answer, and with"
                f" only the {few.outputs} outputs of these classes"
            )
        return notes

    def as_json(self) -> str:
        """All but what is in the other files."""
        images, networks = self.data.images, []
        for network in self.networks:
            facts = {
                "checkpoint": str(network.checkpoint.path),
                "seed": network.checkpoint.config.get("seed"),
            }
            facts |= {**asdict(network.errors), "softmax": str(network.scores)}
            among_set = network.among_set and asdict(network.among_set)
            networks.append(facts | ({"among_set": among_set} if among_set else {}))
        whole: dict[str, Any] = {"split": self.split, "crops": self.crops, **asdict(self.errors)}
        whole |= {"data": images.name, "title": images.title, "subset": images.subset or None}
        whole |= {"note": "; ".join(self.notes), "drawn": images.drawn}
        whole |= {"fingerprint": self.data.fingerprint, "nets": networks, "kinds": self.kinds}
        whole |= {"by_size": [asdict(size) | {"sampled": size.drawn} for size in self.by_size]}
        whole |= {"worst_classes": [asdict(worst) for worst in self.worst]}
        if self.among_set:
            sizes = [asdict(size) | {"sampled": size.drawn} for size in self.by_size_among_set]
            whole |= {"among_set": {**asdict(self.among_set), "by_size": sizes}}
        return json.dumps(whole | {"files": {name: str(path) for name, path in self.files.items()}}, indent=1)

    def text(self) -> str:
        """For people: errors with their intervals, by number of networks, the worst classes, the files."""
        many = len(self.networks) > 1
        rows = [("error, % [95 % interval]", "top-1", "top-5")]

        def add(name: str, errors: Errors, among_set: Errors | None) -> None:
            whose = f", all {errors.outputs:,} outputs" if among_set else ""
            rows.append((f"{name}{whose}", *errors.cells()))
            if among_set:
                rows.append((f"{name}, only these {among_set.outputs}", *among_set.cells()))

        for network in self.networks:
            seed = network.checkpoint.config.get("seed")
            name = network.name if seed is None else f"{network.name}, seed {seed}"
            add(name, network.errors, network.among_set)
        if many:
            of_kinds = f", of {self.kinds} kinds" if self.kinds > 1 else ""
            add(f"averaged over all {len(self.networks)}{of_kinds}", self.errors, self.among_set)
        of_all = f", all {self.errors.outputs:,} outputs" if self.among_set else ""
        worst = [(f"worst classes{of_all}", "images", "top-1 error, %", "most often mistaken for")]
        for row in self.worst:
            rival = f"{row.taken_for} ({row.taken:,})" if row.taken else "nothing else"
            worst.append((row.title, f"{row.images:,}", f"{row.top1_error:.1f}", rival))
        # the softmax of several networks is not listed: it lies beside each of them
        files = self.files if many else self.files | {"softmax": self.networks[0].scores}
        parts = [*(f"note: {note}" for note in self.notes), self.head, aligned(rows)]
        parts += [no_top5((self.among_set or self.errors).outputs)]
        if many and self.among_set:
            parts += [f"all {self.errors.outputs:,} outputs\n{_by_size(self.by_size, self.errors.outputs)}"]
            few = self.among_set.outputs
            parts += [f"only these {few}\n{_by_size(self.by_size_among_set, few)}"]
        elif many:
            parts += [_by_size(self.by_size, self.errors.outputs)]
        parts += [aligned(worst)]
        return "\n\n".join([*filter(None, parts), f"files\n{aligned(files.items())}"])

    def log_to_wandb(self) -> None:
        """Adds to each network that is the last of a run with logger=wandb its errors and those of the
        average; does nothing for others."""
        crops = f"{self.crops}_crop{'s' * (self.crops > 1)}"
        split = self.split if self.own else f"{self.data.images.name}/{self.split}"
        end = f"_averaged_over_{len(self.networks)}" if len(self.networks) > 1 else ""
        end += f"_of_{self.kinds}_kinds" if self.kinds > 1 else ""
        pictures = {f"{split}/confusion_matrix_{crops}{end}": self.files["confusion_png"]}
        rows = [list(asdict(worst).values()) for worst in self.worst]
        tables = {f"{split}/worst_classes_{crops}{end}": tracking.Table(WORST_COLUMNS, rows)}
        for network in self.networks:
            metrics = {
                f"{split}/{name}_{crops}{suffix}": getattr(errors, name)
                for errors, suffix in ((network.errors, ""), (self.errors, end))
                for name in ("top1_error", "top5_error")
            }
            if network.checkpoint.path.name == LAST:
                tracking.add(network.checkpoint.path.absolute().parent, metrics, pictures, tables)


def evaluate(
    checkpoints: Sequence[Checkpoint],
    split: str = "val",
    crops: int = 1,
    worst: int = 10,
    files_stem: Path | None = None,
    **settings: Any,
) -> Evaluation:
    """Computes what is not kept yet, one network in memory at a time, and writes the files.

    worst: how many classes are listed. files_stem: how the paths of the files begin; None: as those of the
    first network's own evaluation. settings: accelerator, root, pack, cache_dir, data_source, subset and
    classes, as Trained takes them.
    Raises UserError for networks that have no common average, and for one that gives no finite numbers.
    """
    networks: list[Trained] = []
    for checkpoint in checkpoints:
        networks.append(Trained(checkpoint, like=networks[0] if networks else None, **settings))
    selection.check_split(checkpoints, [network.images for network in networks], split)
    scores: list[Scores] = []
    for number, network in enumerate(networks, 1):
        scores.append(network.scores(split, crops, bar=f"net {number}/{len(networks)}"))
        network.unload()
    checkpoints = [network.checkpoint for network in networks]  # with the names of classes that were given
    selection.check_classes(checkpoints, scores)
    first, data, many = networks[0], networks[0].images, len(networks) > 1
    places, labels = first.outputs, data.labels(split)  # of the images' classes; of the images
    some = len(places) < len(checkpoints[0].classes)
    # of all outputs of the network, of which there may be more than it learned classes
    titles = [*checkpoints[0].titles]
    titles += [f"output {place}" for place in range(len(titles), scores[0].shape[1])]
    for place, title in zip(places, data.images.titles, strict=True):
        titles[place] = title
    if files_stem is None:
        files_stem = first.kept(stem(split, crops))
    else:
        files_stem = files_stem.with_name(f"{first.of_images}{files_stem.name}")
    files = {"json": files_stem.with_name(f"{files_stem.name}.json")}
    if many:
        files[MEAN] = files_stem.with_name(f"{files_stem.name}-softmax.npy")
    shown = save_mean(scores, files[MEAN]) if many else scores[0]
    single = []
    for network, softmax in zip(networks, scores, strict=True):
        try:
            alone = errors(softmax, places[labels])
        except UserError as error:
            raise UserError(f"{network.checkpoint.path}: {error}") from error
        among_set = errors(softmax[:, places], labels) if some else None
        single.append(Network(network.checkpoint, network.score_path(split, crops), alone, among_set))
    counts = confusion.confusion(shown, places[labels])
    evaluation = Evaluation(
        *(data, split, crops, errors(shown, places[labels]), single, averaged(scores, places[labels])),
        *(confusion.worst(counts, titles, worst), files),
        own=not first.of_images,
        among_set=errors(shown[:, places], labels) if some else None,
        by_size_among_set=averaged([softmax[:, places] for softmax in scores], labels) if some else [],
    )
    parts = [("", "", shown, places[labels], titles)]
    if some:
        parts.append((AMONG_SET, f"-among_{len(places)}", shown[:, places], labels, data.images.titles))
    for key, end, softmax, right, names in parts:
        ends = {"confusion_npy": "-confusion.npy", "confusion_csv": "-confusion.csv"}
        ends |= {"confusion_png": "-confusion.png", "predictions": "-predictions.parquet"}
        its = {name: files_stem.with_name(f"{files_stem.name}{end}{last}") for name, last in ends.items()}
        files |= {f"{key}{name}": path for name, path in its.items()}
        image_files = data.images.splits[part_of(split)].files
        write_parquet(its["predictions"], softmax, right, data.members(split), image_files, names)
        counts = confusion.confusion(softmax, right)
        confusion.save(counts, names, its["confusion_npy"], its["confusion_csv"])
        among = f", only these {len(places)} outputs" if key else ""
        head = f"{evaluation.head}{among}\n{data.images.note}"
        save_figure(confusion.draw(counts, names, head), its["confusion_png"])
    write_atomically(files["json"], (evaluation.as_json() + "\n").encode())
    return evaluation


def _by_size(by_size: Sequence[BySize], outputs: int) -> str:
    def cells(error: Spread) -> tuple[str, str]:
        if error.std is None:
            return f"{error.mean:.2f}", ""
        return spread(error.mean, error.std), f"{error.low:.2f} - {error.high:.2f}"

    rows = [("networks", "subsets", "top-1 error, %: mean ± std", "from - to", "top-5 error, %", "from - to")]
    for size in by_size:
        subsets = f"{size.subsets:,} of {size.possible:,}, drawn" if size.drawn else f"{size.subsets:,}"
        five = (NONE, "") if no_top5(outputs) else cells(size.top5_error)
        rows.append((str(size.size), subsets, *cells(size.top1_error), *five))
    return aligned(rows)
