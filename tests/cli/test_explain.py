"""``regard explain``: files on disk for every action, numbers beside figures, one line for every mistake."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import regard
from regard.cli.main import main
from regard.crowd import make_twins
from regard.errors import CheckpointError, DataError
from regard.explain.correlation import correlate
from regard.explain.kept_scores import read_faults
from regard.run_folder.origin import resolve

pytestmark = pytest.mark.slow

TINY = "test_resnet.r160_in1k"
SIZE = ["--size", "96x64"]


@pytest.fixture
def run(tmp_path):
    """``run("dsp") -> folder`` of a saved model."""

    def saved(name: str, **options) -> Path:
        torch.manual_seed(0)
        folder = tmp_path / "runs" / name
        regard.create_model(name, 5, backbone=TINY, **options).save(folder)
        return folder

    return saved


@pytest.fixture
def pictures(tmp_path):
    random = np.random.default_rng(0)
    paths = [tmp_path / f"{name}.jpg" for name in "ab"]
    for path in paths:
        Image.fromarray(random.integers(0, 255, (80, 40, 3)).astype(np.uint8)).save(path)
    return paths


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def explain(*arguments) -> int:
    return main(["explain", *map(str, arguments)])


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def refused(capsys, *arguments) -> str:
    assert explain(*arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("regard: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("name", ["msea", "mudeep"])
def test_attention(name, run, pictures, out):
    assert explain("attention", run(name), *pictures, "-o", out, *SIZE) == 0
    assert files(out) == {"a.png", "a.npz", "b.png", "b.npz", "attention.json"}
    said = json.loads((out / "attention.json").read_text())
    assert (said["system"], said["height"], said["width"]) == (name, 96, 64)
    with np.load(out / "a.npz") as arrays:
        assert set(arrays) == set(said["pictures"]["a"])
        for key, array in arrays.items():
            assert said["pictures"]["a"][key]["mean"] == pytest.approx(float(array.mean()), abs=1e-6)


def test_pair_in_several_forms(run, pictures, out, capsys):
    forms = ("--format", "pdf", "--format", "svg")
    assert explain("pair", run("apnet"), *pictures, "-o", out, "--all-taps", *forms, *SIZE) == 0
    assert files(out) == {"pair.pdf", "pair.svg", "pair.npz", "pair.json"}
    assert str(out / "pair.pdf") in capsys.readouterr().out
    said = json.loads((out / "pair.json").read_text())
    assert len(said["similarity"]) == 10
    assert all(value == pytest.approx(said["cosine"], abs=1e-5) for value in said["similarity"].values())
    with np.load(out / "pair.npz") as arrays:
        assert arrays["tap5 P1.first"].shape == (6, 4)


def test_pair_per_head(run, pictures, out):
    assert explain("pair", run("dsp"), *pictures, "-o", out, "--heads", *SIZE) == 0
    assert set(json.loads((out / "pair.json").read_text())["similarity"]) == {
        "global", *(f"part{number}" for number in range(6)), "ds1", "ds2", "ds3"
    }  # fmt: skip


def test_cam_says_which_heads_are_exact(run, pictures, out):
    folder = run("dsp")
    assert explain("cam", folder, *pictures, "-o", out, "--head", "ds2", "--head", "part1", "--label", 3, *SIZE) == 0
    heads = json.loads((out / "cam.json").read_text())["heads"]
    assert (heads["ds2"]["exact"], heads["part1"]["exact"]) == (True, False)
    assert heads["ds2"]["labels"] == [3, 3]
    model = regard.load(folder)
    kinds = {"npy", "gray.png", "heat.png", "overlay.png", "panels.png"}
    assert files(out) == {"cam.png", "cam.npz", "cam.json"} | {
        f"{picture}/{head}.{kind}" for picture in "ab" for head in ("ds2", "part1") for kind in kinds
    }
    with np.load(out / "cam.npz") as arrays:
        np.testing.assert_array_equal(np.load(out / "b" / "ds2.npy"), arrays["ds2"][1])
        bias = model.supervision["ds2"].classifier.bias[3].item()
        np.testing.assert_allclose(arrays["ds2"].sum((1, 2)) + bias, heads["ds2"]["scores"], atol=1e-5)
        assert arrays["part1"].max() <= 1


def test_features_of_two_runs(run, pictures, out):
    dsp, baseline = run("dsp"), run("baseline")
    layers = ("--layer", "layer1", "--layer", "tap5")
    assert explain("features", dsp, *pictures, "-o", out, "--compare", baseline, *layers, "--range", 0, 1, *SIZE) == 0
    kinds = {"npy", "gray.png", "heat.png", "overlay.png", "panels.png"}
    expected = {"grid.png", "features.json"}
    for label, names in (("dsp", ("tap2.before", "tap2.after", "tap5")), ("baseline", ("tap2", "tap5"))):
        expected |= {f"{label}/{picture}.{name}.{kind}" for picture in "ab" for name in names for kind in kinds}
    assert files(out) == expected
    array = np.load(out / "dsp" / "b.tap2.after.npy")
    assert array.shape[0] == 1
    assert array.shape[2:] == (24, 16)
    gray = np.asarray(Image.open(out / "dsp" / "b.tap2.after.gray.png"))
    np.testing.assert_allclose(gray, np.rint(255 * array[0].mean(0).clip(0, 1)), atol=1)


def test_arrays_are_pictures_like_files(run, pictures, out, tmp_path, capsys):
    """A picture saved as an array, as (3, H, W) of real numbers too, has the maps of its file."""
    folder, array, first = run("dsp"), tmp_path / "n.npy", tmp_path / "f.npy"
    lossless = tmp_path / "p.png"
    with Image.open(pictures[0]) as image:
        image.save(lossless)
        pixels = np.asarray(image)
    np.save(array, pixels)
    np.save(first, (pixels / 255).transpose(2, 0, 1).astype(np.float32))
    assert explain("features", folder, lossless, array, first, "-o", out, "--layer", "tap5", *SIZE) == 0
    maps = [np.load(out / "dsp" / f"{name}.tap5.npy") for name in "pnf"]
    np.testing.assert_array_equal(maps[0], maps[1])
    np.testing.assert_array_equal(maps[0], maps[2])
    for action, inputs in (("cam", [array]), ("pair", [array, first]), ("correlation", [first, "--layer", "tap5"])):
        assert explain(action, folder, *inputs, "-o", out / action, *SIZE) == 0
    assert json.loads((out / "pair/pair.json").read_text())["cosine"] == pytest.approx(1)
    np.save(array, np.array([{}]), allow_pickle=True)
    assert "Python objects, which is never opened" in refused(capsys, "features", folder, array, "-o", out, *SIZE)


def test_correlation_of_runs_and_of_files(run, pictures, out, tmp_path, capsys):
    assert explain("features", run("dsp"), pictures[0], "-o", out, "--layer", "tap4", *SIZE) == 0
    maps = [out / "dsp" / f"a.tap4.{when}.npy" for when in ("before", "after")]
    assert explain("correlation", *maps, "-o", tmp_path / "from_files", "--axis", "channels") == 0
    assert explain("correlation", run("dsp"), pictures[0], "-o", tmp_path / "of_run", "--layer", "tap4", *SIZE) == 0
    said = json.loads((tmp_path / "from_files" / "correlation.json").read_text())
    expected = correlate(np.load(maps[1]), "channels")
    assert said["a.tap4.after"]["mean"] == pytest.approx(expected.mean)
    matrix = np.load(tmp_path / "from_files" / "a.tap4.after.channels.npy")
    np.testing.assert_array_equal(matrix, expected.matrix)
    of_run = json.loads((tmp_path / "of_run" / "correlation.json").read_text())
    assert of_run["dsp a tap4.before"]["mean"] == pytest.approx(correlate(np.load(maps[0])).mean, abs=1e-4)
    assert "positions, 0 dead" in capsys.readouterr().out


def test_the_published_tool_exchanged_height_and_width(run, pictures, out, tmp_path, capsys):
    folder, layer = run("dsp"), ("--layer", "layer1.after")
    assert explain("features", folder, pictures[0], "-o", out, *layer, "--size", "192x96", "--legacy-transposed") == 0
    squeezed = out / "dsp" / "a.tap2.after.npy"
    said = json.loads((out / "features.json").read_text())["maps"][0]
    assert (said["height"], said["width"], said["shape"][1:]) == (96, 192, [24, 48])
    assert explain("features", folder, pictures[0], "-o", tmp_path / "b", *layer, "--size", "96x192") == 0
    np.testing.assert_array_equal(np.load(squeezed), np.load(tmp_path / "b" / "dsp" / "a.tap2.after.npy"))
    with Image.open(out / "dsp" / "a.tap2.after.overlay.png") as overlay:
        assert overlay.size == (192, 384)  # drawn upright again

    options = ("--size", "192x96", "--legacy-transposed")
    assert explain("correlation", folder, pictures[0], "-o", tmp_path / "c", *layer, *options) == 0
    assert explain("correlation", squeezed, "--compare", squeezed, "-o", tmp_path / "d") == 0
    (of_run,) = json.loads((tmp_path / "c" / "correlation.json").read_text()).values()
    of_files = json.loads((tmp_path / "d" / "correlation.json").read_text())
    assert list(of_files) == ["0_a.tap2.after", "1_a.tap2.after"]
    assert of_files["0_a.tap2.after"] == pytest.approx(of_run, abs=1e-9)
    refused(capsys, "correlation", squeezed, "--legacy-transposed", "-o", out)


def write_crowd(root: Path) -> Path:
    """Two people, two cameras, in the layout of the synthetic crowd: the person fills the left half."""
    for folder in ("bounding_box_train", "query", "bounding_box_test"):
        (root / folder).mkdir(parents=True)
        (root / "masks" / folder).mkdir(parents=True)
        for pid in (1, 2):
            for camid in (1, 2):
                name = f"{pid:04d}_c{camid}s1_{len(folder):06d}_00"
                picture = np.random.default_rng(pid).integers(0, 255, (48, 24, 3)).astype(np.uint8)
                Image.fromarray(picture).save(root / folder / f"{name}.jpg")
                mask = np.zeros((48, 24), np.uint8)
                mask[:, :12] = 255
                Image.fromarray(mask).save(root / "masks" / folder / f"{name}.png")
    (root / "dataset.json").write_text("{}")
    return root


def test_precision(run, tmp_path, out, capsys):
    root = write_crowd(tmp_path / "crowd")
    common = ("--root", root, "--data", "crowd", "-q", "-o", out, *SIZE)
    assert explain("precision", run("sa"), run("baseline"), "--map", "*spatial", "--map", "last map", *common) == 0
    rows = json.loads((out / "precision.json").read_text())
    assert [(row["system"], row["map"]) for row in rows] == [
        ("sa", "tap2.spatial"), ("sa", "tap3.spatial"), ("sa", "tap4.spatial"), ("sa", "last map"),
        ("baseline", "last map"),
    ]  # fmt: skip
    for row in rows:
        assert row["chance"] == 0.5
        assert row["images"] == 4
        assert row["trained"] == pytest.approx(row["untrained"])  # nothing was trained, and both start from seed 0
    assert "crowd: 4 queries of 2 people" in capsys.readouterr().out
    assert (out / "precision.png").is_file()


def test_precision_with_masks_kept_elsewhere(run, tmp_path, out, capsys):
    """Gray masks by folder, of which 200 is the person and 60 is not: named, or in the label_files of the run."""
    root, masks = write_crowd(tmp_path / "crowd"), tmp_path / "mask-anno"
    (root / "masks").rename(masks)
    for file in masks.rglob("*.png"):
        mask = np.where(np.asarray(Image.open(file)) > 0, 200, 60).astype(np.uint8)
        Image.fromarray(mask).save(file)
    folder = run("sa")
    how = ("precision", folder, "--map", "last map", "--root", root, "--data", "crowd", "-q", "-o", out, *SIZE)
    assert "say where masks are with --masks FOLDER" in refused(capsys, *how)

    def chance(*more) -> float:
        assert explain(*how, *more) == 0
        return json.loads((out / "precision.json").read_text())[0]["chance"]

    assert chance("--masks", masks) == 0.5
    assert f"masks in {masks}: 4 of 4 query pictures" in capsys.readouterr().out
    assert chance("--masks", masks, "--split", "gallery") == 0.5
    assert "gallery pictures of 2 people" in capsys.readouterr().out
    assert chance("--masks", masks, "--mask-threshold", "30") == 1
    config = resolve("sa_crowd", [f"data.root={root}", f"data.label_files.crowd.mask_root={masks}"]).config
    (folder / "config.yaml").write_text(json.dumps(config.to_dict()))
    assert chance() == 0.5
    next((masks / "query").iterdir()).unlink()
    assert chance() == 0.5
    assert f"masks in {masks}: 3 of 4 query pictures" in capsys.readouterr().out


def test_score(run, tmp_path, out, capsys):
    """Tables, figure, and JSON in the run's folder, which is of these weights alone."""
    root, folder, twins = write_crowd(tmp_path / "crowd"), run("baseline"), tmp_path / "twins"
    small = regard.load(folder)
    small.input = regard.InputSpec(64, 32)
    small.save(folder)
    make_twins(twins, people=2, parts=["bag"], cameras=2, height=64, width=32, progress=False)
    how = ("score", folder, "--root", root, "--data", "crowd", "-q", "-o", out)
    few = ("--pairs", 4, "--checked", 1, "--twins", twins)
    methods = [part for name in ("last map", "rollout", "center") for part in ("--method", name)]
    assert explain(*how, *few, *methods) == 0
    said = capsys.readouterr().out
    assert "baseline: 4 pairs of 2 people; 2 pairs of twins; masks of the person" in said
    assert re.search(r"baseline +center \(control\) .* 1\.00 +FAILS", said)
    assert "does not apply:\n  baseline, rollout: Baseline has no attention between tokens" in said
    assert files(out) == {"score.json", "score.md", "score.png"}
    (found,) = json.loads((out / "score.json").read_text())
    assert set(found["methods"]) == {"last map", "center"}
    figures = found["methods"]["last map"]["figures"]
    both = [figures[f"insertion {fill}"]["value"] for fill in ("mean", "blur")]
    assert figures["insertion"]["value"] == pytest.approx(np.mean(both))
    assert {"rank deletion", "hit", "share", "twins hit", "twins share bag"} <= set(figures)
    assert found["chance"]["person"]["value"] == 0.5
    model = regard.load(folder)
    kept = read_faults(folder, model)
    assert list(kept) == ["last map", "center"]
    assert kept["center"] == found["methods"]["center"]["sanity"]["faults"]
    assert len(kept["center"]) == 1
    other = regard.create_model("baseline", 5, backbone=TINY)
    assert read_faults(folder, other) == {}
    (folder / "explain_score.json").write_text('{"format": 3}')
    with pytest.raises(DataError, match="delete it, or write it again"):
        read_faults(folder, model)
    assert "there is no method 'cam'" in refused(capsys, *how, "--method", "cam")
    assert "wanted a folder that 'regard data twins' made" in refused(capsys, *how, "--twins", tmp_path)


def test_precision_says_which_masks_are_the_data_sets_own(run, tmp_path, out, capsys):
    root, masks = write_crowd(tmp_path / "crowd"), tmp_path / "some"
    (masks / "query").mkdir(parents=True)
    for file in sorted((root / "masks" / "query").iterdir())[:3]:
        Image.fromarray(np.full((48, 24), 255, np.uint8)).save(masks / "query" / file.name)
    how = ("precision", run("sa"), "--map", "last map", "--root", root, "--data", "crowd", "-q", "-o", out, *SIZE)
    for where, line in {
        masks: f"masks in {masks}: 3 of 4 query pictures; 1 of the others have the data set's own\n",
        root / "masks": f"masks in {root / 'masks'}: 4 of 4 query pictures\n",
    }.items():
        assert explain(*how, "--masks", where) == 0
        assert line in capsys.readouterr().out

    for file in (root / "masks" / "query").iterdir():  # grays of the data set's own: any but 0, unless a threshold says
        Image.fromarray(np.where(np.asarray(Image.open(file)) > 0, 200, 60).astype(np.uint8)).save(file)
    for told, chance in (((), 1), (("--mask-threshold", "100"), 0.5)):
        assert explain(*how, *told) == 0
        assert json.loads((out / "precision.json").read_text())[0]["chance"] == chance


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_sheet(form, run, pictures, tmp_path):
    path = tmp_path / f"sheet.{form}"
    runs = ("--runs", run("baseline"), run("apnet"))
    assert explain("sheet", *pictures, *runs, "-o", path, "--dpi", 50, *SIZE) == 0
    assert path.read_bytes().startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[form])


def test_sheet_of_attention_and_to_a_partner(run, pictures, tmp_path, capsys):
    sa, small = run("sa"), ("--dpi", 50)
    assert (
        explain("sheet", *pictures, "--runs", sa, "-o", tmp_path / "s.png", "--show", "attention", *SIZE, *small) == 0
    )
    partner = ("--partner", pictures[0], *small)
    assert explain("sheet", *pictures, "--runs", sa, "-o", tmp_path / "s.svg", *partner, *SIZE) == 0
    assert "similarity to a.jpg" in (tmp_path / "s.svg").read_text()
    err = refused(capsys, "sheet", pictures[0], "--runs", run("apnet"), "-o", tmp_path / "t.png", "--show", "attention")
    assert "apnet attends to channels alone" in err


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(CheckpointError):
        explain("cam", tmp_path, tmp_path / "a.jpg", "-o", tmp_path, "--debug")


def test_mistakes(run, pictures, out, tmp_path, capsys):
    folder, picture = run("baseline"), pictures[0]
    said = {
        ("attention", tmp_path / "nothing", picture, "-o", out): "nothing",
        ("attention", folder, tmp_path / "no.jpg", "-o", out): "there is no image",
        ("features", folder, picture, "-o", out, "--layer", "tap7"): "no layer 'tap7', did you mean",
        ("features", folder, picture, "-o", out, "--channel", "999"): "got channel 999",
        ("features", folder, picture, "-o", out, "--range", "1", "0"): "is empty",
        ("cam", folder, picture, "-o", out, "--head", "ds1"): "no classifier 'ds1'",
        ("cam", folder, picture, "-o", out, "--label", "9"): "knows 0 to 4",
        ("correlation", folder, "-o", out): "without pictures",
        ("correlation", folder, tmp_path / "m.npy", "-o", out): "cannot open",
        (
            "correlation",
            folder,
            pictures[0],
            "--compare",
            tmp_path / "m.npy",
            "-o",
            out,
        ): "got maps as .npy together with runs",
        ("correlation", tmp_path / "m.npy", "-o", out): "cannot read",
        ("sheet", picture, "--runs", folder, "-o", tmp_path / "s.jpg"): "wanted .png, .svg or .pdf",
        ("pair", folder, picture, picture, "-o", out, "--dpi", "0"): "--dpi: got '0'",
        ("precision", folder, "--root", tmp_path, "--images", "0", "-o", out): "--images: got '0'",
        ("attention", folder): "required",
    }
    for arguments, part in said.items():
        assert part in refused(capsys, *arguments, *(SIZE if "-o" in arguments else ()))


def test_runs_and_pictures_of_one_name_have_files_of_their_own(tmp_path):
    from pathlib import Path

    from regard.cli.explain_runs import names_of
    from regard.evaluation.run import run_labels
    from regard.wording import file_name

    runs = [Path("a/x"), Path("b/x"), Path("a_x"), Path("c/final"), Path("C/best")]
    labels = list(run_labels(runs))
    assert len(set(labels)) == len(runs)
    assert len({file_name(label).lower() for label in labels}) == len(runs)
    pictures = [Path("a/p.jpg"), Path("b/p.jpg"), Path("0_p.jpg")]
    assert len(set(names_of(pictures))) == len(pictures)
