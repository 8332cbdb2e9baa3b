"""Processors: false hits, idempotence, hostile texts, what a chain promises"""

import html
import json
import multiprocessing
import unicodedata
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fine_tune_llm.core.errors import ConfigurationError, IntegrityError
from fine_tune_llm.core.texts import is_blank
from fine_tune_llm.data import processors
from fine_tune_llm.data.fingerprints import text_hash
from fine_tune_llm.data.processors import PROCESSORS, Chain, with_argument

BUILT_IN = [
    "nfc",
    "whitespace",
    "control",
    "html_entities",
    "html_tags",
    "mask_urls",
    "mask_emails",
    "mask_phones",
    "keep_ends:40",
    "language",
]
IDEMPOTENT = ["nfc", "whitespace", "control", "mask_urls", "mask_emails", "keep_ends:9"]
# letters that matter to some processor, so that short texts are hard ones
LETTERS = st.text(
    st.one_of(
        st.sampled_from(
            "ab1 +0().-/<>!&;#@:www.http://\u0301\u200d\r\n\x00\ud83d\ude00"
        ),
        st.characters(),
    ),
    max_size=60,
)
_PIECES = """http:// www. a.b @ x@y.de +49 030 (555) 123 -4567 <b> </b> <!-- -->
<script> </script> &amp; &lt; ; ' " . , ( ) 각"""
PIECES = st.lists(
    st.sampled_from([*_PIECES.split(), "e\u0301", "\U0001f468\u200d\U0001f469", " "]),
    max_size=12,
).map("".join)
TEXTS = st.one_of(LETTERS, PIECES)


def processor(name):
    return with_argument(PROCESSORS, name)


@pytest.mark.parametrize("name", BUILT_IN)
@given(text=TEXTS)
def test_every_processor_makes_a_text_of_any_text_and_always_the_same(name, text):
    made = processor(name)(text)
    assert isinstance(made, str) and made == processor(name)(text)


@pytest.mark.parametrize("name", IDEMPOTENT)
@given(text=TEXTS)
def test_what_is_called_idempotent_is(name, text):
    once = processor(name)(text)
    assert processor(name)(once) == once


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_docstring_says_whether_it_is_idempotent(name):
    word = name.partition(":")[0]
    is_idempotent = word in {other.partition(":")[0] for other in IDEMPOTENT}
    assert PROCESSORS.get(word).__doc__.endswith("; idempotent") == is_idempotent


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_fingerprint_sees_every_processor(name):
    assert Chain([name]).process_all(processors._PROBES) != [*processors._PROBES]


@given(text=TEXTS)
def test_form_blanks_and_what_is_not_drawn_keep_the_fingerprint_of_a_text(text):
    made = Chain(["control", "nfc", "whitespace"]).process(text)
    plain = "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cs"))
    if plain == text:  # controls and halves of letters are part of a fingerprint
        assert text_hash(made) == text_hash(text)


# ---- HTML, beside the parser of the standard library


class _Words(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=False)
        self.words, self.hidden = [], 0

    def handle_starttag(self, tag, attributes):
        self.hidden += tag in ("script", "style")

    def handle_endtag(self, tag):
        self.hidden -= tag in ("script", "style")

    def handle_data(self, data):
        if not self.hidden:
            self.words.append(data)


PAGES = [
    "<p>Dear <b>all</b>,</p><p>see <a href='x.html' title=\"a > b\">this</a>.</p>",
    "<ul><li>one<li>two</ul><!-- no <b> --><table><tr><td>3<td>4</table>",
    "<script type=x>if (a < b && c > d) {}</script>text<style>p > a {}</style>",
    "<IMG SRC=x ALT='<none'>after <br/><hr />end",
    "<h1 class=big>Head</h1><!DOCTYPE html><div\nid=1\n>line</div>",
]


@pytest.mark.parametrize("page", PAGES)
def test_tags_go_as_a_parser_says(page):
    if "'<none'" in page:
        page = page.replace("<none", "none")
    parser = _Words()
    parser.feed(page)
    parser.close()
    told = "".join("".join(parser.words).split())
    assert "".join(processor("html_tags")(page).split()) == told


def test_words_of_two_blocks_do_not_run_together_and_of_one_word_do():
    assert processor("html_tags")("<p>one</p><p>two</p>").split() == ["one", "two"]
    assert processor("html_tags")("<b>u</b>nder") == "under"


@pytest.mark.parametrize(
    "text",
    [
        "a < b and c > d",
        "x<y>z",
        "if a<b: c>d",
        "List<String> x",
        "I <3 you",
        "<your-name> here",
        "<john@example.org>",
        "<- back, -> on, <>",
        "<b unclosed",
        "<p title='a>",
        "1<2<3",
    ],
)
def test_what_is_no_tag_stays(text):
    assert processor("html_tags")(text) == text


def test_what_is_not_closed_takes_nothing_along():
    assert processor("html_tags")("a<script>b<!-- c <style>d").split() == list("abcd")


@given(text=st.text(st.sampled_from("&;#x0123456789abcltgmpquon "), max_size=40))
def test_entities_with_a_semicolon_are_those_of_html(text):
    made = processor("html_entities")(text)
    if made != text:
        assert html.unescape(made) == html.unescape(text) or "&" in made


@pytest.mark.parametrize("digits", [8, 5000, 100_000])
def test_an_endless_number_is_no_entity(digits):
    text = f"&#{'9' * digits};"
    assert processor("html_entities")(text) == text


# ---- masks

URLS = {
    "http://a": "[URL]",
    "see HTTPS://X.org/?q=1&r=2#f.": "see [URL].",
    "(www.x.org)": "([URL])",
    "<http://x.org/a>": "<[URL]>",
    "http://x.org/a_(b), then": "[URL], then",
    "看http://x.org/好。再": "看[URL]。再",
    "[a](http://x.org)": "[a]([URL])",
    'href="ftp://x.org/y"': 'href="[URL]"',
    "http://x.org...": "[URL]...",
    "http://a.org http://b.org": "[URL] [URL]",
}
NO_URLS = ["e.g. this", "file.py", "http", "www", "www.", "http:/x", "shttp", "a://b"]
EMAILS = {
    "bob@example.org": "[EMAIL]",
    "Bob <bob.b+c@mail.example.co.uk>,": "Bob <[EMAIL]>,",
    "'bob@x.org'": "'[EMAIL]'",
    "--bob@x.org--": "--[EMAIL]--",
    "mailto:bob@x-y.org.": "mailto:[EMAIL].",
    "jörg@münchen.de": "[EMAIL]",
    "a@b.cc,d@e.ff": "[EMAIL],[EMAIL]",
    "x@xn--mnchen-3ya.xn--p1ai": "[EMAIL]",
    "o'neil@x.org": "[EMAIL]",
}
NO_EMAILS = ["@bob", "bob@", "bob@home", "pkg@1.2.3", "a @ b.de", "@x.org", "a@b.c"]
PHONES = [
    "+49 30 1234567",
    "+49 (0)30 1234567",
    "+49-171-1234567",
    "+491711234567",
    "0049 171 1234567",
    "+1 (555) 123-4567",
    "(555) 123-4567",
    "555-123-4567",
    "555.123.4567",
    "1-800-555-0199",
    "030 1234567",
    "0171/1234567",
    "07700 900123",
    "020 7946 0958",
    "01 23 45 67 89",
    "01.23.45.67.89",
    "+33 1 23 45 67 89",
    "+86 138 0013 8000",
]
NO_PHONES = [
    "01.02.2024",
    "2024-01-31",
    "12/31/2024 1200",
    "01.02.2024 12:30",
    "01-02-2024 1200",
    "03/04/24 0900",
    "12:30:45",
    "$1,234,567.89",
    "EUR 0123,45",
    "€ 1.234.567,00",
    "order 1234567890",
    "id 0123456789",
    "#0123 456 7890",
    "4111 1111 1111 1111",
    "0123-4567-8901-2345-6789",
    "012-3456789-0123456",
    "978-3-16-148410-0",
    "192.168.100.200",
    "123-45-6789",
    "v1.2.3-4567",
    "DE89 3704 0044 0532 0130 00",
    "1 000 000 000",
    "0.123456789",
    "+5 points",
    "3+4567890",
    "-0123 45678",
    "5551234",
    "100 200 3000",
]


@pytest.mark.parametrize("text", URLS)
def test_addresses_are_masked(text):
    assert processor("mask_urls")(text) == URLS[text]


@pytest.mark.parametrize("text", NO_URLS)
def test_what_is_no_address_stays(text):
    assert processor("mask_urls")(text) == text


@pytest.mark.parametrize("text", EMAILS)
def test_mails_are_masked(text):
    assert processor("mask_emails")(text) == EMAILS[text]


@pytest.mark.parametrize("text", NO_EMAILS)
def test_what_is_no_mail_stays(text):
    assert processor("mask_emails")(text) == text


@pytest.mark.parametrize("text", PHONES)
@pytest.mark.parametrize("around", ["{}", "call {}.", "({})", "{}, or {}!", "tel:{}"])
def test_telephone_numbers_are_masked(text, around):
    made = processor("mask_phones")(around.replace("{}", text))
    assert made == around.replace("{}", "[PHONE]")


@pytest.mark.parametrize("text", NO_PHONES)
@pytest.mark.parametrize("around", ["{}", "on {}.", "({}), {};"])
def test_dates_prices_and_ids_are_no_telephone_numbers(text, around):
    text = around.replace("{}", text)
    assert processor("mask_phones")(text) == text


# ---- head and tail


@given(text=TEXTS.map(lambda text: text * 4), chars=st.integers(8, 60))
def test_head_and_tail_have_no_more_than_they_may(text, chars):
    made = processor(f"keep_ends:{chars}")(text)
    assert len(made) <= max(chars, min(len(text), chars))
    if made != text:
        head, _, tail = made.partition(" … ")
        assert text.startswith(head)
        assert text.endswith(made[len(head) + 3 :])


SIGNS = [
    "e\u0301\u0323",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\U0001f44d\U0001f3fd",
    "\U0001f1e9\U0001f1ea",
    "\u2764\ufe0f",
    "\u1112\u1161\u11ab",
    "\u0915\u094d\u0937",
    "\ud83d\ude00",
    "\r\n",
]


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("chars", range(8, 24))
def test_no_sign_is_cut_in_two(sign, chars):
    for lead in ("", "x"):
        made = processor(f"keep_ends:{chars}")(lead + sign * 30)
        rest = made.replace(" … ", "").removeprefix(lead)
        assert rest == sign * (len(rest) // len(sign))


def test_a_text_of_accents_alone_is_not_searched_for_ever():
    assert processor("keep_ends:8")("\u0301" * 100_000) == " … "


# ---- hostile texts: one process, one bound, far above what a pass needs

BOMBS = [
    "a",
    "9",
    "0 ",
    "+",
    "+1",
    "+1 ",
    "00",
    "01-",
    "(12)",
    "+12 (3",
    "555-",
    "1-800-",
    "@",
    "a@",
    "a.",
    "a@a.",
    "a-",
    ".-'",
    "http://",
    "www.",
    "www.a",
    "http://a)",
    ")",
    "(",
    "<",
    "<a",
    "<a ",
    "<a b='",
    '<a "',
    "<!--",
    "<!-",
    "<script>",
    "<script",
    "</script",
    "<style><!--",
    "&",
    "&#",
    "&#x",
    "&a",
    "&amp",
    "\u0301",
    "\u200d",
    "\U0001f1e9",
    "\u200b\x00",
    " ",
    "\n",
    "и ",
    "的",
]


def _through_all(bombs, queue):
    for bomb in bombs:
        text = (bomb * 100_000)[:100_000]
        for end in ("", "!", "x", " 1", ">"):
            for name in BUILT_IN:
                processor(name)(text + end)
    queue.put("done")


def test_no_text_of_100_kilobytes_takes_more_than_a_pass():
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    work = context.Process(target=_through_all, args=(BOMBS, queue))
    work.start()
    work.join(180)  # 2,400 passes; one that backtracks takes longer alone
    is_done = not work.is_alive()
    work.kill()
    work.join()
    assert is_done and queue.get() == "done"


# ---- chains


def test_a_chain_is_checked_when_it_is_made():
    for names, words in (
        (["mask_url"], "Did you mean 'mask_urls'"),
        (["nfc:3"], "takes no argument"),
        (["keep_ends"], "needs an argument"),
        (["keep_ends:x"], "must be a number"),
        (["keep_ends:7"], "8 or more"),
        (["keep_ends:"], "must be a number"),
        (["keep_ends:1.5"], "must be a number"),
        ([""], "must be text"),
        ("nfc", "must be a list"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            Chain(names)
        assert words in str(caught.value)


def test_a_processor_that_makes_no_text_is_named():
    PROCESSORS.register("test_nothing", lambda text: None)
    with pytest.raises(ConfigurationError, match="'test_nothing' makes NoneType"):
        Chain(["nfc", "test_nothing"])


def test_a_processor_that_fails_is_named_with_what_it_raised():
    PROCESSORS.register("test_first_word", lambda text: text.split()[99])
    PROCESSORS.register("test_no_function", "text")
    with pytest.raises(ConfigurationError, match="'test_first_word' fails on .*Index"):
        Chain(["test_first_word"])
    with pytest.raises(ConfigurationError, match="no function or class"):
        Chain(["test_no_function"])


def test_the_order_is_part_of_a_chain():
    one, other = (
        Chain(["html_entities", "html_tags"]),
        Chain(["html_tags", "html_entities"]),
    )
    assert one != other and one.fingerprint != other.fingerprint
    assert one.process("&lt;b&gt;x") == "x"
    assert other.process("&lt;b&gt;x") == "<b>x"


@given(texts=st.lists(TEXTS, max_size=6))
def test_a_text_does_not_depend_on_what_it_comes_with(texts):
    chain = Chain(BUILT_IN)
    assert chain.process_all(texts) == [chain.process(text) for text in texts]


@given(texts=st.lists(TEXTS, max_size=6))
def test_what_is_emptied_is_what_is_blank_afterwards(texts):
    chain = Chain(["control", "html_tags", "whitespace"])
    blank = [i for i, text in enumerate(texts) if is_blank(chain.process(text))]
    assert chain.emptied(texts) == blank


def test_no_chain_leaves_texts_and_folder_alone(tmp_path):
    chain = Chain()
    chain.save(tmp_path)
    assert not [*tmp_path.iterdir()] and Chain.load(tmp_path) == chain
    assert chain.process_all([" a\x00 "]) == [" a\x00 "] and chain.emptied([""]) == []


@pytest.mark.parametrize(
    "written",
    [
        "",
        "[]",
        "{}",
        '{"names": "nfc"}',
        '{"names": [1]}',
        '{"names": ["nfc"]}',
        '{"names": ["nfc"], "fingerprint": "0"}',
        "\x00",
    ],
)
def test_a_file_that_is_no_chain_is_refused(tmp_path, written):
    (tmp_path / "processors.json").write_text(written)
    with pytest.raises(IntegrityError):
        Chain.load(tmp_path)


def test_a_file_with_another_order_is_refused(tmp_path):
    Chain(["nfc", "whitespace"]).save(tmp_path)
    file = tmp_path / "processors.json"
    said = json.loads(file.read_text())
    file.write_text(json.dumps(said | {"names": said["names"][::-1]}))
    with pytest.raises(IntegrityError, match="do not do what they did"):
        Chain.load(tmp_path)


def test_a_processor_that_does_something_else_now_is_refused(tmp_path, monkeypatch):
    Chain(["keep_ends:40"]).save(tmp_path)
    monkeypatch.setattr(processors, "_MARK", " - ")
    with pytest.raises(IntegrityError, match="do not do what they did"):
        Chain.load(tmp_path)


def test_a_version_of_its_own_is_part_of_the_fingerprint(tmp_path):
    def mine(text):
        return text

    PROCESSORS.register("test_versioned", mine)
    before = Chain(["test_versioned"]).fingerprint
    mine.version = 2
    assert Chain(["test_versioned"]).fingerprint != before


def test_a_processor_that_nobody_registered_here_is_named(tmp_path):
    (tmp_path / "processors.json").write_text('{"names": ["theirs"]}')
    with pytest.raises(IntegrityError, match="unknown processor 'theirs'"):
        Chain.load(tmp_path)
