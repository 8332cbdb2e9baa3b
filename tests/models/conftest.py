"Tokenizers of the kinds that language models have, small, with the tokens of chats"

import functools
import json

import pytest

from fine_tune_llm.data.prompts import LabelPrompt
from fine_tune_llm.data.templates import CHAT_TEMPLATES, chat_tokens
from fine_tune_llm.testing import toy_chat_tokenizer, toy_rows, toy_tokenizer

SENTENCES = [row["text"] for row in toy_rows(512)]
CONTROLS = sorted({token for name in CHAT_TEMPLATES for token in chat_tokens(name)})
_ASKED = LabelPrompt(("kitchen", "garden")).turns("a")[0]["content"]
_READ = [
    *SENTENCES[:64],
    _ASKED,
    'Text: x\nAnswer: {"decision": "kitchen", "rationale"',
]


def _with_controls(tokenizer):
    from tokenizers import AddedToken

    # as checkpoints have them: nothing is stripped beside them, nothing normalised
    missing = [token for token in CONTROLS if token not in tokenizer.get_vocab()]
    made = [AddedToken(token, normalized=False, special=True) for token in missing]
    tokenizer.add_tokens(made, special_tokens=True)
    tokenizer.model_max_length = 4096
    return tokenizer


def _byte_level():
    "GPT-2's, Llama 3's and Qwen's kind"
    tokenizer = toy_chat_tokenizer([*SENTENCES, *_READ[-2:]], vocab_size=600)
    tokenizer.chat_template = None
    return _with_controls(tokenizer)


def _sentence_pieces():
    "Llama 2's and Mistral's kind: blanks are letters, unknown ones are bytes"
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    blanks = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    trained = Tokenizer(models.BPE())
    # no piece goes on behind a blank, as SentencePiece learns them
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    alphabet = [chr(i) for i in range(33, 127)] + ["▁"]
    trained.train_from_iterator(
        _READ, trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet)
    )
    learnt = json.loads(trained.to_str())["model"]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    pieces += [piece for piece in learnt["vocab"] if piece not in pieces]
    merges = [tuple(pair) for pair in learnt["merges"]]
    backend = Tokenizer(
        models.BPE(
            {piece: i for i, piece in enumerate(pieces)},
            merges,
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    backend.pre_tokenizer = blanks
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    return _with_controls(tokenizer)


def _word_pieces():
    "BERT's kind: letters are lowered, blanks and line breaks are lost"
    said = [
        *SENTENCES,
        *_READ,
        "abcdefghijklmnopqrstuvwxyz 0123456789 {}\"':,.-[]<|>/_#",
    ]
    return _with_controls(toy_tokenizer(said, vocab_size=600))


KINDS = {
    "bytes": _byte_level,
    "sentence_pieces": _sentence_pieces,
    "word_pieces": _word_pieces,
}


@functools.cache
def _made(kind):
    return KINDS[kind]()


@pytest.fixture(scope="session")
def tokenizer_of():
    "By kind: bytes, sentence_pieces, word_pieces; without a chat template, unchanged"
    return _made
