"""Metrics: pure functions on arrays, numpy in, numbers out. Scores are fractions in [0, 1]."""

from sempairs.metrics.classification import accuracy, mean_per_class_accuracy
from sempairs.metrics.geometry import alignment, feature_std, rankme, uniformity
from sempairs.metrics.neighbours import (
    KNN_SETTINGS,
    KnnSetting,
    knn_accuracy,
    knn_predict,
    nearest_neighbours,
)
from sempairs.metrics.retrieval import RetrievalScores, average_precision, retrieval_scores

__all__ = [
    "KNN_SETTINGS",
    "KnnSetting",
    "RetrievalScores",
    "accuracy",
    "alignment",
    "average_precision",
    "feature_std",
    "knn_accuracy",
    "knn_predict",
    "mean_per_class_accuracy",
    "nearest_neighbours",
    "rankme",
    "retrieval_scores",
    "uniformity",
]
