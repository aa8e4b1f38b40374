"""Whether the lines of a log are those that were written, told from the lines, keys and what is known of the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from regard.gallery.seal import START, Chain, End, Sealed, digest, read_sealed
from regard.parsing import parse_json

__all__ = ["CONTINUED", "Verdict", "check_lines", "entry_of", "turns_of"]

CONTINUED = "continued"
"""Kind of the first line of a log whose lines of before lie in another file; it holds the turns of their chains."""


@dataclass
class Verdict:
    """What the check of a log found.

    Attributes:
        lines: of the log.
        searches: among them.
        unsealed: lines from before the log was sealed; they follow one another, which anybody could have made so.
        checked, unchecked: sealed lines whose seal fits, and those whose key is not known here.
        line, fault: the first line that is not what was written, or is missing, and what is wrong; None where none is.
        to_the_end: whether it is known where the log ends, and it ends there.
        former: logs of other galleries that lay at this path before.
    """

    lines: int = 0
    searches: int = 0
    unsealed: int = 0
    checked: int = 0
    unchecked: int = 0
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


def turns_of(entry: Mapping[str, Any]) -> dict[str, int]:
    """Name of each chain -> how many lines it had sealed before a line of the kind :data:`CONTINUED`."""
    turns = entry.get("turns")
    known = isinstance(turns, dict) and all(type(turn) is int and turn >= 0 for turn in turns.values())
    return dict(turns) if known and isinstance(turns, dict) else {}


class Check:
    """A check under way; see :func:`check_lines`."""

    def __init__(self, chains: Mapping[str, Chain], ends: Sequence[End], needed: str | None):
        self.chains = dict(chains)
        self.trusted = {end.name for end in ends} | ({needed} if needed else set())
        self.ends = {(end.name, end.turn): end for end in ends}
        self.turns: dict[str, int] = {}
        self.unfit: int | None = None
        self.first, self.previous = 1, START
        self.verdict = Verdict()

    def begin(self, entry: Mapping[str, Any], part: Sealed | None) -> None:
        """Take a first line that continues another file as such, unless somebody may have made it up.

        Its seal says so, by a key that this log is known to have; where that cannot be checked, the line has to lead to
        an end that is known.
        """
        turns = turns_of(entry)
        if part is None or entry.get("kind") != CONTINUED or part.turn != turns.get(part.key, 0) + 1:
            return
        if self.trusted and part.key not in self.trusted:
            return
        chain = self.chains.get(part.key)
        if chain is not None and chain.turn < part.turn:
            good = chain.skipped(part.turn - 1).proof(part.body) == part.proof
        else:
            good = not self.ends or any(name == part.key and turn >= part.turn for name, turn in self.ends)
        if not good:
            return
        self.chains |= {name: self.chains[name].skipped(turn) for name, turn in turns.items() if name in self.chains}
        self.turns, self.first, self.previous = turns, entry["number"], entry["previous"]

    def follows(self, number: int, entry: Mapping[str, Any], part: Sealed | None) -> str | None:
        """What is wrong with the place of a line among the others; None where nothing is."""
        if part and entry["number"] > number:
            missing = f"line {number} is" if entry["number"] == number + 1 else f"lines from {number} on are"
            return f"{missing} missing: the next line is number {entry['number']}"
        if entry["previous"] != self.previous or (part and entry["number"] != number):
            before = f"; the seal of line {self.unfit} does not fit" if self.unfit else ""
            return f"line {number} does not follow from the one before: a line was changed or removed{before}"
        if part is None:
            return f"line {number} carries no seal, though lines before it do" if self.turns else None
        if part.turn != self.turns.get(part.key, 0) + 1:
            return f"line {number} is number {part.turn} of key {part.key}: lines of that key before it are missing"
        return None

    def seal_fits(self, number: int, entry: Mapping[str, Any], part: Sealed) -> None:
        """Check the proof of a line, where its key is known."""
        self.turns[part.key] = part.turn
        chain = self.chains.get(part.key)
        if chain is None or chain.turn != part.turn - 1:
            self.verdict.unchecked += 1
            return
        if chain.proof(part.body) != part.proof:
            self.unfit = self.unfit or number
        chain = chain.fresh() if entry.get("kind") == CONTINUED else chain
        self.chains[part.key] = chain.after(part.body)
        self.verdict.checked += 1

    def ends_well(self, number: int, part: Sealed, line: str) -> str | None:
        """What is wrong with a line that is known to be the last one of its chain somewhere."""
        end, chain = self.ends.pop((part.key, part.turn), None), self.chains.get(part.key)
        if end is None:
            return None
        other = chain and chain.turn == part.turn and end.total and chain.total != end.total
        if line != end.digest or other:
            return f"line {number} is not the one that was sealed last: lines were written anew"
        return None

    def missing_end(self, last: int, log: str | None) -> str | None:
        """What is missing behind the last line."""
        for end in self.ends.values():
            if self.turns.get(end.name, 0) >= end.turn:
                continue
            if end.log == log or log is None:
                counted = f"the seal has counted {end.number:,} lines"
            else:
                counted = f"{end.log} has {end.number:,} lines of the same seal"
            why = "" if end.log == log else "; it is an older copy, or its end was cut off"
            return f"the end is missing: {counted}, the last of {end.time}, and this log ends with line {last:,}{why}"
        return None


def check_lines(
    lines: Iterable[bytes],
    *,
    chains: Mapping[str, Chain],
    ends: Sequence[End],
    heads: Mapping[int, str] | None = None,
    needed: str | None = None,
    log: str | None = None,
) -> Verdict:
    """Check a log.

    Args:
        lines: of it, without line breaks.
        chains: name -> a chain whose key is known, at its beginning or later.
        ends: last lines of chains that must be found in it.
        heads: number of a line -> its digest, as they were sent elsewhere.
        needed: name of a chain that must have sealed lines of it.
        log: path of the log.
    """
    check, heads, number = Check(chains, ends, needed), dict(heads or {}), 0
    verdict, known = check.verdict, bool(ends or heads)
    for position, line in enumerate(lines):
        entry, part = entry_of(line), read_sealed(line)
        number = check.first + position
        if entry is None:
            return verdict.wrong(number, f"line {number} is no line of a log: it was damaged or written over")
        if position == 0:
            check.begin(entry, part)
            number = check.first
            heads = {at: told for at, told in heads.items() if at >= number}
        if fault := check.follows(number, entry, part):
            return verdict.wrong(number, fault)
        check.previous = digest(line)
        verdict.lines += 1
        verdict.searches += entry.get("kind", "search") == "search"
        if part is None:
            verdict.unsealed += 1
            continue
        check.seal_fits(number, entry, part)
        if fault := check.ends_well(number, part, check.previous):
            return verdict.wrong(check.unfit or number, fault)
        if heads.pop(number, check.previous) != check.previous:
            return verdict.wrong(number, f"line {number} is another one than the head that was sent elsewhere says")
    if check.unfit:
        return verdict.wrong(check.unfit, f"line {check.unfit} was changed: its seal does not fit")
    if fault := check.missing_end(number, log):
        return verdict.wrong(number + 1, fault)
    if heads:
        return verdict.wrong(number + 1, f"the end is missing: a head says there were {max(heads):,} lines")
    if needed is not None and needed not in check.turns:
        return verdict.wrong(1, f"no line was sealed by key {needed}: it is another log, or was written anew")
    verdict.to_the_end = known
    return verdict
