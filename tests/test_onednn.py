"""Fused convolutions give the network's own answers, or are not used."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from models import onednn
from models.architectures import FAMILIES, build
from models.ensemble import Ensemble
from models.onednn import fused
from models.registry import find_model, load_model

SIZE = 96


def network_of(architecture):
    """Random weights, and batch normalisation that does something."""
    torch.manual_seed(3)
    member = build(architecture, 224 if architecture == "vit_b_16" else SIZE, 0.5, 0.25)
    for module in member.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return Ensemble([member]).folded().to(memory_format=torch.channels_last)


def answers(network, size):
    films = torch.rand(3, 1, size, size, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        found = network(films.contiguous(memory_format=torch.channels_last))
    return [found.margins, found.evidence, *found.depths]


def convolutions(network):
    return [each for each in network.modules() if isinstance(each, onednn._Convolution)]


@pytest.mark.parametrize("architecture", sorted(FAMILIES))
def test_every_architecture_answers_as_before(architecture):
    network = network_of(architecture)
    size = network.members[0].size_px
    expected = answers(network, size)
    for one, other in zip(answers(fused(network, size), size), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["default", "kermany-ensemble"])
def test_all_convolutions_of_the_shipped_networks_are_fused(name):
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    network = load_model(find_model(name)).network.folded()
    before = sum(isinstance(each, nn.Conv2d) for each in network.modules())
    made = fused(network, 224)
    assert len(convolutions(made)) == before
    assert not any(isinstance(each, nn.ReLU6) for each in made.modules())
    assert not convolutions(network)  # the given one stays as it was


def test_answers_of_real_weights_stay():
    network = load_model(find_model("default")).network.folded()
    network = network.to(memory_format=torch.channels_last)
    for one, other in zip(answers(fused(network, 224), 224), answers(network, 224), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_without_the_operators_the_network_stays(monkeypatch):
    network = network_of("mobilenet_v2")

    def missing(*_):
        raise AttributeError("no such operator")

    monkeypatch.setattr(onednn, "_Convolution", missing)
    assert fused(network, SIZE) is network


def test_operators_that_answer_otherwise_are_not_used(monkeypatch):
    network = network_of("mobilenet_v2")
    wrong = copy.copy(onednn._ACTIVATIONS) | {nn.ReLU6: ("hardtanh", [0.0, 5.0])}
    monkeypatch.setattr(onednn, "_ACTIVATIONS", wrong)
    torch.nn.init.constant_(network.members[0].net.features[0][0].bias, 8.0)  # beyond both limits
    assert fused(network, SIZE) is network
