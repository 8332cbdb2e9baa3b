"Rows without a text: refused, left out or kept as `None`; never read as a text"

from pathlib import Path

import pytest

from fine_tune_llm.core.errors import DataValidationError
from fine_tune_llm.data.loading import load
from fine_tune_llm.run.deciding import check_texts

CASES = Path(__file__).parent.parent / "cases"


@pytest.mark.parametrize(
    ("file", "n_rows", "empty"),
    [("empty_rows.csv", 3, [1]), ("zero_width.jsonl", 5, [1])],
)
def test_kept_or_left_out(file, n_rows, empty):
    kept = load(CASES / file, label=None, on_empty="keep")
    assert [i for i, text in enumerate(kept.texts) if text is None] == empty
    assert len(kept) == n_rows
    left = load(CASES / file, label=None, on_empty="skip")
    ids = [one for i, one in enumerate(kept.ids) if i not in empty]
    assert list(left.ids) == ids and None not in left.texts
    with pytest.raises(DataValidationError, match="no text"):
        load(CASES / file, label=None)


def test_decide_takes_no_text_of_zero_width():
    with pytest.raises(DataValidationError, match="row 1 is no text"):
        check_texts(["a", "\u200b\u200d\ufeff"])
