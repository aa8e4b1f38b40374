"""Command lines as they are written: the documents' own, and settings and options in any order."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest

from regard.cli.main import VERBS, _plugins_of, main, parse
from regard.errors import RegardError

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOT_WHOLE = re.compile(r"\.\.\.|…|--help|--version|regard [A-Z]|\[[a-z]")
"""Marks of a line that shows the form of a command, not a command."""


def written(page: Path) -> list[str]:
    """Command lines of a page's blocks."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for block in re.findall(r"^```\w*\n(.*?)^```", text, re.S | re.M) for line in block.splitlines()]


def mentioned(page: Path) -> list[str]:
    """Commands named in a page's text, which may leave away what they want besides."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    return [" ".join(code.split()) for code in re.findall(r"`(regard [^`]+)`", prose) if " " in code.strip()[7:]]


def explained(module: str) -> list[str]:
    """Command lines of a verb's own help, each of them ended by three blanks and what it does."""
    text = (importlib.import_module(f"regard.cli.{module}").__doc__ or "").replace("\\\n", " ")
    return [re.split(r"\s{3,}", line.strip())[0] for line in text.splitlines() if line.startswith("  ")]


def arguments_of(line: str) -> list[str] | None:
    """Verb and arguments of a command line, without what its shell does with them; None where it is another's."""
    if not re.match(r"(\$ )?(regard |torchrun .* -m regard |[A-Z_]+=\S+ regard )", line) or NOT_WHOLE.search(line):
        return None
    words = shlex.split(re.sub(r"\$\([^)]*\)", "x", line), comments=True)
    words = words[words.index("regard") + 1 :]
    return words[: next((i for i, word in enumerate(words) if word in ("|", ">", "&&", ";", "&")), len(words))]


def refusal(line: str) -> str | None:
    """What the command line says to a line, where it refuses it."""
    arguments = arguments_of(line)
    try:
        if arguments is not None:
            parse(_plugins_of(arguments)[1])
    except RegardError as error:
        return f"{line}: {error}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_line_of_the_documents_is_one(page):
    refused = [fault for line in written(page) if (fault := refusal(line))]
    faults = [fault for line in mentioned(page) if (fault := refusal(line))]
    refused += [fault for fault in faults if "are required" not in fault and "expected one argument" not in fault]
    assert not refused, "\n".join(refused)


def test_the_command_lines_of_the_documents_are_found():
    lines = [line for page in PAGES for line in (*written(page), *mentioned(page)) if arguments_of(line)]
    assert len(lines) > 100
    assert {arguments_of(line)[0] for line in lines} == set(VERBS)  # pyright: ignore[reportOptionalSubscript]


@pytest.mark.parametrize("module", [*(f"{verb}_verb" for verb in VERBS), "labels_verb"])
def test_every_command_line_of_a_verbs_own_help_is_one(module):
    refused = [fault for line in explained(module) if (fault := refusal(line))]
    assert not refused, "\n".join(refused)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("train apnet -o X data.root=D optim.lr=1", {"name": "apnet", "overrides": ["data.root=D", "optim.lr=1"]}),
        ("train -q apnet data.root=D --show optim.lr=1", {"overrides": ["data.root=D", "optim.lr=1"], "quiet": True}),
        ("train apnet a=1 -q b=2 --go-on c=3", {"overrides": ["a=1", "b=2", "c=3"], "go_on": True, "quiet": True}),
        ("train -o X --go-on apnet", {"name": "apnet", "overrides": [], "go_on": True}),
        ("embed a -q b --model M c -o X", {"inputs": ["a", "b", "c"], "model": Path("M"), "quiet": True}),
        ("embed --model M -o X a -- -b.jpg --c.jpg", {"inputs": ["a", "-b.jpg", "--c.jpg"]}),
        ("compare a --resamples 9 b -q c", {"runs": [Path("a"), Path("b"), Path("c")], "resamples": 9}),
        ("search a --gallery G b -k 3 c", {"photos": [Path("a"), Path("b"), Path("c")], "top": 3}),
        ("explain attention R a -o X b --dpi 9 c", {"images": [Path("a"), Path("b"), Path("c")], "dpi": 9}),
        ("data make --seed 3 D --city 4", {"root": Path("D"), "seed": 3, "city": 4}),
        ("data labels to-coco R -q out --masks M", {"root": Path("R"), "out": Path("out"), "masks": Path("M")}),
        ("gallery delete --person 3 G --camera 2", {"gallery": "G", "person": ["3"], "camera": ["2"]}),
    ],
)
def test_arguments_and_options_stand_in_any_order(line, wanted):
    parsed = vars(parse(line.split())[1])
    assert {key: parsed[key] for key in wanted} == wanted


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("train apnet --bogus a=1", "unrecognized arguments: --bogus"),
        ("embed -q --model M -o X", "the following arguments are required: IMAGES"),
        ("embed a -q --model", "argument --model: expected one argument"),
        ("search a --gallery G --exact b --approximate", "argument --approximate: not allowed with argument --exact"),
        ("data -q make D", "got -q before it is said what to do; begin with make, doses, twins, check, labels"),
    ],
)
def test_in_any_order_a_fault_is_still_one(line, wanted):
    with pytest.raises(RegardError, match=re.escape(wanted)):
        parse(line.split())


@pytest.mark.parametrize(
    "line",
    [
        *(f"explain pair RUN a.jpg b.jpg -o out --dpi {value}" for value in (0, -5, 2401, 10**8, "x", 1.5)),
        "explain sheet a.jpg --runs RUN -o sheet.png --dpi 100000",
        *(f"explain sheet a.jpg --runs RUN -o sheet.png --width {value}" for value in (0, -1, 1e9, ".nan", ".inf")),
        *(f"explain ranked RUN -o out {option} 1000000000" for option in ("--depth", "--count", "--hardest")),
        *(f"compare RUN RUN --resamples {value}" for value in (0, -1, 10**9)),
        *(f"report RUN -o page.html {option} 1000000000" for option in ("--queries", "--pictures", "--people")),
        *(f"{verb} --seed -1" for verb in ("calibrate RUN", "report RUN -o a.html", "explain ranked RUN -o out",
                                           "explain precision RUN --root D -o out", "eval RUN --corruptions")),
        *(f"calibrate RUN --pairs {value}" for value in (0, -1, 10**12)),
        *(f"demo {option} 0" for option in ("--epochs", "--train-ids", "--test-ids")),
        "demo --train-ids 1",
        *(f"eval RUN --corruptions {option} 0" for option in ("--mixed", "--images")),
        *(f"data labels preview D out.png {option} 1000000000" for option in ("--photos", "--columns", "--height")),
    ],
)  # fmt: skip
def test_numbers_out_of_all_bounds_are_refused_before_the_work(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RegardError, match=r"argument --[a-z-]+: got '[^']+', wanted .*from [\d,]+ to [\d,]+") as error:
        parse(shlex.split(line))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("train apnet data.root=a -o A data.root=b", "data.root is given twice"),
        ("train --resume RUN data.root=a data.root=b", "data.root is given twice"),
        ("train apnet optim.lr=1e-4 optim={}", "optim.lr is given beside optim, which it is part of"),
        ("train apnet data.options={} data.options.cuhk03.boxes=labeled", "is given beside data.options"),
        ("reproduce apnet market1501 train.seed=1 train.seed=2", "train.seed is given twice"),
        ("data make crowd --set blur=1 --set blur=2", "blur is given twice"),
        ("data check . --data cuhk03 --set boxes=labeled --set boxes=detected", "boxes is given twice"),
        ("import a.pth --network apnet -o out --set level=2 --set level=3", "level is given twice"),
        ("train apnet data.name=cuhk03,boxes=labeled,boxes=detected", "boxes is given twice"),
    ],
)
def test_a_setting_with_two_values_is_refused(line, wanted, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(line.split()) == 2
    said = capsys.readouterr().err
    assert wanted in said
    assert said.count("\n") == 1
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    "line",
    [
        "eval RUN --metric cosine -q --metric euclidean",
        "eval RUN --data market1501 --data dukemtmc",
        "train apnet -o A data.root=D --output B",
        "explain pair RUN a.jpg b.jpg -o out --dpi 100 --dpi 100",
        "search a.jpg --gallery people -k 3 --top 4",
    ],
)
def test_an_option_with_two_values_is_refused(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RegardError, match=r"-[a-z-]+ is given twice; give it once"):
        parse(shlex.split(line))
    parse(shlex.split("search a.jpg --gallery people --id 1 --id 2 --camera 3 --camera 4"))


MALFORMED = {
    "data.train=[market1501": "override 'data.train=[market1501', line 1: not YAML: expected ',' or ']'",
    "data.train=market1501": "data.train: got 'market1501', wanted a list, such as data.train=[market1501]",
    "optim.lr={a": "not YAML",
    "optim.lr=!!timestamp x": "not YAML: could not determine a constructor",
    "optim.lr=!!map [a]": "not YAML: expected a mapping, found sequence",
    "optim.lr=!!bool a": "not YAML: 'a' is no bool",
    "optim.lr=" + "[" * 600: "not YAML: collections in one another",
    "optim..lr=1": "cannot read override",
    "=1": "cannot read override",
}


@pytest.mark.parametrize("setting", MALFORMED, ids=lambda setting: setting[:30])
def test_a_malformed_setting_ends_in_one_line(setting, tmp_path, capsys):
    for line in (["train", "apnet"], ["reproduce", "baseline_crowd", "-o", str(tmp_path)]):
        assert main([*line, setting]) == 2
        told = capsys.readouterr().err
        assert MALFORMED[setting] in told
        assert told.count("\n") == 1
        assert len(told) < 300


@pytest.mark.parametrize("option", ["boxes=[a", "boxes=!!map [a]", "boxes=!!timestamp x", "boxes={", "=x", "boxes"])
def test_a_malformed_option_of_a_data_set_ends_in_one_line(option, tmp_path, capsys):
    lines = [["data", "check", str(tmp_path), "--data", "cuhk03", "--set", option]]
    lines += [["train", "apnet", f'data.train=["cuhk03,{option}"]', f"data.root={tmp_path}"]]
    lines += [["train", "apnet", f"data.name=cuhk03,{option}", f"data.root={tmp_path}"]]
    for line in lines:
        assert main(line) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1, told
