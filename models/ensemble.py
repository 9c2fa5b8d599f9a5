"""One or several networks that answer as one."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from models.architectures import Classifier
from models.explain import Explained, explain


class Ensemble(nn.Module):
    """The mean of its members' margins and evidence; the guard listens to the first.

    Over the features of all members together it was measured to let pictures of hands pass: few
    principal axes are left for what tells a chest from anything else.
    """

    def __init__(self, members: Sequence[Classifier]) -> None:
        super().__init__()
        self._members = nn.ModuleList(members)

    @property
    def members(self) -> list[Classifier]:
        """The networks, in the card's order."""
        return [cast("Classifier", member) for member in self._members]

    @property
    def depth_channels(self) -> int:
        """Channels of all depths of the first member: D of the guard's features."""
        return sum(self.members[0].depth_sizes)

    def folded(self) -> "Ensemble":
        """A copy for inference that answers the same with less work."""
        return Ensemble([member.folded() for member in self.members])

    def forward(self, films: Tensor) -> Explained:
        """Answer for films (N, 1, S, S) in [0, 1]. See `Explained` for the shapes."""
        answers = [explain(member, films) for member in self.members]
        return Explained(
            margins=torch.stack([answer.margins for answer in answers]).mean(dim=0),
            evidence=_mean_map([answer.evidence for answer in answers]),
            depths=answers[0].depths,
        )


def _mean_map(maps: Sequence[Tensor]) -> Tensor:
    """Mean of maps (N, h, w) on the finest of their grids; each keeps its own mean."""
    finest = max((tuple(one.shape[1:]) for one in maps), key=lambda size: size[0])
    resized = [
        one
        if one.shape[1:] == finest
        else interpolate(one[:, None], finest, mode="nearest-exact")[:, 0]
        for one in maps
    ]
    return torch.stack(resized).mean(dim=0)
