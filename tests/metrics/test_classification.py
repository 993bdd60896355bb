from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from sempairs.metrics import accuracy, mean_per_class_accuracy


def test_accuracy_and_mean_per_class_accuracy_done_by_hand():
    true, predicted = ["a", "a", "a", "b"], ["a", "a", "c", "b"]
    assert accuracy(predicted, true) == 3 / 4
    assert mean_per_class_accuracy(predicted, true) == pytest.approx((2 / 3 + 1) / 2)


def test_mean_per_class_accuracy_equals_scikit_learns_balanced_accuracy():
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, 5, 200), rng.integers(0, 5, 200)
    expected = balanced_accuracy_score(true, predicted)
    assert mean_per_class_accuracy(predicted, true) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("labels", [([], []), ([1], [1, 2]), ([[1]], [[1]])])
def test_unusable_labels_are_refused(labels):
    for metric in (accuracy, mean_per_class_accuracy):
        with pytest.raises(ValueError, match="labels must be"):
            metric(*labels)
