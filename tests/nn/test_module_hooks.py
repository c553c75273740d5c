"""The hooks of a Module: when they are called, with what, and what becomes of what they return."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from modules import Affine, both

import minitensor as mt
from minitensor import nn
from minitensor.errors import GraphError, ShapeError
from minitensor.nn import hooks


def shown(value):
    """Numbers in nested tuples, as both libraries tell them."""
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(shown, value))})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {shown(each)}' for key, each in value.items())}}}"
    return str(value.tolist()) if hasattr(value, "tolist") else str(value)


def two_outputs(lib):
    class Two(lib.nn.Module):
        def forward(self, a, b, scale=1.0):
            return a * b * scale, a + b

    return Two()


def test_forward_hooks_are_called_as_pytorch_calls_them(torch_says):
    """Order, arguments, what a returned value replaces, and what removing does."""

    def program(lib):
        log = []
        two = two_outputs(lib)

        def noted(name, answer=None):
            def hook(module, *told):
                assert module is two
                log.append(f"{name} {shown(told)}")
                return answer(*told) if answer else None

            return hook

        one, other = lib.tensor([1.0, 2.0]), lib.tensor([3.0, 5.0])
        handles = [
            two.register_forward_pre_hook(noted("pre")),
            two.register_forward_pre_hook(noted("pre with kwargs", lambda args, kwargs: (args, kwargs | {"scale": 2.0})), with_kwargs=True),
            two.register_forward_pre_hook(noted("pre replacing", lambda args: (args[0] + 1, args[1]))),
            two.register_forward_pre_hook(noted("pre first"), prepend=True),
            two.register_forward_hook(noted("after")),
            two.register_forward_hook(noted("after replacing", lambda args, output: output[0])),
            two.register_forward_hook(noted("after with kwargs", lambda args, kwargs, output: (output, kwargs)), with_kwargs=True),
            two.register_forward_hook(noted("after first", lambda args, output: output[::-1]), prepend=True),
        ]
        log.append(shown(two(one, other, scale=4.0)))
        for handle in handles[1::2]:
            handle.remove()
            handle.remove()
        log.append(shown(two(one, other)))
        for handle in handles:
            handle.remove()
        log.append(shown(two(one, other)))
        two.register_forward_pre_hook(lambda module, args: args[0])  # one value for a tuple of one
        log.append(shown(two(one, b=other)))
        return log

    theirs, ours = both(torch_says, program)
    assert ours == theirs


def backward_log(lib, needs, replacing=False, create_graph=False):
    """What backward hooks on a module of two inputs and two outputs are told, and the gradients that come out."""
    log = []
    two = two_outputs(lib)
    pairs = zip(([1.0, 2.0], [3.0, 5.0]), needs, strict=True)
    a, b = (lib.tensor(values, dtype=lib.float64, requires_grad=need) for values, need in pairs)
    weight = lib.nn.Parameter(lib.tensor([1.0, -1.0], dtype=lib.float64))
    two.forward = lambda a, b: (a * b * weight, a + weight)

    def before(name, answer=None):
        def hook(module, grad_output):
            assert module is two
            log.append(f"{name} {shown(grad_output)}")
            return answer(grad_output) if answer else None

        return hook

    def after(name, answer=None):
        def hook(module, grad_input, grad_output):
            assert module is two
            # PyTorch gives zeros, not None, for an input that requires no grad beside one that does
            grad_input = tuple(g if need else None for g, need in zip(grad_input, needs, strict=True))
            log.append(f"{name} {shown(grad_input)} {shown(grad_output)}")
            return answer(grad_input, grad_output) if answer else None

        return hook

    two.register_full_backward_hook(after("after"))
    two.register_full_backward_pre_hook(before("before"))
    if replacing:
        two.register_full_backward_hook(after("after, replacing", lambda gi, go: tuple(g if g is None else 3 * g + go[0] for g in gi)))
        two.register_full_backward_pre_hook(before("before, replacing", lambda go: (2 * go[0], go[1] + 1)))
        two.register_full_backward_hook(after("after, first"), prepend=True)
        two.register_full_backward_pre_hook(before("before, first"), prepend=True)
    y, z = two(a, b)
    loss = (y * y * lib.tensor([1.0, 10.0])).sum() + (2 * z * z).sum()
    asked = {name: leaf for name, leaf in (("a", a), ("b", b), ("weight", weight)) if leaf.requires_grad}
    if create_graph:
        first = lib.grad(loss, list(asked.values()), create_graph=True)
        second = lib.grad(sum((g * g).sum() for g in first), list(asked.values()))
        log += [f"second {name} {shown(g)}" for name, g in zip(asked, second, strict=True)]
    else:
        loss.backward()
        first = [leaf.grad for leaf in asked.values()]
    return [*log, *(f"{name} {shown(g.detach())}" for name, g in zip(asked, first, strict=True))]


@pytest.mark.parametrize("create_graph", [False, True], ids=["raw", "traced"])
@pytest.mark.parametrize("replacing", [False, True], ids=["looking", "replacing"])
@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)], ids=["both", "first", "second"])
def test_backward_hooks_are_called_as_pytorch_calls_them(needs, replacing, create_graph, torch_says):
    """Order, arguments, None where no gradient is asked for, replaced values, in both walks and in the derivative of the derivative."""
    theirs, ours = both(torch_says, lambda lib: backward_log(lib, needs, replacing, create_graph))
    assert ours == theirs


def test_a_walk_that_does_not_come_by_the_outputs_calls_no_hook(torch_says):
    """The first derivative of x**2 is 2 x: its own derivative meets the input and not the output."""

    def program(lib):
        class Square(lib.nn.Module):
            def forward(self, x):
                return x * x

        square, log = Square(), []
        square.register_full_backward_pre_hook(lambda module, grad_output: log.append(f"before {shown(grad_output)}"))
        square.register_full_backward_hook(lambda module, *told: log.append(f"after {shown(told)}"))
        x = lib.tensor([3.0, 5.0], requires_grad=True)
        (first,) = lib.grad(square(x).sum(), x, create_graph=True)
        (second,) = lib.grad(first.sum(), x)
        return [*log, shown(second)]

    theirs, ours = both(torch_says, program)
    assert ours == theirs == ["before ([1.0, 1.0])", "after (([6.0, 10.0]), ([1.0, 1.0]))", "[2.0, 2.0]"]


def test_without_an_input_that_requires_grad_hooks_are_called_at_the_outputs():
    """PyTorch does the same, and warns."""
    log = backward_log(mt, (False, False))
    assert log == [
        "before ([6.0, -200.0], [8.0, 4.0])",
        "after (None, None) ([6.0, -200.0], [8.0, 4.0])",
        "weight [26.0, -1996.0]",
    ]


def test_an_output_that_nobody_used_has_a_cotangent_of_zeros():
    two = two_outputs(mt)
    seen = []
    two.register_full_backward_hook(lambda module, grad_input, grad_output: seen.append(shown(grad_output)))
    a = mt.tensor([1.0, 2.0], requires_grad=True)
    (two(a, mt.ones(2))[1] * 3).sum().backward()
    assert seen == ["([0.0, 0.0], [3.0, 3.0])"]


def test_outputs_and_inputs_of_other_kinds_pass_by():
    """Integers, None and numbers have no cotangent; a named tuple stays one; what requires no grad does not begin to."""

    class Found(NamedTuple):
        values: object
        index: object
        note: object

    class Odd(nn.Module):
        def forward(self, x, index, times, *, note):
            return Found(x[index] * times, index + 1, note)

    odd, seen = Odd(), []
    odd.register_full_backward_hook(lambda module, *told: seen.append(shown(told)))
    x = mt.tensor([1.0, 2.0, 4.0], requires_grad=True)
    found = odd(x, mt.tensor([2, 0]), 5.0, note="hello")
    assert isinstance(found, Found)
    assert (found.note, found.index.tolist(), found.index.requires_grad) == ("hello", [3, 1], False)
    (found.values * mt.tensor([1.0, 7.0])).sum().backward()
    assert seen == ["(([35.0, 0.0, 5.0], None, None), ([1.0, 7.0], None, None))"]
    assert x.grad.tolist() == [35.0, 0.0, 5.0]
    with mt.no_grad():
        assert not odd(x, mt.tensor([0]), 1.0, note=None).values.requires_grad
    assert len(seen) == 1


@pytest.mark.parametrize("hooked", ["backward", "backward_pre"])
def test_looking_on_leaves_derivatives_of_every_order_as_they_are(hooked, rng):
    class Curved(nn.Module):
        def forward(self, a, b):
            return np.exp(a) * b, a * a * b

    def derivatives(module):
        a, b = (mt.tensor(values, requires_grad=True) for values in values_of)
        y, z = module(a, b)
        first = mt.grad([y, z], [a, b], list(map(mt.tensor, cotangents)), create_graph=True)
        second = mt.grad(first, [a, b], list(map(mt.tensor, cotangents)), create_graph=True)
        return [*first, *second, *mt.grad(second, [a, b], list(map(mt.tensor, cotangents)))]

    values_of, cotangents = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    plain, watched, calls = Curved(), Curved(), []
    getattr(watched, f"register_full_{hooked}_hook")(lambda *told: calls.append(told))
    for found, expected in zip(derivatives(watched), derivatives(plain), strict=True):
        np.testing.assert_array_equal(found.detach().numpy(), expected.detach().numpy())
    assert calls


def test_backward_hooks_on_a_gpu(cupy):
    affine, seen = Affine().cuda(), []
    affine.register_full_backward_hook(lambda module, grad_input, grad_output: seen.append((grad_input[0].device, grad_output[0].device)))
    x = mt.tensor([1.0, 2.0], device="cuda", requires_grad=True)
    affine(x).sum().backward()
    assert seen == [("cuda:0", "cuda:0")]
    assert x.grad.tolist() == [1.0, 1.0]


def test_without_hooks_a_call_is_the_forward(monkeypatch):
    """What hooks cost is paid by modules that have some, and only as long as they have."""
    affine = Affine()
    handle = affine.register_forward_hook(lambda *told: None)
    handle.remove()
    monkeypatch.setattr(hooks, "call", None)
    x = mt.tensor([1.0, 2.0], requires_grad=True)
    affine(x)
    affine.register_forward_hook(lambda *told: None)
    with pytest.raises(TypeError):
        affine(x)


def test_an_identity_stands_only_where_a_backward_hook_is():
    affine = Affine()
    affine.register_forward_hook(lambda *told: None)
    x = mt.tensor([1.0, 2.0], requires_grad=True)
    assert affine(x)._node.name == "add"
    affine.register_full_backward_hook(lambda *told: None)
    assert affine(x)._node.name == "output"


def test_a_hook_may_take_itself_away():
    affine = Affine()
    calls = []

    def once(module, args, output):
        calls.append(1)
        handle.remove()

    handle = affine.register_forward_hook(once)
    affine(mt.ones(2))
    affine(mt.ones(2))
    assert calls == [1]


def run_backward(register, answer):
    affine = Affine()
    getattr(affine, register)(lambda *told: answer)
    affine(mt.tensor([1.0, 2.0], requires_grad=True)).sum().backward()


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        ((mt.ones(2), mt.ones(2)), GraphError, "tuple with 1 entries, got 2 entries"),
        (3.0, GraphError, "tuple with 1 entries, got float"),
        ((mt.ones(3),), ShapeError, r"None or a Tensor float32 \(2,\) in place 0, got float32 \(3,\)"),
        ((3.0,), ShapeError, r"in place 0, got float"),
        (np.ones(2), GraphError, r"got float64 \(2,\)"),
    ],
)
@pytest.mark.parametrize("kind", ["backward", "backward_pre"])
def test_what_a_backward_hook_returns_is_checked(kind, answer, error, message):
    hook = {"backward": "backward hook", "backward_pre": "backward pre-hook"}[kind]
    with pytest.raises(error, match=f"a {hook} of Affine must return .*{message}"):
        run_backward(f"register_full_{kind}_hook", answer)


def test_a_gradient_where_none_is_asked_for_is_refused():
    affine = Affine()
    affine.register_full_backward_hook(lambda module, grad_input, grad_output: grad_output)
    with pytest.raises(ShapeError, match="must return None, because no gradient is asked for there in place 0"):
        affine(mt.ones(2)).sum().backward()


def test_one_tensor_stands_for_a_tuple_of_one():
    affine = Affine()
    affine.register_full_backward_pre_hook(lambda module, grad_output: 5 * grad_output[0])
    x = mt.tensor([1.0, 2.0], requires_grad=True)
    affine(x).sum().backward()
    assert x.grad.tolist() == [5.0, 5.0]


def test_other_errors_of_hooks():
    affine = Affine()
    with pytest.raises(TypeError, match="a hook must be a function, got int"):
        affine.register_forward_hook(3)
    affine.register_forward_pre_hook(lambda module, args, kwargs: args, with_kwargs=True)
    with pytest.raises(RuntimeError, match=r"pre-hook with_kwargs of Affine must return None or a tuple \(args, kwargs\), got tuple"):
        affine(mt.ones(2))

    class Named(nn.Module):
        def forward(self, x):
            return {"x": x}

    named = Named()
    named.register_full_backward_hook(lambda *told: None)
    with pytest.raises(TypeError, match="Named: backward hooks need a forward that returns a Tensor or a tuple, got dict"):
        named(mt.ones(2))
