"""``regard explain score``: explanations of runs, scored; tables, a figure, and JSON that ``regard report`` reads."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from regard.cli.explain_numbers import masked_samples
from regard.cli.explain_runs import write_figure, write_json
from regard.crowd import make_twins
from regard.crowd.dataset.crowd_folder import read_description
from regard.data.labels import has_label
from regard.errors import ConfigError
from regard.evaluation.run import open_runs
from regard.explain.attention_precision import pair_up
from regard.explain.figures.score_figure import score_figure
from regard.explain.kept_scores import kept_content, scores_file
from regard.explain.score_tables import score_markdown, score_text
from regard.explain.scores import ExplanationScores, known_methods, score_explanations
from regard.explain.twins import Twin, read_twins
from regard.progress import progress_bar
from regard.storage import check_writable, write_atomic
from regard.structures import Splits
from regard.wording import count

__all__ = ["score"]


def score(arguments: argparse.Namespace) -> None:
    """Tables on the screen and as Markdown, a figure, and JSON; each run's own JSON in its folder, too."""
    known_methods(arguments.method)
    runs = open_runs(arguments.runs, arguments.data, arguments.root, quiet=arguments.quiet)
    for run in runs:
        check_writable(scores_file(run.folder))
    twins = _twins(arguments, runs[0].splits)
    found: list[ExplanationScores] = []
    for run in runs:
        shown = masked_samples(run.splits, arguments)
        masked = any(has_label(sample, "mask") for sample in shown)
        pairs = pair_up(shown, run.splits.gallery, arguments.pairs, masked=masked)
        total = len(pairs) + len(twins) + min(arguments.checked, len(pairs))
        gallery = run.features("gallery"), run.splits.gallery
        with progress_bar(total=total, title=run.label, unit="pair", quiet=arguments.quiet) as bar:
            scores = score_explanations(
                run.model, pairs, run.input, label=run.label, gallery=gallery, twins=twins, wanted=arguments.method,
                checked=arguments.checked, seed=arguments.seed, progress=bar.update,
            )  # fmt: skip
        found.append(scores)
        content = kept_content(scores, run.model, run.splits.label)
        write_json(scores_file(run.folder), content)
        print(f"{run.label}: {count(scores.pairs, 'pair')} of {count(scores.people, 'person')}", end="; ")
        print(f"{count(scores.twins, 'pair')} of twins" if twins else "no twins (--twins FOLDER)", end="; ")
        print("masks of the person" if masked else "no masks of the person (--masks FOLDER)")
        run.release()
    print(f"\n{score_text(found)}\n")
    write_json(arguments.output / "score.json", [one.to_dict() for one in found])
    write_atomic(arguments.output / "score.md", score_markdown(found).encode())
    print(arguments.output / "score.md")
    write_figure(score_figure(found), arguments.output / "score", arguments)


def _twins(arguments: argparse.Namespace, splits: Splits) -> list[Twin]:
    """The twins that were named; of a crowd some are made by its cameras where none were, unless they were made."""
    if arguments.twins is not None:
        return read_twins(arguments.twins)
    if not arguments.twin_pairs:
        return []
    described = read_description(Path(splits.root))
    place: Path = arguments.output / "twins"
    if described is None:
        return []
    if not place.exists():
        make_twins(place, people=arguments.twin_pairs, progress=not arguments.quiet, **_like(described, splits))
    twins = read_twins(place)
    if len(twins) != arguments.twin_pairs:
        raise ConfigError(
            f"{place} holds {count(len(twins), 'pair')} of twins, --twin-pairs asks for {arguments.twin_pairs}; choose "
            "another -o, or take those with --twins"
        )
    return twins


def _like(described: dict[str, Any], splits: Splits) -> dict[str, Any]:
    """The parameters of a crowd that twins take over: its city and cameras, its difficulty and size."""
    parameters = described.get("parameters")
    names = ("cameras", "seed", "city", "difficulty", "knobs", "height", "width")
    if not isinstance(parameters, dict) or not parameters.keys() >= set(names):
        raise ConfigError(
            f"'{splits.root}/dataset.json' does not say how the crowd was made, so no twins can be; make them with "
            "'regard data twins' and give --twins FOLDER"
        )
    return {name: parameters[name] for name in names}
