"""List the systems, or show one with its options, or what a folder of a model holds.

  regard models          every system: parameters, cost, descriptor, paper
  regard models apnet    its options, what they mean and what they are by default
  regard models regard-s    the network that comes with regard: what it was trained on, and how it did
  regard models runs/apnet    what was saved there: input, options, where its weights came from, and their licence

Cost is that of one image at the size of the system's recipe for Market-1501 and ResNet-50, after everything that only
training needs is stripped; a multiply-add counts as two. "Published" is what the authors' network takes, where ours
gives the same answer for less.
"""

from __future__ import annotations

import argparse
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regard.models.ready import about_ready, ready_names
from regard.registry import MODELS
from regard.storage import plain_text
from regard.wording import count

if TYPE_CHECKING:
    from regard.config import Config
    from regard.models import ReIDModel
    from regard.models.cost import Cost


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("name", nargs="?", help="system to show, or the folder of a model or of a run")


def run(arguments: argparse.Namespace) -> None:
    """Print the list, or one system."""
    ready = arguments.name in ready_names()
    if ready:
        print(about_ready(arguments.name))
    if ready or (
        arguments.name and arguments.name not in MODELS and (Path(arguments.name).exists() or "/" in arguments.name)
    ):
        print("\n".join(described(Path(arguments.name))))
        return
    if arguments.name:
        MODELS.get(arguments.name)
        _show(arguments.name)
        return
    print(
        f"{'system':<10} {'parameters':>12} {'in training':>13} {'descriptor':>11} {'GFLOPs':>8} {'published':>10}  "
        f"{'size':<9} paper"
    )
    for name in MODELS:
        if wanted := _without_default(name):
            print(f"{name:<10} wants {', '.join(wanted)}  {_title(name)}")
            continue
        model, config = _as_published(name)
        cost = _cost(model, config)
        size = f"{config.data.height} x {config.data.width}"
        published = f"{cost.published_gflops:.3f}" if _differs(cost) else ""
        print(
            f"{name:<10} {cost.inference_parameters:>12,} {cost.parameters:>13,} {model.embed_dim:>11,} "
            f"{cost.gflops:>8.3f} {published:>10}  {size:<9} {_title(name)}"
        )
    print("\n'regard models NAME' shows options and paper.")


def described(folder: Path) -> list[str]:
    """What a model folder, or that of a run, says of its model; nothing of it is loaded, and no plug-in imported.

    Raises:
        CheckpointError: there is no model, or its description is damaged.
    """
    from regard.models.folder import (
        CALIBRATION,
        CONFIG,
        WEIGHTS,
        input_in,
        model_folder,
        read_description,
    )
    from regard.models.saved import origin_in

    folder = model_folder(folder)
    config, source = read_description(folder), str(folder / CONFIG)
    seen, origin = input_in(config, source), origin_in(config, source)
    options = config["options"] if isinstance(config.get("options"), dict) else {}
    ids, noun, size = config.get("num_ids"), "identity", (folder / WEIGHTS).stat().st_size / 1e6
    told = {
        "input": str(seen) if seen else "not said",
        "weights": f"{size:,.1f} MB" + (", stripped to what embeds" if config.get("stripped") else ""),
        "from": f"{origin['source']}, licence: {origin['licence']}" if origin else "random weights, or not said",
        "calibration": "calibration.json" if (folder / CALIBRATION).is_file() else "none",
        "plug-in": config.get("plugin"),
        "written by": f"regard {config.get('regard', 'of an unknown version')}",
    }
    return [
        plain_text(f"{folder}: {config.get('model')}{f' of {count(ids, noun)}' if isinstance(ids, int) else ''}"),
        *(plain_text(f"  {name:<11}  {' '.join(str(text).split())}") for name, text in told.items() if text),
        *(plain_text(f"  {name} = {value!r}") for name, value in options.items()),
    ]


def _show(name: str) -> None:
    print(_about(name))
    if not _without_default(name):
        _show_cost(name)
    print("\nOptions (regard train NAME model.OPTION=VALUE):")
    meanings = option_meanings(MODELS.get(name))
    for option, parameter in MODELS.options(name).items():
        if option != "num_ids":
            default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
            print(f"  {option}{default}\n      {meanings.get(option, '')}")


def _show_cost(name: str) -> None:
    from regard.run_folder.origin import recipe_for

    model, config = _as_published(name)
    cost, recipe = _cost(model, config), recipe_for(name).name
    said = "As published" if recipe.startswith(f"{name}_") else f"As {recipe} has it"
    backbone = f"{config.model.options['backbone']}, " if "backbone" in config.model.options else ""
    print(
        f"\n{said} ({config.data.height} x {config.data.width}, {backbone}"
        f"{count(model.num_ids, 'identity')}): {cost.inference_parameters:,} parameters to embed an image "
        f"({cost.parameters:,} in training), {cost.gflops:.3f} GFLOPs"
        f"{f' ({cost.published_gflops:.3f} as the authors compute it)' if _differs(cost) else ''}, "
        f"descriptor of {model.embed_dim:,}"
    )


def _without_default(name: str) -> list[str]:
    """Options of a system that have to be given."""
    return [option for option, one in MODELS.options(name).items() if option != "num_ids" and one.default is one.empty]


def option_meanings(entry: Any) -> dict[str, str]:
    """What the ``Args`` section of a docstring says of each argument, each on one line."""
    text = inspect.getdoc(entry) or ""
    found = re.search(r"^Args:\n((?:    .*\n?|\n)+)", text, re.M)
    if not found:
        return {}
    items = re.findall(r"^    (\w[\w, ]*): (.*(?:\n        .*)*)", found.group(1), re.M)
    return {name: " ".join(meaning.split()) for names, meaning in items for name in names.split(", ")}


def _as_published(name: str) -> tuple[ReIDModel, Config]:
    """The system as its recipe for Market-1501 builds it, with weights that mean nothing."""
    from regard.models import create_model
    from regard.models.cost import constant_weights
    from regard.run_folder.origin import BASE, resolve

    config = resolve(name, [f"data.name={BASE}"]).config
    with constant_weights():
        return create_model(name, 751, **config.model.options), config


def _cost(model: ReIDModel, config: Config) -> Cost:
    from regard.models.cost import inference_cost

    return inference_cost(model, config.data.height, config.data.width)


def _differs(cost: Cost) -> bool:
    """Whether the published GFLOPs are others than ours, as printed."""
    return f"{cost.gflops:.3f}" != f"{cost.published_gflops:.3f}"


def _title(name: str) -> str:
    return _about(name).partition("\n")[0]


def _about(name: str) -> str:
    """The docstring of the file that a system is in; where that has none, that of its class, without the options."""
    entry = MODELS.get(name)
    own = inspect.cleandoc(entry.__doc__ or "").partition("\nArgs:\n")[0].rstrip()
    return inspect.getdoc(inspect.getmodule(entry)) or own or name
