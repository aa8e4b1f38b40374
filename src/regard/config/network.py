"""What a run trains, and for what: the ``model`` section and the terms of ``losses``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_serializer,
)  # fmt: skip

from regard.config.faults import check_options
from regard.config.values import OpenSection, Positive, says, weights_place
from regard.registry import LOSSES, MODELS

__all__ = ["LossConfig", "ModelConfig"]


class ModelConfig(OpenSection):
    """The system and its options (``regard models NAME`` lists them)."""

    name: str = says("baseline", "registered model")
    num_ids: Positive | None = says(
        None, "identities that the classifiers tell apart; None: as many as there are to train on"
    )
    pretrained: bool | Annotated[str, AfterValidator(weights_place)] = says(
        False,
        "weights to start from: true fetches the backbone's, package takes an installed package's, a file holds the "
        "backbone's, the folder of a run or of a model holds the whole network's",
    )

    def _faults(self) -> Iterable[str]:
        check_options(MODELS, self.name, self.options, ("num_ids", "pretrained"))
        return ()


def _of_the_loss(value: Any, check: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    """A value of the term, checked; as it is where it is an option of the loss, whose signature checks it."""
    loss = str(info.data.get("loss"))
    return value if loss in LOSSES and info.field_name in LOSSES.options(loss) else check(value)


Shared = (WrapValidator(_of_the_loss), PlainSerializer(lambda value: value, return_type=Any))


class LossConfig(OpenSection):
    """One term of the criterion; further keys are options of the loss.

    ``reduction`` and ``target`` are the loss's where its constructor has options of these names.
    """

    loss: str = Field(description="registered loss")
    on: str = Field(
        description="outputs it applies to: features.NAME, logits.NAME, maps.NAME (* for all), or embedding"
    )
    weight: float = says(1.0, "factor in the total; 0: computed and logged, but moves nothing")
    reduction: Annotated[Literal["mean", "sum"], *Shared] = says("mean", "over the outputs matched")
    gather: bool = says(False, "compare across ranks")
    target: Annotated[str, *Shared] = says("pids", "pids, or extra.NAME")

    @property
    def options(self) -> dict[str, Any]:
        """The keyword options of the loss, as the recipe has them."""
        return {key: getattr(self, key) for key in self._shared() if key in self.model_fields_set} | super().options

    def _shared(self) -> list[str]:
        return [key for key in ("reduction", "target") if key in LOSSES.options(self.loss)]

    @model_serializer(mode="wrap")
    def _as_said(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is the loss's own and was not given, so that it keeps the loss's default."""
        unsaid = {key for key in self._shared() if key not in self.model_fields_set}
        return {key: value for key, value in dump(self).items() if key not in unsaid}

    def unsaid(self) -> list[str]:
        """The term's own settings that are as they are without being given."""
        plain = {key: field for key, field in type(self).model_fields.items() if not field.is_required()}
        return [key for key, field in plain.items() if key not in self.options and getattr(self, key) == field.default]

    def _faults(self) -> Iterator[str]:
        for key, option in LOSSES.options(self.loss).items():
            if key in ("loss", "on", "weight", "gather") and option.default is option.empty:
                yield f"the constructor of {self.loss} wants {key!r}, which is the term's; rename that option"
        check_options(LOSSES, self.loss, self.options, ("num_ids", "embed_dim"))
