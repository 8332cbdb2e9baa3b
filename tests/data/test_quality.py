"Faults put into BANKING77 are found by name and row; clean data have none severe"

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fine_tune_llm.core.errors import ConfigurationError
from fine_tune_llm.data import (
    CHECKS,
    Inspected,
    Schema,
    check_data,
    load,
    sample,
    split_ledger,
)

DATA = Path(os.environ.get("FTLLM_DATA", "none"))
BANKING = DATA / "banking77"
needs_banking = pytest.mark.skipif(
    not BANKING.is_dir(), reason="FTLLM_DATA holds no banking77"
)


@pytest.fixture(scope="session")
def banking():
    return load(BANKING / "train.jsonl")


def in_words(texts):
    "A tokenizer that counts words, for a model that reads 100 of them"
    return [len(text.split()) for text in texts], 100


class Spoilt:
    "A data set to put faults into, and what is expected of each"

    def __init__(self, data, seed):
        self.data, self.rng = data, np.random.default_rng(seed)
        self.texts, self.labels = list(data.texts), data.labels.copy()
        self.ids, self.classes = list(data.ids), list(data.classes)
        self.free = self.rng.permutation(len(data)).tolist()
        self.exactly, self.among = {}, {}

    def take(self, n=1):
        "Rows that have no fault yet"
        return [self.free.pop() for _ in range(n)]

    def put(self, code, texts, *, exactly=True):
        "Texts in place of others, one finding for all"
        rows = self.take(len(texts))
        for row, text in zip(rows, texts):
            self.texts[row] = text if isinstance(text, str | None) else text(row)
        (self.exactly if exactly else self.among)[code] = rows
        return rows

    def added(self, code, *parts):
        "Something added to the text of a row"
        return self.put(
            code, [lambda row, p=p: f"{self.texts[row]} {p}" for p in parts]
        )

    def mark(self, name, pattern):
        "Free rows of a class with something in their texts"
        of_class = np.flatnonzero(self.labels == self.classes.index(name)).tolist()
        rows = sorted(set(of_class) & set(self.free))
        for row in rows:
            self.texts[row] = pattern.format(text=self.texts[row])
            self.free.remove(row)
        return rows

    def built(self):
        "The data set with its faults"
        return replace(
            self.data,
            texts=tuple(self.texts),
            labels=self.labels,
            ids=tuple(self.ids),
            classes=tuple(self.classes),
        )


def repeat(spoilt, code, change, *, label=None):
    "A later row that says what an earlier one says"
    first, second = sorted(spoilt.take(2))
    spoilt.texts[second] = change(spoilt.texts[first])
    if label is None:
        spoilt.labels[second] = spoilt.labels[first]
    spoilt.among[code] = [second]
    return first, second


GERMAN = [
    f"Ich habe die {w} nicht bekommen, was ist da los?" for w in ("Karte", "Post")
]
RUSSIAN = ["Где моя карта, я жду уже две недели", "Почему не пришла моя карта"]
LONG = (
    "I want to know why my transfer has not come to the account of my sister in Spain, "
)
LONG += "since I have sent it more than a week ago and she needs the money for the rent"


def spoil_repeats(spoilt):
    "Texts that an earlier row has, or nearly has"
    repeat(spoilt, "exact_duplicates", str)
    repeat(spoilt, "normalised_duplicates", lambda text: f" {text.upper()} ")
    repeat(spoilt, "look_alike_duplicates", lambda text: text.replace("a", "\u0430"))
    first, second = repeat(spoilt, "near_duplicates", lambda text: LONG + " tomorrow")
    spoilt.texts[first] = LONG
    first, second = repeat(spoilt, "exact_duplicates", str)
    spoilt.labels[second] = (spoilt.labels[first] + 1) % len(spoilt.classes)
    spoilt.among["conflicting_labels"] = [first, second]


def spoil_texts(spoilt):
    "Texts that are garbled, private, foreign, too long or too short"
    spoilt.put("empty_text", [None, " \u200b"])
    spoilt.put("very_short_text", ["?!", "ok"])
    spoilt.put("very_long_text", ["my card is lost " * 40])
    spoilt.put("other_language", GERMAN + RUSSIAN, exactly=False)
    spoilt.among["other_script"] = spoilt.among["other_language"][2:]
    spoilt.put("mojibake", ["it\u00e2\u20ac\u2122s lost", "my caf\u00c3\u00a9 payment"])
    spoilt.added("replaced_characters", "caf\ufffd")
    spoilt.added("control_characters", "\x07")
    spoilt.added("markup", "<br>", "&nbsp;")
    spoilt.added("personal_email", "or write to ada.l@example.co.uk")
    spoilt.added("personal_phone", "call +44 20 7946 0958", "ring (415) 555-2671")
    spoilt.added("personal_card", "it is 5500 0055 5555 5559", "(378282246310005)")
    spoilt.added("personal_iban", "to DE89 3704 0044 0532 0130 00 please")
    spoilt.added("personal_ip", "from 93.184.216.34")
    spoilt.added("personal_national_id", "my number is 219-09-9999")
    spoilt.put("outlier", load(sample("triage")).texts[:400:40], exactly=False)
    a, b = spoilt.take(2)
    spoilt.ids[b] = spoilt.ids[a]
    spoilt.exactly["repeated_ids"] = [a, b]


def spoil_labels(spoilt):
    "Classes that are one or nearly none, and texts that tell their label"
    spoilt.classes += ["Card Arrival", "new_thing"]  # one is there as card_arrival
    twin, tiny = spoilt.take(5), spoilt.take(2)
    spoilt.labels[twin] = len(spoilt.classes) - 2
    spoilt.labels[tiny] = len(spoilt.classes) - 1
    spoilt.among["look_alike_classes"] = twin
    spoilt.exactly["tiny_class"] = tiny
    spoilt.among["giveaway_word"] = spoilt.mark("atm_support", "{text} [q7]")
    spoilt.among["class_name_in_text"] = [
        *spoilt.mark("edit_personal_details", "edit_personal_details: {text}"),
        *spoilt.mark("verify_top_up", "verify_top_up: {text}"),
    ]


def with_faults(banking, seed):
    "BANKING77 with some thirty faults, each in rows of its own"
    spoilt = Spoilt(banking, seed)
    for spoil in (spoil_repeats, spoil_texts, spoil_labels):
        spoil(spoilt)
    return spoilt


PRIVATE = ["ada.l", "20 7946", "5500 0055", "378282", "0532 0130", "184.216", "219-09"]
CODES = [
    "exact_duplicates",
    "normalised_duplicates",
    "look_alike_duplicates",
    "near_duplicates",
    "empty_text",
    "conflicting_labels",
    "very_short_text",
    "very_long_text",
    "other_language",
    "other_script",
    "mojibake",
    "replaced_characters",
    "control_characters",
    "markup",
    "personal_email",
    "personal_phone",
    "personal_card",
    "personal_iban",
    "personal_ip",
    "personal_national_id",
    "outlier",
    "repeated_ids",
    "look_alike_classes",
    "tiny_class",
    "giveaway_word",
    "class_name_in_text",
]


@pytest.fixture(scope="session", params=[0, 1])
def planted(request, banking):
    spoilt = with_faults(banking, request.param)
    return spoilt, check_data(spoilt.built(), count_tokens=in_words, seed=0)


@needs_banking
@pytest.mark.parametrize("code", CODES)
def test_a_planted_fault_is_found_in_its_rows(planted, code):
    spoilt, quality = planted
    found = {one.code: one.rows for one in quality.findings}
    assert code in found
    if code in spoilt.exactly:
        assert sorted(found[code]) == sorted(spoilt.exactly[code])
    else:
        assert set(spoilt.among[code]) <= set(found[code])


@needs_banking
def test_what_was_planted_is_all_that_is_expected(planted):
    spoilt, quality = planted
    assert {*spoilt.exactly, *spoilt.among} == set(CODES)
    assert "check_failed" not in [one.code for one in quality.findings]


@needs_banking
def test_no_private_value_is_in_the_record(planted):
    said = json.dumps(planted[1].to_dict()) + planted[1]._repr_html_()
    for value in PRIVATE:
        assert value not in said


@needs_banking
def test_wrong_labels_are_among_the_suspects(banking):
    rng = np.random.default_rng(0)
    wrong = rng.choice(len(banking), 180, replace=False)  # 2%
    labels = banking.labels.copy()
    labels[wrong] = (labels[wrong] + rng.integers(1, 77, len(wrong))) % 77
    spoilt = replace(banking, labels=labels)
    quality = check_data(spoilt, checks=["wrong_labels"], seed=0)
    (found,) = quality.findings
    assert (found.code, found.severity) == ("suspicious_labels", "medium")
    recall = len(set(found.rows) & set(wrong.tolist())) / len(wrong)
    assert recall > 0.5  # the bag of words is right on 9 in 10, and must be sure
    before = check_data(banking, checks=["wrong_labels"], seed=0).findings[0]
    assert len(set(before.rows) & set(wrong.tolist())) < 0.1 * len(wrong)


@needs_banking
def test_suspects_are_those_of_cleanlab(banking):
    filters = pytest.importorskip("cleanlab.filter")
    few = banking.take(np.arange(0, len(banking), 3))
    rows = Inspected(few, seed=0)
    theirs = filters.find_label_issues(
        few.labels, rows.probs, filter_by="confident_learning"
    )
    (found,) = check_data(few, checks=["wrong_labels"], seed=0).findings
    assert sorted(found.rows) == np.flatnonzero(theirs).tolist()
    assert len(found.rows) > 20


# Clean data


@needs_banking
@pytest.mark.parametrize("seed", range(3))
def test_a_clean_part_has_nothing_severe(banking, seed):
    rows = np.random.default_rng(seed).choice(len(banking), 5000, replace=False)
    quality = check_data(banking.take(np.sort(rows)), seed=seed)
    assert [one.code for one in quality.of("high")] == []


@needs_banking
def test_clean_data_under_a_ledger_have_nothing_severe_and_no_leak(banking):
    shares = {"train": 0.64, "validation": 0.08, "calibration": 0.14, "test": 0.14}
    ledger = split_ledger(banking, shares, seed=0)
    quality = check_data(banking, ledger, seed=0)
    codes = {one.code for one in quality.findings}
    assert not codes & {"leaked_text", "drift", "label_shift"}
    assert quality.of("high") == ()


def with_test(main, held_out):
    "Rows of two files, as one data set"
    index = [main.classes.index(held_out.classes[k]) for k in held_out.labels]
    return replace(
        main,
        texts=main.texts + held_out.texts,
        labels=np.r_[main.labels, index],
        ids=(*main.ids, *(f"test-{i}" for i in held_out.ids)),
        places=(),
    )


@needs_banking
def test_the_test_file_of_banking77_does_not_differ_much(banking):
    held_out = load(BANKING / "test.jsonl")
    both = with_test(banking, held_out)
    quality = check_data(both, n_test_file=len(held_out), seed=0)
    assert quality.of("high") == ()
    (leak,) = [one for one in quality.findings if one.code == "leaked_text"]
    # five of its 3,080 questions stand in the training file, too
    assert (leak.severity, len(leak.rows)) == ("medium", 5)
    assert min(leak.rows) >= len(banking)


@pytest.mark.parametrize("seed", range(3))
def test_the_bundled_sample_has_nothing_severe(seed):
    data = load(sample("triage"), group=["channel", "english", "age_band"])
    assert check_data(data, seed=seed).of("high") == ()


# Roles and groups


def with_roles(data, names):
    return replace(data, splits=np.array(names, object))


def codes_of(data, **options):
    return {one.code: one for one in check_data(data, seed=0, **options).findings}


@needs_banking
def test_leaks_are_found_in_rows_of_the_later_role(banking):
    few = banking.take(np.arange(0, len(banking), 6))
    names = np.where(np.arange(len(few)) % 3, "train", "test").astype(object)
    texts, tests = list(few.texts), np.flatnonzero(names == "test")[:3].tolist()
    trained = np.flatnonzero(names == "train")[:2].tolist()
    texts[tests[0]] = texts[trained[0]].upper()
    clusters = np.array([f"person {i}" for i in range(len(few))], object)
    clusters[tests[1]] = clusters[trained[1]]
    leaky = replace(with_roles(few, names), texts=tuple(texts), clusters=clusters)
    found = codes_of(leaky, checks=["leakage"])
    assert found["leaked_text"].severity == "high"
    # the role that comes first in the data is the one that is learnt from
    first = names[0]
    other = {"test": tests, "train": trained}["train" if first == "test" else "test"]
    assert found["leaked_text"].rows == (other[0],)
    assert found["leaked_cluster"].rows == (other[1],)
    assert not codes_of(with_roles(few, names), checks=["leakage"])


@needs_banking
def test_drift_and_moved_classes_are_found(banking):
    few = banking.take(np.arange(0, len(banking), 3))
    early = few.labels < 30
    names = np.where(early, "train", "test").astype(object)
    found = codes_of(with_roles(few, names), checks=["drift", "label_shift"])
    assert found["drift"].severity == "high"
    assert found["label_shift"].severity == "medium"
    rng = np.random.default_rng(0)
    shuffled = rng.permutation(names)
    assert not codes_of(with_roles(few, shuffled), checks=["drift", "label_shift"])


@needs_banking
def test_groups_that_go_with_the_label_are_found_and_others_are_not(banking):
    rng = np.random.default_rng(0)
    coin = rng.choice(["a", "b"], len(banking)).astype(object)
    tied = np.where(banking.labels % 2, "odd", "even").astype(object)
    rare = coin.copy()
    rare[::2000] = "z"
    blank = coin.copy()
    blank[: len(banking) // 10] = None
    groups = {"coin": coin, "tied": tied, "rare": rare, "blank": blank}
    found = check_data(
        replace(banking, groups=groups), checks=["groups", "group_labels"], seed=0
    ).findings
    said = {(one.code, one.details["column"]): one for one in found}
    assert set(said) == {
        ("group_goes_with_label", "tied"),
        ("tiny_group", "rare"),
        ("group_unknown", "blank"),
    }
    assert said["tiny_group", "rare"].rows == (0, 2000, 4000, 6000, 8000)
    assert said["group_goes_with_label", "tied"].details["v"] > 0.99


@needs_banking
def test_a_group_without_rows_in_a_role_is_found(banking):
    few = banking.take(np.arange(0, len(banking), 20))
    names = np.where(np.arange(len(few)) % 3, "train", "test").astype(object)
    group = np.where(names == "train", "north", "south").astype(object)
    spoilt = replace(with_roles(few, names), groups={"region": group})
    found = codes_of(spoilt, checks=["groups"])["group_missing_in_role"]
    assert found.details["absent"] == {"test": ["north"], "train": ["south"]}


def test_annotators_who_disagree_are_found():
    votes = np.array([[3, 0], [0, 3], [1, 1], [2, 2]] * 10, float)
    rows = [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(40)]
    found = codes_of(replace(load(rows), votes=votes), checks=["disagreement"])
    expected = tuple(i for i in range(40) if i % 4 in (2, 3))
    assert found["no_majority"].rows == expected


# By chance alone


def test_a_class_that_has_rows_is_not_said_to_have_none():
    rows = [{"text": f"{k} {i}", "label": k} for k in "ab" for i in range(9)]
    rows += [{"text": f"a {i}", "label": "c"} for i in range(5)]
    schema = Schema(classes=("a", "b", "c", "d"))
    quality = check_data(load(rows, schema=schema), checks=["class_sizes"], seed=0)
    found = {one.code: one for one in quality.findings}
    assert found["class_without_rows"].message == "no text has the class 'd'"
    shared = found["class_without_own_texts"]
    assert shared.message.startswith("'c': only on texts that stand under several lab")
    assert shared.rows == tuple(range(18, 23)) and "tiny_class" not in found


@pytest.mark.parametrize("dataset", [None, "mails.json", [{"text": "a", "label": "b"}]])
def test_what_is_no_data_set_is_refused(dataset):
    with pytest.raises(ConfigurationError, match=r"`dataset` must be.*load\(\.\.\.\)"):
        check_data(dataset, seed=0)


def test_few_findings_are_false():
    "Of 40 data sets without any effect, at 1 in 100, more than 4 have a chance of 1e-4"
    rng = np.random.default_rng(0)
    words = np.array(
        [
            "card",
            "loan",
            "lost",
            "top",
            "up",
            "bank",
            "fee",
            "rate",
            "where",
            "when",
            "my",
            "is",
            "the",
        ]
    )
    false = 0
    for _ in range(40):
        texts = [" ".join(rng.choice(words, 6)) for _ in range(200)]
        rows = [{"text": f"{t} {i}", "label": "ab"[i % 2]} for i, t in enumerate(texts)]
        names = rng.choice(["train", "test"], 200).astype(object)
        groups = {"g": rng.choice(["x", "y", "z"], 200).astype(object)}
        data = replace(with_roles(load(rows), names), groups=groups)
        tests = ["drift", "label_shift", "group_labels"]
        false += bool(check_data(data, checks=tests, seed=0).findings)
    assert false <= 4


# Third parties, failures, order


def test_a_check_of_somebody_else_that_fails_ends_nothing():
    CHECKS.register("broken_for_a_test", lambda rows: 1 / 0)
    data = load([{"text": "a", "label": "b"}])
    found = codes_of(data, checks=["broken_for_a_test", "balance"])
    assert set(found) == {"check_failed", "single_class"}
    CHECKS._own = {k: v for k, v in CHECKS._own.items() if k != "broken_for_a_test"}


@pytest.mark.parametrize(
    "rows",
    [
        [{"text": "a", "label": "b"}],
        [{"text": "?", "label": "b"}, {"text": "!", "label": "c"}],
        [{"text": "same", "label": "b"}] * 3,
        [{"text": "\u200b\U0001f600", "label": "<script>"}] * 2,
    ],
)
def test_odd_data_are_checked_without_failing(rows):
    data = load(rows, on_empty="keep")
    quality = check_data(data, seed=0)
    assert "check_failed" not in [one.code for one in quality.findings]
    json.dumps(quality.to_dict())
    assert "<script>" not in quality._repr_html_()
    assert quality._repr_markdown_().startswith("**")


def test_the_order_is_by_severity_then_name():
    data = load([{"text": "a", "label": "b"}, {"text": "A", "label": "c"}] * 3)
    findings = check_data(data, seed=0).findings
    order = ["high", "medium", "low", "info"]
    keys = [(order.index(one.severity), one.code) for one in findings]
    assert keys == sorted(keys) and len(keys) > 3
