"""The engine's overhead by pytest-benchmark; each entry carries its ratios to the peers that are installed. Never timed in the tests."""

import engine_speed
import pytest


@pytest.mark.parametrize("constants", [False, True], ids=["all with gradients", "constants"])
def test_an_operation(benchmark, constants: bool) -> None:
    programs = {name: engine_speed.operations(engine_speed.LIBRARIES[name](), constants) for name in engine_speed.installed()}
    _measure(benchmark, programs)


@pytest.mark.parametrize("length", [20_000, 200_000])
def test_a_chain(benchmark, length: int) -> None:
    names = [name for name in engine_speed.installed() if name in ("minitensor", "torch")]
    _measure(benchmark, {name: engine_speed.chain(engine_speed.LIBRARIES[name](), length) for name in names})


def _measure(benchmark, programs: dict[str, engine_speed.Program]) -> None:
    times = engine_speed.medians(programs, 5)
    benchmark.extra_info |= {f"of {name}'s": round(times["minitensor"] / taken, 3) for name, taken in times.items()}
    benchmark.pedantic(programs["minitensor"], rounds=5, warmup_rounds=1)
