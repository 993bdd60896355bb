"""The transfer suite: published sets on the user's disk, with their official splits and metrics.

Kornblith et al. 2019, arXiv:1805.08974; Ericsson et al. 2021, arXiv:2011.13377. λ is chosen on the official
validation split where there is one, else on a keyed fifth of the training images; the probe is then refitted
on both. PATH is the folder in which torchvision would look, its `root`, or one that holds it under the task's
short name: for `transfer-dtd:PATH`, PATH/dtd/dtd/ or PATH/dtd/ as that root.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from sempairs.catalog.sources.base import existing_path
from sempairs.catalog.table import Catalog
from sempairs.errors import UserError
from sempairs.evaluation.config import EvaluationConfig
from sempairs.evaluation.tasks import sampling
from sempairs.evaluation.tasks.base import TASKS, Classification, Fold, MultiLabel, Problem, Task
from sempairs.evaluation.tasks.coarse_to_fine import nested
from sempairs.evaluation.tasks.split import HOLDOUT, classify, numbers, unit_names
from sempairs.keyed import text_key

Build = Callable[[Catalog, EvaluationConfig], Problem]
CALTECH_IMAGES = 30
"""Training images a class of Caltech101 (Kornblith and Ericsson); the others are scored."""
ACCURACY, PER_CLASS = "accuracy", "mean_per_class_accuracy"


@dataclass(frozen=True)
class Dataset:
    """One set of the suite. name: short, as in `transfer-dtd`. source: the kind, to which a folder is added.

    own: the set's own folder, under the folder given. inside: whether the source takes that folder, rather
    than the one that holds it. put: what must lie in `own`. coarse: whether its classes lie in coarse ones.
    """

    name: str
    title: str
    source: str
    own: tuple[str, ...]
    put: str
    metric: str = ACCURACY
    protocol: str = "linear-1"
    inside: bool = False
    coarse: bool = False

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of its tasks."""
        return (f"transfer-{self.name}", *([f"transfer-{self.name}-coarse"] if self.coarse else []))

    def find(self, root: Path) -> str | None:
        """The source, if the set lies under `root`; whether it is whole is not looked at."""
        for place in (root / self.name, root):
            for own in self.own:
                if (place / own).is_dir():
                    return f"{self.source}:{place / own if self.inside else place}"
        return None


DATASETS = (
    Dataset(
        "aircraft", "FGVC Aircraft, variants", "torchvision:FGVCAircraft", ("fgvc-aircraft-2013b",),
        "data/images/, data/variants.txt, data/images_variant_{train,val,test}.txt", PER_CLASS,
    ),
    Dataset(
        "birdsnap", "Birdsnap", "dataset:birdsnap", ("birdsnap",), "images/SPECIES/, test_images.txt",
    ),
    Dataset(
        "caltech101", "Caltech101", "dataset:caltech101", ("caltech101",), "101_ObjectCategories/CLASS/",
        PER_CLASS,
    ),
    Dataset(
        "cars", "Stanford Cars", "torchvision:StanfordCars", ("stanford_cars",),
        "cars_train/, cars_test/, devkit/, cars_test_annos_withlabels.mat",
    ),
    Dataset(
        "cifar10", "CIFAR-10", "dataset:cifar10", ("cifar-10-batches-py",),
        "data_batch_1 to 5, test_batch, batches.meta",
    ),
    Dataset(
        "cifar100", "CIFAR-100", "dataset:cifar100", ("cifar-100-python",), "train, test, meta", coarse=True
    ),
    Dataset(
        "dtd", "Describable Textures, first partition", "torchvision:DTD", ("dtd/dtd",),
        "images/CLASS/, labels/{train,val,test}1.txt",
    ),
    Dataset(
        "flowers", "Oxford Flowers 102", "dataset:flowers102", ("flowers-102",),
        "jpg/, imagelabels.mat, setid.mat", PER_CLASS,
    ),
    Dataset(
        "food", "Food-101", "torchvision:Food101", ("food-101",), "images/CLASS/, meta/{train,test}.json",
    ),
    Dataset(
        "imagenet", "ImageNet-1k", "imagenet", ("imagenet", "ILSVRC"),
        "train/WNID/, val/WNID/ (or Kaggle's folders and LOC_val_solution.csv)", inside=True,
    ),
    Dataset(
        "pets", "Oxford-IIIT Pets", "torchvision:OxfordIIITPet", ("oxford-iiit-pet",),
        "images/, annotations/{trainval,test}.txt", PER_CLASS,
    ),
    Dataset(
        "sun397", "SUN397, first partition", "dataset:sun397", ("SUN397",),
        "LETTER/CLASS/, Training_01.txt, Testing_01.txt (of Partitions.zip)",
    ),
    Dataset(
        "voc07", "Pascal VOC 2007, several labels", "voc", ("VOCdevkit",),
        "VOC2007/{Annotations,ImageSets,JPEGImages}/, with the test set", "mean_average_precision_11",
        "voc07-svm-1", inside=True,
    ),
)  # fmt: skip


def _open(dataset: Dataset, rest: str) -> Task:
    name = f"transfer-{dataset.name}"
    root = existing_path(name, rest, folder=True)
    source = dataset.find(root)
    if source is None and dataset.inside:
        source = f"{dataset.source}:{root}"  # the folder may be the set's own; the source says what it lacks
    if source is None:
        where = " or ".join(f"{own}/" for own in dataset.own)
        raise UserError(f"task {name}", f"needs {where} with {dataset.put}", str(root))
    return task_on(dataset, source, f"{name}:{rest}")


def task_on(dataset: Dataset, source: str, name: str) -> Task:
    """The task on a set that was found at `source`."""
    split = {"birdsnap": "test_images.txt", "caltech101": f"{CALTECH_IMAGES} a class, keyed"}
    rule = {
        "task": f"transfer-{dataset.name}",
        "version": 1,
        "label": "labels" if dataset.name == "voc07" else "category",
        "split": split.get(dataset.name, "official"),
        "holdout": HOLDOUT,
    }
    builds: dict[str, Build] = {"voc07": _voc, "caltech101": _caltech}
    build = builds.get(dataset.name, _official)
    return Task(name, source, dataset.protocol, dataset.metric, rule, build)


def _open_coarse(dataset: Dataset, rest: str) -> Task:
    family = f"transfer-{dataset.name}-coarse"
    return nested(f"{family}:{rest}", family, _open(dataset, rest))


for _one in DATASETS:
    TASKS.register(f"transfer-{_one.name}", summary=_one.title, example=f"transfer-{_one.name}:PATH")(
        partial(_open, _one)
    )
    if _one.coarse:
        TASKS.register(
            f"transfer-{_one.name}-coarse",
            summary=f"{_one.title}: classes told apart within their superclass",
            example=f"transfer-{_one.name}-coarse:PATH",
        )(partial(_open_coarse, _one))


def _official(catalog: Catalog, config: EvaluationConfig) -> Classification:
    """As the splits say. Raises: UserError if there is nothing to fit on, or nothing to score."""
    split = catalog.column("split")
    for part in ("train", "test"):
        if not (split == part).any():
            raise UserError(f"the {part} split", "must hold images that can be read")
    return classify(
        catalog, config, fit=split == "train", validation=split == "validation", test=split == "test"
    )


def _caltech(catalog: Catalog, config: EvaluationConfig) -> Classification:
    """The first images of each class by their keys, as long as copies of one picture stay together."""
    category, units = catalog.column("category"), unit_names(catalog)
    key = text_key(config.seed, "splits", [f"caltech101/{name}" for name in units])
    fit = np.zeros(len(catalog), dtype=bool)
    for name in sorted(set(category)):
        rows = np.flatnonzero(category == name)
        rows = rows[np.lexsort((units[rows], key[rows]))]
        _, start = np.unique(units[rows], return_index=True)
        ends = np.append(np.sort(start)[1:], len(rows))  # of each unit's run
        fit[rows[: max(ends[ends <= CALTECH_IMAGES], default=0)]] = True
    # A copy of a picture to fit on, in another class, is not scored.
    test = ~fit & ~np.isin(units, units[fit])
    return classify(catalog, config, fit=fit, validation=np.zeros_like(fit), test=test)


def _voc(catalog: Catalog, config: EvaluationConfig) -> MultiLabel:
    """VOC2007 alone: train, val and test, and all classes that its images show."""
    of_2007 = np.char.startswith(catalog.column("image_id").astype(str), "VOC2007/")
    split = catalog.column("split")
    parts = [np.flatnonzero(of_2007 & (split == part)) for part in ("train", "validation", "test")]
    for name, rows in zip(("train", "val", "test"), parts, strict=True):
        if not len(rows):
            raise UserError(f"VOC2007's {name} set", "must hold images", remedy="unpack all parts of VOC2007")
    shown, ignored = (
        [set(text.split(",")) - {""} for text in catalog.column(name)]
        for name in ("labels", "labels_ignored")
    )
    classes = tuple(sorted(set().union(*(shown[row] | ignored[row] for rows in parts for row in rows))))
    labels = np.array(
        [
            [1 if name in one else -1 if name in none else 0 for name in classes]
            for one, none in zip(shown, ignored, strict=True)
        ],
        dtype=np.int64,
    )
    if config.max_fit_images is not None:
        learn = np.concatenate(parts[:2])
        strata = numbers(catalog.column("category"))[learn] * 2 + np.isin(learn, parts[1])
        ids = catalog.column("image_id")[learn].tolist()
        learn = learn[sampling.subset(strata, ids, config.max_fit_images, seed=config.seed)]
        parts = [*(np.intersect1d(part, learn) for part in parts[:2]), parts[2]]
    return MultiLabel(labels, classes, (Fold(*parts),), unit_names(catalog))
