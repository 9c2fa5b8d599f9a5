"""The training loop: AdamW, one-cycle cosine, averaged weights, a checkpoint after every epoch."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader

from models.architectures import Answer, Classifier, build
from models.start_weights import load_start_weights
from worker.errors import UsageError
from worker.progress import Tell, nobody
from worker.train.dataset import Epoch, TrainingSet
from worker.train.recipe import Recipe

Say = Callable[[str], None]


def fit(
    known: TrainingSet,
    outside: TrainingSet,
    recipe: Recipe,
    device: torch.device,
    checkpoint: Path,
    say: Say,
    tell: Tell = nobody,
) -> Classifier:
    """Train one network and return its averaged weights, in evaluation mode on the CPU.

    It learns the classes of `known`, and beside them to tell `outside` apart, films of another
    population (there may be none), so that the guard finds that in its features. Resumes from
    `checkpoint` when it was written by the same recipe on the same films.
    Raises UsageError when it belongs to another training.
    """
    torch.manual_seed(recipe.seed)
    classifier = build(recipe.architecture, recipe.size_px, recipe.mean, recipe.std)
    if recipe.start == "imagenet":
        load_start_weights(classifier.net, recipe.architecture)
        if recipe.freeze_stem:
            classifier.freeze_stem()
    classifier = classifier.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = _Run(classifier, recipe, steps=_steps(known, outside, recipe))
    identity = {"recipe": asdict(recipe), "films": known.sha256, "outside": outside.sha256}
    first = run.resume(checkpoint, identity)
    for epoch in range(first, recipe.epochs):
        start = time.monotonic()
        films = Epoch(known, outside, recipe, epoch)
        loss = run.epoch(films, epoch, device, tell)
        run.save(checkpoint, identity, epoch + 1)
        speed = len(films) / (time.monotonic() - start)
        say(f"epoch {epoch + 1}/{recipe.epochs}: loss {loss:.4f}, {speed:.0f} films/s")
    return run.averaged()


def _steps(known: TrainingSet, outside: TrainingSet, recipe: Recipe) -> int:
    per_epoch = len(Epoch(known, outside, recipe, 0)) // recipe.batch_size
    return max(1, per_epoch * recipe.epochs)


class _Run:
    """The state of one training: network, optimiser, schedule, running average of the weights."""

    def __init__(self, classifier: Classifier, recipe: Recipe, steps: int) -> None:
        self._classifier, self._recipe, self._steps = classifier, recipe, steps
        device = classifier.head.weight.device
        self._outside = nn.Linear(classifier.depth_sizes[-1], 1, device=device)  # training only
        self._optimiser = torch.optim.AdamW(
            [
                *_parameter_groups(classifier, recipe.weight_decay),
                {"params": self._outside.parameters(), "weight_decay": 0.0},
            ]
        )
        self._loss = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing, ignore_index=-1)
        self._average = {
            name: t.detach().clone() for name, t in classifier.net.state_dict().items()
        }
        self._step = 0

    def epoch(self, films: Epoch, number: int, device: torch.device, tell: Tell) -> float:
        """Train the epoch with this number, from 0 on; return its mean loss."""
        self._classifier.train()
        size, epochs = self._recipe.batch_size, self._recipe.epochs
        loader = DataLoader(films, size, num_workers=1, drop_last=len(films) > size)
        losses: list[float] = []
        for inputs, targets in loader:
            losses.append(self._learn(inputs.to(device), targets.to(device)))
            done = number * len(films) + min(len(losses) * size, len(films))
            note = f"epoch {number + 1}/{epochs}, loss {losses[-1]:.3f}"
            tell(self._recipe.architecture, done, epochs * len(films), "film", note)
        return sum(losses) / max(1, len(losses))

    def _learn(self, inputs: Tensor, targets: Tensor) -> float:
        for group in self._optimiser.param_groups:
            group["lr"] = self._recipe.learning_rate * self._schedule()
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        with torch.autocast(inputs.device.type, torch.bfloat16):
            answer = self._classifier(inputs)
        loss = self._loss(answer.logits.float(), targets)
        loss = loss + self._recipe.outside_weight * self._outside_loss(answer, targets)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._optimiser.step()
        self._step += 1
        self._update_average()
        return float(loss.detach())

    def _outside_loss(self, answer: Answer, targets: Tensor) -> Tensor:
        if not (targets < 0).any():
            return answer.logits.new_zeros(())
        odds = self._outside(answer.depths[-1].float())[:, 0]  # (N,)
        return binary_cross_entropy_with_logits(odds, (targets < 0).float())

    def _schedule(self) -> float:
        done = self._step / self._steps
        if done < self._recipe.warm_up:
            return done / self._recipe.warm_up + 1e-3
        return 0.5 * (1 + math.cos(math.pi * min(1, done)))

    def _update_average(self) -> None:
        decay = min(self._recipe.ema_decay, (1 + self._step) / (10 + self._step))
        for name, tensor in self._classifier.net.state_dict().items():
            if tensor.is_floating_point():
                self._average[name].lerp_(tensor.detach(), 1 - decay)
            else:
                self._average[name].copy_(tensor)

    def save(self, path: Path, identity: dict[str, Any], epochs_done: int) -> None:
        """Write everything needed to go on, under a temporary name first."""
        state = {
            "identity": identity,
            "epochs_done": epochs_done,
            "step": self._step,
            "net": self._classifier.net.state_dict(),
            "average": self._average,
            "outside": self._outside.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "random": torch.get_rng_state(),
        }
        temporary = path.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(path)

    def resume(self, path: Path, identity: dict[str, Any]) -> int:
        """Take up a checkpoint if there is one; return the number of epochs done."""
        if not path.exists():
            return 0
        state = torch.load(path, weights_only=True)
        if state["identity"] != identity:
            raise UsageError(f"{path} is of another training: choose another --out or remove it")
        self._classifier.net.load_state_dict(state["net"])
        self._average = state["average"]
        self._outside.load_state_dict(state["outside"])
        self._optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["random"])
        self._step = state["step"]
        return int(state["epochs_done"])

    def averaged(self) -> Classifier:
        """The network with its averaged weights, on the CPU, in evaluation mode."""
        self._classifier.net.load_state_dict(self._average)
        return self._classifier.cpu().eval()


def _parameter_groups(classifier: Classifier, weight_decay: float) -> list[dict[str, Any]]:
    """Decay the kernels; leave biases and normalisation alone."""
    parameters = [p for p in classifier.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
