"""What requests bring, checked before anything is done with it: nothing else may be in them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from regard.errors import DataError
from regard.gallery.record import FACTS, Filter, parse_age, parse_time
from regard.service.state import Query

__all__ = ["Ask", "Expired", "Facts", "Mark", "Removal", "Search", "Update", "Why"]

Name = Annotated[str, Field(max_length=256)]
Names = Annotated[list[Name], Field(max_length=256)]
Moment = float | Name | None


class Body(BaseModel):
    """What a request brings, and nothing besides."""

    model_config = ConfigDict(extra="forbid")


class Ask(Body):
    """Pictures of a gallery to search with."""

    ids: Annotated[list[Name], Field(min_length=1, max_length=64, description="pictures of one person")]
    gallery: Name | None = Field(None, description="where they are; the first gallery without it")


class Search(Body):
    """What to look for, and among what."""

    query: Name = Field(description="as answered when the query was made")
    gallery: Name | None = Field(None, description="where to look; the first gallery without it")
    k: int = Field(24, ge=1, le=200, description="matches wanted")
    cameras: Names | None = Field(None, description="only these")
    not_cameras: Names = Field(default_factory=list, description="none of these")
    other_cameras: bool = Field(False, description="not the cameras the query's pictures came from")
    since: float | Name | None = Field(None, description="seconds since 1970 or ISO 8601; included")
    until: float | Name | None = Field(None, description="not included")
    persons: Names | None = None
    tracks: Names | None = None
    attributes: Annotated[dict[Name, Names], Field(max_length=32)] = Field(default_factory=dict)
    rerank: bool = Field(False, description="k-reciprocal re-ranking of the best candidates")
    group: bool = Field(False, description="one match per tracklet")
    prior: float | None = Field(
        None, gt=0, lt=1, description="how probable a match is before looking; null: told by the gallery's size"
    )
    exact: bool | None = Field(None, description="null: exact unless the gallery is large and has an index")

    def filter(self, query: Query) -> Filter:
        """What may be seen."""
        asked = {name: getattr(self, name) for name in ("cameras", "tracks", "persons", "since", "until", "attributes")}
        others = query.cameras if self.other_cameras else ()
        return Filter.asked(**asked, not_cameras=(*self.not_cameras, *others), not_ids=query.ids)


class Why(Body):
    """A query and a match to look into."""

    query: Name
    match: Name
    gallery: Name | None = None
    photo: int = Field(0, ge=0, le=64, description="which of the query's pictures")


class Mark(Why):
    """A word on a match."""

    right: bool | None = Field(description="null takes the mark back")


class Which(Body):
    """Pictures of a gallery; everything given must hold, and something has to be."""

    ids: Annotated[list[Name], Field(max_length=10_000)] | None = None
    cameras: Names | None = None
    persons: Names | None = None
    tracks: Names | None = None
    since: Moment = Field(None, description="seconds since 1970 or ISO 8601; included")
    until: Moment = Field(None, description="not included")
    attributes: Annotated[dict[Name, Names], Field(max_length=32)] = Field(default_factory=dict)

    def filter(self) -> Filter:
        """The same as a filter.

        Raises:
            DataError: it names nothing, so that everything would be meant.
        """
        asked = {name: getattr(self, name) for name in Which.model_fields}
        filter = Filter.asked(**asked)
        if filter == Filter():
            raise DataError("got nothing that says which pictures, wanted ids, cameras, persons, tracks or times")
        return filter


class Removal(Which):
    """Pictures to remove."""

    dry_run: bool = Field(False, description="only say how many")
    job: bool = Field(False, description="answer at once, and go on")


class Facts(Body):
    """What is known of a picture; what is left out stays, null takes it away."""

    camera: Name | None = None
    time: Moment = None
    track: Name | None = None
    person: Name | None = None
    attributes: Annotated[dict[Name, Name], Field(max_length=64)] = Field(default_factory=dict)

    def changes(self) -> Mapping[str, Any]:
        """What was said.

        Raises:
            DataError: nothing was, or the time is none.
        """
        said = {name: getattr(self, name) for name in (*FACTS, "attributes") if name in self.model_fields_set}
        if not said:
            raise DataError("got no fact to change, wanted camera, time, track, person or attributes")
        return said | ({"time": parse_time(said["time"])} if "time" in said else {})


class Update(Which):
    """Pictures, and what is to be known of them."""

    set: Facts = Field(description="what changes")
    job: bool = Field(False, description="answer at once, and go on")


class Expired(Body):
    """Pictures that have been kept long enough."""

    older_than: Name | None = Field(None, description="an age, such as 30d, 12h or 2w")
    before: Moment = Field(None, description="a moment, in place of an age")
    undated: bool = Field(False, description="pictures without a time, too")
    dry_run: bool = Field(False, description="only say how many")
    job: bool = Field(False, description="answer at once, and go on")

    def moment(self) -> float:
        """Before which they were taken, in seconds since 1970.

        Raises:
            DataError: neither or both of age and moment are given, or one is none.
        """
        if (self.older_than is None) == (self.before is None):
            raise DataError('got neither or both of older_than and before, wanted one: {"older_than": "30d"}')
        if self.older_than is not None:
            return time.time() - parse_age(self.older_than)
        moment = parse_time(self.before)
        if moment is None:
            raise DataError("before is empty, wanted seconds since 1970 or 2026-05-01T08:30:00")
        return moment
