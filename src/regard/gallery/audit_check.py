"""Whether the lines of a log are those that were written, told from the lines, keys and what is known of the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from regard.gallery.seal import START, Chain, Seal, Sealed, digest, read_sealed
from regard.parsing import parse_json

__all__ = ["Verdict", "check_lines", "entry_of"]


@dataclass
class Verdict:
    """What the check of a log found.

    Attributes:
        lines: of the log.
        searches: among them.
        unsealed: lines from before the log was sealed; they follow one another, which anybody could have made so.
        checked, unchecked: sealed lines whose seal fits, and those whose key is not known here.
        keys: names of the chains that sealed, in order of appearance.
        line, fault: the first line that is not what was written, or is missing, and what is wrong; None where none is.
        to_the_end: whether it is known where the log ends, and it ends there.
        former: logs of other galleries that lay at this path before.
    """

    lines: int = 0
    searches: int = 0
    unsealed: int = 0
    checked: int = 0
    unchecked: int = 0
    keys: list[str] = field(default_factory=list)
    line: int | None = None
    fault: str | None = None
    to_the_end: bool = False
    former: tuple[Mapping[str, Any], ...] = ()

    def wrong(self, line: int, fault: str) -> Verdict:
        """This verdict, with a fault."""
        self.line, self.fault = line, fault
        return self


def entry_of(line: bytes) -> dict[str, Any] | None:
    """What a line says, its seal left out; None where it is no line of a log."""
    part = read_sealed(line)
    try:
        entry = parse_json(part.body if part else line)
    except ValueError:
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("previous"), str):
        return None
    if part and not (type(entry.get("number")) is int and 0 < entry["number"] < 2**53):
        return None
    return entry


class Check:
    """A check under way; see :func:`check_lines`."""

    def __init__(self, chains: Mapping[str, Chain], end: Seal | None):
        self.chains = dict(chains)
        self.end = end
        self.turns: dict[str, int] = {}
        self.unfit: int | None = None
        self.verdict = Verdict(former=end.former if end else ())

    def follows(self, position: int, entry: Mapping[str, Any], part: Sealed | None, previous: str) -> str | None:
        """What is wrong with the place of a line among the others; None where nothing is."""
        if part and entry["number"] > position:
            missing = f"line {position} is" if entry["number"] == position + 1 else f"lines from {position} on are"
            return f"{missing} missing: the next line is number {entry['number']}"
        if entry["previous"] != previous or (part and entry["number"] != position):
            before = f"; the seal of line {self.unfit} does not fit" if self.unfit else ""
            return f"line {position} does not follow from the one before: a line was changed or removed{before}"
        if part is None:
            return f"line {position} carries no seal, though lines before it do" if self.turns else None
        if part.turn != self.turns.get(part.key, 0) + 1:
            return f"line {position} is number {part.turn} of key {part.key}: lines of that key before it are missing"
        return None

    def seal_fits(self, position: int, part: Sealed) -> None:
        """Check the proof of a line, where its key is known."""
        self.turns[part.key] = part.turn
        if part.turn == 1:
            self.verdict.keys.append(part.key)
        chain = self.chains.get(part.key)
        if chain is None or chain.turn != part.turn - 1:
            self.verdict.unchecked += 1
            return
        if chain.proof(part.body) != part.proof:
            self.unfit = self.unfit or position
        self.chains[part.key] = chain.after(part.body)
        self.verdict.checked += 1

    def ends(self, position: int, part: Sealed, line: str) -> str | None:
        """What is wrong with the line that was the last one when the seal was kept."""
        end = self.end
        if end is None or (part.key, part.turn) != (end.name, end.chain.turn):
            return None
        chain = self.chains.get(part.key)
        if line != end.digest or (chain and chain.turn == part.turn and chain.total != end.chain.total):
            return f"line {position} is not the one that was sealed last: lines were written anew"
        return None


def check_lines(
    lines: Iterable[bytes],
    *,
    chains: Mapping[str, Chain],
    end: Seal | None,
    heads: Mapping[int, str] | None = None,
    needed: str | None = None,
) -> Verdict:
    """Check a log.

    Args:
        lines: of it, without line breaks.
        chains: name -> a chain whose key is known, at its beginning or later.
        end: the seal of the log where it was written; None where that is not known.
        heads: number of a line -> its digest, as they were sent elsewhere.
        needed: name of a chain that must have sealed lines of it.
    """
    check, previous, position = Check(chains, end), START, 0
    verdict, heads = check.verdict, dict(heads or {})
    known = end is not None or bool(heads)
    for position, line in enumerate(lines, 1):
        entry, part = entry_of(line), read_sealed(line)
        if entry is None:
            return verdict.wrong(position, f"line {position} is no line of a log: it was damaged or written over")
        if fault := check.follows(position, entry, part, previous):
            return verdict.wrong(position, fault)
        previous = digest(line)
        verdict.lines += 1
        verdict.searches += entry.get("kind", "search") == "search"
        if part is None:
            verdict.unsealed += 1
            continue
        check.seal_fits(position, part)
        if fault := check.ends(position, part, previous):
            return verdict.wrong(check.unfit or position, fault)
        if heads.pop(position, previous) != previous:
            return verdict.wrong(position, f"line {position} is another one than the head that was sent elsewhere says")
    if check.unfit:
        return verdict.wrong(check.unfit, f"line {check.unfit} was changed: its seal does not fit")
    if end and check.turns.get(end.name, 0) < end.chain.turn:
        return verdict.wrong(
            position + 1,
            f"the end is missing: the seal has counted {end.number:,} lines, the last of {end.time}, the log has "
            f"{position:,}",
        )
    if heads:
        return verdict.wrong(position + 1, f"the end is missing: a head says there were {max(heads):,} lines")
    if needed is not None and needed not in check.turns:
        return verdict.wrong(1, f"no line was sealed by key {needed}: it is another log, or was written anew")
    verdict.to_the_end = known
    return verdict
