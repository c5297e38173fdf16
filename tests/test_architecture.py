"""The house rules, checked from the source: imports flow one way, modules stay small, nothing can run foreign code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import scratchnet

PACKAGE = Path(scratchnet.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))

# Each module may import from those named before it (and from its own package).
FLOORS = [
    ["arrays", "attributes", "cache", "files", "signals"],
    ["threads"],
    ["reference", "kernels", "initializers", "schedules"],
    ["losses", "optimizers", "layers"],
    ["network"],
    ["data"],
    ["models", "gradcheck", "checkpoint"],
    ["training"],
    ["plots"],
    ["runs", "gradcheck_suite", "doctor"],
    ["bench"],
    ["__main__"],
]
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}
HOW_NOT_WHAT = {
    "jit.py",
    "compiler.py",
    "vectors.py",
    "tile.py",
    "matmul.py",
    "max_pool.py",
    "exponential.py",
    "gather.py",
    "memory.py",
    "winograd.py",
    "winograd_pool.py",
    "winograd_transform.py",
}  # of kernels/, beside the twins


def room(path: Path) -> str:
    """scratchnet/layers/conv.py -> layers; scratchnet/network.py -> network."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """The rooms of scratchnet that a file imports from, top level or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write absolute imports"
            module = node.module or ""
            names = [f"{module}.{a.name}" for a in node.names] if module == "scratchnet" else [module]
        found |= {name.split(".")[1] for name in names if name.startswith("scratchnet.")}
    return found


def test_every_module_has_a_floor():
    rooms = {room(path) for path in SOURCES} - {"__init__"}
    assert rooms == LEVEL.keys()


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_flow_one_way(path):
    here = room(path)
    if here == "__init__":
        return
    for other in imports(path) - {here}:
        assert LEVEL[other] < LEVEL[here], f"{path.name} ({here}) may not import {other}"


def test_the_import_check_sees_an_upward_import(tmp_path):
    source = tmp_path / "planted.py"
    source.write_text("def f():\n    from scratchnet.training import train\n")
    assert imports(source) == {"training"}
    assert LEVEL["training"] > LEVEL["kernels"]


def test_floors_do_not_know_each_other():
    for floor, other in (("reference", "kernels"), ("kernels", "reference")):
        for path in (PACKAGE / floor).glob("*.py"):
            assert other not in imports(path)


def test_both_floors_have_the_same_files():
    files = {floor: {p.name for p in (PACKAGE / floor).glob("*.py")} for floor in ("reference", "kernels")}
    assert files["kernels"] - files["reference"] == HOW_NOT_WHAT
    assert files["reference"] - files["kernels"] == set()


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_and_functions_stay_small(path):
    text = path.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            first = node.body[0]
            documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            start = (first.end_lineno if documented else node.lineno) or 0
            assert (node.end_lineno or 0) - start <= 45, f"{path.name}: {node.name} is long"


def public(tree: ast.Module) -> list[ast.AST]:
    """A module's public functions and classes."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_everything_public_is_documented(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), f"{path} has no docstring"
    for node in public(tree):
        assert ast.get_docstring(node), f"{path.name}: {node.name} has no docstring"


def test_what_is_private_to_a_file_stays_in_it():
    for path in SOURCES:
        found = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        house = [node for node in found if (node.module or "").startswith("scratchnet")]
        private = [alias.name for node in house for alias in node.names if alias.name.startswith("_")]
        assert not private, f"{path.name} imports {private}"


FORBIDDEN = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_can_run_foreign_code(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not FORBIDDEN & {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in FORBIDDEN
        if isinstance(node, ast.Call):
            assert getattr(node.func, "id", "") not in {"eval", "exec"}
            for keyword in node.keywords:
                if keyword.arg in {"allow_pickle", "trust_remote_code"}:
                    assert isinstance(keyword.value, ast.Constant) and keyword.value.value is False


def test_only_the_command_line_prints():
    for path in SOURCES:
        calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        printing = [n for n in calls if getattr(n.func, "id", "") == "print"]
        assert not printing or path.name == "__main__.py", f"{path.name} prints"
