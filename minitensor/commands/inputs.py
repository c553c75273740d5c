"""Reading what a user names on the command line: a picture, an array file, or a shape."""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minitensor.errors import MissingPackageError

EXPECTED = "INPUT is a picture, a .npy or .npz file, or a shape such as 2x3x8x9"
LARGEST_PICTURE = 2_000_000  # pixels, above which a picture is shrunk
LARGEST = 20_000_000  # elements, which take about 8 GB: the comparison holds some fifty float64 copies


class BadInput(ValueError):
    """The user's input cannot be used; the message is the one line that is shown."""


@dataclass(frozen=True)
class Input:
    """An array (N, C, S...), or without a batch (C, S...), and how it came about."""

    array: Any
    name: str
    is_picture: bool
    note: str = ""


def read_input(text: str | None, *, dtype: Any = None, scale: str = "255", size: tuple[int, int] | None = None, seed: int = 0) -> Input:
    """The array behind INPUT, in ``dtype`` (default: an array's own, float32 for pictures and shapes).

    None means the photograph that matplotlib carries (public domain), or the shape 2x3x8x9 where matplotlib or Pillow is not installed.
    Raises `BadInput` with one clear line.
    """
    note = ""
    if text is None:
        text, note = _default()
    archive, _, member = text.partition(".npz:")
    path = Path(f"{archive}.npz" if member else text)
    if not path.exists() and re.fullmatch(r"\d+(x\d+)*", text):
        shape = tuple(int(n) for n in text.split("x"))
        _check_size(f"shape {text}", math.prod(shape))
        if len(shape) > 32:
            raise BadInput(f"shape {text} has {len(shape)} axes, more than any layer takes")
        values = np.random.default_rng(seed).standard_normal(shape)
        found = Input(values.astype(dtype or np.float32), f"normal random numbers, shape {text}", False, note)
    elif path.suffix in (".npy", ".npz"):
        values = _read_array(path, member)
        values = values.astype(values.dtype.newbyteorder("="))
        if dtype is None and values.dtype not in (np.float16, np.float32, np.float64):
            raise BadInput(f"{path} holds {values.dtype} numbers: choose one of float16, float32 and float64 with --dtype")
        name = f"{path.name}:{member}" if member else path.name
        found = Input(values if dtype is None else values.astype(dtype), name, False, note)
    else:
        values, shrunk = _read_picture(path, size)
        values = values / 255 if scale == "unit" else values
        found = Input(values.astype(dtype or np.float32), path.name, True, " ".join(filter(None, (note, shrunk))))
    for option, given in (("--size", size is not None), ("--scale", scale == "unit")):
        if given and not found.is_picture:
            raise BadInput(f"{option} is for pictures; {found.name} is an array")
    _check_values(found)
    return found


def _default() -> tuple[str, str]:
    try:
        import PIL  # noqa: F401
        from matplotlib.cbook import get_sample_data
    except ImportError:
        return (
            "2x3x8x9",
            'the photograph needs the extra "report" (pip install -e ".[report]" from the checkout), so random numbers stand in for it',
        )
    photograph = get_sample_data("grace_hopper.jpg", asfileobj=False)
    return str(photograph), "a photograph that matplotlib carries: Grace Hopper, 1952, public domain"


def _read_array(path: Path, member: str) -> Any:
    try:
        with path.open("rb") as file:  # np.load(path) would leave a broken .npz open
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.lib.npyio.NpzFile):
                loaded = loaded[_member(path, loaded.files, member)]
    except (BadInput, MemoryError):
        raise
    except FileNotFoundError as error:
        raise BadInput(f"{path} is not there: {EXPECTED}") from error
    except Exception as error:  # what a broken file raises depends on the byte: ValueError, BadZipFile, zlib.error, TokenError, ...
        if "allow_pickle" in str(error):
            raise BadInput(f"{path} holds no plain numbers; pickled objects, which are programs, are refused: use np.save") from error
        raise BadInput(f"{path} cannot be read as an array: {error}") from error
    if not isinstance(loaded, np.ndarray):
        raise BadInput(f"{path} cannot be read as an array: it holds {type(loaded).__name__}, not numbers")
    if loaded.dtype.kind == "c":
        raise BadInput(f"{path} holds {loaded.dtype} numbers; real ones are needed: save array.real or np.abs(array)")
    if loaded.dtype.kind != "f":
        raise BadInput(f"{path} holds {loaded.dtype} numbers; floating ones are needed: save array.astype(np.float32)")
    return loaded


def _member(path: Path, names: list[str], wanted: str) -> str:
    held = ", ".join(names) or "none"
    if wanted and wanted not in names:
        raise BadInput(f"{path} has no array {wanted!r}; it holds {held}")
    if not wanted and len(names) != 1:
        raise BadInput(f"{path} holds {len(names)} arrays ({held}): name one, as in {path}:{(names or ['NAME'])[0]}")
    return wanted or names[0]


def _read_picture(path: Path, size: tuple[int, int] | None) -> tuple[Any, str]:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise MissingPackageError(
            f'reading the picture {path} needs Pillow: pip install -e ".[report]" from the checkout, or pip install pillow'
        ) from error
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as opened:  # Pillow warns of what it then mends: transparency, EXIF
            picture = ImageOps.exif_transpose(opened)
            transparent = "A" in picture.mode or "transparency" in picture.info
            deep = picture.mode.startswith("I")  # 16 bits; in some versions of Pillow held in 32
            picture = Image.fromarray((np.asarray(picture) / 257).clip(0, 255).astype(np.uint8)) if deep else picture
            picture = picture.convert("L" if picture.mode in ("1", "L", "LA") else "RGB")
    except FileNotFoundError as error:
        raise BadInput(f"{path} is not there: {EXPECTED}") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadInput(f"{path} cannot be read as a picture: {error}") from error
    note = "transparency is left out" if transparent else ""
    height, width = size or (picture.height, picture.width)
    if size is None and height * width > LARGEST_PICTURE:
        shrink = (LARGEST_PICTURE / (height * width)) ** 0.5
        height, width = max(1, int(height * shrink)), max(1, int(width * shrink))
        note += " " * bool(note) + f"shrunk from {picture.height}x{picture.width} to {height}x{width} (--size HxW decides otherwise)"
    _check_size(f"{path} at {height}x{width}", 3 * height * width)
    if (height, width) != (picture.height, picture.width):
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(picture, np.float64)
    pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(pixels[None]), note


def _check_size(name: str, elements: int) -> None:
    if elements > LARGEST:
        raise BadInput(f"{name} is too large: {elements:.1e} elements, and the comparison takes {LARGEST:.0e} at most")


def _check_values(found: Input) -> None:
    values = found.array
    _check_size(found.name, values.size)
    if values.size == 0:
        raise BadInput(f"{found.name} is empty: shape {values.shape}")
    bad = ~np.isfinite(values)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise BadInput(f"{found.name} holds {int(bad.sum())} values that are nan or inf in {values.dtype}, the first at index {where}")
