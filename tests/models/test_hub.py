"The real hub client against a hub of our own on this machine"

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

ASK = """
import json, sys
from unittest.mock import patch
from fine_tune_llm.core import resilience
from fine_tune_llm.models import hub
with patch("time.sleep", lambda s: None):
    whys = [hub._from_hub(repo)[1] for repo in sys.argv[1:]]
states = {b.name: b.state for b in hub._BREAKERS.values()}
counts = resilience.error_stats.snapshot()["by_code"]
print(json.dumps([whys, states, counts]))
"""


PLANTED = "correct-horse-battery-77a0"
# of a vault that lives as long as a test
KEY = "q5Zt0o8bq1b1mXcS3m0w2k9v7y4u6t8r1e3w5q7a9sE="


class Hub(BaseHTTPRequestHandler):
    "Answers with the status that the name of the repository ends in; 0 hangs up"

    asked, tokens = Counter(), set()

    def do_GET(self):
        known = re.match(
            r"/api/models/(x/\w-(\d+))", self.path
        )  # the client also asks for other things, which are no concern here
        if known:
            Hub.asked[known[1]] += 1
            Hub.tokens.add(self.headers.get("Authorization"))
        status = int(known[2]) if known else 404
        if not status:
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *args):
        pass


@pytest.fixture
def hub():
    Hub.asked.clear()
    Hub.tokens.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def ask(port, tmp_path, *repos, offline="0", **more):
    env = {
        k: v
        for k, v in os.environ.items()
        if "proxy" not in k.lower()
        and k.upper()
        not in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "FTLLM_SECRET_HF_TOKEN")
    }
    env |= dict(
        HF_HUB_OFFLINE=offline,
        HF_ENDPOINT=f"http://127.0.0.1:{port}",
        HF_HOME=str(tmp_path),
        FTLLM_SECRET_FILE=str(tmp_path / "vault.json"),
        **more,
    )
    out = subprocess.run(
        [sys.executable, "-c", ASK, *repos],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert out.returncode == 0, out.stderr
    assert not [p for p in (PLANTED, KEY) if p in out.stdout + out.stderr]
    return json.loads(out.stdout)


@pytest.mark.parametrize("status", [500, 503, 0])
def test_trouble_is_tried_three_times_and_then_nobody_is_asked(hub, tmp_path, status):
    whys, states, counts = ask(hub, tmp_path, f"x/a-{status}", f"x/b-{status}")
    assert Hub.asked == {f"x/a-{status}": 3}
    assert (
        states == {f"127.0.0.1:{hub}": "open"}
        and "CircuitOpenError: calls to 127.0.0.1" in whys[1]
    )
    assert (
        counts["service.circuit_open"]["total"] == 1
        and sum(c["total"] for c in counts.values()) == 4
    )


def test_an_answer_is_believed(hub, tmp_path):
    whys, states, _ = ask(hub, tmp_path, "x/a-404", "x/b-401", "x/c-403")
    assert Hub.asked == {"x/a-404": 1, "x/b-401": 1, "x/c-403": 1}
    assert set(states.values()) == {"closed"} and not any(
        "CircuitOpen" in w for w in whys
    )


def test_a_dead_hub_is_asked_once(hub, tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]  # nobody listens there
    whys, states, counts = ask(port, tmp_path, "x/a-200", "x/b-200", "x/c-200")
    assert "the hub does not answer" in whys[0] and all(
        "CircuitOpenError" in w for w in whys[1:]
    )
    assert (
        counts["ConnectionError"]["total"] == 1
        and counts["service.circuit_open"]["total"] == 2
    )


def test_offline_nobody_is_asked(hub, tmp_path):
    whys, states, counts = ask(hub, tmp_path, "x/a-503", "x/b-503", offline="1")
    assert whys == ["not in the local cache, and HF_HUB_OFFLINE is set"] * 2
    assert not Hub.asked and not states and not counts


def test_the_hub_is_asked_with_the_secret_token(hub, tmp_path):
    ask(hub, tmp_path, "x/a-401")
    assert Hub.tokens == {None}
    Hub.tokens.clear()
    ask(hub, tmp_path, "x/a-401", FTLLM_SECRET_HF_TOKEN=PLANTED)
    assert Hub.tokens == {f"Bearer {PLANTED}"}


def test_the_token_may_be_in_the_vault(hub, tmp_path):
    pytest.importorskip("cryptography")
    code = (
        "import sys; from fine_tune_llm.core.secrets import Vault; "
        "Vault(sys.argv[1]).put('hf_token', sys.argv[2])"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "vault.json"), PLANTED],
        env=dict(os.environ, FTLLM_SECRET_KEY=KEY),
        check=True,
        timeout=120,
    )
    ask(hub, tmp_path, "x/a-401", FTLLM_SECRET_KEY=KEY)
    assert Hub.tokens == {f"Bearer {PLANTED}"}
    other = "a" + KEY[1:]
    Hub.tokens.clear()
    whys, _, _ = ask(hub, tmp_path, "x/a-401", FTLLM_SECRET_KEY=other)
    assert Hub.tokens == {None} and PLANTED not in str(
        whys
    )  # a vault that does not open: asked without
