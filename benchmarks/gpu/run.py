"""What a causal model takes on a GPU: training, deciding, a base in four bits"""

import argparse
import json
import platform
import subprocess
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from fine_tune_llm.config.schema import LoraSection
from fine_tune_llm.core.files import atomic_write
from fine_tune_llm.data import LabelPrompt
from fine_tune_llm.models import load_adapter, load_model
from fine_tune_llm.models.text_model import collate
from fine_tune_llm.testing import toy_chat_tokenizer

HERE = Path(__file__).resolve().parent
LABELS = ("emergency", "urgent", "routine", "self care")
INSTRUCTION = " ".join(["Read the message and say how urgent it is."] * 20)


@dataclass(frozen=True)
class Size:
    "Shape of a model, and how much work it is given"

    width: int
    layers: int
    heads: int
    vocabulary: int
    words: int  # Of a text
    batch: int  # Texts at once
    steps: int  # Timed optimizer steps
    texts: int  # To decide on


LARGE = Size(896, 24, 14, 151_936, 400, 16, 20, 2048)
TINY = Size(32, 2, 2, 600, 20, 4, 2, 16)


def texts_of(n, words, seed):
    "Texts of letters that no tokenizer knows as words, all of one length"
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    return [
        " ".join("".join(rng.choice(letters, 3)) for _ in range(words // 3))
        for _ in range(n)
    ]


def random_base(folder, size):
    "A model with random weights of Qwen2.5's shape, as from the hub"
    tokenizer = toy_chat_tokenizer(texts_of(64, 60, 0))
    tokenizer.model_max_length = 4096
    config = Qwen2Config(
        vocab_size=size.vocabulary,
        hidden_size=size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=2,
        intermediate_size=int(5.43 * size.width),
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def loaded(base, device, **more):
    "The model with an adapter, ready to train"
    prompt = LabelPrompt(LABELS, instruction=INSTRUCTION)
    model = load_model(
        base,
        LABELS,
        seed=0,
        backend="label_tokens",
        prompt=prompt,
        max_length=512,
        device=device,
        **more,
    )
    if "quantization" not in more:
        model.net.to(device)
    return model


class Clock:
    "Seconds and the largest memory of a block"

    def __init__(self, device):
        self.device = device

    def __enter__(self):
        if self.device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        self.begun = time.perf_counter()
        return self

    def __exit__(self, *_):
        if self.device == "cuda":
            torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self.begun
        peak = torch.cuda.max_memory_allocated() if self.device == "cuda" else None
        self.gib = None if peak is None else round(peak / 2**30, 3)


def train_ours(base, size, device):
    "Tokens of texts a second, training by label tokens"
    model = loaded(base, device)
    optimizer = torch.optim.AdamW(model.learning().values(), lr=1e-4)
    ids = model.prepare(texts_of(size.batch * (size.steps + 1), size.words, 1))
    model.net.train()

    def step(number):
        rows = ids[number * size.batch : (number + 1) * size.batch]
        batch = collate(rows, model.tokenizer.pad_token_id)
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        labels = torch.arange(len(rows), device=device) % len(LABELS)
        with torch.autocast(device, dtype=torch.bfloat16):
            out = model.net(**batch, labels=labels)
        (out["loss"] + 0.1 * out["response_nll"]).backward()
        optimizer.step()
        optimizer.zero_grad()
        return sum(map(len, rows))

    step(0)
    with Clock(device) as clock:
        tokens = sum(step(number) for number in range(1, size.steps + 1))
    return {"tokens_a_second": round(tokens / clock.seconds, 1), "gib": clock.gib}


def train_trl(base, size, device):
    "The same texts as conversations, by TRL"
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    n = size.batch * (size.steps + 1)
    rows = [
        {
            "prompt": [{"role": "user", "content": f"{INSTRUCTION}\n{text}"}],
            "completion": [{"role": "assistant", "content": LABELS[row % len(LABELS)]}],
        }
        for row, text in enumerate(texts_of(n, size.words, 1))
    ]
    with tempfile.TemporaryDirectory() as out:
        arguments = SFTConfig(
            out,
            max_steps=size.steps,
            per_device_train_batch_size=size.batch,
            max_length=1024,
            bf16=True,
            report_to="none",
            save_strategy="no",
            use_cpu=device == "cpu",
        )
        lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear")
        trainer = SFTTrainer(
            base, arguments, train_dataset=Dataset.from_list(rows), peft_config=lora
        )
        with Clock(device) as clock:
            trainer.train()
    words = trainer.processing_class([texts_of(1, size.words, 1)[0]])["input_ids"][0]
    tokens = len(words) * size.batch * size.steps
    return {"tokens_a_second": round(tokens / clock.seconds, 1), "gib": clock.gib}


def decide(base, size, device):
    "Decisions a second, the instruction read once or with every text"
    model = loaded(base, device)
    ids = model.prepare(texts_of(size.texts, 30, 2))
    found = {}
    for name in ("kept", "anew"):
        model.logits_of(ids[: size.batch], batch_size=size.batch)
        with Clock(device) as clock:
            for start in range(0, len(ids), size.batch):
                if name == "anew":
                    model.net.scorer.forget()
                model.logits_of(ids[start : start + size.batch], batch_size=size.batch)
        found[name] = round(len(ids) / clock.seconds, 1)
    return {"decisions_a_second": found}


def qlora(base, size, device):
    "Four bits: trained, saved, and the same when it comes back"
    lora = LoraSection(kind="qlora")
    model = loaded(base, device, lora=lora, quantization="4bit")
    texts = texts_of(size.batch, 60, 3)
    batch = collate(model.prepare(texts), model.tokenizer.pad_token_id)
    batch = {name: tensor.to(device) for name, tensor in batch.items()}
    labels = torch.arange(size.batch, device=device) % len(LABELS)
    optimizer = torch.optim.AdamW(model.learning().values(), lr=1e-3)
    losses = []
    model.net.train()
    for _ in range(size.steps):
        loss = model.net(**batch, labels=labels)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    before = model.logits(texts)
    with tempfile.TemporaryDirectory() as folder:
        adapter, tokenizer = Path(folder) / "adapter", Path(folder) / "tokenizer"
        model.save(adapter, tokenizer)
        back = load_adapter(
            base,
            adapter,
            tokenizer,
            max_length=512,
            device=device,
            quantization="4bit",
        )
        far = float(np.abs(back.logits(texts) - before).max())
    return {"losses": [losses[0], losses[-1]], "reload_difference": far}


PARTS = {"train_ours": train_ours, "train_trl": train_trl}
PARTS |= {"decide": decide, "qlora": qlora}


def measured(base, size, device, names):
    "What each part found, or why it could not be asked"
    found = {}
    for name in names:
        try:
            found[name] = PARTS[name](base, size, device)
        except Exception as e:  # a part that fails must not lose the others
            found[name] = {"not measured": f"{type(e).__name__}: {e}".splitlines()[0]}
        print(name, found[name], flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=[*PARTS, "all"])
    parser.add_argument("--tiny", action="store_true", help="a tiny model on a CPU")
    asked = parser.parse_args()
    device = "cpu" if asked.tiny else "cuda"
    size = TINY if asked.tiny else LARGE
    names = [*PARTS] if asked.part == "all" else [asked.part]
    with tempfile.TemporaryDirectory() as folder:
        found = measured(random_base(folder, size), size, device, names)
    if asked.tiny:
        return
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        cwd=HERE,
    ).stdout.strip()
    said = {
        "parts": found,
        "device": torch.cuda.get_device_name(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "transformers", "peft")},
        "commit": commit,
        "seed": 0,
    }
    (HERE / "results").mkdir(exist_ok=True)
    with atomic_write(HERE / "results" / "gpu.json") as temporary:
        temporary.write_text(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    main()
