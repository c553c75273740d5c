"""What a user meets first: the imports, from a checkout or installed, and the README."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import minitensor as mt

ROOT = Path(__file__).parent.parent
SITE = str(Path(np.__file__).parent.parent)


def run(code: str, *flags: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *flags, "-c", code],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


ONE_MODULE = (
    "from minitensor import nn; import minitensor as mt, sys; assert mt.nn is nn is sys.modules['minitensor.nn']; print(nn.__file__)"
)


def in_bare_checkout(code: str) -> subprocess.CompletedProcess[str]:
    """-S leaves site-packages and its .pth files out, so that an installed minitensor cannot help; NumPy comes by PYTHONPATH."""
    return run(code, "-S", PYTHONPATH=SITE)


def test_nn_is_one_module_in_a_bare_checkout():
    result = in_bare_checkout(ONE_MODULE)
    assert result.stdout.strip() == str(ROOT / "nn" / "__init__.py"), result.stderr


def test_nn_is_one_module_as_it_is_installed_here(tmp_path):
    """Editable or not: from a directory that is not the checkout."""
    result = run(ONE_MODULE, cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_a_bare_import_of_nn_fails_at_once_and_says_what_to_write():
    result = in_bare_checkout("import nn")
    assert result.returncode == 1
    assert "ImportError" in result.stderr
    assert "from minitensor import nn" in result.stderr


def test_the_compare_command_runs_in_a_bare_checkout():
    result = in_bare_checkout("import sys; from minitensor.commands import main; sys.exit(main(['compare', '2x3x8x9']))")
    assert result.returncode == 0, result.stderr
    assert "AGREE" in result.stdout


def test_every_public_name_is_there():
    assert [name for name in mt.__all__ if not hasattr(mt, name)] == []
    assert [name for name in mt.nn.__all__ if not hasattr(mt.nn, name)] == []


def test_every_folder_with_code_is_packaged():
    """Planted folders that pyproject.toml does not name would be missing from the wheel."""
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {
        ".".join(("minitensor", *path.parent.relative_to(ROOT / "minitensor").parts)) for path in (ROOT / "minitensor").rglob("__init__.py")
    }
    found |= {".".join(("minitensor", *path.parent.relative_to(ROOT).parts)) for path in (ROOT / "nn").rglob("__init__.py")}
    assert set(named) == found


def test_error_messages_never_name_the_package_of_that_name_on_the_index():
    """It belongs to another project."""
    told = [path for folder in ("minitensor", "nn", "docs", "notebooks") for path in (ROOT / folder).rglob("*.[pm][yd]")] + [
        ROOT / "README.md"
    ]
    assert [path.name for path in told if "pip install minitensor" in path.read_text()] == []


README_PYTHON = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)


@pytest.mark.parametrize("block", README_PYTHON, ids=range(len(README_PYTHON)))
def test_the_python_in_the_readme_runs(block, tmp_path):
    if ".save(" in block:
        pytest.importorskip("pygraphviz", reason="drawing needs the extra draw")
    result = run(block, "-W", "error", cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_the_readme_holds_the_two_commands():
    """Each is one line in a block of its own, in this order; continuous integration runs them from here."""
    start = (ROOT / "README.md").read_text().partition("## Quick start")[2].partition("\n## ")[0]
    first, second = re.findall(r"^```\n(.*)\n```$", start, re.M)
    assert first.endswith("minitensor compare")
    assert second.endswith("python -m pytest -n auto")
