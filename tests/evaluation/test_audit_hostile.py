"An audit of what nobody should pass: measured, or refused in words"

import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

from fine_tune_llm.config.schema import AuditConfig
from fine_tune_llm.core.errors import (
    ConfigurationError,
    FineTuneLLMError,
    IntegrityError,
)
from fine_tune_llm.evaluation import audit
from fine_tune_llm.evaluation.auditing import Audit
from fine_tune_llm.predictions import Predictions

N = 60
QUICK = AuditConfig(n_resamples=200)


def made(n=N, K=2, **columns):
    rng = np.random.default_rng(0)
    labels = rng.integers(K, size=n)
    scores = np.exp(rng.normal(size=(n, K)) + np.eye(K)[labels])
    probs = scores / scores.sum(1, keepdims=True)
    return Predictions(**{"probs": probs, "labels": labels, **columns})


SAID = made()
HALVES = {"g": ["a", "b"] * (N // 2)}
FULL = np.ones((N, 2), dtype=bool)


def raises(texts):
    raise AssertionError("not called before what was passed is checked")


REFUSED = {
    "groups a list": (dict(groups=["a"] * N), "`groups` must be a dict"),
    "groups a text": (dict(groups="gender"), "`groups` must be a dict"),
    "group a number": (dict(groups={"g": 5}), r"`groups\['g'\]` must hold 60 rows"),
    "group a text": (dict(groups={"g": "a" * N}), r"`groups\['g'\]` must hold 60"),
    "no group": (dict(memberships={"m": [""] * N}), "names no group in any row"),
    "memberships 5": (dict(memberships={"m": 5}), r"`memberships\['m'\]` must hold"),
    "memberships None": (dict(memberships={"m": None}), "must hold 60 rows"),
    "one column": (dict(memberships="gender"), "names 'gender', which is no group"),
    "positive": (dict(positive="yes"), "`positive` must be one of '0', '1'"),
    "positives": (dict(positive=("0", "1")), "`positive` must be one of"),
    "alpha 0": (dict(alpha=0, sets=FULL), "`alpha` must be in"),
    "alpha 90": (dict(alpha=90), "90% is 0.9"),
    "target": (dict(target_risk=np.nan), "`target_risk` must be in"),
    "seed": (dict(seed=-1), "`seed` must be a whole number"),
    "settings": (dict(settings={"level": 0.9}), "`settings` must be an AuditConfig"),
    "outcome": (dict(outcome=SAID), "`outcome` is for a run"),
    "out of scope": (dict(out_of_scope=["x"]), "`out_of_scope` is for a run"),
    "baselines": (dict(baselines=[SAID]), "`baselines` must be a dict"),
    "baseline": (dict(baselines={"b": SAID.probs}), r"`baselines\['b'\]` must be"),
    "seeds": (dict(seeds=SAID), "`seeds` must be a list"),
    "gates": (dict(gates=["ece"], decide=raises), "gate 1: not readable"),
    "gates file": (dict(gates="nowhere.yaml", decide=raises), "nowhere.yaml"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_by_name(case):
    given, words = REFUSED[case]
    with pytest.raises(FineTuneLLMError, match=words):
        audit(SAID, **given)


ANSWERS = {
    "nothing": lambda texts: None,
    "one row": lambda texts: np.full((1, 2), 0.5),
    "no numbers": lambda texts: np.full((len(texts), 2), np.nan),
    "other classes": lambda texts: np.full((len(texts), 3), 1 / 3),
    "other names": lambda texts: ["maybe"] * len(texts),
    "ragged": lambda texts: [[0.5, 0.5], [1.0]],
    "a generator": lambda texts: (0 for _ in texts),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_an_answer_that_is_none_names_decide(case):
    texts = [f"she was here {i}" for i in range(N)]
    with pytest.raises(FineTuneLLMError, match="`decide`"):
        audit(made(texts=texts), decide=ANSWERS[case], settings=QUICK)


PLANTED = ["<script>alert(1)</script>", "\"q'", "\u202edrow", "a" * 3000]
ODD = {
    "one row": lambda: audit(made(n=1, groups={"g": ["a"]}), settings=QUICK),
    "one class": lambda: audit(made(labels=[0] * N, groups=HALVES), settings=QUICK),
    "certain": lambda: audit(made(probs=np.eye(2)[SAID.labels]), settings=QUICK),
    "always wrong": lambda: audit(made(probs=np.eye(2)[1 - SAID.labels])),
    "even": lambda: audit(made(probs=np.full((N, 2), 0.5)), settings=QUICK),
    "float16": lambda: audit(made(probs=SAID.probs.astype(np.float16))),
    "nothing decided": lambda: audit(
        made(groups=HALVES),
        decided=[-1] * N,
        sets=~FULL,
        cost=[[0, 1], [3, 0]],
        settings=QUICK,
    ),
    "full sets, no alpha": lambda: audit(SAID, sets=FULL, settings=QUICK),
    "groups of all kinds": lambda: audit(
        made(),
        groups={"g": [None, float("nan"), "", 1, 2.5, "x"] * 10, "all": ["a"] * N},
        memberships={"m": [["a", "b"], [], [1], 2, None, "a|b"] * 10},
        settings=QUICK,
    ),
    "words of ours": lambda: audit(
        made(
            K=3,
            classes=["abstained", "missing", "None"],
            groups={"class": ["class", "abstained", "attribute"] * 20},
        ),
        settings=QUICK,
    ),
    "planted": lambda: audit(
        made(K=4, classes=PLANTED, groups={name: [name, "b"] * 30 for name in PLANTED}),
        cost=1 - np.eye(4),
        name=PLANTED[0],
        settings=QUICK,
    ),
    "positive by number": lambda: audit(SAID, positive=1, settings=QUICK),
    "a name of another kind": lambda: audit(SAID, name=5, settings=QUICK),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_rows_are_measured_and_shown(case):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = ODD[case]()
        page = found.to_html()
        shown = [found.to_markdown(), repr(found), found._repr_html_()]
    assert all(shown) and json.loads(found.to_json())["version"] == 2
    assert "<script>alert(1)" not in page and "\u202e" not in page
    assert isinstance(found["identity"]["name"], str)


# -- files --


@pytest.fixture(scope="module")
def found():
    return audit(SAID, settings=QUICK)


def test_what_was_saved_is_read_and_replaced(found, tmp_path):
    files = found.save(tmp_path / "a")
    assert sorted(p.name for p in (tmp_path / "a").glob("[a-z]*")) == sorted(files)
    assert Audit.load(tmp_path / "a").to_json() == found.to_json()
    found.save(tmp_path / "a")  # over its own


def test_files_of_others_are_not_written_over(found, tmp_path):
    for name, text in [("report.html", "<p>mine"), ("audit.json", '{"npm": 1}')]:
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text(text)
        with pytest.raises(ConfigurationError, match="no audit of this library"):
            found.save(folder)
        assert [p.name for p in folder.iterdir()] == [name]
        assert (folder / name).read_text() == text


def test_a_folder_that_is_a_file_is_refused(found, tmp_path):
    (tmp_path / "taken").write_text("x")
    with pytest.raises(FineTuneLLMError, match="taken"):
        found.save(tmp_path / "taken")


def test_a_page_that_fails_leaves_what_was_there(found, tmp_path, monkeypatch):
    found.save(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.glob("[a-z]*")}
    pages = {"report.html": "new", "report.md": object()}
    monkeypatch.setattr(Audit, "_pages", lambda self: pages)
    with pytest.raises(AttributeError, match="isascii"):
        Audit({**found, "version": 2, "seeds": {"evaluated": False}}).save(tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.glob("[a-z]*")} == before


def test_audit_json_is_there_only_with_its_pages(found, tmp_path, monkeypatch):
    "Stopped at any rename, `audit.json` is missing or belongs to the pages"
    found.save(tmp_path)
    other = audit(SAID, name="other", settings=QUICK)
    for stop in range(1, 4):
        found.save(tmp_path)
        calls = []

        def replace(source, target, stop=stop, calls=calls, rename=os.rename):
            calls.append(target)
            if len(calls) > stop:
                raise KeyboardInterrupt
            rename(source, target)

        with monkeypatch.context() as m:
            m.setattr(os, "replace", replace)
            with pytest.raises(KeyboardInterrupt):
                other.save(tmp_path)
        assert not (tmp_path / "audit.json").exists()
        for page in (*found._pages(), "audit.json"):
            (tmp_path / page).unlink(missing_ok=True)


BROKEN = {
    "nothing": "",
    "half": '{"version": 2, "ident',
    "a list": "[]",
    "version 1": {"version": 1},
    "bare": {"version": 2},
    "identity": {"identity": []},
    "performance": {"performance": 5},
    "findings": {"findings": [{"code": "x"}]},
    "gates": {"gates": ["ece <= 1"]},
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_audit_is_refused(found, tmp_path, case):
    text = BROKEN[case]
    if isinstance(text, dict):
        is_whole = "version" in text
        text = json.dumps(text if is_whole else {**json.loads(found.to_json()), **text})
    (tmp_path / "audit.json").write_text(text)
    with pytest.raises(IntegrityError, match="audit.json"):
        Audit.load(tmp_path)


PROGRAM = """
import hashlib
import numpy as np
from fine_tune_llm.config.schema import AuditConfig
from fine_tune_llm.evaluation import audit
from fine_tune_llm.predictions import Predictions
rng = np.random.default_rng(0)
labels, K = rng.integers(3, size=400), 3
probs = rng.dirichlet(np.ones(K), size=400)
groups = {"g": rng.choice(list("abcd"), 400), "h": rng.choice(list("xy"), 400)}
texts = [f"he said {i} to her" for i in range(400)]
said = Predictions(probs=probs, labels=labels, groups=groups, texts=texts)
other = Predictions(probs=rng.dirichlet(np.ones(K), size=400), labels=labels)
found = audit(
    said, memberships={"m": ["p|q", "q", "", "r"] * 100}, cost=1 - np.eye(3),
    decide=lambda t: np.full((len(t), 3), 1 / 3), seeds=[other],
    gates=["ece <= .1", "max_gap(tpr) <= .1"], settings=AuditConfig(n_resamples=200),
)
text = found.to_json() + found.to_html() + found.to_markdown()
print(hashlib.sha256(text.encode()).hexdigest())
"""


def test_the_same_bytes_in_every_process():
    said = set()
    for hash_seed, threads in (("0", "1"), ("4242", "2")):
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
        env = {**os.environ, "PYTHONHASHSEED": hash_seed}
        env |= dict.fromkeys(names, threads)
        program = [sys.executable, "-c", PROGRAM]
        done = subprocess.run(program, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        said.add(done.stdout)
    assert len(said) == 1
