"""What the cache keeps is rebuilt and verified; anything else than one's own whole entry is solved again."""

import hashlib
import hmac
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cosma.compile import Prepared, Settings, prepare, solve
from cosma.errors import InputError
from cosma.experiments.cache import Cache
from cosma.experiments.kept import keep, rebuild
from cosma.solvers.options import Options
from cosma.target.hardware import Hardware
from cosma.workers import pool
from tests.conftest import MODELS, spawn

TINY = MODELS / "tiny_branches.onnx"
ARGS = ["whatif", TINY, "--dtype", "int8", "--scratchpad", "auto", "--modes", "paper", "--jobs", 1, "--json"]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "cosma"


class Here(Executor):
    """Runs everything at once, in this process."""

    def submit(self, fn, /, *args, **kwargs):
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@pytest.fixture(autouse=True)
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def here(jobs: int) -> Iterator[pool.Pool]:
        yield pool.Pool(Here, jobs)

    monkeypatch.setattr(pool, "processes", here)


def entries(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.entry"))


def forge(folder: Path, path: Path, value: Any) -> None:
    """Write an entry as somebody who can read the key could."""
    content = json.dumps(value).encode()
    signed = f"{path.parent.name}{path.stem}\n".encode() + content
    mac = hmac.new((folder / "key").read_bytes(), signed, hashlib.sha256).hexdigest()
    path.write_bytes(mac.encode() + b"\n" + content)


def kept_in(path: Path) -> Any:
    return json.loads(path.read_bytes().partition(b"\n")[2])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(bytes(data))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def swap(path: Path) -> None:
    """An entry for another question, as it stands."""
    one, other = entries(path.parent.parent)[:2]
    one.write_bytes(other.read_bytes())


def old(path: Path) -> None:
    """As entries were before they had codes."""
    value = {"status": "optimal", "non_compulsory_bytes": 1, "bound_bytes": 1, "order": []}
    path.write_text(json.dumps({"digest": hashlib.sha256(json.dumps(value).encode()).hexdigest(), "value": value}))


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def linked(path: Path) -> None:
    """A link to the entry itself, elsewhere: nothing that is written here."""
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


def huge(path: Path) -> None:
    os.truncate(path, 2**40)  # sparse


@pytest.mark.parametrize("harm", [cut, flip, empty, swap, old, fifo, folder, device, linked, huge])
def test_harmed_entries_are_solved_again(run, own_cache: Path, harm: Callable[[Path], None]) -> None:
    first = run(*ARGS)
    assert (first.code, first.err) == (0, "")
    harm(entries(own_cache)[0])
    again = run(*ARGS)
    assert again.json == first.json
    assert again.err.count("\n") == 1
    assert "cache entry cannot be used" in again.err
    if harm is folder:  # it is not ours to remove
        assert run(*ARGS).json == first.json
    else:
        assert run(*ARGS).err == ""


def test_one_warning_for_any_number_of_entries(run, own_cache: Path) -> None:
    first = run(*ARGS)
    assert len(entries(own_cache)) > 2
    for path in entries(own_cache):
        cut(path)
    again = run(*ARGS)
    assert (again.json, again.err.count("\n")) == (first.json, 1)


def test_whole_entries_are_not_solved_again(run, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(*ARGS)
    assert len(entries(own_cache)) == len(first.json)
    monkeypatch.setattr(pool.Pool, "submit", lambda *_: pytest.fail("solved again"))
    assert run(*ARGS).json == first.json


TAMPERED: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("fewer bytes", lambda k: k["claims"].update(non_compulsory_bytes=1, bound_bytes=1)),
    ("negative bytes", lambda k: k["claims"].update(non_compulsory_bytes=-256, bound_bytes=-256)),
    ("many bytes", lambda k: k["claims"].update(non_compulsory_bytes=10**30, bound_bytes=10**30)),
    ("bytes as text", lambda k: k["claims"].update(non_compulsory_bytes="256")),
    ("bytes as a fraction", lambda k: k["claims"].update(non_compulsory_bytes=256.0)),
    ("no bytes", lambda k: k["claims"].pop("non_compulsory_bytes")),
    ("another peak", lambda k: k["claims"].update(peak_use_bytes=k["claims"]["peak_use_bytes"] - 1)),
    ("no peak", lambda k: k["claims"].update(peak_use_bytes=None)),
    ("not proved", lambda k: k["claims"].update(status="feasible", bound_bytes=0)),
    ("no claims", lambda k: k.pop("claims")),
    ("proof by a number", lambda k: k.update(bound_name=7)),
    ("no proof", lambda k: k.pop("bound_name")),
    ("reversed", lambda k: k["schedule"].reverse()),
    ("an operator twice", lambda k: k["schedule"].append(executed(k)[-1])),
    ("an operator less", lambda k: k["schedule"].remove(executed(k)[-1])),
    ("an operator more", lambda k: k["schedule"].append(["execute", 99, 0, 0, [], []])),
    ("an operator by name", lambda k: k["schedule"].append(["execute", "conv", 0, 0, [], []])),
    ("another mode", lambda k: executed(k)[0].__setitem__(3, 1)),
    ("nothing", lambda k: k.update(schedule=[])),
    ("a schedule that is none", lambda k: k.update(schedule=5)),
    ("no schedule", lambda k: k.pop("schedule")),
    ("another offset", lambda k: k["schedule"][0].__setitem__(2, k["schedule"][0][2] + 1)),
    ("a negative offset", lambda k: k["schedule"][0].__setitem__(2, -1)),
    ("an offset outside", lambda k: executed(k)[0][5][0].__setitem__(1, 2**62)),
    ("another tensor", lambda k: k["schedule"][0].__setitem__(1, executed(k)[0][5][0][0])),
    ("no such tensor", lambda k: k["schedule"][0].__setitem__(1, 1000)),
    ("an output without a place", lambda k: executed(k)[0][5].clear()),
    ("another instruction", lambda k: k["schedule"][0].__setitem__(0, "teleport")),
    ("an instruction less", lambda k: k["schedule"].pop(0)),
    ("an instruction twice", lambda k: k["schedule"].append(k["schedule"][-1])),
    ("an instruction cut short", lambda k: k["schedule"][0].pop()),
]  # fmt: skip


def executed(kept: dict[str, Any]) -> list[list[Any]]:
    return [row for row in kept["schedule"] if row[0] == "execute"]


def solved(capacity_bytes: int) -> tuple[Prepared, Any]:
    """tiny_branches at M_R (5,120 B), where the optimum is 256 B, or above."""
    hardware = Hardware("any", capacity_bytes)
    prepared = prepare(TINY, hardware, Settings(dtype="int8"))
    result = solve(prepared, hardware, Options())
    assert result.plan is not None
    return prepared, keep(result.plan, prepared.problem, result.bound_name)


@pytest.mark.parametrize(("what", "tamper"), TAMPERED, ids=[what for what, _ in TAMPERED])
def test_what_was_kept_must_hold(what: str, tamper: Callable[[dict[str, Any]], object]) -> None:
    prepared, kept = solved(5120)
    kept = json.loads(json.dumps(kept))
    plan, _ = rebuild(kept, prepared)
    assert plan.claims.non_compulsory_bytes == 256
    tamper(kept)
    with pytest.raises(InputError):
        rebuild(kept, prepared)


@pytest.mark.parametrize("kept", [None, 1, "plan", [], {}, [1, 2], {"order": None}])
def test_other_values_are_no_plans(kept: Any) -> None:
    with pytest.raises(InputError, match="holds no plan"):
        rebuild(kept, solved(5120)[0])


def test_plans_for_other_problems_are_refused() -> None:
    small, kept = solved(5120)
    large, roomy = solved(7168)
    with pytest.raises(InputError, match="plan is wrong"):  # it lies above the smaller capacity
        rebuild(roomy, small)
    assert rebuild(kept, large)[0].claims.non_compulsory_bytes == 256  # valid; that it is optimal is for the key to say
    with pytest.raises(InputError):
        rebuild(kept, prepare(MODELS / "tiny_chain.onnx", Hardware("any", 5120), Settings(dtype="int8")))


def test_forged_entries_cannot_lie_about_bytes(run, own_cache: Path) -> None:
    first = run(*ARGS)
    for what, tamper in TAMPERED[:6]:
        for path in entries(own_cache):
            kept = kept_in(path)
            tamper(kept)
            forge(own_cache, path, kept)
        again = run(*ARGS)
        assert again.json == first.json, what
        assert again.err.count("\n") == 1
    path = entries(own_cache)[0]
    forge(own_cache, path, kept_in(path))  # but a true one is as good as ours
    assert run(*ARGS).err == ""


def foreign(path: Path) -> None:
    path.chmod(0o644)


def short(path: Path) -> None:
    path.write_bytes(b"secret")


def long(path: Path) -> None:
    path.write_bytes(bytes(33))


@pytest.mark.parametrize("harm", [foreign, short, long, fifo, folder, device])
def test_keys_that_others_may_know_are_not_used(run, own_cache: Path, harm: Callable[[Path], None]) -> None:
    first = run(*ARGS)
    harm(own_cache / "key")
    again = run(*ARGS)
    assert again.json == first.json
    assert again.err.count("\n") == 1
    assert "key" in again.err
    assert "delete it" in again.err


def test_keys_of_other_users_are_not_used(run, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(*ARGS)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    again = run(*ARGS)
    assert (again.json, again.err.count("belongs to another user")) == (first.json, 1)


def test_a_new_key_makes_all_entries_foreign(run, own_cache: Path) -> None:
    first = run(*ARGS)
    assert (own_cache / "key").stat().st_mode & 0o777 == 0o600
    (own_cache / "key").unlink()
    again = run(*ARGS)
    assert (again.json, again.err.count("\n")) == (first.json, 1)
    assert run(*ARGS).err == ""


def test_an_unusable_key_is_told_of_without_entries_too(run, own_cache: Path) -> None:
    own_cache.mkdir(parents=True)
    fifo_path = own_cache / "key"
    os.mkfifo(fifo_path)
    outcome = run(*ARGS)
    assert (outcome.code, outcome.err.count("\n")) == (0, 1)
    assert "cannot be written (key is no regular file; delete it)" in outcome.err


def test_a_fifo_is_not_waited_for(own_cache: Path) -> None:
    """In a process of its own, which could be ended."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(own_cache.parent)}
    first = spawn(*ARGS, env=environment)
    fifo(entries(own_cache)[0])
    again = spawn(*ARGS, env=environment, timeout=60)
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert "no regular file" in again.stderr


def test_two_processes_agree_on_a_key(tmp_path: Path) -> None:
    said: list[str] = []
    one, other = (Cache(tmp_path, said.append) for _ in range(2))
    one.put("ab12", [1])
    other.put("cd34", [2])
    assert (one.get("cd34", list), other.get("ab12", list)) == ([2], [1])
    assert one.get("ef56", list) is None
    assert not said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ab", "cd", "key"]  # nothing half-written is left


def test_the_cache_is_done_without_where_it_cannot_be_written(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "file").touch()
    cache = Cache(tmp_path / "file", said.append)
    assert cache.get("ab12", list) is None
    cache.put("ab12", 1)
    cache.put("cd34", 2)
    assert len(said) == 1
    assert "going on without" in said[0]
