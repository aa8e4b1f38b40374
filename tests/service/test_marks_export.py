"""The export of the marks, unpacked, is a data set that ``regard data check`` and ``regard eval`` take as it is."""

from __future__ import annotations

import io
import json
import zipfile

import pytest

from regard.cli import main as command_line
from regard.data.datasets import load_dataset


@pytest.fixture
def marked(service, tmp_path):
    """Two photographs and two pictures of the gallery as queries, their eight best matches marked as what they are."""
    id = {record.path: record.id for record in service.state.searchers["people"].gallery.records()}
    made = [service.call("/api/queries/pictures", {"ids": [id[service.photo(n).as_posix()]]})[1] for n in (6, 36)]
    for number, query in [(0, service.ask(0)), (12, service.ask(12)), (6, made[0]["query"]), (36, made[1]["query"])]:
        pid = service.photo(number).name[:4]
        for match in service.call("/api/search", {"query": query, "k": 8})[1]["matches"]:
            right = match["record"]["path"].rpartition("/")[2].startswith(pid)
            body = {"query": query, "match": match["record"]["id"], "right": right}
            assert service.call("/api/marks", body)[0] == 200
    folder = tmp_path / "unpacked"
    with zipfile.ZipFile(io.BytesIO(service.call("/api/marks/export")[1])) as archive:
        archive.extractall(folder)
    return folder


def test_the_checker_finds_no_fault(marked, capsys):
    assert command_line.main(["data", "check", str(marked)]) == 0
    assert "no fault" in capsys.readouterr().out
    splits = load_dataset("table", marked)
    assert (len(splits.train), len(splits.query), {sample.pid for sample in splits.query}) == (0, 4, {1, 2, 3, 4})


def test_it_can_be_evaluated(marked, made, tmp_path, capsys):
    _, model, _ = made["people"]
    scores = tmp_path / "scores.json"
    code = command_line.main(["eval", str(model), "--data", str(marked), "--json", str(scores), "-q"])
    assert code == 0, capsys.readouterr().err
    content = json.loads(scores.read_text())
    assert (content["num_queries"], content["num_valid"]) == (4, 4)


def test_a_picture_is_no_match_of_itself(service, marked):
    """A picture of the gallery was searched with, and is a match of another query as well."""
    records = service.state.searchers["people"].gallery.records()  # by id, that is, by nothing
    first, other = sorted(records, key=lambda record: record.path)[:2]
    for query, match in ((first, other), (other, first)):
        made = service.call("/api/queries/pictures", {"ids": [query.id]})[1]["query"]
        assert service.call("/api/marks", {"query": made, "match": match.id, "right": True})[0] == 200
    status, found = service.call("/api/marks/export")
    assert status == 200, found
    with zipfile.ZipFile(io.BytesIO(found)) as archive:
        archive.extractall(marked)
    splits = load_dataset("table", marked)
    for query in splits.query:
        same = [sample for sample in splits.gallery if sample.path.name == query.path.name]
        assert all((sample.pid, sample.camid) == (query.pid, query.camid) for sample in same)
        assert any(s.pid == query.pid and s.camid != query.camid for s in splits.gallery)
    assert len({s.camid for s in splits.gallery if s.path.stem in (first.id, other.id)}) == 2


def test_marks_without_a_right_one_are_no_evaluation_set(service):
    query = service.ask()
    match = service.call("/api/search", {"query": query, "k": 1})[1]["matches"][0]["record"]["id"]
    service.call("/api/marks", {"query": query, "match": match, "right": False})
    status, found = service.call("/api/marks/export")
    assert (status, found["error"]) == (
        400,
        "none of the 1 marks says right, so there is nobody to look for; mark one right",
    )
