"""A published row and ours: the figures side by side, what it cost, and everything that differed, as text and page.

A :class:`Reproduction` holds it as plain data; ``regard.reproduce.reproduce`` finds it all out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from regard.report.evidence import interval_chart
from regard.report.learning import accuracy_chart, loss_chart
from regard.report.templating import render_page
from regard.storage import encode_text, write_atomic
from regard.wording import count, table

__all__ = ["Compared", "Departure", "Reproduction", "SeedRun", "write_reproduction"]

Ends = tuple[float, float, float]
"""A value and the ends of its interval, fractions."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One published figure beside ours, fractions.

    Attributes:
        name: "mAP", "rank-1" ...
        published: as it stands in the source.
        reach: half of the published figure's own interval, 0 where it came without one.
        ours: value, and the ends of its interval.
    """

    name: str
    published: float
    reach: float
    ours: Ends

    @property
    def verdict(self) -> str:
        """ "same" where the published figure lies in our interval (widened by its own), else "better" or "worse"."""
        value, low, high = self.ours
        gap = self.published - value
        bound = high - value if gap > 0 else value - low
        if abs(gap) <= (bound**2 + self.reach**2) ** 0.5:
            return "same"
        return "worse" if gap > 0 else "better"


@dataclass(frozen=True, slots=True)
class SeedRun:
    """One training of the recipe.

    Attributes:
        label: "seed 0".
        folder: the run's.
        figures: name -> value and ends of the bootstrap interval over identities, fractions.
        seconds: that training took.
    """

    label: str
    folder: str
    figures: Mapping[str, Ends]
    seconds: float


@dataclass(frozen=True, slots=True)
class Departure:
    """Something in which ours is not what was published.

    Attributes:
        of: what it belongs to: "recipe", "published score", "data", "settings", "computation".
        text: what differs, a sentence or a setting.
    """

    of: str
    text: str


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What came out.

    Attributes:
        recipe: its name.
        kind: "released", "published" or "ours", see :class:`regard.recipes.About`.
        title: its headline.
        source: where the published row stands.
        protocol: how it was measured.
        data: what ours was trained and measured on, in words.
        figures: published beside ours.
        runs: one per seed.
        interval: how our interval was made, in words.
        departures: everything that differed.
        facts: cost and machine, name -> value.
        options: what changes a score, as it was chosen for ours.
        history: records of the first run's ``metrics.jsonl``.
        command: that made it.
    """

    recipe: str
    kind: str
    title: str
    source: str
    protocol: str
    data: str
    figures: Sequence[Compared]
    runs: Sequence[SeedRun]
    interval: str
    departures: Sequence[Departure] = ()
    facts: Mapping[str, object] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    command: str = ""

    def __str__(self) -> str:
        """The table of the terminal."""
        rows = [["in %", "published", "ours", "", ""]]
        for figure in self.figures:
            value, low, high = (f"{100 * end:.1f}" for end in figure.ours)
            own = f" ± {100 * figure.reach:.1f}" if figure.reach else ""
            rows.append([figure.name, f"{100 * figure.published:.1f}{own}", value, f"[{low}, {high}]", figure.verdict])
        lines = table(rows, left=(0, 4))
        differed = [f"{departure.of}: {departure.text}" for departure in self.departures]
        return "\n".join(
            [f"{self.recipe} ({self.kind}), {count(len(self.runs), 'seed')}; {self.interval}", *lines]
            + [f"differed in {count(len(differed), 'thing')}:", *(f"  {line}" for line in differed)] * bool(differed)
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything but the history, for JSON; figures are fractions."""
        content = {key: value for key, value in asdict(self).items() if key != "history"}
        content["figures"] = [asdict(figure) | {"verdict": figure.verdict} for figure in self.figures]
        return content


def write_reproduction(found: Reproduction, path: Path) -> Path:
    """Write the page, whole or not at all.

    Raises:
        StorageError: the disk refused; a page that was there before is intact.
    """
    names = [figure.name for figure in found.figures]
    bars: dict[str, dict[str, Ends]] = {
        "published": {
            figure.name: (figure.published, figure.published - figure.reach, figure.published + figure.reach)
            for figure in found.figures
        }
    }
    bars |= {run.label: {name: run.figures[name] for name in names} for run in found.runs}
    if len(found.runs) > 1:
        bars["mean"] = {figure.name: figure.ours for figure in found.figures}
    text = render_page(
        "reproduction.html",
        report={"title": f"{found.recipe}: published and ours", "lead": found.title},
        found=found,
        intervals=interval_chart(bars),
        learning=[loss_chart(found.history), accuracy_chart(found.history)],
    )
    write_atomic(path, encode_text(text))
    return path
