"""Runs side by side: the same figures as evaluating each, tests that fit the queries, and nothing computed twice."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import regard
from regard.cli.main import main
from regard.config import load_config
from regard.errors import CheckpointError, ConfigError, StorageError
from regard.evaluation import compare_runs as compare
from regard.evaluation.compare_runs import compare_runs, measure_speed
from regard.evaluation.run import fingerprint, open_run, run_labels
from regard.metrics.significance import holm, intervals, paired_differences, query_scores
from regard.recipes import read_recipe


def write_run(folder: Path, overrides: list[str], seed: int) -> Path:
    """A run folder as training leaves it, with weights that were never trained."""
    config = read_recipe("baseline_crowd").config(overrides)
    torch.manual_seed(seed)
    regard.create_model("baseline", 6, **config.model.options).save(folder / "final")
    (folder / "config.yaml").write_text(config.to_yaml())
    return folder


@pytest.fixture
def runs(tmp_path, tiny_overrides) -> list[Path]:
    return [write_run(tmp_path / name, tiny_overrides, seed) for seed, name in enumerate(("one", "two", "three"))]


def test_figures_are_those_of_evaluating_each(runs):
    found = compare_runs(runs, resamples=200, speed=False, quiet=True)
    assert [row.label for row in found.rows] == ["one", "two", "three"]
    reports = [open_run(run, quiet=True).report() for run in runs]
    pids = np.repeat([7, 8, 9, 10], 2)
    for row, report in zip(found.rows, reports):
        assert row.figures["mAP"].value == pytest.approx(report.mAP, abs=1e-9)
        assert row.figures["rank-1"].value == pytest.approx(report.rank(1), abs=1e-9)
        assert row.figures == intervals(query_scores(report), pids, resamples=200)
        assert row.identities == 4
    first = query_scores(reports[0])
    wanted = {name: paired_differences(first, query_scores(r), pids, resamples=200)
              for name, r in zip(("two", "three"), reports[1:])}  # fmt: skip
    assert found.differences == wanted
    both = holm([wanted["two"]["mAP"].p, wanted["three"]["mAP"].p])
    assert [found.corrected[name]["mAP"] for name in ("two", "three")] == both


def test_comparing_again_reads_what_was_scored(runs, monkeypatch):
    first = compare_runs(runs, resamples=100, speed=False, quiet=True)
    assert len(list((runs[0] / "eval").iterdir())) == 1
    monkeypatch.setattr(compare, "load", lambda folder: pytest.fail(f"{folder} was loaded again"))
    again = compare_runs(runs, resamples=100, speed=False, quiet=True)
    assert again.to_dict() == first.to_dict()


def test_any_changed_bit_of_what_is_kept_scores_anew(runs):
    compare_runs(runs[:1], resamples=50, speed=False, quiet=True)
    (kept,) = (runs[0] / "eval").iterdir()
    whole = kept.read_bytes()
    assert compare._read(kept) is not None
    for place in [*range(0, len(whole), 97), *range(len(whole) - 40, len(whole))]:
        kept.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert compare._read(kept) is None


@pytest.mark.parametrize("what", ["weights", "option", "damage"])
def test_what_changes_a_score_scores_anew(runs, what):
    first = compare_runs(runs[:1], resamples=50, speed=False, quiet=True).rows[0].figures
    (kept,) = (runs[0] / "eval").iterdir()
    changes = {}
    if what == "weights":
        (runs[2] / "final" / "model.safetensors").replace(runs[0] / "final" / "model.safetensors")
    elif what == "option":
        changes = {"metric": "euclidean"}
    else:
        kept.write_bytes(kept.read_bytes()[:100])
    second = compare_runs(runs[:1], changes=changes, resamples=50, speed=False, quiet=True).rows[0].figures
    assert (second == first) == (what == "damage")
    assert len(list((runs[0] / "eval").iterdir())) == (1 if what == "damage" else 2)


def test_a_folder_that_cannot_be_written_to_can_be_compared(runs, monkeypatch):
    def refuse(path, data):
        raise StorageError("read-only")

    monkeypatch.setattr(compare, "write_atomic", refuse)
    assert compare_runs(runs[:2], resamples=50, speed=False, quiet=True).differences


def test_other_pictures_are_not_paired(runs, market, tmp_path, tiny_overrides):
    import shutil

    other = shutil.copytree(market, tmp_path / "other")
    next(iter(sorted((other / "query").iterdir()))).unlink()
    moved = [text for text in tiny_overrides if not text.startswith("data.root=")] + [f"data.root={other}"]
    runs.append(write_run(tmp_path / "elsewhere", moved, 5))
    found = compare_runs([runs[0], runs[3]], resamples=50, speed=False, quiet=True)
    assert not found.differences
    assert len(found.data) == 2
    assert "scored on different pictures" in str(found)
    assert compare_runs([runs[0], runs[3]], root=market, resamples=50, speed=False, quiet=True).differences


def test_the_fingerprint_sees_names_contents_and_labels(market, tmp_path):
    import os
    import shutil

    splits = regard.load_dataset("market1501", market)
    copy = regard.load_dataset("market1501", shutil.copytree(market, tmp_path / "copy"))
    assert fingerprint(splits) == fingerprint(copy)
    path = copy.query[0].path
    before, content = path.stat(), path.read_bytes()
    os.utime(path, ns=(1, 1))
    assert fingerprint(splits) == fingerprint(copy)
    path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert fingerprint(splits) != fingerprint(copy)
    path.write_bytes(content)
    with copy.gallery[0].path.open("ab") as file:
        file.write(b"0")
    assert fingerprint(splits) != fingerprint(copy)


def test_baseline_labels_and_mistakes(runs, tmp_path):
    found = compare_runs(runs, baseline=runs[1], resamples=50, speed=False, quiet=True)
    assert found.baseline == "two"
    assert set(found.differences) == {"one", "three"}
    inside = compare_runs([runs[0], runs[1] / "final"], resamples=50, speed=False, quiet=True)
    assert [row.label for row in inside.rows] == ["one", "two/final"]
    assert (runs[1] / "eval").is_dir()
    with pytest.raises(ConfigError, match="given twice"):
        compare_runs([runs[0], runs[0]], quiet=True)
    with pytest.raises(ConfigError, match="is not among the runs"):
        compare_runs(runs[:2], baseline=runs[2], quiet=True)
    with pytest.raises(ConfigError, match="no run to compare"):
        compare_runs([], quiet=True)
    with pytest.raises(CheckpointError, match=re.escape(str(tmp_path / "nothing"))):
        compare_runs([tmp_path / "nothing"], quiet=True)


def test_runs_of_one_name_are_called_by_their_place():
    folders = [Path("/w/one/apnet"), Path("/w/two/apnet"), Path("/w/two/dsp"), Path("/w/three/../three/dsp/x/..")]
    assert list(run_labels(folders)) == ["one/apnet", "two/apnet", "two/dsp", "three/dsp"]
    assert list(run_labels([Path()])) == [Path.cwd().name]
    with pytest.raises(ConfigError, match="given twice"):
        run_labels([Path("apnet"), Path("apnet").absolute()])


def test_a_model_folder_takes_its_systems_recipe_and_its_own_size(runs, market, tmp_path):
    regard.load(runs[0]).save(tmp_path / "alone")
    with pytest.raises(ConfigError, match="names no data set; say --root FOLDER"):
        open_run(tmp_path / "alone").report()
    config = open_run(tmp_path / "alone", root=market).config
    assert (config.model.name, config.data.height, config.data.root) == ("baseline", 48, market)
    (tmp_path / "alone" / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="does not describe a model"):
        open_run(tmp_path / "alone", root=market)


def test_speed_is_the_median_of_interleaved_rounds():
    """The clock is ours: each look at it is one second later, but five later while the second model computes."""
    log: list[str] = []
    now = [0.0]

    class Model(torch.nn.Module):
        def __init__(self, name):
            super().__init__()
            self.name, self.weight = name, torch.nn.Parameter(torch.zeros(1))

        def embed(self, images):
            assert images.shape == (8, 3, 16, 12)
            log.append(self.name)
            now[0] += {"a": 0.0, "b": 4.0}[self.name] + (100 if len(log) == 5 else 0)

    def clock():
        now[0] += 1
        return now[0]

    models = {name: (Model(name), 16, 12) for name in "ab"}
    found = measure_speed(models, rounds=5, seconds=1000, batch=8, clock=clock)
    assert found == {"a": 8.0, "b": 1.6}  # the slow moment is no median
    assert "".join(log) == "ba" + "ab" + "ba" + "ab" + "ba" + "ab"
    log.clear()
    measure_speed(models, rounds=5, seconds=1, batch=8, clock=clock)
    assert len(log) == 2 * (1 + 3)


def test_the_precision_of_each_score_is_compared_and_kept(runs):
    """One was trained in bf16; what is kept of a score says what it was computed in."""
    settings = runs[1] / "config.yaml"
    settings.write_text(settings.read_text().replace("precision: fp32", "precision: bf16"))
    found = compare_runs(runs[:2], resamples=20, speed=False, quiet=True)
    assert [row.options["precision"] for row in found.rows] == ["fp32", "bf16"]
    assert {"one: precision fp32", "two: precision bf16"} <= set(found.notes())
    for run, precision in zip(runs[:2], ("fp32", "bf16")):
        (kept,) = (run / "eval").iterdir()
        with np.load(io.BytesIO(kept.read_bytes()[: -compare.DIGITS])) as content:
            assert json.loads(str(content["about"]))["options"]["precision"] == precision
    same = compare_runs(runs[:2], changes={"precision": "fp32"}, resamples=20, speed=False, quiet=True)
    assert [row.options["precision"] for row in same.rows] == ["fp32", "fp32"]


def test_the_verb_prints_and_writes_everything(runs, tmp_path, capsys):
    files = {kind: tmp_path / f"table.{kind}" for kind in ("md", "tex", "csv", "json", "png")}
    arguments = ["compare", *map(str, runs), "--resamples", "100", "-q"]
    assert main(arguments + [text for kind, path in files.items() for text in (f"--{kind}", str(path))]) == 0
    out = capsys.readouterr().out
    assert re.search(r"run +mAP +mINP +rank-1 +parameters +GFLOPs +images/s", out)
    assert "minus one" in out
    assert "AP step" in out
    assert "ties by gallery index" in out
    assert "Holm's correction for 2 runs" in out
    tables = [line for line in files["md"].read_text().splitlines() if line.startswith("|")]
    assert len(tables) == 5 + 5 + 4
    assert [len({line.count("|") for line in part}) for part in (tables[:5], tables[5:10], tables[10:])] == [1, 1, 1]
    tex = [re.sub(r"\\textless{}", "<", line) for line in files["tex"].read_text().splitlines() if line.endswith(r"\\")]
    assert [[cell.strip() for cell in line[:-2].split("&")] for line in tex] == [
        [cell.strip() for cell in line.strip("|").split("|")] for line in tables if "---" not in line
    ]
    assert re.search(r"CMC +rank-1 +rank-5 +rank-10 +rank-15 +rank-20\n", out)
    content = json.loads(files["json"].read_text())
    rows = list(csv.DictReader(io.StringIO(files["csv"].read_text())))
    assert len(rows) == 3 * 7
    for row in rows:
        run = next(run for run in content["runs"] if run["run"] == row["run"])
        assert float(row["value"]) == run["figures"][row["figure"]]["value"]
        if run["difference"]:
            assert float(row["p_holm"]) == run["difference"][row["figure"]]["p_holm"]
        else:
            assert row["p"] == row["difference"] == ""
    assert files["png"].read_bytes().startswith(b"\x89PNG")


def test_options_that_differ_are_said_of_each_run(tmp_path, tiny_overrides):
    one = write_run(tmp_path / "one", tiny_overrides, 0)
    two = write_run(tmp_path / "two", [*tiny_overrides, "eval.metric=euclidean", "eval.ap=trapezoid"], 1)
    notes = compare_runs([one, two], resamples=50, speed=False, quiet=True).notes()
    assert "one: metric cosine" in notes
    assert "two: metric euclidean" in notes
    assert any("AP step" in note for note in notes)  # one form for all


def test_a_run_on_several_data_sets_is_scored_on_the_one_it_tests_on(runs, market, tmp_path):
    text = (runs[0] / "config.yaml").read_text()
    config = load_config(text, [f"data.train=[market1501={market}, grid={tmp_path}]", "data.name=null"])
    (runs[0] / "config.yaml").write_text(config.to_yaml())
    assert open_run(runs[0]).config.data.train == ()
    assert open_run(runs[0]).config.data.name == f"market1501={market}"
    assert compare_runs(runs[:2], resamples=50, speed=False, quiet=True).differences


def test_names_that_are_no_text(tmp_path, market, tiny_overrides, capsys):
    """Folders and pictures may be called what no encoding has: everything ends well, and says the name alike."""
    root = tmp_path / os.fsdecode(b"gr\xfc\xdfe")
    shutil.copytree(market, root)
    for path in list(root.glob("*/*s1_000100_00.jpg")):
        path.rename(path.with_name(path.stem + os.fsdecode(b"_caf\xe9.jpg")))
    overrides = [text for text in tiny_overrides if "data.root" not in text] + [f"data.root={root}"]
    run = write_run(tmp_path / "run", overrides, 0)
    out = tmp_path / "out"
    first, second = (next(root.glob(f"{part}/0007_c{camera}*caf*")) for part, camera in (("query", 1), ("query", 2)))
    for arguments in (
        [
            "compare",
            run,
            "--md",
            out / "c.md",
            "--csv",
            out / "c.csv",
            "--json",
            out / "c.json",
            "--no-speed",
            "--resamples",
            "50",
        ],
        ["report", run, "-o", out / "page.html", "-q"],
        ["explain", "pair", run, first, second, "-o", out / "pair"],
        ["data", "check", root, "-q", "--quick", "--json", out / "check.json"],
    ):
        assert main([str(argument) for argument in arguments]) == (2 if arguments[0] == "data" else 0), arguments
    printed = capsys.readouterr().out
    assert r"gr\udcfc\udcdfe" in printed
    assert json.loads((out / "check.json").read_text())["datasets"][0]["root"] == str(root)
    assert r"gr\uDCFC\uDCDFe" in (out / "page.html").read_text(encoding="utf-8")  # among the settings, as YAML says it


def test_runs_that_differ_in_their_seed_alone_are_a_group(tmp_path, tiny_overrides):
    made = []
    for system, margin in (("a", 0.3), ("b", 0.5)):
        for seed in (1, 2):
            changes = [*tiny_overrides, f"train.seed={seed}", f"losses.triplet.margin={margin}", f"data.workers={seed}"]
            made.append(write_run(tmp_path / f"{system}_{seed}", changes, 10 * seed + (system == "b")))
    found = compare_runs(made, baseline=made[2], resamples=100, speed=False, quiet=True)
    assert [(group.label, group.runs) for group in found.groups] == [
        ("b (2 seeds)", ("b_1", "b_2")),
        ("a (2 seeds)", ("a_1", "a_2")),
    ]
    values = {row.label: row.figures["mAP"].value for row in found.rows}
    assert found.groups[0].figures["mAP"].value == pytest.approx((values["b_1"] + values["b_2"]) / 2)
    gap, p = found.groups[1].gaps["mAP"]
    assert gap.value == pytest.approx((values["a_1"] + values["a_2"] - values["b_1"] - values["b_2"]) / 2)
    assert 0 < p <= 1
    assert found.groups[1].differs == ("losses.triplet.margin=0.3",)
    for text in (str(found), found.to_markdown(), found.to_csv(), json.dumps(found.to_dict())):
        assert "a (2 seeds)" in text
    assert "a (2 seeds) against b (2 seeds): losses.triplet.margin=0.3" in str(found)
    alone = compare_runs([made[0], made[2]], resamples=100, speed=False, quiet=True)
    assert (alone.groups, alone.grouped()) == ([], [])


def test_groups_of_one_beginning_are_told_apart_and_other_pictures_make_another_group(tmp_path, tiny_overrides):
    """Where data lies is no setting: what tells runs on two data sets apart are the pictures in their states."""
    runs = [
        write_run(tmp_path / f"r_{place}", [*tiny_overrides, f"train.seed={seed}"], place)
        for place, seed in enumerate((1, 2, 3, 4))
    ]
    (group,) = compare_runs(runs, resamples=50, speed=False, quiet=True).groups
    assert group.label == "r (4 seeds)"
    for run, pictures in zip(runs, (0, 0, 1, 1)):
        save_file({"pictures": torch.full((3, 8), pictures, dtype=torch.uint8)}, run / "last.safetensors")
    found = compare_runs(runs, resamples=50, speed=False, quiet=True)
    assert [(group.label, group.runs, group.differs) for group in found.groups] == [
        ("r_0; r_1 (2 seeds)", ("r_0", "r_1"), ()),
        ("r_2; r_3 (2 seeds)", ("r_2", "r_3"), ("trained on other pictures",)),
    ]
