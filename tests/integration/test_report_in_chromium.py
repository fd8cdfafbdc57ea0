"""The report in a real browser: it draws, complains about nothing, asks nobody, and fits where it is read."""

import base64
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import sample_results
from tests.chromium import Browser, Tab

from haqa_operator.report.html import render_html


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as running:
        yield running


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Sample name -> file of its report."""
    folder = tmp_path_factory.mktemp("reports")
    files = {}
    for name, sample in sample_results.SAMPLES.items():
        files[name] = folder / f"{name}.html"
        files[name].write_text(render_html(sample()), encoding="utf-8")
    return files


@pytest.fixture
def tab(browser: Browser) -> Iterator[Tab]:
    tab = browser.tab()
    yield tab
    tab.close()


@pytest.mark.parametrize("name", sample_results.SAMPLES)
def test_every_plot_is_drawn_without_a_complaint_or_a_request(tab: Tab, pages: dict[str, Path], name: str) -> None:
    tab.emulate()
    tab.open(pages[name])
    plots = "[...document.querySelectorAll('.plot[role=img]')]"
    marks = tab.evaluate(f"{plots}.map(plot => plot.querySelectorAll('.point').length)")
    assert marks
    assert min(marks) >= 1
    assert tab.complaints == []
    assert tab.requests == [pages[name].as_uri()]


def test_text_from_outside_runs_nothing(tab: Tab, pages: dict[str, Path]) -> None:
    tab.emulate()
    tab.open(pages["hostile"])
    assert tab.evaluate("document.getElementById('injected') === null")
    assert tab.evaluate("document.querySelectorAll('main script, main img').length") == 0
    assert tab.evaluate("document.body.textContent.includes('<script>alert(\"agent\")</script>')")
    assert tab.complaints == []


@pytest.mark.parametrize("name", ["winner", "hostile"])
@pytest.mark.parametrize("width", [320, 400, 1280])
def test_page_never_scrolls_sideways(tab: Tab, pages: dict[str, Path], name: str, width: int) -> None:
    tab.emulate(width=width)
    tab.open(pages[name])
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    widest = "Math.max(...[...document.querySelectorAll('.plot .main-svg')].map(s => s.getBoundingClientRect().right))"
    assert tab.evaluate(widest) <= width


@pytest.mark.parametrize("dark", [False, True])
def test_text_has_enough_contrast_in_light_and_in_dark(tab: Tab, pages: dict[str, Path], dark: bool) -> None:
    tab.emulate(dark=dark)
    tab.open(pages["winner"])
    assert tab.evaluate(CONTRAST) >= 4.5


CONTRAST = """
(() => {
  const light = (colour) => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map(Number)
      .map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const behind = (element) => {
    const colour = getComputedStyle(element).backgroundColor;
    return /, 0\\)$/.test(colour) && element.parentElement ? behind(element.parentElement) : colour;
  };
  const texts = [...document.querySelectorAll('main *, header *')]
    .filter((e) => !e.closest('.plot') && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()));
  return Math.min(...texts.map((element) => {
    const [a, b] = [light(getComputedStyle(element).color), light(behind(element))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  }));
})()
"""


def test_button_turns_page_and_plots_dark_and_light_again(tab: Tab, pages: dict[str, Path]) -> None:
    tab.emulate()
    tab.open(pages["winner"])
    text = "document.querySelector('.plot')._fullLayout.font.color"
    colours = f"[getComputedStyle(document.body).backgroundColor, {text}]"
    light = tab.evaluate(colours)
    tab.evaluate("document.getElementById('theme').click()")
    tab.wait(f"{text} !== '{light[1]}'")
    dark = tab.evaluate(colours)
    assert dark[0] != light[0]
    tab.evaluate("document.getElementById('theme').click()")
    tab.wait(f"{text} === '{light[1]}'")
    assert tab.evaluate(colours) == light


def test_table_sorts_by_a_press_on_its_heading(tab: Tab, pages: dict[str, Path]) -> None:
    tab.emulate()
    tab.open(pages["winner"])
    order = "[...document.querySelectorAll('table.sortable tbody tr')].map(row => Number(row.cells[0].textContent))"
    assert tab.evaluate(order) == list(range(8))
    press = "document.querySelectorAll('table.sortable thead button')[3].click()"
    tab.evaluate(press)
    assert tab.evaluate(order) == [7, 5, 3, 1, 0, 4, 2, 6]
    assert tab.evaluate("document.querySelectorAll('table.sortable thead th')[3].ariaSort") == "descending"
    tab.evaluate(press)
    assert tab.evaluate(order) == [4, 0, 1, 3, 5, 7, 2, 6], "trials without a value stay last"


def test_link_to_a_trial_opens_it(tab: Tab, pages: dict[str, Path]) -> None:
    tab.emulate()
    tab.open(pages["winner"])
    tab.evaluate("document.querySelector('a[href=\"#pool-this-machine-trial-2\"]').click()")
    tab.wait("document.getElementById('pool-this-machine-trial-2').open")


def test_printed_page_shows_everything_in_black_on_white(tab: Tab, pages: dict[str, Path]) -> None:
    tab.emulate(dark=True)
    tab.open(pages["winner"])
    tab.emulate(dark=True, media="print")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.evaluate("[...document.querySelectorAll('details')].every(each => each.open)")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.evaluate("[...document.querySelectorAll('button')].every(b => getComputedStyle(b).display === 'none')")
    assert tab.evaluate("document.querySelector('.plot')._fullLayout.font.color") == "#000000"
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    tab.emulate(dark=True)
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 29)"


def test_marks_answer_to_the_pointer_with_plain_text(tab: Tab, pages: dict[str, Path]) -> None:
    tab.emulate()
    tab.open(pages["hostile"])
    hover = "Plotly.Fx.hover('pool-this-machine-trade-off', [{ curveNumber: 1, pointNumber: 0 }])"
    tab.evaluate(f"{hover}; true")
    tab.wait("document.querySelector('#pool-this-machine-trade-off .hovertext')")
    assert tab.evaluate("document.querySelectorAll('.hovertext a, .hovertext image').length") == 0
    assert tab.complaints == []


def test_page_can_be_photographed_whole(tab: Tab, pages: dict[str, Path]) -> None:
    tab.emulate()
    tab.open(pages["winner"])
    picture = base64.b64decode(tab.screenshot())
    width, height = struct.unpack(">II", picture[16:24])
    assert picture.startswith(b"\x89PNG")
    assert width == 1280
    assert height > 3000
