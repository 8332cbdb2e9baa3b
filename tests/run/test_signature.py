"A signature: who made a certificate, and what a forger cannot do"

import json
import shutil
import subprocess
import sys

import pytest

import fine_tune_llm as ft
from fine_tune_llm.core.errors import CertificateError, ConfigurationError
from fine_tune_llm.core.files import sha256_json
from fine_tune_llm.run.signature import load_signed, make_key, sign_run, verify_run
from fine_tune_llm.testing import toy_rows

pytest.importorskip("cryptography")


@pytest.fixture(scope="module")
def finished(toy_fit, tmp_path_factory):
    return toy_fit(tmp_path_factory.mktemp("signature") / "run", toy_rows(256)).path


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture
def key(tmp_path):
    make_key(tmp_path / "team.key")
    return tmp_path / "team.key"


@pytest.fixture
def public(key):
    return f"{key}.pub"


def test_signed_and_verified(run, key, public):
    assert verify_run(run).signer is None
    with pytest.raises(CertificateError, match="is not signed"):
        verify_run(run, public)
    name = sign_run(run, key)
    assert verify_run(run, public).signer == name == verify_run(run).signer
    assert verify_run(run, public).is_known and not verify_run(run).is_known
    opened = load_signed(run, public, device="cpu")
    assert opened.decide("rake the leaves", rationale=False)


def test_a_forger_can_make_a_certificate_and_no_signature(run, key, public):
    sign_run(run, key)
    file = run / "certificate.json"
    forged = json.loads(file.read_text())
    forged["library"] = "9.9"
    forged["id"] = sha256_json({k: v for k, v in forged.items() if k != "id"})[:16]
    file.write_text(json.dumps(forged))
    assert ft.Run.load(run).certificate == forged
    with pytest.raises(CertificateError, match="is of another certificate"):
        verify_run(run, public)
    with pytest.raises(CertificateError, match="is of another certificate"):
        load_signed(run, public)


def test_a_forger_can_sign_and_is_not_the_signer(run, tmp_path, key, public):
    make_key(tmp_path / "forger.key")
    sign_run(run, tmp_path / "forger.key")
    assert not verify_run(run).is_known
    with pytest.raises(CertificateError, match="was signed by SHA256:"):
        verify_run(run, public)


def test_a_void_run_is_not_signed(run, key):
    with open(run / "adapter" / "backend.json", "a") as file:
        file.write(" ")
    with pytest.raises(CertificateError, match=r"adapter/backend\.json was changed"):
        sign_run(run, key)
    assert not (run / "certificate.sig.json").exists()


def test_every_part_of_a_signature(run, key, public):
    sign_run(run, key)
    file = run / "certificate.sig.json"
    whole = json.loads(file.read_text())
    for name in set(whole) - {"certificate"}:
        for value in (None, "", "AAAA", 7, [], whole["signature"][::-1]):
            file.write_text(json.dumps(whole | {name: value}))
            with pytest.raises(CertificateError):
                verify_run(run, public)
        file.write_text(json.dumps({k: v for k, v in whole.items() if k != name}))
        with pytest.raises(CertificateError):
            verify_run(run, public)
    for raw in (b"", b"[", b"[]", b"null", b"[" * 100_000, b"\xff\xfe"):
        file.write_bytes(raw)
        with pytest.raises(CertificateError):
            verify_run(run, public)


def test_keys_with_a_password(run, tmp_path):
    make_key(tmp_path / "k", password="correct horse")
    assert b"ENCRYPTED" in (tmp_path / "k").read_bytes()
    for password in (None, "wrong"):
        with pytest.raises(ConfigurationError, match="private key"):
            sign_run(run, tmp_path / "k", password=password)
    sign_run(run, tmp_path / "k", password="correct horse")


def test_files_that_are_no_keys(run, key, public, tmp_path):
    (tmp_path / "text").write_text("no key")
    for file in (tmp_path / "text", public, tmp_path / "nowhere", tmp_path):
        with pytest.raises(ConfigurationError):
            sign_run(run, file)
    sign_run(run, key)
    for file in (tmp_path / "text", key, tmp_path / "nowhere", tmp_path):
        with pytest.raises(ConfigurationError):
            verify_run(run, file)
    with pytest.raises(ConfigurationError, match="cannot be written"):
        make_key(tmp_path / "no" / "folder")


def test_keys_of_another_kind(run, tmp_path):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (tmp_path / "ec.key").write_bytes(pem)
    with pytest.raises(ConfigurationError, match="is no Ed25519 key"):
        sign_run(run, tmp_path / "ec.key")


def test_without_cryptography(run):
    code = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from fine_tune_llm.run.signature import make_key\n"
        "from fine_tune_llm.core.errors import MissingDependencyError\n"
        "try: make_key('never.key')\n"
        "except MissingDependencyError as e: print(e)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
    )
    assert "pip install 'fine_tune_llm[sign]'" in said.stdout, said.stderr


def test_in_the_terminal(run, tmp_path, ftllm):
    made = ftllm("make-key", "team.key", cwd=tmp_path)
    assert made.returncode == 0 and "key SHA256:" in made.stderr
    assert ftllm("make-key", "team.key", cwd=tmp_path).returncode == 2
    unsigned = ftllm("verify", run, "--public-key", "team.key.pub", cwd=tmp_path)
    assert unsigned.returncode == 3
    assert ftllm("sign", run, "--key", "team.key", cwd=tmp_path).returncode == 0
    signed = ftllm("verify", run, "--public-key", "team.key.pub", cwd=tmp_path)
    assert signed.returncode == 0 and "holds; signed by SHA256:" in signed.stdout
