"""Metrics: pure functions on arrays, numpy in, numbers out. Scores are fractions in [0, 1]."""

from sempairs.metrics._arrays import unit
from sempairs.metrics.classification import accuracy, mean_per_class_accuracy
from sempairs.metrics.detection import (
    Detections,
    Objects,
    box_iou,
    voc_average_precision,
    voc_average_precisions,
    voc_map,
)
from sempairs.metrics.geometry import alignment, feature_std, rankme, uniformity
from sempairs.metrics.neighbours import (
    KNN_SETTINGS,
    KnnSetting,
    knn_accuracy,
    knn_predict,
    nearest_neighbours,
)
from sempairs.metrics.paired import McNemar, mcnemar, unit_bootstrap
from sempairs.metrics.retrieval import RetrievalScores, average_precision, retrieval_scores
from sempairs.metrics.structure import class_distance_normalised_variance, lidar, linear_cka

__all__ = [
    "KNN_SETTINGS",
    "Detections",
    "KnnSetting",
    "McNemar",
    "Objects",
    "RetrievalScores",
    "accuracy",
    "alignment",
    "average_precision",
    "box_iou",
    "class_distance_normalised_variance",
    "feature_std",
    "knn_accuracy",
    "knn_predict",
    "lidar",
    "linear_cka",
    "mcnemar",
    "mean_per_class_accuracy",
    "nearest_neighbours",
    "rankme",
    "retrieval_scores",
    "uniformity",
    "unit",
    "unit_bootstrap",
    "voc_average_precision",
    "voc_average_precisions",
    "voc_map",
]
