"""Third-party packages are found, used and, when broken, passed over

pip installs them into a folder of their own.
"""

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
    "ftllm_plugin_broken.py": """
import nowhere_to_be_found

def hinge(logits, labels):
    return 0.0
""",
}

# What each plugin must do once it is installed: the registry that finds it, its name,
# then lines that use `made`, the function that creates it, and leave `out`. A new kind
# of component gets its plugin in plugin_example and its row here.
USES = [
    (
        "training.LOSSES",
        "example_focal",
        """
import torch
logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]], requires_grad=True)
y = torch.tensor([0, 2])
plain = torch.nn.functional.cross_entropy(logits, y)
two = made()(logits, y)
two.backward()
p = logits.detach().softmax(-1)[[0, 1], y]
by_hand = -((1 - p) ** 2 * p.log()).mean()
out = [
    abs(float(made(gamma=0.0)(logits, y) - plain)) < 1e-6,
    abs(float(two - by_hand)) < 1e-6,
    bool(two < plain),
    bool(logits.grad.abs().sum() > 0),
]
""",
        [True, True, True, True],
    ),
    (
        "stats.SCORES",
        "example_margin",
        """
from fine_tune_llm.stats import ConformalClassifier
probs = [[0.6, 0.3, 0.1], [0.5, 0.5, 0.0], [0.2, 0.2, 0.6]]
conformal = ConformalClassifier('example_margin', alpha=0.4)
conformal.fit(probs, [0, 0, 2])  # scores of the truth: -0.3, 0 and -0.4
sets = conformal.predict(probs)
out = [made()(probs).round(9).tolist(), sets.tolist()]
""",
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
    # A copy, as setuptools builds inside the source
    shutil.copytree(ROOT / "tests" / "plugin_example", d / "example")
    words = "install -q --disable-pip-version-check --no-index --no-deps"
    pip = [sys.executable, "-m", "pip", *words.split(), "--no-build-isolation"]
    done = subprocess.run(
        [*pip, "--target", str(d / "site"), str(d / "example"), str(broken)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert not done.returncode, done.stderr
    return d / "site"


def python(site, code):
    """Run `code` in a process that sees the folder

    Returns what it leaves in `out`, and what it wrote to standard error.
    """
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


HEAD = """
from functools import partial
from fine_tune_llm.{module} import {registry} as registry
made = partial(registry.create, {name!r})
"""
FOOT = """
source = {{word: distribution for word, _, _, distribution in registry.table()}}
out = [out, {name!r} in registry, source[{name!r}]]
"""


@pytest.mark.parametrize(
    "kind,name,use,expected", USES, ids=[f"{k}-{n}" for k, n, *_ in USES]
)
def test_installed_plugin_is_used(plugins, kind, name, use, expected):
    module, registry = kind.split(".")
    names = {"module": module, "registry": registry, "name": name}
    out, err = python(plugins, HEAD.format(**names) + use + FOOT.format(**names))
    assert out == [expected, True, "ftllm-plugin-example 0.1"]


WRONG_SETTING = """
from fine_tune_llm.core.registry import Registry
try:
    Registry('loss').create('example_focal', gama=1.0)
except ValueError as e:
    out = str(e)
"""


def test_wrong_setting_of_a_plugin_shows_its_signature(plugins):
    out, _ = python(plugins, WRONG_SETTING)
    assert out == (
        "loss 'example_focal': got an unexpected keyword argument 'gama'. "
        "Did you mean 'gamma'? It is example_focal(logits, labels, *, gamma=2.0); "
        "logits and labels come with the call"
    )


ASK_FOR_BROKEN = """
from fine_tune_llm.core.registry import Registry
losses = Registry('loss')
names = list(losses)
len(losses)
try:
    losses.get('hinge')
except ValueError as e:
    out = [names, 'hinge' in losses, str(e), type(e.__cause__).__name__]
"""


def test_broken_plugin_is_reported_and_skipped(plugins):
    out, err = python(plugins, ASK_FOR_BROKEN)
    names, there, said, cause = out
    assert "example_focal" in names and "hinge" not in names and not there
    assert "loss 'hinge' comes from ftllm-plugin-broken 0.2" in said
    assert "No module named 'nowhere_to_be_found'" in said
    assert cause == "ModuleNotFoundError"
    assert err.count("plugin_skipped") == 1 and "ftllm-plugin-broken 0.2" in err


COUNT_LOOKS = """
import sys

class Watch:
    asked = 0

    def find_spec(self, *args):
        return None

    def find_distributions(self, context):
        self.asked += 1
        return ()

watch = Watch()
sys.meta_path.insert(0, watch)

def here():
    return [watch.asked, 'ftllm_plugin_example' in sys.modules]

from fine_tune_llm.core.registry import Registry
losses = Registry('loss')
losses.register('zero', lambda logits, labels: 0.0)
out = [here()]
losses.get('zero')
out.append(here())
losses.get('example_focal')
out.append(here())
list(losses)
out.append('torch' in sys.modules)
"""


def test_plugins_cost_nothing_until_they_are_asked_for(plugins):
    """Importing reads no metadata

    A built-in name imports no plugin; listing losses does not import torch.
    """
    out, _ = python(plugins, COUNT_LOOKS)
    assert out == [[0, False], [1, False], [1, True], False]


TRAIN = """
import os
os.environ['HF_HUB_OFFLINE'] = '1'
from pathlib import Path
from fine_tune_llm.models.hub import quiet
from fine_tune_llm.run.directory import Run
from fine_tune_llm.run.journey import fit
from fine_tune_llm.testing import tiny_model, toy_rows, toy_tokenizer

folder = Path(FOLDER)
rows = toy_rows(128)
tokenizer = toy_tokenizer([row['text'] for row in rows])
with quiet():
    model = tiny_model('bert', seed=0, vocab_size=len(tokenizer))
    model.save_pretrained(folder / 'base')
    tokenizer.save_pretrained(folder / 'base')
settings = {
    'loss': {'name': 'example_focal'},
    'conformal': {'score': 'example_margin'},
    'training': {'learning_rate': 1e-2, 'precision': 'fp32'},
    'data': {'train': 0.4, 'validation': 0.1, 'calibration': 0.3, 'test': 0.2},
}
given = {'config': settings, 'seed': 0, 'epochs': 1, 'progress': False}
fit(rows, out=folder / 'run', model=str(folder / 'base'), **given)
again = Run.load(folder / 'run')
decision = again.decide('rake the lawn', rationale=False)[0]
out = [
    again.config.loss.name,
    again.certificate['conformal']['params']['score'],
    len(decision.prediction_set) > 0,
]
"""


def test_a_run_is_trained_and_certified_with_a_plugin(plugins, tmp_path):
    """The names are settings like any other

    They reach training, the certificate and the run that is opened again.
    """
    out, _ = python(plugins, f"FOLDER = {str(tmp_path)!r}\n{TRAIN}")
    assert out == ["example_focal", "example_margin", True]
