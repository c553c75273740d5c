"""``minitensor derive``: exit status, tables, LaTeX, JSON and the report; and one clear line for every bad input."""

import io
import json
import re
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from html.parser import HTMLParser
from typing import NamedTuple

import pytest

from minitensor.commands import main
from minitensor.nn.derivation import DERIVATIONS, rms_norm, softmax
from minitensor.nn.derivation.judges import JUDGES
from minitensor.nn.derivation.text import lines

OWN = """
import numpy as np
from minitensor.nn.derivation import Derivation, step

def normalize(rule):
    return Derivation(
        "own",
        leaves={"x": (3, "m")},
        steps=(
            step("n", lambda x, axes: np.sum(x * x, axis=axes, keepdims=True), "the squares", x=rule),
            step("y", lambda n: 1 / n, n=lambda y_bar, n: -y_bar / (n * n)),
        ),
        constants={"axes": (1,)},
    )

right = normalize(lambda n_bar, x: 2 * x * n_bar)
wrong = normalize(lambda n_bar, x: x * n_bar)
class Holder:
    inner = right
number = 3
"""


class Result(NamedTuple):
    status: int
    out: str
    err: str


def run(*arguments):
    """``minitensor derive ARGUMENTS`` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = main(["derive", *map(str, arguments)])
        except SystemExit as stop:
            status = stop.code
    return Result(status, out.getvalue(), err.getvalue())


def refused(result, told):
    """Exit status 2 and one line on stderr, which says what is wrong."""
    assert result.status == 2, result
    assert len(result.err.splitlines()) == 1, result.err
    assert "Traceback" not in result.err
    assert re.search(told, result.err), result.err
    assert result.out == ""


@pytest.fixture
def hide(monkeypatch):
    """Make packages look as if they were not installed."""

    def hide(*names):
        for name in names:
            monkeypatch.setitem(sys.modules, name, None)

    return hide


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path / "own.py"


@pytest.fixture
def handed_in(tmp_path):
    """A filled exercise, perhaps with a slip."""

    def handed_in(derivation, old="", new=""):
        solution = derivation.exercise(solution=True)
        assert old in solution
        (tmp_path / "handed_in.py").write_text(solution.replace(old, new))
        return tmp_path / "handed_in.py"

    return handed_in


# -- right and wrong --------------------------------------------------------------------------------------------------------------


def test_every_line_is_printed_with_every_judge():
    result = run("softmax")
    assert result.status == 0, result
    assert result.err == ""
    for line in lines(softmax):
        assert line.text in result.out
    assert re.search(rf"^line +{' +'.join(JUDGES)} +verdict +rule$", result.out, re.MULTILINE)
    assert re.search(r"^y -> z +\S+ +\S+ +\S+ += +proved +right +z_bar \+= -sum", result.out, re.MULTILINE)
    assert "\n7 of 7 lines are right.\n" in result.out
    assert "WRONG" not in result.out


def test_the_same_output_in_every_run():
    assert run("softmax") == run("softmax")
    assert run("softmax", "--seed", 1).status == 0


def test_a_derivation_of_ones_own(own):
    assert run(f"{own}:right").status == 0
    assert run(f"{own}:Holder.inner").status == 0
    with chdir(own.parent):
        assert run("own:right").status == 0
    sys.modules.pop("own", None)


def test_a_wrong_rule_of_ones_own(own):
    result = run(f"{own}:wrong")
    assert result.status == 1
    assert result.err == ""
    assert re.search(r"^n -> x .*WRONG.* x_bar \+= x \* n_bar$", result.out, re.MULTILINE)
    assert "\n1 of 2 lines are right; WRONG: n -> x.\n" in result.out


def test_a_filled_exercise(handed_in):
    result = run("softmax", "--rules", handed_in(softmax))
    assert result.status == 0, result


def test_a_slip_in_a_filled_exercise(handed_in):
    result = run("rms_norm", "--rules", handed_in(rms_norm, "return 2 * c * q_bar", "return c * q_bar"))
    assert result.status == 1
    assert "WRONG: q -> c" in result.out
    assert "c_bar += c * q_bar" in result.out


def test_cumulative_mode_shows_what_follows_from_a_slip(handed_in):
    file = handed_in(softmax, "return -np.sum", "return np.sum")
    assert "WRONG: y -> z." in run("softmax", "--rules", file).out
    found = run("softmax", "--rules", file, "--mode", "cumulative").out
    assert re.search(r"WRONG: y -> z, z -> e, e -> x", found)


def test_what_is_not_written_is_not_right(handed_in):
    result = run("softmax", "--rules", handed_in(softmax, "return e_bar * e", "..."))
    assert result.status == 1
    assert re.search(r"^e -> x: not written yet", result.out, re.MULTILINE)


# -- other outputs ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DERIVATIONS)
def test_latex_is_all_that_is_printed(name):
    result = run(name, "--latex")
    assert result == (0, DERIVATIONS[name].latex(), "")


def test_json_is_all_that_is_printed():
    result = run("softmax", "--json")
    assert (result.status, result.err) == (0, "")
    found = json.loads(result.out)
    assert found == softmax.check().to_dict()
    assert found["ok"]
    assert {row["name"] for row in found["rows"]} == {line.name for line in lines(softmax) if line.part != "forward"}


def test_json_in_a_file(tmp_path):
    result = run("softmax", "--json", tmp_path / "softmax.json")
    assert result.status == 0
    assert "7 of 7 lines are right" in result.out
    assert json.loads((tmp_path / "softmax.json").read_text()) == softmax.check().to_dict()


class Page(HTMLParser):
    """The pictures of a page, by what they show."""

    def __init__(self, text):
        super().__init__()
        self.alts, self.links = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.alts += [found["alt"]] if tag == "img" else []
        self.links += [found[key] for key in ("src", "href") if key in found]


def test_report(tmp_path):
    result = run("softmax", "--report", tmp_path / "report")
    assert result.status == 0, result
    assert result.out.rstrip().endswith(f"report: {tmp_path / 'report' / 'index.html'}")
    text = (tmp_path / "report" / "index.html").read_text()
    page = Page(text)
    assert page.alts[0] == softmax.draw().alt
    assert page.alts[1:] == [line.latex for line in lines(softmax)]
    assert all(link.startswith("data:image/svg+xml;base64,") for link in page.links)
    assert "$" not in re.sub(r'alt="[^"]*"', "", text)
    assert "✓" in text
    assert "✗ " not in text.replace("✗ wrong", "")
    run("softmax", "--report", tmp_path / "again")
    assert (tmp_path / "again" / "index.html").read_text() == text


def test_report_of_a_slip(tmp_path, handed_in):
    file = handed_in(softmax, "return e_bar * e", "return e_bar")
    result = run("softmax", "--rules", file, "--report", tmp_path / "report")
    assert result.status == 1
    page = (tmp_path / "report" / "index.html").read_text()
    assert Page(page).alts[0].endswith("; wrong: e -> x")
    assert "<td>✗</td>" in page
    assert '<p class="verdict wrong">6 of 7 lines are right; WRONG: e -&gt; x.</p>' in page


# -- without packages -------------------------------------------------------------------------------------------------------------


def test_without_graphviz(hide):
    hide("graphviz", "pygraphviz")
    assert run("softmax").status == 0


def test_without_sympy_there_is_no_proof_and_it_is_said(hide, monkeypatch):
    monkeypatch.delitem(sys.modules, "minitensor.nn.derivation.symbolic", raising=False)
    hide("sympy")
    result = run("softmax")
    assert result.status == 0, result
    assert re.search(r"^y -> z .* = +- +right ", result.out, re.MULTILINE)
    assert re.search(r"^proof did not judge y -> e, .*pip install", result.out, re.MULTILINE)


@pytest.mark.parametrize("package", ["pygraphviz", "matplotlib"])
def test_report_without_the_extra(package, hide, monkeypatch, tmp_path):
    """It is said before any work is done."""
    for module in ("report", "derive_report"):
        monkeypatch.delitem(sys.modules, f"minitensor.commands.{module}", raising=False)
        monkeypatch.delattr(f"minitensor.commands.{module}", raising=False)
    hide(*(name for name in list(sys.modules) if name.partition(".")[0] == package), package)
    refused(
        run("softmax", "--report", tmp_path / "report"), r'--report needs the extra "report": pip install -e "\.\[report\]" .*' + package
    )
    assert not list(tmp_path.iterdir())


# -- bad input --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["instancenorm"], "did you mean instance_norm"),
        (["nothing"], "or a Derivation of your own as MODULE:NAME or FILE.py:NAME, is needed$"),
        (["missing.py:own"], "missing.py is not there"),
        (["no_such_module:own"], "No module named 'no_such_module'"),
        (["json:dumps"], "a Derivation is needed, and dumps is function"),
        (["json:nothing"], "there is no nothing; the Derivations there are none"),
        (["softmax", "--seed=-1"], "--seed must not be negative"),
        (["softmax", "--mode", "other"], "invalid choice"),
        (["softmax", "--rules", "missing.py"], "--rules missing.py: missing.py is not there|missing.py is not there"),
        (["softmax", "--json", "no/such/folder.json"], "the folder no/such is not there"),
        (["softmax", "--latex", "--json"], "not allowed with"),
        ([], "required: LAYER"),
    ],
)
def test_bad_options(arguments, told):
    refused(run(*arguments), told)


def test_a_report_must_be_a_folder(own):
    refused(run("softmax", "--report", own), "a folder is needed")


@pytest.mark.parametrize(("name", "told"), [("nothing", "the Derivations there are right, wrong"), ("number", "number is int")])
def test_what_is_no_derivation(own, name, told):
    refused(run(f"{own}:{name}"), told)


def test_files_that_cannot_be_run(tmp_path):
    (tmp_path / "broken.py").write_text("x = 1\ny = 1 / 0\n")
    refused(run(f"{tmp_path / 'broken.py'}:own"), r"when imported: ZeroDivisionError: division by zero .*broken.py:2")
    refused(run("softmax", "--rules", tmp_path / "broken.py"), r"--rules .*ZeroDivisionError: division by zero .*broken.py:2")
