"""From boxes to numbers: COCO's average precision by faster-coco-eval, VOC's by `metrics.detection`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sempairs.detection.config import DetectionConfig
from sempairs.detection.data import scoring_samples, true_objects
from sempairs.detection.model import Detector
from sempairs.detection.records import DetectionSet
from sempairs.errors import UserError
from sempairs.files import atomic_write
from sempairs.metrics import Detections, Objects, voc_average_precisions, voc_map
from sempairs.progress import track

#: Overlaps from .5 to .95 that AP is a mean over.
THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
PRIMARY = "AP"


@dataclass(frozen=True)
class Scores:
    """metrics: name -> fraction. `AP`, `AP50`, `AP75` are COCO's; `voc07-mAP` is VOC 2007's 11-point mean at
    overlap .5; `voc07-AP` and `voc07-AP75` are that mean over .5 to .95 and at .75, which is what MoCo and
    others report for VOC07 test. per_class: AP by VOC's rules at .5, None for classes without objects."""

    metrics: dict[str, float]
    per_class: dict[str, float | None]


def need_coco_eval() -> Any:
    """The module faster_coco_eval. Raises: UserError naming the extra if it is absent."""
    try:
        import faster_coco_eval
    except ImportError:
        remedy = "pip install 'sempairs[detect]'"
        raise UserError("detection", "needs faster-coco-eval", remedy=remedy) from None
    return faster_coco_eval


def detect_all(
    detector: Detector,
    one: DetectionSet,
    classes: Sequence[str],
    config: DetectionConfig,
    device: torch.device,
) -> Detections:
    """The detector's boxes on every picture of a set, in pixels of the files; one picture at a time, so that
    none depends on its neighbours."""
    image: list[np.ndarray] = []
    parts: dict[str, list[np.ndarray]] = {"label": [], "box": [], "score": []}
    was_training = detector.training
    detector.eval()
    samples = track(
        scoring_samples(one, classes, config), total=len(one.pictures), what=f"score {one.name}", unit="image"
    )
    bf16 = torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.precision == "bf16")
    with torch.inference_mode(), bf16:
        for i, sample in enumerate(samples):
            found = detector([sample.pixels.to(device).float() / 255])[0]
            boxes = found["boxes"].double().cpu().numpy()
            image.append(np.full(len(boxes), i, dtype=np.int64))
            parts["box"].append(boxes / np.array([*sample.scale, *sample.scale]))
            parts["label"].append(found["labels"].cpu().numpy() - 1)
            parts["score"].append(found["scores"].double().cpu().numpy())
    detector.train(was_training)
    whole = {name: np.concatenate(values) for name, values in parts.items()}
    return Detections(np.concatenate(image), whole["label"], whole["box"].reshape(-1, 4), whole["score"])


def score(one: DetectionSet, found: Detections, classes: Sequence[str]) -> Scores:
    """All numbers of a set. Raises: UserError if no object of it counts."""
    truth = true_objects(one, classes)
    if not (~truth.difficult).any():
        raise UserError(f"image set {one.name}", "must hold objects that are not difficult, and has none")
    metrics = coco_scores(one, truth, found, len(classes))
    by_threshold = voc_average_precisions(truth, found, classes=len(classes), thresholds=THRESHOLDS)
    means = [voc_map(values) for values in by_threshold]
    metrics["voc07-mAP"] = means[0]
    metrics["voc07-AP"] = float(np.mean(means))
    metrics["voc07-AP75"] = means[THRESHOLDS.index(0.75)]
    per_class = {
        name: None if np.isnan(value) else float(value)
        for name, value in zip(classes, by_threshold[0], strict=True)
    }
    return Scores(metrics, per_class)


def coco_scores(one: DetectionSet, truth: Objects, found: Detections, classes: int) -> dict[str, float]:
    """AP (mean over .5:.95), AP50, AP75 as COCO computes them: 101 points, at most 100 boxes an image.

    Difficult objects are handed over as crowds: never missed, and boxes mostly inside them are not wrong.
    """
    module = need_coco_eval()
    images = [{"id": i + 1, "width": p.width, "height": p.height} for i, p in enumerate(one.pictures)]
    categories = [{"id": k + 1, "name": str(k)} for k in range(classes)]
    size = truth.box[:, 2:] - truth.box[:, :2]
    annotations = [
        {
            "id": i + 1,
            "image_id": int(truth.image[i]) + 1,
            "category_id": int(truth.label[i]) + 1,
            "bbox": [*truth.box[i, :2].tolist(), *size[i].tolist()],
            "area": float(size[i].prod()),
            "iscrowd": int(truth.difficult[i]),
        }
        for i in range(len(truth.label))
    ]
    if not len(found.label):
        return {"AP": 0.0, "AP50": 0.0, "AP75": 0.0}
    rows = np.column_stack(
        [found.image + 1, found.box[:, :2], found.box[:, 2:] - found.box[:, :2], found.score, found.label + 1]
    )
    reference = module.COCO({"images": images, "annotations": annotations, "categories": categories})
    evaluator = module.COCOeval_faster(
        reference, reference.loadRes(rows), "bbox", print_function=lambda *_: None
    )
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    # -1 where no class has an object; `score` refuses that before.
    return {name: max(0.0, float(evaluator.stats[i])) for i, name in enumerate(("AP", "AP50", "AP75"))}


def write_detections(path: Path, one: DetectionSet, found: Detections, classes: Sequence[str]) -> None:
    """One row a box, by image and falling score: image_id, label, score, and xmin, ymin, xmax, ymax in pixels
    from 0, half-open."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    order = np.lexsort((-found.score, found.image))
    columns: dict[str, Any] = {
        "image_id": [one.pictures[i].id for i in found.image[order]],
        "label": [classes[k] for k in found.label[order]],
        "score": found.score[order],
    }
    columns |= {side: found.box[order, i] for i, side in enumerate(("xmin", "ymin", "xmax", "ymax"))}
    columns["image_id"] = pa.array(columns["image_id"], pa.string())
    columns["label"] = pa.array(columns["label"], pa.string())
    with atomic_write(path) as temporary:
        pq.write_table(pa.table(columns), temporary, compression="zstd")
