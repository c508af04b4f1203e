"""Files that public packages ship, read, planned at three capacities and run bit for bit: `make test-slow`."""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from cosma import Options, Settings, prepare, solve
from cosma.execute.run import execute
from cosma.target.hardware import Hardware
from cosma.verify import check
from tests.conftest import MODELS
from tests.planned import network_of


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fetch", MODELS / "fetch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FETCH = script()
UNBOUNDED = Hardware("unbounded", 2**40)


def test_fifteen_files_of_ten_packages() -> None:
    assert len(FETCH.SOURCES) >= 15
    assert len({source.package for source in FETCH.SOURCES.values()}) >= 9
    assert all("==" in source.package and len(source.sha256) == 64 for source in FETCH.SOURCES.values())


def test_a_package_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(OSError, match=r"pip cannot download magika==1\.0\.3: "):
        FETCH.fetch(["magika"], tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="session")
def fetched() -> Callable[[str], Path]:
    def get(name: str) -> Path:
        try:
            return FETCH.fetch([name], FETCH.default_folder())[name]
        except OSError as error:
            pytest.skip(str(error))

    return get


@pytest.mark.slow
@pytest.mark.parametrize("name", FETCH.SOURCES)
def test_real_file(fetched: Callable[[str], Path], run, name: str) -> None:
    path, dims = fetched(name), FETCH.SOURCES[name].dims
    flags = [part for key, size in dims.items() for part in ("--dim", f"{key}={size}")]
    assert run("inspect", path, "--scratchpad", "1GiB", *flags).code == 0
    network = network_of(path, dims)
    assert not network.constants.stripped
    ordinary = {v.name: data.size for v, data in zip(network.runnable.whole.graph.output, network.whole(), strict=True)}
    for weights in (False, True):
        problem = prepare(path, UNBOUNDED, Settings(weights=weights, dims=dims)).problem
        least, peak = problem.working_set_bytes, problem.peak_bytes(range(len(problem.graph.operators)))
        for capacity in sorted({least, (least + peak) // 2, peak}):
            hardware = Hardware("h", capacity)
            prepared = prepare(path, hardware, Settings(weights=weights, dims=dims))
            result = solve(prepared, hardware, Options(time_limit_s=10))
            assert result.plan is not None
            assert not check(result.plan, prepared.problem).violations
            assert capacity < peak or result.non_compulsory_bytes == 0
            execution = execute(result.plan, prepared.problem, network)
            assert execution.difference is None
            assert dict(execution.outputs) == ordinary
