"""Words of a command line, as tests put them together from parts that overlap."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def once(words: Iterable[Any]) -> list[str]:
    """The words as text, of settings of one key the last: what is typed may give each once."""
    texts = [str(word) for word in words]
    place = {text.partition("=")[0]: number for number, text in enumerate(texts) if "=" in text}
    return [text for number, text in enumerate(texts) if place.get(text.partition("=")[0], number) == number]
