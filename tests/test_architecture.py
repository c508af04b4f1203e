"""The house: import arrows, one place for each outside library, the public names."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import cosma
from tests.conftest import ROOT

PACKAGE = Path(cosma.__file__).parent

# Rooms, from the ground up. A module imports from its own room and from those above it in this list, never from below.
LAYERS = [
    ("errors", "units", "deadline", "names", "files", "kinds", "picture"),
    ("workers",),
    ("nest", "graph", "modes", "recount", "problem", "plan", "verify"),
    ("target",),
    ("frontend",),
    ("milp",),
    ("schedule",),
    ("solvers",),
    ("compile",),
    ("execute",),
    ("analysis",),
    ("experiments",),
    ("reports",),
    ("api",),
    ("cli", "__main__"),
]

LIBRARIES = {
    "onnx": {"frontend", "execute"},
    "onnxruntime": {"execute.runtime"},
    "onnx_ir": {"frontend"},
    "onnxscript": {"frontend"},
    "ortools": {"milp", "schedule.packing", "solvers.search.bounds"},
    "pulp": {"milp.pulp_backend"},
    "omnimalloc": {"schedule.placement"},
    "matplotlib": {"reports"},
    "rich": {"reports", "cli"},
    "click": {"cli"},
    "yaml": {"target.spec"},
    "pydantic": {"target.spec", "plan"},
    "networkx": {"frontend"},
    "distributed": {"workers.pool"},
    "psutil": {"workers.processes", "execute.machine"},
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


def modules_imported(path: Path) -> set[str]:
    """Modules of the package that a file imports, at the top or inside of functions."""
    names = {path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".") for path in PACKAGE.rglob("*.py")}
    return {t.removeprefix("cosma.") for t in imports(path)} & names


def layer(name: str) -> int:
    return next(i for i, rooms in enumerate(LAYERS) if name.split(".", maxsplit=1)[0] in rooms)


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=lambda x: x if isinstance(x, str) else "")
def test_imports_point_upwards(name: str, path: Path) -> None:
    for target in modules_imported(path):
        assert layer(target) <= layer(name), f"{name} imports {target}"


def test_no_module_needs_itself() -> None:
    """Raises CycleError."""
    TopologicalSorter({name: modules_imported(path) for name, path in modules()}).prepare()


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
            todo += modules_imported(PACKAGE / (name.replace(".", "/") + ".py"))
    assert reached >= {"verify", "problem", "graph"}
    assert {name.split(".")[0] for name in reached} <= {room for rooms in LAYERS[:3] for room in rooms}


def test_reports_show_and_solve_nothing() -> None:
    """They may name what they show: results, a solver's entry, the size of a programme."""
    shown = {"solvers.options", "solvers.registry", "milp.programme"}
    for name, path in modules():
        if name.startswith("reports."):
            solving = {t for t in modules_imported(path) if t.split(".")[0] in ("milp", "schedule", "solvers")}
            assert solving <= shown, f"{name} imports {solving - shown}"
            asked = {t for t in imports(path) if re.match(r"cosma\.analysis\.(?!estimate\b)\w+\.[a-z_]", t)}
            assert not asked, f"{name} asks {asked}: take what it makes as an argument"


def test_public_names() -> None:
    assert cosma.__all__ == sorted(cosma.__all__, key=lambda n: (n[0].islower(), n))
    assert set(cosma.__all__) == {
        "CosmaError", "DivideOptions", "Graph", "Hardware", "InputError", "Memory", "Mode", "Operator", "Options", "Overwrite", "Plan", "Problem",
        "ProgrammeOptions", "Result", "SearchOptions", "Settings", "Stream", "Tensor", "VerificationError", "check", "compare", "diff", "load_hardware",
        "prepare", "read_plan", "replay", "report", "require_valid", "run", "solve", "whatif", "write_plan",
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
    for path in [*sorted(PACKAGE.rglob("*.py")), *sorted((ROOT / "tests").rglob("*.py"))]:
        cited += re.findall(r"docs/(\w+\.md#[\w-]+)", path.read_text())
    anchors = {
        f"{page.name}#{re.sub(r'[^a-z0-9 -]', '', heading.lower()).replace(' ', '-')}"
        for page in (ROOT / "docs").glob("*.md")
        for heading in re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    }
    assert len(cited) > 10
    assert set(cited) <= anchors


def test_paths_that_are_named_exist() -> None:
    """Files that docstrings and documents send readers to."""
    sources = [*PACKAGE.rglob("*.py"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    names = {
        path.name for folder in ("cosma", "benchmarks", "tests", "models") for path in (ROOT / folder).rglob("*.py")
    }
    for source in sources:
        text = source.read_text()
        for path in re.findall(r"\b((?:cosma|benchmarks|tests)/[\w/]+\.py)\b", text):
            assert (ROOT / path).is_file(), f"{source} names {path}"
        for name in re.findall(r"`(?:[\w/]+/)?(\w+\.py)`", text):
            assert name in names, f"{source} names {name}"


def test_the_glossary_names_what_exists() -> None:
    """`Class.field` and `module.name` in its last column are in the code."""
    source = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    lines = [line for line in (ROOT / "docs" / "glossary.md").read_text().splitlines() if line.startswith("| ")]
    names = [name for line in lines for name in re.findall(r"`([\w.]+)`", line.split("|")[3])]
    assert len(names) > 40
    for name in names:
        for part in name.split("."):
            assert re.search(rf"\b{part}\b", source) or any(part in path.parts for path in PACKAGE.rglob("*")), name
