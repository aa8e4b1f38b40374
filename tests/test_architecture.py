"""The house keeps its shape: imports run one way, names are public where promised, files stay readable."""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import regard

SOURCE = Path(regard.__file__).parent
BENCHMARKS = SOURCE.parents[1] / "benchmarks"
FILES = sorted(SOURCE.rglob("*.py"))

GROUND = {
    "structures", "device", "errors", "registry", "storage", "fingerprint", "input_spec", "lazy", "parsing",
    "places", "plugins", "precision", "progress", "threads", "version", "wording",
}  # fmt: skip

# What each room may import besides itself and the ground that all stand on.
MAY_IMPORT = {
    "layers": set(),
    "models": {"data", "layers"},
    "losses": set(),
    "crowd": set(),
    "data": set(),
    "metrics": set(),
    "calibration": {"metrics"},
    "config": set(),
    "recipes": {"config"},
    "runtime": {"config", "layers"},
    "run_folder": {"config", "crowd", "data", "recipes", "runtime"},
    "evaluation": {
        "calibration", "config", "data", "metrics", "models", "run_folder", "runtime",
    },
    "engine": {
        "config", "crowd", "data", "evaluation", "layers", "losses", "metrics", "models", "recipes", "run_folder",
        "runtime",
    },
    "explain": {"data", "layers", "metrics", "models"},
    "report": {
        "calibration", "config", "data", "evaluation", "explain", "metrics", "models", "run_folder", "runtime",
    },
    "demo": {
        "calibration", "config", "crowd", "data", "engine", "evaluation", "explain", "layers", "losses", "metrics",
        "models", "recipes", "report", "run_folder", "runtime",
    },
    "reproduce": {
        "config", "crowd", "data", "engine", "evaluation", "metrics", "models", "recipes", "report", "run_folder",
        "runtime",
    },
    "ablation": {
        "config", "crowd", "data", "engine", "evaluation", "metrics", "models", "report", "run_folder", "runtime",
    },
    "export": {"config", "data", "evaluation", "metrics", "models", "run_folder"},
    "detection": {"data", "models"},
    "gallery": {"calibration", "config", "data", "detection", "export", "layers", "metrics", "models"},
    "service": {
        "calibration", "config", "data", "evaluation", "explain", "gallery", "layers", "metrics", "models",
        "run_folder",
    },
    "integrations": {"data", "export", "models"},
    "cli": {
        "ablation", "calibration", "config", "crowd", "data", "demo", "detection", "engine", "evaluation", "explain",
        "export", "gallery", "integrations", "layers", "losses", "metrics", "models", "recipes", "report", "reproduce",
        "run_folder", "runtime", "service",
    },
    **{ground: set() for ground in GROUND},
    "registry": {"plugins"},
}  # fmt: skip

# The crowd is a house of its own. Its ground is what lies beside its rooms; its door opens on all of them.
CROWD_MAY_IMPORT = {
    "scene": set(),
    "clothes": set(),
    "camera": {"scene"},
    "body": {"clothes"},
    "render": {"body", "camera", "clothes", "scene"},
    "dataset": {"body", "camera", "clothes", "render", "scene"},
}


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@cache
def read(path: Path) -> tuple[list[ast.Import | ast.ImportFrom], dict[str, int]]:
    """Imports anywhere in a file, and function -> lines of its code."""
    imports, lengths = [], {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports.append(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            code = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (code[-1].end_lineno or 0) - code[0].lineno + 1 if code else 0
            lengths[node.name] = max(lines, lengths.get(node.name, 0))
    return imports, lengths


def imported(path: Path, house: str = "regard.") -> set[str]:
    """Rooms of regard that a file imports, anywhere in it; or what it imports of another package."""
    rooms = set()
    for node in read(path)[0]:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        rooms |= {name.removeprefix(house).split(".")[0] for name in names if name.startswith(house)}
    return rooms


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_run_one_way(path):
    if room(path) in ("__init__", "__main__"):
        return
    allowed = MAY_IMPORT[room(path)] | {room(path)}
    if room(path) == "crowd":
        allowed |= {"errors", "progress", "storage"}
    elif room(path) not in GROUND - {"storage", "fingerprint", "parsing", "places"}:
        allowed |= GROUND
    else:
        allowed |= {"errors", "wording"}
    assert imported(path) & set(MAY_IMPORT) <= allowed


@pytest.mark.parametrize("place", ["", *CROWD_MAY_IMPORT])
def test_the_rooms_of_the_crowd_import_one_way(place):
    for path in (SOURCE / "crowd" / place).glob("*.py"):
        allowed = CROWD_MAY_IMPORT.get(place, {"dataset"} if path.name == "__init__.py" else set()) | {place}
        assert imported(path, "regard.crowd.") & set(CROWD_MAY_IMPORT) <= allowed, path


@pytest.fixture(scope="module")
def house():
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("house")
    sys.path.remove(str(BENCHMARKS))


def test_no_modules_import_each_other(house):
    """By no way: inside functions, for types alone, through packages and what these load later; nor through regard."""
    graph = house.imports(SOURCE)
    assert house.circles(graph) == []
    assert [name for name, targets in graph.items() if "regard" in targets] == []
    lent = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"f"}, "f": {"g"}, "g": {"e"}}
    assert house.circles(lent) == [["b", "c"], ["e", "f", "g"]]


def test_circles_are_found_wherever_an_import_stands(house, tmp_path):
    room = tmp_path / "home" / "room"
    room.mkdir(parents=True)
    (tmp_path / "home" / "__init__.py").write_text('_HOME = {"late": "home.late"}\n')
    (tmp_path / "home" / "late.py").write_text("import home\n")
    (room / "__init__.py").write_text("from home.room.one import a\n")
    (room / "one.py").write_text("def f():\n    from home.room.two import b\n")
    two = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from home.room import one\n"
    (room / "two.py").write_text(two)
    (room / "three.py").write_text("from home import four\n")
    (tmp_path / "home" / "four.py").write_text("import home.room.two\n")
    found = house.circles(house.imports(tmp_path / "home"))
    assert found == [["home", "home.late"], ["home.room.one", "home.room.two"]]


def test_every_room_is_known():
    rooms = {room(path) for path in FILES} - {"__init__", "__main__"}
    assert rooms <= set(MAY_IMPORT)


def test_only_the_runtime_speaks_to_fabric():
    users = [p for p in FILES if "lightning_fabric" in p.read_text(encoding="utf-8")]
    assert users == [SOURCE / "runtime" / "fabric.py"]


@cache
def modules() -> list[str]:
    return sorted(m.name for m in pkgutil.walk_packages([str(SOURCE)], "regard."))


@pytest.mark.parametrize("name", modules())
def test_all_names_what_exists(name):
    module = importlib.import_module(name)
    for public in getattr(module, "__all__", []):
        assert hasattr(module, public), f"{name}.__all__ promises {public}"


def test_imports_inside_functions_name_what_exists():
    """Those at the top of a file fail at once; these only when a verb is used."""
    lost = []
    for path in FILES:
        for node in read(path)[0]:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("regard"):
                module = importlib.import_module(node.module)
                for name in (alias.name for alias in node.names):
                    if not hasattr(module, name) and f"{node.module}.{name}" not in modules():
                        lost.append(f"{path.relative_to(SOURCE)} imports {name} from {node.module}")
    assert lost == []


def test_the_lazy_names_exist_and_are_all_public():
    for name in regard.__all__:
        assert getattr(regard, name) is not None
    assert set(regard._HOME) | {"__version__"} == set(regard.__all__)
    assert set(regard.__all__) <= set(dir(regard))


def python(code: str) -> str:
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment
    ).stdout


def test_importing_regard_imports_nothing_heavy():
    code = "import sys, regard, regard.cli.main; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = set(python(code).split())
    assert not loaded & {"torch", "numpy", "timm", "PIL", "matplotlib", "pydantic", "yaml", "lightning_fabric", "scipy"}


def test_the_crowd_needs_no_torch_and_nothing_of_regard_but_some_of_the_ground():
    code = "import sys; import regard.crowd; print(*sys.modules)"
    loaded = set(python(code).split())
    assert "torch" not in loaded
    house = {name for name in loaded if name.startswith("regard.") and not name.startswith("regard.crowd")}
    assert house == {"regard.errors", "regard.progress", "regard.storage", "regard.lazy"}  # the last of regard itself


def test_functions_and_files_stay_readable():
    """Habit 16: functions at most about 60 lines of code (80 for the loop), files mostly under 400."""
    lengths = sorted(len(p.read_text(encoding="utf-8").splitlines()) for p in FILES)
    assert lengths[int(0.9 * len(lengths))] < 400
    for path in FILES:
        for name, lines in read(path)[1].items():
            assert lines <= (80 if name == "train" else 60), f"{path}: {name} has {lines} lines"


def test_nothing_committed_names_a_registry_or_this_machine():
    root = SOURCE.parents[1]
    if not (root / ".git").exists():
        pytest.skip("not a checkout")
    names = subprocess.run(["git", "ls-files"], cwd=root, check=True, capture_output=True, text=True).stdout
    words = ("pypi" + ".org", "files.python" + "hosted", "registry.npm" + "js", "/wo" + "rk/", "/ro" + "ot/")
    for name in names.splitlines():
        path = root / name
        if path.suffix in (".png", ".npz", ".jpg") or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="ignore")
        found = [word for word in words if word in text]
        assert not found, f"{name} mentions {found}"
