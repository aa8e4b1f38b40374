"""Explanation scores as text and as Markdown: what heat does, where it lies, and how far methods agree."""

from __future__ import annotations

from collections.abc import Sequence

from regard.explain.heat_methods import CONTROLS
from regard.explain.sanity import ORDER, SAME
from regard.explain.scores import ExplanationScores, ScoredMethod
from regard.metrics.significance import Interval
from regard.wording import markdown_table, table

__all__ = ["score_markdown", "score_text"]

DOES = {
    "insertion": "insertion", "deletion": "deletion", "rank insertion": "rank insertion",
    "rank deletion": "rank deletion",
}  # fmt: skip
LIES = {"hit": "person hit", "share": "person share", "twins hit": "twins hit", "twins share": "twins share"}
"""Figure -> head of its column."""

NOTES = (
    "insertion, deletion: 100 x area between the curve of the cosine and that of random orders, mean of both fills;",
    "rank: the same of 1 / rank of the true match; hit: hottest pixel inside; share: % of the heat inside.",
    "agreement: mean rank correlation of two methods' heat over the pairs, on 32 x 16 cells.",
    "95 % percentile bootstrap over people, 2,000 resamples; center and edges know nothing of the network.",
    f"sanity fails: rank correlation with the heat of random weights {SAME:g} or more, or the order of a pair matters "
    f"by more than {100 * ORDER:g} %.",
)


def score_text(scores: Sequence[ExplanationScores]) -> str:
    """The tables as aligned text."""
    parts = ["\n".join(table(rows, left=(0, 1))) for rows in _tables(scores)]
    missing = [f"  {one.label}, {name}: {why}" for one in scores for name, why in one.missing.items()]
    if missing:
        parts.append("\n".join(["does not apply:", *missing]))
    return "\n\n".join([*parts, "\n".join(f"  {note}" for note in NOTES)])


def score_markdown(scores: Sequence[ExplanationScores]) -> str:
    """The tables as Markdown."""
    parts = ["\n".join(markdown_table(rows, left=2)) for rows in _tables(scores)]
    return "\n\n".join([*parts, " ".join(NOTES)]) + "\n"


def _tables(scores: Sequence[ExplanationScores]) -> list[list[list[str]]]:
    """Rows of cells, the head first: what heat does, where it lies where that is known, how far methods agree."""
    does = [["system", "method", *DOES.values(), "random weights", "sanity"]]
    lies = [["system", "method", *LIES.values()]]
    for one in scores:
        for name, method in one.methods.items():
            shown = f"{name} (control)" if name in CONTROLS else name
            does.append([one.label, shown, *(_cell(method, figure) for figure in DOES), *_sanity(method)])
            lies.append([one.label, shown, *(_cell(method, figure) for figure in LIES)])
        person, twins = (_with_ends(one.chance.get(name)) for name in ("person", "twins"))
        lies.append([one.label, "chance", person, person, twins, twins])
    agree = [_agreement(one) for one in scores if len(one.methods) > 1]
    known = any(figure in method.figures for one in scores for method in one.methods.values() for figure in LIES)
    return [does, *([lies] if known else []), *agree]


def _agreement(one: ExplanationScores) -> list[list[str]]:
    """Mean rank correlation of every two methods of a network."""
    names = list(one.methods)
    rows = [[one.label, name] for name in names]
    for row, values in zip(rows, one.agreement):
        row += ["-" if value != value else f"{value:.2f}" for value in values]
    return [["agreement", "method", *names], *rows]


def _cell(method: ScoredMethod, figure: str) -> str:
    return _with_ends(method.figures.get(figure))


def _with_ends(found: Interval | None) -> str:
    """A fraction times 100, with the ends of its interval."""
    if found is None:
        return "-"
    return f"{100 * found.value:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _sanity(method: ScoredMethod) -> tuple[str, str]:
    """Mean rank correlation with the heat of random weights, and the verdict."""
    if method.sanity is None:
        return "-", "-"
    left = method.sanity.left
    return ("-" if left != left else f"{left:.2f}"), "FAILS" if method.faults else "passes"
