"Keys, damage, order of places, and a planted value searched for everywhere"

import copy
import hashlib
import json
import pickle

import pytest
import yaml

from fine_tune_llm.config.layers import make_config
from fine_tune_llm.config.schema import Section
from fine_tune_llm.core.errors import ConfigurationError, IntegrityError, SecretError
from fine_tune_llm.core.logs import capture_logs, get_logger
from fine_tune_llm.core.redaction import redact
from fine_tune_llm.core.secrets import SERVICE, Secret, Vault, _key_id, new_key

keyring = pytest.importorskip("keyring")
pytest.importorskip("cryptography")
PLANTED = "correct-horse-" + hashlib.sha256(b"staple").hexdigest()[:12]


class Memory(keyring.backend.KeyringBackend):
    priority = 1

    def __init__(self):
        self.kept = {}

    def get_password(self, service, username):
        return self.kept.get((service, username))

    def set_password(self, service, username, password):
        self.kept[service, username] = password

    def delete_password(self, service, username):
        del self.kept[service, username]


@pytest.fixture
def ring():
    before = keyring.get_keyring()
    keyring.set_keyring(Memory())
    yield keyring.get_keyring()
    keyring.set_keyring(before)


@pytest.fixture
def vault(ring, tmp_path, monkeypatch):
    monkeypatch.setenv("FTLLM_SECRET_FILE", str(tmp_path / "secrets.json"))
    monkeypatch.delenv("FTLLM_SECRET_KEY", raising=False)
    vault = Vault()
    vault.make_key()
    vault.put("hub", PLANTED)
    return vault


def test_the_file_shows_nothing(vault):
    vault.put("mail", "another-value")
    text = vault.path.read_text()
    assert PLANTED not in text
    assert "hub" not in text
    assert oct(vault.path.stat().st_mode)[-3:] == "600"
    names = {path.name for path in vault.path.parent.iterdir()}
    assert names - {"secrets.json.lock"} == {"secrets.json"}
    assert vault.get("nothing") is None
    with pytest.raises(SecretError, match="there is a key already"):
        vault.make_key()


def test_rotation(vault, ring, monkeypatch):
    old = ring.kept[SERVICE, "vault-key"]
    vault.rotate()
    assert ring.kept[SERVICE, "vault-key"] != old
    assert vault.get("hub") == PLANTED
    fresh = new_key()
    both = f"{fresh}, {ring.kept[SERVICE, 'vault-key']}"
    monkeypatch.setenv("FTLLM_SECRET_KEY", both)
    assert vault.get("hub") == PLANTED
    vault.rotate()
    monkeypatch.setenv("FTLLM_SECRET_KEY", fresh)
    assert vault.get("hub") == PLANTED
    monkeypatch.setenv("FTLLM_SECRET_KEY", old)
    words = f"with key {_key_id(fresh)}, and the key given is {_key_id(old)}"
    with pytest.raises(SecretError, match=words):
        vault.get("hub")
    monkeypatch.setenv("FTLLM_SECRET_KEY", fresh[:-4])
    with pytest.raises(SecretError, match="is no Fernet key"):
        vault.get("hub")


def test_damage(vault):
    whole = vault.path.read_text()
    vault.path.write_text(whole.replace('"data": "gAAAA', '"data": "gAAAB'))
    with pytest.raises(SecretError, match="has been changed since it was encrypted"):
        vault.get("hub")
    vault.path.write_text('{"x": 1}')
    with pytest.raises(IntegrityError, match="is no vault"):
        vault.get("hub")


def test_places_in_their_order(vault, ring, monkeypatch):
    secret = Secret("hub")
    assert secret.reveal() == PLANTED
    ring.set_password(SERVICE, "hub", "from-the-keyring")
    assert secret.reveal() == "from-the-keyring"
    monkeypatch.setenv("FTLLM_SECRET_HUB", "from-the-environment")
    assert secret.reveal() == "from-the-environment"
    monkeypatch.setenv("MY_TOKEN", "by-its-own-name")
    assert Secret("MY_TOKEN").reveal() == "by-its-own-name"
    words = (
        "the secret `nothing` is nowhere: looked in environment "
        "(FTLLM_SECRET_NOTHING or nothing), keyring (not there)"
    )
    with pytest.raises(SecretError) as error:
        Secret("nothing").reveal()
    assert words in str(error.value)
    with pytest.raises(SecretError, match="must be a text of at least 4 characters"):
        vault.put("pin", "123")


class Mailer(Section):
    password: Secret = Secret("mail")
    to: str = ""


def test_plant_one_and_search(vault, monkeypatch):
    "It stands in the environment, has been revealed; every way of writing is tried"
    monkeypatch.setenv("FTLLM_SECRET_MAIL", PLANTED)
    box = Mailer(password="mail")
    box.password.reveal()
    with capture_logs() as lines:
        get_logger("x").warning(f"sent with {PLANTED}", box=box, n=[PLANTED])
    written = [
        repr(box),
        str(box),
        box.model_dump_json(),
        yaml.safe_dump(box.model_dump(mode="json")),
        json.dumps(Mailer.model_json_schema()),
        str(vars(box)),
        str(lines),
        str(redact({PLANTED: PLANTED})),
        pickle.dumps(box).decode("latin-1"),
        pickle.dumps(box.password).decode("latin-1"),
        repr(copy.deepcopy(box)),
        repr(vault),
        vault.path.read_text(),
    ]
    assert not [text for text in written if PLANTED in text]
    assert pickle.loads(pickle.dumps(Secret("mail"))) == Secret("mail")
    assert box.model_dump(mode="json")["password"] == "mail"


@pytest.mark.parametrize("value", [PLANTED, "hf_" + "a" * 30, "with spaces"])
def test_a_value_where_its_name_belongs_is_not_repeated(vault, value):
    calls = (
        lambda: Secret(value),
        lambda: Mailer(password=value),
        lambda: vault.put(value, "some-value"),
    )
    for call in calls:
        with pytest.raises(ValueError if call is calls[1] else SecretError) as error:
            call()
        assert value not in f"{error.value} {getattr(error.value, 'context', '')}"


@pytest.mark.parametrize(
    "settings",
    [{"model.name": PLANTED}, {"data.text": f"x{PLANTED}x"}, {f"data.{PLANTED}": 1}],
    ids=["value", "inside", "name"],
)
def test_it_cannot_get_into_the_settings_of_a_run(vault, settings):
    with pytest.raises(ConfigurationError) as error:
        make_config(settings)
    said = f"{error.value} {error.value.context}"
    assert PLANTED not in said
    assert "looks like a credential" in said
