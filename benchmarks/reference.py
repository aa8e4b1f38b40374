"""The plain eager float32 program that the other benchmarks are held against.

It is what a paper's code of 2019 to 2022 does, written for these benchmarks from the papers' formulas: torchvision's
ResNet-50, Pillow and torchvision transforms in a DataLoader, NCHW float32, cross entropy over one-hot rows, batch-hard
triplets over a full distance matrix, an optimizer with a group for every parameter, and the loss fetched every step.
Nothing in it is slow on purpose, and nothing is taken from regard, so that the two can also be held against each other:
``tests/engine/test_reference.py`` gives both the same weights and wants the same losses.

APNet-C: G. Chen et al., "Person Re-identification via Attention Pyramid", arXiv:2108.05340.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision import transforms
from torchvision.models import resnet50

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Item = tuple[Path, int]


class Squeeze(nn.Module):
    """Level 1: a gate for each channel from all of them."""

    def __init__(self, channels: int):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(channels, 8, bias=False), nn.ReLU(inplace=True), nn.Linear(8, channels, bias=False), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        gate = self.fc(self.pool(x).view(x.size(0), -1)).view(x.size(0), -1, 1, 1)
        return x * gate.expand_as(x)


class Split(nn.Module):
    """Level 2: two halves of the channels compete; a batch normalization without shift follows."""

    def __init__(self, channels: int):
        super().__init__()
        hidden = max(channels // 2, 32)
        self.fc1 = nn.Linear(channels // 2, hidden)
        self.bn1 = nn.BatchNorm1d(hidden)
        self.fc2 = nn.Linear(hidden, channels)
        self.norm = nn.BatchNorm2d(channels)
        self.norm.bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels = x.shape[:2]
        halves = torch.split(x, channels // 2, dim=1)
        pooled = F.adaptive_avg_pool2d(halves[0] + halves[1], 1).view(batch, -1)
        logits = self.fc2(F.relu(self.bn1(self.fc1(pooled))))
        gates = F.softmax(logits.view(batch, 2, channels // 2), dim=1)
        parts = [half * gates[:, i, :, None, None] for i, half in enumerate(halves)]
        return self.norm(torch.cat(parts, dim=1))


class ReferenceAPNet(nn.Module):
    """APNet-C of level 0 (the bag-of-tricks baseline) or 2 on torchvision's ResNet-50, last stride 1."""

    def __init__(self, num_ids: int, level: int = 2):
        super().__init__()
        net = resnet50(weights=None)
        net.layer4[0].conv2.stride = net.layer4[0].downsample[0].stride = (1, 1)
        stem = nn.Sequential(net.conv1, net.bn1, net.maxpool)
        self.stages = nn.ModuleList([stem, net.layer1, net.layer2, net.layer3, net.layer4])
        widths = (64, 256, 512, 1024, 2048)
        self.taps = nn.ModuleList(nn.Sequential(Split(c), Squeeze(c)) if level else nn.Identity() for c in widths)
        self.neck = nn.BatchNorm1d(2048)
        self.neck.bias.requires_grad_(False)
        self.classifier = nn.Linear(2048, num_ids, bias=False)

    def forward(self, x: Tensor) -> Any:
        for stage, tap in zip(self.stages, self.taps):
            x = tap(stage(x))
        pooled = F.adaptive_avg_pool2d(x, 1).view(x.size(0), -1)
        feature = self.neck(pooled)
        return (self.classifier(feature), pooled) if self.training else feature


def smoothed_cross_entropy(scores: Tensor, labels: Tensor, epsilon: float = 0.1) -> Tensor:
    """Label smoothing over one-hot rows."""
    log_probability = F.log_softmax(scores, dim=1)
    target = torch.zeros(log_probability.size()).scatter_(1, labels.unsqueeze(1).cpu(), 1).to(scores)
    target = (1 - epsilon) * target + epsilon / scores.size(1)
    return (-target * log_probability).mean(0).sum()


def batch_hard_triplet(features: Tensor, labels: Tensor, margin: float = 0.3) -> Tensor:
    """Farthest positive and nearest negative of every anchor; every person has equally many images."""
    count = features.size(0)
    squares = features.pow(2).sum(dim=1, keepdim=True).expand(count, count)
    distance = (squares + squares.t() - 2 * features.mm(features.t())).clamp(min=1e-12).sqrt()
    same = labels.expand(count, count).eq(labels.expand(count, count).t())
    positive = distance[same].contiguous().view(count, -1).max(1)[0]
    negative = distance[~same].contiguous().view(count, -1).min(1)[0]
    return F.margin_ranking_loss(negative, positive, torch.ones_like(negative), margin=margin)


def build_adam(model: nn.Module, lr: float = 3.5e-4, decay: float = 5e-4) -> torch.optim.Optimizer:
    """Adam with a group of its own for every parameter, one after the other."""
    groups = [{"params": [p], "lr": lr, "weight_decay": decay} for p in model.parameters() if p.requires_grad]
    return torch.optim.Adam(groups, lr=lr, foreach=False)


class Pictures(Dataset[Any]):
    """Open with Pillow, transform with torchvision."""

    def __init__(self, items: Sequence[Item], size: tuple[int, int], training: bool):
        self.items = items
        steps: list[Any] = [transforms.Resize(size)]
        if training:
            steps += [transforms.RandomHorizontalFlip(), transforms.Pad(10), transforms.RandomCrop(size)]
        steps += [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        if training:
            steps += [transforms.RandomErasing(0.5)]
        self.transform = transforms.Compose(steps)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        path, label = self.items[index]
        return self.transform(Image.open(path).convert("RGB")), label


class PersonSampler(Sampler[int]):
    """P people with K images each, over and over."""

    def __init__(self, items: Sequence[Item], people: int, images: int, batches: int):
        self.people, self.images, self.batches = people, images, batches
        self.of: dict[int, list[int]] = defaultdict(list)
        for index, (_, label) in enumerate(items):
            self.of[label].append(index)

    def __len__(self) -> int:
        return self.people * self.images * self.batches

    def __iter__(self) -> Iterator[int]:
        for _ in range(self.batches):
            for label in random.sample(list(self.of), self.people):
                yield from random.choices(self.of[label], k=self.images)


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor, device: str = "cpu"
) -> float:
    """One step -> its loss."""
    images, labels = images.to(device), labels.to(device)
    optimizer.zero_grad()
    scores, features = model(images)
    loss = smoothed_cross_entropy(scores, labels) + batch_hard_triplet(features, labels)
    loss.backward()
    optimizer.step()
    return loss.item()


def train_loop(
    model: nn.Module, items: Sequence[Item], size: tuple[int, int], batch: int, steps: int, workers: int
) -> list[float]:
    """Train with K = 4 -> the clock at the end of every step."""
    sampler = PersonSampler(items, batch // 4, 4, steps)
    loader = DataLoader(Pictures(items, size, True), batch, sampler=sampler, num_workers=workers, drop_last=True)
    optimizer = build_adam(model)
    model.train()
    clock = []
    for images, labels in loader:
        train_step(model, optimizer, images, labels)
        clock.append(time.perf_counter())
    return clock


def embed_loop(
    model: nn.Module, items: Sequence[Item], size: tuple[int, int], batch: int, workers: int, device: str = "cpu"
) -> Tensor:
    """(N, 2048) descriptors, summed with those of the mirrored pictures."""
    loader = DataLoader(Pictures(items, size, False), batch, num_workers=workers)
    model.eval()
    found = []
    with torch.no_grad():
        for images, _ in loader:
            images = images.to(device)
            found.append((model(images) + model(torch.flip(images, [3]))).cpu())
    return torch.cat(found)


def copy_weights(reference: ReferenceAPNet, ours: nn.Module) -> None:
    """Give regard's APNet of the same level the weights of the reference."""
    theirs, tensors = reference.state_dict(), {}
    order = {"attend.0": "fc1", "attend.1": "bn1", "attend.3": "fc2"}
    for name in ours.state_dict():
        tensors[name] = theirs[_reference_name(name, order)]
    ours.load_state_dict(tensors)


def _reference_name(name: str, order: dict[str, str]) -> str:
    """What the reference calls one of our tensors."""
    head, *rest = name.split(".")
    if head == "backbone":  # backbone.stages.2.layer2.0.conv1.weight; timm unrolls the layers into units
        stage, unit, *path = rest[1:]
        if stage == "0":
            return ".".join(["stages.0", {"conv1": "0", "bn1": "1"}[unit], *path])
        return ".".join(["stages", stage, *unit.split("_")[1:], *path])
    if head == "attention":  # attention.tap3.levels.level2.agent.attend.0.weight
        tap, _, level, *path = rest
        prefix = f"taps.{int(tap.removeprefix('tap')) - 1}.{'1' if level == 'level1' else '0'}"
        if level == "level1":
            return f"{prefix}.fc.{'0' if path[1] == 'squeeze' else '2'}.{path[-1]}"
        if path[0] == "norm":
            return f"{prefix}.norm.{path[-1]}"
        return f"{prefix}.{order['.'.join(path[1:3])]}.{path[-1]}"
    return name
