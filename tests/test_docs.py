"""Every code block of the documents is run: commands, specs and Python, from a copy of the models."""

import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from cosma.cli import cli
from cosma.target.hardware import load_hardware
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
DRAWINGS = ("docs/problem.md",)  # pages whose blocks without a language are drawings


@dataclass(frozen=True)
class Block:
    page: str
    language: str
    text: str
    generated: bool


def blocks() -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text()
        generated = [m.span() for m in re.finditer(r"<!-- ([\w-]+) -->.*?<!-- /\1 -->", text, re.DOTALL)]
        for m in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            inside = any(start < m.start() < end for start, end in generated)
            found.append(Block(str(page.relative_to(ROOT)), m[1], m[2], inside))
    return found


def commands() -> list[str]:
    """Command lines of the documents, comments left out."""
    lines = [line for b in blocks() if b.language == "sh" for line in b.text.splitlines()]
    return [
        line for line in (re.sub(r"\s+#.*", "", line).strip() for line in lines) if line and not line.startswith("#")
    ]


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    for block in blocks():
        if not block.generated and (block.language, block.page) != ("", *DRAWINGS):
            assert block.language in ("sh", "python", "yaml"), block
    assert {b.language for b in blocks() if b.page == "README.md"} >= {"sh", "python", "yaml", "text"}


def test_no_block_escapes_this_file() -> None:
    """Another way of writing one (indented, ~~~, words behind the language) would not be found by `blocks`."""
    for page in PAGES:
        fences = re.findall(r"^[ \t>*-]*(?:```|~~~)", page.read_text(), re.MULTILINE)
        assert fences == ["```"] * 2 * sum(b.page == str(page.relative_to(ROOT)) for b in blocks()), page


def test_options_that_are_named_exist() -> None:
    options = {o for c in cli.commands.values() for p in c.params for o in (*p.opts, *p.secondary_opts)}
    others = {"--help", "--nthreads"}  # of dask
    for page in PAGES:
        code = " ".join(re.findall(r"`([^`\n]+)`", page.read_text()))
        unknown = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", code)) - options - others
        assert not unknown, (page, unknown)


@pytest.mark.parametrize("text", [b.text for b in blocks() if b.language == "yaml"])
def test_specs(tmp_path: Path, text: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    assert load_hardware(str(path)).capacity_bytes > 0


@pytest.mark.parametrize("text", [b.text for b in blocks() if b.language == "python"])
def test_python(tmp_path: Path, text: str) -> None:
    (tmp_path / "models").symlink_to(ROOT / "models")
    done = subprocess.run([sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout


def test_commands_can_be_run_as_they_stand(tmp_path: Path) -> None:
    """One after the other in one folder, since later ones use what earlier ones write."""
    (tmp_path / "models").symlink_to(ROOT / "models")
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    ran = 0
    for command in commands():
        words = shlex.split(command)
        if words[0] == "make":  # the test suite is one of them
            assert words[1] in targets, command
        elif words[:2] == ["pip", "install"]:
            assert all(extra in extras for extra in re.findall(r"\[([\w,]+)\]", command)), command
        elif words[0] == "cosma":
            done = subprocess.run(
                [sys.executable, "-m", *words], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
            )
            assert done.returncode == 0, (command, done.stderr)
            ran += 1
        else:
            pytest.fail(f"{command!r}: this test does not know how to run it")
    assert ran >= 3
