"""Label words scored by a language model: what packing saves, in use and in training"""

import json
import os
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

from fine_tune_llm.data import LabelPrompt
from fine_tune_llm.models import find_model
from fine_tune_llm.models.label_engines import PackedEngine, naive_table
from fine_tune_llm.models.label_tokens import LabelScorer
from fine_tune_llm.models.label_trie import LabelTrie
from fine_tune_llm.models.prompts import PromptTokens, tokenize_prompt
from fine_tune_llm.models.weights import read_tokenizer

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("FTLLM_DATA", HERE.parents[2] / "shared/data"))
SEED = 0
INSTRUCTION, TEXT, END = 200, 30, 10  # tokens
TRIAGE = ("emergency", "urgent", "routine", "self_care")
REPEATS = 3


def random_model(vocab_size, width, layers):
    "A Llama of random weights, large enough for scores to differ"
    shape = AutoConfig.for_model(
        "llama",
        vocab_size=vocab_size,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=2048,
        initializer_range=0.1,
    )
    torch.manual_seed(SEED)
    return AutoModelForCausalLM.from_config(shape).eval()


def intents():
    lines = (DATA / "banking77" / "train.jsonl").read_text("utf-8").splitlines()
    return tuple(sorted({json.loads(line)["label"] for line in lines}))


def labels_in_tokens(names, vocab_size):
    "The tokens of SmolLM2 for the names, renamed to fit the vocabulary"
    source = find_model("smollm2")
    tokenizer = read_tokenizer(source.folder, "smollm2")
    found = tokenize_prompt(LabelPrompt(names), tokenizer).labels
    distinct = sorted({token for sequence in found for token in sequence})
    renamed = dict(zip(distinct, torch.randperm(vocab_size).tolist(), strict=False))
    return tuple(tuple(renamed[token] for token in sequence) for sequence in found)


def problem(names, vocab_size, n_texts):
    "A prompt of 200 tokens and texts of 30"
    torch.manual_seed(SEED)
    labels = labels_in_tokens(names, vocab_size)
    ids = torch.randint(vocab_size, (INSTRUCTION + END,)).tolist()
    prompt = PromptTokens(
        tuple(ids[:INSTRUCTION]), tuple(ids[INSTRUCTION:]), labels, ""
    )
    texts = torch.randint(vocab_size, (n_texts, TEXT)).tolist()
    return prompt, texts


@torch.no_grad()
def every_logit(model, prompt, texts):
    "Every text with every label, logits of the whole: what one writes first"
    rows = []
    for text in texts:
        start = [*prompt.prefix, *text, *prompt.suffix]
        longest = max(map(len, prompt.labels))
        ids = [[*start, *s, *[0] * (longest - len(s))] for s in prompt.labels]
        logits = model(input_ids=torch.tensor(ids), use_cache=False).logits
        said = logits[:, len(start) - 1 : -1].log_softmax(2)
        rows.append(
            torch.stack([label_sum(*pair) for pair in zip(said, prompt.labels)])
        )
    return torch.stack(rows)


def label_sum(said, sequence):
    return sum(said[i, token] for i, token in enumerate(sequence))


@torch.no_grad()
def repeated_prompt(model, prompt, texts, kept={}):  # noqa: B006
    "The prompt read once and its cache repeated for every text and label"
    if id(model) not in kept:
        kept[id(model)] = DynamicCache()
        prefix = torch.tensor([prompt.prefix])
        model(input_ids=prefix, past_key_values=kept[id(model)], logits_to_keep=1)
    rows = []
    for text in texts:
        start = [*text, *prompt.suffix]
        longest = max(map(len, prompt.labels)) - 1
        ids = [[*start, *s[:-1], *[0] * (longest + 1 - len(s))] for s in prompt.labels]
        cache = DynamicCache()
        for i, layer in enumerate(kept[id(model)].layers):
            keys, values = (
                part.expand(len(ids), -1, -1, -1) for part in (layer.keys, layer.values)
            )
            cache.update(keys, values, i)
        logits = model(
            input_ids=torch.tensor(ids),
            past_key_values=cache,
            logits_to_keep=longest + 1,
        ).logits
        said = logits.log_softmax(2)
        rows.append(
            torch.stack([label_sum(*pair) for pair in zip(said, prompt.labels)])
        )
    return torch.stack(rows)


def seconds_each(call, texts, repeats):
    "Least processor time of a text over some runs, and what came back"
    found = call(texts[:1])
    times = []
    for _ in range(repeats):
        start = time.process_time()
        found = call(texts)
        times.append((time.process_time() - start) / len(texts))
    return min(times), found


def compare_scoring(names, vocab_size=32_000):
    "Seconds of a text by each way, ratios and differences"
    model = random_model(vocab_size, 256, 4)
    prompt, texts = problem(names, vocab_size, 32)
    some = texts[: 4 if len(names) < 10 else 1]
    trie = LabelTrie(prompt.labels)
    engine = PackedEngine(model, prompt)
    slow = {
        "naive, all logits": lambda t: every_logit(model, prompt, t),
        "naive, needed logits": lambda t: naive(model, prompt, t),
        "prompt once, cache repeated": lambda t: repeated_prompt(model, prompt, t),
    }
    fast = {
        f"packed, {scoring}": lambda t, s=scoring: engine.scores(t, trie.reading(s))
        for scoring in ("exact", "constrained")
    }
    result, scores = {}, {}
    for name, call in {**fast, **slow}.items():
        is_slow = name in slow
        repeats = 1 if is_slow and len(some) == 1 else REPEATS
        given = some if is_slow else texts
        result[name], found = seconds_each(call, given, repeats)
        scores[name] = found[: len(some)]
    with torch.no_grad():
        truth = naive_table(model, prompt, some)
    gaps = {
        name: (found - truth["constrained" if "constr" in name else "exact"])
        .abs()
        .max()
        for name, found in scores.items()
    }
    return {
        "labels": len(names),
        "nodes": trie.n_nodes,
        "run": {s: len(trie.reading(s).tokens) for s in ("exact", "constrained")},
        "seconds a text": result,
        "times faster": {
            name: {other: result[other] / result[name] for other in slow}
            for name in fast
        },
        "largest difference": {name: float(gap) for name, gap in gaps.items()},
    }


@torch.no_grad()
def naive(model, prompt, texts):
    return naive_table(model, prompt, texts)["exact"]


V, WIDTH, ROWS, PROMPT = 151_936, 128, 4, 235


def step_of(name):
    "A forward and backward pass: takes nothing, returns the loss"
    from peft import LoraConfig, get_peft_model

    model = random_model(V, WIDTH, 2)
    if name.startswith("TRL"):
        from trl.trainer.utils import add_fused_lm_head

        add_fused_lm_head(model)
    lora = LoraConfig(r=8, target_modules=["q_proj", "v_proj"])
    net = get_peft_model(model, lora).train()
    prompt, texts = problem(TRIAGE, V, ROWS)
    prompt = PromptTokens(
        prompt.prefix, prompt.suffix[: PROMPT - 230], prompt.labels, ""
    )
    classes = [i % len(TRIAGE) for i in range(ROWS)]
    if name.startswith("packed") or name.startswith("rows"):
        scorer = LabelScorer(prompt, [texts[0], texts[1][:3]], 1000)
        return lambda: label_loss(scorer, net, texts, classes, rows=name[:4] == "rows")
    ids, asked = written_out(prompt, texts, classes)
    if name == "full vocabulary":
        return lambda: net(input_ids=ids, labels=ids).loss
    if name == "response positions":
        return lambda: response_loss(net, ids, asked, max(map(len, prompt.labels)))
    labels = ids if name == "TRL, all tokens" else asked
    return lambda: net(input_ids=ids, labels=labels, fused_lm_head=True).loss


def label_loss(scorer, net, texts, classes, *, rows):
    from fine_tune_llm.models.label_engines import RowsEngine

    scorer.ready(net, TEXT)
    if rows:
        scorer.trainer = RowsEngine(net, scorer.tokens)
    scores, nll = scorer.trained(net, texts, classes, scoring="constrained")
    return torch.nn.functional.cross_entropy(scores, torch.tensor(classes)) + 0.1 * nll


def response_loss(net, ids, asked, n):
    "Cross-entropy of a language model with logits at the last n places only"
    logits = net(input_ids=ids, logits_to_keep=n + 1).logits[:, :-1]
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), asked[:, -n:].flatten()
    )


def written_out(prompt, texts, classes):
    "Rows with the true label, and what of them is an answer; padded on the right"
    rows, asked = [], []
    longest = max(map(len, prompt.labels))
    for text, label in zip(texts, classes, strict=True):
        start = [*prompt.prefix, *text, *prompt.suffix]
        answer = list(prompt.labels[label])
        fill = longest - len(answer)
        rows.append(start + answer + [0] * fill)
        asked.append([-100] * len(start) + answer + [-100] * fill)
    return torch.tensor(rows), torch.tensor(asked)


def memory(word):
    "Megabytes of this process: VmRSS now, VmHWM at most"
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith(word))
    return int(line.split()[1]) / 1024


def measure_step(name):
    "Memory above the weights, and processor time, of a training step"
    call = step_of(name)
    torch.nn.functional.scaled_dot_product_attention(*[torch.rand(1, 2, 64, 32)] * 3)
    if name.startswith(("packed", "rows")):
        with torch.no_grad():
            call()  # the check of the engines is made once a run, not once a step
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again
    before = memory("VmRSS")
    call().backward()
    peak = memory("VmHWM") - before
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        call().backward()
        times.append(time.process_time() - start)
    print(json.dumps({"MB": peak, "seconds": min(times)}))


STEPS = (
    "full vocabulary",
    "TRL, all tokens",
    "TRL, answers only",
    "response positions",
    "rows, constrained",
    "packed, constrained",
)


def compare_steps():
    "Each step in a process of its own"
    result = {}
    for name in STEPS:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", __file__, "--step", name],
            capture_output=True,
            text=True,
        )
        said = done.stdout.strip().splitlines()
        why = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        result[name] = json.loads(said[-1]) if not done.returncode else why
    full, ours = result["full vocabulary"], result["packed, constrained"]
    return {
        "vocabulary": V,
        "width": WIDTH,
        "rows": ROWS,
        "prompt": PROMPT,
        "steps": result,
        "memory of full vocabulary": ours["MB"] / full["MB"],
        "times faster": full["seconds"] / ours["seconds"],
    }


def versions():
    found = {}
    for package in ("torch", "transformers", "peft", "trl"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def write(name, result):
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True
    )
    result |= {"seed": SEED, "commit": commit.stdout.strip(), "versions": versions()}
    result["threads"] = torch.get_num_threads()
    text = json.dumps(result, indent=1)
    (HERE / "results" / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(text)


def main():
    torch.set_num_threads(1)
    if "--step" in sys.argv:
        measure_step(sys.argv[sys.argv.index("--step") + 1])
        return
    parts = sys.argv[1:] or ["scoring", "training_step"]
    if "scoring" in parts:
        names = (TRIAGE, intents())
        write("scoring", {f"K={len(n)}": compare_scoring(n) for n in names})
    if "training_step" in parts:
        write("training_step", compare_steps())


if __name__ == "__main__":
    main()
