"""What is to be installed is there to be installed: extras that errors and pages name, packages that code imports."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import regard

ROOT = Path(__file__).parents[1]
FILES = sorted(Path(regard.__file__).parent.rglob("*.py"))
TEXTS = {path: path.read_text(encoding="utf-8") for path in FILES}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOT_HERE = {"umap": "umap-learn", "transformers": "transformers"}
"""Packages of no extra, which the tests do without, and what installs them."""

BROUGHT_ALONG = {"starlette": "fastapi", "grpc": "pymilvus"}
"""Packages that another one brings."""

INSTALLED = packages_distributions()


def plain(requirement: str) -> str:
    """Name of a package as registries compare them."""
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!~;\[ ]", requirement)[0]).lower()


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MANDATORY = {plain(one) for one in PROJECT["dependencies"]}
EXTRAS = {name: {plain(one) for one in needs} for name, needs in PROJECT["optional-dependencies"].items()}


def distribution(module: str) -> str:
    """What installs a module."""
    top = module.partition(".")[0]
    return plain(NOT_HERE.get(top) or INSTALLED[top][0])


def required() -> Iterator[tuple[str, str]]:
    """Module and install line of every package that is asked for by ``require``, or by ``install`` of the export."""
    for path, text in TEXTS.items():
        if "require(" not in text and "install(" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or not node.args:
                continue
            first, last = node.args[0], node.args[-1]
            if node.func.id == "require" and isinstance(first, ast.Constant):
                assert isinstance(last, ast.Constant), f"{path}: the install line of {first.value} is not plain text"
                yield first.value, last.value
            elif node.func.id == "install" and isinstance(first, ast.Constant):
                yield first.value, '"regard[export]"'


def test_what_an_error_says_to_install_brings_the_package():
    found = dict(required())
    assert {"onnx", "onnxruntime", "openvino", "pymilvus", "h5py", "umap", "transformers"} <= set(found)
    for module, line in found.items():
        extra = re.fullmatch(r'"regard\[(\w+)\]"', line)
        if extra:
            assert distribution(module) in EXTRAS[extra[1]], f"{line} does not bring {module}"
        else:
            assert plain(re.split(r"[ ,]", line)[0]) == distribution(module), f"{line} does not bring {module}"


def test_extras_that_are_named_exist():
    named = re.compile(r'\b(?:regard|install (?:-e |--editable )?"?\.)\[([^\]]+)\]')
    for path, text in {**TEXTS, **{page: page.read_text(encoding="utf-8") for page in PAGES}}.items():
        for names in named.findall(text):
            assert {name.strip() for name in names.split(",")} <= set(EXTRAS), f"{path.name} names regard[{names}]"


def test_what_is_imported_is_a_dependency_or_asked_for():
    asked = {module.partition(".")[0] for module, _ in required()}
    known = MANDATORY.union(*(needs for name, needs in EXTRAS.items() if name != "test"))
    imports = re.compile(r"^\s*(?:from ([\w.]+) import |import ([\w.]+)(?: as \w+)?$)", re.M)
    for path, text in TEXTS.items():
        for top in {(one or other).partition(".")[0] for one, other in imports.findall(text)}:
            if top not in sys.stdlib_module_names | {"regard"} | asked | BROUGHT_ALONG.keys():
                assert distribution(top) in known, f"{path} imports {top}, which nothing brings"
