"""Import torchvision even where its build does not match torch's.

PyPI's torchvision holds CUDA operators. Beside a CPU build of torch (or another version) its
import stops with "operator torchvision::nms does not exist", although models and transforms
need none of them. Declaring the missing operators lets the import pass; calling one still fails.
"""

from typing import Any

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_OPERATORS = ("nms", "qnms")


def torchvision_models() -> Any:
    """Return `torchvision.models`, declaring the operators that are missing if the import fails."""
    try:
        import torchvision.models as found
    except RuntimeError:
        for name in _OPERATORS:
            if not hasattr(torch.ops.torchvision, name):
                torch.library.define(f"torchvision::{name}", _SCHEMA)
        import torchvision.models as found
    return found
