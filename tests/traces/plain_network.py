"""Every system's forward pass in training, written from the papers in single products: nothing of regard's is called.

Weights are a flat dict, by the names under which the networks keep them. The trunk is the tiny ResNet of the tests, in
plain products too, so that a stride or an activation that is not as published shows. A forward pass returns the vectors
that metric losses see, the identity scores, and the predicted maps.

Shapes: B images, C channels, H x W positions.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Weights = dict[str, Tensor]
Named = dict[str, Tensor]
Seen = tuple[Named, Named, Named]
"""features, logits, maps"""


SHARES = ContextVar("shares", default=1)
"""Equal parts of a batch that batch statistics are of: as many as the authors had devices."""

MINDSPORE = ContextVar("mindspore", default=False)
"""Whether layers are MindSpore's: padded at the bottom and right alone where they halve, with an epsilon of 1e-4."""


def norm(w: Weights, name: str, x: Tensor) -> Tensor:
    """Batch normalization in training, of every share of the images by itself; the first share's statistics stay."""
    kept = dict(w)
    first, *others = (norm_share(kept if n else w, name, share) for n, share in enumerate(x.chunk(SHARES.get())))
    return torch.cat([first, *others])


def norm_share(w: Weights, name: str, x: Tensor) -> Tensor:
    """Running statistics follow by a tenth, with the unbiased variance."""
    dims = [d for d in range(x.ndim) if d != 1]
    shape = [1, -1] + [1] * (x.ndim - 2)
    count = x.numel() // x.shape[1]
    mean = x.mean(dims)
    variance = ((x - mean.view(shape)) ** 2).mean(dims)
    with torch.no_grad():
        w[f"{name}.running_mean"] = 0.9 * w[f"{name}.running_mean"] + 0.1 * mean
        w[f"{name}.running_var"] = 0.9 * w[f"{name}.running_var"] + 0.1 * variance * count / (count - 1)
    y = (x - mean.view(shape)) / (variance.view(shape) + (1e-4 if MINDSPORE.get() else 1e-5)).sqrt()
    return y * w[f"{name}.weight"].view(shape) + w[f"{name}.bias"].view(shape)


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    y = x @ w[f"{name}.weight"].flatten(1).T
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def conv(w: Weights, name: str, x: Tensor, stride: int = 1) -> Tensor:
    kernel = w[f"{name}.weight"]
    pad = kernel.shape[2] // 2
    if MINDSPORE.get() and stride == 2:
        x, pad = F.pad(x, (0, 1, 0, 1)), 0
    return F.conv2d(x, kernel, w.get(f"{name}.bias"), stride, pad)


def relu(x: Tensor) -> Tensor:
    return x.clamp(min=0)


def hide(x: Tensor, share: float) -> Tensor:
    """Dropout, drawn as torch draws it on a CPU."""
    return x * torch.empty_like(x).bernoulli_(1 - share) / (1 - share)


def average(x: Tensor) -> Tensor:
    return x.flatten(2).sum(2) / (x.shape[2] * x.shape[3])


# ---- the trunk: test_resnet -----------------------------------------------------------------------------------------


def shortcut(w: Weights, name: str, x: Tensor, stride: int) -> Tensor:
    if f"{name}.downsample.1.weight" not in w:
        return x
    x = F.avg_pool2d(x, 2, 2) if stride == 2 else x
    return norm(w, f"{name}.downsample.2", conv(w, f"{name}.downsample.1", x))


def basic_block(w: Weights, name: str, x: Tensor, stride: int) -> Tensor:
    y = relu(norm(w, f"{name}.bn1", conv(w, f"{name}.conv1", x, stride)))
    y = norm(w, f"{name}.bn2", conv(w, f"{name}.conv2", y))
    return relu(y + shortcut(w, name, x, stride))


def bottleneck(w: Weights, name: str, x: Tensor, stride: int) -> Tensor:
    y = relu(norm(w, f"{name}.bn1", conv(w, f"{name}.conv1", x)))
    y = relu(norm(w, f"{name}.bn2", conv(w, f"{name}.conv2", y, stride)))
    y = norm(w, f"{name}.bn3", conv(w, f"{name}.conv3", y))
    return relu(y + shortcut(w, name, x, stride))


def stem(w: Weights, x: Tensor, activation: bool) -> Tensor:
    name = "backbone.stages.0"
    x = relu(norm(w, f"{name}.conv1.1", conv(w, f"{name}.conv1.0", x, 2)))
    x = relu(norm(w, f"{name}.conv1.4", conv(w, f"{name}.conv1.3", x)))
    x = norm(w, f"{name}.bn1", conv(w, f"{name}.conv1.6", x))
    x = relu(x) if activation else x
    return F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-torch.inf), 3, 2) if MINDSPORE.get() else F.max_pool2d(x, 3, 2, 1)


def stage(w: Weights, number: int, x: Tensor, last_stride: int = 1, where: str = "") -> Tensor:
    """Residual stage 1 to 4; ``where`` is the place of a copy."""
    name = where or f"backbone.stages.{number}.layer{number}.0"
    stride = {1: 1, 2: 2, 3: 2, 4: last_stride}[number]
    return (bottleneck if number == 3 else basic_block)(w, name, x, stride)


def trunk(
    w: Weights,
    x: Tensor,
    *,
    last_stride: int = 1,
    activation: bool = False,
    attend: Callable[..., Tensor] | None = None,
) -> Tensor:
    """All stages, with what ``attend(tap, x)`` makes of the map after each (taps from 1: the stem)."""
    x = stem(w, x, activation)
    x = attend(1, x) if attend else x
    for number in range(1, 5):
        x = stage(w, number, x, last_stride)
        x = attend(number + 1, x) if attend else x
    return x


# ---- bag of tricks, APNet, MSEA Net ---------------------------------------------------------------------------------


def necked(w: Weights, x: Tensor) -> Seen:
    """Global average g, BNNeck, classifier without bias."""
    g = average(x)
    return {"global": g}, {"global": linear(w, "classifier", norm(w, "neck", g))}, {}


def baseline(w: Weights, x: Tensor) -> Seen:
    return necked(w, trunk(w, x))


def se(w: Weights, name: str, x: Tensor) -> Tensor:
    gate = linear(w, f"{name}.excite", relu(linear(w, f"{name}.squeeze", average(x))))
    return (1 / (1 + (-gate).exp()))[:, :, None, None]


def sams(w: Weights, name: str, x: Tensor) -> Tensor:
    """Split into two groups of channels, pool their sum, softmax over the groups, stack."""
    one, two = x.chunk(2, 1)
    hidden = relu(norm(w, f"{name}.attend.1", linear(w, f"{name}.attend.0", average(one + two))))
    a, b = linear(w, f"{name}.attend.3", hidden).chunk(2, 1)
    whole = a.exp() + b.exp()
    return torch.cat([a.exp() / whole, b.exp() / whole], 1)[:, :, None, None]


def eca(w: Weights, name: str, x: Tensor) -> Tensor:
    """A convolution of the means along the channels, zeros beyond their ends."""
    kernel = w[f"{name}.conv.weight"].flatten()
    reach = len(kernel) // 2
    padded = F.pad(average(x), (reach, reach))
    mixed = sum(kernel[tap] * padded[:, tap : tap + x.shape[1]] for tap in range(len(kernel)))
    return torch.sigmoid(mixed)[:, :, None, None]


def pyramid(w: Weights, x: Tensor, finer: Callable[..., Tensor], coarse: Callable[..., Tensor], square: bool) -> Seen:
    """Level 2 with its normalization, then level 1, after every stage, the stem included."""

    def attend(tap: int, x: Tensor) -> Tensor:
        name = f"attention.tap{tap}.levels"
        x = norm(w, f"{name}.level2.norm", x * finer(w, f"{name}.level2.agent", x))
        gate = coarse(w, f"{name}.level1.agent", x)
        return x**2 * gate if square else x * gate

    return necked(w, trunk(w, x, attend=attend))


def apnet(w: Weights, x: Tensor) -> Seen:
    return pyramid(w, x, sams, se, square=False)


def msea_2023(w: Weights, x: Tensor) -> Seen:
    return pyramid(w, x, sams, eca, square=True)


def msea_head(w: Weights, x: Tensor) -> Seen:
    return pyramid(w, x, eca, sams, square=True)


def msea_lite(w: Weights, x: Tensor) -> Seen:
    def halves(w: Weights, name: str, x: Tensor) -> Tensor:
        rows = x.shape[2] // 2
        top, bottom = (eca(w, name, half) for half in (x[:, :, :rows], x[:, :, rows:]))
        return torch.cat([top.expand(-1, -1, rows, -1), bottom.expand(-1, -1, rows, -1)], 2)

    return pyramid(w, x, halves, eca, square=False)


def rga(w: Weights, name: str, x: Tensor, strips: int = 1) -> Tensor:
    """Relation-aware attention over positions: every position's affinities to all and of all, compressed, judged."""
    embedded = relu(norm(w, f"{name}.embed.1", conv(w, f"{name}.embed.0", x)))
    unary, theta, phi = embedded.chunk(3, 1)
    compressed = []
    for a, b in zip(theta.chunk(strips, 2), phi.chunk(strips, 2)):
        affinity = a.flatten(2).transpose(1, 2) @ b.flatten(2)
        stacked = torch.cat([affinity.transpose(1, 2), affinity], 1)  # column i: r_i1 ... r_iN, then r_1i ... r_Ni
        y = w[f"{name}.compress.weight"] @ stacked
        compressed.append(y.view(y.shape[0], y.shape[1], a.shape[2], a.shape[3]))
    relations = relu(norm(w, f"{name}.normalize", torch.cat(compressed, 2)))
    y = torch.cat([unary.mean(1, keepdim=True), relations], 1)
    y = relu(norm(w, f"{name}.attend.1", conv(w, f"{name}.attend.0", y)))
    return torch.sigmoid(norm(w, f"{name}.attend.4", conv(w, f"{name}.attend.3", y)))


def rga_s(w: Weights, x: Tensor) -> Seen:
    """RGA-S after the four residual stages; this network keeps the stem's activation."""

    def attend(tap: int, x: Tensor) -> Tensor:
        return x * rga(w, f"attention.tap{tap}.levels.level1.agent", x) if tap > 1 else x

    return necked(w, trunk(w, x, attend=attend, activation=True))


def rga_sc(w: Weights, x: Tensor) -> Seen:
    """Positions first, then channels, whose numbers at all positions are to them what channels are to positions."""

    def attend(tap: int, x: Tensor) -> Tensor:
        if tap == 1:
            return x
        name = f"attention.tap{tap}.levels.level1.agent"
        x = x * rga(w, f"{name}.spatial", x)
        nodes = x.flatten(2).transpose(1, 2).unsqueeze(3)
        return x * rga(w, f"{name}.channel.relations", nodes).transpose(1, 2)

    return necked(w, trunk(w, x, attend=attend, activation=True))


def apnet_s(w: Weights, x: Tensor) -> Seen:
    """The same on two strips, normalized, then on the whole."""

    def attend(tap: int, x: Tensor) -> Tensor:
        if tap == 1:
            return x
        name = f"attention.tap{tap}.levels"
        x = norm(w, f"{name}.level2.norm", x * rga(w, f"{name}.level2.agent", x, strips=2))
        return x * rga(w, f"{name}.level1.agent", x)

    return necked(w, trunk(w, x, attend=attend))


# ---- MuDeep ---------------------------------------------------------------------------------------------------------


def stream(w: Weights, number: int, x: Tensor) -> Tensor:
    """The last stage's first block and ``number - 1`` more at the same resolution."""
    name = f"streams.scale{number}"
    x = stage(w, 4, x, 1, where=f"{name}.0")
    for block in range(1, number):
        inner = f"{name}.{block}.residual"
        y = relu(norm(w, f"{inner}.1", conv(w, f"{inner}.0", x)))
        y = relu(norm(w, f"{inner}.4", conv(w, f"{inner}.3", y)))
        x = relu(x + norm(w, f"{inner}.7", conv(w, f"{inner}.6", y)))
    return x


def mudeep(w: Weights, x: Tensor) -> Seen:
    x = stem(w, x, activation=True)
    for number in (1, 2, 3):
        x = stage(w, number, x)
    maps = [stream(w, number, x) for number in (1, 2, 3)]
    leader = relu(norm(w, "guide.leader.norm", conv(w, "guide.leader.conv", torch.cat(maps, 1))))
    features: Named = {}
    for scale, seen in enumerate(maps, start=1):
        rows = conv(w, f"attention.scale{scale}.rows", leader).flatten(2)
        columns = conv(w, f"attention.scale{scale}.columns", leader).flatten(2)
        share = (rows @ columns.transpose(1, 2)).softmax(2)
        y = w[f"gamma.scale{scale}"] * (share @ seen.flatten(2)).view_as(seen) + seen
        third = y.shape[2] // 3
        regions = {"global": y} | {f"part{i}": y[:, :, i * third : (i + 1) * third] for i in range(3)}
        for region, part in regions.items():
            head = f"head.scale{scale}_{region}"
            vector = conv(w, f"{head}.conv", average(part)[:, :, None, None])
            features[f"scale{scale}.{region}"] = relu(norm(w, f"{head}.norm", vector)).flatten(1)
    logits = {name: linear(w, f"classifier.{name.replace('.', '_')}", hide(f, 0.5)) for name, f in features.items()}
    return features, logits, {}


# ---- DAAF -----------------------------------------------------------------------------------------------------------

JOINTS = (5, 2, 2, 4, 2, 2)
"""Joints of head, shoulders, elbows, wrists and hips, knees, ankles."""


def double(w: Weights, name: str, x: Tensor) -> Tensor:
    kernel = w[f"{name}.weight"]
    pad = 1 if kernel.shape[2] == 3 else 0
    return F.conv_transpose2d(x, kernel, w.get(f"{name}.bias"), stride=2, padding=pad, output_padding=pad)


def decode(w: Weights, name: str, groups: list[Tensor], nonlinear: bool, end: bool = False) -> Tensor:
    """Four doublings that the groups share, a last convolution of each group's own, at the ``end`` perhaps a norm."""
    maps = []
    for number, x in enumerate(groups):
        for step in range(4):
            x = double(w, f"{name}.doublings.{step}", x)
            if nonlinear:
                x = norm(w, f"{name}.norms.{step}", x)
                x = relu(x) if step < 3 else x
        x = conv(w, f"{name}.heads.{number}", x)
        x = norm(w, f"{name}.end_norms.{number}", x) if end else x
        maps.append(torch.sigmoid(x) if nonlinear else x)
    return torch.cat(maps, 1)


def in_groups(x: Tensor) -> list[Tensor]:
    width = x.shape[1] // 6
    return [x[:, group * width : (group + 1) * width] for group in range(6)]


def branched(w: Weights, x: Tensor, last_stride: int, activation: bool) -> tuple[Tensor, Named]:
    """The last map, and both branches' maps, of linear decoders."""
    maps: Named = {}

    def attend(tap: int, x: Tensor) -> Tensor:
        if tap == 2:  # HAB reads the first residual stage through copies of the others
            y = x
            for copy, number in enumerate((2, 3, 4)):
                y = stage(w, number, y, last_stride, where=f"hab.copied.{copy}.layer{number}.0")
            maps["hab"] = decode(w, "hab.decoder", [y], nonlinear=False)
        return x

    x = trunk(w, x, last_stride=last_stride, activation=activation, attend=attend)
    maps["pab"] = decode(w, "pab", in_groups(x), nonlinear=False)
    return x, maps


def daaf_bot(w: Weights, x: Tensor) -> Seen:
    x, maps = branched(w, x, last_stride=1, activation=False)
    features, logits, _ = necked(w, x)
    return features, logits, maps


def daaf_mindspore(w: Weights, x: Tensor) -> Seen:
    """Pixels centered on a mean of its own, a ReLU behind the 512 numbers, a classifier with bias."""
    other = [(0.485 - 0.486) / 0.229, (0.456 - 0.459) / 0.224, (0.406 - 0.408) / 0.225]
    x = x + torch.tensor(other, dtype=torch.float32).to(x.dtype).view(3, 1, 1)  # kept in single precision
    token = MINDSPORE.set(True)
    x, maps = branched(w, x, last_stride=2, activation=True)
    MINDSPORE.reset(token)
    f = relu(norm(w, "neck.norm", linear(w, "neck.conv", average(x))))
    return {"global": f}, {"global": linear(w, "classifier", f)}, maps


def trinet(w: Weights, x: Tensor) -> Seen:
    """The network underneath, without branches."""
    return embedded(w, trunk(w, x, last_stride=2, activation=True)), {}, {}


def embedded(w: Weights, x: Tensor) -> Named:
    """TriNet's two layers behind the last map."""
    hidden = relu(norm(w, "neck.1", linear(w, "neck.0", average(x))))
    return {"global": linear(w, "neck.3", hidden)}


def daaf_trinet(w: Weights, x: Tensor) -> Seen:
    x = trunk(w, x, last_stride=2, activation=True)
    maps = {
        "hab": decode(w, "hab.decoder", [x], nonlinear=True),
        "pab": decode(w, "pab", in_groups(x), nonlinear=True),
    }
    return embedded(w, x), {}, maps


def daaf_trinet_released(w: Weights, x: Tensor) -> Seen:
    """HAB reads what six groups of a twelfth leave; all joints read everything, so that their six heads are one."""
    x = trunk(w, x, last_stride=2, activation=True)
    maps = {
        "hab": decode(w, "hab.decoder", [x[:, 6 * (x.shape[1] // 12) :]], nonlinear=True, end=True),
        "pab": decode(w, "pab", [x], nonlinear=True, end=True),
    }
    return embedded(w, x), {}, maps


# ---- DSP and SA -----------------------------------------------------------------------------------------------------


def stripes_of(x: Tensor) -> Tensor:
    """Six means over rows, some of their numbers dropped: (B, C, 6)."""
    rows = x.shape[2] // 6
    tall = x.shape[2] - 5 * rows
    return hide(torch.stack([average(x[:, :, i * rows : i * rows + tall]) for i in range(6)], 2), 0.5)


def pcb(w: Weights, x: Tensor) -> Seen:
    """A reduction and a classifier of its own for each stripe."""
    stripes, logits = stripes_of(trunk(w, x, activation=True)), {}
    for i in range(6):
        name = f"parts.reductions.{i}"
        h = relu(norm(w, f"{name}.norm", linear(w, f"{name}.linear", stripes[:, :, i])))
        logits[f"part{i}"] = linear(w, f"parts.classifiers.part{i}", h)
    return {}, logits, {}


def six_stripes(w: Weights, x: Tensor, classified: bool = True) -> tuple[Named, Named]:
    """Dropout, one reduction for all, a classifier for each stripe (if wanted) and one for their mean."""
    seen = stripes_of(x).transpose(1, 2).flatten(0, 1)
    z = relu(norm(w, "parts.reductions.0.norm", linear(w, "parts.reductions.0.linear", seen)))
    z = z.view(x.shape[0], 6, -1)
    vectors = {f"part{i}": z[:, i] for i in range(6)} | {"global": z.mean(1)}
    named = vectors if classified else ["global"]
    return vectors, {name: linear(w, f"parts.classifiers.{name}", vectors[name]) for name in named}


def supervised(
    w: Weights, x: Tensor, attention: Callable[[str, Tensor], tuple[Tensor, Tensor]], stripes: bool = True
) -> Seen:
    """``attention(name, x)`` gives the map for the next stage and the map for the classifier of this one."""
    early: Named = {}

    def attend(tap: int, x: Tensor) -> Tensor:
        if tap in (1, 5):
            return x
        x, seen = attention(f"attention.tap{tap}", x)
        head = f"supervision.ds{tap - 1}"
        early[f"ds{tap - 1}"] = linear(w, f"{head}.classifier", linear(w, f"{head}.reduction", average(seen)))
        return x

    x = trunk(w, x, attend=attend, activation=True)
    features, logits = six_stripes(w, x, stripes)
    return features, logits | early, {}


def sa(w: Weights, x: Tensor, rescaled: bool = True) -> Seen:
    def shares(name: str, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = x.mean(1, keepdim=True)
        share = mean / mean.sum((2, 3), keepdim=True)
        return x, x * share * (x.shape[2] * x.shape[3] if rescaled else 1)

    return supervised(w, x, shares)


def sa_released(w: Weights, x: Tensor) -> Seen:
    return sa(w, x, rescaled=False)


def channel_gate(w: Weights, name: str, x: Tensor) -> Tensor:
    """1 + tanh(gamma e / rms(e) + beta), e the energies of the channels."""
    energy = w[f"{name}.alpha"] * ((x**2).sum((2, 3)) + 1e-5).sqrt()
    relative = energy / ((energy**2).mean(1, keepdim=True) + 1e-5).sqrt()
    return (1 + torch.tanh(w[f"{name}.gamma"] * relative + w[f"{name}.beta"]))[:, :, None, None]


def dsp(w: Weights, x: Tensor, stripes: bool = True) -> Seen:
    def gates(name: str, x: Tensor) -> tuple[Tensor, Tensor]:
        strength = ((x**2).sum(1, keepdim=True) + 1e-5).sqrt()
        relative = strength / ((strength**2).mean((2, 3), keepdim=True) + 1e-5).sqrt()
        alpha, mu, omega = (w[f"{name}.spatial.{letter}"] for letter in ("alpha", "mu", "omega"))
        y = x * channel_gate(w, f"{name}.channel", x) * (1 + torch.tanh(alpha * mu * relative + omega))
        return y, y

    return supervised(w, x, gates, stripes)


def dsp_no_parts(w: Weights, x: Tensor) -> Seen:
    """Classified are the mean of the stripes and the three maps."""
    return dsp(w, x, stripes=False)


def dsp_code(w: Weights, x: Tensor) -> Seen:
    """The authors' formula, its vectors learned: the gate over positions is one of channels, and x is added."""

    def gates(name: str, x: Tensor) -> tuple[Tensor, Tensor]:
        alpha, gamma, beta = (w[f"{name}.spatial.{letter}"][:, None, None] for letter in ("alpha", "gamma", "beta"))
        f = alpha * ((x**2).sum(1, keepdim=True) + 1e-5).sqrt()
        relative = f / ((f**2).mean(1, keepdim=True) + 1e-5).sqrt()
        y = x * channel_gate(w, f"{name}.channel", x) * (1 + torch.tanh(gamma * relative + beta)) + x
        return y, y

    return supervised(w, x, gates)


def dsp_released(w: Weights, x: Tensor) -> Seen:
    return supervised(w, x, lambda name, x: (2 * x, 2 * x))


NETWORKS: dict[str, Callable[[Weights, Tensor], Any]] = {
    name: forward
    for name, forward in list(globals().items())
    if name
    in (
        "baseline", "apnet", "apnet_s", "rga_s", "rga_sc", "pcb", "msea_2023", "msea_head", "msea_lite", "mudeep",
        "daaf_bot", "daaf_mindspore", "daaf_trinet", "daaf_trinet_released", "trinet", "sa", "sa_released",
        "dsp", "dsp_code", "dsp_no_parts", "dsp_released",
    )
}  # fmt: skip
