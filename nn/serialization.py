"""Checkpoints: named arrays in a safetensors file. There is no pickle in it, so no file that is loaded can run code.

8 bytes: n    n bytes of JSON: name -> dtype, shape and place of its values    the values, one after the other; all little-endian
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from minitensor import Tensor, arrays, from_numpy
from minitensor.errors import CheckpointError, DTypeError, MissingPackageError, describe

from .module import Module
from .state import StateDict

_VERSIONS = "minitensor.versions"  # the metadata under which the versions of a state dict's layers travel, as JSON
_WRITTEN = {
    "BOOL": np.dtype("?"),
    **{f"{kind.upper()}{8 * size}": np.dtype(f"<{kind}{size}") for kind in "iu" for size in (1, 2, 4, 8)},
    **{f"F{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
}  # dtypes by the names that the format has for them
_READ = _WRITTEN | {"BF16": np.dtype("<u2")}  # the upper half of a float32

_TORCH = 'in PyTorch, by safetensors.torch.save_file(torch.load(path, weights_only=True), "new.safetensors")'
_FOREIGN = {  # how the files of others begin, and what to do with them
    b"PK\x03\x04": f"a zip archive: a checkpoint of PyTorch (.pt) is converted {_TORCH}, "
    'arrays of NumPy (.npz) are by nn.save(dict(np.load(path)), "new.safetensors")',
    b"\x80": f"a pickle, which could run code: an old checkpoint of PyTorch is converted {_TORCH}",
    b"\x93NUMPY": 'an array of NumPy (.npy), which is converted by nn.save({"name": np.load(path)}, "new.safetensors")',
    b"\x89HDF": 'an HDF5 file: the package h5py reads its arrays, nn.save({"name": array}, "new.safetensors") writes them',
}


def save(state: Module | Mapping[str, Any], path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None) -> None:
    """Write a state to ``path``: a module's `Module.state_dict`, or a mapping of names to Tensors or arrays.

    The values may have any shape and any strides, and one of the dtypes float16, float32, float64, int8 to int64, uint8 to uint64 and
    bool; those on a GPU are fetched. Graphs are not kept, and Tensors that share memory are written once for each name. ``metadata`` are
    strings by name that go into the file's header; so do the versions of a state dict's layers. A plain dict has none, and its file is,
    byte for byte, the one that ``safetensors.torch.save_file`` writes for the same values.

    The file appears whole or not at all: whatever goes wrong, and when the machine stops, what was at ``path`` before is still there.
    A file that is replaced passes its permissions on; of a symbolic link, the target is replaced.

    Raises `TypeError` for names, values or metadata of another type, `DTypeError` for other dtypes, `CheckpointError` for names that the
    format cannot hold and for a ``path`` that is no regular file, `OSError` when the file cannot be written, `MissingPackageError` without
    the package safetensors. Source: the safetensors format; ``torch.save`` is the function's counterpart.

    >>> import tempfile, minitensor as mt
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save({"weight": mt.ones(2), "steps": mt.tensor(7)}, f"{folder}/model.safetensors")
    ...     dict(load(f"{folder}/model.safetensors"))
    {'steps': tensor(7), 'weight': tensor([1., 1.])}
    """
    path, package = os.fsdecode(path), _safetensors()
    values = state.state_dict() if isinstance(state, Module) else state
    if not isinstance(values, Mapping):
        raise TypeError(f"save: a Module or a mapping of names to Tensors is needed, got {type(values).__name__}")
    metadata = {} if metadata is None else metadata
    if not isinstance(metadata, Mapping) or not all(isinstance(text, str) for item in metadata.items() for text in item):
        raise TypeError(f"save: metadata are strings by name, got {metadata!r}; json.dumps makes a string of most values")
    told = {module: of_module.get("version") for module, of_module in getattr(values, "_metadata", {}).items()}
    versions = {module: version for module, version in told.items() if version is not None}
    if not all(type(version) is int for version in versions.values()):
        raise TypeError(f"save: the versions of modules are ints, got {versions}")
    if _VERSIONS in metadata:
        raise CheckpointError(f"save: metadata {_VERSIONS!r} is where the versions of modules are kept; use another name")
    header = {**metadata, _VERSIONS: json.dumps(versions)} if versions else dict(metadata)
    try:
        data = package.numpy.save({name: _little_endian(name, value) for name, value in values.items()}, header or None)
    except UnicodeEncodeError as error:
        raise CheckpointError(f"save: {error.object!r} cannot be written as UTF-8; use another name") from error
    _replace(path, data)


def load(path: str | os.PathLike[str], device: Any = "cpu") -> StateDict:
    """The Tensors of a safetensors file by name, in the file's order, on ``device``: a dict that `Module.load_state_dict` takes.

    Shapes and dtypes are the file's. BF16, which NumPy lacks, is widened to float32, and no value changes by that. The whole file is
    checked before anything is returned.

    Raises `CheckpointError` for a file that is damaged or of another kind, with the way to convert it, and for a dtype that NumPy lacks
    (FP8) or that `save` does not write (complex numbers); `FileNotFoundError` and other kinds of `OSError`; `DeviceError`;
    `MissingPackageError` without the package safetensors. The counterpart of ``safetensors.torch.load_file``. For an example see `save`.
    """
    path, package, device = os.fsdecode(path), _safetensors(), arrays.parse_device(device)
    data = _read(path)
    try:
        entries = dict(package.deserialize(data))
        # deserialize keeps neither the order nor the metadata, and of two tensors of one name the last
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")], object_pairs_hook=_unique)
        metadata = header.pop("__metadata__", None) or {}
        versions = json.loads(metadata.get(_VERSIONS, "{}"), object_pairs_hook=_unique)
        if not isinstance(versions, dict) or not all(type(version) is int for version in versions.values()):
            raise ValueError(f"{_VERSIONS} must be integers by name, got {versions}")
    except (package.SafetensorError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: {len(data)} bytes that are no safetensors file, or a damaged one: {error}") from error
    state = StateDict((name, from_numpy(_decoded(f"{path}: {name!r}", **entries[name])).to(device)) for name in header)
    state._metadata = {module: {"version": version} for module, version in versions.items()}
    return state


def _safetensors() -> ModuleType:
    try:
        import_module("safetensors.numpy")
        return import_module("safetensors")
    except ImportError as error:
        raise MissingPackageError(
            'checkpoints need the package safetensors: pip install -e ".[weights]" from the checkout (or pip install safetensors)'
        ) from error


def _unique(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """What JSON leaves open: a name that occurs twice is refused."""
    unique = dict(items)
    if len(unique) != len(items):
        raise ValueError(f"a name occurs twice among {[name for name, _ in items]}")
    return unique


def _little_endian(name: Any, value: Any) -> np.ndarray[Any, Any]:
    """The value in the order of bytes and of elements that the format has."""
    if not isinstance(name, str):
        raise TypeError(f"save: names are strings, got {name!r}")
    if name == "__metadata__":
        raise CheckpointError("save: the format keeps the name '__metadata__' for itself; use another name")
    array = value.detach().cpu().numpy() if isinstance(value, Tensor) else arrays.to_device(value, "cpu")
    arrays.refuse_masked(array)
    if not isinstance(array, np.ndarray | np.generic):
        raise TypeError(f"save: {name!r} must be a Tensor or an array, got {describe(value)}; np.asarray makes an array of most things")
    dtype = array.dtype.newbyteorder("<")
    if dtype not in _WRITTEN.values():
        raise DTypeError(f"save: {name!r} is {describe(value)}; {', '.join(map(str, _WRITTEN.values()))} can be written")
    return np.asarray(array, dtype, order="C")


def _decoded(place: str, dtype: str, shape: list[int], data: bytearray) -> np.ndarray[Any, Any]:
    """The array of one entry of the file."""
    if dtype not in _READ:
        raise CheckpointError(f"{place} is {dtype}: convert it where it came from, to one of {', '.join(_READ)}")
    array: np.ndarray[Any, Any] = np.frombuffer(data, _READ[dtype])
    if dtype == "BF16":
        array = (array.astype("<u4") << 16).view("<f4")
    if dtype == "BOOL" and array.view(np.uint8).max(initial=0) > 1:
        raise CheckpointError(f"{place} is BOOL and has bytes other than 0 and 1")
    try:
        return array.reshape(shape)
    except ValueError as error:  # more axes, or longer empty ones, than NumPy can count
        raise CheckpointError(f"{place} has a shape that NumPy has not: {error}") from error


def _permissions(path: str) -> int:
    """The mode bits of a regular file; anything else is refused before an attempt to open it could hang."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        raise CheckpointError(f"{path} is a directory, a pipe or a device; a checkpoint is a regular file")
    return stat.S_IMODE(mode)


def _read(path: str) -> bytes:
    _permissions(path)
    with open(path, "rb") as file:
        start = file.read(9)
        if start[8:] != b"{":  # where the JSON begins
            kinds = (kind for magic, kind in _FOREIGN.items() if start.startswith(magic))
            raise CheckpointError(f"{path} is {next(kinds, 'no safetensors file, or a damaged one')}")
        file.seek(0)
        return file.read()


def _replace(path: str, data: bytes) -> None:
    """Put a file at ``path`` in one step: at every moment there is the old one or the new one, whole."""
    target = os.path.realpath(path)
    try:
        permissions = _permissions(target)
        if not os.access(target, os.W_OK):  # renaming would not ask
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    except FileNotFoundError:
        permissions = None
    temporary = os.path.join(os.path.dirname(target), f".minitensor-{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            if permissions is not None:
                os.chmod(temporary, permissions)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        kept = "; what was there before still is" if os.path.lexists(target) else ""
        raise OSError(error.errno, f"{error.strerror}{kept}", path) from error
    finally:
        with suppress(OSError):  # gone already, unless something went wrong
            os.unlink(temporary)
    with suppress(OSError):  # not every system can; the name may then get lost when the machine stops, the file stays whole
        folder = os.open(os.path.dirname(target), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
