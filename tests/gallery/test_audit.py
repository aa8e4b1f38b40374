"""The log of uses only grows, and shows where it was touched: in the middle, at its end, and as a whole."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from gallery_items import DIM, make_items

from regard.cli import main as command_line
from regard.errors import ConfigError, DataError, StorageError
from regard.gallery import Filter, Gallery
from regard.gallery import audit as audit_module
from regard.gallery.audit import HEADS, AuditLog, read_heads
from regard.gallery.seal import KEYS, START, Seal, digest, known_seals, read_key
from regard.gallery.use import Actor, Use, named_digest

WHO = Filter(persons=("Anna B.",), cameras=("1",), tracks=("way 7",), attributes={"coat": ("mauve",)})
ANNA = Actor("anna", "search", "192.0.2.7")


@pytest.fixture(autouse=True)
def keys(tmp_path, monkeypatch):
    """Seals of this test alone."""
    folder = tmp_path / "keys"
    monkeypatch.setenv(KEYS, str(folder))
    return folder


@pytest.fixture
def log(tmp_path):
    log = AuditLog(tmp_path / "logs" / "audit.jsonl")
    log.path.parent.mkdir()
    for number in range(5):
        log.append(who="test", query=[f"q{number}"])
    return log


def slots(state) -> tuple[dict, dict]:
    """What a seal's file holds: the only one of the two moving parts that is not blank, and the rest."""
    one, other, rest = state.read_text().splitlines()
    (moving,) = filter(None, (one.strip(), other.strip()))
    return json.loads(moving[17:]), json.loads(rest)


def rewritten(lines: list[bytes], change=lambda entry: entry) -> bytes:
    """The lines with numbers and digests put right, seals as they were: what one can do who has the file alone."""
    previous, out = START, []
    for number, line in enumerate(lines, 1):
        entry = change(json.loads(line)) | {"number": number, "previous": previous}
        seal = entry.pop("seal", None)
        text = json.dumps(entry, sort_keys=True)
        out.append((text[:-1] + f', "seal": "{seal}"}}' if seal else text).encode())
        previous = digest(out[-1])
    return b"".join(line + b"\n" for line in out)


def test_lines_follow_each_other_and_hold_no_key(log, keys):
    lines = [json.loads(line) for line in log.path.read_text().splitlines()]
    assert [(line["number"], line["query"]) for line in lines] == [(n + 1, [f"q{n}"]) for n in range(5)]
    assert (log.verify(), log.count()) == (None, 5)
    AuditLog(log.path).append(who="another process")
    verdict = log.check()
    assert (verdict.fault, verdict.lines, verdict.checked, verdict.to_the_end) == (None, 6, 6, True)
    (state,) = keys.iterdir()
    assert all(path.stat().st_mode & 0o077 == 0 for path in (log.path, state, keys))
    moving, rest = slots(state)
    assert not any(secret in log.path.read_text() for secret in (moving["key"], moving["total"], rest["first"]))


@pytest.mark.parametrize(
    ("touch", "line"),
    [
        (lambda lines: [*lines[:1], lines[1].replace(b"q1", b"qX"), *lines[2:]], 3),
        (lambda lines: [*lines[:2], *lines[3:]], 3),
        (lambda lines: lines[1:], 1),
        (lambda lines: [*lines[:4], b"nonsense"], 5),
        (lambda lines: [*lines[:4], lines[4].replace(b"q4", b"qX")], 5),
        (lambda lines: lines[:3], 4),
        (lambda lines: [], 1),
        (lambda lines: [*lines, b""], 6),
        (lambda lines: [lines[0], lines[0], *lines[1:]], 2),
        (lambda lines: [lines[1], lines[0], *lines[2:]], 1),
        (lambda lines: rewritten(lines[:3]).splitlines(), 4),
        (lambda lines: rewritten(lines, lambda entry: entry | {"who": "me"}).splitlines(), 1),
        (lambda lines: rewritten([*lines[:2], *lines[3:]]).splitlines(), 3),
        (lambda lines: rewritten([json.dumps({"query": ["mine"]}).encode()]).splitlines(), 2),
        (lambda lines: [*lines, b'{"previous": "' + digest(lines[4]).encode() + b'", "query": ["forged"]}'], 6),
        (lambda lines: [*lines[:4], b"\xff" + lines[4]], 5),
        (lambda lines: [*lines[:4], b"[" * 10**5], 5),
    ],
)
def test_a_touched_line_shows(log, touch, line):
    log.path.write_bytes(b"".join(text + b"\n" for text in touch(log.path.read_bytes().splitlines())))
    assert log.verify() == line
    log.append(who="later", query=["more"])  # searching goes on, and the fault stays
    assert log.verify() is not None


def test_no_byte_can_be_changed_taken_or_cut_off(log):
    whole = log.path.read_bytes()
    for place in range(0, len(whole), 29):
        for touched in (
            whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :],
            whole[:place] + whole[place + 1 :],
            whole[:place],
        ):
            log.path.write_bytes(touched)
            assert log.verify() is not None, place
    log.path.write_bytes(whole)
    assert log.verify() is None


def test_a_log_that_is_gone_is_missed(log):
    log.path.unlink()
    assert log.verify() == 1
    log.append(who="later")
    assert log.check().fault == "lines from 1 on are missing: the next line is number 6"


@pytest.mark.parametrize("there", [b"precious\n", None])
def test_a_link_in_its_place_is_not_followed(log, keys, tmp_path, there):
    """Nor one in the place of the seal: nothing is written where they lead, whether something is there or not."""
    victim, (state,) = tmp_path / "victim", keys.iterdir()
    if there is not None:
        victim.write_bytes(there)
    for path, told in ((log.path, "could not be logged in .*it is a link"), (state, "seal of the log, .*not whole")):
        kept = path.read_bytes()
        path.unlink()
        path.symlink_to(victim)
        if path == log.path or there is not None:
            with pytest.raises(StorageError, match=told):
                log.append(who="later")
        else:  # a seal that is missing is begun anew, in the place of the link
            log.append(who="later")
            assert not path.is_symlink()
        assert (victim.read_bytes() if victim.exists() else None) == there
        path.unlink()
        path.write_bytes(kept)


def test_where_the_heads_go_may_be_a_link(log, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path / "heads")
    monkeypatch.setenv(HEADS, str(tmp_path / "link"))
    log.append(who="later")
    assert [head["number"] for head in read_heads((tmp_path / "heads").read_bytes().splitlines())] == [6]


def test_where_the_seal_cannot_lie_is_named(log, tmp_path, monkeypatch):
    monkeypatch.setenv(KEYS, str(tmp_path / "locked"))
    refusal = PermissionError(13, "Permission denied", str(tmp_path / "locked"))
    monkeypatch.setattr("pathlib.Path.mkdir", lambda *what, **how: (_ for _ in ()).throw(refusal))
    with pytest.raises(StorageError, match=rf"denied: .*locked; {KEYS} names another folder for the seal"):
        log.append(who="test")


def test_a_cut_shows_though_the_writer_remembers_the_shorter_log(log):
    """The file is cut to the size at which another process, still running, saw it last."""
    size, other = log.path.stat().st_size, AuditLog(log.path)
    other.append(who="other")
    os.truncate(log.path, size)
    log.append(who="first")
    assert log.verify() == 6


def test_lines_of_before_are_carried_on(tmp_path):
    """Those of versions that sealed nothing."""
    path, previous, old = tmp_path / "old" / "audit.jsonl", START, b""
    path.parent.mkdir()
    for number in range(3):
        line = json.dumps({"previous": previous, "query": [f"q{number}"], "who": "127.0.0.1"}).encode()
        previous, old = digest(line), old + line + b"\n"
    path.write_bytes(old)
    log = AuditLog(path)
    verdict = log.check()
    assert (verdict.fault, verdict.unsealed, verdict.to_the_end) == (None, 3, False)
    log.append(who="new")
    assert json.loads(path.read_bytes().splitlines()[3])["previous"] == previous
    verdict = log.check()
    assert (verdict.fault, verdict.unsealed, verdict.checked, log.count()) == (None, 3, 1, 4)
    path.write_bytes(path.read_bytes().replace(b"q2", b"qX"))
    assert log.verify() == 4


def test_many_writers_make_one_chain(log):
    logs = [AuditLog(log.path) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: logs[n % 4].append(who="many", query=[f"r{n}"]), range(60)))
    code = (
        "import sys; from pathlib import Path; from regard.gallery.audit import AuditLog\n"
        "for n in range(20): AuditLog(Path(sys.argv[1])).append(who=sys.argv[2])"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(log.path), f"p{n}"]) for n in range(2)]
    assert [process.wait() for process in running] == [0, 0]
    assert (log.verify(), log.count()) == (None, 105)


def test_a_line_costs_no_more_when_the_log_is_long(log, monkeypatch):
    """Two writers take turns, and neither reads what was there before."""
    log.append(who="test", padding="x" * 10**6)
    read = []
    original = audit_module.open_to_append

    class Counting:
        def __init__(self, path):
            self.inner = original(path)

        def __enter__(self):
            self.file = self.inner.__enter__()
            return self

        def __exit__(self, *error):
            return self.inner.__exit__(*error)

        def read(self, size):
            read.append(len(data := self.file.read(size)))
            return data

        def __getattr__(self, name):
            return getattr(self.file, name)

    monkeypatch.setattr(audit_module, "open_to_append", Counting)
    for number in range(6):
        (log, AuditLog(log.path))[number % 2].append(who="turns")
    assert sum(read) < 10**4


def test_what_a_kill_leaves_is_put_right(log, monkeypatch):
    """Half a line, a whole line whose seal was not kept, and one after the other."""
    with log.path.open("ab") as file:
        file.write(b'{"half of a li')
    assert log.verify() is None
    log.append(who="after the kill")
    assert b"half of" not in log.path.read_bytes()
    before = Seal.of(log.path)
    log.append(who="killed", query=["was written"])
    before.save()
    assert log.verify() is None
    log.append(who="after the second kill")
    assert (log.verify(), log.count()) == (None, 8)
    log.path.write_bytes(log.path.read_bytes()[:-20])  # no kill does that: the line was acknowledged
    log.append(who="later")
    assert log.verify() == 8


@pytest.mark.parametrize("what", ["write", "fsync", "seal"])
def test_what_cannot_be_logged_is_said_and_leaves_nothing(log, tmp_path, monkeypatch, what):
    before = log.path.read_bytes()
    with monkeypatch.context() as patch:
        if what == "write":
            real = os.write
            patch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:10]))
        elif what == "fsync":
            patch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        else:
            patch.setattr(Seal, "move", lambda seal: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(StorageError, match="could not be logged"):
            log.append(who="full")
    assert log.path.read_bytes() == before
    log.append(who="room again")
    assert (log.verify(), log.count()) == (None, 6)
    with pytest.raises(StorageError, match="could not be logged"):
        AuditLog(tmp_path / "folder" / "x" / "audit.jsonl").append(who="test")


def test_a_damaged_seal_is_named_and_one_beside_the_log_refused(log, keys, monkeypatch):
    (state,) = keys.iterdir()
    whole = state.read_bytes()
    half = next(n for n in (0, 512) if whole[n : n + 1] != b" ")  # a kill in the middle of the next line's
    state.write_bytes(whole[: 512 - half] + whole[half : half + 200] + whole[712 - half :])
    log.append(who="test")
    assert log.verify() is None
    state.write_bytes(whole[:-30])
    with pytest.raises(StorageError, match=r"seal of the log, .* cannot be read"):
        log.append(who="test")
    monkeypatch.setenv(KEYS, str(log.path.parent / "keys"))
    with pytest.raises(StorageError, match="name a folder elsewhere"):
        AuditLog(log.path, "of a gallery").append(who="test")


def test_who_takes_the_machine_later_cannot_write_the_past(log, tmp_path, keys):
    """The first key is away; the thief has log and seal, and makes a shorter log that fits what the machine knows."""
    key = tmp_path / "key"
    log.take_key(key)
    with pytest.raises(DataError, match="taken before"):
        log.take_key(tmp_path / "again")
    first = read_key(key.read_bytes())
    assert all(seal.first is None for seal in known_seals())
    log.append(who="later")
    assert log.check(first).checked == 6
    (state,) = keys.iterdir()
    short = log.path.read_bytes().splitlines(keepends=True)[:4]
    log.path.write_bytes(b"".join(short))
    last = short[-1].rstrip(b"\n")
    moving, rest = slots(state)
    made = json.dumps(moving | {"turn": 4, "number": 4, "digest": digest(last), "size": len(b"".join(short))})
    slot = f"{digest(made.encode())[:16]} {made}".ljust(511)
    state.write_text(f"{slot}\n{' ' * 511}\n{json.dumps(rest)}\n")
    assert log.verify() is None  # by all that the machine knows
    assert log.check(first).fault == "line 4 is not the one that was sealed last: lines were written anew"
    shutil.rmtree(keys)
    log.path.unlink()
    AuditLog(log.path).append(who="everything anew")
    assert "no line was sealed by key" in AuditLog(log.path).check(first).fault


def test_heads_elsewhere_are_missed_when_the_end_is_cut(log, tmp_path, monkeypatch, keys):
    heads = tmp_path / "elsewhere.jsonl"
    monkeypatch.setenv(HEADS, str(heads))
    for number in range(3):
        log.append(who="sent", query=[f"s{number}"])
    sent = read_heads([b"May 1 host regard: " + line for line in heads.read_bytes().splitlines()] + [b"{noise"])
    assert [head["number"] for head in sent] == [6, 7, 8]
    copy = tmp_path / "copied" / "audit.jsonl"
    copy.parent.mkdir()
    copy.write_bytes(log.path.read_bytes())
    shutil.rmtree(keys)
    assert AuditLog(copy).check(heads=sent).to_the_end
    copy.write_bytes(b"".join(log.path.read_bytes().splitlines(keepends=True)[:6]))
    assert AuditLog(copy).check(heads=sent).fault == "the end is missing: a head says there were 8 lines"
    copy.unlink()
    AuditLog(copy).append(who="anew")
    with pytest.raises(DataError, match="none of 3 heads"):
        AuditLog(copy).check(heads=sent)
    monkeypatch.setenv(HEADS, str(tmp_path / "nowhere" / "heads"))
    with pytest.raises(StorageError, match="could not be logged"):
        log.append(who="unsent")


def test_a_copy_that_was_cut_is_missed_and_a_whole_one_is_not(log, tmp_path):
    """The seal is of another path: what its log holds there must be here, too, or once have been."""
    lines = log.path.read_bytes().splitlines(keepends=True)
    for name, kept in (("whole", 5), ("cut", 3), ("cut-and-used", 3)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "audit.jsonl").write_bytes(b"".join(lines[:kept]))
    whole, cut, used = (AuditLog(tmp_path / name / "audit.jsonl") for name in ("whole", "cut", "cut-and-used"))
    assert (whole.verify(), cut.verify()) == (None, 4)
    assert f"{log.path} has 5 lines of the same seal" in cut.check().fault
    for each in (whole, used):
        each.append(who="goes on elsewhere")
    log.append(who="goes on here")
    assert (whole.verify(), used.verify(), log.verify()) == (None, 5, None)
    assert whole.check().checked == 6


def test_lines_are_archived_and_the_log_goes_on(log, tmp_path, keys):
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    assert log.archive(first) == 5
    with pytest.raises(StorageError, match="there already"):
        log.archive(first)
    log.append(who="after", query=["q5"])
    (line, _) = log.entries()
    assert (line["kind"], line["number"], line["archive"]) == ("continued", 6, "first.jsonl")
    assert (log.verify(), log.check().to_the_end, log.check(before=[first]).checked) == (None, True, 7)
    assert AuditLog(first).verify() == 6  # alone, it is an older copy
    assert log.archive(second) == 2
    log.append(who="after", query=["q6"])
    assert log.check(before=[first, second]).lines == 9
    assert log.check(before=[second]).fault is None
    assert log.check(before=[first]).line == 6
    log.take_key(tmp_path / "key")
    assert (log.verify(), log.check(read_key((tmp_path / "key").read_bytes())).checked) == (None, 2)
    first.write_bytes(b"".join(first.read_bytes().splitlines(keepends=True)[:4]))
    assert log.check(before=[first, second]).line == 5
    log.path.write_bytes(log.path.read_bytes().splitlines(keepends=True)[1])
    assert log.verify() == 1


def test_a_kill_between_archive_and_seal_is_put_right(log, tmp_path):
    short = AuditLog(tmp_path / "short" / "audit.jsonl")
    short.path.parent.mkdir()
    short.append()
    for number, each in enumerate((log, short)):
        before = Seal.of(each.path)
        each.archive(tmp_path / f"{number}.jsonl")
        before.save()
        each.append(who="after the kill")
        assert (each.verify(), each.check(before=[tmp_path / f"{number}.jsonl"]).fault) == (None, None)


def test_nobody_makes_up_a_beginning(log, tmp_path, keys):
    """A line that says that the log is continued, sealed by somebody else's key, told from end and from first key."""
    seal = Seal.of(log.path)
    stranger = AuditLog(tmp_path / "other" / "audit.jsonl")
    stranger.path.parent.mkdir()
    stranger.append(kind="continued", turns={seal.name: 5})
    log.path.write_bytes(stranger.path.read_bytes())
    assert log.verify() == 2
    shutil.rmtree(keys)
    assert "no line was sealed by key" in log.check(seal.first).fault


@pytest.fixture
def gallery(tmp_path):
    with Gallery.create(tmp_path / "people", DIM, {"name": "made up", "fingerprint": "f00d"}) as gallery:
        gallery.add(make_items(9))
        yield gallery


def test_a_use_says_who_what_when_and_what_was_answered(gallery, tmp_path):
    items = make_items(9)
    with gallery.use(ANNA) as use:
        own = Filter(not_ids=(items[0].record.id,))
        answer = gallery.search(items[0].vector, 3, own, use=use, names=[items[0].record.id])
        gallery.search(np.stack([items[1].vector, items[2].vector]), 3, use=use)
        gallery.export(tmp_path / "all.parquet", use=use)
        use.note("update", filter=WHO, changes={"person": "Berta", "attributes": {"coat": "plum"}})
    lines = list(gallery.audit.entries())
    assert [line["kind"] for line in lines] == ["search", "search", "export", "update", "end"]
    assert {(line["who"], line["role"], line["address"]) for line in lines} == {("anna", "search", "192.0.2.7")}
    assert len({(line["session"], line["began"]) for line in lines}) == 1
    assert lines[0]["gallery"] == {"name": "people", "id": gallery.meta["id"], "model": "f00d"}
    assert lines[0]["query"] == [named_digest(items[0].record.id)]
    told = {"count": 3, "searched": 8, "exact": True, "best": round(answer.matches[0].score, 6)}
    assert lines[0]["answered"] == told | {"matches": [named_digest(match.record.id) for match in answer.matches]}
    assert lines[1]["query"][0].startswith("descriptors:")
    assert (lines[2]["vectors"], lines[2]["answered"]) == (True, {"count": 9})
    assert lines[3]["filter"] == {
        "persons": [named_digest("Anna B.", "person")],
        "cameras": ["1"],
        "tracks": [named_digest("way 7", "track")],
        "attributes": {"coat": [named_digest("mauve", "attribute")]},
    }
    new = {"person": named_digest("Berta", "person"), "attributes": {"coat": named_digest("plum", "attribute")}}
    assert lines[3]["changes"] == new
    for number, name in enumerate(("Anna B.", "Berta", "nobody")):
        out = tmp_path / f"{number}.jsonl"
        command = ["gallery", "audit", str(gallery.audit.path), "--export", str(out), "--person", name]
        assert command_line.main(command) == 0
        assert [json.loads(line)["kind"] for line in out.read_text().splitlines()] == ["update"] * (number < 2)
    assert (lines[4]["reason"], lines[4]["uses"]) == ("closed", 4)
    assert not list(gallery.audit._life._folder.iterdir())
    assert lines[0]["began"] <= lines[4]["ended"] <= lines[4]["time"]
    assert not any(item.record.id.encode() in gallery.audit.path.read_bytes() for item in items)
    assert gallery.audit.verify() is None


def test_what_cannot_be_logged_is_not_answered(gallery, tmp_path):
    log, gallery.audit = gallery.audit, None
    with pytest.raises(ConfigError, match="keeps no log of its own"):
        gallery.use(ANNA)
    gallery.audit = log
    gallery.audit.path.mkdir()
    use = gallery.use(ANNA)
    with pytest.raises(StorageError, match="not answered"):
        gallery.search(make_items(1)[0].vector, use=use)
    with pytest.raises(StorageError, match="not answered"):
        gallery.export(tmp_path / "all.parquet", use=use)
    assert not (tmp_path / "all.parquet").exists()


def test_a_gallery_made_anew_begins_its_log_anew_and_says_so(gallery, tmp_path, capsys):
    folder, old = tmp_path / "people", gallery.meta["id"]
    with gallery.use(ANNA) as use:
        gallery.search(make_items(1)[0].vector, use=use)
    gallery.close()
    shutil.rmtree(folder)
    with Gallery.create(folder, DIM, {"name": "made up"}) as other:
        assert other.audit.verify() is None
        other.add(make_items(2))
        other.search(make_items(1)[0].vector, use=other.use(ANNA))
        assert other.audit.verify() is None
    assert command_line.main(["gallery", "audit", str(folder)]) == 0
    assert f"({old}) lay here before and went with it: 2 lines" in capsys.readouterr().err


def test_the_command_checks_exports_and_takes_the_key(gallery, tmp_path, capsys, keys):
    hostile = Actor("=cmd|' /C calc'!A0", "search", "192.0.2.7\n@x")
    (seen,) = make_items(1)
    with gallery.use(hostile) as use:
        gallery.search(seen.vector, 2, Filter(cameras=("+1",)), use=use, names=[seen.record.id])
    gallery.close()
    where, key, table = str(tmp_path / "people"), tmp_path / "key", tmp_path / "uses.csv"

    def run(*arguments):
        code = command_line.main(["gallery", "audit", *map(str, arguments)])
        return code, *capsys.readouterr()

    code, out, _ = run(where)
    assert (code, out.splitlines()[0].split(" logged")[0]) == (0, "1 searches")
    assert out.splitlines()[1] == "2 lines; the seals of 2 fit; it ends where its seal says"
    assert run(where, "--export", table)[0] == 0
    first, _ = csv.DictReader(table.read_text().splitlines())
    assert (first["who"], first["address"]) == ("'=cmd|' /C calc'!A0", "192.0.2.7\\n@x")
    assert (first["kind"], first["gallery"], first["k"], first["count"]) == ("search", "people", "2", "0")
    assert "choose the lines of --export" in run(where, "--id", seen.record.id)[2]
    about = tmp_path / "about.jsonl"
    for item, lines in ((seen, 1), (make_items(9)[8], 0)):
        assert run(where, "--export", about, "--id", item.record.id)[0] == 0
        assert len(about.read_text().splitlines()) == lines
    code, _, err = run(where, "--export", tmp_path / "none.jsonl", "--until", "2001-01-01")
    assert (code, err) == (0, f"regard: 0 lines written to {tmp_path / 'none.jsonl'}\n")
    assert "wants a name that ends in" in run(where, "--export", tmp_path / "uses.xls")[2]
    head = json.loads(run(where, "--print-head")[1])
    assert (head["number"], head["log"]) == (2, str(tmp_path / "people" / "audit.jsonl"))
    assert run(where, "--take-key", key)[0] == 0
    assert "there already" in run(where, "--take-key", key)[2] or "taken before" in run(where, "--take-key", key)[2]
    seal = tmp_path / "seal"
    shutil.copy(next(iter(keys.iterdir())), seal)
    alone = tmp_path / "alone.jsonl"
    shutil.move(tmp_path / "people" / "audit.jsonl", alone)
    shutil.rmtree(keys)
    assert "2 sealed by keys that are not here" in run(alone)[1]
    assert "not known here" in run(alone, "--key", key)[1]
    assert "ends where its seal says" in run(alone, "--key", key, "--seal", seal)[1]
    alone.write_bytes(alone.read_bytes().splitlines(keepends=True)[0])
    code, out, err = run(alone, "--key", key, "--seal", seal)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "the end is missing" in err
    assert "is no key of a log" in run(alone, "--key", seal)[2]
    code, _, err = run(tmp_path / "nowhere")
    assert (code, "there is no gallery in" in err) == (2, True)


KILLED = """
import os, sys
from pathlib import Path
from regard.gallery.audit import AuditLog
from regard.gallery.use import Actor, Use
use = Use(AuditLog(Path(sys.argv[1])), {"name": "people"}, Actor("anna", "search", "192.0.2.7"))
use.note("search")
use.note("why")
os.kill(os.getpid(), 9)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="nobody can tell there")
def test_a_use_whose_process_was_killed_gets_an_end(tmp_path, capsys):
    """With its last line as the last sign of life, sealed, also where its lines went into an archive; others go on."""
    path = tmp_path / "people" / "audit.jsonl"
    path.parent.mkdir()
    log = AuditLog(path)
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", KILLED, path]).returncode == -9
        if not (tmp_path / "old.jsonl").exists():
            log.archive(tmp_path / "old.jsonl")
    with Use(log, {"name": "people"}, Actor("ben")) as use:
        use.note("search")
        assert command_line.main(["gallery", "audit", str(path)]) == 0
        assert "2 uses ended by a stop that was not seen" in capsys.readouterr().err
        assert log.end_unseen() == AuditLog(path).end_unseen() == 0
    old, new = list(AuditLog(tmp_path / "old.jsonl").entries()), list(log.entries())
    ends = [line for line in new if line.get("reason") == "a stop that was not seen"]
    assert [line["ended"] for line in ends] == [old[1]["time"], new[2]["time"]]
    assert [(line["kind"], line["who"], line["uses"]) for line in ends] == [("end", "anna", 2)] * 2
    assert [line["began"] for line in ends] == [old[0]["began"], new[1]["began"]]
    assert [line["session"] for line in ends] == [old[0]["session"], new[1]["session"]]
    assert new[-1]["kind"] == "end"
    assert log.check(before=[tmp_path / "old.jsonl"]).to_the_end
    assert not list(log._life._folder.iterdir())
