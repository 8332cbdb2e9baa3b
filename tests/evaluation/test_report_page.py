"The page of an audit: whole, escaped, readable, and nothing in it but the evidence"

import copy
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fine_tune_llm.evaluation.markdown import render_markdown
from fine_tune_llm.evaluation.pages import templates
from fine_tune_llm.evaluation.report import render_report, report_fragment

sys.path.insert(0, str(Path(__file__).parent))
from made_evidence import (  # noqa: E402
    full_evidence,
    gap,
    open_evidence,
    predictions_evidence,
)

VOID = {"meta", "br", "wbr", "link", "img", "hr", "input"}
MANY = [f"class_number_{k}" for k in range(77)]
EVIDENCE = {
    "full": full_evidence(),
    "predictions": predictions_evidence(),
    "open": open_evidence(),
    "77 classes": full_evidence(MANY),
}
PAGES = {name: render_report(one) for name, one in EVIDENCE.items()}


class Page(HTMLParser):
    "A page as a parser of HTML sees it; broken nesting is an error"

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.open = [], [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs), list(self.open)))
        if tag not in VOID and "svg" not in self.open:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs), list(self.open)))

    def handle_endtag(self, tag):
        if "svg" in self.open and tag != "svg":
            return
        assert self.open and self.open[-1] == tag, (tag, self.open[-5:])
        self.open.pop()

    def handle_data(self, data):
        if not {"style", "script", "svg"} & set(self.open):
            self.texts.append(data)

    def of(self, *names):
        return [(tag, attrs) for tag, attrs, _ in self.tags if tag in names]

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(params=PAGES)
def name(request):
    return request.param


# A page by itself


def test_nothing_is_fetched_and_one_script_may_run(name):
    page = Page(PAGES[name])
    links = [value for _, a, _ in page.tags for k, value in a.items() if k in LINKS]
    assert links and all(link.startswith("#") for link in links)
    assert not re.search(r"url\((?!#)|@import", PAGES[name])
    assert not page.of("link", "iframe", "object", "embed", "base", "form")
    assert [attrs for _, attrs in page.of("script")] == [{}]
    assert not [a for _, attrs, _ in page.tags for a in attrs if a.startswith("on")]


LINKS = {"href", "src", "xlink:href", "action", "data", "srcset", "poster"}


def test_the_policy_names_the_script_that_runs():
    import base64
    import hashlib

    found = re.search("<script>(.*?)</script>", PAGES["full"], re.S)[1]
    digest = base64.b64encode(hashlib.sha256(found.encode()).digest()).decode()
    policy = dict(Page(PAGES["full"]).of("meta")[2][1])["content"]
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_landmarks_headings_and_links(name):
    page = Page(PAGES[name])
    assert page.of("html")[0][1]["lang"] == "en"
    for landmark in ("header", "nav", "main", "footer"):
        assert len(page.of(landmark)) == 1
    levels = [int(tag[1]) for tag, _ in page.of("h1", "h2", "h3", "h4")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:]))
    ids = [attrs["id"] for _, attrs, _ in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = [attrs["href"][1:] for _, attrs in page.of("a") if attrs.get("href")]
    assert set(links) <= set(ids)


def test_findings_come_first_and_hashes_last():
    page = Page(PAGES["full"])
    order = [attrs["id"] for _, attrs in page.of("section")]
    assert order[:2] == ["findings", "promises"]
    assert order[-1] == "fingerprints"
    places = [
        PAGES["full"].index(said)
        for said in (
            "2026-11-29",
            "Sorts messages to a nurse",
            "Not to be used as it is",
            "64.4% [56.4, 71.8] of 160 texts",
            "13.4% [8.5, 20.4] of 127",
            'id="promises"',
        )
    ]
    assert places == sorted(places)


def test_the_page_is_whole_without_scripts(name):
    body = PAGES[name].split("<script>")[0]
    page = Page(PAGES[name])
    assert not re.search(r"<[^>]* hidden[ >=]", body)
    assert len(page.of("section")) == 22
    assert not page.of("button")  # the script makes them
    for _, attrs in page.of("table"):
        assert attrs["aria-label"]


def test_tables_have_heads_and_full_rows(name):
    for table in re.findall("<table.*?</table>", PAGES[name], re.S):
        width = len(re.findall('<th scope="col"', table))
        assert width
        rows = re.findall("<tr>(.*?)</tr>", table.split("<tbody>")[1], re.S)
        for row in rows:
            assert len(re.findall("<t[hd][ >]", row)) == width


def test_same_evidence_same_bytes(name):
    again = copy.deepcopy(EVIDENCE[name])
    before = json.dumps(again, sort_keys=True)
    assert render_report(again) == PAGES[name]
    assert render_markdown(again) == render_markdown(EVIDENCE[name])
    assert json.dumps(again, sort_keys=True) == before  # nothing is written into it


def test_a_page_of_77_classes_stays_readable():
    page = PAGES["77 classes"]
    shown = re.sub("<details>.*?</details>", "", page, flags=re.S)
    assert max(len(re.findall("<tr>", t)) for t in shown.split("<table")[1:]) <= 22
    assert "the matrix is in" in page
    assert len(page) < 3_000_000


# What was not evaluated


def test_every_open_part_says_why(name):
    text = Page(PAGES[name]).text
    for part, value in EVIDENCE[name].items():
        if isinstance(value, dict) and value.get("evaluated") is False:
            assert value["reason"] in text, part


def leaves(value, path=()):
    "Paths of all parts and numbers of an audit"
    if path:
        yield path
    if isinstance(value, dict):
        for key, one in value.items():
            yield from leaves(one, (*path, key))
    elif isinstance(value, list) and value:
        yield from leaves(value[0], (*path, 0))


def without(evidence, path, put):
    found = copy.deepcopy(evidence)
    holder = found
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = put
    return found


NUMBERS = [
    path
    for path in leaves(full_evidence())
    if isinstance(path[-1], str) and path[0] not in ("version", "identity")
]


def value_at(evidence, path):
    for key in path:
        evidence = evidence[key]
    return evidence


MEASURED = [p for p in NUMBERS if isinstance(value_at(full_evidence(), p), dict)]
MEASURED = [p for p in MEASURED if "value" in value_at(full_evidence(), p)]
MEASURED = [path for path in MEASURED if path[0] != "findings"]


@pytest.mark.parametrize("path", MEASURED, ids=lambda path: ".".join(map(str, path)))
def test_any_number_may_be_open(path):
    evidence = without(full_evidence(), path, gap("nobody counted it"))
    text = Page(without_pictures(evidence)).text
    assert "nobody counted it" in text
    assert "nobody counted it" in render_markdown(evidence) or path[0] != "performance"


def without_pictures(evidence):
    "As `render_report`, without drawing, which takes the time"
    from fine_tune_llm.evaluation.report import report_values

    page = templates(strict=False).get_template("report.html.j2")
    pictures = dict.fromkeys(re.findall(r"\bfig_\w+", ALL_TEMPLATES), "")
    return page.render(report_values(evidence) | pictures | {"script": ""})


ALL_TEMPLATES = "".join(
    path.read_text()
    for path in Path(templates.__wrapped__.__code__.co_filename)
    .parent.joinpath("templates")
    .glob("*.j2")
)


@pytest.mark.parametrize("part", [p for p in full_evidence() if p != "identity"])
def test_a_part_may_be_open_or_absent(part):
    if part == "version":
        return
    evidence = full_evidence() | {part: gap("it was not asked for")}
    for text in (without_pictures(evidence), render_markdown(evidence)):
        assert "it was not asked for" in text
    del evidence[part]
    Page(without_pictures(evidence))
    Page(report_fragment(evidence))


# Text from outside

EVIL = (
    "<script>alert('x')</script>",
    "\"'><img src=x onerror=alert(1)>",
    "</style></title><b>&amp;{{ 7*7 }}",
    "\u202etxet\u202c \u200b\u2066",
    "x" * 100_000,
    "a|b\n# head\n- item `code` [link](http://x.y) ![i](http://x.y) <http://x.y>",
    "`unpaired",
    "",
)
# What the evidence says in words of its own, not of data
OWN = {"severity", "status", "reason", "said", "metric", "unit", "part"}


def planted(value, evil, key=""):
    "The evidence with a text in place of every text, also of names that are keys"
    if isinstance(value, dict):
        named = {"per_class", "by_group", "thresholds", "reference", "missing"}
        found = {k: planted(v, evil, k) for k, v in value.items()}
        if key in named:
            return {f"{evil[:90]}{i}": v for i, v in enumerate(found.values())}
        return found
    if isinstance(value, list):
        return [planted(one, evil, key) for one in value]
    return evil if isinstance(value, str) and key not in OWN else value


@pytest.mark.parametrize("evil", EVIL, ids=range(len(EVIL)))
def test_text_from_outside_is_only_shown(evil):
    evidence = planted(full_evidence(), evil)
    plain = Page(PAGES["full"])
    text = without_pictures(evidence)
    page = Page(text)
    assert len(page.of("script")) == 1
    assert not page.of("img", "b ") and "onerror" not in str(page.of("img"))
    assert {tag for tag, _, _ in page.tags} <= {tag for tag, _, _ in plain.tags}
    assert "\u202e" not in text and "\u200b" not in text
    assert "x" * 3000 not in text
    Page(report_fragment(evidence))
    assert "<script" not in report_fragment(evidence)


@pytest.mark.parametrize("evil", EVIL[:-1], ids=range(len(EVIL) - 1))
def test_text_from_outside_is_only_shown_in_markdown(evil):
    from markdown_it import MarkdownIt

    text = render_markdown(planted(full_evidence(), evil))
    read = MarkdownIt("commonmark", {"html": True}).enable("table")
    tokens = [t for one in read.parse(text) for t in [one, *(one.children or [])]]
    kinds = {token.type for token in tokens}
    assert not {"html_block", "link_open", "image"} & kinds
    inline = {token.content for token in tokens if token.type == "html_inline"}
    assert inline <= {"<span>", "</span>"}  # around a sign of a formula
    heads = [token for token in tokens if token.type == "heading_open"]
    plain = read.parse(render_markdown(full_evidence()))
    assert len(heads) == len([t for t in plain if t.type == "heading_open"])
    assert "\u202e" not in text and "x" * 3000 not in text


def test_texts_of_rows_are_shown_only_when_the_evidence_has_them():
    evidence = full_evidence()
    for row in evidence["performance"]["errors"]["rows"]:
        row["text"] = "my chest hurts"
    assert "my chest hurts" in without_pictures(evidence)
    assert "Texts are left out" in PAGES["full"]
    assert "Texts are left out" not in without_pictures(evidence)
    assert "my chest hurts" not in report_fragment(evidence)


def test_text_from_outside_is_only_shown_in_pictures():
    names = {"channel": f"{EVIL[1]}\u202e"}
    evidence = full_evidence()
    for rate in evidence["fairness"]["rates"]:
        rate["view"] = names.get(rate["view"], rate["view"])
        rate["cell"] = [EVIL[0] + "$x$" + one for one in rate["cell"]]
    text = render_report(evidence | {"data": gap("none")})
    assert len(Page(text).of("script")) == 1 and not Page(text).of("img")
    assert "\u202e" not in text


# Numbers


def test_every_number_of_the_page_is_in_the_evidence():
    "Each decimal of the page is a number of the evidence in one of its units"
    from fine_tune_llm.evaluation.wording import KINDS, shown

    decimal = re.compile(r"\d+\.\d+")
    evidence = full_evidence()
    written = set(decimal.findall(ALL_TEMPLATES + json.dumps(list(texts_of(evidence)))))
    for number in numbers_of(evidence):
        ends = {"value": number, "low": number, "high": 1 - number}
        for kind in KINDS:
            written |= set(decimal.findall(str(shown(ends, kind))))
    found = decimal.findall(Page(PAGES["full"]).text)
    assert len(set(found)) > 100
    assert not set(found) - written


def numbers_of(value):
    "All numbers of an audit, and what an alpha or a delta leaves"
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from numbers_of(one)
    elif isinstance(value, (int, float)):
        yield value


def texts_of(value):
    "All texts of an audit"
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from texts_of(one)
    elif isinstance(value, str):
        yield value


# Colours


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [
        x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def schemes():
    css = templates().loader.get_source(templates(), "style.css")[0]
    blocks = re.findall(r":root \{(.*?)\}", css, re.S)
    found = [dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in blocks]
    return dict(zip(("light", "dark", "print"), found, strict=True))


TEXT_ON = [
    *(("ink", page) for page in ("page", "code", "good", "warn", "bad", "calm")),
    *(("soft", page) for page in ("page", "good", "warn", "bad", "calm")),
    *(("link", page) for page in ("page", "calm")),
    ("goodline", "good"),
    ("warnline", "warn"),
    ("badline", "bad"),
    ("calmline", "calm"),
    *(("warnline", page) for page in ("page", "good", "bad", "calm")),
]


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
@pytest.mark.parametrize("ink,page", TEXT_ON)
def test_contrast_is_aa(scheme, ink, page):
    colours = schemes()["light"] | schemes()[scheme]
    assert contrast(colours[ink], colours[page]) >= 4.5


@pytest.mark.parametrize("scheme", ["dark", "print"])
def test_marks_of_plots_can_be_seen(scheme):
    colours = schemes()[scheme]
    for mark in ("mark", "mark2", "guide"):
        assert contrast(colours[mark], colours["page"]) >= 3


def test_contrast_by_hand():
    "Black on white is 21 to 1; WCAG 2.2 has 4.54 for #767676 on white"
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.005)


def test_tags_of_the_fragment_are_aa():
    css = templates().loader.get_source(templates(), "fragment.css")[0]
    pairs = re.findall(r"background: (#\w{6}); color: (#\w{6})", css)
    assert len(pairs) == 4
    assert all(contrast(*pair) >= 4.5 for pair in pairs)


def test_the_fragment_keeps_to_itself():
    "Style of its own only, no ids that clash with another audit on the page"
    text = report_fragment(full_evidence())
    page = Page(text)
    assert not [attrs for _, attrs, _ in page.tags if "id" in attrs]
    css = re.search("<style>(.*?)</style>", text, re.S)[1]
    rules = re.findall(r"([^{}]+)\{", css)
    assert rules
    for rule in rules:
        assert all(one.strip().startswith(".ftllm-audit") for one in rule.split(","))
    assert "Not to be used as it is" in page.text and "ece <= .03" in page.text


# What nobody would show


def test_no_cell_is_blank(name):
    for cell in re.findall("<t[dh][^>]*>(.*?)</t[dh]>", PAGES[name], re.S):
        assert re.sub("<[^>]+>", "", cell).strip()


def test_findings_with_one_cure_say_it_once():
    evidence = copy.deepcopy(EVIDENCE["full"])
    one = evidence["findings"][0] | {"severity": "low", "fix": "Collect more rows"}
    evidence["findings"] = [
        one | {"message": f"too few rows by {name}"} for name in ("age", "sex")
    ]
    for page in (render_report(evidence), render_markdown(evidence)):
        assert page.count("Collect more rows") == 1
        assert "Too few rows by age" in page and "Too few rows by sex" in page


def test_what_was_planted_and_what_checks_did_not_find_are_shown():
    evidence = copy.deepcopy(EVIDENCE["full"])
    turned = {"value": 0.02, "low": 0.01, "high": 0.05, "n": 300, "k": 7, "level": 0.95}
    row = {"name": "ignore", "class": None, "n": 300, "turned": turned}
    evidence["behaviour"]["injection"] = [row | {"p_value": 0.9, "adjusted": 1.0}]
    evidence["data"]["nothing_found"] = ["22 of 24 checks found nothing: balance"]
    page = render_report(evidence)
    assert "7/300" in page and "all texts" in page
    assert "22 of 24 checks found nothing: balance." in page


def test_a_change_that_may_be_chance_is_not_called_worse():
    evidence = copy.deepcopy(EVIDENCE["full"])
    change = {"value": 0.02, "low": -0.01, "high": 0.05}
    evidence["calibration"]["differences"] = {"ece": change}
    assert "no different beyond chance" in render_report(evidence)


def test_words_in_pictures_are_words():
    drawn = re.findall("<svg.*?</svg>", PAGES["full"], re.S)
    assert drawn and all("<text" in svg and "<glyph" not in svg for svg in drawn)
    assert max(map(len, drawn)) < 40_000
