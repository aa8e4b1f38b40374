"""What every model promises: a descriptor, a folder to be saved in, and what can be looked at in it.

Shapes: B images in a batch, H x W pixels, D descriptor length; C channels and h x w positions of a map, J joints.

Every model answers four questions about itself: ``attention_on(images)``, ``map_layers()``, ``heat_layers()`` and
``head_layers()``. Here are the words they answer in, and the answers of a network that says nothing of itself: those
are found by running it once. A transformer also shows, while ``token_attention()`` is entered, what tokens attend to.
"""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from regard.data.image import Picture, list_pictures
from regard.data.transforms import Color, network_input
from regard.errors import ConfigError, DataError, RegardWarning, is_whole
from regard.input_spec import known_input
from regard.models import hub
from regard.models.backbone import Backbone, tap
from regard.models.checked import (
    Attention,
    HeadLayer,
    Over,
    Rows,
    TokenAttention,
    asked,
    check_embedding,
    check_images,
    check_output,
    refuse,
    weight_of,
)  # fmt: skip
from regard.models.importers.translation import ImportReport
from regard.models.saved import Described, save
from regard.precision import Products
from regard.storage import as_path
from regard.structures import Output

__all__ = [
    "GATE", "Attention", "HeadLayer", "Over", "ReIDModel", "Rows", "TokenAttention", "evaluating", "gate_attention",
    "watched",
]  # fmt: skip

MOST_IDS = 10**9
"""Identities that a network may be asked to tell apart."""

NOT_OPTIONS = frozenset({"num_ids", "pretrained"})
"""Constructor arguments that are not part of the architecture's description: the size of the label set is recorded
beside the options, and where the first weights came from no longer matters once there are others."""

GATE = "gate of each channel"

STAGE = re.compile(r"^backbone\.stages\.(\d+)$")

PROBE = (256, 128)
"""Height and width of the picture for a network that does not know what it sees."""

FLAT = 1e-3
"""Spread over positions, as a share of the mean, below which a gate is the same at all of them."""


def gate_attention(gate: Tensor, meaning: str = GATE) -> Attention:
    """A gate of a map (B, C, h, w), told by the axes it has: what is 1 is the same for all.

    Args:
        gate: what the map is multiplied by.
        meaning: what it is where it is a number per channel.
    """
    gate = gate[:, None] if gate.ndim == 3 else gate[..., None, None] if gate.ndim == 2 else gate
    if gate.ndim != 4:
        raise ConfigError(f"a map of Output.maps is {tuple(gate.shape)}, wanted (B, C, h, w); see attention_on()")
    channels, height, width = gate.shape[1:]
    if width > 1 and channels == 1:
        return Attention.of(gate[:, 0], "positions", "weight of each position")
    if width > 1:
        places = gate.mean(1)
        if bool((places.std((1, 2)) > FLAT * places.mean((1, 2))).any()):
            return Attention.of(places, "positions", "weight of each position, mean over the channels")
        return Attention.of(gate.mean((2, 3)), "channels", "gate of each channel, the same at all positions")
    if height > 1:
        return Attention.of(gate[..., 0], "strips", "gate of each channel in each horizontal strip")
    return Attention.of(gate[:, :, 0, 0], "channels", meaning)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode while inside; every submodule gets its own mode back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def watched(layers: Mapping[Any, nn.Module], *, copied: bool = True) -> Iterator[dict[Any, Tensor]]:
    """Collect the maps that layers return while inside: key -> (B, C, h, w) of the last call, in order of the calls.

    Args:
        layers: key -> the layer. Of a tuple that it returns, the first is the map; what is no map is left out.
        copied: keep what was returned, even where what follows works in place, and no graph of it.
    """
    seen: dict[Any, Tensor] = {}

    def keep(key: Any) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) and output else output
            if isinstance(first, Tensor):
                seen.pop(key, None)
                seen[key] = first.detach().clone() if copied else first

        return hook

    handles = [layer.register_forward_hook(keep(key)) for key, layer in layers.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


class ReIDModel(Described):
    """A person re-identification network.

    A subclass is registered with ``@MODELS.register("name")``, takes ``num_ids`` and its options by name (and, where
    its backbone can start from weights, ``pretrained``, False unless told), and implements :meth:`forward`. It lists
    in ``training_parts`` what inference can do without, and says in :meth:`attention_on`, :meth:`map_layers`,
    :meth:`heat_layers` and :meth:`head_layers` what of it can be looked at, where that differs from what stands here.

    Args:
        num_ids: identities to classify in training.
        embed_dim: D.

    Attributes:
        options: the constructor's options by name, as given or by default; enough to build the same network again.
        stripped: whether :meth:`strip` has been called.
        calibration: how similarity reads as probability, where that has been measured: the content of
            ``calibration.json``, which :class:`regard.calibration.similarity.Calibration` reads.
        input: what the network sees; a recipe, an importer or whoever has the model in hand sets it. None where it was
            loaded from a folder of before, which does not say.
        imported: name of the released network whose checkpoint the weights are; None for weights trained here.
        origin: where the weights came from that training here began with, or that are a released network's: ``source``
            and its ``licence``, both text; None for weights that were trained here from random ones.
        import_report: what became of the tensors, where the model was made by ``import_released``.
        start_report: what was taken over, where the model started from another's weights.

    Raises:
        ConfigError: ``num_ids`` or ``embed_dim`` is not a positive number.
    """

    sees_cameras: bool = False
    """Whether its ``forward`` takes the cameras of pictures, (B,) int64, beside them. Training, evaluation and
    :meth:`embed` tell it; everything else embeds pictures as of no camera it knows, and says so."""

    published_whole: ClassVar[bool] = False
    """Whether the authors' network runs its ``training_parts`` at test too, so that its published cost holds them."""

    cost_known: ClassVar[bool] = True
    """Whether :func:`regard.models.cost.inference_cost` can count what a picture costs, by the shapes alone."""

    import_report: ImportReport | None = None
    start_report: str | None = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Record the options before the constructor runs (copying and unpickling come here too, without any)."""
        self = super().__new__(cls)
        given = inspect.signature(cls.__init__).bind_partial(self, *args, **kwargs)
        given.apply_defaults()
        given.arguments.pop("self")
        object.__setattr__(self, "options", {k: v for k, v in given.arguments.items() if k not in NOT_OPTIONS})
        return self

    def __init__(self, num_ids: int, embed_dim: int):
        super().__init__()
        if not is_whole(num_ids) or not 1 <= num_ids <= MOST_IDS:
            raise ConfigError(f"num_ids is {num_ids!r}, wanted 1 to {MOST_IDS:,} identities; give the training set's")
        if type(embed_dim) is bool or not hasattr(embed_dim, "__index__") or embed_dim < 1:
            raise ConfigError(f"embed_dim is {embed_dim!r}, wanted the length of the embedding, 1 or more")
        self.num_ids = num_ids
        self.embed_dim = embed_dim
        self.stripped = False

    def __call__(self, images: Tensor, *told: Tensor) -> Output:
        """What :meth:`forward` returns, checked.

        Raises:
            ConfigError: that is no :class:`Output` of these images.
        """
        output = super().__call__(images, *told)
        if not torch.compiler.is_compiling():
            check_output(self, output, len(images))
        return output

    def forward(self, images: Tensor) -> Output:
        """Everything the network has to say about images (B, 3, H, W), in training and in evaluation alike."""
        refuse(self, "forward", "is not there, wanted a forward(images) that returns an Output")

    def in_full(self, images: Tensor) -> Output:
        """The answer of :meth:`forward` by the products that the paper writes, where a cheaper exact form is used.

        For looking at, and for counting what the published network costs.
        """
        return self(images)

    def embed(self, images: Tensor, cameras: Tensor | None = None) -> Tensor:
        """Descriptors of normalized images: (B, 3, H, W) -> (B, D) float32, before any L2 normalization.

        Always in evaluation mode and without gradient; every submodule's mode is restored.

        Args:
            images: B.
            cameras: (B,) int64, of a network that :attr:`sees_cameras`; others do without.

        Raises:
            ConfigError: the images are something else.
        """
        check_images(images)
        told = (cameras,) if self.sees_cameras and cameras is not None else ()
        with evaluating(self), torch.no_grad():
            found = self(images, *told).embedding if told else self._descriptor(images)
            return check_embedding(self, found, len(images), "_descriptor").float()

    def warn_of_cameras(self, what: str) -> None:
        """Warn that pictures are embedded as of no known camera, where the network asks for cameras.

        Args:
            what: does not tell them, as "a gallery".
        """
        if self.sees_cameras:
            told = f"the network has embeddings of cameras, and {what} tells it none: pictures are embedded without"
            advice = "train with model.cameras=0 for cameras that training has not seen"
            warnings.warn(RegardWarning(f"{told}, unlike by regard eval; {advice}"), stacklevel=2)

    def embed_views(self, views: Sequence[Tensor], cameras: Tensor | None = None, *, flip: bool) -> Tensor:
        """Return the mean of the descriptors of several views of the same pictures.

        Args:
            views: normalized, (B, 3, H, W) each.
            cameras: as for :meth:`embed`.
            flip: every view counts mirrored too.

        Returns:
            (B, D) float32, before any L2 normalization.
        """
        mirrored = [view.flip(3) for view in views] if flip else []
        told = (cameras,) if self.sees_cameras and cameras is not None else ()
        found = [check_embedding(self, self.embed(view, *told), len(view), "embed") for view in (*views, *mirrored)]
        return torch.stack(found).mean(0)

    def embed_pictures(self, pictures: Iterable[Picture], *, batch_size: int = 32, color: Color = "rgb") -> np.ndarray:
        """Return the descriptors of pictures, as ``regard embed`` stores them.

        Read, resized, normalized and mirrored as :attr:`input` says, computed in float32 where the model is.

        Args:
            pictures: paths, Pillow images of any mode (turned upright by their EXIF orientation, as files are), and
                (h, w, 3) uint8 arrays of any size, also mixed.
            batch_size: pictures at a time.
            color: order of the channels of arrays, "rgb" or "bgr".

        Returns:
            (N, D) float32, each row of length 1.

        Raises:
            ConfigError: the model does not say what it sees, or the batch size is below 1.
            DataError: a picture cannot be read, is something else, or its descriptor is zero or not finite.

        >>> model = create_model("baseline", num_ids=10, backbone="test_resnet.r160_in1k")
        >>> model.input = InputSpec(64, 32)
        >>> model.embed_pictures([np.zeros((90, 40, 3), np.uint8)]).shape
        (1, 96)
        """
        seen, given = known_input(self.input, whose="the model"), list_pictures(pictures)
        if type(batch_size) is not int or batch_size < 1:
            raise ConfigError(f"batch_size is {batch_size!r}, wanted 1 or more pictures at a time")
        weight = weight_of(self)
        rows = [np.empty((0, self.embed_dim), np.float32)]
        for start in range(0, len(given), batch_size):
            images = network_input(given[start : start + batch_size], seen, weight.device, color).to(weight.dtype)
            with Products("fp32", weight.device):
                rows.append(self.embed_views([images], flip=seen.flip).cpu().numpy())
        vectors = np.concatenate(rows)
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
        if not (np.isfinite(lengths).all() and lengths.all()):
            raise DataError("got a descriptor that is zero or not finite; check the picture and the model")
        return (vectors / lengths).astype(np.float32)

    def _descriptor(self, images: Tensor) -> Tensor:
        """The embedding alone, (B, D); for systems that can have it for less than a whole :meth:`forward`."""
        return self(images).embedding

    def attention_on(self, images: Tensor) -> dict[str, Attention]:
        """What the network says about what matters in pictures (B, 3, H, W), by name, in the order it is computed.

        Called in evaluation mode and without gradient. Here these are the gates in :attr:`Output.maps`; a network
        whose maps are something else says here what they are.
        """
        return {name: gate_attention(gate) for name, gate in self(images).maps.items()}

    @contextmanager
    def token_attention(self) -> Iterator[list[TokenAttention]]:
        """Record what the layers of the backbone attend to, where it is a transformer, in passes made while inside.

        Yields:
            A list that a pass of the network fills, a layer at a time in the order in which they act; it stays empty
            where nothing has attention between tokens. Each layer's ``weights`` are those it computes with, so that
            gradients with respect to them can be taken.

        >>> model = create_model("baseline", num_ids=10, backbone="test_vit.r160_in1k")
        >>> with model.token_attention() as layers:
        ...     embedding = model.embed(torch.zeros(2, 3, 128, 64))
        >>> len(layers), layers[0].grid, tuple(layers[0].spread(layers[0].weights).shape)
        (6, (8, 4), (2, 2, 33, 33))
        """
        found: list[TokenAttention] = []
        stages = [stage for module in self.modules() if isinstance(module, Backbone) for stage in module.stages]
        with ExitStack() as stack:
            for stage in stages:
                if recording := getattr(stage, "recording", None):
                    stack.enter_context(recording(found.append))
            yield found

    def map_layers(self) -> Mapping[str, nn.Module | str]:
        """The layers whose maps can be looked at, by name, in order; the last one is the map that is pooled.

        A map that no layer returns is told by its name in the ``maps`` of :meth:`in_full`. What attention changes is
        called ``NAME.before`` and ``NAME.after``. Here they are found by running the network once.
        """
        return _find_maps(self)

    def heat_layers(self) -> dict[str, dict[str, nn.Module]]:
        """The layers that heat is drawn at: place in the network -> name -> layer, both in the order they act.

        All of them are on the way to the embedding; attention that only training needs is none. The last place is
        looked at unless another is asked for. A network with one place alone leaves its name empty.
        """
        return {"": {"last stage": asked(self, "head_layers")["global"].layers[-1]}}

    def head_layers(self) -> dict[str, HeadLayer]:
        """What each head looks at, by its name in ``Output.features`` and ``Output.logits``.

        ``"global"``, which is always there, stands for the embedding and for every head that is not named.
        """
        layers = [layer for layer in asked(self, "map_layers").values() if isinstance(layer, nn.Module)]
        if not layers:
            refuse(self, "map_layers", "names no layer but only maps, so say in head_layers() what is pooled")
        return {"global": HeadLayer((layers[-1],))}

    def strip(self) -> Self:
        """Remove, in place, what only training needs; descriptors stay the same to the bit, logits become empty."""
        for name in self.dispensable_parts(self.options):
            owner, _, part = name.rpartition(".")
            setattr(self.get_submodule(owner), part, None)
        self.stripped = True
        return self

    def save(self, folder: str | PathLike[str]) -> None:
        """Write ``model.safetensors`` and ``config.json`` into ``folder``, each whole or not at all.

        Raises:
            StorageError: the disk refused; files from an earlier save are intact.
        """
        save(self, as_path("folder", folder, "a folder to write"))

    def push_to_hub(
        self,
        repo_id: str,
        *,
        run: hub.Documented | None = None,
        license: str | None = None,
        private: bool | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        commit_message: str | None = None,
        create_pr: bool = False,
        overwrite_card: bool = False,
        endpoint: str | None = None,
    ) -> str:
        """Upload the model to a hub, with a card that says what is known of it; see :func:`regard.from_hub`.

        Sent are ``model.safetensors``, ``config.json``, ``calibration.json`` where there is one, and ``README.md``: in
        one commit, and nothing else. A card that is there is replaced where regard wrote it and nobody has changed it.

        Args:
            repo_id: ``OWNER/NAME``, which is made where it is not there.
            run: the opened run that the model is of: its scores with intervals, data sets and recipe go into the card.
            license: of the weights, as hubs abbreviate it (``"apache-2.0"``); None: that of a released network that was
                imported, else "unknown".
            private: of a repository that is made; None takes the owner's default.
            revision: branch to write to, which is made where it is not there.
            token: to write with; None takes the one that is logged in, or ``HF_TOKEN``.
            commit_message: what the commit says.
            create_pr: propose the commit instead of making it.
            overwrite_card: replace a card that was written or changed by hand, too.
            endpoint: address of another hub; None takes ``HF_ENDPOINT``.

        Returns:
            The address of the commit.

        Raises:
            ConfigError: the name is none, there is no token, or the run is of other weights.
            StorageError: the hub cannot be reached, or refused.
        """
        if run is not None and not isinstance(run, hub.Documented):
            raise ConfigError(f"run is {' '.join(repr(run).split())}, wanted an opened one: regard.open_run(FOLDER)")
        facts = run.facts(self) if run is not None else None
        return hub.push(
            self, repo_id, facts, license=license, private=private, revision=revision, token=token,
            commit_message=commit_message, create_pr=create_pr, overwrite_card=overwrite_card, endpoint=endpoint,
        )  # fmt: skip


def _find_maps(model: ReIDModel) -> dict[str, nn.Module]:
    """The outermost parts of a network that return a map on the way to its embedding, by path, in order of the calls.

    Of ``backbone``, a :class:`~regard.models.backbone.Backbone`, these are the stages, called taps. The last one is the
    last that all of the way leads through, where there is one: a gate beside it is left out. For this the network is
    run on a picture of its own size.

    Raises:
        ConfigError: there is none.
    """
    modules = {path: one for path, one in model.named_modules() if path and not isinstance(one, Backbone)}
    with evaluating(model), torch.inference_mode(False), torch.enable_grad():
        image = weight_of(model).new_zeros(1, 3, *(model.input.size if model.input else PROBE))
        with watched(modules, copied=False) as seen:
            answer = model(image.requires_grad_()).embedding.sum()
        maps = {path: x for path, x in seen.items() if x.ndim == 4 and x.shape[2] * x.shape[3] > 1 and x.requires_grad}
        known = maps and answer.requires_grad
        moved = torch.autograd.grad(answer, list(maps.values()), allow_unused=True) if known else ()
        found = [path for path, gradient in zip(maps, moved) if gradient is not None]
        found = [path for path in found if not any(path.startswith(f"{outer}.") for outer in found)]
        ends = (end for end in range(len(found), 0, -1) if _all_through(model, modules[found[end - 1]], image))
        found = found[: next(ends, len(found))]
    if not found:
        raise ConfigError(
            f"no part of {type(model).__name__} returns a (B, C, h, w) map on the way to the embedding, so there is "
            "none to look at; name those that do in its map_layers()"
        )
    return {STAGE.sub(lambda match: tap(int(match[1])), path): modules[path] for path in found}


def _all_through(model: ReIDModel, layer: nn.Module, image: Tensor) -> bool:
    """Return whether the embedding of an image depends on it by what a layer returns alone."""

    def cut(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        return (output[0].detach(), *output[1:]) if isinstance(output, tuple) else output.detach()

    handle = layer.register_forward_hook(cut)
    try:
        answer = model(image).embedding.sum()
    finally:
        handle.remove()
    return not answer.requires_grad or torch.autograd.grad(answer, image, allow_unused=True)[0] is None
