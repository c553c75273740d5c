"""``minitensor compare``: exit status, tables, JSON and the report; and one clear line for every bad input."""

import base64
import io
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import types
import zipfile
from contextlib import chdir, redirect_stderr, redirect_stdout
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

import minitensor
from minitensor import Tensor, nn
from minitensor.commands import compare as command
from minitensor.commands import inputs, main
from minitensor.commands.layers import KINDS, Trial
from minitensor.nn.comparison import compare as comparison
from minitensor.nn.derivation import FAULTS
from minitensor.tables import Table

SMALL = ("--size", "60x50")
SHAPE = "2x3x4x5"


class Result(NamedTuple):
    status: int
    out: str
    err: str


def run(*arguments):
    """``minitensor compare ARGUMENTS`` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = main(["compare", *map(str, arguments)])
        except SystemExit as stop:
            status = stop.code
    return Result(status, out.getvalue(), err.getvalue())


def agrees(result):
    assert result.status == 0, result
    assert result.err == ""
    assert "\nAGREE: all " in result.out
    assert "WRONG" not in result.out
    return result


def differs(result):
    """Exit status 1, and the last line names exactly the quantities whose rows are marked, table by table."""
    assert result.status == 1, result
    assert result.err == ""
    found = re.search(r"^DIFFER: (.+)\.$", result.out, re.MULTILINE)
    assert found
    named = dict(re.findall(r"on the (input|probe) ([^;]+)", found[1]))
    _, on_input, on_probe = re.split(r"^(?:INPUT|PROBE): ", result.out, flags=re.MULTILINE)
    for table, text in (("input", on_input), ("probe", on_probe)):
        marked = dict.fromkeys(re.findall(r"^(\S+(?: u)?(?: \. v)?)  .*  WRONG  ", text, re.MULTILINE))
        assert ", ".join(marked) == named.get(table, "")
    return result


def refused(result, told):
    """Exit status 2 and one line on stderr, which says what is wrong."""
    assert result.status == 2, result
    assert len(result.err.splitlines()) == 1, result.err
    assert result.err.startswith("minitensor")
    assert "error: " in result.err
    assert "Traceback" not in result.err
    assert re.search(told, result.err), result.err
    return result


def saved(path, array):
    np.save(path, array)
    return path


def array_of(*shape, dtype="float64", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.fixture
def hide(monkeypatch):
    """Make packages look as if they were not installed."""

    def hide(*names):
        for name in names:
            monkeypatch.setitem(sys.modules, name, None)

    return hide


# -- right layers -----------------------------------------------------------------------------------------------------------------


def test_default_photograph():
    result = agrees(run())
    assert "grace_hopper.jpg (1, 3, 600, 512)" in result.out
    assert "public domain" in result.out


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("options", [(), ("--no-affine",), ("--scale", "unit"), ("--eps", "10"), ("--eps=0", "--seed=3")], ids=" ".join)
def test_small_photograph(dtype, options):
    result = agrees(run(*SMALL, "--dtype", dtype, *options))
    assert f"on {dtype} (1, 3, 60, 50)" in result.out
    assert ("dgamma" in result.out.partition("PROBE")[0].partition("known mistakes")[0]) == ("--no-affine" not in options)


@pytest.mark.parametrize("shape", ["2x3x7", "1x1x2", "2x3x8x9", "1x2x3x1x4", "2x2x3x4x5"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_shapes(shape, dtype):
    result = agrees(run(shape, "--dtype", dtype))
    dims = shape.count("x") - 1
    assert f"InstanceNorm{dims}d, eps = 1e-05, on {dtype} ({shape.replace('x', ', ')})" in result.out


@pytest.mark.parametrize("shape", ["3x7", "3x4x5", "3x2x3x4"])
def test_unbatched_shapes(shape):
    result = agrees(run(shape, "--unbatched"))
    assert f"InstanceNorm{shape.count('x')}d" in result.out


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", ">f4", ">f8"])
def test_npy_keeps_its_dtype(dtype, tmp_path):
    result = agrees(run(saved(tmp_path / "x.npy", array_of(2, 3, 4, 5).astype(dtype))))
    assert f"on {np.dtype(dtype).newbyteorder('=')} (2, 3, 4, 5)" in result.out


def test_npy_may_be_cast(tmp_path):
    path = saved(tmp_path / "x.npy", array_of(3, 4, 5).astype(np.longdouble))
    assert "on float16 (3, 4, 5)" in agrees(run(path, "--dtype", "float16", "--unbatched")).out


def test_npy_in_fortran_order(tmp_path):
    agrees(run(saved(tmp_path / "x.npy", np.asfortranarray(array_of(2, 3, 4, 5)))))


def test_npz(tmp_path):
    np.savez(tmp_path / "one.npz", a=array_of(2, 3, 4))
    np.savez_compressed(tmp_path / "two.npz", a=array_of(2, 3, 4), b=array_of(2, 3, 4, 5))
    assert "one.npz (2, 3, 4)" in agrees(run(tmp_path / "one.npz")).out
    assert "two.npz:a (2, 3, 4)" in agrees(run(f"{tmp_path}/two.npz:a")).out
    assert "two.npz:b (2, 3, 4, 5)" in agrees(run(f"{tmp_path}/two.npz:b")).out


def test_a_file_goes_before_a_shape_of_the_same_name(tmp_path):
    with chdir(tmp_path):
        Image.new("RGB", (4, 3)).save("2x3", "PNG")
        assert "2x3 (1, 3, 3, 4)" in agrees(run("2x3")).out


def test_right_channel_count():
    agrees(run(SHAPE, "--num-features", 3))


def test_seed():
    """The same seed gives the same output, another one other numbers."""
    first, again, other = (agrees(run(SHAPE, "--seed", seed)).out for seed in (0, 0, 1))
    assert first == again == agrees(run(SHAPE)).out
    assert first != other


def test_seed_of_the_cotangent(tmp_path):
    """The numbers of a file are what they are; what is done with them is drawn."""
    path = saved(tmp_path / "x.npy", array_of(2, 3, 4, 5))
    inputs_of = [agrees(run(path, "--no-affine", "--seed", seed)).out.partition("PROBE")[0] for seed in (0, 0, 1)]
    assert inputs_of[0] == inputs_of[1] != inputs_of[2]


def test_eps_and_affine_reach_the_layer():
    assert "eps = 0.25" in run(SHAPE, "--eps", "0.25").out
    assert len(re.findall("^dgamma", run(SHAPE, "--no-affine").out, re.MULTILINE)) == 3  # on the probe alone


def test_no_random_state_of_others_is_touched():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    run(SHAPE)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


# -- the other layers -------------------------------------------------------------------------------------------------------------

OTHERS = {
    "batch_norm": "BatchNorm2d(6",
    "group_norm": "GroupNorm(3, 6",
    "layer_norm": "LayerNorm((6, 4, 5)",
    "rms_norm": "RMSNorm((6, 4, 5)",
}
KNOWN = {"instance_norm": 42, "batch_norm": 41, "group_norm": 42, "layer_norm": 42, "rms_norm": 34}


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("layer", OTHERS)
def test_other_layers(layer, dtype):
    result = agrees(run("2x6x4x5", "--layer", layer, "--dtype", dtype, "--eps", "0.25"))
    assert f"\nlayer: {OTHERS[layer]}, eps=0.25, " in result.out
    kind = OTHERS[layer].partition("(")[0]
    assert f"\n{kind}, eps = 0.25, on {dtype} (2, 6, 4, 5): m = " in result.out
    on_probe = result.out.partition("\nPROBE: ")[2]
    assert f"\n{kind}, eps = 0.1, on float64 (2, " in on_probe
    assert f"Each of the {KNOWN[layer]} known mistakes would have shown on this input." in on_probe


@pytest.mark.usefixtures("rows_only")
@pytest.mark.parametrize("options", [(), ("--no-affine",), ("--eps=0",)], ids=" ".join)
@pytest.mark.parametrize("layer", OTHERS)
def test_other_layers_on_the_photograph(layer, options):
    result = agrees(run("--size", "12x10", "--layer", layer, *options))
    on_input = result.out.partition("\nPROBE: ")[0]
    assert re.search(r"on float32 \(1, 3, 12, 10\): m = (360|120) per slice", on_input)
    assert ("dgamma" in on_input) == ("--no-affine" not in options)
    assert ("dbeta" in on_input) == ("--no-affine" not in options and layer != "rms_norm")


@pytest.mark.usefixtures("rows_only")
@pytest.mark.parametrize(
    ("shape", "options", "told"),
    [
        ("6x3", ("--layer=batch_norm",), "BatchNorm1d(3"),
        ("6x3x2", ("--layer=batch_norm",), "BatchNorm1d(3"),
        ("2x3x2x3x2", ("--layer=batch_norm",), "BatchNorm3d(3"),
        ("3x6", ("--layer=group_norm",), "GroupNorm(3, 6"),
        ("3x6x4", ("--layer=group_norm", "--groups=2"), "GroupNorm(2, 6"),
        ("2x6x4", ("--layer=group_norm", "--groups=6", "--num-features=6"), "GroupNorm(6, 6"),
        ("2x3x4", ("--layer=group_norm",), "GroupNorm(1, 3"),
        ("2x1x4", ("--layer=group_norm",), "GroupNorm(1, 1"),
        ("2x96x2", ("--layer=group_norm",), "GroupNorm(32, 96"),
        ("4x7", ("--layer=layer_norm",), "LayerNorm((7,)"),
        ("2x3x4x5", ("--layer=layer_norm", "--trailing=1"), "LayerNorm((5,)"),
        ("2x3x4x5", ("--layer=layer_norm", "--trailing=4"), "LayerNorm((2, 3, 4, 5)"),
        ("7", ("--layer=layer_norm", "--trailing=1"), "LayerNorm((7,)"),
        ("2x3x4x5x6x7", ("--layer=rms_norm", "--trailing=2"), "RMSNorm((6, 7), eps=None"),
        ("4x3x1", ("--layer=rms_norm", "--trailing=1"), "RMSNorm((1,)"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_ranks_groups_and_trailing_axes(shape, options, told):
    assert f"\nlayer: {told}" in agrees(run(shape, *options)).out


def test_rms_norm_has_the_eps_of_its_dtype():
    assert "RMSNorm, eps = 1.19209e-07, on float32" in run("4x7", "--layer", "rms_norm").out
    assert "RMSNorm, eps = 2.22045e-16, on float64" in run("4x7", "--layer", "rms_norm", "--dtype", "float64").out


# -- pictures ---------------------------------------------------------------------------------------------------------------------

PIXELS = np.random.default_rng(5).integers(0, 256, (9, 7, 4), dtype=np.uint8)


def picture(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def gif(path):
    """Sixteen colours, exactly representable in a palette."""
    colours = PIXELS[:4, :4, :3].reshape(16, 3)
    indices = np.random.default_rng(0).integers(0, 16, (9, 7))
    image = Image.fromarray(indices.astype(np.uint8))
    image.putpalette(colours.tobytes())
    image.save(path)
    return colours[indices]


def channels_first(pixels):
    return (pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))[None]


PICTURES = {
    "rgb.png": lambda path: (picture(path, PIXELS[..., :3]), PIXELS[..., :3])[1],
    "alpha.png": lambda path: (picture(path, PIXELS), PIXELS[..., :3])[1],
    "grey.png": lambda path: (picture(path, PIXELS[..., 0]), PIXELS[..., 0])[1],
    "grey-alpha.png": lambda path: (picture(path, PIXELS[..., :2]), PIXELS[..., 0])[1],
    "bits.png": lambda path: (picture(path, PIXELS[..., 0] > 127), 255 * (PIXELS[..., 0] > 127))[1],
    "palette.gif": gif,
    "16-bit.png": lambda path: (picture(path, PIXELS[..., 0].astype(np.uint16) * 257), PIXELS[..., 0])[1],
    "32-bit.tiff": lambda path: (picture(path, PIXELS[..., 0].astype(np.int32) * 257), PIXELS[..., 0])[1],
    "rgb.bmp": lambda path: (picture(path, PIXELS[..., :3]), PIXELS[..., :3])[1],
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(name, tmp_path):
    """Alpha is dropped, grey stays one channel, palettes become colours, 16 bits become values from 0 to 255."""
    path = tmp_path / name
    expected = channels_first(PICTURES[name](path))
    agrees(run(path))
    found = inputs.read_input(str(path))
    assert found.is_picture
    np.testing.assert_array_equal(found.array, expected.astype(np.float32), strict=True)
    unit = inputs.read_input(str(path), scale="unit", dtype="float64").array
    np.testing.assert_allclose(unit, expected / 255, rtol=1e-15)


def test_exif_orientation(tmp_path):
    """A camera held upright stores its picture lying down."""
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = np.zeros((8, 24, 3), np.uint8)
    lying[:, :8] = 255
    path = picture(tmp_path / "upright.jpg", lying, exif=exif, quality=100)
    assert "upright.jpg (1, 3, 24, 8)" in agrees(run(path)).out
    upright = inputs.read_input(str(path)).array[0, 0]
    assert upright[:7].min() > 200 > 50 > upright[9:].max()


def test_what_pillow_warns_of_is_not_shown(tmp_path):
    """Transparency of a palette in bytes, and damaged EXIF data: Pillow warns and reads on."""
    image = Image.fromarray(PIXELS[..., :3]).quantize(16)
    image.save(tmp_path / "palette.png", transparency=bytes(range(16)))
    picture(tmp_path / "exif.jpg", PIXELS[..., :3], exif=b"Exif\0\0MM\0*garbage")
    with pytest.warns(UserWarning, match="Transparency"):
        Image.open(tmp_path / "palette.png").convert("RGB")
    agrees(run(tmp_path / "palette.png"))
    agrees(run(tmp_path / "exif.jpg"))


def test_large_pictures_are_shrunk_and_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "LARGEST_PICTURE", 20)
    path = picture(tmp_path / "x.png", PIXELS[..., :3])
    assert "(1, 3, 5, 3) (shrunk from 9x7 to 5x3 (--size HxW decides otherwise))" in agrees(run(path)).out
    assert "(1, 3, 9, 7)" in agrees(run(path, "--size", "9x7")).out
    assert re.search(r"\(1, 3, 1, 14\d\)", agrees(run(picture(tmp_path / "thin.png", np.zeros((1, 1000, 3), np.uint8)))).out)


# -- planted mistakes -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("rows_only")
@pytest.mark.parametrize("layer", KINDS)
def test_every_planted_mistake_is_caught(layer, monkeypatch):
    """Those that are mistakes in the layer, by autograd alone; the others are refused, because they are none."""
    monkeypatch.setattr(comparison, "_numerical_rows", lambda *_: [])
    listed = [line.split(maxsplit=1) for line in run("--layer", layer, "--plant", "list").out.splitlines()]
    assert len(listed) == KNOWN[layer]
    for name, sentence in listed:
        result = differs(run(SHAPE, "--layer", layer, "--plant", name))
        assert f"planted into the analytic backward: {name} ({sentence})" in result.out
        assert "AGREE" not in result.out
    for name in set(FAULTS) - {name for name, _ in listed}:
        result = run(SHAPE, "--layer", layer, "--plant", name)
        assert refused(result, f"--plant {name}: no mistake in {layer}, whose gradients are the same with it").out == ""


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("name", ["no-mean-path", "unbiased", "eps-twice", "gamma-forgotten", "dgamma-batch-mean", "dbeta-averaged"])
@pytest.mark.parametrize("options", [(*SMALL,), (SHAPE, "--no-affine"), ("3x9", "--unbatched")], ids=["photograph", "plain", "unbatched"])
def test_planted_mistakes_are_caught_wherever_they_are(dtype, name, options):
    """The probe shows what the input cannot."""
    differs(run(*options, "--dtype", dtype, "--plant", name))


def test_which_rows_differ():
    result = differs(run(SHAPE, "--plant", "dbeta-averaged"))
    assert "\nDIFFER: on the input dbeta, dbeta . v; on the probe dbeta, dbeta . v.\n" in result.out


@pytest.mark.parametrize("options", [(), ("no such file",), (SHAPE, "--report", "nowhere")], ids=" ".join)
def test_plant_list(options):
    result = run("--plant", "list", *options)
    assert (result.status, result.err) == (0, "")
    lines = [line.split(maxsplit=1) for line in result.out.splitlines()]
    assert lines == [[fault.name, fault.sentence] for fault in FAULTS.values()]
    assert {"no-mean-path", "no-variance-path", "unbiased", "eps-twice", "gamma-forgotten"} <= {name for name, _ in lines}


# -- layers of one's own -----------------------------------------------------------------------------------------------------------

OWN = """\
import numpy as np
from helper import root
from minitensor import nn
from minitensor.autograd import Function

class _Isru(Function):
    @staticmethod
    def forward(ctx, x, a):
        ctx.save_for_backward(x, a)
        return x / root(a * x * x)

    @staticmethod
    def backward(ctx, g):
        x, a = ctx.saved_tensors
        r = 1 / root(a * x * x)
        return g * r * r * r, np.sum(g * x * x * x * r * r * r) / -2

class _Slip(_Isru):
    @staticmethod
    def backward(ctx, g):
        dx, da = _Isru.backward(ctx, g)
        return dx, -da

class Isru(nn.Module):
    function = _Isru

    def __init__(self, a=1.0):
        super().__init__()
        self.a = nn.Parameter(np.array(a))

    def forward(self, x):
        return self.function.apply(x, self.a)

    def formula(self, x, a):
        return x / root(a * x * x)

    def extra_repr(self):
        return f"a={self.a.item():g}"

class Slip(Isru):
    function = _Slip

class Forgets(Isru):  # wrong, but not where the weight is 1
    def forward(self, x):
        return self.function.apply(x * self.a, self.a) / self.a.detach()

class Tanh(nn.Module):
    formula = staticmethod(np.tanh)

    def forward(self, x):
        return np.tanh(x)

class Abs(nn.Module):
    def formula(self, x):
        return x / (1 + np.abs(x))

    def forward(self, x):
        return self.formula(x)

class Constant(Abs):
    def forward(self, x):
        return super().forward(x).detach()

class Nothing(Abs):
    def formula(self, x):
        return 0 * x

class Least(Abs):
    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(np.array(0.0))

    def formula(self, x, a):
        return a * a * x

    def forward(self, x):
        return self.formula(x, self.a)

class Seven(Isru):
    def forward(self, x):
        if x.shape[-1] != 7:
            raise ValueError("seven columns are needed")
        return super().forward(x)

class Log(Tanh):
    formula = staticmethod(np.log)

    def forward(self, x):
        return np.log(x)

class Bare(nn.Module):
    def forward(self, x):
        return x

class Raises(Isru):
    def __init__(self, n):
        super().__init__(1 / n)

class BadBackward(Isru):
    class function(_Isru):
        @staticmethod
        def backward(ctx, g):
            return undefined

class Exits(Isru):
    def forward(self, x):
        raise SystemExit(3)

class Own(nn.InstanceNorm1d):
    pass

class Inside(nn.InstanceNorm1d):
    def forward(self, x):
        return nn.functional.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)

class NoModule:
    pass

class Odd(Isru):
    def __repr__(self):
        raise RuntimeError("no words")

def made(a=2.0):
    print("made with", a)
    return Isru(a)

def number():
    return 3

ready = Isru(4.0)
text = "no layer"
"""


def line(text):
    """Where this stands in the file."""
    return next(i for i, each in enumerate(OWN.splitlines(), 1) if text in each)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder with the file isru.py, which imports another, prints, and has a script at its end; and files that are broken."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "helper.py").write_text("import numpy as np\n\ndef root(v):\n    return np.sqrt(1 + v)\n")
    (folder / "isru.py").write_text(OWN + 'print("imported", __name__ == "__main__")\n')
    (folder / "isru_module.py").write_text(OWN)
    (folder / "broken.py").write_text("import numpy\ndef f(:\n")
    (folder / "raises.py").write_text("x = 1\ny = x / 0\n")
    (folder / "exits.py").write_text("raise SystemExit('bye')\n")
    (folder / "absent.py").write_text("import no_such_module_at_all\n")
    (folder / "binary.py").write_bytes(b"\x00\xff")
    (folder / "folder.py").mkdir()
    return folder


def test_a_layer_from_a_file(own):
    result = agrees(run("4x7", "--layer", f"{own}/isru.py:Isru", "--arg", "a=0.5"))
    assert result.out.startswith("imported False\ninput: ")
    assert "\nlayer: Isru(a=0.5)\n" in result.out
    assert "\nIsru, on float32 (4, 7): unit roundoff" in result.out
    assert "\nPROBE: random float64 numbers of the same shape and range, all parameters moved\nIsru, on float64 (4, 7): unit" in result.out
    assert result.out.count("Each of the 2 known mistakes would have shown on this input. Known of any layer") == 2
    assert "AGREE: all 18 rows lie within tolerances that were computed, not chosen." in result.out


def test_a_layer_from_a_module(own):
    with chdir(own):
        assert "layer: Isru(a=1)" in agrees(run("4x7", "--layer", "isru_module:Isru")).out
        assert "layer: Isru(a=1)" in agrees(run("4x7", "--layer", "isru.py:Isru")).out  # from where it is called
    places = os.pathsep.join([str(Path(minitensor.__file__).parent.parent), str(own)])
    found = process("compare", "4x7", "--layer", "isru_module:Slip", PYTHONPATH=places)
    assert (found.returncode, found.stderr) == (1, "")


@pytest.mark.parametrize(("name", "told"), [("made", "a=2"), ("ready", "a=4"), ("Isru.__call__.__self__", None)])
def test_what_may_stand_for_a_class(own, name, told):
    result = run("4x7", "--layer", f"{own}/isru.py:{name}")
    if told is None:
        refused(result, "there is no Isru.__call__.__self__; the Modules there are Isru, Slip, ")
    else:
        assert f"layer: Isru({told})" in agrees(result).out
    assert ("made with 2.0" in result.out) == (name == "made")


def test_a_function_takes_arguments(own):
    result = agrees(run("4x7", "--layer", f"{own}/isru.py:made", "--arg", "a=0.25"))
    assert "made with 0.25" in result.out


def test_a_wrong_layer_of_ones_own(own, tmp_path):
    result = differs(run("4x7", "--layer", f"{own}/isru.py:Slip", "--json", tmp_path / "x.json"))
    assert "DIFFER: on the input da, da . v; on the probe da, da . v." in result.out
    told = json.loads((tmp_path / "x.json").read_text())
    assert told["layer"] == f"{own}/isru.py:Slip"
    assert (told["on_input"]["eps"], told["on_input"]["m"], told["on_input"]["known"]) == (None, None, 2)


def test_the_probe_shows_what_initial_parameters_hide(own):
    """The layer multiplies by a where it must not: with a = 1 that is right, and its derivative with respect to a is wrong all the same."""
    result = differs(run("4x7", "--layer", f"{own}/isru.py:Forgets"))
    assert re.search("DIFFER: on the input da, .*; on the probe y, dx, da", result.out)


def test_where_nothing_could_have_shown_it_is_said(own):
    """0 x on both; a**2 x with a = 0 on the input, where both gradients are 0, and with another a on the probe."""
    for name, where in (("Nothing", "input and the probe"), ("Least", "input")):
        result = run("4x7", "--layer", f"{own}/isru.py:{name}")
        assert (result.status, result.err) == (1, "")
        assert f"\nBLIND: nothing could have shown on the {where}, so agreement there proves nothing.\n" in result.out


def test_assumed_tolerances_are_said(own):
    result = agrees(run("4x7", "--layer", f"{own}/isru.py:Tanh"))
    assert result.out.count("Tolerances are assumed, 1,000 roundings of the largest value: no error bound is known for np.tanh.") == 2
    assert "AGREE: all 12 rows lie within tolerances that were assumed, because no bound is known." in result.out


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_a_layer_of_ones_own_is_cast_to_the_dtype(own, dtype):
    assert f"Isru, on {dtype} (4, 7)" in agrees(run("4x7", "--layer", f"{own}/isru.py:Isru", "--dtype", dtype)).out


def test_a_layer_of_ones_own_on_a_picture(own, tmp_path):
    result = agrees(run(*SMALL, "--scale", "unit", "--layer", f"{own}/isru.py:Isru", "--report", tmp_path / "report"))
    assert "Isru, on float32 (1, 3, 60, 50)" in result.out
    _, page = page_of(tmp_path / "report")
    alts = [attributes["alt"] for attributes in page.attributes("img")]
    assert [alt.partition(":")[0] for alt in alts] == ["The picture before", "The picture after", *["analytic", "autograd"] * 2, alts[-1]]


def test_a_norm_of_ones_own_gets_planted_mistakes(own):
    layer = ("--layer", f"{own}/isru.py:Own", "--arg", "num_features=3", "--arg", "affine=True")
    listed = run("2x3x7", *layer, "--plant", "list")
    assert listed.status == 0
    assert len(listed.out.splitlines()) == 1 + 41  # and what the module prints
    result = agrees(run("2x3x7", *layer))
    on_input, on_probe = result.out.split("\nPROBE")
    assert "of the 41 known mistakes could NOT have shown on this input: gamma-forgotten, gamma-twice" in on_input  # gamma is 1
    assert "Each of the 41 known mistakes would have shown" in on_probe
    differs(run("2x3x7", *layer, "--plant", "gamma-forgotten"))
    refused(run("2x3x7", *layer, "--plant", "m-is-one-axis"), "m-is-one-axis: no mistake in .*isru.py:Own, whose gradients are the same")
    inside = ("--layer", f"{own}/isru.py:Inside", "--arg", "num_features=3")
    agrees(run("2x3x7", *inside))
    refused(run("2x3x7", *inside, "--plant", "sign"), "the forward of .*isru.py:Inside does not use self.backward")
    refused(run("2x3x1", "--layer", "minitensor.nn:LayerNorm", "--arg", "normalized_shape=1"), "one element, whose variance says nothing")


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("", "--layer : instance_norm, batch_norm, .*rms_norm, or a layer of your own as MODULE:CLASS or FILE.py:CLASS, is needed"),
        ("layernorm", "did you mean layer_norm?"),
        ("isru.py", "or FILE.py:CLASS, is needed"),
        (":Isru", "or FILE.py:CLASS, is needed"),
        ("isru.py:", "or FILE.py:CLASS, is needed"),
        ("no_file.py:Isru", "no_file.py is not there"),
        ("no_module_of_this_name:Isru", "when imported: ModuleNotFoundError: No module named 'no_module_of_this_name'"),
        (".relative:Isru", "when imported: TypeError: "),
        ("isru.py:Isrü", "there is no Isrü; the Modules there are Isru, Slip"),
        ("broken.py:X", r"when imported: SyntaxError: invalid syntax \(.*broken.py:2\)$"),
        ("raises.py:X", r"when imported: ZeroDivisionError: division by zero \(.*raises.py:2\)$"),
        ("exits.py:X", r"when imported: SystemExit: bye \(.*exits.py:1\)$"),
        ("absent.py:X", r"when imported: ModuleNotFoundError: No module named 'no_such_module_at_all' \(.*absent.py:1\)$"),
        ("binary.py:X", "when imported: (SyntaxError|ValueError|UnicodeDecodeError): "),
        ("folder.py:X", "when imported: IsADirectoryError: "),
        ("isru.py:NoModule", "NoModule is a class, but none derived from minitensor.nn.Module"),
        ("isru.py:text", "and text is str"),
        ("isru.py:number", "number makes int, and a Module is needed"),
        ("isru.py:Raises", r"when made: TypeError: Raises.__init__\(\) missing 1 required .*; --arg NAME=VALUE gives an argument"),
        ("isru.py:Bare", "TypeError: compare_backward: Bare has no formula: write a method formula"),
        (
            "isru.py:Seven",
            rf"on .*shape 4x6 \(4, 6\): ValueError: seven columns are needed \(.*isru.py:{line('seven')}\)$",
        ),
        ("isru.py:Exits", "SystemExit: 3"),
        ("isru.py:BadBackward", rf"in the comparison: NameError: name 'undefined' is not defined \(.*isru.py:{line('undefined')}\)$"),
        ("isru.py:Log", "the formula gives nan or inf on normal random numbers, shape 4x6, so there is nothing to compare"),
        ("isru.py:Odd", "in its repr: RuntimeError: no words"),
    ],
)
def test_layers_of_ones_own_that_cannot_be_used(own, where, told):
    with chdir(own):
        result = refused(run("4x6", "--layer", where), told)
    assert "AGREE" not in result.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--arg", "n=0"], rf"when made: ZeroDivisionError: .*division by zero \(.*isru.py:{line('1 / n')}\)"),
        (["--arg", "m=1"], "when made: TypeError: .*unexpected keyword argument 'm'"),
        (["--arg", "n"], "argument --arg: NAME=VALUE is needed, such as num_groups=4, got 'n'"),
        (["--arg", "3=n"], "NAME=VALUE is needed"),
        (["--arg", "n=four"], "n: VALUE must be a Python literal, such as 4"),
        (["--arg", "n=__import__('os')"], "VALUE must be a Python literal"),
        (["--arg", "n=" + "(" * 300], "VALUE must be a Python literal"),
        (["--arg", "n=1", "--eps", "0.1"], "--eps is not for a layer of your own: what its constructor takes is given as --arg NAME=VALUE"),
        (["--arg", "n=1", "--no-affine"], "--no-affine is not for a layer of your own"),
        (["--arg", "n=1", "--num-features=3"], "--num-features is not for a layer of your own"),
        (["--arg", "n=1", "--groups=3"], "--groups is not for a layer of your own"),
        (["--arg", "n=1", "--trailing=3"], "--trailing is not for a layer of your own"),
        (["--arg", "n=1", "--unbatched"], "--unbatched is not for a layer of your own"),
        (["--arg", "n=1", "--plant=sign"], "the known mistakes are those of normalisations, and isru.py:Raises is none"),
        (["--arg", "n=1", "--plant=list"], "the known mistakes are those of normalisations"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_arguments_of_layers_of_ones_own(own, arguments, told):
    with chdir(own):
        refused(run("4x6", "--layer", "isru.py:Raises", *arguments), told)


def test_a_layer_that_the_photograph_does_not_fit(own):
    result = run("--layer", f"{own}/isru.py:Seven", "--size", "6x6")
    refused(result, rf"seven columns are needed \(.*isru.py:{line('seven')}\); give a shape that the layer takes as INPUT, such as 4x7$")
    refused(run("--layer", f"{own}/isru.py:ready", "--arg", "a=1"), "--arg is for a constructor; .*isru.py:ready is a Module already")


# -- what is printed --------------------------------------------------------------------------------------------------------------


def on_terminal(monkeypatch, *arguments):
    """The output as a terminal of 250 columns gets it."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "250")
    out = Terminal()
    with redirect_stdout(out):
        status = main(["compare", *arguments])
    return status, out.getvalue()


def test_plain_text_where_no_terminal_is():
    out = run(SHAPE).out
    assert "\x1b" not in out
    assert out.isascii()
    head = next(line for line in out.splitlines() if line.startswith("quantity"))
    for column in ("analytic against", "max |diff|", "relative", "tolerance", "used", "verdict", "the tolerance comes from"):
        assert column in head
    position = head.index("verdict")
    assert [line[position:].split()[0] for line in out.splitlines() if " autograd  " in line] == ["ok"] * 10


def test_coloured_on_a_terminal(monkeypatch):
    status, out = on_terminal(monkeypatch, SHAPE, "--plant", "unbiased")
    assert status == 1
    wrong, right = "\x1b[1;31m", "\x1b[32m"
    assert wrong in out
    assert right in out
    for quantity, colour, other in (("dx . v", wrong, right), ("dbeta . v", right, wrong)):
        lines = [line for line in out.splitlines() if quantity in line and re.search("ok|WRONG", line)]
        assert len(lines) == 4
        assert all(colour in line and other not in line for line in lines)
    assert "would this input show" in out  # progress
    colourless = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out).split()
    verdict = differs(run(SHAPE, "--plant", "unbiased")).out.splitlines()[-1].split()
    assert colourless[-len(verdict) :] == verdict


def test_plain_text_on_a_terminal_without_rich(monkeypatch, hide):
    hide("rich", "rich.console", "rich.table")
    assert on_terminal(monkeypatch, SHAPE) == (0, run(SHAPE).out)


@pytest.mark.parametrize(
    "missing", [["PIL"], ["matplotlib", "matplotlib.cbook"], ["PIL", "matplotlib", "matplotlib.cbook", "rich", "rich.console"]]
)
def test_default_without_the_photograph(missing, hide):
    hide(*missing)
    result = agrees(run())
    assert "shape 2x3x8x9 (2, 3, 8, 9)" in result.out
    assert 'pip install -e ".[report]"' in result.out


def test_tables_are_aligned():
    table = Table("t", ("a", "long name"), (("1234", "x"), ("1", "y")), ("ok", "WRONG"))
    assert str(table).splitlines() == ["t", "a     long name", "1234  x", "1     y"]


def test_tables_in_html_are_escaped():
    table = Table("<t>", ("<a>",), (("<b>&",),), ("WRONG",))
    page = Page(table.to_html())
    assert page.texts("caption") == ["<t>"]
    assert page.texts("th") == ["<a>"]
    assert page.texts("td") == ["<b>&"]


# -- JSON -------------------------------------------------------------------------------------------------------------------------


def reject(constant):
    raise AssertionError(f"{constant} is no JSON")


@pytest.mark.parametrize(
    "options",
    [(SHAPE,), (SHAPE, "--plant", "unbiased"), (*SMALL, "--no-affine"), (SHAPE, "--plant", "eps-forgotten", "--seed=2")],
    ids=" ".join,
)
def test_json(options, tmp_path):
    path = tmp_path / "tables.json"
    result = run(*options, "--json", path)
    told = json.loads(path.read_text(), parse_constant=reject)
    assert set(told) == {"input", "note", "layer", "planted", "seed", "agree", "on_input", "on_probe"}
    assert told["agree"] is (result.status == 0) is ("AGREE" in result.out)
    assert told["planted"] == (options[options.index("--plant") + 1] if "--plant" in options else None)
    assert told["seed"] == (2 if "--seed=2" in options else 0)
    for part, text in zip(("on_input", "on_probe"), re.split("^PROBE", result.out, flags=re.MULTILINE), strict=True):
        table = told[part]
        assert set(table) == {"layer", "eps", "shape", "dtype", "unit", "m", "rows", "known", "unseen", "note", "ok"}
        assert table["ok"] is all(row["ok"] for row in table["rows"])
        for row in table["rows"]:
            assert set(row) == {"quantity", "opinion", "difference", "relative", "tolerance", "used", "origin", "verdict", "ok"}
            assert row["ok"] is (row["used"] is not None and row["used"] <= 1)
            assert f"{row['quantity']} " in text
            assert f"{row['difference']:.1e}" in text
        printed = re.search(r"could NOT have shown on this input: (.*)\.$", text, re.MULTILINE)
        assert table["unseen"] == (printed[1].split(", ") if printed else [])
        assert bool(printed) != ("Each of the" in text)
    assert told["on_probe"]["unseen"] == []
    wrong = [(row["quantity"], row["opinion"]) for part in ("on_input", "on_probe") for row in told[part]["rows"] if not row["ok"]]
    assert result.out.count("WRONG") == len(wrong)
    assert all(re.search(rf"^{re.escape(quantity)} +{re.escape(opinion)} .*WRONG", result.out, re.MULTILINE) for quantity, opinion in wrong)


def test_json_without_finite_numbers_is_still_json(tmp_path):
    """A constant channel and a mistake that divides by 0: nan in the table, null in the file."""
    x = array_of(2, 3, 4, 5)
    x[:, 0] = 1
    path = tmp_path / "tables.json"
    differs(run(saved(tmp_path / "x.npy", x), "--plant", "eps-forgotten", "--json", path))
    told = json.loads(path.read_text(), parse_constant=reject)
    assert None in [row["used"] for row in told["on_input"]["rows"]]


# -- the report -------------------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Elements of a page as (tag, attributes, text), and whether every element is closed."""

    VOID = ("meta", "img", "br", "link", "input", "hr")

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        element = [tag, dict(attributes), ""]
        self.elements.append(element)
        if tag not in self.VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for element in self.open:
            element[2] += data

    def texts(self, tag):
        return [text for name, _, text in self.elements if name == tag]

    def attributes(self, tag):
        return [attributes for name, attributes, _ in self.elements if name == tag]


def page_of(folder):
    assert [path.name for path in folder.iterdir()] == ["index.html"]
    text = (folder / "index.html").read_text(encoding="utf-8")
    return text, Page(text)


@pytest.fixture(scope="module", params=[None, "unbiased"], ids=["right", "planted"])
def report(request, tmp_path_factory):
    """(result, text, page, planted) of a report on the photograph."""
    folder = tmp_path_factory.mktemp("report") / "a" / "b"
    result = run(*SMALL, "--report", folder, *(() if request.param is None else ("--plant", request.param)))
    return result, *page_of(folder), request.param


def picture_data(source):
    kind, data = re.fullmatch(r"data:image/(png|svg\+xml);base64,(.+)", source).groups()
    return kind, base64.b64decode(data, validate=True)


def test_report_is_written(report):
    result, text, _, planted = report
    (differs if planted else agrees)(result)
    assert re.search(r"^report: .*index\.html$", result.out, re.MULTILINE)
    assert text.startswith("<!doctype html>")
    assert "$" not in text  # a placeholder that nobody filled


def test_report_needs_no_network(report):
    """Every resource is inside: in the page, in its styles, and in the pictures in it."""
    _, text, page, _ = report
    for tag, attributes, _ in page.elements:
        assert tag not in ("script", "link", "iframe", "object", "base")
        for name in ("src", "href", "srcset", "data", "poster", "action"):
            assert attributes.get(name, "data:").startswith(("data:", "#")), (tag, name)
    assert "@import" not in text
    assert "url(" not in text
    for attributes in page.attributes("img"):
        kind, data = picture_data(attributes["src"])
        if kind == "svg+xml":
            for element in ElementTree.fromstring(data).iter():
                for name, value in element.attrib.items():
                    if name.rpartition("}")[2] in ("href", "src"):
                        assert value.startswith(("#", "data:"))


def test_report_has_both_tables_as_printed(report):
    result, _, page, _ = report
    captions = page.texts("caption")
    assert [caption.partition(",")[0] for caption in captions] == ["InstanceNorm2d", "InstanceNorm2d", "forward and backward"]
    assert all(caption in result.out for caption in captions[:2])
    assert page.texts("h3") == ["INPUT: grace_hopper.jpg", "PROBE: (2, 3, 8, 9) in float64, made so that every known mistake shows"]
    cells = page.texts("td")
    assert cells.count("ok") == len(re.findall("  ok  ", result.out))
    assert cells.count("WRONG") == len(re.findall("  WRONG  ", result.out))
    for sentence in re.findall(r"^.* known mistakes .*$", result.out, re.MULTILINE):
        assert sentence in page.texts("p")


def test_report_says_whether_it_agrees(report):
    result, _, page, planted = report
    (attributes,) = [each for each in page.attributes("p") if "verdict" in each.get("class", "")]
    assert attributes["class"].split() == ["verdict", "wrong" if planted else "ok"]
    (verdict,) = re.findall("^(?:AGREE|DIFFER).*$", result.out, re.MULTILINE)
    assert verdict in page.texts("p")
    assert ("WRONG" in page.texts("td")) == bool(planted)
    assert any(f"Planted into the analytic backward: {planted}" in text for text in page.texts("p")) == bool(planted)


def test_report_has_its_pictures(report):
    """The photograph before and after, the graphs of y and dx both ways, and the step sizes, each with a text."""
    page = report[2]
    pictures = [(attributes["alt"], *picture_data(attributes["src"])) for attributes in page.attributes("img")]
    assert all(len(alt) > 20 for alt, _, _ in pictures)
    photographs = [np.asarray(Image.open(io.BytesIO(data))) for _, kind, data in pictures if kind == "png"]
    assert [photograph.shape for photograph in photographs] == [(60, 50, 3)] * 2
    before, after = photographs
    assert before.std() > 20
    assert not np.array_equal(before, after)
    assert [alt.split(":")[0] for alt, kind, _ in pictures if kind == "png"] == ["The picture before", "The picture after"]
    drawings = [(alt, ElementTree.fromstring(data)) for alt, kind, data in pictures if kind == "svg+xml"]
    assert all(root.tag == "{http://www.w3.org/2000/svg}svg" for _, root in drawings)
    graphs = [alt.partition(": ") for alt, _ in drawings if "Compute graph" in alt]
    assert [way for way, _, _ in graphs] == ["analytic", "autograd", "analytic", "autograd"]
    sizes = [int(re.search(r"(\d+) operations?", alt)[1]) for _, _, alt in graphs]
    assert sizes[0] < sizes[1]  # the closed form is one primitive
    assert [alt for alt, _ in drawings if "step size" in alt] == ["Error of numerical derivatives against the step size"]
    assert len(pictures) == 2 + 4 + 1


def test_report_has_timings(report):
    text = report[1]
    timings = Page(text[text.index("<h2>Time</h2>") :].partition("</body>")[0]).texts("td")
    assert len(timings) == 8
    assert timings[0::4] == ["input", "probe"]
    for analytic, composed, ratio in (timings[1:4], timings[5:8]):
        milliseconds = [float(cell.removesuffix(" ms")) for cell in (analytic, composed)]
        assert min(milliseconds) > 0
        assert float(ratio) == pytest.approx(milliseconds[1] / milliseconds[0], rel=0.05)


@pytest.mark.usefixtures("rows_only")
@pytest.mark.parametrize(("layer", "slices"), [("batch_norm", 120), ("group_norm", 360), ("layer_norm", 360), ("rms_norm", 360)])
def test_report_of_other_layers(layer, slices, tmp_path):
    result = agrees(run("--size", "12x10", "--layer", layer, "--report", tmp_path / "report"))
    text, page = page_of(tmp_path / "report")
    assert "$" not in text
    (described,) = re.findall("^layer: (.*)$", result.out, re.MULTILINE)
    assert page.texts("p")[0].startswith(f"{described} on grace_hopper.jpg (1, 3, 12, 10) float32.")
    captions = page.texts("figcaption")
    made = "mean square 1" if layer == "rms_norm" else "mean 0 and variance 1"
    assert captions[1] == f"after: every slice of {slices} elements with {made} (from -2.5 to 2.5, without gamma and beta)"
    shown = np.asarray(Image.open(io.BytesIO(picture_data(page.attributes("img")[1]["src"])[1])), np.float64) / 51 - 2.5
    seen = shown if layer != "batch_norm" else shown[..., 0]
    assert np.mean(seen * seen) == pytest.approx(1, abs=0.15)
    assert [caption for caption in captions if caption.endswith(": y")] == ["analytic: y", "autograd: y"]
    assert sum("recorded so that it can be differentiated again" in caption for caption in captions) == 2
    assert len(page.attributes("img")) == 2 + 4 + 1


@pytest.mark.usefixtures("rows_only")
@pytest.mark.parametrize(("name", "graphs"), [("Slip", 4), ("Abs", 4), ("Constant", 3)])
def test_report_of_a_layer_of_ones_own(name, graphs, own, tmp_path):
    """A wrong backward, a formula without complex step, an output that records nothing."""
    result = run("4x7", "--layer", f"{own}/isru.py:{name}", "--report", tmp_path / "report")
    (agrees if name == "Abs" else differs)(result)
    _, page = page_of(tmp_path / "report")
    alts = [attributes["alt"] for attributes in page.attributes("img")]
    assert sum("Compute graph" in alt for alt in alts) == graphs == len(alts) - 1
    assert not any("nan" in cell for cell in page.texts("td"))


def test_report_without_a_picture(tmp_path):
    """An array is not shown as a picture; its name may hold anything."""
    path = saved(tmp_path / "a<b>&$c.npy", array_of(2, 3, 4))
    agrees(run(path, "--report", tmp_path / "report", "--no-affine"))
    _, page = page_of(tmp_path / "report")
    assert len(page.attributes("img")) == 5
    assert page.texts("h3")[0] == "INPUT: a<b>&$c.npy"
    assert page.texts("title") == ["minitensor compare: a<b>&$c.npy"]


def test_report_of_a_constant_picture_and_a_mistake_that_divides_by_zero(tmp_path):
    path = picture(tmp_path / "black.png", np.zeros((5, 6), np.uint8))
    differs(run(path, "--plant", "eps-forgotten", "--report", tmp_path / "report"))
    _, page = page_of(tmp_path / "report")
    assert "nan" in page.texts("td")
    assert len(page.attributes("img")) == 7


@pytest.mark.parametrize("planted", [None, "unbiased", "no-mean-path"])
def test_a_wrong_gradient_shows_as_a_plateau(planted):
    from minitensor.commands import report

    layer = nn.InstanceNorm2d(3, eps=0.1, affine=True, dtype="float64", backward=FAULTS[planted].backward if planted else "analytic")
    x = Tensor(array_of(2, 3, 4, 5))
    (axes,) = report._step_sizes(Trial("", layer, x), nn.compare_backward(layer, x)).axes
    lowest = {line.get_label(): np.min(line.get_ydata()) for line in axes.lines}
    assert set(lowest) == {"forward", "central", "Richardson", "complex step"}
    if planted:
        assert min(lowest.values()) > 1e-4
    else:
        assert lowest["complex step"] < 1e-13
        assert lowest["Richardson"] < lowest["central"] < lowest["forward"] < 1e-6


@pytest.mark.parametrize(
    ("package", "modules"),
    [("pygraphviz", ["pygraphviz"]), ("matplotlib", ["matplotlib", "matplotlib.figure"]), ("PIL", ["PIL"])],
    ids=["pygraphviz", "matplotlib", "Pillow"],
)
def test_report_without_the_extra(package, modules, hide, monkeypatch, tmp_path):
    """It is said before any work is done."""
    monkeypatch.delitem(sys.modules, "minitensor.commands.report", raising=False)
    monkeypatch.delattr("minitensor.commands.report", raising=False)
    hide(*modules)
    result = refused(
        run(SHAPE, "--report", tmp_path / "report"), r'--report needs the extra "report": pip install -e "\.\[report\]" .*' + package
    )
    assert result.out == ""
    assert not list(tmp_path.iterdir())


# -- bad input --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["7"], r"takes arrays of 3, 4, 5 axes, got shape \(7,\)"),
        (["3x4"], r"takes arrays of 3, 4, 5 axes, got shape \(3, 4\); --unbatched"),
        (["1x2x3x4x5x6"], "takes arrays of 3, 4, 5 axes"),
        (["1x2x3x4x5", "--unbatched"], "takes arrays of 2, 3, 4 axes"),
        (["3", "--unbatched"], "takes arrays of 2, 3, 4 axes"),
        ([SHAPE, "--num-features", "2"], "num_features is 2, .* has C = 3"),
        ([SHAPE, "--num-features", "0"], "--num-features must be positive, got 0"),
        ([SHAPE, "--num-features=-3"], "--num-features must be positive, got -3"),
        ([SHAPE, "--num-features", "x"], "--num-features: invalid int value: 'x'"),
        (["2x3x1x1"], "one element, whose variance says nothing"),
        (["--size", "1x1"], "one element, whose variance says nothing"),
        (["0x3x4x4"], r"empty: shape \(0, 3, 4, 4\)"),
        (["2x3x0x4"], r"empty: shape \(2, 3, 0, 4\)"),
        (["99999999x99999999x99999999"], "99999999x99999999x99999999 is too large"),
        (["9" * 30 + "x3x4"], "is too large"),
        (["no/such/file.png"], "no/such/file.png is not there: INPUT is a picture"),
        (["no/such/file.npy"], "no/such/file.npy is not there: INPUT is a picture"),
        (["no/such/file.npz:a"], "no/such/file.npz is not there: INPUT is a picture"),
        (["2x3x"], "2x3x is not there: INPUT is .* a shape such as 2x3x8x9"),
        (["2x-3x4"], "is not there"),
        ([""], "directory"),
        (["a\0b"], "null"),
        (["a\0b.npy"], "null"),
        (["x" * 5000], "too long"),
        ([SHAPE, "--layer"], "--layer: expected one argument"),
        ([SHAPE, "--layer", "layer_norm", "--groups", "2"], "--groups is for --layer group_norm; layer_norm has no use for it"),
        ([SHAPE, "--trailing", "2"], "--trailing is for --layer layer_norm, rms_norm; instance_norm has no use for it"),
        (
            [SHAPE, "--layer", "rms_norm", "--num-features", "3"],
            "is for --layer instance_norm, batch_norm, group_norm; rms_norm",
        ),
        ([SHAPE, "--layer", "batch_norm", "--unbatched"], "--unbatched is for --layer instance_norm; batch_norm has no use for it"),
        (
            [SHAPE, "--arg", "a=1"],
            r"--arg is for a layer of your own \(--layer MODULE:CLASS or FILE.py:CLASS\); instance_norm has no use for it",
        ),
        ([SHAPE, "--layer", "group_norm", "--groups", "0"], "--groups must be positive, got 0"),
        ([SHAPE, "--layer", "group_norm", "--groups", "2"], "--groups 2: 3 channels do not divide into 2 groups"),
        ([SHAPE, "--layer", "group_norm", "--num-features", "4", "--groups", "2"], "num_channels is 4, .* has C = 3"),
        ([SHAPE, "--layer", "layer_norm", "--trailing=-1"], "--trailing must be positive, got -1"),
        ([SHAPE, "--layer", "rms_norm", "--trailing", "5"], r"--trailing 5: an input of shape \(2, 3, 4, 5\) has 4 axes"),
        (["7", "--layer", "layer_norm"], r"layer_norm normalises all axes but the first, and shape \(7,\) has no other; --trailing 1"),
        (["7", "--layer", "batch_norm"], r"batch_norm takes arrays of 2, 3, 4, 5 axes, got shape \(7,\)"),
        (["7", "--layer", "group_norm"], r"group_norm takes arrays of 2 axes or more, \(N, C, ...\), got shape \(7,\)"),
        (["1x3", "--layer", "batch_norm"], "one element, whose variance says nothing"),
        (["3x3", "--layer", "group_norm", "--groups", "3"], "each slice of shape \\(3, 3\\) has one element, whose variance says nothing"),
        (["4x1", "--layer", "layer_norm"], "each slice of shape \\(4, 1\\) has one element, whose variance says nothing"),
        ([SHAPE, "--layer", "batch_norm", "--num-features", "2"], "num_features is 2, .* has C = 3"),
        ([SHAPE, "--layer", "rms_norm", "--plant", "no-mean-path"], "no mistake in rms_norm, whose gradients are the same with it"),
        ([SHAPE, "--device", "tpu"], "device 'tpu' is unknown: use 'cpu', 'cuda' or 'cuda:N'"),
        ([SHAPE, "--device", "cuda:x"], "device 'cuda:x' is unknown"),
        ([SHAPE, "--dtype", "int32"], "--dtype: invalid choice: 'int32'"),
        ([SHAPE, "--size", "4x5"], "--size is for pictures; .* is an array"),
        ([SHAPE, "--scale", "unit"], "--scale is for pictures; .* is an array"),
        (["--unbatched", *SMALL], "--unbatched is for arrays"),
        *(
            ([f"--size={size}"], "--size: HxW is needed, such as 240x320")
            for size in ("0x5", "00x5", "5", "-3x4", "3x4x5", "axb", "1e3x4", "9999999x5")
        ),
        ([SHAPE, "--eps", "-1"], r"--eps must be a number from 0 up, got -1\.0"),
        ([SHAPE, "--eps", "nan"], "--eps must be a number from 0 up, got nan"),
        ([SHAPE, "--eps", "inf"], "--eps must be a number from 0 up, got inf"),
        ([SHAPE, "--eps", "abc"], "--eps: invalid float value: 'abc'"),
        ([SHAPE, "--eps", "1e308", "--plant", "eps-twic"], "did you mean eps-twice"),
        ([SHAPE, "--json", "/not/there/x.json"], "the folder /not/there is not there"),
        ([SHAPE, "--seed", "-1"], "--seed must not be negative, got -1"),
        ([SHAPE, "--seed", "1.5"], "--seed: invalid int value"),
        ([SHAPE, "--plant", "nothing"], "--plant nothing: no such mistake; .*--plant list"),
        ([SHAPE, "--plant", ""], "no such mistake"),
        ([SHAPE, "--bogus"], "unrecognized arguments: --bogus"),
        ([SHAPE, "more"], "unrecognized arguments: more"),
        ([SHAPE, "two\nlines"], "unrecognized arguments: two lines"),
        ([SHAPE, "--eps"], "--eps: expected one argument"),
    ],
    ids=lambda value: " ".join(value)[:40].replace("\0", "0").replace("\n", " ") if isinstance(value, list) else "",
)
def test_bad_options(arguments, told):
    result = refused(run(*arguments), told)
    assert "AGREE" not in result.out
    assert "DIFFER" not in result.out


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["--bogus"]])
def test_bad_commands(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    captured = capsys.readouterr()
    refused(Result(stop.value.code, captured.out, captured.err), "COMMAND|unrecognized")


def test_cuda_without_cupy(hide):
    hide("cupy")
    for device in ("cuda", "cuda:1"):
        assert refused(run(SHAPE, "--device", device), "needs CuPy, which is not installed: pip install cupy-cuda12x").out == ""


@pytest.mark.parametrize("count", [0, RuntimeError("no driver\nat all")], ids=["no GPU", "no driver"])
def test_cuda_without_a_gpu(count, monkeypatch):
    def devices():
        if isinstance(count, Exception):
            raise count
        return count

    cupy = types.ModuleType("cupy")
    cupy.ndarray = type("ndarray", (), {})
    cupy.cuda = types.SimpleNamespace(runtime=types.SimpleNamespace(getDeviceCount=devices))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    refused(run(SHAPE, "--device", "cuda"), "CuPy is installed but finds no GPU")


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool", "complex64", "U3", "datetime64[s]", "f4,f4"])
def test_arrays_of_something_else_than_floats(dtype, tmp_path):
    refused(run(saved(tmp_path / "x.npy", np.zeros((2, 3, 4, 5), dtype))), "floating ones are needed|real ones are needed")


def test_long_doubles_need_a_dtype(tmp_path):
    path = saved(tmp_path / "x.npy", array_of(2, 3, 4).astype(np.longdouble))
    if np.dtype(np.longdouble) == np.float64:
        pytest.skip("long double is double here")
    refused(run(path), "choose one of float16, float32 and float64 with --dtype")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_are_counted_and_located(value, tmp_path):
    x = array_of(2, 3, 4, 5)
    x[1, 0, 2, 3] = x[1, 2, 0, 0] = value
    refused(run(saved(tmp_path / "x.npy", x)), r"x\.npy holds 2 values that are nan or inf in float64, the first at index \(1, 0, 2, 3\)")


@pytest.mark.parametrize(("dtype", "largest"), [("float16", 7e4), ("float32", 1e39)])
def test_overflow_in_the_cast(dtype, largest, tmp_path):
    x = array_of(2, 3, 4, 5)
    x[0, 1, 2, 3] = largest
    path = saved(tmp_path / "x.npy", x)
    refused(run(path, "--dtype", dtype), rf"holds 1 values that are nan or inf in {dtype}, the first at index \(0, 1, 2, 3\)")


@pytest.mark.parametrize(("dtype", "scale"), [("float64", 1e200), ("float64", 1e307)])
def test_overflow_in_the_variance(dtype, scale, tmp_path):
    refused(run(saved(tmp_path / "x.npy", (array_of(2, 3, 4, 5) * scale).astype(dtype))), rf"variance \+ eps overflows {dtype}")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_constant_slice_without_eps(dtype, tmp_path):
    x = array_of(2, 3, 4, 5, dtype=dtype)
    x[1, 2] = 3
    path = saved(tmp_path / "x.npy", x)
    refused(run(path, "--eps", "0"), r"eps = 0 and a slice that is \(nearly\) constant")
    agrees(run(path))


BYTES = {
    "text.png": b"no picture at all",
    "empty.png": b"",
    "empty.npy": b"",
    "empty.npz": b"",
    "text.npy": b"no array at all",
    "text.npz": b"no archive at all",
    "magic.npy": b"\x93NUMPY",
    "magic.npz": b"PK\x03\x04",
    "picture.npy": b"\x89PNG\r\n\x1a\n",
}


@pytest.mark.parametrize("name", BYTES)
def test_files_that_are_not_what_they_are_called(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(BYTES[name])
    refused(run(path), rf"{name} (cannot be read as|holds no plain numbers)")


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "npy", "npz"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_truncated_files(suffix, kept, tmp_path):
    path = tmp_path / f"x.{suffix}"
    if suffix == "npy":
        np.save(path, array_of(2, 3, 40, 5))
    elif suffix == "npz":
        np.savez(path, x=array_of(2, 3, 40, 5))
    else:
        picture(path, np.tile(PIXELS[..., :3], (9, 9, 1)))
    agrees(run(path))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    refused(run(path), "cannot be read as")


@given(position=st.integers(0, 10**6), damage=st.binary(min_size=1, max_size=8), kind=st.sampled_from(["npy", "npz", "zip"]))
@settings(max_examples=300)
@example(position=0, damage=b"\x80\x04", kind="npy")
@example(position=50, damage=b"(", kind="npy")
def test_damaged_arrays(position, damage, kind):
    """Whatever a broken file makes NumPy raise is bad input; a file that can still be read is an array of finite floats."""
    buffer = io.BytesIO()
    if kind == "npy":
        np.save(buffer, array_of(2, 3, 4))
    else:
        (np.savez if kind == "npz" else np.savez_compressed)(buffer, x=array_of(2, 3, 4))
    data = bytearray(buffer.getvalue())
    position %= len(data)
    data[position : position + len(damage)] = damage
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x.{'npy' if kind == 'npy' else 'npz'}"
        path.write_bytes(data)
        try:
            found = inputs.read_input(str(path)).array
        except (inputs.BadInput, MemoryError):
            return
    assert found.size
    assert np.isfinite(found).all()


def header(shape, descr="'<f8'"):
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    "shape", ["(2, 3, 4", "'a'", "(2.0, 3)", "(True, 3, 4)", "(-2, 3, 4)", "(10**3,)", "(4611686018427387904, 8, 4)", "(" * 300 + ")" * 300]
)
def test_array_files_with_a_strange_header(shape, tmp_path):
    path = tmp_path / "x.npy"
    path.write_bytes(header(shape) + bytes(800))
    refused(run(path), "x.npy cannot be read as an array")


class Trap:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("how", ["npy", "npz", "npz member", "structured", "bare pickle"])
def test_pickled_objects_are_refused_and_not_run(how, tmp_path):
    sprung = tmp_path / "sprung"
    objects = np.array([Trap(sprung)], object)
    path = tmp_path / ("x.npy" if how in ("npy", "structured", "bare pickle") else "x.npz")
    if how == "npy":
        np.save(path, objects)
    elif how == "structured":
        np.save(path, np.array([(1.0, Trap(sprung))], [("a", "f8"), ("b", "O")]))
    elif how == "bare pickle":
        objects.dump(path)
    else:
        np.savez(path, a=objects, b=np.ones(3))
    refused(run(f"{path}:a" if how == "npz member" else path), r"objects, which are programs, are refused|holds 2 arrays \(a, b\)")
    assert not sprung.exists()
    if how == "bare pickle":
        np.load(path, allow_pickle=True)[0].close()  # negative control: the trap works
        assert sprung.exists()


def test_archives(tmp_path):
    two = tmp_path / "two.npz"
    np.savez(two, a=array_of(2, 3, 4), b=array_of(2, 3, 4))
    refused(run(two), r"holds 2 arrays \(a, b\): name one, as in .*two\.npz:a")
    refused(run(f"{two}:c"), "has no array 'c'; it holds a, b")
    np.savez(tmp_path / "none.npz")
    refused(run(tmp_path / "none.npz"), "holds 0 arrays")
    refused(run(f"{tmp_path}/none.npz:a"), "has no array 'a'; it holds none")
    for name, member, data in (("text.npz", "readme.txt", b"text"), ("fake.npz", "a.npy", b"text"), ("empty.npz", "a.npy", b"")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(member, data)
        refused(run(tmp_path / name), f"{name} cannot be read as an array: it holds bytes")


@pytest.mark.parametrize("name", ["folder", "folder.png", "folder.npy", "folder.npz"])
def test_a_directory_for_input(name, tmp_path):
    (tmp_path / name).mkdir()
    refused(run(tmp_path / name), "(?i)directory|denied")


def test_pictures_that_are_too_large(tmp_path, monkeypatch):
    path = picture(tmp_path / "x.png", PIXELS[..., :3])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)  # Pillow warns from here, and refuses from twice as many
    agrees(run(path))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    refused(run(path), "x.png cannot be read as a picture: .*exceeds limit")


def test_what_would_not_fit_into_memory_is_refused_before_it_is_made(tmp_path):
    path = picture(tmp_path / "x.png", PIXELS[..., :3])
    refused(run(path, "--size", "900000x900000"), "x.png at 900000x900000 is too large: 2.4e.12 elements")
    refused(run("100000x3x100000"), "shape 100000x3x100000 is too large: 3.0e.10 elements")


def test_a_picture_without_pillow(hide, tmp_path):
    path = picture(tmp_path / "x.png", PIXELS[..., :3])
    hide("PIL")
    refused(run(path), r'x\.png needs Pillow: pip install -e "\.\[report\]"')


@pytest.mark.parametrize("option", ["--json", "--report"])
def test_places_that_cannot_be_written(option, tmp_path):
    """A file where a folder is needed, a folder where a file is needed."""
    (tmp_path / "file").write_text("kept")
    refused(run(SHAPE, option, tmp_path / "file" / "below"), "file")
    refused(run(SHAPE, option, tmp_path / "file" if option == "--report" else tmp_path), "(?i)exists|directory|denied|folder")
    assert (tmp_path / "file").read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_interrupted(monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(command.nn, "compare_backward", interrupt)
    assert run(SHAPE)[::2] == (130, "minitensor: interrupted\n")


# -- any options at all -----------------------------------------------------------------------------------------------------------

# No digits (a shape may be any size), no path (--json writes where it is told to)
WORDS = st.text(st.characters(exclude_categories=["Nd", "Cs"], exclude_characters="/\\."), max_size=8)
VALUES = {
    "--layer": [*KINDS, "layer", "x.py:Layer", "x:Layer"],
    "--groups": ["3", "2", "0", "x"],
    "--trailing": ["1", "2", "9", "x"],
    "--arg": ["a=1", "a", "a=b"],
    "--eps": ["1e-5", "0", "-1", "nan", "inf", "1e400", "1e-320", "10"],
    "--num-features": ["3", "2", "0", "-1", "1e3"],
    "--dtype": ["float16", "float32", "float64", "float", "int8"],
    "--device": ["cpu", "cpu:0", "gpu", ""],
    "--seed": ["0", "1", "-1", "99999999999999999999999999", "0x10"],
    "--size": ["3x4", "0x1", "4", "x"],
    "--scale": ["unit", "255", "1"],
    "--plant": ["list", "unbiased", "eps-forgotten", "dbeta-averaged", "Unbiased"],
    "--json": ["tables.json", ""],
}
OPTIONS = st.one_of(
    st.sampled_from(["--affine", "--no-affine", "--unbatched", "--help", "--", "-", "--no-eps", "--a"]),
    st.sampled_from([f"{option}={value}" for option, values in VALUES.items() for value in values]),
    st.sampled_from([option for option in VALUES if option != "--json"]),
    st.builds("{}={}".format, st.sampled_from([option for option in VALUES if option != "--json"]), WORDS),
    WORDS,
)
INPUTS = st.one_of(st.sampled_from(["2x3x4x5", "2x3x4", "1x1x2", "3x4", "2x3x0", "x.npy", "x.npz:x", "x.png", "5", "-5", "."]), WORDS)


@given(first=INPUTS, rest=st.lists(OPTIONS, max_size=5))
@settings(max_examples=300)
@example(first="2x3x4x5", rest=["--plant=list", "--help"])
@example(first="2x3x4x5", rest=["two\nlines"])
@example(first="x.png", rest=["--scale=unit", "--size=3x4", "--json=tables.json"])
def test_any_options_end_in_0_1_or_2(first, rest):
    """Never a traceback; and what is refused is refused in one line."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        np.save("x.npy", array_of(2, 3, 4))
        np.savez("x.npz", x=array_of(2, 3, 4, 5))
        picture("x.png", PIXELS)
        result = run(first or ".", *rest)
    assert result.status in (0, 1, 2), result
    if result.status == 2:
        refused(result, "")
    else:
        assert result.err == ""
        assert ("DIFFER" in result.out) == (result.status == 1)


# -- as a process -----------------------------------------------------------------------------------------------------------------


def process(*arguments, **environment):
    root = Path(minitensor.__file__).parent.parent
    return subprocess.run(
        [sys.executable, "-m", "minitensor", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(root)} | environment,
        capture_output=True,
        check=False,
        text=True,
        encoding="utf-8",
    )


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["compare", SHAPE], 0, "AGREE"),
        (["compare", SHAPE, "--plant", "sign"], 1, "DIFFER"),
        (["compare", "--plant", "list"], 0, "no-mean-path"),
        (["compare", "--help"], 0, "--report DIR"),
        (["--version"], 0, f"minitensor {minitensor.__version__}"),
    ],
)
def test_exit_status(arguments, status, told):
    found = process(*arguments)
    assert (found.returncode, found.stderr) == (status, "")
    assert told in found.stdout


def test_exit_status_of_bad_input(tmp_path):
    """One line, although NumPy and Pillow have warnings to give on the way."""
    path = saved(tmp_path / "x.npy", array_of(2, 3, 4, 5) * 1e5)
    for arguments in (["2x3x1x1"], [path, "--dtype", "float16"], ["--eps", "much"]):
        found = process("compare", *arguments)
        refused(Result(found.returncode, found.stdout, found.stderr), "")


def test_a_name_that_the_terminal_cannot_write(tmp_path):
    path = saved(tmp_path / "größe.npy", array_of(2, 3, 4))
    found = process("compare", path, "--report", tmp_path / "report", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (found.returncode, found.stderr) == (0, "")
    assert "input: gr\\xf6\\xdfe.npy" in found.stdout
    assert "größe.npy" in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
