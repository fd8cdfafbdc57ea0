"""The page as a document: complete in itself, escaped, and in order."""

import json
import re
from collections import Counter
from html.parser import HTMLParser

import pytest
from tests import sample_results

from haqa_contract import Workload
from haqa_operator.api.status import MeasuredWith
from haqa_operator.decision.results import Exclusion
from haqa_operator.report.html import render_html

VOID = {"meta", "link", "br", "img", "hr", "input", "source", "col", "wbr", "base"}


class Page(HTMLParser):
    """What a browser would make of it, as far as these tests ask."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif not self.open or self.open[-1] != "style":
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.tags if name == tag]

    def says(self, text: str) -> bool:
        return text in re.sub(r"\s+", " ", "".join(self.text))


def page_of(name: str) -> Page:
    return Page(render_html(sample_results.SAMPLES[name]()))


@pytest.mark.parametrize("name", sample_results.SAMPLES)
def test_page_is_well_formed_and_links_to_nothing_that_is_not_in_it(name: str) -> None:
    page = page_of(name)
    assert page.open == []
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert [key for key, times in Counter(ids).items() if times > 1] == []
    assert {link["href"].removeprefix("#") for link in page.all("a")} <= set(ids)
    labels = [attrs["aria-labelledby"] for _, attrs in page.tags if "aria-labelledby" in attrs]
    assert set(labels) <= set(ids)


@pytest.mark.parametrize("name", sample_results.SAMPLES)
def test_page_needs_no_network(name: str) -> None:
    page = page_of(name)
    addresses = [attrs[key] for _, attrs in page.tags for key in ("src", "href", "srcset", "data") if key in attrs]
    assert all(address.startswith("#") for address in addresses)
    assert page.all("link") == page.all("iframe") == page.all("object") == []
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline'; img" in policy
    assert "'unsafe-inline'" not in policy.partition("style-src")[0]


def test_only_the_pages_own_programs_are_in_it() -> None:
    page = page_of("hostile")
    kinds = Counter(script.get("type", "program") for script in page.all("script"))
    assert kinds == {"application/json": 1, "program": 2}
    assert not [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)]


def test_text_from_outside_is_shown_and_not_run() -> None:
    report = sample_results.hostile()
    page = Page(render_html(report))
    assert page.all("img") == []
    assert page.says('<script>alert("agent")</script>')
    assert page.says("</script><script>alert(1)</script>")
    names = [attrs.get("id") for _, attrs in page.tags]
    assert "injected" not in names


def test_figures_are_data_that_cannot_end_their_element() -> None:
    page = page_of("hostile")
    figures = json.loads(page.scripts[0])
    assert "<" not in page.scripts[0]
    assert set(figures) == {f"pool-this-machine-{key}" for key in ("trade-off", "levels", "progress", "timeline")}


def test_answer_comes_before_everything_else() -> None:
    text = render_html(sample_results.winner())
    places = [text.index(part) for part in ('class="answer winner"', "<figure", 'class="sortable"', 'id="glossary"')]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("winner", ("Serve", "2.44×", "The search ended because budget.maxTrials 12 is used up", "kubectl apply -f")),
        ("baseline-best", ("Keep the unquantized model", "no agent is configured (search.agent); bayesian proposes")),
        ("nothing-feasible", ("No configuration keeps the limits",)),
        ("no-measurement", ("Nothing could be measured", "MambaFormerForCausalLM")),
        ("two-pools", ("All pools", "Pool avx512", "Pool avx2", "ONEDNN_MAX_CPU_ISA=AVX2")),
        ("one-trial", ("the search has not ended",)),
        ("forty-trials", ("llama-3-8b-on-l40s", "Accuracy")),
    ],
)
def test_page_says(name: str, texts: tuple[str, ...]) -> None:
    page = page_of(name)
    assert [text for text in texts if not page.says(text)] == []


def test_reasoning_failures_exclusions_and_fallbacks_are_told() -> None:
    page = page_of("winner")
    for text in (
        "Decoding is bound by memory bandwidth and INT8 halves the weights",
        "the engine was killed while compiling: it asked for 25.1 GiB",
        "WARNING memory 98 %",
        "the agent proposed candidate 99, which is not in the list",
        "has 704 columns, which 128 does not divide",
        "engine and load generator disagreed by 12 %",
    ):
        assert page.says(text), text


def test_manifest_and_command_can_be_copied() -> None:
    page = page_of("winner")
    copied = {button["data-copies"] for button in page.all("button") if "data-copies" in button}
    assert copied == {"command", "spec", "pool-this-machine-yaml"}
    assert page.says("haqa tune examples/demo.yaml")
    assert page.says("kind: Deployment")


def test_spec_is_given_as_its_author_wrote_it_where_that_is_known() -> None:
    report = sample_results.winner().model_copy(update={"spec_yaml": "# my own comment\nkind: QuantizationTuning\n"})
    assert Page(render_html(report)).says("# my own comment")
    assert page_of("winner").says("apiVersion: haqa.dev/v1alpha1 kind: QuantizationTuning")


def test_every_plot_says_what_it_shows_to_those_who_do_not_see_it() -> None:
    plots = [attrs for attrs in page_of("winner").all("div") if attrs.get("class") == "plot"]
    assert len(plots) == 4
    assert all(plot["role"] == "img" and len(plot["aria-label"] or "") > 40 for plot in plots)


def test_same_report_gives_the_same_page() -> None:
    report = sample_results.winner()
    assert render_html(report) == render_html(report)


def test_tuning_without_results_has_a_page_too() -> None:
    report = sample_results.winner().model_copy(update={"pools": ()})
    assert Page(render_html(report)).says("No pool has been tuned yet.")


def test_report_survives_being_written_as_json() -> None:
    report = sample_results.two_pools()
    assert type(report).model_validate_json(report.model_dump_json(by_alias=True)) == report


def test_a_pool_without_a_winner_stands_beside_one_that_has_one() -> None:
    page = Page(render_html(sample_results.one_of_two_pools()))
    overview = "".join(page.text).partition("All pools")[2]
    assert "none" in overview.partition("avx2")[2]


def test_what_a_trial_has_ruled_out_leads_to_that_trial() -> None:
    report = sample_results.winner()
    lesson = Exclusion(parameters={"scheme": "W4A16"}, reason="trial 5 ended with EngineOOM", trial=5)
    pool = report.pools[0].model_copy(update={"exclusions": (lesson, *report.pools[0].exclusions)})
    page = Page(render_html(report.model_copy(update={"pools": (pool,)})))
    assert any(link["href"].endswith("-trial-5") for link in page.all("a"))
    assert page.says("trial 5 ended with EngineOOM")
    assert page.says("beforehand")


def test_a_pool_is_shown_with_what_it_was_measured_with_and_not_with_the_tuning_s_defaults() -> None:
    report = sample_results.SAMPLES["winner"]()
    used = MeasuredWith(workload=Workload(concurrency=(1, 8, 64), dataset="file:///<prompts>.jsonl"))
    pools = tuple(pool.model_copy(update={"measured_with": used}) for pool in report.pools)
    page = Page(render_html(report.model_copy(update={"pools": pools})))
    assert page.says("Measured with concurrency 1, 8, 64, prompts from file:///<prompts>.jsonl, cut to 256")
