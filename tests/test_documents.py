"""What can be checked of the documents, the recipes and the comments by a command is checked here."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest

from regard.config import Config
from regard.errors import RegardError
from regard.metrics.significance import over_seeds
from regard.recipes import Recipe, list_recipes, read_recipe
from regard.registry import MODELS

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
WRITTEN = sorted(
    path
    for folder in ("src", "tests", "docs", "benchmarks")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".md", ".yaml", ".html", ".js") and path != Path(__file__)
)
ids = [str(page.relative_to(ROOT)) for page in PAGES]


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_to_a_heading(page):
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text(encoding="utf-8")):
        there = (page.parent / target).resolve() if target else page
        assert anchor in anchors(there), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_names_of_python_are_there(page):
    text = page.read_text(encoding="utf-8")
    names = set(re.findall(r"`(regard(?:\.[A-Za-z_]\w*)+)(?:\(\))?`", text))
    for name in names - {"regard.json"}:  # a file
        module, rest = name, []
        while True:
            try:
                found = importlib.import_module(module)
                break
            except ModuleNotFoundError:
                module, _, last = module.rpartition(".")
                rest.insert(0, last)
        for part in rest:
            assert hasattr(found, part), name
            found = getattr(found, part)


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_files_named_are_there(page):
    text = page.read_text(encoding="utf-8")
    for name in set(re.findall(r"`((?:src|tests|docs|benchmarks)/[\w./-]+\.\w+)`", text)):
        assert (ROOT / name).exists(), name
    for name in set(re.findall(r"`(benchmarks/\w+|tests/\w+|src/regard/\w+)/?`", text)):
        assert (ROOT / name).exists() or (ROOT / f"{name}.py").exists(), name


def test_every_system_has_a_page_a_row_and_a_recipe():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    texts = {path.stem: path.read_text("utf-8") for path in (ROOT / "docs/explanation/systems").glob("*.md")}
    for name in MODELS:
        if MODELS.plugin_of(name) is not None:  # of another test
            continue
        assert name in readme, name
        assert any(recipe == name or recipe.startswith(f"{name}_") for recipe in list_recipes()), name
        assert name in texts or any(f"`{name}`" in text for text in texts.values())


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.name)
def test_only_what_can_be_read_is_cited(path):
    """No sections of a document that is not here."""
    text = path.read_text(encoding="utf-8")
    cited = re.findall(
        r"\bspec(?:ification)?(?:'s)? sections? [\d.]+|\b[Ss]ection \d+ of (?:the|\w+'s) specification", text
    )
    assert not cited
    assert not re.findall(r"\b(?:anchors|design|style|house)\.md\b", text)


def written_names(text: str) -> set[str]:
    """Everything in backticks, word by word, that is a recipe or an option by its looks."""
    words = {word for code in re.findall(r"`([^`\n]+)`", text) for word in code.split()}
    options = r"(?:data|model|losses|optim|schedule|train|eval)\.[\w.]+(?:=\S+)?"
    recipes = rf"(?:{'|'.join(MODELS)}|rga|trinet)_\w+"
    return {word for word in words if re.fullmatch(rf"{options}|{recipes}", word)}


def test_what_the_page_of_papers_names_is_there():
    """Its recipes are on board, its options are taken by some recipe."""
    names = written_names((ROOT / "docs/explanation/papers.md").read_text(encoding="utf-8"))
    options = {name for name in names if re.match(r"\w+\.", name)}
    assert len(names - options) > 25
    assert names - options <= set(list_recipes())
    assert {name for name in list_recipes() if name.endswith("_released")} <= names
    bases = [
        read_recipe(name)
        for name in (
            "daaf_market1501",
            "daaf_mindspore_market1501",
            "mudeep_market1501",
            "sa_market1501",
            "dsp_market1501",
            "apnet_market1501",
        )
    ]
    systems = {option for name in MODELS for option in MODELS.options(name)}
    for option in options:
        section, name = option.partition("=")[0].split(".")[:2]
        if "=" in option:
            assert any(takes(base, option) for base in bases), option
        elif section == "model":
            assert name in systems | {"pretrained"}, option
        else:
            assert name in Config.model_fields[section].annotation.model_fields, option


def takes(recipe: Recipe, override: str) -> bool:
    """Whether a recipe takes an override."""
    try:
        recipe.config([override])
    except RegardError:
        return False
    return True


def with_ends(figure: dict[str, float], sign: str = "") -> str:
    """A figure in % with its interval, as tables have it."""
    value, low, high = (f"{100 * figure[name]:{sign}.1f}" for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def test_the_table_of_all_systems_is_the_one_measured():
    """docs/explanation/results.md and what recipes for the crowd say of themselves, by the file of the plan's table."""
    table, starts = (
        json.loads((ROOT / f"benchmarks/results/{name}.json").read_text(encoding="utf-8"))
        for name in ("attention", "starts")
    )
    page = (ROOT / "docs/explanation/results.md").read_text(encoding="utf-8")
    plan = (ROOT / "benchmarks/plans/attention.yaml").read_text(encoding="utf-8")
    for row in table["rows"] + starts["rows"]:
        assert f"| {row['row']} | {with_ends(row['figures']['mAP'])} |" in page, row["row"]
        recipe = re.search(rf"^ +\"?{re.escape(row['row'])}\"?: {{recipe: (\w+)}}$", plan, re.M)
        if recipe and row in table["rows"]:  # the system as its recipe has it
            about = read_recipe(recipe[1]).about
            reached = over_seeds([100 * seed["mAP"] for seed in row["seeds"].values()])
            assert (about.published["mAP"], about.reach["mAP"]) == (
                round(reached.value, 1), round(reached.high - reached.value, 1)
            ), recipe[1]  # fmt: skip


@pytest.mark.parametrize("name", ["transfer", "transfer_more"])
def test_the_tables_of_transfer_are_those_measured(name):
    table = json.loads((ROOT / f"benchmarks/results/{name}.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs/how-to/transfer.md").read_text(encoding="utf-8")
    for row in table["rows"]:
        cells = [row["row"]]
        for figure in ("mAP", "PETS mAP"):
            more = row["difference"].get(figure)
            cells += [with_ends(row["figures"][figure]), with_ends(more, "+") if more else ""]
            cells.append("" if more is None else "< 0.001" if more["p_holm"] < 0.001 else f"{more['p_holm']:.3f}")
        cells.append(f"{60 * row['cpu_hours'] / len(row['seeds']):.1f}")
        assert f"| {' | '.join(cells)} |" in page, row["row"]


def test_what_is_kept_at_doses_is_what_was_measured():
    causes = json.loads((ROOT / "benchmarks/results/doses.json").read_text(encoding="utf-8"))["causes"]
    page = (ROOT / "docs/explanation/results.md").read_text(encoding="utf-8")
    sign = {True: " ▲", False: " ▼"}
    for row in causes["clutter"]:
        cells = []
        for rows in causes.values():
            more = rows[row].get("kept more", {"p_holm": 1, "value": 0})
            sure = sign[more["value"] > 0] if more["p_holm"] < 0.05 else ""
            cells.append(f"{100 * rows[row]['kept']:.0f}{sure}")
        assert f"| {row} | {' | '.join(cells)} |" in page


def test_the_container_runs_the_two_commands_of_the_readme():
    lines = (ROOT / "Containerfile").read_text(encoding="utf-8").splitlines()
    ran = [line.removeprefix("RUN ") for line in lines if line.startswith("RUN ")]
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    told = re.search(r"## Two commands\n\n```\n(.*?)```", page, re.S)
    assert told is not None
    assert sorted(ran) == sorted(line.partition("#")[0].strip() for line in told[1].splitlines())
