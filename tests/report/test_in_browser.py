"""The report in a real browser: it complains of nothing, asks for nothing, its filters work, and 10,000 samples open quickly."""

import base64
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import chromium
import runs

from factory.report import build_report
from factory.report.side_by_side import build_comparison

pytestmark = pytest.mark.skipif(chromium.program() is None, reason="no Chromium is installed; `apt install chromium` to run it")

NUM = 10_000
OPEN_CPU_S = 3.0
"""Most CPU seconds of the page's main thread until 10,000 samples are filtered and listed; 0.5 were seen."""


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    folder = runs.make_run(tmp_path_factory.mktemp("runs") / "large", num_samples=NUM, num_images=24)
    return build_report(folder)


@pytest.fixture(scope="module")
def page(large, tmp_path_factory):
    with chromium.Page(tmp_path_factory.mktemp("chromium")) as page:
        page.open(large)
        page.until("document.querySelectorAll('#rows details').length > 0")
        page.opened = page.cpu_s()
        yield page


def found(page):
    return int(page.js("document.getElementById('found').textContent").split(" of ")[0].replace(",", ""))


def choose(page, **values):
    """Reset, set filters and wait until they are drawn."""
    page.js("document.getElementById('reset').click()")
    for name, value in values.items():
        event = "input" if name == "q" else "change"
        page.js(
            f"(e => {{ e.value = {value!r}; e.dispatchEvent(new Event({event!r})); }})(document.getElementById({name.replace('_', '-')!r}))"
        )
    page.js("new Promise(done => setTimeout(done, 250))")
    return found(page)


def count(wanted):
    return sum(wanted(number) for number in range(NUM))


def masked(number):
    return number % 100 == 99


def right(stage, number):
    return runs.is_right(stage, number) and not (stage == "rl" and masked(number))


def test_it_complains_of_nothing_and_asks_for_nothing(page):
    assert page.complaints() == [] and page.requests() == []


def test_ten_thousand_samples_open_quickly(page):
    assert page.opened["TaskDuration"] < OPEN_CPU_S
    # Rows are drawn as they are looked at: one page of them now, and the whole page has few nodes.
    assert page.js("document.querySelectorAll('#rows details').length") <= 120
    assert page.opened["Nodes"] < 20_000


def test_charts_are_drawn(page):
    boxes = page.js(
        "[...document.querySelectorAll('figure.chart svg')].map(s => s.getBoundingClientRect()).map(b => [b.width, b.height])"
    )
    assert len(boxes) > 12 and all(width > 150 and height > 60 for width, height in boxes)
    assert page.js("[...document.querySelectorAll('figure.chart svg')].every(s => s.getAttribute('aria-label').length > 10)")


def test_filters_find_what_the_files_hold(page):
    wrong = count(lambda n: not right("rl", n) and not masked(n))
    assert choose(page, f_show="all") == NUM
    assert choose(page, f_show="wrong") == wrong
    assert choose(page, f_show="masked") == NUM // 100
    assert choose(page, f_show="gained") == count(lambda n: right("rl", n) and not right("sft", n))
    assert choose(page, f_show="lost") == count(lambda n: right("sft", n) and not right("rl", n) and not masked(n))
    assert choose(page, f_show="all", f_task="2") == NUM // 4
    assert choose(page, f_show="all", f_status="0") == count(lambda n: not right("rl", n) and not masked(n))
    assert choose(page, f_show="right", f_stage="1") == NUM // 2
    page.js("document.getElementById('f-stage').value = '2'")
    assert choose(page, f_show="all", q="Question 123 ") == count(lambda n: "123" in str(n))  # every word, anywhere
    assert choose(page, f_show="all", q="nothing says this") == 0


def test_rows_open_by_keyboard_and_show_text_as_text(page):
    choose(page, f_show="all")
    page.js("document.querySelector('#rows summary').focus()")
    for kind in ("keyDown", "keyUp"):
        page.call(
            "Input.dispatchKeyEvent",
            type=kind,
            key="Enter",
            code="Enter",
            windowsVirtualKeyCode=13,
            text="\r" if kind == "keyDown" else "",
        )
    page.until("document.querySelector('#rows details .ans') !== null")
    text = page.js("document.querySelector('#rows details .body').textContent")
    assert "question 0 <script>alert(1)</script>" in text and "<think>thought 0 of rl</think>" in text
    assert page.js("document.querySelector('#rows .body img').naturalWidth") == 1
    assert page.js("document.querySelector('#rows .body img').alt").startswith("Input image of sample")


def test_more_rows_come_when_asked(page):
    choose(page, f_show="all")
    before = page.js("document.querySelectorAll('#rows details').length")
    page.js("document.getElementById('more').click()")
    assert page.js("document.querySelectorAll('#rows details').length") == before + 60


CONTRAST = """(() => {
  const parse = (c) => c.match(/[\\d.]+/g).map(Number), light = (v) => { v /= 255; return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; };
  const lum = ([r, g, b]) => .2126 * light(r) + .7152 * light(g) + .0722 * light(b);
  const ground = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  let worst = 99;
  for (const e of document.querySelectorAll('p,td,th,h1,h2,h3,a,label,span,button,summary,.v,figcaption')) {
    if (!e.textContent.trim() || !e.getClientRects().length) continue;
    const pair = [lum(parse(getComputedStyle(e).color)), lum(ground(e))].sort((a, b) => b - a);
    worst = Math.min(worst, (pair[0] + .05) / (pair[1] + .05));
  }
  return worst;
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(page, scheme):
    """4.5 : 1, WCAG 2.2 success criterion 1.4.3."""
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    assert page.js(CONTRAST) >= 4.5


def test_every_control_and_image_has_a_name(page):
    assert page.js("[...document.querySelectorAll('input,select')].every(e => e.labels.length > 0)")
    assert page.js("[...document.images].every(e => e.alt.length > 3)")
    assert page.js("[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.getAttribute('href')))")


def test_a_narrow_window_does_not_scroll_sideways(page):
    page.call("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=False)
    assert page.js("document.documentElement.scrollWidth") <= 390
    page.call("Emulation.clearDeviceMetricsOverride")


def test_tables_and_charts_need_no_script(tmp_path):
    report = build_report(runs.make_run(tmp_path / "run"))
    with chromium.Page(tmp_path, has_script=False) as page:
        page.open(report)
        assert page.complaints() == []
        shown = page.call("DOM.getDocument")["root"]["nodeId"]
        tables = page.call("DOM.querySelectorAll", nodeId=shown, selector="table")["nodeIds"]
        charts = page.call("DOM.querySelectorAll", nodeId=shown, selector="figure.chart svg")["nodeIds"]
        hidden = page.call("DOM.querySelectorAll", nodeId=shown, selector="#browser[hidden]")["nodeIds"]
        assert len(tables) >= 5 and len(charts) > 8 and len(hidden) == 1


def test_no_other_script_may_run(tmp_path):
    report = build_report(runs.make_run(tmp_path / "run"))
    report.write_text(report.read_text().replace("</main>", "<script>document.title = 'taken'</script></main>"))
    with chromium.Page(tmp_path) as page:
        page.open(report)
        assert page.js("document.title") != "taken" and any("Content Security Policy" in line for line in page.complaints())


def test_runs_side_by_side_in_the_browser(tmp_path):
    folders = [runs.make_run(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 1))]
    out = build_comparison(folders, tmp_path / "compare.html")
    with chromium.Page(tmp_path) as page:
        page.open(out)
        page.until("document.querySelectorAll('#rows details').length > 0")
        assert page.complaints() == [] and page.requests() == []
        assert page.js("[...document.querySelectorAll('#f-stage option')].map(o => o.textContent)") == ["a: rl", "b: rl"]
        assert len(base64.b64encode(page.screenshot())) > 1000
