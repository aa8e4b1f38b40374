"""The card of a model on a hub: ``README.md``, with the head that hubs read, filled from the model and its run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from regard.fingerprint import bytes_digest
from regard.models.saved import Described, model_config
from regard.version import __version__

__all__ = ["CARD", "Facts", "Score", "is_ours", "model_card"]

CARD = "README.md"

MARK = re.compile(r"\n<!-- written by regard [^,]*, ([0-9a-f]+); [^\n]*-->\n*\Z")
"""Last line of a card of ours, with the digest of what stands before it."""

TASK = "image-feature-extraction"

LICENCES = {"Apache-2.0": "apache-2.0", "BSD-3-Clause": "bsd-3-clause", "MIT": "mit"}
"""A licence as the table of released networks has it -> as hubs abbreviate it."""

USE = """\
To find, among pictures of people that you may process, those that look like a given one: to train, compare and
understand such networks, and to search where there is a legal basis, a stated purpose, notice to the people and
somebody who decides.

**Not for**: identifying or tracking people who were not told; deciding anything about a person without a human who
looks; finding out or following what people are, believe or say; law enforcement in real time in places open to the
public, which the AI Act of the European Union prohibits but for narrow exceptions.

A match is no identification: a score says that two pictures look alike, mostly by clothes, and people in the same
clothes look alike. Networks fail more often for people who are rare in what they were trained on."""


class Score(NamedTuple):
    """A figure and the ends of its 95 % interval, fractions; None where there is none."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Facts:
    """What a run says of its model.

    Attributes:
        recipe: where its settings come from, in a line; empty where that was not kept.
        trained_on: data set -> the terms it comes with.
        tested_on: the data set of the scores, as it was read; empty without scores.
        dataset: its name.
        scores: figure -> what was found.
        options: how the scores were measured, in words.
        note: what has to be said of the scores.
    """

    recipe: str = ""
    trained_on: Mapping[str, str] = field(default_factory=dict)
    tested_on: str = ""
    dataset: str = ""
    scores: Mapping[str, Score] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


def model_card(model: Described, repo_id: str, facts: Facts | None = None, license: str | None = None) -> str:
    """Write the card of a model.

    Args:
        model: what the repository holds.
        repo_id: ``OWNER/NAME``.
        facts: what is known of the run it is of.
        license: of the weights, as hubs abbreviate it; None takes that of a released network, else "unknown".
    """
    facts, described = facts or Facts(), model_config(model)
    sections = {
        "": _summary(model, described, facts),
        "How to load it": _loading(repo_id, described),
        "Input": _input(model),
        "Scores": _scores(facts),
        "Calibration": _calibration(model.calibration),
        "Trained on": _training(facts),
        "Where the weights came from": _origin(model.origin),
        "Intended use and misuse": USE,
        "Options": "\n".join(f"- `{name}`: `{_plain(value)}`" for name, value in described["options"].items()),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" if title else text for title, text in sections.items() if text)
    text = f"---\n{_head(model, described, facts, license, repo_id)}---\n\n# {repo_id.partition('/')[2]}\n\n{body}\n"
    return (
        f"{text}\n<!-- written by regard {__version__}, {bytes_digest(text.encode())}; once changed, it is kept -->\n"
    )


def is_ours(text: str) -> bool:
    """Return whether a card is as :func:`model_card` wrote it."""
    mark = MARK.search(text)
    return mark is not None and bytes_digest(text[: mark.start()].encode()) == mark[1]


def _head(model: Described, described: Mapping[str, Any], facts: Facts, license: str | None, repo_id: str) -> str:
    """The YAML that hubs read."""
    from huggingface_hub import EvalResult, ModelCardData

    released = LICENCES.get((model.origin or {}).get("licence", "")) if model.imported else None
    results = [
        EvalResult(
            task_type=TASK, task_name="person re-identification", dataset_type=facts.dataset,
            dataset_name=facts.tested_on, metric_type=name, metric_name=f"{name}, %",
            metric_value=_percent(score.value),
        )
        for name, score in facts.scores.items()
    ]  # fmt: skip
    tags = ["regard", "person-re-identification", "re-identification", "image-retrieval", described["model"]]
    return ModelCardData(
        license=license or released or "unknown", library_name="regard", pipeline_tag=TASK, tags=tags,
        datasets=list(facts.trained_on) or None, metrics=list(facts.scores) or None,
        model_name=repo_id.partition("/")[2] if results else None, eval_results=results or None,
    ).to_yaml() + "\n"  # fmt: skip


def _summary(model: Any, described: Mapping[str, Any], facts: Facts) -> str:
    kind = f"`{described['model']}`"
    kind += f", as released for it ({model.imported})" if model.imported else ""
    of = "stripped to what embeds" if model.stripped else f"with classifiers for {model.num_ids:,} identities"
    recipe = f" Recipe: {_plain(facts.recipe)}." if facts.recipe else ""
    return (
        f"A network for person re-identification: a picture of a person in, a descriptor of {model.embed_dim:,} "
        f"numbers out; pictures of one person have similar ones. System {kind}, {of}; made with regard "
        f"{__version__}.{recipe}"
    )


def _loading(repo_id: str, described: Mapping[str, Any]) -> str:
    plugin = described.get("plugin")
    wants = "\n\nIt is of a plug-in, which is not in this repository and has to be imported first." if plugin else ""
    return (
        f'```python\nimport regard\n\nmodel = regard.from_hub("{repo_id}")      # or regard.load("hf-hub:{repo_id}")\n'
        f'vectors = model.embed_pictures(["a.jpg", "b.jpg"])    # (2, D), each of length 1\n```\n\n'
        f"On the command line: `regard import hf-hub:{repo_id} -o models/NAME`, then `regard eval`, `embed`, `search`, "
        f"`export` with that folder.{wants}"
    )


def _input(model: Described) -> str:
    seen = model.input
    if seen is None:
        return "Not known."
    return (
        f"RGB pictures cropped to one person, resized to {seen.height} x {seen.width} (height x width, "
        f"{seen.interpolation}, antialiased), then (pixels / 255 - {list(seen.mean)}) / {list(seen.std)}"
        + ("; the descriptor is averaged with that of the mirrored picture." if seen.flip else ".")
    )


def _scores(facts: Facts) -> str:
    if not facts.scores:
        return "None were measured." if not facts.note else facts.note
    rows = [
        f"| {name} | {_percent(score.value):.2f} | "
        + ("" if score.low is None or score.high is None else f"{100 * score.low:.2f} to {100 * score.high:.2f}")
        + " |"
        for name, score in facts.scores.items()
    ]
    how = ", ".join(f"{name} {value}" for name, value in facts.options.items())
    lines = [
        f"On {_plain(facts.tested_on)}, in %:",
        "",
        "| figure | value | 95 % interval over people |",
        "|---|---|---|",
    ]
    return "\n".join([*lines, *rows, *(["", f"Measured with: {_plain(how)}."] if how else []), *_also(facts.note)])


def _also(note: str) -> list[str]:
    return ["", note] if note else []


def _calibration(content: Mapping[str, Any] | None) -> str:
    """What the similarities say, as ``calibration.json`` has it."""
    if not content:
        return "Not calibrated: a similarity of this model is no probability."
    quality, about = content.get("quality", {}), content.get("about", {})
    error = f", expected calibration error {100 * quality['ece']:.2f} % on people left out" if "ece" in quality else ""
    rows = [f"| {one['rate']:g} | {one['similarity']:.4f} |" for one in content.get("thresholds", ())]
    table = ["", "| false alarms | similarity above |", "|---|---|", *rows] if rows else []
    made = f" Fitted on {_plain(about['data'])}." if about.get("data") else ""
    return "\n".join([f"Curve {_plain(content.get('curve'))}{error}; prior {content.get('prior')}.{made}", *table])


def _training(facts: Facts) -> str:
    if not facts.trained_on:
        return "Not said: the model was uploaded without its run."
    rows = [f"| {_plain(name)} | {_plain(terms)} |" for name, terms in facts.trained_on.items()]
    return "\n".join(["| data set | its terms |", "|---|---|", *rows])


def _origin(origin: Mapping[str, str] | None) -> str:
    if origin is None:
        return "Trained from random weights, or by a version of regard that did not keep where they came from."
    return f"{_plain(origin['source'])}; licence: {_plain(origin['licence'])}."


def _percent(fraction: float) -> float:
    return round(100 * fraction, 2)


def _plain(value: Any) -> str:
    """A value as one line that breaks no table, no code and no page."""
    text = " ".join(str(value).split())
    return text.translate({ord("|"): "/", ord("<"): "‹", ord(">"): "›", ord("`"): "'"})
