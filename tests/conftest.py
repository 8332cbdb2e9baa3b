"What tests share: a tiny model, labelled rows, the installed command, the real data"

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
ROOT = Path(__file__).resolve().parent.parent
FTLLM = str(Path(sys.executable).parent / "ftllm")  # the installed command
SETTINGS = {  # Of a small run: what a tiny random model needs to learn toy rows
    "training": {"learning_rate": 0.01, "dropout": 0.0, "precision": "fp32"},
    "lora": {"r": 4},
    "data": {"train": 0.4, "validation": 0.1, "calibration": 0.3, "test": 0.2},
    "audit": {"behaviour_rows": 4},  # hundreds of decisions instead of thousands
}


LONGEST = ("test_kill.py", "test_write_points.py", "test_mutations.py")


def pytest_collection_modifyitems(items):
    "The longest files first, so that no worker ends long after the others"
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A folder with what a small run needs

    A tiny random BERT (`bert`), 512 labelled rows (`rows.jsonl`) and settings that
    suit them (`more.yaml`).
    """
    from fine_tune_llm.models.hub import quiet
    from fine_tune_llm.testing import tiny_model, toy_rows, toy_tokenizer

    d = tmp_path_factory.mktemp("tiny")
    rows = toy_rows(512)
    tok = toy_tokenizer([r["text"] for r in rows])
    with quiet():
        tiny_model("bert", seed=0, vocab_size=len(tok)).save_pretrained(d / "bert")
        tok.save_pretrained(d / "bert")
    (d / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (d / "more.yaml").write_text(yaml.safe_dump(SETTINGS))
    return d


@pytest.fixture(scope="session")
def toy_fit(tiny):
    """Fits the tiny model to toy rows for an epoch, at a target risk of .4

    Takes what `fit` takes; sections of `config` are laid over `SETTINGS`.
    """
    from fine_tune_llm.run.journey import fit
    from fine_tune_llm.testing import toy_rows

    def go(out, rows=None, **more):
        given = {"model": str(tiny / "bert"), "epochs": 1, "progress": False} | more
        risk = {"risk": {"target_risk": 0.4}}
        given["config"] = risk | SETTINGS | given.get("config", {})
        return fit(toy_rows(512) if rows is None else rows, out=out, **given)

    return go


@pytest.fixture(scope="session")
def next_line():
    "The next line a process prints; a failure when nothing comes"

    def read(p, seconds=60):
        said = []
        reader = threading.Thread(
            target=lambda: said.append(p.stdout.readline()), daemon=True
        )
        reader.start()
        reader.join(seconds)
        if not said:
            p.kill()
            pytest.fail(f"the process printed nothing within {seconds} s")
        return said[0]

    return read


@pytest.fixture(scope="session")
def ftllm():
    "Runs the installed command in a process of its own"

    def run(*words, cwd, stdin=None):
        return subprocess.run(
            [FTLLM, *map(str, words)],
            cwd=cwd,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


class Hung(BaseException):
    "A call did not come back; no `except Exception` may swallow it"


@pytest.fixture(scope="session")
def refusal():
    """What a call says to damaged input: the name of our error, or `None` when it works

    Any other exception is a failure, and so is a call that does not come back within
    `seconds` or that takes more than `mebibytes` of memory that were not taken before.
    """
    from fine_tune_llm.core.errors import FineTuneLLMError

    resource = pytest.importorskip("resource")

    def stop(*_):
        raise Hung

    def ask(call, what, *, seconds=30, mebibytes=500):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        previous = signal.signal(signal.SIGALRM, stop)
        signal.alarm(seconds)
        said = None
        try:
            call()
        except FineTuneLLMError as e:
            said = type(e).__name__
        except Hung:
            pytest.fail(f"no answer within {seconds} s: {what!r:.300}")
        except Exception as e:
            pytest.fail(f"{type(e).__name__}: {e!s:.300}, given {what!r:.300}")
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, previous)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        assert grown <= mebibytes, f"{grown:,.0f} MiB for {what!r:.300}"
        return said

    return ask


@pytest.fixture(scope="session")
def real_data():
    "The folder with real data, or a skip that says what is missing"
    d = Path(os.environ.get("FTLLM_DATA", ROOT.parent / "shared" / "data"))
    if not d.is_dir():
        pytest.skip(f"real data is not here: set FTLLM_DATA (looked in {d})")
    return d


@pytest.fixture(scope="session")
def vgg(real_data):
    "Probabilities (10,000 x 10) and labels of VGG-16 on CIFAR-10 (Kumar et al. 2019)"
    import numpy as np

    f = np.load(real_data / "cifar10_vgg" / "cifar10_test_probs.npz")
    return f["probs"], f["labels"]
