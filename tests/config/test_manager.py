"Changes of a folder's settings: kept, announced, refused, rolled back"

import pytest

from fine_tune_llm.config import (
    Config,
    ConfigManager,
    History,
    config_diff,
    load_config,
    make_config,
    preset_layer,
)
from fine_tune_llm.core.errors import ConfigurationError, IntegrityError, RunError
from fine_tune_llm.core.files import write_json
from fine_tune_llm.core.logs import capture_logs


def complaint(call):
    with pytest.raises(ConfigurationError) as e:
        call()
    return str(e.value)


@pytest.fixture
def manager(tmp_path):
    "A manager, and the events it published as `manager.events`"
    events = []
    m = ConfigManager(
        tmp_path,
        make_config(preset_layer("minilm-cpu")),
        publish=events.append,
        author="ada@lab",
        now=lambda: "2026-01-02T03:04:05+00:00",
    )
    m.events = events
    return m


def test_history(tmp_path):
    history = History(tmp_path, author="ada@lab")
    with history.writing():
        history.add(Config())
        history.add(Config(seed=1), {"seed": "version 2"}, {"seed": (0, 1)})
    assert [v.number for v in history.versions()] == [1, 2]
    write_json(tmp_path / "history" / "0003.json", {"number": 3})
    with pytest.raises(IntegrityError, match="0003.json` is not a version of settings"):
        history.newest()


def test_changes_are_kept_and_announced(manager, tmp_path):
    seen = []
    manager.on_change(lambda old, new: 1 / 0)
    manager.on_change(
        lambda old, new: seen.append((old.training.epochs, new.training.epochs))
    )
    with capture_logs() as lines:
        manager.apply({"training.epochs": 5}, note="it was still learning")
        manager.apply({"risk.delta": 0.2, "logging.level": "info"})
        manager.rollback(1)
    assert manager.version == 4 and manager.config.training.epochs == 3
    assert seen == [(3, 5), (5, 5), (5, 3)]
    assert manager.config == manager.history()[0].config
    assert load_config(tmp_path / "config.yaml") == manager.config
    assert manager.diff(1, 3) == {
        "training.epochs": (3, 5),
        "risk.delta": (0.1, 0.2),
        "logging.level": ("warning", "info"),
    }
    assert manager.diff(1, 4) == {}
    event = manager.events[0]
    assert (event.type, event.data) == (
        "system.config_changed",
        dict(
            version=2,
            author="ada@lab",
            note="it was still learning",
            diff={"training.epochs": [3, 5]},
        ),
    )
    assert [line["event"] for line in lines] == ["listener failed"] * 3


def test_an_event_that_cannot_be_published_disturbs_nobody(manager):
    manager.publish = lambda event: 1 / 0
    with capture_logs() as lines:
        assert manager.apply({"training.epochs": 5}) == 2
    assert [line["event"] for line in lines] == ["event not recorded"]


def test_wrong_calls(manager, tmp_path):
    for call, words in (
        (lambda: manager.apply([1]), "must be a dict such as {'training.epochs': 3}"),
        (lambda: manager.apply([1]), "got [1]"),
        (lambda: manager.apply(None), "got None"),
        (lambda: manager.apply({"seed": 1}, note=3), "`note` must be a text, got int"),
        (lambda: config_diff(manager.config, {}), "`new` must be a Config, got dict"),
        (
            lambda: ConfigManager(tmp_path / "new", [1]),
            "settings must be a dict, a Config or a Layer, got list",
        ),
        (lambda: manager.rollback(9), "there is no version 9"),
        (lambda: ConfigManager(tmp_path / "history"), "holds no config.yaml"),
    ):
        assert words in complaint(call)
    begun = ConfigManager(tmp_path / "new", {"training.epochs": 2})
    assert begun.config.training.epochs == 2
    (tmp_path / "history" / "9x.json").write_text("{}")
    assert len(manager.history()) == 1  # somebody else's file
    with pytest.raises(RunError, match="cannot be written: not a directory"):
        ConfigManager(tmp_path / "config.yaml" / "x", Config())


def test_edits_and_refusals(manager, tmp_path):
    file = tmp_path / "config.yaml"
    before = manager.config
    said = complaint(lambda: manager.apply({"training.epochs": -1, "risk.delta": 2}))
    assert "`training.epochs` must be at least 0" in said
    assert manager.config is before and manager.version == 1
    assert manager.events[-1].type == "system.config_rejected"
    assert len(manager.events[-1].data["complaints"]) == 2
    text = file.read_text()
    file.write_text("# mine\n" + text.replace("epochs: 3", "epochs: 7"))
    assert (manager.reload(), manager.config.training.epochs) == (2, 7)
    assert manager.reload() == 2
    assert file.read_text().startswith("# mine")
    file.write_text(text.replace("epochs: 3", "epochs: 8"))
    manager.apply({"seed": 3})
    assert (manager.version, manager.config.training.epochs) == (4, 8)
    assert manager.config.seed == 3
    assert manager.history()[2].note == "config.yaml was edited"
    file.write_text("training: {epochs: 9, lerning_rate: 1}")
    for change in (manager.reload, lambda: manager.apply({"seed": 4})):
        assert "did you mean `training.learning_rate`?" in complaint(change)
    assert (manager.config.training.epochs, manager.config.seed) == (8, 3)
    manager.rollback(4)
    assert (manager.version, load_config(file)) == (4, manager.config)


def test_two_managers_of_one_folder(manager, tmp_path):
    other = ConfigManager(tmp_path, author="bob@lab")
    manager.apply({"training.epochs": 2})
    other.apply({"training.batch_size": 4})
    assert other.config.training.epochs == 2
    assert (other.config.training.batch_size, other.version) == (4, 3)
    manager.reload()
    assert manager.config == other.config
    assert manager.events[-1].data["author"] == "bob@lab"
    assert [v.number for v in manager.history()] == [1, 2, 3]


def test_while_a_run_trains(manager, tmp_path):
    other = ConfigManager(tmp_path)
    change = {"training.learning_rate": 1e-3, "logging.level": "debug"}
    with manager.training():
        for who in (manager, other):
            said = complaint(lambda who=who: who.apply(change))
            words = (
                "only live settings may change now: `training.learning_rate` may not"
            )
            assert words in said
        other.apply({"logging.level": "debug"})
        manager.reload()
        assert manager.config.logging.level == "debug"
        with (
            pytest.raises(RunError, match="is being trained by another process"),
            other.training(),
        ):
            pass
    manager.apply({"training.learning_rate": 1e-3})
    assert manager.config.training.learning_rate == 1e-3
    live_only = ConfigManager(tmp_path, live_only=True)
    assert "only live settings" in complaint(lambda: live_only.apply({"seed": 1}))
