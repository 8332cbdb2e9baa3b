"Third-party packages, installed by pip into a folder of their own, are found, used and, when broken, passed over"

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BROKEN = {
    "pyproject.toml": """
[build-system]
requires = ["setuptools>=61"]
build-backend = "setuptools.build_meta"
[project]
name = "ftllm-plugin-broken"
version = "0.2"
[project.entry-points."fine_tune_llm.losses"]
hinge = "ftllm_plugin_broken:hinge"
[tool.setuptools]
py-modules = ["ftllm_plugin_broken"]
""",
    "ftllm_plugin_broken.py": "import nowhere_to_be_found\ndef hinge(logits, labels): return 0.\n",
}

# What each plugin must do once it is installed: the registry that finds it, name, then lines that use `made`, the function that creates it, and leave `out`.
# A new kind of component gets its plugin in plugin_example and its row here.
USES = [
    (
        "losses.LOSSES",
        "example_focal",
        """
import torch
logits = torch.tensor([[2., 0., -1.], [0., 1., 0.]], requires_grad=True); y = torch.tensor([0, 2])
plain = torch.nn.functional.cross_entropy(logits, y)
two = made()(logits, y); two.backward()
p = logits.detach().softmax(-1)[[0, 1], y]
out = [abs(float(made(gamma=0.)(logits, y)-plain)) < 1e-6, abs(float(two+((1-p)**2*p.log()).mean())) < 1e-6, bool(two < plain), bool(logits.grad.abs().sum() > 0)]""",
        [True, True, True, True],
    ),
    (
        "conformal.SCORES",
        "example_margin",
        """
from fine_tune_llm.stats.conformal import ConformalClassifier
probs = [[.6, .3, .1], [.5, .5, 0.], [.2, .2, .6]]
sets = ConformalClassifier('example_margin', alpha=.4).fit(probs, [0, 0, 2]).predict(probs)   # scores of the truth: -.3, 0 and -.4
out = [made()(probs).round(9).tolist(), sets.tolist()]""",
        [
            [[-0.3, 0.3, 0.5], [0.0, 0.0, 0.5], [0.4, 0.4, -0.4]],
            [[True, False, False], [True, True, False], [False, False, True]],
        ],
    ),
]


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    "The folder where pip has put the example and a package that cannot be imported"
    d = tmp_path_factory.mktemp("plugins")
    broken = d / "broken"
    broken.mkdir()
    for name, text in BROKEN.items():
        (broken / name).write_text(text, encoding="utf-8")
    shutil.copytree(
        ROOT / "tests" / "plugin_example", d / "example"
    )  # setuptools builds inside the source
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--disable-pip-version-check",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
    ]
    done = subprocess.run(
        [*pip, "--target", str(d / "site"), str(d / "example"), str(broken)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert not done.returncode, done.stderr
    return d / "site"


def python(site, code):
    "What `code` leaves in `out`, and what it wrote to standard error, in a process that sees the folder"
    path = os.pathsep.join([str(site), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", f"import json\n{code}\nprint(json.dumps(out))"],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )
    assert not done.returncode, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.mark.parametrize(
    "kind,name,use,expected", USES, ids=[f"{k}-{n}" for k, n, *_ in USES]
)
def test_installed_plugin_is_used(plugins, kind, name, use, expected):
    module, registry = kind.split(".")
    head = f"from functools import partial\nfrom fine_tune_llm.{module} import {registry} as r\nmade = partial(r.create, {name!r})"
    out, err = python(
        plugins,
        f"{head}\n{use}\nout = [out, {name!r} in r, dict((n, s) for n,_,_,s in r.table())[{name!r}]]",
    )
    assert out == [expected, True, "ftllm-plugin-example 0.1"]


def test_wrong_setting_of_a_plugin_shows_its_signature(plugins):
    out, _ = python(
        plugins,
        """
from fine_tune_llm.core.registry import Registry
try: Registry('loss').create('example_focal', gama=1.)
except ValueError as e: out = str(e)""",
    )
    assert (
        out
        == "loss 'example_focal': got an unexpected keyword argument 'gama'. Did you mean 'gamma'? It is example_focal(logits, labels, *, gamma=2.0); logits and labels come with the call"
    )


def test_broken_plugin_is_reported_and_skipped(plugins):
    out, err = python(
        plugins,
        """
from fine_tune_llm.core.registry import Registry
r = Registry('loss'); names = list(r); len(r)
try: r.get('hinge')
except ValueError as e: out = [names, 'hinge' in r, str(e), type(e.__cause__).__name__]""",
    )
    names, there, said, cause = out
    assert "example_focal" in names and "hinge" not in names and not there
    assert (
        "loss 'hinge' comes from ftllm-plugin-broken 0.2" in said
        and "No module named 'nowhere_to_be_found'" in said
        and cause == "ModuleNotFoundError"
    )
    assert err.count("plugin_skipped") == 1 and "ftllm-plugin-broken 0.2" in err


def test_plugins_cost_nothing_until_they_are_asked_for(plugins):
    "Importing reads no metadata; a built-in name imports no plugin; listing losses does not import torch"
    out, _ = python(
        plugins,
        """
import sys
class Watch:
    asked = 0
    def find_spec(self, *args): return None
    def find_distributions(self, context): self.asked += 1; return ()
watch = Watch(); sys.meta_path.insert(0, watch); here = lambda: [watch.asked, 'ftllm_plugin_example' in sys.modules]
from fine_tune_llm.core.registry import Registry
r = Registry('loss'); r.register('zero', lambda logits, labels: 0.); out = [here()]
r.get('zero'); out.append(here())
r.get('example_focal'); out.append(here())
list(r); out.append('torch' in sys.modules)""",
    )
    assert out == [[0, False], [1, False], [1, True], False]


def test_a_run_is_trained_and_certified_with_a_plugin(plugins, tmp_path):
    "The names are settings like any other: they reach training, the certificate and the run that is opened again"
    out, _ = python(
        plugins,
        f"""
import os; os.environ['HF_HUB_OFFLINE'] = '1'
from pathlib import Path
from fine_tune_llm.models.hub import quiet
from fine_tune_llm.run.directory import Run
from fine_tune_llm.run.journey import fit
from fine_tune_llm.testing import tiny_model, toy_rows, toy_tokenizer
d = Path({str(tmp_path)!r}); rows = toy_rows(128); tok = toy_tokenizer([r['text'] for r in rows])
with quiet(): tiny_model('bert', seed=0, vocab_size=len(tok)).save_pretrained(d/'base'); tok.save_pretrained(d/'base')
settings = dict(loss=dict(name='example_focal'), conformal=dict(score='example_margin'), training=dict(learning_rate=1e-2, precision='fp32'), data=dict(train=.4, validation=.1, calibration=.3, test=.2))
run = fit(rows, out=d/'run', model=str(d/'base'), config=settings, seed=0, epochs=1, progress=False)
again = Run.load(d/'run')
out = [again.config.loss.name, again.certificate['conformal']['params']['score'], len(again.decide('rake the lawn', rationale=False)[0].prediction_set) > 0]""",
    )
    assert out == ["example_focal", "example_margin", True]
