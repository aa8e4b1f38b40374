"""A batch in pieces, blocks computed again, compiled networks: what they may change and what not.

The twin of a batch in pieces keeps the graphs of all pieces, joins their outputs and goes back through everything.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

import regard
from regard.config import Config, TrainConfig, load_config
from regard.data.transforms import normalize
from regard.engine.build import build_criterion, leave_unreached, recompute_blocks
from regard.engine.run import start_run
from regard.engine.step import StepTimer, TrainStep, check_pieces
from regard.errors import ConfigError
from regard.layers.batch_norm import share_batch_norm
from regard.models import ReIDModel
from regard.recipes import list_recipes, read_recipe
from regard.registry import MODELS
from regard.run_folder.folders import read_history
from regard.runtime.fabric import Runtime, own_shares
from regard.structures import Batch, Output
from small_backbones import tiny

SYSTEMS = sorted(MODELS)
DROPPING = ("sa", "dsp", "mudeep", "pcb")
SIZES = {"sa": (96, 32), "dsp": (96, 32), "pcb": (96, 32)}
TINY = "test_resnet.r160_in1k"
CPU = torch.device("cpu")


def configuration(name: str, *more: str) -> Config:
    """A system's recipe for the crowd on a tiny backbone."""
    height, width = SIZES.get(name, (64, 32))
    size = [f"data.height={height}", f"data.width={width}", "data.ids_per_batch=4", "data.images_per_id=2"]
    train = ["train.accelerator=cpu", "train.precision=fp32", "train.channels_last=false"]
    return read_recipe(f"{name}_crowd").config([*size, f"model.backbone={tiny(name)}", *train, *more])


def model_and_batch(config: Config, seed: int = 0) -> tuple[ReIDModel, Batch]:
    """A model in training mode, and a batch of 4 people with 2 pictures each and all labels it trains on."""
    torch.manual_seed(seed)
    model = regard.create_model(config.model.name, 6, **config.model.options).train()
    images = torch.randint(256, (8, 3, config.data.height, config.data.width), dtype=torch.uint8)
    extra = {}
    if config.data.labels:
        with torch.no_grad():
            maps = copy.deepcopy(model).eval()(normalize(images)).maps
        for kind, name in (("mask", "hab"), ("keypoints", "pab")):
            extra[kind] = (torch.rand_like(maps[name]), torch.rand(8, maps[name].shape[1], 1, 1) < 0.7)
    return model, Batch(images, torch.arange(4).repeat_interleave(2), torch.zeros(8, dtype=torch.int64), extra)


def learner(config: Config, model: ReIDModel, tmp_path: Path) -> TrainStep:
    runtime = Runtime(config.train)
    network, _ = runtime.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
    criterion = build_criterion(config, model)
    return TrainStep(
        network, model, criterion, runtime, check_pieces(config, runtime), timer=StepTimer(tmp_path, 0, CPU)
    )


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_close(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor], share: float) -> None:
    """Equal to a share of the largest gradient of all."""
    assert one.keys() == two.keys()
    largest = max(value.abs().max() for value in one.values())
    for name, value in one.items():
        assert (value - two[name]).abs().max() <= share * largest, name


def joined(outputs: list[Output]) -> Output:
    named = [{key: torch.cat([o[k][key] for o in outputs]) for key in outputs[0][k]} for k in (1, 2, 3)]
    return Output(torch.cat([output.embedding for output in outputs]), *named)


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("pieces", [2, 4])
def test_a_batch_in_pieces_has_the_gradients_of_all_graphs_at_once(name, pieces, tmp_path):
    """Dropout draws the same twice, and running statistics count each piece once."""
    config = configuration(name, f"train.accumulate={pieces}")
    model, batch = model_and_batch(config)
    twin = copy.deepcopy(model)
    torch.manual_seed(3)
    loss, terms = learner(config, model, tmp_path)(batch)
    after = torch.get_rng_state()
    torch.manual_seed(3)
    whole = joined([twin(normalize(piece)) for piece in batch.images.chunk(pieces)])
    wanted, wanted_terms = build_criterion_like(config, twin)(whole, batch)
    assert torch.equal(after, torch.get_rng_state())
    wanted.backward()
    assert torch.equal(loss, wanted)
    assert {key: value.item() for key, value in terms.items()} == {k: v.item() for k, v in wanted_terms.items()}
    assert_close(gradients(model), gradients(twin), 1e-6)
    for (key, buffer), (_, kept) in zip(model.named_buffers(), twin.named_buffers()):
        assert torch.equal(buffer, kept), key


def build_criterion_like(config: Config, model: ReIDModel):
    """The criterion, without touching the random state."""
    state = torch.get_rng_state()
    criterion = build_criterion(config, model)
    torch.set_rng_state(state)
    return criterion


@pytest.mark.parametrize("pieces", [1, 2])
def test_a_term_of_weight_0_moves_nothing_and_one_taken_out_is_gone(pieces, tmp_path):
    found = {}
    for change in ("losses.pab.weight=0", "losses.pab=null"):
        config = configuration("daaf", f"train.accumulate={pieces}", change)
        model, batch = model_and_batch(config)
        torch.manual_seed(3)
        loss, terms = learner(config, model, tmp_path)(batch)
        found[change] = (loss, gradients(model), terms.keys())
    (loss, moved, watched), (other, same, left) = found.values()
    assert watched - left == {"pab"}
    assert torch.equal(loss, other)
    assert moved.keys() == same.keys()
    assert not any(name.startswith("pab") for name in moved)
    assert all(torch.equal(moved[name], same[name]) for name in same)
    with pytest.raises(ConfigError, match="losses has no term but those of weight 0, so there is nothing to minimize"):
        build_criterion(configuration("baseline", "losses.id.weight=0", "losses.triplet.weight=0"), model)


@pytest.mark.parametrize("change", ["", "losses.pab.weight=0", "losses.pab=null"])
def test_several_processes_wait_for_no_gradient_that_does_not_come(change):
    """On two processes a branch without a loss ended the training at its second step."""
    config = configuration("daaf", *filter(None, [change]))
    model, _ = model_and_batch(config)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    asking = {name for name, p in model.named_parameters() if p.requires_grad}
    leave_unreached(model, build_criterion_like(config, model), 64, 32)
    resting = asking - {name for name, p in model.named_parameters() if p.requires_grad}
    assert resting == ({name for name in asking if name.startswith("pab.")} if change else set())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["baseline", "apnet", "mudeep"])
def test_without_batch_statistics_pieces_change_nothing(name, tmp_path):
    """Batch-hard mining over the whole batch, in one pass and in four."""
    found = []
    for pieces in (1, 4):
        config = configuration(name, f"train.accumulate={pieces}")
        model, batch = model_and_batch(config)
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        if name == "mudeep":
            model.dropout = 0.0
        loss, _ = learner(config, model, tmp_path)(batch)
        found.append((loss, gradients(model)))
    (one, whole), (two, parts) = found
    torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-6)
    assert_close(whole, parts, 5e-6)


def test_cutting_the_loss_too_would_be_another_loss(tmp_path):
    """What the exact form is for: hard pairs lie in different pieces."""
    config = configuration("baseline", "train.accumulate=4")
    model, batch = model_and_batch(config)
    model.backbone.eval()
    criterion = build_criterion(config, model)
    loss, _ = learner(config, model, tmp_path)(batch)
    parts = []
    for piece in range(4):
        rows = slice(2 * piece, 2 * piece + 2)
        output = model(normalize(batch.images[rows]))
        parts.append(criterion(output, batch._replace(pids=batch.pids[rows]))[1]["triplet"])
    assert abs(torch.stack(parts).mean() - criterion(model(normalize(batch.images)), batch)[1]["triplet"]) > 0.1
    assert loss.isfinite()


def whole_in_shares(model: ReIDModel, images: torch.Tensor, shares: int) -> Output:
    """The twin of batch statistics over shares: a network for each, with the same weights, as devices have them."""
    devices = [model, *(copy.deepcopy(model) for _ in range(shares - 1))]
    for device in devices[1:]:
        for name, parameter in model.named_parameters():
            owner, _, last = name.rpartition(".")
            setattr(device.get_submodule(owner), last, parameter)
    return joined([device(part) for device, part in zip(devices, images.chunk(shares))])


@pytest.mark.parametrize("shares", [2, 4])
@pytest.mark.parametrize("name", SYSTEMS)
def test_statistics_over_shares_are_those_of_as_many_devices(name, shares):
    """Outputs, gradients, and the running statistics, which are the first device's; in float64, all digits."""
    config = configuration(name, f"train.bn_share={shares}", *(["model.dropout=0"] if name in DROPPING else []))
    plain, batch = model_and_batch(config)
    plain, images = plain.double(), normalize(batch.images).double()
    shared = copy.deepcopy(plain)
    share_batch_norm(shared, shares)
    assert shared.state_dict().keys() == plain.state_dict().keys()
    recompute_blocks(shared)
    shared.to(memory_format=torch.channels_last)
    results = []
    outputs = (whole_in_shares(plain, images, shares), shared(images.to(memory_format=torch.channels_last)))
    for model, output in zip((plain, shared), outputs):
        loss, _ = build_criterion_like(config, model)(output, batch)
        loss.backward()
        results.append((loss.detach(), output, gradients(model), dict(model.named_buffers())))
    (loss, output, grads, buffers), (loss2, output2, grads2, buffers2) = results
    torch.testing.assert_close(loss, loss2, rtol=1e-9, atol=0)
    torch.testing.assert_close(output.embedding, output2.embedding, rtol=1e-9, atol=1e-9)
    assert_close(grads, grads2, 1e-8)
    for key, value in buffers.items():
        torch.testing.assert_close(value, buffers2[key], rtol=1e-9, atol=1e-12)
    whole, _ = model_and_batch(config)
    assert (whole.double()(images).embedding - output.embedding).abs().max() > 1e-3  # the batch's own are others


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        (["train.bn_share=3"], "train.bn_share is 3, but the 4 identities of a batch do not make 3 equal shares"),
        (["train.bn_share=4", "data.images_per_id=1"], "at least two images; choose a divisor"),
        (["train.bn_share=3", "data.sampler=shuffle"], "but the 8 images of a batch do not make 3 equal shares"),
        (["train.bn_share=2", "train.sync_bn=true"], "train.sync_bn=true says otherwise"),
        (["train.bn_share=2", "train.accumulate=2"], "train.accumulate says otherwise"),
        (["train.bn_share=0"], "train.bn_share: got 0"),
    ],
)
def test_shares_that_do_not_divide_are_refused(overrides, wanted):
    with pytest.raises(ConfigError, match=wanted):
        configuration("baseline", *overrides)
    with pytest.raises(ConfigError, match=r"train.bn_share is 2, which 4 processes cannot divide among them"):
        own_shares(2, 4)
    assert [own_shares(shares, 2) for shares in (1, 2, 4)] == [1, 1, 2]


def test_scoring_on_any_number_of_processes_does_not_ask_for_shares(monkeypatch):
    """Four processes score what two devices trained; nothing is trained there."""
    asked = []
    monkeypatch.setattr("regard.runtime.fabric.own_shares", lambda shares, processes: asked.append(shares) or shares)
    Runtime.for_scoring(configuration("baseline", "train.bn_share=2"))
    assert asked == [1]


@pytest.mark.parametrize("pieces", [3, 8])
def test_pieces_that_do_not_divide_are_refused(pieces, tmp_path):
    config = configuration("baseline", f"train.accumulate={pieces}")
    with pytest.raises(ConfigError, match=f"train.accumulate is {pieces}, but a process has 8 images in a batch"):
        check_pieces(config, Runtime(config.train))


def saved_bytes(model: ReIDModel, images: torch.Tensor) -> tuple[int, Output]:
    """Bytes that a forward pass keeps for the backward pass, parameters and buffers aside."""
    own = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(images)
    return sum(kept.values()), output


@pytest.mark.parametrize("name", SYSTEMS)
def test_computing_blocks_again_changes_memory_alone(name, tmp_path):
    config = configuration(name)
    plain, batch = model_and_batch(config)
    lean = copy.deepcopy(plain)
    assert recompute_blocks(lean) >= 4
    assert lean.state_dict().keys() == plain.state_dict().keys()
    results, memory = [], []
    for model in (plain, lean):
        torch.manual_seed(5)
        kept, output = saved_bytes(model, normalize(batch.images))
        memory.append(kept)
        loss, _ = build_criterion_like(config, model)(output, batch)
        loss.backward()
        results.append((loss, gradients(model), dict(model.named_buffers()), torch.get_rng_state()))
    (loss, grads, buffers, state), (loss2, grads2, buffers2, state2) = results
    assert torch.equal(loss, loss2)
    assert torch.equal(state, state2)
    assert grads.keys() == grads2.keys()
    assert all(torch.equal(grads[key], grads2[key]) for key in grads)
    assert all(torch.equal(buffers[key], buffers2[key]) for key in buffers)
    print(f"{name}: {memory[0]} -> {memory[1]} bytes")
    assert memory[1] < 0.7 * memory[0]


class NoWaiting(TorchDispatchMode):
    """Fails where a value would have to be fetched from the device."""

    FORBIDDEN = ("_local_scalar_dense", "item", "nonzero", "masked_select", "is_nonzero", "equal", "_unique2")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        assert name not in self.FORBIDDEN, f"aten::{name} waits for the device"
        return function(*args, **(kwargs or {}))


def distinct_recipes() -> list[str]:
    """A recipe for each network and its losses: most recipes differ from another one in data or schedule alone."""
    configs = {name: read_recipe(name).config() for name in list_recipes()}
    keys = {name: repr((config.model, config.losses, config.data.labels)) for name, config in configs.items()}
    return sorted({key: name for name, key in keys.items()}.values())


@pytest.mark.parametrize("recipe", distinct_recipes())
def test_no_loss_waits_for_the_device(recipe, tmp_path):
    system = read_recipe(recipe).config().model.name
    height, width = SIZES.get(system, (64, 32))
    size = [f"data.height={height}", f"data.width={width}"]
    if "height" in read_recipe(recipe).config().model.options:
        size += [f"model.height={height}", f"model.width={width}"]
    if "group_width" in read_recipe(recipe).config().model.options:
        size.append("model.group_width=null")  # of a wider network
    if (read_recipe(recipe).config().to_dict()["losses"].get("triplet") or {}).get("group"):
        size += ["losses.triplet.group=2", "data.images_per_id=2"]  # pictures of a person in the batch below
    config = read_recipe(recipe).config([f"model.backbone={tiny(system)}", "model.pretrained=false", *size])
    model, batch = model_and_batch(config)
    criterion = build_criterion(config, model)
    images = normalize(batch.images)  # makes its constants once
    output = model(images)
    with NoWaiting():
        loss, _ = criterion(output, batch)
        loss.backward()
        again = model(normalize(batch.images))
    assert again.embedding.shape == output.embedding.shape


class Broken:
    """A compiler that gives up, once the network has already begun to run."""

    def __init__(self, graph, inputs):
        raise RuntimeError("no such instruction\nin line 7")


def test_a_network_that_cannot_be_compiled_runs_as_it_is(tmp_path, tiny_overrides, monkeypatch, capsys):
    config = read_recipe("apnet_crowd").config(tiny_overrides)
    start_run(config, tmp_path / "eager", quiet=True)
    capsys.readouterr()
    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, **_: compiler(model, backend=Broken))
    torch._dynamo.reset()
    start_run(load_config(config.to_dict(), ["train.compile=true"]), tmp_path / "broken", quiet=True)
    errors = [line for line in capsys.readouterr().err.splitlines() if "compile" in line]
    assert len(errors) == 1
    assert "could not be compiled, so it runs as it is (BackendCompilerFailed: " in errors[0]
    assert losses(tmp_path / "broken") == losses(tmp_path / "eager")


def losses(folder: Path) -> list[float]:
    return [record["loss"] for record in read_history(folder) if record["event"] == "step"]


@pytest.mark.parametrize(
    "extra", [[], ["train.accumulate=2"], ["train.checkpointing=true"], ["train.bn_share=2", "train.ema=0.9"]]
)
def test_a_compiled_run_trains_as_the_other(tmp_path, tiny_overrides, monkeypatch, extra):
    """Dynamo and autograd's compiler without the code generator, which takes minutes."""
    config = read_recipe("apnet_crowd").config([*tiny_overrides, *extra])
    start_run(config, tmp_path / "eager", quiet=True)
    compiler, called = torch.compile, []
    monkeypatch.setattr(torch, "compile", lambda model, **_: called.append(1) or compiler(model, backend="aot_eager"))
    torch._dynamo.reset()
    compiled = load_config(config.to_dict(), ["train.compile=true"])
    start_run(compiled, tmp_path / "compiled", quiet=True)
    assert called
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "eager"), rel=1e-5)
    assert regard.load(tmp_path / "compiled").embed(torch.rand(2, 3, 48, 32)).shape == (2, 96)


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_is_one_graph(name):
    config = configuration(name)
    model, batch = model_and_batch(config)
    torch._dynamo.reset()
    explained = torch._dynamo.explain(model)(normalize(batch.images))
    assert (explained.graph_count, explained.graph_break_count) == (1, 0)


def test_automatic_compiling_is_for_cuda():
    from regard.runtime.fabric import wants_compiling

    assert [wants_compiling(setting, CPU) for setting in (True, False, "auto")] == [True, False, False]
    assert wants_compiling("auto", torch.device("cuda"))
    assert TrainConfig().compile is False


def test_batches_come_on_the_device_in_order():
    config = configuration("baseline")
    runtime = Runtime(config.train)
    _, batch = model_and_batch(config)
    numbered = [batch._replace(pids=batch.pids + number) for number in range(3)]
    assert [int(found.pids[0]) for found in runtime.on_device(iter(numbered))] == [0, 1, 2]


def test_cuda_copies_on_a_stream_of_its_own(monkeypatch):
    """Streams that only take notes stand in for those of a GPU."""
    runtime = Runtime(configuration("baseline").train)
    _, batch = model_and_batch(configuration("daaf"))
    runtime.device = torch.device("cuda")
    notes = []

    class Stream:
        def __init__(self, device=None):
            notes.append("made")

        def wait_stream(self, other):
            notes.append("computing waits for the copy")

    @contextmanager
    def stream(copying):
        notes.append("copy begins")
        yield
        notes.append("copy ends")

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream())
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: notes.append("kept"))
    found = list(runtime.on_device([batch]))
    assert torch.equal(found[0].images, batch.images)
    tensors = 3 + 4  # images, pids and cameras; two targets of maps and where they are valid
    assert notes == ["made", "copy begins", "copy ends", "made", "computing waits for the copy", *["kept"] * tensors]


def test_a_profile_says_where_the_time_goes(tmp_path, tiny_overrides):
    config = read_recipe("baseline_crowd").config([*tiny_overrides, "train.profile=4"])
    start_run(config, tmp_path / "run", quiet=True)
    lines = (tmp_path / "run" / "profile.txt").read_text().splitlines()
    assert lines[0] == "mean of 4 steps on cpu"
    assert lines[-1] == "threads: 1, not chosen by measuring"  # conftest.py has said so
    parts = [line.split() for line in lines[1:-1]]
    assert [part[0] for part in parts] == ["load", "forward", "losses", "backward", "optimizer", "log", "step"]
    shares = [float(part[3]) for part in parts]
    assert sum(shares[:-1]) == pytest.approx(shares[-1], abs=0.5)
    assert all(float(part[1]) > 0 for part in parts)
