"What a writer of CSV, JSON or Parquet wrote is what is read"

import csv
import io
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fine_tune_llm.core.texts import is_blank
from fine_tune_llm.data.loading import load

COLUMNS = ("text", "label", "group")
PIECES = (
    "word",
    "Grüße",
    "日本",
    " ",
    ",",
    ";",
    "|",
    "\t",
    '"',
    "'",
    "\n",
    "\r\n",
    "#",
)


def texts(rng, n, pieces=PIECES):
    made = ("".join(rng.choices(pieces, k=rng.randint(1, 9))) for _ in range(10 * n))
    return [text for text in made if not is_blank(text)][:n]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "|", "\t"])
def test_csv(separator, encoding):
    for seed in range(30):
        rng = random.Random(seed)
        rows = [(text, rng.choice("ab"), "x") for text in texts(rng, 12)]
        file = io.StringIO(newline="")
        writer = csv.writer(file, delimiter=separator)
        writer.writerows([("text", "label", "more"), *rows])
        quoting = "quotes" if separator == "\t" else "auto"
        raw = file.getvalue().encode(encoding)
        data = load(raw, name="x.csv", quoting=quoting)
        assert list(data.texts) == [row[0] for row in rows], seed
        assert [data.classes[k] for k in data.labels] == [row[1] for row in rows]
        assert data.source["read"]["separator"] == separator


def test_tabs_without_quotes():
    pieces = [piece for piece in PIECES if piece not in ("\t", "\n", "\r\n")]
    for seed in range(30):
        rng = random.Random(seed)
        rows = [(text, rng.choice("ab")) for text in texts(rng, 12, pieces)]
        raw = "".join(
            f"{text}\t{label}\n" for text, label in [("text", "label"), *rows]
        )
        assert list(load(raw.encode(), name="x").texts) == [text for text, _ in rows]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("shape", ["lines", "array", "columns"])
def test_json(shape, indent):
    for seed in range(20):
        rng = random.Random(seed)
        rows = [{"text": text, "label": rng.choice("ab")} for text in texts(rng, 12)]
        tree = {key: [row[key] for row in rows] for key in rows[0]}
        wanted = rows if shape == "array" else tree
        said = json.dumps(wanted, indent=indent, ensure_ascii=bool(seed % 2))
        if shape == "lines":
            said = "\r\n".join(json.dumps(row) for row in rows)
        data = load(said.encode(), name="x.json")
        assert list(data.texts) == [row["text"] for row in rows]


@pytest.mark.parametrize("dictionary", [True, False])
def test_parquet(dictionary):
    rng = random.Random(0)
    rows = [{"text": text, "label": rng.choice("ab")} for text in texts(rng, 500)]
    rows[3]["group"], rows[5]["group"] = "g", None
    file = io.BytesIO()
    table = pa.Table.from_pylist(rows, pa.schema([(c, "string") for c in COLUMNS]))
    pq.write_table(table, file, use_dictionary=dictionary, row_group_size=70)
    data = load(file.getvalue(), group="group")
    assert list(data.texts) == [row["text"] for row in rows]
    assert list(data.groups["group"])[2:6] == [None, "g", None, None]
