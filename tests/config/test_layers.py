"Wrong settings of every kind, from every source, and what is said about them"

import pickle

import pytest

from fine_tune_llm.config import (
    PRESETS,
    Config,
    Layer,
    Machine,
    Origin,
    cli_layer,
    config_schema,
    env_layer,
    make_config,
    preset_layer,
    resolve_config,
    this_machine,
)
from fine_tune_llm.core.errors import ConfigurationError

LAPTOP = Machine(ram=16)
SERVER = Machine(ram=256, gpus=(80,), packages=("bitsandbytes",))
TOKEN = "hf_" + "k" * 30

# weights, layers, width
SIZES = {"minilm": (22.7e6, 6, 384), "llama3-8b": (8e9, 32, 4096)}


def memory_needed(config):
    "Frozen weights, and 34 bytes a token, layer and width (Korthikanti et al. 2022)"
    if config.model.name not in SIZES:
        return None
    weights, layers, width = SIZES[config.model.name]
    each = 34 * (1 if config.training.precision == "bf16" else 2)
    row = each * (config.model.max_length or 128) * width * layers
    per_weight = {"none": 4, "8bit": 1, "4bit": 0.5}[config.model.quantization]
    return weights * per_weight + config.training.batch_size * row


def complaint(call):
    with pytest.raises(ConfigurationError) as e:
        call()
    return str(e.value)


@pytest.mark.parametrize(
    "settings, words",
    [
        (dict(conformal=dict(alpha=1)), "`conformal.alpha` must be below 1.0, got 1"),
        (dict(conformal=dict(alpha=0)), "`conformal.alpha` must be above 0.0, got 0"),
        (
            dict(training=dict(learning_rat=1)),
            "did you mean `training.learning_rate`?",
        ),
        (dict(epochs=1), "did you mean `training.epochs`?"),
        (
            {"model.pooling": "max"},
            "`model.pooling` must be 'auto', 'mean', 'mean_max', 'mean_max_norm' or "
            "'last', got 'max'",
        ),
        ({"training.epochs": True}, "`training.epochs` must be a number, got True"),
        (
            {"model.name": ""},
            "`model.name` must have at least 1 character, got ''",
        ),
        (dict(data=dict(train=0.9)), "add up to 1"),
        (
            dict(training=3),
            "`training` must be a section with settings of its own, got 3",
        ),
        ("config.yaml", "must be a dict, a Config or a Layer, got str"),
    ],
)
def test_wrong_settings(settings, words):
    assert words in complaint(lambda: make_config(settings))


def test_layers_are_laid_over_one_another():
    c = make_config(
        dict(training=dict(epochs=1)), {"training.batch_size": 8, "seed": 3}, None
    )
    assert (
        c.training.epochs,
        c.training.batch_size,
        c.training.weight_decay,
        c.seed,
    ) == (1, 8, 0.01, 3)


@pytest.mark.parametrize(
    "bad",
    [
        {"model.name": TOKEN},
        {"data.group": ["a", TOKEN]},
        {"training": {TOKEN: 1}},
        {"seed": f"https://me:{TOKEN}@hub"},
    ],
)
def test_a_credential_is_refused_and_not_repeated(bad):
    with pytest.raises(ConfigurationError, match="looks like a credential") as e:
        make_config(bad)
    assert TOKEN not in str(e.value) + repr(e.value.context)


def test_who_set_it():
    c = make_config(
        Layer("preset small", {"training.learning_rate": 0.001, "training.epochs": 5}),
        Layer(
            "more.yaml",
            {"training.learning_rate": 0.0005},
            {"training.learning_rate": "more.yaml, line 2"},
        ),
        dict(training=dict(epochs=1)),
    )
    assert c.explain("training.learning_rate") == Origin(
        "training.learning_rate",
        0.0005,
        "more.yaml, line 2",
        (("preset small", 0.001), ("default", 0.002)),
    )
    # layers stay with their `Config`
    assert make_config(c, dict(seed=1)).explain("training.epochs").place == "arguments"
    copy = pickle.loads(pickle.dumps(c))
    assert copy.explain("training.epochs") == c.explain("training.epochs")
    origins = c.origins()
    assert (origins["training.learning_rate"], origins["seed"]) == (
        "more.yaml, line 2",
        "default",
    )


def test_a_layer_does_not_hide_what_it_repeats():
    c = make_config(
        preset_layer("minilm-cpu"), env_layer({"FTLLM_TRAINING__LEARNING_RATE": "2e-3"})
    )
    assert str(c.explain("training.learning_rate")) == (
        "training.learning_rate = 0.002, "
        "set by environment FTLLM_TRAINING__LEARNING_RATE"
    )
    run = make_config(Layer("config.yaml", Config().to_dict()))
    for name in run.origins():
        assert "hides" not in str(run.explain(name)), name


def test_what_a_notebook_shows():
    shown = make_config({"data.group": ["a|b"], "seed": 0})._repr_markdown_()
    assert "| `data.group` | `('a\\|b',)` | `()` | arguments |" in shown
    assert "`seed`" not in shown
    assert "all" in Config()._repr_markdown_()


def test_environment():
    e = {
        "FTLLM_TRAINING__LEARNING_RATE": "1e-4",
        "FTLLM_DATA__GROUP": "age, sex",
        "FTLLM_SEED": "7",
        "FTLLM_DATA": "/somewhere",
        "FTLLM_SECRET_KEY": "x",
        "FTLLM_LOGGING__TEXTS": "yes",
        "HOME": "/",
    }
    c = make_config(env_layer(e), cli_layer(["training.epochs=4", "data.label=no"]))
    assert (
        c.training.learning_rate,
        c.data.group,
        c.seed,
        c.logging.texts,
        c.training.epochs,
        c.data.label,
    ) == (1e-4, ("age", "sex"), 7, True, 4, "no")
    assert c.explain("seed").place == "environment FTLLM_SEED"
    place = c.explain("training.epochs").place
    assert place == "command line, --set training.epochs"
    others = {
        "FTLLM_DATA": "/d",
        "FTLLM_SECRET_KEY": "x",
        "FTLLM_SECRET_FILE": "x",
        "FTLLM_HOST": "x",
        "FTLLM_CACHE_DIR": "x",
        "FTLLMX_SEDE": "1",
    }
    assert env_layer(others).values == {}


@pytest.mark.parametrize(
    "variable, words",
    [
        (
            "FTLLM_TRAINING__EPOCH",
            "did you mean `training.epochs`? (environment FTLLM_TRAINING__EPOCH)",
        ),
        (
            "FTLLM_TRAINING_EPOCHS",
            "did you mean `training.epochs`? (environment FTLLM_TRAINING_EPOCHS, "
            "as a setting FTLLM_TRAINING__EPOCHS)",
        ),
        (
            "FTLLM_SEDE",
            "did you mean `seed`? (environment FTLLM_SEDE, as a setting FTLLM_SEED)",
        ),
        ("FTLLM_EPOCHS", "did you mean `training.epochs`?"),
        ("FTLLM_LOG_LEVEL", "did you mean `logging.level`?"),
        ("FTLLM_MODEL", "`model` must be a section with settings of its own"),
    ],
)
def test_a_mistyped_variable(variable, words):
    assert words in complaint(lambda: make_config(env_layer({variable: "3"})))


def test_a_mistyped_option():
    said = complaint(lambda: cli_layer(["seed"]))
    assert "`--set` takes key=value, got 'seed'" in said
    said = complaint(lambda: make_config(cli_layer(["seed="])))
    assert "`seed` must be a valid integer" in said


def test_every_number_has_bounds():
    numbers = [
        prop
        for owner in [config_schema(), *config_schema()["$defs"].values()]
        for prop in owner["properties"].values()
        if prop.get("type") in ("integer", "number")
    ]
    for prop in numbers:
        assert "minimum" in prop or "exclusiveMinimum" in prop, prop
        assert "maximum" in prop or "exclusiveMaximum" in prop, prop
    assert len(numbers) > 20


def test_machines():
    needed = memory_needed(make_config({"training.batch_size": 1})) / 2**30
    assert abs(needed - (0.0846 + 0.0187)) < 1e-3
    for name in PRESETS:
        make_config(preset_layer(name), machine=SERVER, memory_needed=memory_needed)
    make_config(preset_layer("minilm-cpu"), machine=LAPTOP, memory_needed=memory_needed)
    with pytest.raises(ConfigurationError) as e:
        make_config(
            preset_layer("qwen2.5-7b-qlora"),
            {"training.epochs": -1, "conformal.alhpa": 1},
            machine=LAPTOP,
        )
    assert len(e.value.context["complaints"]) == 5
    on_cpu = {"model.quantization": "4bit", "model.device": "cpu"}
    said = complaint(lambda: make_config(on_cpu, machine=SERVER))
    assert "and `model.device` is 'cpu'" in said
    make_config(on_cpu | {"model.quantization": "8bit"}, machine=SERVER)
    assert this_machine().ram > 0 and this_machine().cpus > 0


def test_memory():
    kw = dict(machine=LAPTOP, memory_needed=memory_needed)
    said = complaint(lambda: make_config({"training.batch_size": 4096}, **kw))
    assert (
        "`training.batch_size` 4096 with 128 tokens a row needs about 77 GiB to train "
        "'minilm', and there are 16; about 852 would fit" in said
    )
    small_gpu = Machine(ram=64, gpus=(24,))
    said = complaint(
        lambda: make_config(
            preset_layer("llama3-8b"), machine=small_gpu, memory_needed=memory_needed
        )
    )
    assert "not one row fits" in said
    unknown = {"training.batch_size": 4096, "model.name": "my/model"}
    make_config(unknown, **kw)  # unknown size: no rule
    said = complaint(lambda: make_config({"training.batch_size": 10**6}, **kw))
    assert "`training.batch_size` must be at most 65536" in said


def test_all_layers_in_one_call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "training.learning_rate"
    (tmp_path / "base.yaml").write_text(
        "training:\n  epochs: 5\n  learning_rate: 1e-3\n"
    )
    (tmp_path / "more.yaml").write_text(
        "extends: base.yaml\ntraining:\n  learning_rate: 0.0005\n"
    )
    kw = dict(env={"FTLLM_TRAINING__LEARNING_RATE": "3e-4"}, machine=LAPTOP)
    c = resolve_config(
        "more.yaml", preset="minilm-cpu", **kw, cli=[f"{name}=4e-4"], over={name: 5e-4}
    )
    assert [place for place, _ in c.explain(name).hidden] == [
        "command line, --set training.learning_rate",
        "environment FTLLM_TRAINING__LEARNING_RATE",
        "more.yaml, line 3",
        "base.yaml, line 3",
        "preset minilm-cpu",
        "default",
    ]
    c = resolve_config("more.yaml", preset="minilm-cpu", **kw)
    assert c.training.learning_rate == 3e-4
    c = resolve_config("more.yaml", "base.yaml", env={})
    assert c.training.learning_rate == 1e-3
    c = resolve_config(preset="qwen2.5-7b-qlora", env={}, machine=None)
    assert c.model.quantization == "4bit"
    said = complaint(
        lambda: resolve_config(preset="qwen2.5-7b-qlora", env={}, machine=LAPTOP)
    )
    assert "needs a GPU" in said
    assert resolve_config(env={}) == Config()
