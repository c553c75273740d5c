"""Which elements are normalised together: all that sets the layers of the family apart."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

Shape = tuple[int, ...]


class Layout(NamedTuple):
    """Where the slices of an input lie: ``view`` is the shape to look at it in, ``axes`` those along which a slice extends there,
    ``parameter`` the shape in which weight and bias broadcast against the view.

    ========  ====================  =========  ==================
    layer     view of (N, C, S...)  axes       parameter
    ========  ====================  =========  ==================
    instance  (N, C, S...)          S...       (1, C, 1...)
    batch     (N, C, S...)          N, S...    (1, C, 1...)
    group     (N, G, C/G, S...)     C/G, S...  (1, G, C/G, 1...)
    layer     (..., D...)           D...       (D...)
    ========  ====================  =========  ==================
    """

    view: Shape
    axes: Shape
    parameter: Shape

    @property
    def m(self) -> int:
        """The number of elements of a slice."""
        return math.prod(self.view[axis] for axis in self.axes)

    def look(self, x: Any) -> Any:
        """x in the view's shape."""
        return _shaped(x, self.view)

    def spread(self, parameter: Any) -> Any:
        """A weight or a bias as it broadcasts against the view; what is spread already stays."""
        return None if parameter is None else parameter if parameter.ndim == len(self.view) else _shaped(parameter, self.parameter)


def per_instance(shape: Shape) -> Layout:
    """(N, C, S...): each instance and channel by itself."""
    return Layout(shape, tuple(range(2, len(shape))), _of_channels(shape))


def per_channel(shape: Shape) -> Layout:
    """(N, C, S...): each channel over the whole batch."""
    return Layout(shape, (0, *range(2, len(shape))), _of_channels(shape))


def per_group(shape: Shape, groups: int) -> Layout:
    """(N, C, S...): each instance and group of neighbouring channels."""
    n, c, *space = shape
    view = (n, groups, c // groups, *space)
    return Layout(view, tuple(range(2, len(view))), (1, *view[1:3], *(1,) * len(space)))


def per_position(shape: Shape, normalized_shape: Shape) -> Layout:
    """(..., D...): each position of the leading axes, over all of the trailing ones."""
    return Layout(shape, tuple(range(len(shape) - len(normalized_shape), len(shape))), normalized_shape)


def channels_last(shape: Shape) -> Layout:
    """(N, S..., C): each instance and channel by itself."""
    return Layout(shape, tuple(range(1, len(shape) - 1)), shape[-1:])


def _of_channels(shape: Shape) -> Shape:
    return (1, shape[1], *(1,) * (len(shape) - 2))


def _shaped(x: Any, shape: Shape) -> Any:
    return x if x.shape == shape else x.reshape(shape)
