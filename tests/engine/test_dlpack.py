"""Memory shared with other libraries: DLPack both ways, from_numpy; nothing is copied, nothing loses a gradient in silence."""

import re
import sys
import warnings

import numpy as np
import pytest

import minitensor as mt
from minitensor.errors import DeviceError, DTypeError, UnsupportedError

DTYPES = ["bool", "int8", "int16", "int32", "int64", "uint8", "float16", "float32", "float64", "complex64"]
READERS = {"from_numpy": mt.from_numpy, "from_dlpack": mt.from_dlpack}
readers = pytest.mark.parametrize("read", READERS.values(), ids=READERS)


@readers
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,), (2, 0, 3)])
def test_an_array_comes_in_as_it_is(read, dtype: str, shape: tuple) -> None:
    array = np.ones(shape, dtype)
    t = read(array)
    assert (t.shape, t.dtype, t.device, t.requires_grad, t.is_leaf) == (shape, array.dtype, "cpu", False, True)
    assert t.tolist() == array.tolist()


@readers
@pytest.mark.parametrize("view", [lambda a: a.T, lambda a: a[::-1, ::2], lambda a: a[1:], np.asfortranarray])
def test_strides_come_in_too(read, view) -> None:
    array = view(np.arange(12.0).reshape(3, 4))
    t = read(array)
    assert t.tolist() == array.tolist()
    assert np.shares_memory(t._array, array)


@readers
def test_the_memory_is_shared(read) -> None:
    array = np.zeros(3)
    t, copied = read(array), mt.tensor(array)
    array[1] = 7.0
    assert (t.tolist(), copied.tolist()) == ([0.0, 7.0, 0.0], [0.0, 0.0, 0.0])


@readers
def test_what_writing_does_to_a_graph(read) -> None:
    """As documented: a later backward pass sees it. A Tensor with memory of its own, made by tensor(), does not."""
    for make, expected in ((read, 20.0), (mt.tensor, 6.0)):
        array = np.array([3.0])
        x = make(array)
        x.requires_grad = True
        y = x * x
        array[0] = 10.0
        y.backward()
        assert x.grad.item() == expected


@readers
def test_writing_to_the_tensor_gives_it_memory_of_its_own(read) -> None:
    for write in (lambda t: t.__setitem__(0, 5.0), lambda t: setattr(t, "data", [5.0, 0.0])):
        array = np.zeros(2)
        t = read(array)
        write(t)
        array[1] = 7.0
        assert (t.tolist(), array.tolist()) == ([5.0, 0.0], [0.0, 7.0])


@readers
def test_read_only_arrays_may_come_in(read) -> None:
    array = np.arange(3.0)
    array.flags.writeable = False
    t = read(array)
    assert np.shares_memory(t._array, array)
    assert (t * 2).tolist() == [0.0, 2.0, 4.0]


def test_from_numpy_keeps_its_shape_when_the_array_loses_it() -> None:
    array = np.arange(6.0)
    t = mt.from_numpy(array)
    with warnings.catch_warnings(action="ignore"):  # deprecated, and still possible
        array.shape = (2, 3)
    assert t.shape == (6,)


def test_a_file_in_memory_is_shared(tmp_path) -> None:
    mapped = np.memmap(tmp_path / "numbers", np.float64, "w+", shape=(3,))
    t = mt.from_numpy(mapped)
    mapped[2] = 1.5
    assert type(t._array) is np.ndarray
    assert t.tolist() == [0.0, 0.0, 1.5]


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ([1.0, 2.0], UnsupportedError, r"a numpy\.ndarray is needed, got list"),
        (np.float64(1.0), UnsupportedError, "got float64"),
        (mt.ones(2), UnsupportedError, "got Tensor"),
        (np.ma.masked_array([1.0], [True]), DTypeError, "MaskedArray"),
        (np.ones((1, 1)).view(np.matrix), DTypeError, "matrix"),
        (np.array([None]), DTypeError, "from_numpy: numbers are needed, got dtype object"),
        (np.array(["a"]), DTypeError, "got dtype <U1"),
        (np.zeros(1, [("a", "f4")]), DTypeError, "numbers are needed"),
    ],
)
def test_what_from_numpy_refuses(given, error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        mt.from_numpy(given)


class Exporter:
    """Somebody's array in memory of this kind."""

    shape = (2,)

    def __init__(self, kind: int, dtype: object = np.dtype(np.float32)) -> None:
        self.kind, self.dtype = kind, dtype

    def __dlpack__(self, **asked: object) -> object:
        raise BufferError("not this time")

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.kind, 0


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ([1.0, 2.0], UnsupportedError, r"an object with __dlpack__ is needed, got list; tensor\(\.\.\.\) copies"),
        (np.array(["a"]), UnsupportedError, r"numpy cannot share <U1 \(1,\)"),
        (np.arange(3, dtype=">f4"), UnsupportedError, "native byte order"),
        (Exporter(1), UnsupportedError, r"numpy cannot share float32 \(2,\): not this time$"),
        (Exporter(1, "torch.bfloat16"), UnsupportedError, r"torch\.bfloat16 \(2,\): .*convert first \(\.float\(\)"),
        (Exporter(8), DeviceError, r"float32 \(2,\) lives on device type 8"),
    ],
)
def test_what_from_dlpack_refuses(given, error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        mt.from_dlpack(given)


def test_an_array_on_a_gpu_needs_cupy(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(DeviceError, match="cupy-cuda12x"):
        mt.from_dlpack(Exporter(2))


# -- the way out ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_reads_the_memory_of_a_tensor(dtype: str) -> None:
    t = mt.ones(2, 3, dtype=dtype)
    array = np.from_dlpack(t)
    assert (array.dtype, array.tolist()) == (t.dtype, t.tolist())
    assert np.shares_memory(array, t._array)
    assert t.__dlpack_device__() == (1, 0)


def test_a_tensor_reads_the_memory_of_a_tensor() -> None:
    t = mt.ones(3, requires_grad=True)
    again = mt.from_dlpack(t.detach())
    assert np.shares_memory(again._array, t._array)
    assert not again.requires_grad


@pytest.mark.parametrize("read", [np.from_dlpack, mt.from_dlpack, lambda t: t.__dlpack__()])
@pytest.mark.parametrize("make", [lambda x: x, lambda x: x * 2])
def test_a_gradient_is_not_forgotten(read, make) -> None:
    t = make(mt.ones(3, requires_grad=True))
    with pytest.raises(UnsupportedError, match=r"requires grad, and DLPack would forget its graph: use t\.detach\(\)"):
        read(t)
    assert read(t.detach()) is not None


def test_the_gradient_of_a_sum_is_read_only_for_the_reader_too() -> None:
    """It is one number shown many times; NumPy 2.1 learned to say so."""
    x = mt.ones(3, requires_grad=True)
    x.sum().backward()
    if np.lib.NumpyVersion(np.__version__) < "2.1.0":
        pytest.skip("NumPy older than 2.1 cannot export read-only arrays")
    assert not np.from_dlpack(x.grad).flags.writeable


def test_only_what_the_reader_asks_for_reaches_the_array() -> None:
    """Older arrays know none of the newer keywords."""
    seen = []

    class Old(np.ndarray):
        def __dlpack__(self, **asked: object) -> str:
            seen.append(asked)
            return "capsule"

    t = mt.ones(2)
    t._array = t._array.view(Old)
    assert t.__dlpack__() == t.__dlpack__(stream=-1, copy=False) == t.__dlpack__(max_version=(1, 0), dl_device=(1, 0)) == "capsule"
    assert seen == [{}, {"stream": -1, "copy": False}, {"max_version": (1, 0), "dl_device": (1, 0)}]


def test_a_copy_when_the_reader_asks_for_one() -> None:
    if np.lib.NumpyVersion(np.__version__) < "2.1.0":
        pytest.skip("NumPy older than 2.1 knows no copy=")
    t = mt.ones(2)
    assert not np.shares_memory(np.from_dlpack(t, copy=True), t._array)


# -- other libraries ------------------------------------------------------------------------------------------------------------------


def test_both_ways_on_the_other_device(cupy) -> None:
    array = cupy.asarray([1.0, 2.0])
    t = mt.from_dlpack(array)
    assert (t.device, t.dtype, t.__dlpack_device__()) == ("cuda:0", np.float64, (2, 0))
    assert isinstance(t._array, cupy.ndarray)
    array[0] = 5.0
    assert t.tolist() == [5.0, 2.0]
    back = cupy.from_dlpack(t)
    array[1] = 6.0
    assert back.tolist() == [5.0, 6.0]
    assert mt.from_dlpack(t).tolist() == [5.0, 6.0]


def test_nothing_moves_between_devices_unasked(cupy) -> None:
    there, here = mt.ones(2, device="cuda"), mt.ones(2)
    with pytest.raises(TypeError, match="CPU arrays cannot be directly imported"):
        cupy.from_dlpack(here)
    with pytest.raises(UnsupportedError, match="got ndarray"):
        mt.from_numpy(there._array)
    there.requires_grad = True
    with pytest.raises(UnsupportedError, match=re.escape("t.detach()")):
        cupy.from_dlpack(there)


def test_pytorch_both_ways() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    theirs = torch.arange(6.0).reshape(2, 3)
    t = mt.from_dlpack(theirs)
    theirs[0, 0] = 7.0
    assert (t.dtype, t.tolist()) == (np.float32, theirs.tolist())
    back = torch.from_dlpack(t)
    assert back.data_ptr() == theirs.data_ptr()
    assert mt.from_dlpack(theirs.T).tolist() == theirs.T.tolist()
    with pytest.raises(UnsupportedError, match=r"torch\.float32 \(2, 3\).*detach"):
        mt.from_dlpack(theirs.requires_grad_())
    with pytest.raises(UnsupportedError, match=r"convert first \(\.float\(\)"):
        mt.from_dlpack(torch.ones(2, dtype=torch.bfloat16))
    with pytest.raises(UnsupportedError, match="forget its graph"):
        torch.from_dlpack(mt.ones(2, requires_grad=True))


def test_jax_both_ways() -> None:
    jnp = pytest.importorskip("jax.numpy", reason="JAX is not installed")
    theirs = jnp.arange(3.0)
    t = mt.from_dlpack(theirs)
    assert t._array.ctypes.data == theirs.unsafe_buffer_pointer()
    t.requires_grad = True
    (t * t).sum().backward()
    assert t.grad.tolist() == [0.0, 2.0, 4.0]
    assert jnp.from_dlpack(t.grad).tolist() == [0.0, 2.0, 4.0]
