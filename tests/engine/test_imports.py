"""What importing costs, which way imports point, and that every docstring's example is true."""

import ast
import doctest
import functools
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import minitensor
import minitensor.nn

ROOT = Path(minitensor.__file__).parent
NN = Path(minitensor.nn.__file__).parent
# A module may import from the floors before its own and from its own; its first name says which floor it is on.
FLOORS = [
    ["errors", "version", "tables"],
    ["arrays", "grad_mode"],
    ["tensor"],
    ["primitive"],
    ["ops", "creation"],
    ["autograd"],
    ["drawing"],
    [""],  # minitensor itself: the public names
    ["nn"],
    ["commands"],
    ["__main__"],
]

# The same inside nn
NN_FLOORS = [
    ["arguments", "parameter"],
    ["hooks", "state", "summary"],
    ["module"],
    ["containers", "init", "optim", "serialization"],
    ["norm"],
    ["functional"],
    ["linear", "activation", "loss"],
    ["derivation"],
    ["comparison", "diagnosis"],
    [""],
]


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name below minitensor; in a checkout nn/ stands beside it."""
    files = {path.relative_to(ROOT): path for path in ROOT.rglob("*.py")} | {
        Path("nn") / path.relative_to(NN): path for path in NN.rglob("*.py")
    }
    return {".".join(name.with_suffix("").parts).removesuffix("__init__").rstrip("."): path for name, path in files.items()}


def floor(name: str) -> tuple[int, int]:
    """The floor of a dotted name below minitensor, and the one inside nn."""
    top, _, rest = name.partition(".")
    return _among(FLOORS, top, name), _among(NN_FLOORS, rest.partition(".")[0], name) if top == "nn" else 0


def _among(floors: list[list[str]], room: str, name: str) -> int:
    for number, names in enumerate(floors):
        if room in names:
            return number
    raise AssertionError(f"minitensor.{name} is on no floor: add it to FLOORS or NN_FLOORS")


def imported(name: str, path: Path) -> list[str]:
    """The modules of the package that a file imports, anywhere in it but for the type checker alone, as dotted names below minitensor."""
    found = []
    tree = ast.parse(path.read_text())
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for part in node.body
        for inner in ast.walk(part)
    }
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = ["minitensor", *package.split(".")][: len(package.split(".")) + 2 - node.level] if node.level else []
            base = ".".join(filter(None, [*above, node.module or ""]))
            found += [
                f"{base}.{alias.name}" if f"{base}.{alias.name}".removeprefix("minitensor.") in modules() else base for alias in node.names
            ]
    return [other.removeprefix("minitensor").removeprefix(".") for other in found if other.partition(".")[0] == "minitensor"]


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_point_downwards(name: str) -> None:
    above = {other for other in imported(name, modules()[name]) if floor(other) > floor(name)}
    assert above == set(), f"minitensor.{name} imports what stands above it"


def test_this_reads_imports_of_every_kind(tmp_path: Path) -> None:
    """An import is found at the top, in a function, relative and absolute; and the floors know one from the other."""
    path = tmp_path / "walk.py"
    absolute = "from minitensor import nn\ndef f():\n    import minitensor.commands\n"
    types = "if TYPE_CHECKING:\n    from ..drawing import Drawing\nelse:\n    from ..commands import console\n"
    path.write_text(types + absolute + "from . import differences\nfrom ..tensor import Tensor\nif f:\n    from .rounding import Rounded\n")
    assert set(imported("autograd.walk", path)) == {
        "nn",
        "commands",
        "autograd.differences",
        "tensor",
        "autograd.rounding",
        "commands.console",
    }
    assert {other for other in imported("autograd.walk", path) if floor(other) > floor("autograd.walk")} == {
        "nn",
        "commands",
        "commands.console",
    }


def test_only_one_file_imports_cupy() -> None:
    naming = [name for name, path in modules().items() if any("cupy" in _names(node) for node in ast.walk(ast.parse(path.read_text())))]
    assert naming == ["arrays"]


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    return [(node.module or "").partition(".")[0]] if isinstance(node, ast.ImportFrom) and not node.level else []


def fresh(code: str) -> str:
    """What a new interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def loaded(package: str) -> str:
    """The top names that an import adds to those of the standard library and of NumPy."""
    roots = "{name.partition('.')[0] for name in sys.modules}"
    return fresh(f"import sys, numpy.random; before = {roots}; import {package}; print(sorted({roots} - before - sys.stdlib_module_names))")


@pytest.mark.parametrize("package", ["minitensor", "minitensor.nn"])
def test_importing_loads_numpy_and_the_standard_library_only(package: str) -> None:
    assert loaded(package) == "['minitensor']"


def test_a_foreign_import_would_be_seen() -> None:
    assert "pytest" in loaded("pytest")


def test_importing_the_engine_does_not_load_nn_or_the_commands() -> None:
    assert (
        fresh("import sys, minitensor; print([m for m in sys.modules if m.startswith(('minitensor.nn', 'minitensor.commands'))])") == "[]"
    )
    assert fresh("import minitensor as mt; print(mt.nn.__name__)") == "minitensor.nn"


OPTIONAL = ["cupy", "graphviz", "pygraphviz", "matplotlib", "rich", "sympy", "joblib", "safetensors", "numba", "PIL"]


def walked() -> list[str]:
    """The modules that minitensor and minitensor.nn hold; __path__ of a checkout also holds the checkout's other folders."""
    found = {"minitensor", "minitensor.nn"}
    for package in (minitensor, minitensor.nn):
        folders = [folder for folder in package.__path__ if Path(folder) in (ROOT, NN)]
        found |= {info.name for info in pkgutil.walk_packages(folders, package.__name__ + ".")}
    return sorted(name for name in found if not name.endswith("__main__"))


def test_every_module_can_be_imported_without_the_optional_packages() -> None:
    """Only the report and the formulas need them at once; they are imported when asked for, and name the missing extra."""
    code = f"""
import importlib, sys
sys.modules.update(dict.fromkeys({OPTIONAL}))
from minitensor.errors import MissingPackageError
for name in {walked()}:
    try:
        importlib.import_module(name)
    except MissingPackageError as error:
        assert 'pip install -e ".[report]"' in str(error), error
        print(name)
"""
    needing = {"commands.report", "commands.derive_report", "drawing.formulas", "drawing.symbols", "nn.derivation.symbolic"}
    assert {name.removeprefix("minitensor.") for name in fresh(code).split()} == needing


@pytest.mark.parametrize("name", walked())
def test_the_examples_in_docstrings(name: str) -> None:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=flags)
    assert failed == 0


def test_the_examples_are_found() -> None:
    names = {
        test.name
        for name in walked()
        for test in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name))
        if test.examples
    }
    assert {"minitensor.tensor.Tensor", "minitensor.autograd.walk.grad", "minitensor.arrays.parse_device"} <= names


def test_no_module_hides_a_public_function() -> None:
    """`mt.autograd.gradcheck` is the function, whatever was imported before."""
    code = """
import importlib, pkgutil, minitensor as mt
for info in pkgutil.iter_modules(mt.autograd.__path__):
    importlib.import_module("minitensor.autograd." + info.name)
print([name for name in mt.autograd.__all__ if type(getattr(mt.autograd, name)).__name__ == "module"])
"""
    assert fresh(code) == "[]"
