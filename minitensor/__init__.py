"""minitensor: plain NumPy, differentiated; and derivations that are checked step by step."""

from importlib import import_module as _import_module
from pathlib import Path as _Path
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from numpy import bool_, float16, float32, float64, int8, int16, int32, int64, uint8

from minitensor import autograd, errors, ops
from minitensor.arrays import get_default_device, get_default_dtype, set_default_device, set_default_dtype
from minitensor.autograd import (
    detect_anomaly,
    enable_grad,
    grad,
    hessian,
    hvp,
    is_grad_enabled,
    jacobian,
    jvp,
    no_grad,
    set_grad_enabled,
    vhp,
    vjp,
)
from minitensor.creation import (
    arange,
    eye,
    from_dlpack,
    from_numpy,
    full,
    full_like,
    linspace,
    manual_seed,
    ones,
    ones_like,
    rand,
    randint,
    randn,
    tensor,
    zeros,
    zeros_like,
)
from minitensor.ops import *
from minitensor.primitive import primitive
from minitensor.tensor import Tensor
from minitensor.version import __version__

if _TYPE_CHECKING:
    from minitensor.drawing import draw

# In a checkout nn/ stands beside minitensor/, not inside it: these two lines let minitensor.nn be found there too.
if not (_Path(__file__).parent / "nn").is_dir():
    __path__.append(str(_Path(__file__).parent.parent))

__all__ = [
    "Tensor", "__version__", "arange", "autograd", "bool_", "detect_anomaly", "draw", "enable_grad", "errors", "eye", "float16",
    "float32", "float64", "from_dlpack", "from_numpy", "full", "full_like", "get_default_device", "get_default_dtype", "grad", "hessian",
    "hvp", "int16", "int32", "int64", "int8", "is_grad_enabled", "jacobian", "jvp", "linspace", "manual_seed", "nn", "no_grad", "ones",
    "ones_like", "ops", "primitive", "rand", "randint", "randn", "set_default_device", "set_default_dtype", "set_grad_enabled", "tensor",
    "uint8", "vhp", "vjp", "zeros", "zeros_like", *ops.__all__,
]  # fmt: skip


def __getattr__(name: str) -> _Any:
    if name == "nn":  # the one exception to the direction of imports: mt.nn works after `import minitensor`
        return _import_module("minitensor.nn")
    if name == "draw":  # loaded when it is asked for, so that `import minitensor` costs little more than NumPy
        return _import_module("minitensor.drawing").draw
    raise AttributeError(f"module 'minitensor' has no attribute {name!r}")
