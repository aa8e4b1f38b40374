"""What ``regard eval`` takes to measure how a model holds on worse pictures, and the measuring.

Corruptions, lower resolution and occlusion share one run and one output.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from regard.cli.arguments import SEEDS, between, output_file

HEIGHTS = (96, 64, 48, 32, 24, 16)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)


def add_robustness_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    group = parser.add_argument_group("worse pictures", "each at several levels; docs/robustness.md says more")
    group.add_argument("--corruptions", action="store_true", help="noise, blur, weather, digital, occlusion")
    group.add_argument(
        "--kinds", nargs="+", metavar="KIND", default=[], help="of corruptions, or families (default: all 21)"
    )
    group.add_argument(
        "--severities", nargs="+", type=int, metavar="N", default=[1, 2, 3, 4, 5], help="1 to 5 (default: all)"
    )
    group.add_argument(
        "--mixed",
        type=between(1, 1000),
        metavar="N",
        default=1,
        help="draw kind and severity per picture, N times (default: 1)",
    )
    group.add_argument(
        "--resolution", nargs="*", type=int, metavar="PX", help="shrink to heights (default: 96 down to 16 pixels)"
    )
    group.add_argument("--occlusion", nargs="*", type=float, metavar="SHARE", help="cover shares (default: 0.1 to 0.6)")
    group.add_argument(
        "--worse", nargs="+", choices=("query", "gallery", "both"), default=["both"], help="what (default: both)"
    )
    group.add_argument("--images", type=between(1, 10**6), metavar="N", help="only random people with about N pictures")
    group.add_argument("--seed", type=between(*SEEDS), default=0, help="of all draws (default: 0)")
    group.add_argument(
        "--published-lengths", action="store_true", help="lengths in pixels as published, not scaled to the crop"
    )
    group.add_argument("--png", type=output_file, metavar="FILE", help="draw what was found")


def wants_robustness(arguments: argparse.Namespace) -> bool:
    """Whether worse pictures were asked for."""
    sweeps = arguments.resolution is not None or arguments.occlusion is not None
    return bool(sweeps or arguments.corruptions or arguments.kinds or arguments.png)


def run_robustness(arguments: argparse.Namespace, changes: dict[str, Any]) -> None:
    """Measure, print, and write what was asked for.

    Args:
        arguments: of ``regard eval``.
        changes: settings of the ``eval`` section that the arguments change.

    Raises:
        ConfigError: several data sets, or options of ``regard eval`` that do not go with worse pictures.
    """
    from regard.cli.closing import close_with
    from regard.cli.search_verb import parse_size
    from regard.data.corruptions import FAMILIES
    from regard.errors import ConfigError
    from regard.evaluation.robustness.measure import Plan, robustness_of
    from regard.storage import write_atomic

    others = ("features", "tracklets", "open_set", "cameras", "averages", "leave_one_out")
    alone = [name for name in others if getattr(arguments, name)]
    alone += ["queries"] if arguments.queries != "single" else []
    if alone:
        raise ConfigError(f"--{alone[0].replace('_', '-')} does not go with worse pictures; leave one of them out")
    if len(arguments.data) > 1:
        raise ConfigError(f"worse pictures of {len(arguments.data)} data sets asked for; name one after --data")
    plan = Plan(
        kinds=tuple(arguments.kinds or (FAMILIES if arguments.corruptions else ())),
        severities=tuple(arguments.severities),
        mixed=arguments.mixed,
        resolutions=_levels(arguments.resolution, HEIGHTS),
        occlusions=_levels(arguments.occlusion, SHARES),
        sides=tuple(dict.fromkeys(arguments.worse)),
        images=arguments.images,
        seed=arguments.seed,
        published_lengths=arguments.published_lengths,
    )
    name = arguments.data[0] if arguments.data else None
    size = parse_size(arguments.size)
    found = robustness_of(
        arguments.run, plan, name=name, root=arguments.root, changes=changes, quiet=arguments.quiet, size=size
    )
    print(found.data)
    print(found)
    content = found.to_dict()
    if arguments.json:
        write_atomic(arguments.json, (json.dumps(content, indent=2) + "\n").encode())
    if arguments.png:
        _draw(content, arguments.png)
    close_with(
        [arguments.json, arguments.png], f"clean mAP {100 * found.clean.figures['mAP']:.1f}", ["report", arguments.run]
    )


def _levels(given: list[Any] | None, usual: tuple[Any, ...]) -> tuple[Any, ...]:
    """Levels of a sweep: none where it was not asked for, the usual ones where it was without levels."""
    return () if given is None else tuple(given) or usual


def _draw(content: dict[str, Any], file: Path) -> None:
    """Draw what was found; with several sides, one picture each, named after it."""
    from regard.explain.figures.map_figures import figure_bytes
    from regard.report.evidence import robustness_chart
    from regard.storage import write_atomic

    for side, found in content["corrupted"].items():
        chart = robustness_chart(found, content["clean"])
        assert chart is not None
        place = file if len(content["corrupted"]) == 1 else file.with_stem(f"{file.stem}_{side}")
        write_atomic(place, figure_bytes(chart.figure))
