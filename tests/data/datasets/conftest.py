"""Fixtures of the data sets' tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from regard.errors import RegardError


@pytest.fixture
def fault() -> Callable[..., None]:
    """A function that checks that a call fails with a one-line message that holds all the words."""

    def check(call: Callable[[], object], *words: str) -> None:
        with pytest.raises(RegardError) as error:
            call()
        message = str(error.value)
        assert "\n" not in message
        assert [word for word in words if word not in message] == [], message

    return check
