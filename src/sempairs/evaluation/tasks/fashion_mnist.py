"""Fashion-MNIST by its own splits. Xiao et al. 2017, arXiv:1708.07747. The user gives the files."""

from __future__ import annotations

from sempairs.evaluation.tasks.base import TASKS, Task
from sempairs.evaluation.tasks.labelled import labelled


@TASKS.register("fashion-mnist", summary="garment classes of Fashion-MNIST", example="fashion-mnist:PATH")
def fashion_mnist(rest: str) -> Task:
    """Fitted on the 60,000 training images, a share of them choosing λ; scored on the 10,000 test images."""
    return labelled(f"fashion-mnist:{rest}")
