"""nn.save and nn.load: what goes in comes out, a file is whole or not there, and no file can do harm; and PyTorch's files, both ways."""

from __future__ import annotations

import json
import os
import pickle
import runpy
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import tracemalloc
import zipfile
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import safetensors
from hypothesis import given, settings

import minitensor as mt
from minitensor import nn
from minitensor.errors import CheckpointError, DTypeError, MissingPackageError
from minitensor.nn import Linear, serialization
from minitensor.nn.serialization import load, save

CHECKPOINTS = Path(__file__).parent / "checkpoints"
DTYPES = ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def same(found, expected):
    """The same names, dtypes, shapes and bits."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert isinstance(found[name], mt.Tensor)
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
        assert found[name].numpy().tobytes() == np.asarray(value).tobytes()


def header_of(path):
    data = Path(path).read_bytes()
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


def file(header, data=b""):
    """The bytes of a file with this header, written by hand."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype, shape, start, stop):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


# -- what goes in comes out -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5,), (2, 3, 4)], ids=str)
def test_every_dtype_and_shape(path, dtype, shape, rng):
    bits = rng.integers(0, 256, (*shape, np.dtype(dtype).itemsize), np.uint8)  # with nan, inf and subnormal numbers
    values = (bits % 2 if dtype == "bool" else bits).view(dtype).reshape(shape)
    save({"x": values, "t": mt.tensor(values)}, path)
    same(load(path), {"x": values, "t": values})


@pytest.mark.parametrize(
    "view",
    [lambda x: x.T, lambda x: x[::-1], lambda x: x[:, ::2], lambda x: x[1:2], lambda x: np.broadcast_to(x[0], (3, 4)), np.asfortranarray],
    ids=["transposed", "reversed", "every second", "slice", "broadcast", "Fortran"],
)
def test_strided_arrays(path, view):
    values = view(np.arange(12.0).reshape(3, 4))
    save({"x": values}, path)
    same(load(path), {"x": values.copy(order="C")})


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if np.dtype(dtype).itemsize > 1])
def test_big_endian_arrays(path, dtype):
    values = np.arange(6).reshape(2, 3).astype(dtype)
    save({"x": values.astype(values.dtype.newbyteorder(">"))}, path)
    same(load(path), {"x": values})


def test_values_are_copies_without_graphs(path):
    weight = nn.Parameter([1.0, 2.0])
    save({"leaf": weight, "made": weight * 3, "scalar": np.float64(7)}, path)
    state = load(path)
    same(state, {"leaf": np.float32([1, 2]), "made": np.float32([3, 6]), "scalar": np.array(7.0)})
    assert not any(tensor.requires_grad for tensor in state.values())
    assert weight.requires_grad


def test_shared_tensors_are_written_once_each(path):
    shared = mt.ones(2)
    save({"a": shared, "b": shared}, path)
    assert header_of(path)["b"]["data_offsets"] == [8, 16]


def test_an_empty_state(path):
    save({}, path)
    assert load(path) == {}


@settings(max_examples=50)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])).filter(lambda name: name != "__metadata__"), st.integers(0, 255)))
def test_any_name(tmp_path_factory, numbers):
    path = tmp_path_factory.getbasetemp() / "names.safetensors"
    save({name: np.uint8(number) for name, number in numbers.items()}, path, numbers and {min(numbers): max(numbers)})
    assert {name: tensor.item() for name, tensor in load(path).items()} == numbers
    with safetensors.safe_open(path, "numpy") as opened:
        assert opened.metadata() == ((numbers and {min(numbers): max(numbers)}) or None)


def test_the_order_is_the_files(path):
    parts = {name: entry("U8", [1], i, i + 1) for i, name in enumerate("zebra")}
    path.write_bytes(file(parts, b"zebra"))
    assert "".join(load(path)) == "zebra"
    assert bytes(tensor.item() for tensor in load(path).values()) == b"zebra"


def test_paths_of_every_kind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("a.safetensors", b"b.safetensors", Path("c.safetensors"), tmp_path / "d"):
        save({"x": mt.ones(1)}, path)
        same(load(path), {"x": np.ones(1, np.float32)})
    with pytest.raises(TypeError, match=r"os\.PathLike"):
        save({}, 3)
    with pytest.raises(TypeError, match=r"os\.PathLike"):
        load(None)


def test_devices(path, cupy):
    save({"x": mt.tensor([1.0, 2.0], device="cuda"), "raw": cupy.asarray([3.0])}, path)
    same(load(path), {"x": np.float32([1, 2]), "raw": np.array([3.0])})
    state = load(path, device="cuda")
    assert {tensor.device for tensor in state.values()} == {"cuda:0"}
    same({name: tensor.cpu() for name, tensor in state.items()}, {"x": np.float32([1, 2]), "raw": np.array([3.0])})


def test_bf16_is_widened_without_rounding(path):
    bits = np.arange(2**16, dtype="<u2")
    path.write_bytes(file({"x": entry("BF16", [2**8, 2**8], 0, 2**17)}, bits.tobytes()))
    found = load(path)["x"]
    assert (found.dtype, found.shape) == (np.float32, (2**8, 2**8))
    sign, exponent, fraction = np.where(bits >> 15, -1.0, 1.0), (bits >> 7 & 255).astype(int), bits % 128 / 128
    finite = exponent < 255
    normal = sign * np.ldexp(1 + fraction, exponent - 127)
    expected = np.where(exponent == 0, sign * np.ldexp(fraction, -126), normal)
    values = found.numpy().ravel()
    np.testing.assert_array_equal(values[finite], expected[finite])
    np.testing.assert_array_equal(np.signbit(values), sign < 0)
    np.testing.assert_array_equal(values[~finite], np.where(fraction, np.nan, sign * np.inf)[~finite])


# -- modules ----------------------------------------------------------------------------------------------------------------------


def test_a_module_and_the_versions_of_its_layers(path):
    layer = nn.InstanceNorm2d(2, affine=True, track_running_stats=True)
    layer(mt.randn(2, 2, 3, 4))
    save(layer, path, {"format": "pt"})
    assert header_of(path)["__metadata__"].pop("format") == "pt"
    state = load(path)
    same(state, layer.state_dict())
    assert state._metadata == layer.state_dict()._metadata != {}
    other = nn.InstanceNorm2d(2, affine=True, track_running_stats=True)
    other.load_state_dict(state)
    same(other.state_dict(), layer.state_dict())


def test_a_plain_dict_has_no_versions(path):
    save(dict(nn.InstanceNorm2d(2, affine=True).state_dict()), path)
    assert "__metadata__" not in header_of(path)
    assert load(path)._metadata == {}


VERSIONS = {
    "empty": "", "a number": "7", "a list": "[]", "text": '{"a": "b"}', "as in _metadata": '{"a": {"version": 1}}', "bool": '{"a": true}',
    "a name twice": '{"a": 1, "a": 2}', "deep": "[" * 10**5, "long": "9" * 5000,
}  # fmt: skip


@pytest.mark.parametrize("text", VERSIONS.values(), ids=VERSIONS)
def test_versions_that_are_none(path, text):
    path.write_bytes(file({"__metadata__": {"minitensor.versions": text}}))
    with pytest.raises(CheckpointError, match="damaged"):
        load(path)


# -- refused when saving ----------------------------------------------------------------------------------------------------------

ONE = np.ones(1)
BAD_STATES = {
    "complex": ({"x": ONE, "z": np.ones(2, complex)}, DTypeError, r"'z' is complex128 \(2,\); bool, int8, .* float64 can be written"),
    "object": ({"x": np.array([None])}, DTypeError, r"'x' is object \(1,\)"),
    "string": ({"x": np.array(["a"])}, DTypeError, r"'x' is <U1 \(1,\)"),
    "time": ({"x": np.array(["2020"], "datetime64[D]")}, DTypeError, "datetime64"),
    "record": ({"x": np.zeros(2, [("a", "f4")])}, DTypeError, "'x'"),
    "masked": ({"x": np.ma.masked_array(ONE, True)}, DTypeError, "MaskedArray is not a plain array"),
    "list": ({"x": [1.0]}, TypeError, "'x' must be a Tensor or an array, got list; np.asarray"),
    "None": ({"x": None}, TypeError, "got NoneType"),
    "number": ({"x": 1.0}, TypeError, "got float"),
    "nested": ({"model": {"x": ONE}}, TypeError, "'model' must be a Tensor or an array, got dict"),
    "int name": ({"x": ONE, 3: ONE}, TypeError, "names are strings, got 3"),
    "reserved name": ({"__metadata__": ONE}, CheckpointError, "keeps the name '__metadata__' for itself"),
    "surrogate": ({"a\ud800": ONE}, CheckpointError, r"'a\\ud800' cannot be written as UTF-8"),
    "no mapping": ([ONE], TypeError, "a Module or a mapping of names to Tensors is needed, got list"),
    "a tensor": (mt.ones(2), TypeError, "got Tensor"),
}


@pytest.mark.parametrize(("state", "error", "message"), BAD_STATES.values(), ids=BAD_STATES)
def test_nothing_is_written_of_a_bad_state(path, state, error, message):
    with pytest.raises(error, match=message):
        save(state, path)
    assert os.listdir(path.parent) == []
    save({"x": ONE}, path)
    with pytest.raises(error, match=message):
        save(state, path)
    assert os.listdir(path.parent) == [path.name]
    same(load(path), {"x": ONE})


@pytest.mark.parametrize(
    ("metadata", "error"),
    [({"a": 1}, TypeError), ({1: "a"}, TypeError), ("ab", TypeError), ([("a", "b")], TypeError), ({"\ud800": "a"}, CheckpointError)],
    ids=repr,
)
def test_nothing_is_written_with_bad_metadata(path, metadata, error):
    with pytest.raises(error, match=r"metadata are strings by name|UTF-8"):
        save({"x": ONE}, path, metadata)
    assert os.listdir(path.parent) == []


def test_the_package_is_named_where_it_is_missing(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for attempt in (lambda: save({}, path), lambda: load(path)):
        with pytest.raises(MissingPackageError, match=r'pip install -e "\.\[weights\]" from the checkout \(or pip install safetensors\)'):
            attempt()


# -- refused when loading ---------------------------------------------------------------------------------------------------------


class Trap:
    """Unpickling it would make a folder."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def pickled(path, trap):
    path.write_bytes(pickle.dumps({"x": trap}))


def old_pickle(path, trap):
    path.write_bytes(pickle.dumps({"x": trap}, 2))


def archive(path, trap):
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("archive/data.pkl", pickle.dumps({"x": trap}))


def npz(path, trap):
    with open(path, "wb") as opened:
        np.savez(opened, x=np.array([trap], object))


def npy(path, trap):
    with open(path, "wb") as opened:
        np.save(opened, np.array([trap], object))


TORCH = r"safetensors\.torch\.save_file\(torch\.load\(path, weights_only=True\), \"new\.safetensors\"\)"


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (pickled, f"a pickle, which could run code.*{TORCH}"),
        (old_pickle, f"a pickle, which could run code.*{TORCH}"),
        (archive, f"a zip archive.*PyTorch.*{TORCH}"),
        (npz, r"a zip archive.*NumPy.*nn\.save\(dict\(np\.load\(path\)\)"),
        (npy, r"\.npy.*nn\.save\({\"name\": np\.load\(path\)}"),
        (lambda path, _: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100)), "an HDF5 file: the package h5py reads"),
        (lambda path, _: path.write_bytes(b""), "no safetensors file"),
        (lambda path, _: path.write_text("version https://git-lfs.github.com/spec/v1"), "no safetensors file"),
    ],
    ids=["pickle", "old pickle", "pt", "npz", "npy", "hdf5", "empty", "text"],
)
def test_files_of_other_kinds(path, write, message):
    trap = path.parent / "trapped"
    write(path, Trap(trap))
    with pytest.raises(CheckpointError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert not trap.exists()


def test_the_advice_for_arrays_of_numpy(path):
    np.savez(path.with_suffix(".npz"), x=ONE)
    save(dict(np.load(path.with_suffix(".npz"))), path)
    same(load(path), {"x": ONE})
    np.save(path.with_suffix(".npy"), ONE)
    save({"name": np.load(path.with_suffix(".npy"))}, path)
    same(load(path), {"name": ONE})


F32 = entry("F32", [1], 0, 4)
DAMAGED = {
    "header beyond the file": (2**63 - 1).to_bytes(8, "little") + b"{}",
    "longest header": (2**64 - 1).to_bytes(8, "little") + b"{}",
    "header one too long": (3).to_bytes(8, "little") + b"{}",
    "broken JSON": file(b'{"x": '),
    "JSON of another kind": file(b"[]"),
    "deep JSON": file(b'{"x":' * 10**5),
    "no UTF-8": file(b'{"\xff":' + json.dumps(F32).encode() + b"}", bytes(4)),
    "lone surrogate": file({"\ud800": F32}, bytes(4)),
    "white space first": file(b" {}"),
    "overlap": file({"x": entry("F32", [2], 0, 8), "y": entry("F32", [2], 4, 12)}, bytes(12)),
    "the same place": file({"x": F32, "y": F32}, bytes(4)),
    "out of range": file({"x": entry("F32", [2], 0, 8)}, bytes(4)),
    "far out of range": file({"x": entry("F32", [1], 2**62, 2**62 + 4)}, bytes(4)),
    "backwards": file({"x": entry("F32", [1], 4, 0)}, bytes(4)),
    "a hole": file({"x": F32, "y": entry("F32", [1], 8, 12)}, bytes(12)),
    "a hole first": file({"x": entry("F32", [1], 4, 8)}, bytes(8)),
    "too long": file({"x": F32}, bytes(5)),
    "no data": file({"x": F32}),
    "a name twice": file(f'{{"x": {json.dumps(F32)}, "x": {json.dumps(entry("F32", [1], 4, 8))}}}'.encode(), bytes(8)),
    "the same entry twice": file(f'{{"x": {json.dumps(F32)}, "x": {json.dumps(F32)}}}'.encode(), bytes(4)),
    "metadata twice": file(b'{"__metadata__": {"a": "b", "a": "c"}}'),
    "a key twice": file(b'{"x": {"dtype": "F32", "dtype": "I32", "shape": [1], "data_offsets": [0, 4]}}', bytes(4)),
    "unknown dtype": file({"x": entry("float32", [1], 0, 4)}, bytes(4)),
    "dtype is a number": file({"x": entry(4, [1], 0, 4)}, bytes(4)),
    "negative shape": file({"x": entry("F32", [-1], 0, 4)}, bytes(4)),
    "fractional shape": file({"x": entry("F32", [1.0], 0, 4)}, bytes(4)),
    "size does not match": file({"x": entry("F32", [2], 0, 4)}, bytes(4)),
    "size overflows": file({"x": entry("F32", [2**62, 4], 0, 0)}),
    "too long for NumPy": file({"x": entry("F32", [0, 2**63 - 1, 2**63 - 1], 0, 0)}),
    "longer still": file({"x": entry("F32", [0, 2**64 - 1], 0, 0)}),
    "65 axes": file({"x": entry("F32", [1] * 65, 0, 4)}, bytes(4)),
    "bool of 7": file({"x": entry("BOOL", [2], 0, 2)}, b"\1\7"),
    "metadata is no string": file({"__metadata__": {"a": 1}}),
    "no shape": file({"x": {"dtype": "F32", "data_offsets": [0, 4]}}, bytes(4)),
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_damaged_files(path, data):
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"damaged|shape that NumPy has not|bytes other than 0 and 1") as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F4", "C64"])
def test_dtypes_that_numpy_lacks(path, dtype):
    bits = {"F4": 4, "C64": 64}.get(dtype, 8)
    path.write_bytes(file({"good": F32, "odd.weight": entry(dtype, [2], 4, 4 + bits // 4)}, bytes(4 + bits // 4)))
    with pytest.raises(CheckpointError, match=f"'odd.weight' is {dtype}: convert it where it came from, to one of BOOL, .* BF16"):
        load(path)


SMALL = {"w": np.float32([[1, 2], [3, 4]]), "b": np.array([True, False]), "n": np.array(7)}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The bytes of a small file with versions and metadata."""
    path = tmp_path_factory.mktemp("good") / "good.safetensors"
    state = nn.InstanceNorm2d(1).state_dict()
    state.update(SMALL)
    save(state, path, {"note": "ü"})
    return path.read_bytes()


def accepted(path):
    """Whether the file loads; it does or is refused, there is nothing else."""
    try:
        state = load(path)
    except CheckpointError:
        return False
    assert all(isinstance(tensor, mt.Tensor) for tensor in state.values())
    assert sum(tensor.size * min(tensor.dtype.itemsize, 2) for tensor in state.values()) <= path.stat().st_size
    return True


def test_truncation_at_every_byte(path, good):
    path.write_bytes(good)
    same(load(path), SMALL)
    for length in range(len(good)):
        path.write_bytes(good[:length])
        assert not accepted(path), length
    path.write_bytes(good + b"\0")
    assert not accepted(path)


def test_bits_flipped_in_every_byte(path, good):
    """In the header, that is: values may be any. What still loads has another name or other metadata."""
    outcomes = []
    for place in range(8 + int.from_bytes(good[:8], "little")):
        for bit in (0, 3, 6):
            flipped = bytearray(good)
            flipped[place] ^= 1 << bit
            path.write_bytes(flipped)
            outcomes.append(accepted(path))
    assert 0.05 < np.mean(outcomes) < 0.5


edits = st.lists(st.tuples(st.sampled_from("=+-"), st.floats(0, 1, exclude_max=True), st.binary(max_size=4)), min_size=1, max_size=6)


@given(edits)
def test_bytes_changed_inserted_and_deleted(tmp_path_factory, good, edits):
    path, data = tmp_path_factory.getbasetemp() / "edited.safetensors", bytearray(good)
    for kind, where, chunk in edits:
        start = int(where * len(data))
        data[start : start + (0 if kind == "+" else len(chunk))] = b"" if kind == "-" else chunk
    path.write_bytes(data)
    accepted(path)


numbers = st.integers(-1, 9) | st.sampled_from([2**31, 2**62, 2**63 - 1, 2**64 - 1, 2**64])
anything = st.recursive(st.none() | st.booleans() | numbers | st.floats() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=3))
some_entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*serialization._READ, "F8_E4M3", "F4"]) | anything,
        "shape": st.lists(numbers, max_size=3) | anything,
        "data_offsets": st.tuples(numbers, numbers) | anything,
    },
    optional={"more": anything},
)


@settings(max_examples=60)
@given(st.dictionaries(st.text(max_size=2) | st.just("__metadata__"), some_entries | anything, max_size=3), st.binary(max_size=9))
def test_headers_of_any_content(tmp_path_factory, header, data):
    path = tmp_path_factory.getbasetemp() / "header.safetensors"
    path.write_bytes(file(header, data))
    accepted(path)


@given(st.sampled_from(sorted(serialization._READ)), st.lists(st.integers(0, 3), max_size=3), st.data())
def test_headers_that_hold(tmp_path_factory, dtype, shape, data):
    """The two above would see nothing if all that they made were refused."""
    size = int(np.prod(shape, initial=1)) * serialization._READ[dtype].itemsize
    path = tmp_path_factory.getbasetemp() / "holds.safetensors"
    bits = data.draw(st.binary(min_size=size, max_size=size))
    path.write_bytes(file({"x": entry(dtype, shape, 0, size)}, bytes(b % 2 for b in bits) if dtype == "BOOL" else bits))
    assert accepted(path)


def test_memory_stays_in_proportion(path):
    values = np.zeros(2**20, np.float32)
    save({"x": values}, path)

    def peak(attempt):
        tracemalloc.start()
        try:
            attempt()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert values.nbytes < peak(lambda: load(path)) < 2.1 * values.nbytes
    assert values.nbytes < peak(lambda: save({"x": values}, path)) < 1.1 * values.nbytes
    path.write_bytes((2**40).to_bytes(8, "little") + b"{}")
    assert peak(lambda: accepted(path)) < 10**6
    path.write_bytes(b"PK\x03\x04" + bytes(2**22))
    assert peak(lambda: accepted(path)) < 10**6


def test_missing_files_and_folders(path):
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        load(path)
    with pytest.raises(CheckpointError, match="is a directory, a pipe or a device"):
        load(path.parent)
    with pytest.raises(CheckpointError, match="is a directory, a pipe or a device"):
        save({}, path.parent)
    with pytest.raises(FileNotFoundError, match=r"nowhere/model\.safetensors"):
        save({}, path.parent / "nowhere" / path.name)
    assert os.listdir(path.parent) == []


# -- a file is whole or not there -------------------------------------------------------------------------------------------------

OLD, NEW = {"x": np.zeros(3)}, {"x": np.ones((200, 100))}
PRELUDE = """
import os, resource, signal, sys
import numpy as np
from minitensor.nn import serialization
from minitensor.nn.serialization import load, save
path, NEW = sys.argv[1], {"x": np.ones((200, 100))}
"""


def child(code, *args):
    """A Python of its own, which may be killed, or stopped when it hangs."""
    pytest.importorskip("resource", reason="limits and signals are POSIX's")
    command = [sys.executable, "-c", PRELUDE + textwrap.dedent(code), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture
def old(path):
    """A file that is there before."""
    save(OLD, path)
    return path


def temporaries(path):
    return [found for found in path.parent.iterdir() if found != path]


def test_pipes_and_devices_do_not_hang(path):
    pytest.importorskip("resource", reason="pipes with names are POSIX's")
    os.mkfifo(path)
    code = """
    for attempt in (lambda: load(path), lambda: save(NEW, path), lambda: load("/dev/zero"), lambda: load("/dev/stdin")):
        try:
            attempt()
        except serialization.CheckpointError as error:
            print(str(error).partition(" ")[2])
    """
    done = child(code, path)
    assert done.stdout.splitlines() == ["is a directory, a pipe or a device; a checkpoint is a regular file"] * 4, done.stderr
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert not temporaries(path)


def test_permissions_are_kept(old):
    old.chmod(0o640)
    before = os.umask(0o077)
    try:
        save(NEW, old)
        fresh = old.with_name("fresh.safetensors")
        save(NEW, fresh)
        os.umask(0o022)
        save(NEW, old.with_name("open.safetensors"))
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(found.stat().st_mode) for found in (old, fresh, old.with_name("open.safetensors"))]
    assert modes == [0o640, 0o600, 0o644]
    same(load(old), NEW)


def test_the_target_of_a_link_is_replaced(old, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    link, hanging = elsewhere / "link.safetensors", elsewhere / "hanging.safetensors"
    link.symlink_to(old)
    hanging.symlink_to(old.with_name("fresh.safetensors"))
    save(NEW, link)
    save(NEW, hanging)
    assert link.is_symlink()
    assert hanging.is_symlink()
    assert sorted(os.listdir(old.parent)) == ["fresh.safetensors", "model.safetensors"]
    for path in (old, old.with_name("fresh.safetensors"), link):
        same(load(path), NEW)
    loop = elsewhere / "loop"
    loop.symlink_to(loop)
    with pytest.raises(OSError, match="loop"):
        save(NEW, loop)


def test_everything_is_on_disk_before_the_name_changes(old, monkeypatch):
    events, fsync, replace = [], os.fsync, os.replace

    def recorded_fsync(descriptor):
        events.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else os.fstat(descriptor).st_size)
        fsync(descriptor)

    def recorded_replace(source, target):
        assert Path(source).parent == Path(target).parent
        events.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    for state in (SMALL, NEW):  # small enough to wait in a buffer, and not
        events.clear()
        save(state, old)
        assert events == [old.stat().st_size, "replace", "folder"]


def test_a_folder_that_cannot_be_synchronised(old, monkeypatch):
    monkeypatch.setattr(os, "open", lambda *args: (_ for _ in ()).throw(PermissionError("as Windows says")))
    save(NEW, old)
    same(load(old), NEW)


def interrupting(count):
    """A trace function that interrupts at the given line of all that are run in nn/serialization.py."""
    seen = 0

    def trace(frame, event, arg):
        nonlocal seen
        if frame.f_code.co_filename != serialization.__file__:
            return None
        seen += event == "line"
        if seen == count and event == "line":
            raise KeyboardInterrupt
        return trace

    return trace


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # between open and with, Python closes the file itself
def test_an_interrupt_at_any_line(old):
    outcomes, before = [], sys.gettrace()
    for count in range(1, 1000):
        save(OLD, old)
        sys.settrace(interrupting(count))
        try:
            save(NEW, old)
        except KeyboardInterrupt:
            pass
        else:
            break
        finally:
            sys.settrace(before)
        assert not temporaries(old), count
        outcomes.append(load(old)["x"].shape)
    assert outcomes == sorted(outcomes)  # the old one, and from some line on the new one
    assert set(outcomes) == {(3,), (200, 100)}
    assert len(outcomes) > 30


def test_a_kill_at_any_line(old):
    code = """
    def killing(count):
        seen = 0
        def trace(frame, event, arg):
            nonlocal seen
            if frame.f_code.co_filename == serialization.__file__:
                seen += event == "line"
                if seen == count:
                    os.kill(os.getpid(), signal.SIGKILL)
                return trace
        return trace

    OLD = load(path)
    for count in range(1, 1000):
        save(OLD, path)
        if not (pid := os.fork()):
            sys.settrace(killing(count))
            save(NEW, path)
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != -signal.SIGKILL:
            break
        print(load(path)["x"].shape)
    """
    done = child(code, old)
    outcomes = done.stdout.splitlines()
    assert list(dict.fromkeys(outcomes)) == ["(3,)", "(200, 100)"], done.stderr
    assert len(outcomes) > 30
    left = temporaries(old)
    assert left
    assert all(found.name.startswith(".minitensor-") and found.suffix == ".tmp" for found in left)
    assert list(old.parent.glob("*.safetensors")) == [old]


LIMIT = "resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"


def test_a_disk_that_is_full(old):
    code = LIMIT + "try:\n    save(NEW, path)\nexcept OSError as error:\n    print(error)"
    done = child(code, old)
    assert done.stdout == f"[Errno 27] File too large; what was there before still is: {str(old)!r}\n", done.stderr
    assert not temporaries(old)
    same(load(old), OLD)


def test_a_kill_in_the_middle_of_the_data(old):
    """By the system itself, at the limit; what is left is no checkpoint."""
    done = child(LIMIT + "signal.signal(signal.SIGXFSZ, signal.SIG_DFL); save(NEW, path)", old)
    assert done.returncode == -signal.SIGXFSZ, done.stderr
    same(load(old), OLD)
    (left,) = temporaries(old)
    assert left.stat().st_size == 100_000
    with pytest.raises(CheckpointError, match="damaged"):
        load(left)


def test_without_the_permission_to_write():
    code = """
    save(NEW, path)  # and everything that is imported late is imported
    for place in sys.argv[1:]:
        save({"x": np.zeros(3)}, place)
    os.chmod(sys.argv[1], 0o444)
    os.chmod(os.path.dirname(sys.argv[2]), 0o555)
    os.chmod(os.path.dirname(path), 0o777)
    if os.getuid() == 0:
        os.setuid(65534)
    for place in sys.argv[1:]:
        try:
            save(NEW, place)
        except PermissionError as error:
            print(error.filename == place, load(place)["x"].shape, os.listdir(os.path.dirname(place)))
    os.getuid() == 65534 or os.chmod(os.path.dirname(sys.argv[2]), 0o755)
    """
    with tempfile.TemporaryDirectory() as protected_file, tempfile.TemporaryDirectory() as protected_folder:
        done = child(code, f"{protected_file}/x.safetensors", f"{protected_folder}/x.safetensors")
        assert done.stdout.splitlines() == ["True (3,) ['x.safetensors']"] * 2, done.stderr


# -- checkpoints of PyTorch -------------------------------------------------------------------------------------------------------


class Net(nn.Module):
    """What checkpoints/make.py builds from torch.nn."""

    def __init__(self):
        super().__init__()
        self.norm = nn.InstanceNorm2d(3, affine=True, track_running_stats=True)
        self.mix = Linear(5, 4)
        self.scale = nn.InstanceNorm2d(3, eps=1e-3, momentum=0.3, affine=True, track_running_stats=True, bias=False)
        self.flat = nn.InstanceNorm1d(3, affine=True, track_running_stats=True)
        self.plain = nn.InstanceNorm1d(3)
        self.head = Linear(72, 2)

    def forward(self, x):
        x = np.tanh(self.norm(x))
        x = np.tanh(self.scale(self.mix(x)))
        x = np.tanh(self.flat(x.reshape(len(x), 3, 24)))
        return self.head(self.plain(x).reshape(len(x), 72))


@pytest.fixture
def trained():
    """Our network with PyTorch's values."""
    net = Net()
    net.load_state_dict(load(CHECKPOINTS / "trained.safetensors"))
    return net


@pytest.fixture
def answers():
    return load(CHECKPOINTS / "answers.safetensors")


MODES = [("eval", False), ("train", True), ("eval after train", False)]


def test_the_network_of_pytorch_answers_the_same_here(trained, answers):
    for name, training in MODES:
        found = trained.train(training)(answers["input"])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found.detach().numpy(), answers[name].numpy(), rtol=1e-6, atol=1e-6)
    assert np.abs(answers["eval after train"].numpy() - answers["eval"].numpy()).max() > 0.01, "the running statistics would not show"


def test_the_file_is_pytorchs_byte_for_byte(trained, path):
    save(dict(trained.state_dict()), path)
    assert path.read_bytes() == (CHECKPOINTS / "trained.safetensors").read_bytes()
    versions = load(path)._metadata
    save(trained, path)
    assert versions == {}
    assert "minitensor.versions" in header_of(path)["__metadata__"]


def test_pytorch_loads_our_file(trained, answers, path):
    torch = pytest.importorskip("torch", reason="PyTorch itself is the judge here; without it, equal bytes are")
    from safetensors.torch import load_file

    for parameter in trained.parameters():
        parameter.data = 1.1 * parameter.data
    expected = {name: trained.train(training)(answers["input"]).detach().numpy() for name, training in MODES}
    trained.load_state_dict(load(CHECKPOINTS / "trained.safetensors"))
    for parameter in trained.parameters():
        parameter.data = 1.1 * parameter.data
    save(trained, path)
    net = runpy.run_path(str(CHECKPOINTS / "make.py"))["Net"]()
    net.load_state_dict(load_file(path))
    for name, training in MODES:
        found = net.train(training)(torch.from_numpy(answers["input"].numpy().copy()))
        np.testing.assert_allclose(found.detach().numpy(), expected[name], rtol=1e-6, atol=1e-6)


def test_versions_that_could_not_be_loaded_are_not_saved(tmp_path):
    class Odd(nn.Module):
        _version = 1.5

    with pytest.raises(TypeError, match="the versions of modules are ints, got"):
        nn.save(Odd(), tmp_path / "odd.safetensors")
    with pytest.raises(CheckpointError, match="use another name"):
        nn.save({"a": mt.ones(1)}, tmp_path / "odd.safetensors", metadata={"minitensor.versions": "mine"})
    state = nn.Linear(1, 1).state_dict()
    state._metadata[""] = {}
    nn.save(state, tmp_path / "plain.safetensors")
    assert set(nn.load(tmp_path / "plain.safetensors")) == {"weight", "bias"}
    assert not (tmp_path / "odd.safetensors").exists()
