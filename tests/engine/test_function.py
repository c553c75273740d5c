"""Function: forward and backward by hand, at any order, with several outputs, and with named mistakes."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from cases import spread
from checks import check_first, check_second

import minitensor as mt
from minitensor.autograd import Function
from minitensor.errors import GraphError, ShapeError


class Exp(Function):
    """Saves its output."""

    @staticmethod
    def forward(ctx: Any, x: mt.Tensor) -> mt.Tensor:
        y = np.exp(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, g: mt.Tensor) -> mt.Tensor:
        (y,) = ctx.saved_tensors
        return g * y


class ScaledProduct(Function):
    """Saves its inputs, and a number as an attribute."""

    @staticmethod
    def forward(ctx: Any, a: mt.Tensor, b: mt.Tensor, scale: float) -> mt.Tensor:
        ctx.save_for_backward(a, None, b)
        ctx.scale = scale
        return a * b * scale

    @staticmethod
    def backward(ctx: Any, g: mt.Tensor) -> tuple[Any, ...]:
        a, nothing, b = ctx.saved_tensors
        assert nothing is None
        left, right, other = ctx.needs_input_grad
        assert not other
        return g * b * ctx.scale if left else None, g * a * ctx.scale if right else None, None


class ProductAndRatio(Function):
    """Two outputs, one of them saved; a third that carries no gradient."""

    @staticmethod
    def forward(ctx: Any, a: mt.Tensor, b: mt.Tensor) -> tuple[Any, ...]:
        product, ratio, sign = a * b, a / b, np.sign(a)
        ctx.save_for_backward(a, b, ratio)
        ctx.mark_non_differentiable(sign)
        return product, ratio, sign

    @staticmethod
    def backward(ctx: Any, g_product: mt.Tensor, g_ratio: mt.Tensor, _g_sign: mt.Tensor) -> tuple[Any, ...]:
        a, b, ratio = ctx.saved_tensors
        return g_product * b + g_ratio / b, g_product * a - g_ratio * ratio / b


class Frozen(Exp):
    """Saves an array behind the graph's back: right once, constant ever after."""

    @staticmethod
    def forward(ctx: Any, x: mt.Tensor) -> mt.Tensor:
        ctx.y = np.exp(x)
        return ctx.y * 1

    @staticmethod
    def backward(ctx: Any, g: mt.Tensor) -> mt.Tensor:
        return g * ctx.y


CALLS = {
    "saved output": (Exp.apply, ((3, 4),)),
    "saved inputs": (lambda a, b: ScaledProduct.apply(a, b, 0.7), ((2, 3), (2, 3))),
    "the same input twice": (lambda a: ScaledProduct.apply(a, a, 0.7), ((2, 3),)),
    "both outputs": (lambda a, b: np.multiply(*ProductAndRatio.apply(a, b)[:2]), ((3,), (3,))),
    "the first output": (lambda a, b: np.sin(ProductAndRatio.apply(a, b)[0]), ((3,), (3,))),
    "the second output": (lambda a, b: np.sin(ProductAndRatio.apply(a, b)[1]), ((3,), (3,))),
    "an output used twice": (lambda a, b: (lambda p, r, s: p * r * p + r)(*ProductAndRatio.apply(a, b)), ((3,), (3,))),
    "one after the other": (lambda a, b: Exp.apply(ProductAndRatio.apply(Exp.apply(a), b)[1]), ((3,), (3,))),
    "0-d": (Exp.apply, ((),)),
    "no elements": (Exp.apply, ((0, 2),)),
}


@pytest.mark.parametrize("name", CALLS)
def test_both_walks_and_second_order(name: str) -> None:
    call, shapes = CALLS[name]
    inputs = spread(shapes, 0.5, 1.5)
    check_first(call, inputs)
    check_second(call, inputs)


def test_a_backward_that_hides_an_array_is_found_at_second_order() -> None:
    inputs = spread(((3,),))
    check_first(Frozen.apply, inputs)
    with pytest.raises(AssertionError, match="against"):
        check_second(Frozen.apply, inputs)


def test_third_order() -> None:
    x = mt.tensor(0.3, np.float64, requires_grad=True)
    y = Exp.apply(2 * x)
    for _ in range(3):
        (y,) = mt.grad(y, x, create_graph=True)
    assert y.item() == pytest.approx(8 * np.exp(0.6), rel=1e-14)


def test_outputs_without_gradient() -> None:
    a, b = (mt.tensor([1.0, -2.0], requires_grad=True) for _ in range(2))
    product, ratio, sign = ProductAndRatio.apply(a, b)
    assert (product.requires_grad, ratio.requires_grad, sign.requires_grad) == (True, True, False)
    with mt.no_grad():
        assert not Exp.apply(a).requires_grad
    assert not Exp.apply(mt.ones(2)).requires_grad


def test_needs_input_grad() -> None:
    seen = []

    class Watch(Function):
        @staticmethod
        def forward(ctx: Any, *args: Any) -> mt.Tensor:
            seen.append(ctx.needs_input_grad)
            return args[0] + args[1]

        @staticmethod
        def backward(ctx: Any, g: mt.Tensor) -> tuple[Any, ...]:
            seen.append(ctx.needs_input_grad)
            return g, g, None, None

    Watch.apply(mt.ones(2), mt.ones(2, requires_grad=True), 3, None).sum().backward()
    assert seen == [(False, True, False, False)] * 2


def returning(value: Any) -> type[Function]:
    """A Function of two inputs whose backward returns ``value``."""

    class Bad(Function):
        @staticmethod
        def forward(ctx: Any, a: mt.Tensor, b: mt.Tensor) -> mt.Tensor:
            return a + b

        @staticmethod
        def backward(ctx: Any, g: mt.Tensor) -> Any:
            return value

    return Bad


BAD = {
    "too few": (mt.ones(2), GraphError, r"Bad.backward must return 2 gradient\(s\).*got 1"),
    "too many": ((None, None, None), GraphError, "got 3"),
    "wrong shape": ((mt.ones(2), mt.ones(1, 2)), ShapeError, r"gradient 1 must have the shape \(2,\) of its input, got \(1, 2\)"),
    "an array": ((np.ones(2), None), TypeError, r"gradient 0 must be a Tensor or None, got float64 \(2,\)"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("create_graph", [False, True])
def test_wrong_gradients_are_named(name: str, create_graph: bool) -> None:
    value, error, text = BAD[name]
    x = mt.ones(2, requires_grad=True)
    y = returning(value).apply(x, x)
    with pytest.raises(error, match=text):
        mt.grad(y.sum(), x, create_graph=create_graph)


def test_misuse_is_named() -> None:
    with pytest.raises(TypeError, match=r"Exp.apply"):
        Exp()
    with pytest.raises(NotImplementedError, match=r"forward\(ctx"):
        Function.apply(mt.ones(2))

    class NoTensor(Exp):
        @staticmethod
        def forward(ctx: Any, x: mt.Tensor) -> Any:
            return np.ones(2)

    with pytest.raises(TypeError, match=r"NoTensor.forward must return a Tensor.*float64 \(2,\)"):
        NoTensor.apply(mt.ones(2, requires_grad=True))

    class SavesNumber(Exp):
        @staticmethod
        def forward(ctx: Any, x: mt.Tensor) -> Any:
            ctx.save_for_backward(3)

    with pytest.raises(TypeError, match="save_for_backward takes Tensors, got int"):
        SavesNumber.apply(mt.ones(2, requires_grad=True))

    class OnlyForward(Function):
        @staticmethod
        def forward(ctx: Any, x: mt.Tensor) -> mt.Tensor:
            return x * 2

    with pytest.raises(NotImplementedError, match=r"backward\(ctx"):
        OnlyForward.apply(mt.ones(2, requires_grad=True)).sum().backward()


def test_the_graph_is_released_and_freed_without_the_collector() -> None:
    gc.disable()
    try:
        a, b = (mt.ones(3, requires_grad=True) for _ in range(2))
        product, ratio, sign = ProductAndRatio.apply(a, b)
        nodes = [weakref.ref(t) for t in (product, ratio, sign)]
        y = Exp.apply(product * ratio)
        y.sum().backward(retain_graph=True)
        y.sum().backward()
        with pytest.raises(GraphError, match="retain_graph"):
            y.sum().backward()
        del product, ratio, sign, y
        assert [ref() for ref in nodes] == [None] * 3
    finally:
        gc.enable()


def test_what_is_saved_dies_with_the_walk() -> None:
    x = mt.ones(3, requires_grad=True)
    inner = x * 2
    alive = weakref.ref(inner._array)
    y = ScaledProduct.apply(inner, inner, 2.0).sum()
    del inner
    assert alive() is not None
    y.backward()
    assert alive() is None


def test_new_values_for_an_input_do_not_reach_the_graph() -> None:
    a, b = (mt.tensor([2.0, 3.0], requires_grad=True) for _ in range(2))
    y = ScaledProduct.apply(a, b, 1.0).sum()
    with mt.no_grad():
        b -= 1
        a.data = [0.0, 0.0]
    y.backward()
    assert a.grad.tolist() == [2.0, 3.0]


def test_on_the_stand_in_for_a_gpu(cupy: Any) -> None:
    a, b = (mt.tensor([0.5, 2.0], np.float64, device="cuda", requires_grad=True) for _ in range(2))
    product, _, _ = ProductAndRatio.apply(a, b)
    (g,) = mt.grad(np.sum(product * product), a, create_graph=True)
    (h,) = mt.grad(g.sum(), b)
    assert isinstance(h._array, cupy.ndarray)
    np.testing.assert_allclose(h.cpu().numpy(), 4 * np.array([0.5, 2.0]) ** 2)


def test_it_can_be_drawn() -> None:
    a = mt.tensor([1.0, 2.0], requires_grad=True)
    text = mt.draw(sum(ProductAndRatio.apply(a, a)[:2]).sum()).text()
    assert "ProductAndRatio" in text
    assert "number=1" in text
