"Data from pipes, through the installed command; and what a run is called then"

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fine_tune_llm.cli.fit import name_of_run

FTLLM = Path(sys.executable).parent / "ftllm"


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("mails.csv", "mails"),
        ("some/mails.csv.gz", "mails"),
        ("-", "stdin"),
        (os.devnull, "pipe"),
        ("/etc", "etc"),
        ("sqlite:///some/mails.db", "mails"),
        ("postgresql://ann:se@cret@host:1/mails?sslmode=no", "mails"),
        ("hub:owner/mails@v1.0", "mails"),
    ],
)
def test_what_a_run_is_called(data, name):
    assert name_of_run(data) == name


@pytest.mark.skipif(not Path("/bin/bash").exists(), reason="needs bash")
def test_fit_and_decide_read_pipes(tiny, tmp_path):
    def bash(words):
        return subprocess.run(
            ["/bin/bash", "-c", words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )

    how = f"--model {tiny}/bert --config {tiny}/more.yaml --epochs 1"
    done = bash(f"{FTLLM} fit <(gzip -c {tiny}/rows.jsonl) {how}")
    assert done.returncode in (0, 3), done.stderr
    read = json.loads((tmp_path / "runs/pipe/data.json").read_text())["source"]["read"]
    assert read == {"format": "jsonl", "encoding": "utf-8", "compression": "gzip"}
    rows = r"id;text\na1;Grüße, she said\na2;\n"
    piped = f"<(printf '{rows}' | iconv -t cp1250)"
    done = bash(f"{FTLLM} decide runs/pipe {piped} --encoding cp1250")
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["id"] for one in said] == ["a1", "a2"], done.stderr
    assert said[0]["error"] is None and "empty" in said[1]["error"]
