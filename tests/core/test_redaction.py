"Every way in that is known, with a secret planted, and beside it what must stay"

import io
import json
import re

import pytest
import structlog

from fine_tune_llm.core.logs import capture_logs, configure_logging, get_logger
from fine_tune_llm.core.redaction import hide, redact

PLANTED = "hf_" + "a" * 20
WORD = "s3cr3tvalue99"
SECRET_KEYS = (
    "X-API-Key",
    "accessToken",
    "openai_key",
    "APIKey",
    "access_key",
    "aws_secret_access_key",
    "pwd",
    "tokens",
    "hf_tokens",
    "userPassword",
    "Set-Cookie",
    "client.secret",
)


class Shows:
    def __repr__(self):
        return f"O(token={WORD!r})"


OBJECTS = (
    ValueError(PLANTED),
    {PLANTED},
    PLANTED.encode(),
    {"k": (PLANTED,)},
    {PLANTED: 1},
    ValueError(f"line\n{PLANTED}"),
    Shows(),
)
BEGINNINGS = (
    "sk-",
    "sk_live_",
    "rk_test_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "AIza",
    "xoxb-",
    "eyJ0eXAiOiJKV1Qi." + WORD + ".",
)
SECRETS = (
    f"https://h/x?a=1&token={WORD}&b=2",
    f"password={WORD}",
    f"pwd: {WORD}",
    f"token: {WORD}",
    f'api_key="two {WORD}"',
    f"{{'password': '{WORD}'}}",
    f'{{"apiKey": "{WORD}"}}',
    f"BEARER {WORD}",
    "Basic " + WORD * 2,
    "github_pat_" + WORD * 2,
    "glpat-" + WORD * 2,
    f"-----BEGIN RSA PRIVATE KEY-----\nMII{WORD}\n-----END RSA PRIVATE KEY-----",
    f"https://me:{WORD}@host/x",
    *(f"see {beginning}{WORD * 3}" for beginning in BEGINNINGS),
    f"see AKIA{WORD.upper()}ABC",
)
HARMLESS = (
    "n_tokens=512",
    "max_tokens: 512",
    "no password: ask the owner",
    "unexpected token: comma",
    "Basic arithmetic",
    "https://h/x?page=2",
    "the secret `mail` is nowhere: looked in 3 places",
    "key=12",
    "tokenizer=fast",
    "compass=north",
)
HARMLESS_ITEMS = (
    {"n_tokens": 512},
    {"token_count": 3},
    {"tokens": None},
    {"primary_key": "id"},
    {"context": "x"},
    {"inputs": 3},
    {"key": "v"},
    {"x": {1, 2}},
)


@pytest.mark.parametrize("key", SECRET_KEYS)
def test_keys(key):
    assert redact({key: [WORD]}) == {key: "[redacted]"}


@pytest.mark.parametrize("value", OBJECTS, ids=lambda v: type(v).__name__)
def test_objects(value):
    assert not {PLANTED, WORD} & set(re.findall(r"\w+", str(redact(value))))


@pytest.mark.parametrize("text", SECRETS)
def test_texts(text):
    assert WORD not in redact(text).lower()
    assert "[redacted]" in redact(text)


@pytest.mark.parametrize("value", (*HARMLESS, *HARMLESS_ITEMS), ids=str)
def test_what_stays(value):
    assert redact(value) == value


@pytest.mark.parametrize("key", ["input", "content", "Texts", "text_list", "inputText"])
def test_user_texts(key):
    assert redact({key: "my chest hurts"}) == {key: "[14 characters]"}


def test_once_more_changes_nothing():
    once = redact(f"password={WORD} and {PLANTED}")
    assert redact(once) == once == "password=[redacted] and [redacted]"


@pytest.fixture
def stream():
    yield io.StringIO()
    structlog.reset_defaults()


def test_a_known_secret_is_hidden_inside_objects_and_addresses(stream):
    secret = 'open "sesame" now/é'
    configure_logging("info", json_lines=True, stream=stream)
    hide(secret)
    url = "https://x/?q=open%20%22sesame%22%20now%2F%C3%A9"
    get_logger("t").info("opened", door=Exception(secret), by={secret: 1}, url=url)
    assert "sesame" not in stream.getvalue()
    assert stream.getvalue().count("[redacted]") == 3


@pytest.mark.parametrize("as_json", [True, False])
def test_a_token_never_reaches_a_line(stream, as_json):
    configure_logging("info", json_lines=as_json, stream=stream)
    get_logger("t").info(
        "push",
        err=ValueError(f"bad {PLANTED}"),
        seen={PLANTED},
        raw=PLANTED.encode(),
        h=f"Authorization: BEARER {WORD}",
        url=f"https://me:{WORD}@h/x?token={WORD}",
        body=f'{{"password": "{WORD}"}}',
        n_tokens=512,
        ends="password=",
        then=1,
    )
    line = stream.getvalue()
    assert PLANTED not in line
    assert WORD not in line
    assert "512" in line
    if as_json:
        said = json.loads(line)
        assert said["err"] == "ValueError('bad [redacted]')"
        assert (said["ends"], said["then"]) == ("password=", 1)


def test_captured_lines_are_all_lines(stream):
    "Whatever level was chosen before"
    configure_logging("error", stream=stream)
    with capture_logs() as lines:
        get_logger("t").info("heard")
    assert [line["event"] for line in lines] == ["heard"]
