"Rows from one form into another and back, and what a form has no room for"

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fine_tune_llm.cli.program import main
from fine_tune_llm.core.errors import ConfigurationError, DataValidationError
from fine_tune_llm.core.names import as_name
from fine_tune_llm.data import LabelPrompt, convert, convert_file, load
from fine_tune_llm.data.conversion import FORMS

many = settings(max_examples=60, deadline=None, derandomize=True)
WORDS = st.text(max_size=12)
SAID = st.text(min_size=1, max_size=12)
# Other columns go along, whatever they hold
REST = st.dictionaries(
    st.sampled_from(["id", "channel", "n"]),
    st.one_of(st.none(), st.integers(), st.text(max_size=4), st.lists(st.integers())),
)


def chats(column, keys, roles):
    turn = st.fixed_dictionaries({keys[0]: st.sampled_from(roles), keys[1]: WORDS})
    return st.fixed_dictionaries({column: st.lists(turn, min_size=1, max_size=5)})


ROWS = {
    "labelled": st.fixed_dictionaries(
        {"text": WORDS, "label": SAID.filter(lambda name: as_name(name) is not None)}
    ),
    "prompt_completion": st.fixed_dictionaries({"prompt": WORDS, "completion": WORDS}),
    "alpaca": st.fixed_dictionaries(
        {"instruction": WORDS, "input": WORDS, "output": WORDS}
    ),
    "openai": chats("messages", ("role", "content"), ["system", "user", "assistant"]),
    "sharegpt": chats("conversations", ("from", "value"), ["system", "human", "gpt"]),
}
# What each form holds: pairs alone, pairs with a system, any chat
HOLDS = [
    ("labelled", FORMS),
    ("prompt_completion", ("prompt_completion", "alpaca", "openai", "sharegpt")),
    ("alpaca", ("alpaca", "openai", "sharegpt")),
    ("openai", ("openai", "sharegpt")),
    ("sharegpt", ("sharegpt", "openai")),
]


def there_and_back(rows, form, other, **more):
    there = list(convert(rows, other, given=form, **more))
    return there, list(convert(there, form, given=other, **more))


@pytest.mark.parametrize(
    ("form", "other"), [(form, other) for form, held in HOLDS for other in held]
)
def test_there_and_back_nothing_is_lost(form, other):
    @many
    @given(st.lists(st.tuples(ROWS[form], REST), min_size=1, max_size=4))
    def check(parts):
        rows = [said | rest for said, rest in parts]
        there, back = there_and_back(rows, form, other)
        assert back == rows
        assert len(there) == len(rows)

    check()


LABELS = ("kitchen", 'say "no"', "Zoë")
PROMPT = LabelPrompt(
    LABELS,
    examples=[("rake", "Zoë"), ("moon", None, "no such room")],
    template="Mail:\n{{ text }}\nEnd.",
    system="Be brief.",
)


@pytest.mark.parametrize("form", ["openai", "sharegpt", "prompt_completion"])
def test_a_prompt_is_put_around_and_taken_away(form):
    row = st.fixed_dictionaries(
        {"text": WORDS, "label": st.sampled_from([*LABELS, None])},
        optional={"rationale": SAID, "id": st.integers()},
    )

    @many
    @given(st.lists(row, min_size=1, max_size=3))
    def check(rows):
        _, back = there_and_back(rows, "labelled", form, prompt=PROMPT)
        assert back == rows

    check()


def test_alpaca_has_room_for_a_prompt_without_examples():
    "The instruction is what is asked, the input the text, the output the frame"
    prompt = LabelPrompt(LABELS, "Which?")
    (made,) = convert([{"text": "rake", "label": "Zoë"}], "alpaca", prompt=prompt)
    assert made["instruction"] == prompt.request
    assert (made["input"], json.loads(made["output"])["decision"]) == ("rake", "Zoë")
    assert list(convert([made], "labelled", prompt=prompt)) == [
        {"text": "rake", "label": "Zoë"}
    ]
    with pytest.raises(DataValidationError, match="several turns"):
        list(convert([{"text": "rake", "label": "Zoë"}], "alpaca", prompt=PROMPT))


def test_another_form_through_all_of_them():
    rows = [{"text": f"a {i}", "label": "b", "id": str(i)} for i in range(3)]
    there = rows
    for form in ("openai", "alpaca", "sharegpt", "prompt_completion", "labelled"):
        there = list(convert(there, form))
    assert there == rows


def chat(*turns, column="messages", **rest):
    return {column: [dict(role=role, content=said) for role, said in turns], **rest}


SYSTEM = ("system", "Be brief.")
PAIR = (("user", "Hi"), ("assistant", "Hello"))
LOSSES = [
    (chat(SYSTEM, *PAIR), "labelled", "what the system says", ("Hi", "Hello")),
    (chat(*PAIR, *PAIR), "labelled", "several turns", ("Hi", "Hello")),
    (chat(*PAIR, ("user", "And?")), "labelled", "several turns", ("Hi", "Hello")),
    (
        chat(("user", "Hi"), ("tool", "42"), ("assistant", "Hello")),
        "labelled",
        "a turn of tool",
        ("Hi", "Hello"),
    ),
]


@pytest.mark.parametrize(("row", "to", "what", "kept"), LOSSES)
def test_what_a_form_has_no_room_for(row, to, what, kept):
    with pytest.raises(DataValidationError, match=f"row 0 has {what}, for which"):
        list(convert([row], to))
    made = convert([row, row], to, on_loss="drop")
    assert list(made) == [dict(zip(("text", "label"), kept, strict=True))] * 2
    assert made.lost == {what: 2}


def test_turns_that_hold_more_than_words():
    called = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    picture = {"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}
    weight = {"role": "assistant", "content": "Hello", "weight": 0}
    twice = {"role": "assistant", "content": "Hello", "value": "Hi"}
    for turn in (called, picture, weight, twice):
        row = {"messages": [*chat(*PAIR)["messages"], turn]}
        with pytest.raises(DataValidationError, match="with more"):
            list(convert([row], "sharegpt"))
        made = list(convert([row], "openai", on_loss="drop"))
        assert made == [chat(*PAIR)]


WRONG = {
    "has no question that is answered": chat(("user", "Hi")),
    "has no list of turns in `messages`": {"messages": "Hi"},
    "is a list, not a dict": ["Hi"],
    "cannot be read: line 3 is not JSON": "line 3 is not JSON",
    "has a column `text` already": chat(*PAIR, text="x"),
}


@pytest.mark.parametrize("words", WRONG)
def test_rows_that_cannot_be_converted_are_named_at_once(words):
    "After those that can, so that one error names them all"
    made, found = convert([chat(*PAIR), WRONG[words], WRONG[words]], "labelled"), []
    with pytest.raises(DataValidationError, match="2 rows of `rows`.*rows 1, 2"):
        found.extend(made)
    assert found == [{"text": "Hi", "label": "Hello"}]
    with pytest.raises(DataValidationError) as e:
        list(convert([WRONG[words]], "labelled", given="openai"))
    assert words in str(e.value)


def test_labelled_rows_under_other_names():
    rows = [{"mail": "Hi", "kind": 1}]
    (made,) = convert(rows, "openai", text="mail", label="kind")
    assert made["messages"][-1]["content"] == "1"
    for missing in (None, float("nan"), "  "):
        with pytest.raises(DataValidationError, match="has no label"):
            list(convert([{"text": "a", "label": missing}], "openai"))
    with pytest.raises(DataValidationError, match="the prompt does not list"):
        list(convert([{"text": "a", "label": "attic"}], "openai", prompt=PROMPT))


def test_a_chat_that_another_prompt_asked_is_not_read():
    (asked,) = convert([{"text": "a", "label": "Zoë"}], "openai", prompt=PROMPT)
    other = LabelPrompt(LABELS)
    with pytest.raises(DataValidationError, match="is not what the prompt asks"):
        list(convert([asked], "labelled", prompt=other))
    asked["messages"][-1]["content"] = "Zoë"
    with pytest.raises(DataValidationError, match="has another answer"):
        list(convert([asked], "labelled", prompt=PROMPT))


def test_arguments_that_are_wrong():
    rows = [{"text": "a", "label": "b"}]
    with pytest.raises(ConfigurationError, match="`to` must be one of"):
        convert(rows, "llama")
    with pytest.raises(ConfigurationError, match="`given` must be one of"):
        convert(rows, "openai", given="csv")
    with pytest.raises(ConfigurationError, match="alpaca and labelled at once"):
        convert([{**rows[0], "instruction": "", "output": ""}], "openai")
    with pytest.raises(ConfigurationError, match="labelled to labelled is neither"):
        convert(rows, "labelled", prompt=PROMPT)
    with pytest.raises(DataValidationError, match="has no rows"):
        convert([], "openai")


def test_load_reads_what_convert_makes():
    "The same texts and labels, whichever form a file has"
    rows = [{"text": f"the {i} leaf", "label": "ab"[i % 2]} for i in range(6)]
    for form in FORMS:
        read = load(list(convert(rows, form)))
        assert read.texts == tuple(row["text"] for row in rows), form
        assert [read.classes[k] for k in read.labels] == [row["label"] for row in rows]


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "Name it.", "input": " ", "output": "a"},
        {"instruction": "Name it.", "output": "a"},
        {"prompt": "Name it.", "completion": "a"},
    ],
)
def test_load_takes_the_question_where_there_is_no_input(row):
    read = load([row, {**row, "output": "b", "completion": "b"}][: 1 + ("x" in row)])
    assert read.texts == ("Name it.",)
    assert read.classes == ("a",)


def test_load_leaves_columns_that_were_named_alone():
    row = {"prompt": "Hi", "completion": "a", "text": "T", "label": "L"}
    read = load([row])
    assert (read.texts, read.classes) == (("T",), ("L",))
    read = load([row], "prompt", "completion")
    assert (read.texts, read.classes) == (("Hi",), ("a",))
    with pytest.raises(ConfigurationError, match="no column `words`"):
        load([{"prompt": "Hi", "completion": "a"}], "words")


def ftllm(*words):
    with pytest.raises(SystemExit) as e:
        main(["data", "convert", *map(str, words)])
    return e.value.code


def test_the_command(tmp_path, capsys):
    rows = [{"text": "Zoë\n😀", "label": "a"}, {"text": "b", "label": "c"}]
    source = tmp_path / "rows.csv"
    source.write_text('text;label\n"Zoë\n😀";a\nb;c\n', encoding="utf-8")
    out = tmp_path / "chats.jsonl"
    assert ftllm(source, out, "--to", "openai") == 0
    assert "2 rows, labelled to openai" in capsys.readouterr().err
    assert ftllm(source, out, "--to", "openai") == 2
    assert "it is there already" in " ".join(capsys.readouterr().err.split())
    assert ftllm(out, tmp_path / "a.json", "--to", "alpaca") == 0
    assert ftllm(tmp_path / "a.json", out, "--to", "labelled", "--force") == 0
    lines = out.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == rows
    assert ftllm(out, out, "--to", "openai", "--force") == 2
    assert ftllm(out, tmp_path / "a.csv", "--to", "openai") == 2
    assert ftllm(out, tmp_path / "no" / "a.jsonl", "--to", "openai") == 2
    assert ftllm(out, tmp_path / "b.jsonl", "--to", "openai", "--from", "alpaca") == 2
    assert not (tmp_path / "b.jsonl").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "a.json",
        "chats.jsonl",
        "rows.csv",
    ]


def test_what_is_dropped_is_told(tmp_path, capsys):
    source, out = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    source.write_text(json.dumps(chat(SYSTEM, *PAIR)) + "\nnot json\n")
    assert ftllm(source, out, "--to", "labelled", "--drop") == 2
    assert "line 2 is not JSON" in " ".join(capsys.readouterr().err.split())
    source.write_text(json.dumps(chat(SYSTEM, *PAIR)) + "\n")
    assert ftllm(source, out, "--to", "labelled", "--drop") == 0
    said = capsys.readouterr()
    assert "what the system says is left out of 1 rows" in said.err + said.out


def test_memory_does_not_grow_with_the_file(tmp_path):
    "A file of 40 MB passes through in a fraction of that"
    import tracemalloc

    source = tmp_path / "long.jsonl"
    row = json.dumps({"text": "x" * 10_000, "label": "a"}) + "\n"
    with open(source, "w") as file:
        for _ in range(4_000):
            file.write(row)
    tracemalloc.start()
    made = convert_file(source, tmp_path / "out.jsonl", "openai")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert made.n_rows == 4_000
    assert peak < source.stat().st_size / 3
