"""Common shapes of credentials are hidden, ordinary sentences are not, in linear time

Every credential is made up, and put together here so that no scanner takes it for one.
"""

import csv
import json
import random
import string

import pytest

from fine_tune_llm.core.redaction import redact

RNG = random.Random(0)
LETTERS = string.ascii_letters + string.digits
HEX = "0123456789abcdef"


def some(n, letters=LETTERS):
    "`n` random characters, a digit among them"
    return "".join(RNG.choices(letters, k=n - 1)) + "7"


def uuid():
    return "-".join(some(n, HEX) for n in (8, 4, 4, 4, 12))


def jwt():
    return f"eyJ{some(20)}.eyJ{some(30)}.{some(43)}"


HIDDEN = some(24)  # of those without a shape, which are known by their neighbour
UPPER = string.ascii_uppercase + "234567"
SHAPES = {
    "GitHub token": ["gh" + kind + "_" + some(36) for kind in "pousr"],
    "GitHub fine-grained": ["github" + "_pat_" + some(22) + "_" + some(59)],
    "GitLab": [f"gl{kind}-{some(20)}" for kind in ("pat", "dt", "rt", "ptt", "soat")],
    "Slack": [
        f"xo{kind}-{some(12, string.digits)}-{some(24)}"
        for kind in ("xb", "xp", "xa", "xr", "xs", "xe")
    ],
    "Slack app": [
        f"xapp-1-{some(11, UPPER)}-{some(13, string.digits)}-{some(64, HEX)}"
    ],
    "AWS id": ["AK" + "IA" + some(16, UPPER), "AS" + "IA" + some(16, UPPER)],
    "Google key": ["AI" + "za" + some(35)],
    "Google OAuth": ["ya" + "29." + some(60), "GOC" + "SPX-" + some(28)],
    "Google refresh": ["1" + "//0" + some(40)],
    "Stripe": [f"{kind}_live_{some(24)}" for kind in ("sk", "rk")],
    "Stripe webhook": ["wh" + "sec_" + some(32)],
    "OpenAI": ["s" + "k-" + some(48), "s" + "k-proj-" + some(60)],
    "Anthropic": ["s" + "k-ant-api03-" + some(90)],
    "Hugging Face": ["h" + "f_" + some(34)],
    "npm": ["n" + "pm_" + some(36)],
    "PyPI": ["py" + "pi-AgEIcHlwaS5vcmc" + some(60)],
    "Databricks": ["da" + "pi" + some(32, HEX)],
    "SendGrid": ["S" + "G." + some(22) + "." + some(43)],
    "Vault": ["hv" + "s." + some(24), "hv" + "b." + some(90)],
    "JWT": [jwt()],
    "Twilio": ["S" + "K" + some(32, HEX)],
    "Telegram": [some(10, string.digits) + ":A" + "A" + some(33)],
    "Discord bot": ["M" + some(23) + "." + some(6) + "." + some(38)],
    "DigitalOcean": ["do" + "p_v1_" + some(64, HEX)],
    "Shopify": [f"shp{kind}_{some(32, HEX)}" for kind in ("at", "ca", "pa", "ss")],
    "Linear": ["lin" + "_api_" + some(40)],
    "Sentry token": ["sn" + "trys_" + some(60)],
    "Mailgun": ["ke" + "y-" + some(32, HEX)],
    "Mailchimp": [some(32, HEX) + "-us14"],
    "Square": ["sq0" + "csp-" + some(43)],
    "Docker": ["dc" + "kr_pat_" + some(27)],
    "Postman": ["PM" + "AK-" + some(24, HEX) + "-" + some(34, HEX)],
    "New Relic": ["NR" + "AK-" + some(27, UPPER)],
    "Grafana": ["gl" + "sa_" + some(32) + "_" + some(8, HEX)],
    "Groq": ["gs" + "k_" + some(52)],
    "NVIDIA": ["nv" + "api-" + some(64)],
    "Replicate": ["r8" + "_" + some(37)],
    "RubyGems": ["ruby" + "gems_" + some(48, HEX)],
    "Atlassian": ["AT" + "ATT3xFfGF0" + some(60)],
    "age": ["AGE-SECRET" + "-KEY-1" + some(58, string.ascii_uppercase + "7")],
}
# what stands around a credential without a shape; {} is where it stands
PLACES = {
    "AWS secret": ["aws_secret_access_key = {}", "AWS_SECRET_ACCESS_KEY={}"],
    "Azure account key": [
        "DefaultEndpointsProtocol=https;AccountName=x;AccountKey={}==;Endpoint=y",
        "Endpoint=sb://x/;SharedAccessKeyName=n;SharedAccessKey={}=",
    ],
    "Azure signature": ["https://x.blob.net/c?sv=2022-11-02&sig={}%3D&se=2027"],
    "AWS signature": ["https://s3/x?X-Amz-Credential=a&X-Amz-Signature={}"],
    "bearer": ["Authorization: Bearer {}", "authorization: bearer {}", "Bearer {}"],
    "other schemes": ["Authorization: token {}", "Authorization: ApiKey {}"],
    "basic": ["Authorization: Basic {}==", "Proxy-Authorization: Basic {}"],
    "address": ["postgres://me:{}@db:5432/x", "redis://:{}@h", "https://{}@git.x/y"],
    "private key": [
        "-----BEGIN PRIVATE KEY-----\nMIIE{}\n-----END PRIVATE KEY-----",
        "-----BEGIN OPENSSH PRIVATE KEY-----\\nb3Blb{}\\n",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQ{}\n",
    ],
    "cookie": [
        "Cookie: session={}; theme=dark",
        "Set-Cookie: id={}; Path=/; HttpOnly",
        "{{'Cookie': 'sid={}'}}",
        "cookie: a=b; sid={}",
    ],
    "API key header": ["X-Api-Key: {}", "x-api-key: {}", "X-Auth-Token: {}"],
    "option": [
        "ftllm --password {} x",
        "--password={}",
        "mysql --password '{}'",
        "tool --token {}",
        "tool --api-key {}",
        "--client-secret {}",
    ],
    "option, a word": ["login --password swordfish{}"],
    "curl": ["curl -u me:{} https://x", "curl --user me:{} https://x"],
    "assignment": [
        "PASSWORD={}",
        "PGPASSWORD={}",
        "export DB_PASS={}",
        "MYSQL_PWD={}",
        "password: {}",
        "Server=x;User Id=y;Password={};",
        'client_secret="{}"',
        "OPENAI_API_KEY={}",
        "DD_API_KEY={}",
        "DATADOG_APP_KEY: {}",
        "DJANGO_SECRET_KEY='{}'",
        "access_token={}&x=1",
        "refresh_token: '{}'",
        '"apiKey": "{}"',
        "passphrase = {}",
    ],
    "Sentry DSN": ["https://{}@o0.ingest.sentry.io/0"],
    "Slack webhook": ["https://hooks.slack.com/services/T012/B345/{}"],
    "Discord webhook": ["https://discord.com/api/webhooks/1234567890/{}"],
    "Teams webhook": ["https://x.webhook.office.com/webhookb2/a@b/IncomingWebhook/{}"],
    "npmrc": ["//registry.npmjs.org/:_authToken={}", "_auth={}"],
    "netrc": ["machine x login y password {}"],
}
AROUND = ("{}", "see {}.", "'{}'", '{{"k": "{}"}}', "a={}", "https://x/?q={}", "({})")
HARMLESS = (
    "sk-learn-compatible-estimators are nice",
    "the bearer of bad news came at 10",
    "Basic arithmetic and basic-income2 are topics",
    "use --password to set one, or --password-file",
    "--password is required; --token must be given",
    "a cookie: chocolate, 2 of them",
    "cookies and a password: both are gone",
    "the key-value store and key-frames",
    "npm_config and npm_package_json are names",
    "the pypi-server answered",
    "user@example.com wrote to a@b.c",
    "https://github.com/x/y.git and ssh://git@github.com/x",
    "signal=0.3, design=new, sig=0.05",
    "task-based risk-free disk-usage-of-the-machine-2026",
    "token: 512, tokens=3, token count 7",
    "sha256 " + some(64, HEX),
    uuid(),
    "commit " + some(40, HEX),
    "runs/triage-2026-11-28T10-49-45/adapter",
    "training.learning_rate=2e-4 model.name=minilm",
    "authorization: required",
    "the secret of success is in 3 steps",
    "my pin is wrong and the card was declined",
    "I lost my password, what is the passcode?",
)


def shown(value):
    return str(redact(value))


@pytest.mark.parametrize("kind", SHAPES)
def test_shapes(kind):
    for secret in SHAPES[kind]:
        for around in AROUND:
            text = around.format(secret)
            assert secret[8:] not in shown(text), text
            assert secret[8:] not in shown({"error": ValueError(text)})


@pytest.mark.parametrize("kind", PLACES)
def test_places(kind):
    for place in PLACES[kind]:
        text = place.format(HIDDEN)
        assert HIDDEN not in shown(text), text
        assert HIDDEN not in shown([f"first line\n{text}\nlast line"]), text
        assert "last line" in shown(f"{text}\nlast line") or "KEY" in text


@pytest.mark.parametrize("text", HARMLESS)
def test_ordinary_words_stay(text):
    assert redact(text) == text


def test_keys():
    keys = "AccountKey SharedAccessKey DD_API_KEY datadogAppKey X-Auth-Token Set-Cookie"
    keys += " authToken db_password connectionString sasToken webhook_secret dsn"
    for key in keys.split():
        assert redact({key: HIDDEN}) == {key: "[redacted]"}, key
    stays = {"primary_key": "id", "keyboard": "x", "tokenizer": "y", "n_tokens": 5}
    assert redact(stays) == stays


def test_what_people_write_stays(real_data):
    "Not one of 40,000 sentences of five corpora is touched"
    texts = []
    for file in real_data.glob("*/*.jsonl"):
        lines = file.read_text(encoding="utf-8").splitlines()
        texts += [json.loads(line)["text"] for line in lines]
    for file in (real_data / "messy").glob("*.csv"):
        with open(file, encoding="utf-8", newline="") as f:
            texts += [" ".join(row) for row in csv.reader(f)]
    with open(real_data / "madlibs_identity" / "en_sentence_templates.csv") as f:
        texts += [" ".join(row) for row in csv.reader(f)]
    wrong = [text for text in texts if redact(text) != text]
    assert len(texts) > 20_000
    assert not wrong, f"{len(wrong)} of {len(texts)}: {wrong[:5]}"


PUMPS = (
    "password ", "password=", "password:", "--password ", "bearer ", "basic ", "eyJ.",
    "eyJaaaaaaaaaa.", "-----BEGIN PRIVATE KEY-----", "://", "://a:", "Cookie: ",
    "a=b; ", "Cookie: a=b; ", "SG.", "sk-", "pypi-", "pypi-A", "hf_", "xoxb-", "sig=",
    "token ", "Authorization: ", "authorization: bearer ", "key", "api_key", "'", "\\",
    "-u a:", "1", "a", "1:AA", "M.", "[redacted]", "api-key: ", "secret\"", "gl", "_",
)  # fmt: skip


@pytest.mark.parametrize("pump", PUMPS)
def test_time_grows_with_the_length(pump):
    "Steps counted by the length at which a second of work would be quadratic"
    assert isinstance(redact(pump * (300_000 // len(pump))), str)
