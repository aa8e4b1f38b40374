from __future__ import annotations

import json

import pytest

from regard.cli.main import main
from regard.errors import ConfigError
from regard.explain.reproduction import Compared
from regard.reproduce import find_recipe


@pytest.mark.parametrize(
    ("published", "reach", "ours", "verdict"),
    [
        (0.80, 0, (0.81, 0.79, 0.83), "same"),
        (0.80, 0, (0.81, 0.805, 0.83), "better"),
        (0.80, 0.01, (0.81, 0.805, 0.83), "same"),
        (0.80, 0, (0.79, 0.78, 0.795), "worse"),
        (0.80, 0.01, (0.77, 0.75, 0.78), "worse"),
        (0.80, 0, (0.80, 0.80, 0.80), "same"),
    ],
)
def test_the_published_figure_lies_in_our_interval_or_on_one_side(published, reach, ours, verdict):
    assert Compared("mAP", published, reach, ours).verdict == verdict


def test_a_row_is_found_by_system_and_data_set():
    assert find_recipe("apnet", "market1501").name == "apnet_market1501"
    assert find_recipe("apnet", "market1501", released=True).kind == "released"
    for name, said in (("apnett", "no recipe apnett_market1501"), ("demo", "no recipe demo_market1501")):
        with pytest.raises(ConfigError, match=said):
            find_recipe(name, "market1501")


def test_other_counts_than_the_published_ones_are_refused_before_anything_is_trained(market, tmp_path, capsys):
    assert main(["reproduce", "baseline", "market1501", "--root", str(market), "-o", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "train images: 36 found, 12,936 published" in said
    assert "--other-data" in said
    assert not (tmp_path / "out").exists()
    assert main(["reproduce", "baseline", "market1501", "-o", str(tmp_path / "out")]) == 2
    assert "--root" in capsys.readouterr().err
    assert main(["reproduce", "baseline", "-o", str(tmp_path / "out")]) == 2
    assert "got no data set" in capsys.readouterr().err


@pytest.mark.slow
def test_both_rows_stand_side_by_side_and_the_same_command_trains_nothing_again(
    market, tmp_path, tiny_overrides, capsys
):
    folder = tmp_path / "out"
    command = ["reproduce", "baseline", "market1501", "--root", str(market), "--other-data", "--seeds", "2"]
    command += ["-o", str(folder), "-q", *tiny_overrides[2:], "model.pretrained=false"]
    assert main(command) == 0
    said = capsys.readouterr().out
    found = json.loads((folder / "reproduction.json").read_text())
    assert [run["label"] for run in found["runs"]] == ["seed 0", "seed 1"]
    for figure in found["figures"]:
        values = [run["figures"][figure["name"]][0] for run in found["runs"]]
        mean, half = sum(values) / 2, abs(values[0] - values[1]) / 2 * 12.7062
        assert figure["ours"] == pytest.approx([mean, mean - half, mean + half], abs=1e-4)
    differed = [departure["text"] for departure in found["departures"]]
    assert any(text.startswith("train images: 36 found, 12,936 published") for text in differed)
    assert any(text.startswith("train.epochs is 2, the recipe has 120") for text in differed)
    assert not any(text.startswith("train.eval_every") for text in differed)
    assert "mAP" in said
    assert "Student's t over 2 seeds" in said
    page = (folder / "reproduction.html").read_text()
    assert "12,936 published" in page
    before = {
        path: path.read_bytes() for path in folder.rglob("*") if path.name in ("metrics.jsonl", "model.safetensors")
    }
    assert main(command) == 0
    assert before == {path: path.read_bytes() for path in before}
    assert capsys.readouterr().out.splitlines()[-1] == said.splitlines()[-1]
