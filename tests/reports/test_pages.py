"""cosma report: text, JSON and the page, which is looked at in a browser where one is installed."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cosma.plan import read_plan
from tests.conftest import MODELS, model, node, save
from tests.reports.looking import find, ink, look, over

DENSENET = MODELS / "densenet121.onnx"
ODD = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture
def plan(run, folder: Path) -> Path:
    """DenseNet-121 on 8 MiB: one eviction."""
    path = folder / "plan.json"
    if not path.exists():
        flags = ("--hw", "hexagon_8mib", "--no-weights", "--modes", "paper")
        run("compile", DENSENET, *flags, "-o", path, "--report", folder / "first.html")
    return path


def data_of(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_text_and_json(run, plan: Path) -> None:
    text = " ".join(run("report", plan, DENSENET).out.split())
    for part in (
        "Optimal over all schedules: the 802,816 B", "found no violation", "out from after step 32 until step 38, 802,816 B",
        "At step 33", "40,960 B are missing", "To keep it, evict", "+0 B", "+40,960 B (+40 KiB) of scratchpad: 8,429,568 B",
        "--dtype float16", "No other order and no other replacement helps",
    ):  # fmt: skip
        assert part in text, part
    facts = run("report", plan, DENSENET, "--hw", "hexagon_8mib", "--json").json
    assert set(facts) == {"summary", "evictions", "streams", "would_help"}
    assert (facts["summary"]["non_compulsory_bytes"], facts["summary"]["peak_bytes"]) == (802816, 8429568)
    (eviction,) = facts["evictions"]
    assert (eviction["leaves"], eviction["returns"], eviction["cost_bytes"]) == (33, 38, 802816)
    assert eviction["binding"]["missing_bytes"] == 40960
    assert {lever["kind"] for lever in facts["would_help"]} == {"capacity", "in-place", "dtype"}
    assert all(lever["saved_bytes"] == 802816 for lever in facts["would_help"])


def test_page_is_complete_and_the_same_every_time(run, plan: Path, folder: Path) -> None:
    second = folder / "second.html"
    assert run("report", plan, DENSENET, "-o", second).out.strip() == f"report written to {second}"
    page = second.read_text()
    assert page == (folder / "first.html").read_text()
    assert not re.search(r"(src|href)\s*=|https?://|url\(|@import|fetch\(", page)
    data = data_of(page)
    document = read_plan(plan)
    assert len(data["stays"]) == len(document.residencies)
    assert [row[0] for row in data["steps"]] == [step.operator for step in document.order]
    moved = sum((row[3] + row[4]) * row[2] for row in data["tensors"])
    assert moved == sum(row[4] + row[5] for row in data["steps"]) == 802816 + 606208
    assert sum(row[6] for row in data["tensors"]) == 802816
    for part in ("802,816 B", "8,388,608 B", "Optimal over all schedules", "40,960"):
        assert part in page


def test_names_cannot_break_out(run, tmp_path: Path) -> None:
    odd = save(tmp_path, model([node("Relu", "x", ODD, ODD), node("Tanh", ODD, "y", "</style>&'\"")]), "odd&<b>.onnx")
    plan, page = tmp_path / "p.json", tmp_path / "p.html"
    assert run("compile", odd, "--scratchpad", "1KiB", "-o", plan, "--report", page).code == 0

    class Tags(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.found: list[str] = []

        def handle_starttag(self, tag: str, attrs: object) -> None:
            self.found.append(tag)

    tags = Tags()
    tags.feed(page.read_text())
    assert tags.found.count("script") == 2
    assert "b" not in tags.found
    assert data_of(page.read_text())["tensors"][1][0] == ODD


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["PLAN", DENSENET, "-o", "FOLDER/page.pdf"], 2, "page.pdf: cannot write a .pdf file; use .html"),
        (["PLAN", DENSENET, "-o", "FOLDER/none/page.html"], 2, "create it first"),
        ([DENSENET, DENSENET], 2, "densenet121.onnx: not a plan, but an ONNX model"),
        (["FOLDER/absent.json", DENSENET], 2, "cannot read the plan"),
        (["PLAN", "FOLDER/absent.onnx"], 2, "cannot read the model"),
        (["PLAN", MODELS / "tiny_chain.onnx"], 4, "give the model and hardware it was made for"),
        (["PLAN", DENSENET, "--scratchpad", "7MiB"], 4, "not valid for"),
        (["PLAN", DENSENET, "--hw", "nowhere"], 2, "nowhere"),
    ],
)
def test_bad_input(run, plan: Path, folder: Path, arguments: list, code: int, said: str) -> None:
    filled = [str(a).replace("FOLDER", str(folder)).replace("PLAN", str(plan)) for a in arguments]
    outcome = run("report", *filled)
    assert outcome.code == code
    assert said in outcome.err, outcome.err
    assert not list(folder.glob("page.*"))


def test_a_bound_says_nothing_of_more_room(run, tmp_path: Path) -> None:
    tiny, target = MODELS / "tiny_branches.onnx", tmp_path / "plan.json"
    assert run("compile", tiny, "--scratchpad", "24KiB", "-o", target).code == 0
    outcome = run("report", target, tiny, "--scratchpad", "25KiB")
    assert outcome.code == 2
    assert "its bound was proved for 24,576 B aligned to 1 B and says nothing of 25,600 B" in outcome.err
    assert "Optimal over all schedules" in run("report", target, tiny, "--scratchpad", "23KiB").out


def test_one_file_for_two_outputs(run, tmp_path: Path) -> None:
    same = tmp_path / "a.html"
    outcome = run("compile", DENSENET, "--scratchpad", "8MiB", "--plot", same, "--report", same)
    assert (outcome.code, outcome.err.count("would overwrite")) == (2, 1)


# In a browser. The sizes are those of a phone and of a desk.


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1600])
def test_hover_click_search_and_sort(browser, plan: Path, folder: Path, width: int, scheme: str) -> None:
    look(browser, folder / "first.html", width, scheme)
    evicted = "/features/denseblock1/denselayer1/conv2/Conv_output_0"
    assert browser.execute_script("return document.documentElement.scrollWidth") == width
    assert ink(browser) > 5
    background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")

    over(browser, evicted).perform()
    tip = find(browser, "#tip").text
    for part in (evicted, "activation, 401,408 B", "Evicted after step 32, back at step 38", "40,960 B are missing"):
        assert part in tip
    over(browser, evicted).click().perform()
    chosen = find(browser, "#chosen").text
    assert "evict instead" in chosen
    assert "Resident at step 33" in chosen
    assert evicted in find(browser, "#tensors tr.chosen").text
    assert "802,816" in find(browser, "#tensors tr.chosen").text

    search = find(browser, "#find")
    search.send_keys("denselayer2/conv2\n")
    assert find(browser, "#found").text.startswith("4 of 368 tensors")
    assert find(browser, "#chosen strong").text == "/features/denseblock1/denselayer2/conv2/Conv_output_0"
    find(browser, "#closer").click()
    assert browser.execute_script("return view.shown") == 367 / 2
    assert find(browser, "#scroll").is_displayed()

    find(browser, "#evictions td button").click()
    assert "waits for step" in find(browser, "#evictions .more").text
    browser.execute_script("document.querySelectorAll('#steps th button')[4].click()")  # bytes taken, most first
    assert find(browser, "#steps tbody td:nth-child(5)").text == "8,028,160"
    assert not browser.get_log("browser")


@pytest.fixture
def streaming(run, folder: Path) -> Path:
    """The page of ResNet-8 on 16 KiB, where most operands are streamed."""
    page = folder / "streaming.html"
    if not page.exists():
        flags = ("--scratchpad", "16KiB", "--dtype", "int8", "--fusion", "pointwise", "--weights")
        plan = folder / "streaming.json"
        plot = folder / "streaming.png"
        small = MODELS / "small" / "resnet8.onnx"
        assert run("compile", small, *flags, "--report", page, "-o", plan, "--plot", plot).code == 0
    return page


def test_streams_in_text_and_data(run, streaming: Path, folder: Path) -> None:
    data, document = data_of(streaming.read_text()), read_plan(folder / "streaming.json")
    assert sum(row["moved"] for row in data["streams"]) == document.claims.streamed_bytes
    assert sum(row[6] + row[7] for row in data["steps"]) == document.claims.streamed_bytes
    assert sum(row[10] for row in data["steps"]) == document.claims.tiles
    assert len(data["buffers"]) == sum(b.size_bytes > 0 for step in document.order for b in step.buffers)
    small = MODELS / "small" / "resnet8.onnx"
    text = " ".join(run("report", folder / "streaming.json", small).out.split())
    for part in (
        "streamed in at step",
        "more would be needed at step",
        "Optimal over all schedules in the modes declared",
    ):
        assert part in text, part
    facts = run("report", folder / "streaming.json", small, "--json").json
    assert [row["why"] for row in facts["streams"]] == [row["why"] for row in data["streams"]]
    assert (folder / "streaming.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1600])
def test_buffers_and_streams(browser, streaming: Path, width: int, scheme: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    look(browser, streaming, width, scheme)
    assert browser.execute_script("return document.documentElement.scrollWidth") == width
    legend = find(browser, "#legend").text
    for part in ("buffer, streamed in", "buffer, streamed out", "streamed in", "loaded"):
        assert part in legend
    canvas = find(browser, "#map")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    x, y = browser.execute_script(
        "const [x, y, w, h] = rectangle(buffers.reduce((a, b) => (b.size > a.size ? b : a)));"
        "const r = document.getElementById('map').getBoundingClientRect();"
        "return [x + w / 2 - r.width / 2, y + h / 2 - r.height / 2]"
    )
    ActionChains(browser).move_to_element_with_offset(canvas, round(x), round(y)).click().perform()
    tip = find(browser, "#tip").text
    assert tip.startswith("buffer of ")
    assert "streamed" in find(browser, "#chosen").text.lower()
    find(browser, "#streams td button").click()
    assert find(browser, "#streams .more").text
    assert not browser.get_log("browser")


def test_names_are_shown_as_text(browser, run, tmp_path: Path) -> None:
    odd = save(tmp_path, model([node("Relu", "x", ODD, ODD), node("Tanh", ODD, "y", "tanh")]))
    page = tmp_path / "p.html"
    run("compile", odd, "--scratchpad", "1KiB", "--report", page)
    look(browser, page, 1000, "light")
    over(browser, ODD).click().perform()
    assert find(browser, "#tip").text.startswith(ODD)
    assert find(browser, "#chosen strong").text == ODD
    assert "Nothing needs help" in find(browser, "main").text
    assert not browser.get_log("browser")  # a script of the model would be refused, and logged


def test_a_large_network_takes_few_elements(browser, run, tmp_path: Path) -> None:
    nasnet, page = MODELS / "nasnetalarge_224.onnx", tmp_path / "p.html"
    flags = ("--scratchpad", "2365632 B", "--dtype", "int8", "--fusion", "none", "--no-weights", "--modes", "paper")
    assert run("compile", nasnet, *flags, "--report", page).code == 0
    look(browser, page, 1600, "light")
    assert browser.execute_script("return [steps.length, tensors.length]") == [878, 879]
    assert browser.execute_script("return document.getElementsByTagName('*').length") < 1500
    assert ink(browser) > 5
    find(browser, "#closer").click()
    find(browser, "#find").send_keys("cell_stem_0/conv_1x1/conv\n")
    assert browser.execute_script("return view.first") < 15  # the map has moved to it
    over(browser, "/cell_stem_0/conv_1x1/conv/Conv_output_0").click().perform()
    assert "No choice of others keeps it" in find(browser, "#chosen").text
    assert not browser.get_log("browser")


# Rows of compare and whatif.


@pytest.fixture
def rows(run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A staircase and a sweep in one file, a comparison in another."""
    swept, compared = folder / "swept.csv", folder / "compared.jsonl"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    tiny = [MODELS / "tiny_branches.onnx", "--dtype", "int8"]
    if not compared.exists():
        assert run("whatif", *tiny, "--scratchpad", "auto", "--modes", "paper", "--jobs", 1, "-o", swept).code == 0
        assert run("whatif", *tiny, "--hw", "all", "--jobs", 1, "-o", swept).code == 0
        assert run("compare", *tiny, "--solvers", "auto,best-fit", "-o", compared).code == 0
    return swept, compared


def test_rows_as_page_markdown_csv_and_figures(run, rows: tuple[Path, Path], tmp_path: Path) -> None:
    starts = {
        ".html": b"<!doctype",
        ".md": b"| model |",
        ".csv": b"model,",
        ".png": b"\x89PNG",
        ".svg": b"<?xml",
        ".pdf": b"%PDF",
    }
    for file in rows:
        for suffix, start in starts.items():
            out = tmp_path / f"report{suffix}"
            assert run("report", file, "-o", out).code == 0
            assert out.read_bytes().startswith(start)
            first = out.read_bytes()
            run("report", file, "-o", out)
            assert out.read_bytes() == first, "the same rows give the same bytes"
    again = run("report", tmp_path / "report.csv", "--json").json
    assert again == run("report", rows[1], "--json").json, "a report as CSV is a file of rows"
    assert "would overwrite" in run("report", tmp_path / "report.csv", "-o", tmp_path / "report.csv").err
    lines = (tmp_path / "report.csv").read_text().splitlines()
    assert len(lines) == 1 + len(run("report", rows[1], "--json").json)
    text = run("report", rows[0]).out
    assert "| 5,120 | auto | optimal |" in text
    assert text.count("\n") == 2 + len(run("report", rows[0], "--json").json)


def test_the_page_of_rows_holds_steps_and_assumptions(run, rows: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    run("report", rows[0], "-o", out)
    page = out.read_text()
    assert page.count("<figure") == 3
    assert "proved</summary>" in page
    assert "gemmini_default</summary>" in page
    assert "Bytes are facts." in page
    assert "http://" not in re.sub(r"http://(www\.w3\.org|purl\.org|creativecommons\.org)", "", page)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.csv", None, "there is no such file"),
        ("other.csv", "a,b\n1,2\n", "holds no rows"),
        ("empty.jsonl", "", "holds no rows"),
        ("binary.csv", "\0\1\2", "holds no rows"),
        ("null.jsonl", '{"model": null}\n', "holds no rows"),
        ("plan.json", "{}", "give the model of the plan too"),
    ],
)
def test_files_that_hold_no_rows(run, tmp_path: Path, name: str, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    outcome = run("report", tmp_path / name)
    assert outcome.code == 2
    assert said in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1600, "light")])
def test_the_page_of_rows_filters_and_sorts(
    browser, run, rows: tuple[Path, Path], folder: Path, width: int, scheme: str
) -> None:
    out = folder / "rows.html"
    run("report", rows[0], "-o", out)
    look(browser, out, width, scheme)
    shown = "return [...document.querySelectorAll('#rows tbody tr')].filter((r) => !r.hidden).map((r) => r.cells[7].textContent)"
    assert len(browser.execute_script(shown)) == len(run("report", rows[0], "--json").json)
    find(browser, "#find").send_keys("gemmini optimal")
    assert browser.execute_script(shown) == ["262,144"]
    find(browser, "#find").clear()
    find(browser, "#find").send_keys(" ")
    heads = browser.find_elements("css selector", "#rows th button")
    browser.execute_script("arguments[0].click()", heads[7])
    sizes = [int(text.replace(",", "")) for text in browser.execute_script(shown)]
    assert sizes == sorted(sizes)
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    svg = "const svg = document.querySelector('figure svg'); return [svg.clientWidth, svg.width.baseVal.value]"
    wide, own = browser.execute_script(svg)
    assert abs(wide - own) <= 1, "figures scroll, they do not shrink"
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_reasons_take_few_lines(browser, run, rows: tuple[Path, Path], folder: Path) -> None:
    out = folder / "compared.html"
    run("report", rows[1], "-o", out)
    look(browser, out, 1400, "light")
    high = "return Math.max(...[...document.querySelectorAll('#rows tbody tr')].map((r) => r.offsetHeight))"
    letters = "return Math.max(...[...document.querySelectorAll('#rows td.wide')].map((c) => c.textContent.length))"
    assert browser.execute_script(letters) > 100
    assert browser.execute_script(high) < 80  # pixels: at most three lines
