"""Plans: what a file means, and that what is wrong with it is said before anything runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from regard.ablation.plan import read_plan
from regard.cli.main import main
from regard.errors import ConfigError, RegardError

PLANS = Path(__file__).parents[2] / "benchmarks" / "plans"
TINY = "base: {recipe: apnet_crowd, model.backbone: test_resnet.r160_in1k}\n"


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> Path:
        (tmp_path / "plan.yaml").write_text(text)
        return tmp_path / "plan.yaml"

    return write


@pytest.mark.slow
def test_rows_are_all_combinations_of_what_is_varied(write, tmp_path):
    text = TINY + (
        "vary:\n  model.gate_start: [released, identity]\n"
        "  network: {whole: {}, 'off': {model.attention_control: 'off', optim.lr: 1e-4}}\nseeds: [3, 1]\n"
        "baseline: gate_start=identity, whole\n"
    )
    plan, _ = read_plan(write(text), crowd=tmp_path / "crowd", overrides=["train.epochs=7"])
    assert [(row.label, row.folder) for row in plan.rows] == [
        ("gate_start=released, whole", "gate-start-released-whole"),
        ("gate_start=released, off", "gate-start-released-off"),
        ("gate_start=identity, whole", "gate-start-identity-whole"),
        ("gate_start=identity, off", "gate-start-identity-off"),
    ]
    assert (plan.seeds, plan.baseline, plan.title) == ((3, 1), "gate_start=identity, whole", "plan")
    configs = [row.config for row in plan.rows]
    assert [config.model.options["gate_start"] for config in configs] == ["released"] * 2 + ["identity"] * 2
    assert [config.optim.lr for config in configs] == [1e-3, 1e-4] * 2
    assert {(config.train.epochs, config.data.root) for config in configs} == {(7, tmp_path / "crowd")}
    assert plan.rows[1].cost.parameters < plan.rows[0].cost.parameters


def test_no_row_lies_where_the_plan_keeps_its_own(write):
    text = TINY + "title: |\n  Two\n  lines\nvary: {a: {lock: {}, crowd: {optim.lr: 0.1}, '%': {optim.lr: 1}}}\n"
    plan, _ = read_plan(write(text))
    assert [row.folder for row in plan.rows] == ["row-lock", "row-crowd", "row"]
    assert plan.title == "Two lines"


@pytest.mark.slow
def test_show_says_which_data_is_not_there_yet(write, tmp_path, capsys):
    text = TINY + f"vary: {{optim.lr: [0.1, 0.2]}}\ntests: {{far: crowd={tmp_path / 'gone'}}}\n"
    assert main(["ablate", str(write(text)), "--show", "-o", str(tmp_path / "out")]) == 0
    assert "data of test 'far' cannot be read yet: crowd: there is no folder" in capsys.readouterr().out


@pytest.mark.slow
def test_a_row_as_large_as_another(write):
    row = "  row:\n    wide: {recipe: baseline_crowd, model.backbone: test_resnet.r160_in1k, equal: %s}\n"
    row += "    apnet: {}\n"  # which is asked for before it is there
    plan, _ = read_plan(write(TINY + "vary:\n" + row % "{row: apnet, option: model.head_dim}"))
    wide, apnet = plan.rows
    assert wide.config.model.options["head_dim"] == 494  # as equal_option's doctest has it
    assert wide.cost.inference_parameters == pytest.approx(apnet.cost.inference_parameters, rel=2e-3)
    for equal, said in (
        ("{row: apnett, option: model.head_dim}", "'apnett' is no row of a size of its own, did you mean 'apnet'"),
        ("{row: apnet, option: optim.lr}", "equal.option is 'optim.lr', wanted an option of the network"),
        ("{row: apnet}", "option: missing"),
        ("{row: apnet, option: model.head_dim, in: pounds}", "pounds"),
    ):
        with pytest.raises(ConfigError, match=said):
            read_plan(write(TINY + "vary:\n" + row % equal))


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(PLANS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_plans_on_board_are_whole(path, capsys):
    assert main(["ablate", str(path), "--show"]) == 0, capsys.readouterr().err
    assert "what others are compared with" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seeds: [1]\n", "vary: missing"),
        ("- a\n", "holds list, wanted base, vary and seeds"),
        ("vary: {model.level: [1]}\nsede: [1]\n", "sede: no such key, did you mean 'seeds'?"),
        ("vary: {model.level: []}\n", "model.level holds nothing"),
        ("vary: {model.level: [1]}\nseeds: [1, 1]\n", "seeds is [1, 1], wanted one or more, each once"),
        ("vary: {model.level: [1]}\nseeds: [-1]\n", "seeds.0"),
        ("vary: {model.level: [1]}\n", "row 'level=1': recipe is None, wanted the name"),
        (TINY + "vary: {model.level: [1, 9]}\n", "row 'level=9': level is 9, wanted 0 (no attention) to 3"),
        (TINY + "vary: {model.levle: [1, 2]}\n", "row 'levle=1': apnet_crowd: model: levle: no such key, did you mean"),
        (TINY + "vary: {train.seed: [1, 2]}\n", "train.seed is not a setting of a row; say it in the plan's seeds"),
        (TINY + "vary: {a: {x: {model.level: 1}}, model.level: [1]}\n", "model.level is given twice"),
        (TINY + "vary: {a: {x: {}, y: {}}}\n", "rows 'x' and 'y' have the same settings"),
        (TINY + "vary: {a: {'x y': {}, x-y: {model.level: 1}}}\n", "rows 'x y' and 'x-y' have the same folder 'x-y'"),
        (
            TINY + "vary: {model.level: 1}\n",
            "vary.model.level: got 1, wanted a list of values, or names and the settings",
        ),
        (TINY + "vary: {a: {x: , y: {model.level: 1}}}\n", "vary.a: 'x' stands for None, wanted settings such as"),
        (TINY + "vary: {a: {1: {}}}\n", "vary.a: the name 1 is no text; write it in quotes"),
        (TINY + "vary: {a: {' ': {}}}\n", "a has a choice without a name"),
        (TINY + 'vary: {a: {"x\\ny": {}}}\n', r"the name 'x\ny' has line breaks"),
        (
            TINY + "vary: {a: {x: {}, y: {eval.ap: trapezoid}}}\n",
            "eval.ap is not a setting of a row; all rows are scored by",
        ),
        (
            TINY + "vary: {a: {x: {equal: y}}}\n",
            "equal: got 'y', wanted a section, such as row=VALUE (keys: row, option, in)",
        ),
        (TINY + "vary: {a: {x: {data.root: nowhere}}}\n", "there is no folder"),
        ("# empty\n", "holds nothing, wanted base, vary and seeds"),
        (TINY + "vary: {a: {x: {}}}\nbaseline: z\n", "baseline 'z' is no row"),
        (TINY + "vary: {a: {x: {}, y: {data.root: /elsewhere}}}\n", "row 'y' is scored on"),
        (TINY + "vary: {model.level: [1]}\ntests: {'': nowhere}\n", "tests has a data set without a name; write NAME"),
        (TINY + "vary: {model.level: [1]}\ntests: {far: nowhere}\n", "unknown data set 'nowhere'"),
        (TINY + "vary: {model.level: [1]}\ntests: {far: table=missing.csv}\n", "missing.csv"),
        ("vary: {train.epochs: [1]}\nseeds: " + str([*range(10_001)]) + "\n", "10,001 trainings, more than 10,000"),
    ],
)
@pytest.mark.slow
def test_what_is_wrong_is_said_in_a_line(write, tmp_path, text, said, capsys):
    assert main(["ablate", str(write(text)), "-o", str(tmp_path / "out")]) == 2
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1
    assert not re.search(r"seed_\d", " ".join(map(str, tmp_path.rglob("*"))))


def test_no_plan_no_trace(tmp_path):
    with pytest.raises(RegardError, match="cannot read recipe"):
        read_plan(tmp_path / "missing.yaml")
