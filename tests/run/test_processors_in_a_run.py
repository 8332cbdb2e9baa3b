"One chain of processors from the file to every decision, and copies that train alone"

import json
import re

import numpy as np
import pytest

from fine_tune_llm.config.layers import make_config
from fine_tune_llm.core.errors import (
    CertificateError,
    ConfigurationError,
    DataValidationError,
    LeakageError,
)
from fine_tune_llm.core.files import read_json
from fine_tune_llm.data import processors
from fine_tune_llm.data.augmentation import altered_copies
from fine_tune_llm.data.fingerprints import text_hash
from fine_tune_llm.data.loading import load
from fine_tune_llm.data.processors import PROCESSORS, Chain
from fine_tune_llm.data.schema import Schema
from fine_tune_llm.evaluation.auditing import audit
from fine_tune_llm.evaluation.baseline import baselines
from fine_tune_llm.evaluation.card import render_card
from fine_tune_llm.evaluation.report import render_report
from fine_tune_llm.models.ensembles import ensemble
from fine_tune_llm.predictions import Predictions
from fine_tune_llm.run import journey
from fine_tune_llm.run.asked import asked_prompt
from fine_tune_llm.run.copies import learned_rows
from fine_tune_llm.run.data_quality import check_with
from fine_tune_llm.run.deciding import outcome_of
from fine_tune_llm.run.directory import Run
from fine_tune_llm.run.export import export_run
from fine_tune_llm.testing import toy_rows

NAMES = ["html_entities", "html_tags", "mask_urls", "whitespace"]
SHARES = {"train": 0.4, "validation": 0.1, "calibration": 0.3, "test": 0.2}
DATA = {"processors": NAMES, **SHARES}
HEAD = "<style>p { color: red }</style>" * 20  # longer than anything that is read


def dressed(text):
    "A text as a page would show it"
    first, _, rest = text.partition(" ")
    return f"{HEAD}<p>\n  <b>{first}</b>&nbsp; {rest}<br/></p><!-- {text} -->"


@pytest.fixture(scope="module")
def rows():
    return [row | {"text": dressed(row["text"])} for row in toy_rows(512)]


@pytest.fixture(scope="module")
def run(toy_fit, rows, tmp_path_factory):
    out = tmp_path_factory.mktemp("processed") / "run"
    return toy_fit(out, rows, config={"data": DATA})


@pytest.fixture(scope="module")
def plain(toy_fit, tmp_path_factory):
    "The same fit of the texts that the chain leaves, without a chain"
    return toy_fit(tmp_path_factory.mktemp("plain") / "run")


@pytest.fixture(scope="module")
def texts(run):
    return [str(text) for text in run.predictions("test").texts[:40]]


def test_a_fit_with_the_chain_is_a_fit_of_what_the_chain_leaves(run, plain):
    chain = Chain(NAMES)
    for role in ("validation", "calibration", "test"):
        raw, read = run.predictions(role), plain.predictions(role)
        assert list(raw.ids) == list(read.ids)
        assert chain.process_all(raw.texts) == list(read.texts)
        np.testing.assert_allclose(raw.logits, read.logits, atol=1e-5)
    assert run.data["texts_read"] == plain.data["texts_read"]  # tokens of what is read


def test_raw_texts_are_kept(run, rows, texts):
    known = {row["text"] for row in rows}
    for role in ("train", "validation", "calibration", "test"):
        assert set(run.rows(role).texts) <= known
    assert all(HEAD in text for text in texts)


def test_every_road_says_the_same(run, plain, texts, ftllm, tmp_path):
    read = Chain(NAMES).process_all(texts)
    probs = run.predict_proba(texts)
    np.testing.assert_allclose(probs, plain.predict_proba(read), atol=1e-5)
    np.testing.assert_allclose(probs, outcome_of(run, texts).probs, atol=1e-6)
    alone = np.concatenate([run.predict_proba(text) for text in texts])
    np.testing.assert_allclose(alone, probs, atol=1e-5)
    together = run.decide(texts, rationale=False)
    assert [d.decision for d in together] == [
        d.decision for d in run.stream(iter(texts), at_once=3)
    ]
    given = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (tmp_path / "new.jsonl").write_text(given)
    done = ftllm(
        "decide", run.path, "new.jsonl", "--output", "said.jsonl", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "said.jsonl").read_text().splitlines()
    said = [json.loads(line) for line in lines]
    for one, line in zip(together, said, strict=True):
        assert line["decision"] == one.decision
        assert line["confidence"] == pytest.approx(one.confidence, abs=1e-4)


def test_a_graph_carries_the_chain(run, texts, tmp_path):
    pytest.importorskip("onnxruntime")
    graph = export_run(run, tmp_path / "graph")
    assert graph.model.processors.names == tuple(NAMES)
    np.testing.assert_allclose(
        graph.predict_proba(texts), run.predict_proba(texts), atol=1e-4
    )
    (graph.path / "tokenizer" / "processors.json").unlink()
    with pytest.raises(CertificateError):
        Run.load(graph.path)


def test_words_of_a_rationale_are_words_of_the_text(run, texts):
    (one,) = run.decide(texts[0], rationale=True)
    assert one.rationale.words
    for word in one.rationale.words:
        assert word.word in texts[0]


def test_a_text_of_which_nothing_is_left_is_an_error_of_its_row(run, texts):
    first, empty, last = run.decide([texts[0], "<p><br></p>", texts[1]])
    assert "empty after the processors html_entities, html_tags" in empty.error
    assert empty.abstain and first.error is None and last.error is None
    assert first == run.decide(texts[0])[0] or first.decision is not None
    with pytest.raises(DataValidationError, match="row 1: the text is empty after"):
        outcome_of(run, [texts[0], "<br>"])


def test_rows_of_which_nothing_is_left_are_named_before_anything_is_written(
    toy_fit, rows, tmp_path
):
    spoilt = [*rows, {"text": "<hr>", "label": "garden"}]
    with pytest.raises(DataValidationError, match=r"1 text is empty after .*row 512"):
        toy_fit(tmp_path / "run", spoilt, config={"data": DATA})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("what", ["order", "names", "away", "settings"])
def test_a_chain_that_was_changed_voids_the_certificate(run, tmp_path, what):
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(run.path, folder)
    file = folder / "tokenizer" / "processors.json"
    assert read_json(file)["names"] == NAMES
    if what == "away":
        file.unlink()
    elif what == "settings":
        text = (folder / "config.yaml").read_text()
        (folder / "config.yaml").write_text(text.replace("- mask_urls\n", ""))
        assert text != (folder / "config.yaml").read_text()
    else:
        names = NAMES[::-1] if what == "order" else NAMES[:1]
        file.write_text(json.dumps(Chain(names).to_dict()))
    with pytest.raises(CertificateError, match="void"):
        Run.load(folder)


def test_a_processor_that_does_something_else_now_voids_it(run, monkeypatch):
    opened = Run.load(run.path)
    monkeypatch.setattr(processors, "_INLINE", re.compile("em"))
    with pytest.raises(CertificateError, match="do not do what they did"):
        opened.decide("bake the bread")


def test_an_unknown_processor_is_refused_before_the_data_is_read(toy_fit, tmp_path):
    for section, words in (
        ({"processors": ["html_tag"]}, "Did you mean 'html_tags'"),
        ({"processors": ["keep_ends"]}, "needs an argument"),
        ({"augment": ["typo"]}, "Did you mean 'typos'"),
        ({"augment": ["synonyms:nowhere.tsv"]}, "no table of synonyms"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            toy_fit(tmp_path / "run", "nowhere.jsonl", config={"data": section})
        assert words in str(caught.value)


def test_one_of_your_own_is_applied_in_both_places(toy_fit, tmp_path):
    def without_when(text):
        return text.partition(",")[0]

    PROCESSORS.register("test_without_when", without_when)
    data = SHARES | {"processors": ["test_without_when"]}
    found = toy_fit(tmp_path / "run", config={"data": data})
    one, other = found.model.logits(["bake the bread", "bake the bread, and so on"])
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_baseline_reads_what_the_model_reads(run, plain):
    mine, other = (audit(one)["performance"]["baselines"] for one in (run, plain))
    assert mine == other
    labels = ["kitchen", "garden"] * 20
    train, test = (
        Predictions(
            logits=np.zeros((40, 2)),
            labels=labels,
            classes=("garden", "kitchen"),
            texts=[f"{label} <!-- {mark} {mark} -->" for label, mark in marked],
        )
        for marked in (zip(labels, labels[::-1]), zip(labels, labels))
    )
    said = [
        baselines(train, test, processors=Chain(names))["tfidf"]["value"]
        for names in ([], ["html_tags"])
    ]
    assert said[0] < said[1] == 1


def test_report_and_card_name_the_chain(run, plain):
    words = "processed before it is read"
    for one, is_there in ((run, True), (plain, False)):
        evidence = audit(one)
        for page in (render_report(evidence), render_card(evidence)):
            assert (words in page) == is_there
            assert ("mask_urls" in page) == is_there


def test_fresh_rows_in_other_clothes_are_not_fresh(run, texts):
    labels = run.predictions("test").label_names[: len(texts)]
    other = [f"<i>{text}</i>" for text in Chain(NAMES).process_all(texts)]
    again = [{"text": t, "label": y} for t, y in zip(other, labels)]
    with pytest.raises(LeakageError, match="in the test role"):
        run.certify(target_risk=0.3, calibration=again)


def test_texts_that_read_alike_stand_in_one_role():
    twice = [
        row | {"text": clothes.format(row["text"])}
        for row in toy_rows(256)
        for clothes in ("<p>{}</p>", "<i>{}</i> <!-- again -->", "{}")
    ]
    config = journey.fit_settings({"data": DATA}, None, {})
    dataset, ledger = journey.shared_data(twice, None, config)
    read = Chain(NAMES).process_all(dataset.texts)
    role_of = {}
    for role, rows in ledger.roles.items():
        for row in rows:
            assert role_of.setdefault(read[row], role) == role
    counted = [read[row] for row in ledger.roles["calibration"]]
    assert len(set(counted)) == len(counted)  # one row of each


def test_members_are_of_one_chain(run, plain, tiny):
    from fine_tune_llm.core.errors import AdapterError
    from fine_tune_llm.models.text_model import load_adapter

    def member(one):
        base = str(tiny / "bert")
        return load_adapter(base, one.path / "adapter", one.path / "tokenizer")

    with pytest.raises(AdapterError, match="chain of processors"):
        ensemble([member(run), member(plain)])
    both = ensemble([member(run), member(run)])
    assert both.processors == Chain(NAMES)
    one = member(run)
    np.testing.assert_allclose(both.logits([HEAD + "<p>a"]), both.logits(["a"]))
    assert one.cuts([HEAD + "<p>a"]).tolist() == [False]


def test_an_ensemble_of_a_run_carries_the_chain(toy_fit, rows, tmp_path):
    more = {"data": DATA, "training": {"members": 2, "precision": "fp32"}}
    both = toy_fit(tmp_path / "run", rows, config=more)
    text = rows[0]["text"]
    (read,) = Chain(NAMES).process_all([text])
    assert Run.load(both.path).model.processors == Chain(NAMES)
    np.testing.assert_allclose(
        both.predict_proba(text), both.predict_proba(read), atol=1e-6
    )


def test_training_on_takes_the_chain_of_its_own_settings(toy_fit, run, rows, tmp_path):
    data = SHARES | {"processors": [*NAMES, "nfc"]}
    found = toy_fit(tmp_path / "run", rows, start=run, config={"data": data})
    assert found.model.processors.names == (*NAMES, "nfc")


def test_examples_of_a_prompt_are_read_as_texts_are(rows):
    config = journey.fit_settings(
        {"data": DATA, "prompt": {"shots": 1, "examples": [["<b>x</b>", "garden"]]}},
        None,
        {},
    )
    data = load(rows)
    prompt = asked_prompt(config, data, train=np.arange(100))
    shown = [each.text for each in prompt.examples]
    assert shown[0] == "x" and len(shown) == 3
    assert not any("<" in text for text in shown)


# ---- altered copies


def words_seen(found):
    "What is decided, and on which rows"
    return {
        role: (list(found.rows(role).ids), list(found.rows(role).texts))
        for role in ("train", "validation", "calibration", "test")
    }


@pytest.fixture(scope="module")
def augmented(toy_fit, tmp_path_factory):
    "A run with copies, and the rows that its model learned from"
    learned = []
    real = journey.train

    def watched(model, train_rows, validation_rows, **more):
        learned.append((train_rows, validation_rows))
        return real(model, train_rows, validation_rows, **more)

    out = tmp_path_factory.mktemp("augmented") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journey, "train", watched)
        data = SHARES | {"augment": ["typos:0.1", "casing"]}
        found = toy_fit(out, config={"data": data})
    return found, learned


def test_copies_are_learned_from_and_stand_nowhere_else(augmented, plain):
    found, learned = augmented
    assert words_seen(found) == words_seen(plain)
    assert found.data["ledger"] == plain.data["ledger"]
    (texts, labels), (held_out, _) = learned[0]
    train = found.rows("train")
    n = len(train)
    assert list(texts[:n]) == list(train.texts)
    copies = texts[n:]
    assert len(copies) == found.data["augmented"]["copies"] > n
    others = {
        text_hash(text)
        for role in ("validation", "calibration", "test")
        for text in found.rows(role).texts
    }
    assert not others & set(map(text_hash, copies))
    assert list(held_out) == list(found.rows("validation").texts)
    assert len(labels) == len(texts)


def test_a_copy_has_the_label_of_its_text(augmented):
    found, learned = augmented
    (texts, labels), _ = learned[0]
    train = found.rows("train")
    label_of = dict(zip(map(text_hash, train.texts), train.labels))
    cased = [
        (text, label)
        for text, label in zip(texts[len(train) :], labels[len(train) :])
        if text_hash(text) in label_of
    ]
    assert len(cased) > 0.9 * len(train)
    assert all(label_of[text_hash(text)] == label for text, label in cased)


def test_the_same_fit_has_the_same_copies(augmented, toy_fit, tmp_path):
    found, _ = augmented
    data = SHARES | {"augment": ["typos:0.1", "casing"]}
    again = toy_fit(tmp_path / "run", config={"data": data})
    assert again.data["augmented"] == found.data["augmented"]
    np.testing.assert_allclose(
        again.predictions("test").logits, found.predictions("test").logits, atol=1e-5
    )
    other = toy_fit(tmp_path / "other", config={"data": data}, seed=1)
    assert other.data["augmented"]["sha256"] != found.data["augmented"]["sha256"]


def test_a_copy_has_the_weight_and_the_votes_of_its_text():
    rows = [
        {"text": f"text {i}", "a": "x", "b": "xy"[i % 2], "w": float(i + 1)}
        for i in range(6)
    ]
    data = load(rows, schema=Schema(label=None, votes=("a", "b"), weight="w"))
    train = np.array([4, 1, 2])
    copies = altered_copies([data.texts[i] for i in train], ["casing"], seed=0)
    texts, labels, weights = learned_rows(data, train, copies)
    for row, place in ((4, "text 4"), (1, "text 1"), (2, "text 2")):
        found = [
            (int(y), float(w))
            for t, y, w in zip(texts, labels, weights)
            if t.casefold() == place
        ]
        assert found[: len(found) // 2] == found[len(found) // 2 :]
        assert sum(w for _, w in found) == pytest.approx(2 * (row + 1))
    assert len(texts) == 8  # text 1 has votes for two classes


def test_report_says_how_many_copies(augmented):
    found, _ = augmented
    evidence = audit(found)
    n = f"{found.data['augmented']['copies']:,} altered copies"
    for page in (render_report(evidence), render_card(evidence)):
        assert n in page


def test_a_table_that_changed_is_another_run(toy_fit, tmp_path):
    table = tmp_path / "words.tsv"
    table.write_text("bread\tloaf\n")
    data = SHARES | {"augment": [f"synonyms:{table}"]}
    found = toy_fit(tmp_path / "run", config={"data": data})
    assert found.data["augmented"]["copies"] > 0
    from fine_tune_llm.core.errors import RunError

    table.write_text("bread\tbun\n")
    with pytest.raises(RunError, match="augmented"):
        toy_fit(tmp_path / "run", config={"data": data})


def test_the_checks_count_tokens_of_what_is_read(tiny):
    rows = toy_rows(64)
    rows[3]["text"] += f" <!-- {'rake the lawn ' * 100} -->"
    dataset = load(rows)

    def codes(processors):
        settings = {"model.name": str(tiny / "bert"), "data.processors": processors}
        found = check_with(dataset, make_config(settings)).findings
        return {one.code for one in found}

    assert "very_long_text" in codes([])
    assert "very_long_text" not in codes(["html_tags"])
