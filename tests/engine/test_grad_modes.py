"""no_grad and enable_grad: context, decorator, nested, recursive, per thread, and undone by exceptions."""

import threading

import pytest

import minitensor as mt


def recording() -> bool:
    """By the flag and by what happens; the two must agree."""
    recorded = (mt.ones(1, requires_grad=True) * 2).requires_grad
    assert recorded is mt.is_grad_enabled()
    return recorded


def test_nested_contexts() -> None:
    seen = [recording()]
    with mt.no_grad():
        seen.append(recording())
        with mt.enable_grad():
            seen.append(recording())
            with mt.no_grad():
                seen.append(recording())
            seen.append(recording())
        seen.append(recording())
    seen.append(recording())
    assert seen == [True, False, True, False, True, False, True]


@pytest.mark.parametrize(("switch", "inside"), [(mt.no_grad, False), (mt.enable_grad, True)])
def test_one_object_may_be_entered_again_and_again(switch, inside: bool) -> None:
    with mt.no_grad():
        same = switch()
        for _ in range(2):
            with same, same:
                assert recording() is inside
            assert not recording()
    assert recording()


@pytest.mark.parametrize("decorate", [mt.no_grad(), mt.enable_grad()])
def test_decorator(decorate) -> None:
    @decorate
    def inside(number: int) -> tuple[bool, int]:
        """What it does."""
        return recording(), number

    assert inside(number=3) == (decorate.value, 3)
    assert (inside.__name__, inside.__doc__) == ("inside", "What it does.")
    with mt.no_grad():
        assert inside(3)[0] is decorate.value
        assert not recording()
    assert recording()


def test_recursive_decorator() -> None:
    @mt.no_grad()
    def down(n: int) -> list[bool]:
        if n == 0:
            return [recording()]
        with mt.enable_grad():
            below = down(n - 1)
            return [*below, recording()]

    assert down(3) == [False, True, True, True]
    assert recording()


@pytest.mark.parametrize("switch", [mt.no_grad, mt.enable_grad])
def test_restored_after_an_exception(switch) -> None:
    for outer in (mt.no_grad, mt.enable_grad):
        with outer():
            before = recording()
            with pytest.raises(ZeroDivisionError), switch():
                raise ZeroDivisionError
            assert recording() is before
    assert recording()


def test_per_thread() -> None:
    seen: list[bool] = []
    with mt.no_grad():
        thread = threading.Thread(target=lambda: seen.append(recording()))
        thread.start()
        thread.join()
        assert not recording()
    assert seen == [True]


def test_one_decorated_function_on_two_threads() -> None:
    """Each thread gets back the mode that it had, though both are inside the same decorator at once."""
    inside, left = threading.Event(), threading.Event()
    after: dict[str, bool] = {}

    @mt.no_grad()
    def shared(first: bool) -> None:
        if first:
            assert inside.wait(5)
        else:
            inside.set()
            assert left.wait(5)

    def recording_thread() -> None:
        shared(True)
        after["recording"] = recording()
        left.set()

    def other_thread() -> None:
        with mt.no_grad():
            shared(False)
            after["other"] = recording()

    threads = [threading.Thread(target=target) for target in (recording_thread, other_thread)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert after == {"recording": True, "other": False}


def test_what_was_not_recorded_is_a_constant() -> None:
    x = mt.tensor([3.0], requires_grad=True)
    with mt.no_grad():
        square = x * x
    (square * x).backward()
    assert x.grad.tolist() == [9.0]


def test_leaves_made_under_no_grad_require_grad_when_asked() -> None:
    with mt.no_grad():
        x = mt.ones(1, requires_grad=True)
    assert x.requires_grad
    assert (x * 2).requires_grad


@pytest.mark.parametrize(("switch", "inside"), [(mt.no_grad, False), (mt.enable_grad, True)])
def test_a_switch_without_parentheses_decorates(switch, inside: bool) -> None:
    @switch
    def function() -> bool:
        return recording()

    with mt.set_grad_enabled(not inside):
        assert function() is inside


def test_a_generator_is_switched_at_every_step() -> None:
    @mt.no_grad()
    def steps():
        got = yield recording()
        yield got, recording()
        return "end"

    running = steps()
    assert next(running) is False
    assert recording()
    assert running.send(7) == (7, False)
    with pytest.raises(StopIteration, match="end"):
        next(running)
    assert recording()
