"""Search beyond the engine: several photos, ties, tracklets, re-ranking, probabilities."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from gallery_items import DIM, make_items, slow_search

from regard.errors import ConfigError
from regard.gallery import Filter, Gallery, Item, Record
from regard.gallery.query import combine, unit_rows
from regard.gallery.record import record_id
from regard.metrics import KReciprocal, rerank_blocks

ITEMS = make_items(160)


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    with Gallery.create(tmp_path_factory.mktemp("search") / "people", DIM, {"name": "x"}) as made:
        made.add(ITEMS)
        yield made


def test_several_photos_are_one_person(gallery):
    photos = np.stack([3 * ITEMS[0].vector, ITEMS[1].vector, 0.5 * ITEMS[2].vector])
    mean = sum(item.vector.astype(float) for item in ITEMS[:3])
    mean /= np.linalg.norm(mean)
    assert combine(photos, DIM) == pytest.approx(mean, abs=1e-6)
    found = gallery.search(photos, k=5).matches
    assert [m.record.id for m in found] == [id for id, _ in slow_search(ITEMS, mean, 5, Filter())]


def test_ranks_count_from_one_and_scores_fall(gallery):
    matches = gallery.search(ITEMS[5].vector, k=20).matches
    assert [match.rank for match in matches] == list(range(1, 21))
    assert all(a.score >= b.score for a, b in itertools.pairwise(matches))


@pytest.mark.parametrize("k", [0, -1, 1001])
def test_a_number_of_matches_out_of_range(gallery, k):
    with pytest.raises(ConfigError, match="wanted 1 to 1000"):
        gallery.search(ITEMS[0].vector, k=k)


def test_more_matches_than_pictures(gallery):
    assert len(gallery.search(ITEMS[0].vector, k=1000).matches) == len(ITEMS)


def test_ties_are_ordered_by_id_wherever_they_are_cut(tmp_path):
    """Twelve equal pictures, and the first k of them by id whatever k is."""
    vector = ITEMS[0].vector
    twins = [Item(Record(record_id(f"twin {n}"), f"twin {n}"), vector) for n in range(12)]
    with Gallery.create(tmp_path / "twins", DIM, {"name": "x"}) as gallery:
        gallery.add([*twins, *ITEMS[1:30]])
        order = sorted(item.record.id for item in twins)
        for k in (1, 3, 7, 12):
            assert [m.record.id for m in gallery.search(vector, k=k).matches] == order[:k]


def slow_groups(k):
    """One match per tracklet, by walking the whole ranked list."""
    records = {item.record.id: item.record for item in ITEMS}
    best, others = {}, {}
    for id, _ in slow_search(ITEMS, ITEMS[9].vector, len(ITEMS), Filter()):
        record = records[id]
        key = (record.camera, record.track) if record.track else id
        if key in best:
            others[key].append(id)
        else:
            best[key], others[key] = id, []
    return list(best.values())[:k]


@pytest.mark.parametrize("k", [1, 5, 40, 130])
def test_one_match_per_tracklet(gallery, k):
    matches = gallery.search(ITEMS[9].vector, k=k, group=True).matches
    assert [match.record.id for match in matches] == slow_groups(k)
    seen = [r.id for match in matches for r in (match.record, *match.track)]
    assert len(seen) == len(set(seen))
    for match in matches:
        assert {(r.camera, r.track) for r in match.track} <= {(match.record.camera, match.record.track)}


def test_reranking_is_that_of_the_metrics(gallery):
    query = ITEMS[9].vector
    records = {item.record.id: item for item in ITEMS}
    first = [id for id, _ in slow_search(ITEMS, query, 101, Filter())]
    vectors = np.stack([records[id].vector for id in first])
    ((_, distances),) = rerank_blocks(query[None], vectors, KReciprocal(k1=20))
    order = np.argsort(distances[0].numpy(), kind="stable")
    matches = gallery.search(query, k=15, rerank=True).matches
    assert [m.record.id for m in matches] == [first[i] for i in order[:15]]
    assert all(m.score == pytest.approx(float(records[m.record.id].vector @ query), abs=1e-5) for m in matches)


def test_reranking_a_handful(gallery):
    for count in (1, 2, 3, 5):
        ids = tuple(item.record.id for item in ITEMS[:count])
        assert len(gallery.search(ITEMS[0].vector, filter=Filter(ids=ids), rerank=True).matches) == count


class Logistic:
    """A calibration."""

    prior = 0.5

    def probability(self, scores, prior=0.5):
        return 1 / (1 + (1 - prior) / prior * np.exp(-10 * (np.asarray(scores) - 0.5)))


def test_probabilities_come_from_the_calibration(gallery):
    even = gallery.search(ITEMS[0].vector, k=5, calibration=Logistic(), prior=0.5).matches
    assert [m.probability for m in even] == pytest.approx(Logistic().probability([m.score for m in even]))
    rare = gallery.search(ITEMS[0].vector, k=5, calibration=Logistic(), prior=0.01).matches
    assert [m.probability for m in rare] == pytest.approx(Logistic().probability([m.score for m in rare], 0.01))
    assert {m.probability for m in gallery.search(ITEMS[0].vector, k=5).matches} == {None}
    assert gallery.search(ITEMS[0].vector, filter=Filter(cameras=()), calibration=Logistic()).matches == ()


def test_the_prior_is_one_in_the_people_it_may_be(gallery):
    """ITEMS show twelve named people; no filter makes a match more probable."""
    for filter in (Filter(), Filter(cameras=("1",)), Filter(ids=(ITEMS[0].record.id,))):
        answer = gallery.search(ITEMS[0].vector, k=5, filter=filter, calibration=Logistic())
        assert answer.prior == answer.to_dict()["prior"] == pytest.approx(1 / 13)
        assert answer.prior_note.startswith("probabilities start from 1 in 13: ")
        wanted = Logistic().probability([m.score for m in answer.matches], 1 / 13)
        assert [m.probability for m in answer.matches] == pytest.approx(wanted)
    assert gallery.search(ITEMS[0].vector).prior is None


def test_people_are_counted_by_name_by_tracklet_or_one_by_one(tmp_path):
    def item(number, **known):
        return Item(Record(record_id(f"{number}"), f"{number}", **known), ITEMS[number].vector)

    with Gallery.create(tmp_path / "counted", DIM, {"name": "x"}) as gallery:
        assert gallery.prior == 1
        gallery.add([item(n) for n in range(10)])
        assert gallery.prior == pytest.approx(1 / 11)  # ten unknown pictures
        gallery.add([item(10 + n, track=f"t{n // 5}") for n in range(20)])
        assert gallery.prior == pytest.approx(1 / 15)  # and four tracklets
        gallery.add([item(30 + n, person="7", track=f"u{n}") for n in range(20)])
        assert gallery.prior == pytest.approx(1 / 32)  # 31 people by name, 34 by tracklet
        gallery.update(Filter(ids=(record_id("0"), record_id("1"), record_id("2"))), {"person": "7"})
        assert gallery.prior == pytest.approx(1 / 29)
        gallery.delete(Filter(persons=("7",)))
        assert gallery.prior == pytest.approx(1 / 12)  # seven unknown pictures, four tracklets


def test_an_answer_is_ready_for_json(gallery):
    answer = gallery.search(ITEMS[0].vector, k=2, group=True).to_dict()
    assert answer["searched"] == len(ITEMS)
    assert answer["matches"][0]["record"]["id"] == ITEMS[0].record.id


def test_rows_of_length_one():
    rows = unit_rows(np.array([[3.0, 4.0], [1e-20, 0]]), 2)
    assert rows.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [1, 0]]
    assert rows.dtype == np.float32
