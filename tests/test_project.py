"""What a stranger relies on before any code runs: the licence, the package's description, the rules, CI's files."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, files, metadata
from pathlib import Path

import pytest
import yaml

from regard import __version__
from regard.evaluation.facts import TERMS
from regard.models.importers.released import IMPORTERS
from regard.models.importers.translation import RELEASES
from regard.registry import DATASETS

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LICENCES = (ROOT / "docs" / "reference" / "licences.md").read_text(encoding="utf-8")
EXTRAS = {extra: names for extra, names in PROJECT["optional-dependencies"].items() if extra not in ("test", "docs")}
NAME = re.compile(r"[\w-]+")

KNOWN_AS = {
    "Apache-2.0": ("apache",),
    "BSD-3-Clause": ("bsd",),
    "MIT": ("mit",),
    "MIT-CMU": ("mit-cmu",),
    "MPL-2.0": ("mpl",),
    "Matplotlib's": ("matplotlib", "python software foundation"),
}
"""Licence as the page says it -> how a package's own description may say it."""


def needed(requirements: list[str]) -> list[str]:
    return [match[0].lower() for line in requirements if (match := NAME.match(line))]


def yaml_of(name: str) -> dict:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_the_licence_is_whole_and_named():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert PROJECT["license"] == "Apache-2.0"
    assert set(PROJECT["license-files"]) == {"LICENSE", "NOTICE"}
    assert metadata("regard")["License-Expression"] == "Apache-2.0"


@pytest.mark.parametrize(
    "package", [*needed(PROJECT["dependencies"]), *(name for names in EXTRAS.values() for name in needed(names))]
)
def test_the_page_of_licences_says_what_each_package_says(package):
    row = re.search(rf"^\| (?:`\w+` \| |\| )?{re.escape(package)} \| ([\w.-]+(?:'s)?)", LICENCES, re.M)
    assert row, f"docs/reference/licences.md has no row for {package}"
    try:
        about = metadata(package)
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    words = [*about.get_all("License-Expression", []), *about.get_all("License", [])]
    words += [word for word in about.get_all("Classifier", []) if word.startswith("License")]
    own = [file.read_text() for file in files(package) or () if file.name == "LICENSE"]
    said = " ".join(words if set(words) - {"UNKNOWN"} else own)
    assert any(word in said.lower() for word in KNOWN_AS[row[1]]), said[:300]


def test_every_importer_and_data_set_has_its_terms():
    rows = set(re.findall(r"^\| `([\w-]+)` \|", LICENCES, re.M))
    assert set(IMPORTERS) <= rows, set(IMPORTERS) - rows
    words = re.sub(r"[^a-z0-9]", "", LICENCES.lower())
    own = {"folder", "table"}
    missing = {name for name in DATASETS if name not in own and name.replace("_", "") not in words}
    assert missing - {"dukemtmc", "crowd"} == set()


def test_the_page_of_licences_says_what_folders_and_cards_say():
    rows = re.findall(r"^\| `([\w-]+)` \| ([^|]+) \| ([^|]+) \|$", LICENCES, re.M)
    assert {network: (source, licence) for network, source, licence in rows if network in IMPORTERS} == RELEASES
    assert set(RELEASES) == set(IMPORTERS)
    sets = LICENCES.partition("## Data sets")[2].partition("\n## ")[0]
    called = {"crowd": "the crowd", "dukemtmc": "DukeMTMC-reID", "market1501": "Market-1501"}
    for name, terms in TERMS.items():
        said = called.get(name, name).replace("_", "[-_]")
        row = re.search(rf"^\| [^|]*\b{said}\b[^|]* \| ([^|]+) \|", sets, re.M | re.I)
        assert row, name
        assert terms == row[1].partition(" ([")[0], name


def test_the_citation_is_of_this_version_and_names_every_paper():
    about = yaml_of("CITATION.cff")
    assert about["cff-version"] == "1.2.0"
    assert about["version"] == __version__
    assert about["license"] == PROJECT["license"]
    assert {"title", "message", "authors", "date-released"} <= about.keys()
    told = " ".join(f"{one.get('title')} {one.get('notes')}" for one in about["references"])
    for system in ("APNet", "MSEA", "MuDeep", "DAAF", "DSP", "SA"):
        assert system in told


def test_the_workflow_runs_what_ci_runs_on_every_python_that_is_named():
    job = yaml_of(".github/workflows/ci.yml")["jobs"]["test"]
    assert any("bash .ci/run" in step.get("run", "") for step in job["steps"])
    named = {line.rpartition(" :: ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)}
    assert set(job["strategy"]["matrix"]["python"]) == named
    assert min(named) == PROJECT["requires-python"].removeprefix(">=")


@pytest.mark.parametrize(
    "form", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.name
)
def test_the_forms_for_issues_can_be_read(form):
    about = yaml.safe_load(form.read_text(encoding="utf-8"))
    if form.name != "config.yml":
        assert {"name", "description", "body"} <= about.keys()
        assert len({field["id"] for field in about["body"]}) == len(about["body"])


def test_the_hooks_before_a_commit_are_those_of_make_check(tmp_path):
    commands = [hook["entry"].split() for repo in yaml_of(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    wrong = tmp_path / "wrong.py"
    wrong.write_text("import os\nx = [1,2]\n", encoding="utf-8")
    for _, *words in commands:
        told = " ".join(word for word in words if word != "--force-exclude")
        assert f"$(BIN)/ruff {told} ." in makefile
        run = [sys.executable, "-m", "ruff", *words]
        assert subprocess.run([*run, str(ROOT / "tests" / "test_project.py")], cwd=ROOT).returncode == 0
        assert subprocess.run([*run, str(wrong)], cwd=ROOT, capture_output=True).returncode == 1


def test_the_rules_for_strangers_name_what_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:`|^)make (\w+)", text, re.M):
        assert f"\n{target}:" in makefile, target
    source = ROOT / "src" / "regard"
    rooms = {path.name.removesuffix(".py") for path in source.iterdir() if not path.name.startswith("_")}
    table = re.findall(r"^\| (`\w+`[^|]*) \|", text, re.M)
    told = {name for row in table for name in re.findall(r"`(\w+)`", row)}
    assert told <= rooms, told - rooms
    assert {path.name for path in source.iterdir() if path.is_dir() and path.name != "__pycache__"} <= told
    for page in ("SECURITY.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "docs/reference/licences.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", (ROOT / page).read_text(encoding="utf-8")):
            assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"
