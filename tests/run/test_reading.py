"What `fit` reads: settings of reading, both files, errors that name file and line"

import pytest

from fine_tune_llm.config.layers import make_config
from fine_tune_llm.core.errors import DataLoadingError, DataValidationError, SchemaError
from fine_tune_llm.data.loading import load
from fine_tune_llm.data.sharing import share_out
from fine_tune_llm.run.roles import read_data

TRAIN = "text,label,region\nhello,a,north\nworld,b,south\n"


def config(**settings):
    return make_config({"data": settings})


def test_settings_of_reading(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("żółć|ja\n|ja\nłąka|nie\n".encode("cp1250"))
    with pytest.raises(DataLoadingError, match="data.encoding"):
        read_data(path, None, config())
    settings = dict(encoding="cp1250", separator="bar", header="no", on_empty="skip")
    data, _ = read_data(path, None, config(text="0", label="1", **settings))
    assert data.texts == ("żółć", "łąka") and data.classes == ("ja", "nie")
    assert data.source["read"]["encoding"] == "cp1250"
    assert "left out (line 2)" in data.source["notes"][0]
    with pytest.raises(DataLoadingError, match="more than 1 rows.*data.max_rows"):
        read_data(path, None, config(max_rows=1, **settings))


@pytest.mark.parametrize(
    ("test", "error", "words"),
    [
        ("text,label\nhi,a\n", SchemaError, "`test.csv` has no column `region`"),
        (TRAIN + "hi,,north\n", DataValidationError, "`test.csv` line 4 has no label"),
        (
            TRAIN + "x,c,n\ny,c,n\n",
            DataValidationError,
            "none of the 2 classes: lines 4, 5",
        ),
    ],
)
def test_errors_name_the_test_file_and_its_line(tmp_path, test, error, words):
    (tmp_path / "train.csv").write_text(TRAIN)
    (tmp_path / "test.csv").write_text(test)
    with pytest.raises(error, match=words):
        read_data(
            tmp_path / "train.csv", tmp_path / "test.csv", config(group=["region"])
        )


def test_a_group_that_only_the_test_file_has_is_found_when_reading(tmp_path):
    (tmp_path / "train.csv").write_text("text,label\nhello,a\n")
    (tmp_path / "test.csv").write_text(TRAIN)
    with pytest.raises(SchemaError, match="`train.csv` has no column `region`"):
        read_data(
            tmp_path / "train.csv", tmp_path / "test.csv", config(group=["region"])
        )


def test_places_stay_with_their_rows(tmp_path):
    (tmp_path / "train.csv").write_text(TRAIN + 'a,"b",n\na,c,n\nlast,a,n\n')
    (tmp_path / "test.csv").write_text(TRAIN)
    data, n_test = read_data(tmp_path / "train.csv", None, config(group=["region"]))
    shares = {"train": 0.4, "validation": 0.2, "calibration": 0.2, "test": 0.2}
    with pytest.raises(
        DataValidationError, match="'b' and 'c' .`train.csv` line 4, `t"
    ):
        share_out(data, shares, seed=0, conflicts="error")
    rows = [{"text": f"{i}", "label": "ab"[i % 2]} for i in range(20)]
    some = load([*rows, {"text": "x", "label": "z"}, *rows[:2]])
    left, _ = share_out(some, shares, seed=0, rare="drop")
    assert left.place(20) == "`rows` row 21" and left.texts[20] == "0"
    data, n_test = read_data(
        tmp_path / "train.csv", tmp_path / "test.csv", config(label="region")
    )
    assert data.place(len(data) - 1) == "`test.csv` line 3"
