"""``regard eval RUN --all-epochs``: every network that a training has kept, as a table, as JSON and as a picture."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regard.evaluation.epochs import EpochScores

__all__ = ["run_epochs"]


def run_epochs(arguments: argparse.Namespace, changes: dict[str, Any]) -> None:
    """Score, print, and write ``scores.txt`` and ``scores.png`` beside the networks, and what else was asked for.

    Args:
        arguments: of ``regard eval``.
        changes: settings of the ``eval`` section that the arguments change.

    Raises:
        ConfigError: options that do not go with many epochs.
    """
    from regard.cli.closing import close_with
    from regard.cli.search_verb import parse_size
    from regard.errors import ConfigError
    from regard.evaluation.epochs import epochs_folder, score_epochs
    from regard.storage import encode_text, write_atomic

    others = (
        "features", "tracklets", "open_set", "cameras", "averages", "corruptions", "kinds", "resolution", "occlusion",
        "images",
    )  # fmt: skip
    given = [name for name in others if getattr(arguments, name) not in (None, False, [])]
    if given:
        raise ConfigError(f"--{given[0].replace('_', '-')} does not go with --all-epochs; leave one of them out")
    found = score_epochs(
        arguments.run,
        arguments.data,
        arguments.root,
        changes,
        size=parse_size(arguments.size),
        how={"queries": arguments.queries, "leave_one_out": arguments.leave_one_out},
        quiet=arguments.quiet,
    )
    if not found:
        return
    text = "\n\n".join(f"{one.label}\n{one}" if len(found) > 1 else str(one) for one in found)
    print(text)
    place = epochs_folder(arguments.run)
    files = [place / "scores.txt", arguments.png or place / "scores.png"]
    write_atomic(files[0], encode_text(f"{text}\n"))
    draw(found, files[1])
    if arguments.json:
        content = {one.label: {"data": one.data, "epochs": one.rows} for one in found}
        write_atomic(arguments.json, (json.dumps(content, indent=2) + "\n").encode())
    last = found[0].rows[-1]
    score = f"epoch {last['epoch']}: mAP {100 * last['mAP']:.1f}, rank-1 {100 * last['cmc'][0]:.1f}"
    close_with([*files, arguments.json], score, ["report", arguments.run])


def draw(found: list[EpochScores], file: Path) -> None:
    """Draw the curves of every data set, one below the other."""
    from regard.explain.figures.map_figures import figure_bytes
    from regard.report.evidence import epochs_chart
    from regard.storage import write_atomic

    write_atomic(file, figure_bytes(epochs_chart({one.label: one.figures() for one in found}).figure))
