"""A run with decoded pictures kept is the run without."""

from __future__ import annotations

import pytest

from regard.engine.run import start_run
from regard.errors import ConfigError
from regard.recipes import read_recipe
from regard.run_folder.folders import read_history


@pytest.mark.parametrize("folder", [None, "elsewhere"])
def test_a_run_learns_the_same_from_kept_pictures(tiny_overrides, tmp_path, folder):
    def losses(name: str, *overrides: str) -> list[float]:
        config = read_recipe("baseline_crowd").config([*tiny_overrides, *overrides])
        start_run(config, tmp_path / name, quiet=True)
        return [record["loss"] for record in read_history(tmp_path / name) if record["event"] == "step"]

    expected = losses("none")
    place = [f"data.cache_folder={tmp_path / folder}"] if folder else []
    assert losses("disk", "data.cache=disk", "data.workers=1", *place) == expected
    kept = tmp_path / folder if folder else tmp_path / "disk" / "cache"
    assert [path.name.startswith("pictures-") for path in kept.iterdir()] == [True]
    assert (tmp_path / "disk" / "cache").exists() == (folder is None)


def test_a_cache_of_another_kind_is_refused():
    assert read_recipe("baseline_crowd").config(["data.cache=ram"]).data.cache == "disk"
    with pytest.raises(ConfigError, match=r"data\.cache"):
        read_recipe("baseline_crowd").config(["data.cache=tape"])
