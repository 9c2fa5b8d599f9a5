"""Grad-CAM in closed form, for networks that end in global average pooling and one linear layer."""

from torch import Tensor

from models.architectures import Answer


def evidence(answer: Answer, head_weight: Tensor, slope: float) -> Tensor:
    """The evidence in each cell of the last feature maps, in calibrated log-odds of PNEUMONIA.

    Gives (N, h, w) from `answer.maps` (N, C, h, w) and `head_weight` (2, C). With z the margin
    (PNEUMONIA logit − NORMAL logit) the mean over the cells plus slope × (bias difference) is
    slope × z: nothing is lost and nothing is rescaled per film. Up to the factor slope × h × w and
    the final ReLU it is Grad-CAM of z (Selvaraju et al. 2017; Zhou et al. 2016 for this case).
    """
    direction = (head_weight[1] - head_weight[0]).to(answer.maps.dtype)  # (C,)
    return slope * (answer.maps * direction[None, :, None, None]).sum(dim=1).float()  # (N, h, w)
