"Weights that make class and groups independent reach the loss of a run"

import json

import numpy as np
import pytest

from fine_tune_llm.core.errors import ConfigurationError
from fine_tune_llm.run.journey import fit


class Stopped(Exception):
    "Raised where training would begin"


def rows():
    "Positives are common in the north and rare in the south"
    rng = np.random.default_rng(0)
    for i in range(400):
        site = "NS"[i % 2]
        label = "yes" if rng.random() < (0.8 if site == "N" else 0.2) else "no"
        yield {"text": f"message {i} about {label}", "label": label, "site": site}


@pytest.fixture()
def learned(monkeypatch):
    "What training was given, and that it is not done"
    given = {}

    def train(model, rows, *others, **settings):
        given["rows"] = rows
        raise Stopped

    monkeypatch.setattr("fine_tune_llm.run.journey.train", train)
    return given


def asked(tiny, tmp_path, **loss):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    return fit(
        file,
        out=tmp_path / "r",
        model=str(tiny / "bert"),
        group="site",
        config={"loss": loss},
        seed=0,
        progress=False,
    )


def test_rows_count_as_if_class_and_site_were_independent(tiny, tmp_path, learned):
    with pytest.raises(Stopped):
        asked(tiny, tmp_path, reweigh=["site"])
    texts, labels, weights = learned["rows"]
    north = np.array([int(text.split()[1]) % 2 == 0 for text in texts])
    share = [
        weights[inside] @ labels[inside] / weights[inside].sum()
        for inside in (north, ~north)
    ]
    assert share == pytest.approx([labels.mean()] * 2, abs=1e-9)
    assert weights.sum() == pytest.approx(len(texts))


def test_without_the_setting_rows_have_no_weights(tiny, tmp_path, learned):
    with pytest.raises(Stopped):
        asked(tiny, tmp_path)
    assert len(learned["rows"]) == 2


@pytest.mark.parametrize(
    "loss, words",
    [
        ({"reweigh": ["town"]}, "`loss.reweigh` is 'town'"),
        (
            {"reweigh": ["site"], "name": "mdca+cross_entropy"},
            "counts all rows the same",
        ),
    ],
)
def test_what_cannot_be_weighted_is_refused(tiny, tmp_path, loss, words):
    with pytest.raises(ConfigurationError, match=words):
        asked(tiny, tmp_path, **loss)
    assert not (tmp_path / "r").exists()
