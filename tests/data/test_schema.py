"Which column is what, and what each may hold: read as what it is, or refused by line"

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fine_tune_llm.config.schema import DataConfig
from fine_tune_llm.core.errors import (
    ConfigurationError,
    DataError,
    DataValidationError,
    SchemaError,
)
from fine_tune_llm.data import Schema, load, share_out
from fine_tune_llm.data.columns import as_number
from fine_tune_llm.data.spellings import join_spellings, spelled_as, spelling_key

CASES = Path(__file__).parent.parent / "cases"


def rows_of(**columns):
    "Rows by column, with a text and a label each"
    n = len(next(iter(columns.values())))
    each = [dict(zip(columns, values)) for values in zip(*columns.values())]
    return [{"text": f"t{i}", "label": "ab"[i % 2]} | each[i] for i in range(n)]


def notes_of(data):
    return " ".join(data.source.get("notes", ()))


# --- columns


def test_every_column_may_be_nested():
    row = {
        "body": {"en": "hi"},
        "meta": {"who": "p1", "at": "2026-01-02", "w": 2, "role": "train", "no": 7},
        "said": [{"by": ["x", "y", "x"]}],
        "g": {"age": "65+"},
    }
    named = Schema(
        text="body.en",
        votes="said.0.by",
        group="g.age",
        cluster="meta.who",
        id="meta.no",
        weight="meta.w",
        time="meta.at",
        split="meta.role",
    )
    for source in ([row], json.dumps(row).encode(), pa.Table.from_pylist([row])):
        data = load(source, schema=named)
        assert data.texts == ("hi",) and data.ids == ("7",)
        assert data.classes == ("x", "y") and data.votes.tolist() == [[2, 1]]
        assert data.groups["g.age"].tolist() == ["65+"] and data.clusters[0] == "p1"
        assert data.weights.tolist() == [2] and data.splits.tolist() == ["train"]
        assert data.times[0] == np.datetime64("2026-01-02", "us")


@pytest.mark.parametrize("what", ["weight", "time", "split", "cluster", "id", "votes"])
def test_a_column_that_is_not_there_is_named_with_its_neighbours(what):
    rows = rows_of(trusted=[1, 2])
    asked = what if what == "cluster" else f"data.{what}"
    words = f"no column `trust`.*Did you mean {asked}=`trusted`"
    with pytest.raises(SchemaError, match=words):
        load(rows, schema=Schema(**{what: "trust"}))


def test_only_the_default_id_may_be_missing():
    assert load(rows_of(x=[1, 2])).ids == ("0", "1")
    assert load(rows_of(x=["p", "q"]), schema=Schema(id="x")).ids == ("p", "q")
    twice = load(rows_of(x=["p", "p"]), schema=Schema(id="x"))
    assert twice.repeated_ids() == {"p": [0, 1]}


def test_a_schema_stands_alone():
    with pytest.raises(ConfigurationError, match="others were given beside it"):
        load(rows_of(x=[1, 2]), group="x", schema=Schema())


@pytest.mark.parametrize(
    "wrong",
    [
        {"text": None},
        {"id": None},
        {"weight": 1.5},
        {"votes": [None]},
        {"group": [["a"]]},
        {"time": True},
        {"classes": "ab"},
        {"classes": ["a", None]},
        {"classes": ["a", " A"]},
        {"label_names": "fuzzy"},
    ],
)
def test_what_can_be_no_schema(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Schema(**wrong)


def test_settings_say_the_same():
    asked = DataConfig(
        text="body",
        group=("g",),
        votes=("a", "b"),
        weight="w",
        time="at",
        split="role",
        classes=("y", "x"),
    )
    found = Schema.from_settings(asked)
    assert found.to_dict() == {
        "text": "body",
        "group": ["g"],
        "id": "id",
        "weight": "w",
        "time": "at",
        "votes": ["a", "b"],
        "classes": ["y", "x"],
        "label_names": "normalised",
    }
    by_column = asked.model_copy(update={"split_by": "column"})
    assert Schema.from_settings(by_column).split == "role"
    assert "label" not in found.columns and hash(found) == hash(found)


# --- weights


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1),
        ("1.5", 1.5),
        (" 2 ", 2),
        ("1e-3", 0.001),
        (".5", 0.5),
        (Decimal("0.1"), 0.1),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        ("1_0", None),
        ("1,5", None),
        ("nan", None),
        ("inf", None),
        ("٣", None),
        (float("nan"), None),
        (10**400, None),
        (True, None),
        (None, None),
        ([1], None),
    ],
)
def test_numbers(value, number):
    assert as_number(value) == number


def test_weights_that_are_none_are_named_by_line():
    raw = b"text,label,w\na,x,1\nb,y,-1\nc,x,\nd,y,much\n"
    said = (
        r"3 rows of `x.csv` have a weight that is no number, or below 0: lines 3, 4, 5"
    )
    with pytest.raises(DataValidationError, match=said):
        load(raw, name="x.csv", schema=Schema(weight="w"))
    with pytest.raises(DataValidationError, match="line 2 weight must be.*got nothing"):
        load(b"text,label,w\na,x,\nb,y,1\n", name="x.csv", schema=Schema(weight="w"))
    with pytest.raises(DataValidationError, match="all 2 rows .* have the weight 0"):
        load(rows_of(w=[0, 0.0]), schema=Schema(weight="w"))


# --- times

NOON = np.datetime64("2026-03-01T12:00", "us")


@pytest.mark.parametrize(
    "value",
    [
        "2026-03-01T12:00:00",
        "2026-03-01 12:00",
        "2026-03-01T13:00:00+01:00",
        "20260301T120000Z",
        datetime(2026, 3, 1, 12),
        datetime(2026, 3, 1, 12, tzinfo=UTC),
        datetime(2026, 3, 1, 7, tzinfo=timezone(timedelta(hours=-5))),
        np.datetime64("2026-03-01T12:00:00.000000000"),
        1772366400,
        1772366400.0,
        "1772366400",
        1772366400000,
        1772366400000000,
        1772366400000000000,
        np.int64(1772366400),
        Decimal(1772366400),
    ],
)
def test_one_moment_in_many_words(value):
    data = load(rows_of(at=[value]), schema=Schema(time="at"))
    assert data.times.dtype == "datetime64[us]" and data.times[0] == NOON


def test_a_day_is_its_midnight_and_pandas_says_the_same():
    pd = pytest.importorskip("pandas")
    day = np.datetime64("2026-03-01", "us")
    for value in ("2026-03-01", date(2026, 3, 1), pd.Timestamp("2026-03-01")):
        assert load(rows_of(at=[value]), schema=Schema(time="at")).times[0] == day
    frame = pd.DataFrame(rows_of(at=[1, 2]))
    frame["at"] = pd.to_datetime(["2026-03-01", "2026-03-02"]).tz_localize("Asia/Tokyo")
    for source in (frame, pa.Table.from_pandas(frame)):
        times = load(source, schema=Schema(time="at")).times
        expected = frame["at"].dt.tz_convert("UTC").dt.tz_localize(None)
        assert (times == expected.to_numpy("datetime64[us]")).all()


@given(
    st.datetimes(datetime(1974, 1, 1), datetime(2280, 1, 1)), st.sampled_from([0, 3, 6])
)
def test_numbers_of_any_unit_are_the_moment_that_python_says(moment, digits):
    "Seconds, milliseconds and microseconds, against the standard library"
    moment = moment.replace(microsecond=moment.microsecond // 10**6 * 10**6, tzinfo=UTC)
    number = int(moment.timestamp()) * 10**digits
    data = load(rows_of(at=[number]), schema=Schema(time="at"))
    assert data.times[0].item() == moment.replace(tzinfo=None)


@pytest.mark.parametrize(
    "value",
    [2024, "2024", 20240131, -5, 10**10, "yesterday", "31.12.2025", True, [1], ""],
)
def test_what_is_no_time(value):
    with pytest.raises(DataValidationError, match="row 0 time must be"):
        load(rows_of(at=[value, "2026-01-01"]), schema=Schema(time="at"))


def test_units_and_zones_are_not_mixed_unsaid():
    mixed = [1772366400, 1772366400, 1772366400000]
    with pytest.raises(DataValidationError, match="row 2 time .*most rows .seconds"):
        load(rows_of(at=mixed), schema=Schema(time="at"))
    with pytest.raises(DataValidationError, match="row 2 time .*most rows"):
        load(
            rows_of(at=["2026-01-01", "2026-01-02", 1772366400]),
            schema=Schema(time="at"),
        )
    zones = ["2026-01-01T10:00", "2026-01-01T10:00Z"]
    data = load(rows_of(at=zones), schema=Schema(time="at"))
    assert "without a zone are taken as UTC (row 0)" in notes_of(data)
    assert "times are seconds since 1970" in notes_of(
        load(rows_of(at=[1772366400]), schema=Schema(time="at"))
    )


# --- votes


@pytest.mark.parametrize(
    "votes",
    [
        [["a", "b", "a"], ["b"]],
        [{"a": 2, "b": 1}, {"b": 1, "a": 0}],
        [{"a": 2, "b": 1}, {"b": 1, "a": None}],
        ['["a", "b", "a"]', '["b"]'],
        ['{"a": 2, "b": 1}', "b"],
        [np.array(["a", "b", "a"]), np.array(["b"])],
        [(("a", 2), ("b", 1)), [("b", 1)]],
        [["a", None, "b", "a", ""], ["b", float("nan")]],
    ],
)
def test_votes_of_one_column(votes):
    data = load(rows_of(v=votes), schema=Schema(votes="v"))
    assert data.classes == ("a", "b") and data.labels.tolist() == [0, 1]
    assert data.votes.tolist() == [[2, 1], [0, 1]]


def test_votes_of_several_columns_make_classes_of_all_that_anybody_said():
    raw = b"text,x,y,z\none,b,b,c\ntwo,a,,\nthree,,b,a\n"
    data = load(raw, name="v.csv", schema=Schema(votes=("x", "y", "z")))
    assert data.classes == ("a", "b", "c")
    assert data.labels.tolist() == [1, 0, 0]
    assert data.votes.tolist() == [[0, 2, 1], [1, 0, 0], [1, 1, 0]]
    assert "1 rows have as many votes" in notes_of(data) and "(line 4)" in notes_of(
        data
    )
    assert "annotators of 2 rows disagree" in notes_of(data)


def test_a_tie_goes_by_the_order_of_classes():
    rows = rows_of(v=[["a", "b"]])
    for classes, label in ((("a", "b"), "a"), (("b", "a"), "b")):
        data = load(rows, schema=Schema(votes="v", classes=classes))
        assert data.classes[data.labels[0]] == label


def test_votes_that_are_none_are_named():
    rows = rows_of(v=[["a"], [], [""], {"a": -1}, {"a": "many"}])
    with pytest.raises(DataValidationError) as said:
        load(rows, schema=Schema(votes="v"))
    assert "have no votes: rows 1, 2" in str(said.value)
    assert "votes that count no number, or less than 0: rows 3, 4" in str(said.value)
    with pytest.raises(DataValidationError, match="row 0 label must be a name"):
        load(rows_of(v=[[["a"]]]), schema=Schema(votes="v"))


def test_spellings_of_votes_are_joined_before_they_are_counted():
    data = load(rows_of(v=[["A", "a", "b"], ["b"]]), schema=Schema(votes="v"))
    assert data.classes == ("A", "b") and data.votes.tolist() == [[2, 1], [0, 1]]


@given(
    st.lists(
        st.lists(st.sampled_from("abc"), min_size=1, max_size=6),
        min_size=1,
        max_size=20,
    )
)
def test_rows_to_train_on_are_the_shares_of_votes(votes):
    "Against counting by hand"
    data = load(rows_of(v=votes), schema=Schema(votes="v", classes=("a", "b", "c")))
    texts, labels, weights = data.training_rows(np.arange(len(votes)))
    found = {}
    for text, label, weight in zip(texts, labels, weights):
        found[text, data.classes[label]] = weight
    expected = {
        (f"t{i}", name): said.count(name) / len(said)
        for i, said in enumerate(votes)
        for name in said
    }
    assert found == pytest.approx(expected)
    for i, said in enumerate(votes):
        most = max(said.count(name) for name in said)
        assert said.count(data.classes[data.labels[i]]) == most


# --- the order of classes


def test_classes_keep_the_order_they_are_given():
    rows = rows_of(x=range(6))
    data = load(rows, schema=Schema(classes=["b", "a", "z"]))
    assert data.classes == ("b", "a", "z") and data.counts() == {"b": 3, "a": 3, "z": 0}
    assert data.labels.tolist() == [1, 0] * 3


def test_labels_that_are_no_class_are_counted_and_placed():
    labels = ["a", "x", "b", "x", "why"]
    raw = "text,label\n" + "".join(f"t{i},{y}\n" for i, y in enumerate(labels))
    with pytest.raises(DataValidationError) as said:
        load(raw.encode(), name="m.csv", schema=Schema(classes=["a", "b"]))
    assert "2 rows of `m.csv` have the label 'x'" in str(said.value)
    assert "lines 3, 5" in str(said.value)
    assert "line 6 has the label 'why'" in str(said.value)
    many = rows_of(label=[f"c{i}" for i in range(3000)])
    with pytest.raises(DataValidationError) as said:
        load(many, schema=Schema(classes=["a", "b"]))
    assert len(str(said.value)) < 5000
    assert "2,980 rows of `rows` have further labels" in str(said.value)


def test_given_classes_say_how_labels_are_spelled():
    data = load(
        rows_of(label=["SPAM", "Spam", "ham"]), schema=Schema(classes=["spam", "ham"])
    )
    assert data.counts() == {"spam": 2, "ham": 1}
    exact = Schema(classes=["spam", "ham"], label_names="exact")
    with pytest.raises(DataValidationError, match="'SPAM'"):
        load(rows_of(label=["SPAM", "ham"]), schema=exact)


# --- spellings

SAME = [
    "Café au lait",
    "cafe\u0301 au lait",
    " CAFÉ  AU\u00a0LAIT",
    "ca\u200bfé au lait\ufeff",
]


@pytest.mark.parametrize(
    ("spelled", "n"),
    [
        (SAME, 1),
        ([1, "1", "1.0", 1.0, "１"], 1),
        ([True, "true", "TRUE"], 1),
        (["1", "01", "001"], 3),
        (["NA", "na", "NAN"], 2),
        (["ﬁne", "fine"], 1),
        (["straße", "STRASSE"], 1),
        (["a-b", "a b", "a_b", "ab"], 4),
        (["c", "c++", "c#"], 3),
        (["👍", "👎"], 2),
    ],
)
def test_what_differs_in_spelling_only_is_one_class(spelled, n):
    data = load(rows_of(label=spelled))
    assert len(data.classes) == n
    assert ("data.label_names=exact" in notes_of(data)) == (
        len(
            {
                str(name)
                for name in load(
                    rows_of(label=spelled), schema=Schema(label_names="exact")
                ).classes
            }
        )
        > n
    )


def test_the_commonest_spelling_stands_for_all_and_it_is_said():
    data = load(rows_of(label=["no", "No", "No", "yes", "YES"]))
    assert data.classes == ("No", "YES")
    assert data.labels.tolist() == [0, 0, 0, 1, 1]
    said = "labels that differ only in spelling are taken as one: 'no' (1) for 'No', "
    assert said + "'yes' (1) for 'YES'" in notes_of(data)
    kept = load(rows_of(label=["no", "No"]), schema=Schema(label_names="exact"))
    assert kept.classes == ("No", "no") and "notes" not in kept.source


names = st.text("aAbB é\u0301１1.0\u200b", min_size=1, max_size=6).filter(str.strip)


@given(st.lists(names, min_size=1, max_size=30), st.randoms())
def test_spellings_do_not_depend_on_the_order_of_rows(listed, random):
    listed = [name for name in listed if spelling_key(name)]
    mixed = list(listed)
    random.shuffle(mixed)
    one, two = join_spellings(listed), join_spellings(mixed)
    assert one == two
    for name, stands in one.name_of.items():
        assert spelling_key(name) == spelling_key(stands)
        assert one.name_of[stands] == stands
    assert sum(sum(n.values()) for n in one.joined.values()) == sum(
        name != one.name_of[name] for name in listed
    )


@given(names)
def test_a_key_is_its_own_key(name):
    assert spelling_key(spelling_key(name)) == spelling_key(name)


def test_label_codes_stay_apart():
    data = load(CASES / "label_codes.csv")
    assert {"1", "01", "2", "02"} <= set(data.classes)


def test_groups_are_joined_and_their_files_agree():
    rows = rows_of(g=["F", "f", "F", "m", None])
    data = load(rows, group="g")
    assert data.groups["g"].tolist() == ["F", "F", "F", "m", None]
    assert "groups of `g` that differ only in spelling" in notes_of(data)
    assert spelled_as(["f", " M", 3, None], ["F", "m"]).tolist() == ["F", "m", 3, None]
    one, two = (
        load(CASES / f"groups_{part}.csv", group=["region", "branch"])
        for part in ("train", "test")
    )
    assert set(one.groups["branch"]) - {None} == set(two.groups["branch"])


# --- rows that are taken, joined and renamed


def full(n=6):
    votes = [["a", "a", "b"], ["b", "b", "c"], ["c"], ["a"], ["b"], ["c", "a", "c"]]
    rows = rows_of(
        v=votes[:n], w=range(1, n + 1), at=["2026-01-02"] * n, s=["train"] * n
    )
    return load(rows, schema=Schema(votes="v", weight="w", time="at", split="s"))


def test_rows_that_are_taken_keep_what_is_known_of_them():
    data = full().take(np.array([4, 1]))
    assert data.weights.tolist() == [5, 2] and data.votes.tolist() == [
        [0, 1, 0],
        [0, 2, 1],
    ]
    assert data.splits.tolist() == ["train"] * 2 and len(data.times) == 2


def test_renamed_rows_take_their_votes_along():
    data = full()
    named = [data.classes[k] for k in data.labels]
    merged = data.relabelled(["other" if name != "a" else "a" for name in named])
    assert merged.classes == ("a", "other")
    assert merged.votes.sum(1).tolist() == [2, 2, 1, 1, 1, 3]
    assert (merged.votes.argmax(1) == merged.labels).all()
    same = data.relabelled(named)
    assert same.classes == data.classes and (same.votes == data.votes).all()


def test_a_new_class_comes_last_where_the_order_was_given():
    data = load(rows_of(label=["a", "b", "c"]), schema=Schema(classes=["c", "b", "a"]))
    assert data.relabelled(["a", "b", "b2"]).classes == ("b", "a", "b2")
    data = load(rows_of(label=["a", "b", "c"]))
    assert data.relabelled(["a", "aa", "c"]).classes == ("a", "aa", "c")


def test_rows_of_another_file_are_joined_under_the_same_classes():
    data = full()
    other = load(
        [{"text": "x", "label": "c"}, {"text": "y", "label": "a"}], name="test"
    )
    both = data.joined(other)
    assert len(both) == 8 and both.classes == data.classes
    assert [both.classes[k] for k in both.labels[-2:]] == ["c", "a"]
    assert both.votes[-2:].tolist() == [[0, 0, 1], [1, 0, 0]]
    assert both.weights[-2:].tolist() == [1, 1] and both.splits[-1] is None
    assert np.isnat(both.times[-2:]).all() and not np.isnat(both.times[:6]).any()
    assert both.place(6) == "`test` row 0" and both.place(5) == "`rows` row 5"
    assert data.take(np.arange(6)).joined(other).place(7) == "`test` row 1"


def test_policies_keep_columns_in_step():
    "Rare classes dropped or merged: weights and votes are of the rows that stay"
    rows = [
        {"text": f"{name}{i}", "v": [name, name, "abc"[i % 3]], "w": 1 + i}
        for name, n in (("a", 30), ("b", 30), ("c", 2))
        for i in range(n)
    ]
    data = load(rows, schema=Schema(votes="v", weight="w"))
    weight_of = dict(zip(data.texts, data.weights))
    shares = {"train": 0.6, "validation": 0.1, "calibration": 0.15, "test": 0.15}
    for rare, classes in (("drop", ("a", "b")), ("merge", ("a", "b", "other"))):
        if rare == "merge":
            rows += [{"text": f"d{i}", "v": ["d"], "w": 2} for i in range(3)]
            data = load(rows, schema=Schema(votes="v", weight="w"))
            weight_of = dict(zip(data.texts, data.weights))
        kept, _ = share_out(data, shares, seed=0, rare=rare)
        assert kept.classes == classes and kept.votes.shape == (len(kept), len(classes))
        assert [weight_of[text] for text in kept.texts] == kept.weights.tolist()
        assert (kept.votes.argmax(1) == kept.labels).all()


def test_a_class_that_is_nobodys_majority_is_a_rare_class():
    rows = [
        {"text": f"{name}{i}", "v": [name, name, "c"]}
        for name in "ab"
        for i in range(20)
    ]
    data = load(rows, schema=Schema(votes="v"))
    assert data.classes == ("a", "b", "c") and data.counts()["c"] == 0
    shares = {"train": 0.6, "validation": 0.1, "calibration": 0.15, "test": 0.15}
    with pytest.raises(DataValidationError, match="'c' has 0 distinct texts"):
        share_out(data, shares, seed=0)
    kept, _ = share_out(data, shares, seed=0, rare="drop")
    assert kept.classes == ("a", "b") and len(kept) == 40
    assert kept.training_rows(np.arange(40))[2].tolist() == [1] * 40


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                name: st.none()
                | st.text(max_size=5)
                | st.floats()
                | st.integers()
                | st.lists(st.text(max_size=3), max_size=3)
                | st.booleans()
                for name in ("v", "w", "at", "label")
            }
        ),
        min_size=1,
        max_size=5,
    )
)
def test_whatever_columns_hold_only_our_errors_come(rows):
    rows = [row | {"text": "x"} for row in rows]
    for columns in ({"votes": "v"}, {"weight": "w"}, {"time": "at"}, {}):
        try:
            data = load(rows, schema=Schema(**columns))
        except DataError:
            continue
        assert len(data.labels) == len(rows)
