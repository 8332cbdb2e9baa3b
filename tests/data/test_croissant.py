"Croissant metadata are valid, and the rows are read by them"

import json
import shutil

import pytest

from fine_tune_llm.data import check_data, croissant, load, sample

mlcroissant = pytest.importorskip(
    "mlcroissant", reason="pip install 'fine_tune_llm[croissant]'"
)


def written(tmp_path, data, file, **options):
    "What `mlcroissant` makes of the metadata of a file"
    said = croissant(data, [file], **options)
    target = tmp_path / "croissant.json"
    target.write_text(json.dumps(said), encoding="utf-8")
    return mlcroissant.Dataset(jsonld=target)  # raises for what is not valid


def test_json_lines_with_groups_and_findings(tmp_path):
    file = tmp_path / "triage.jsonl"
    shutil.copy(sample("triage"), file)
    data = load(file, group=["channel", "age_band"])
    quality = check_data(data, checks=["class_sizes", "giveaways"], seed=0)
    read = written(tmp_path, data, file, quality=quality, license="Apache-2.0")
    rows = [row for _, row in zip(range(20), read.records("rows"))]
    said = [row["rows/text"].decode() for row in rows]
    assert said == list(data.texts[:20])
    groups = [row["rows/channel"].decode() for row in rows]
    assert groups == data.groups["channel"][:20].tolist()
    classes = [row["classes/name"] for row in read.records("classes")]
    assert classes == list(data.classes)


@pytest.mark.parametrize(
    ("name", "contents"),
    [
        ("mails.csv", "body,team\nlost card,cards\ntop up,payments\n"),
        ("mails.tsv", "body\tteam\nlost card\tcards\ntop up\tpayments\n"),
        (
            "mails.json",
            '[{"body": "lost card", "team": "cards"}, '
            '{"body": "top up", "team": "payments"}]',
        ),
    ],
)
def test_other_formats_and_column_names(tmp_path, name, contents):
    file = tmp_path / name
    file.write_text(contents, encoding="utf-8")
    data = load(file, "body", "team")
    columns = {"text": "body", "label": "team"}
    read = written(tmp_path, data, file, columns=columns)
    said = [row["rows/label"].decode() for row in read.records("rows")]
    assert said == ["cards", "payments"]


def test_a_changed_file_is_told_apart(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("text,label\nx,y\n", encoding="utf-8")
    before = croissant(load(file), [file])
    file.write_text("text,label\nx,z\n", encoding="utf-8")
    after = croissant(load(file), [file])
    hashes = [said["distribution"][0]["sha256"] for said in (before, after)]
    assert hashes[0] != hashes[1]
    assert before["license"] == "unknown"
