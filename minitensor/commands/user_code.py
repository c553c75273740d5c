"""Running a file of the user's: a Python file as a module, a notebook cell by cell."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from types import CodeType, ModuleType

from minitensor.commands.inputs import BadInput
from minitensor.nn.diagnosis.learner import raised

NAME = "__user__"  # no name that a module of the user's, or of Python's, has already
# What IPython takes for itself: magics, commands for the shell, what is assigned from them, and questions about a name
_MAGIC = re.compile(r"^([ \t]*)(?:(?:[\w, ]+=[ \t]*)?(?:%\w|!)(?:.*\\\n)*.*|\?.*|[\w.]+\?{1,2}[ \t]*)$", re.MULTILINE)
_RUNS_ITS_CELL = re.compile(r"\A\s*%%(?:time|timeit|capture|prun)\b.*")


def executed(path: Path) -> ModuleType:
    """The module that a .py file or an .ipynb notebook makes, its folder being where it imports from, as for ``python FILE.py``.

    It is compiled from its text as it is now: of two versions in one second, Python's own cache may hold the older. Raises what
    the code raises, and `BadInput` for a file that is not there, and for a notebook that cannot be read or whose cell raises.
    """
    if not path.exists():
        raise BadInput(f"{path} is not there")
    add_to_path(path.parent)
    sys.modules[NAME] = module = ModuleType(NAME)  # where dataclasses and pickle look for it
    module.__file__ = str(path.absolute())
    if path.suffix == ".ipynb":
        _run_cells(path, module)
    else:
        exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), vars(module))
    return module


def module_at(home: str) -> ModuleType:
    """The module of FILE.py or NOTEBOOK.ipynb, or the one that is called so and can be imported from the current folder."""
    if home.endswith((".py", ".ipynb")):
        return executed(Path(home))
    add_to_path(Path.cwd())
    return importlib.import_module(home)


def add_to_path(folder: Path) -> None:
    """Let imports find what lies in a folder, before what lies elsewhere."""
    if str(folder.resolve()) not in sys.path:
        sys.path.insert(0, str(folder.resolve()))


def _run_cells(path: Path, module: ModuleType) -> None:
    vars(module)["display"] = print  # which a notebook has without an import
    for number, source in _cells(path):
        where = f"{path}, cell {number}"
        try:
            exec(_compiled(source, where), vars(module))
        except (Exception, SystemExit) as error:
            raise BadInput(f"{where} fails when the notebook is run from top to bottom: {raised(error)}") from error


def _cells(path: Path) -> list[tuple[int, str]]:
    """Number, from 1, and text of every code cell."""
    try:
        cells = json.loads(path.read_bytes())["cells"]
        return [(number, "".join(cell["source"])) for number, cell in enumerate(cells, 1) if cell["cell_type"] == "code"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadInput(f"{path} is no notebook of format 4: {type(error).__name__}: {error}") from error


def _compiled(source: str, where: str) -> CodeType:
    """A cell without what only IPython understands; each line keeps its number."""
    try:
        return compile(source, where, "exec", dont_inherit=True)  # a line with % may well be Python: the rest of a formula
    except SyntaxError:
        source = _RUNS_ITS_CELL.sub("", source)
        if source.lstrip().startswith("%%"):  # the cell is no Python, but a script, a picture or a file
            source = ""
        plain = _MAGIC.sub(lambda found: found[1] + "pass" + "\n" * found[0].count("\n"), source)
        return compile(plain, where, "exec", dont_inherit=True)
