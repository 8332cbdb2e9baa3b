"Bad input: a clear paragraph, exit code 2, and nothing written"

import json
import os

import pytest

from fine_tune_llm.cli.program import main


def rows(n=40, **over):
    return [
        dict(
            dict(
                text=f"message number {i} about {'tea' if i % 2 else 'rain'}",
                label="ab"[i % 2],
            ),
            **over,
        )
        for i in range(n)
    ]


def jsonl(rs):
    return "".join(json.dumps(r) + "\n" for r in rs).encode()


CASES = {
    "empty file": (b"", "is empty"),
    "blank file": (b"\n \n", "is empty"),
    "one class only": (jsonl(rows(label="a")), "have the label 'a'"),
    "a class with one row": (
        jsonl(rows() + [dict(text="alone", label="c")]),
        "class 'c' has 1 distinct text, needs at least 4, one per role (`d.jsonl` "
        "line 41)",
    ),
    "missing column": (jsonl([dict(txt="x", label="a")]), "no column `text`"),
    "NaN labels": (
        jsonl(rows() + [dict(text="x", label=float("nan"))]),
        "`d.jsonl` line 41 has no label (it is nan)",
    ),
    "null label": (jsonl(rows() + [dict(text="x", label=None)]), "41 has no label"),
    "no text in a row": (
        jsonl(rows() + [dict(text="", label="a")]),
        "line 41 has no text",
    ),
    "a 10 MB text": (
        jsonl(rows() + [dict(text="a" * 10_000_000, label="a")]),
        "10,000,000 characters",
    ),
    "not UTF-8": (
        "text,label\nкафе,a\n".encode("cp1251"),
        "is not UTF-8: byte 0xea in line 2",
    ),
    "UTF-16 cut in half": ("text,label\nx,a\n".encode("utf-16")[:-1], "not utf-16"),
    "binary": (bytes(range(256)) * 10, "binary"),
    "a zip archive": (b"PK\x03\x04" + b"x" * 100, "zip archive"),
    "broken JSON": (b'{"text": "a", "label": "b"}\n{"text": \n', "line 2 is not JSON"),
    "deeply nested JSON": (b"[" * 100_000, "line 1 is not JSON"),
    "half a character in a label": (
        jsonl(rows(label="a\ud800")),
        "have the label 'a",
    ),
    "a JSON list": (b'["a", "b"]', "are no JSON objects"),
}


def call(capsys, *words):
    with pytest.raises(SystemExit) as e:
        main(list(map(str, words)))
    out = capsys.readouterr()
    return e.value.code, out.out, out.err


def refused(capsys, before, words, said):
    code, out, err = call(capsys, *words)
    assert code == 2, err
    assert out == "" and said in " ".join(err.split()) and "Traceback" not in err
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize("name", CASES)
def test_file(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    raw, said = CASES[name]
    data = tmp_path / ("d.csv" if raw.startswith(b"text,") else "d.jsonl")
    data.write_bytes(raw)
    refused(capsys, [data.name], ["fit", data.name, "--out", "r"], said)


@pytest.mark.parametrize(
    "words, said",
    [
        (["--alpha", "0"], "`conformal.alpha` must be above 0"),
        (["--alpha", "1"], "`conformal.alpha` must be below 1"),
        (["--alpha", "nan"], "conformal.alpha"),
        (["--target-risk", "0"], "`risk.target_risk`"),
        (["--delta", "1"], "`risk.delta`"),
        (["--epochs", "-1"], "`training.epochs`"),
        (["--seed", "-1"], "`seed`"),
        (["--model", "minilmm"], "Did you mean 'minilm'?"),
        (["--model", "owner/nowhere"], "cannot be loaded"),
        (["--model", "empty"], "holds no config.json"),
        (["--text", "txet"], "no column `txet`"),
        (["--label", "lable"], "Did you mean --label `label`?"),
        (["--group", "age"], "no column `age`"),
        (["--set", "lora.targets=foo"], "names no linear layer: foo"),
        (["--set", "model.max_length=4"], "`model.max_length`"),
        (["--out", "d.jsonl/r"], "cannot be written"),
        (["--out", "/proc/r"], "cannot be written"),
        (["--out", "d.jsonl"], "cannot be written"),
        (["--test", "nowhere.jsonl"], "does not exist"),
        (["--config", "nowhere.yaml"], "is missing"),
    ],
)
def test_option(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.jsonl").write_bytes(jsonl(rows()))
    (tmp_path / "empty").mkdir()
    refused(
        capsys,
        ["d.jsonl", "empty"],
        ["fit", "d.jsonl", *([] if "--out" in words else ["--out", "r"]), *words],
        said,
    )


def test_directory_and_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d").mkdir()
    refused(capsys, ["d"], ["fit", "d"], "is a directory")
    refused(capsys, ["d"], ["fit", "nowhere.csv"], "does not exist")
    refused(capsys, ["d"], ["decide", "d", "nowhere.csv"], "does not exist")
    refused(capsys, ["d"], ["audit", "d"], "is a folder, and not a run")


def test_the_installed_command(ftllm, tmp_path):
    "The same through a real process, with its exit code"
    (tmp_path / "d.jsonl").write_bytes(b"")
    p = ftllm("fit", "d.jsonl", cwd=tmp_path)
    assert (p.returncode, p.stdout) == (2, "") and "is empty" in p.stderr
    assert ftllm("fit", cwd=tmp_path).returncode == 2
    assert os.listdir(tmp_path) == ["d.jsonl"]


def test_decide_from_standard_input(ftllm, tiny, tmp_path):
    "The command line in processes: fit, decide from a pipe, a void certificate"
    fit = ftllm(
        "fit",
        tiny / "rows.jsonl",
        "--model",
        tiny / "bert",
        "--out",
        "r",
        "--config",
        tiny / "more.yaml",
        "--epochs",
        "3",
        cwd=tmp_path,
    )
    assert fit.returncode in (0, 3), (
        fit.stderr
    )  # 3: a certificate was openly refused, the run is complete all the same
    p = ftllm(
        "decide",
        "r",
        "-",
        cwd=tmp_path,
        stdin='{"id": "x", "text": "she said rake the leaves off the lawn"}\n',
    )
    assert p.returncode == fit.returncode and json.loads(p.stdout)["id"] == "x", (
        p.stderr
    )
    (tmp_path / "r" / "adapter" / "adapter_config.json").write_text("{}")
    p = ftllm("decide", "r", "-", cwd=tmp_path, stdin='{"text": "a b"}\n')
    assert (p.returncode, p.stdout) == (3, "") and "void" in p.stderr
