"""The engine's overhead by pytest-benchmark, with its ratios to the peers that are installed. Never timed in the tests."""

import engine_speed
import pytest

SHORT = [told for told, (_, count) in engine_speed.WORKLOADS.items() if count <= 20_000]


@pytest.fixture(scope="module")
def times() -> dict[str, dict[str, float]]:
    """Every library once, each in a process of its own."""
    return engine_speed.in_turn(1)


@pytest.mark.parametrize("told", SHORT)
def test_an_operation(benchmark, times: dict[str, dict[str, float]], told: str) -> None:
    make, _ = engine_speed.WORKLOADS[told]
    benchmark.extra_info |= {f"of {name}'s": round(times["minitensor"][told] / found[told], 3) for name, found in times.items()}
    benchmark.pedantic(make(engine_speed.minitensor()), rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("told", SHORT)
def test_the_programs_run(told: str) -> None:
    make, _ = engine_speed.WORKLOADS[told]
    assert engine_speed.cpu_time(make(engine_speed.minitensor()), 1) >= 0
