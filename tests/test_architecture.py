"""The house: import arrows, one place for each outside library, the public names."""

import ast
import re
from pathlib import Path

import pytest

import cosma
from tests.conftest import ROOT

PACKAGE = Path(cosma.__file__).parent

# A module may import those above it, never those below.
ORDER = [
    "errors",
    "deadline",
    "names",
    "units",
    "files",
    "kinds",
    "graph",
    "fusion",
    "qdq",
    "frontend",
    "spec",
    "hardware",
    "estimate",
    "problem",
    "plan",
    "verify",
    "diff",
    "allocate",
    "solvers.base",
    "solvers.milp",
    "solvers.parcel",
    "solvers.stoppable",
    "reading",
    "solvers.cp_sat",
    "solvers.dual_bound",
    "solvers.milp_ortools",
    "solvers.milp_pulp",
    "solvers.second_opinion",
    "solvers.backends",
    "solvers.timeline",
    "solvers.eviction",
    "solvers.outcome",
    "solvers.compact",
    "solvers.online",
    "solvers.packing",
    "solvers.replacement",
    "solvers.space",
    "solvers.search",
    "solvers.bounds",
    "solvers.parts",
    "solvers.windows",
    "solvers.orders",
    "solvers.baselines",
    "solvers.portfolio",
    "solvers.programme",
    "solvers.timeindexed",
    "solvers.joint",
    "solvers.boundary",
    "solvers.divide",
    "solvers.auto",
    "solvers.registry",
    "compile",
    "execute.runtime",
    "execute.submodel",
    "execute.constants",
    "execute.inputs",
    "execute.kernels",
    "execute.machine",
    "execute.reference",
    "execute.run",
    "execute.trace",
    "rows",
    "compare",
    "cache",
    "crew",
    "kept",
    "staircase",
    "whatif",
    "report",
    "cli",
    "__main__",
]

LIBRARIES = {
    "onnx": {"frontend", "execute"},
    "onnxruntime": {"execute.runtime"},
    "onnx_ir": {"frontend"},
    "onnxscript": {"frontend"},
    "ortools": {"solvers.cp_sat", "solvers.milp_ortools", "solvers.packing", "solvers.bounds", "solvers.dual_bound"},
    "pulp": {"solvers.milp_pulp"},
    "omnimalloc": {"allocate"},
    "matplotlib": {"report"},
    "rich": {"report", "cli"},
    "click": {"cli"},
    "yaml": {"spec"},
    "pydantic": {"spec", "plan"},
    "networkx": {"frontend"},
    "distributed": {"crew"},
    "psutil": {"solvers.stoppable", "execute.machine"},
}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if not name.endswith("__init__"):
            yield name, path


def imports(path: Path) -> set[str]:
    found = set()
    for item in ast.walk(ast.parse(path.read_text())):
        if isinstance(item, ast.Import):
            found |= {alias.name for alias in item.names}
        elif isinstance(item, ast.ImportFrom):
            assert item.level == 0, f"relative import in {path}"
            found |= {f"{item.module}.{alias.name}" for alias in item.names} | {str(item.module)}
    return found


def rank(name: str) -> int | None:
    matches = [i for i, known in enumerate(ORDER) if name == known or name.startswith(known + ".")]
    return max(matches) if matches else None


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=lambda x: x if isinstance(x, str) else "")
def test_imports_point_upwards(name: str, path: Path) -> None:
    assert rank(name) is not None, f"give {name} its place in ORDER"
    for target in imports(path):
        if target.startswith("cosma."):
            other = rank(target.removeprefix("cosma."))
            assert other is None or other <= rank(name), f"{name} imports {target}"


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=lambda x: x if isinstance(x, str) else "")
def test_each_library_has_one_place(name: str, path: Path) -> None:
    for target in imports(path):
        places = LIBRARIES.get(target.split(".")[0])
        if places is not None:
            assert any(name == p or name.startswith(p + ".") for p in places), f"{name} imports {target}"


def test_verifier_imports_no_solver() -> None:
    reached, todo = set(), ["verify"]
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            path = PACKAGE / (name.replace(".", "/") + ".py")
            targets = {t.removeprefix("cosma.") for t in imports(path) if t.startswith("cosma.")}
            todo += [t for t in targets if (PACKAGE / (t.replace(".", "/") + ".py")).is_file()]
    assert not [name for name in reached if name.startswith(("solvers", "allocate"))]


def test_public_names() -> None:
    assert cosma.__all__ == sorted(cosma.__all__, key=lambda n: (n[0].islower(), n))
    assert set(cosma.__all__) == {
        "CosmaError", "Graph", "Hardware", "InputError", "Mode", "Operator", "Options", "Plan", "Problem", "Result",
        "Settings", "Tensor", "VerificationError", "check", "load_hardware", "prepare", "read_plan", "require_valid",
        "solve",
    }  # fmt: skip
    for name in cosma.__all__:
        assert getattr(cosma, name).__name__ == name
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = cosma.nothing_like_it


def test_files_stay_short() -> None:
    long = {p.name: n for _, p in modules() if (n := p.read_text().count("\n")) > 400}
    assert not long


def test_pages_stay_short() -> None:
    parts = [p for suffix in ("html", "css", "js") for p in PACKAGE.rglob(f"*.{suffix}")]
    assert len(parts) == 7
    assert not {p.name: n for p in parts if (n := p.read_text().count("\n")) > 300}


def test_version_is_the_changelogs() -> None:
    changelog = (PACKAGE.parent / "CHANGELOG.md").read_text()
    assert re.search(rf"^## {re.escape(cosma.__version__)}\b", changelog, re.MULTILINE)
    assert f"version: {cosma.__version__}" in (PACKAGE.parent / "CITATION.cff").read_text()


def test_docstrings_cite_headings_that_exist() -> None:
    """docs/problem.md#dominance in a docstring is a heading of that file, as GitHub and GitLab make anchors of them."""
    cited: list[str] = []
    for path in [*sorted(PACKAGE.rglob("*.py")), *sorted((ROOT / "tests").glob("*.py"))]:
        cited += re.findall(r"docs/(\w+\.md#[\w-]+)", path.read_text())
    anchors = {
        f"{page.name}#{re.sub(r'[^a-z0-9 -]', '', heading.lower()).replace(' ', '-')}"
        for page in (ROOT / "docs").glob("*.md")
        for heading in re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    }
    assert len(cited) > 10
    assert set(cited) <= anchors
