"Names, settings, plugins that work and plugins that do not"

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from textwrap import dedent

import pytest

from fine_tune_llm.core.errors import ConfigurationError
from fine_tune_llm.core.logs import capture_logs
from fine_tune_llm.core.registry import (
    Registry,
    _created,
    _Entry,
    _entry_points,
    _is_again,
    _plural,
    _resolve,
)

GROUP = "fine_tune_llm.distances"
TAXI = """
def taxi(a, b, *, fare=1.):
    "What a driver asks, who cannot drive through houses"
    return fare * sum(abs(x - y) for x, y in zip(a, b))
"""


def minkowski(a, b, *, p=2.0):
    "Root of the summed powers of the gaps"
    return sum(abs(x - y) ** p for x, y in zip(a, b, strict=True)) ** (1 / p)


def capped(a, b, *, cap):
    return min(minkowski(a, b), cap)


class Weighted:
    "Gap along the first axis, in units of a scale"

    def __init__(self, scale):
        if isinstance(scale, str):
            raise TypeError("scale is text")
        self.scale = scale

    def __call__(self, a, b):
        return abs(a[0] - b[0]) / self.scale


def says(call, *args, **kwargs):
    "What the `ConfigurationError` of a call says"
    with pytest.raises(ConfigurationError) as error:
        call(*args, **kwargs)
    return str(error.value)


@pytest.fixture
def install(tmp_path, monkeypatch):
    "Puts down what an installer would: a module and its metadata, on the path"
    modules = set(sys.modules)

    def install(name, points, code="", *, version="1.0", group=GROUP):
        module = name.replace("-", "_")
        folder = tmp_path / f"{name}-{version}"
        info = folder / f"{module}-{version}.dist-info"
        info.mkdir(parents=True)
        head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (info / "METADATA").write_text(head)
        (info / "entry_points.txt").write_text(f"[{group}]\n{points}\n")
        (folder / f"{module}.py").write_text(dedent(code))
        monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])

    yield install
    for name in set(sys.modules) - modules:
        if name.endswith("_plugin") or name == "registry_of_distances":
            del sys.modules[name]


@pytest.fixture
def distances(install):
    install("far-plugin", "taxi = far_plugin:taxi", TAXI)
    registry = Registry("distance")
    registry.register("minkowski", minkowski)
    registry.register("weighted", Weighted)
    return registry


def test_plurals():
    kinds = "model loss score calibrator metric loader check strategy alert_channel"
    plurals = (
        "models losses scores calibrators metrics loaders checks strategies "
        "alert_channels"
    )
    assert [_plural(kind) for kind in kinds.split()] == plurals.split()


def test_settings_are_checked_against_the_signature():
    assert _created(dict, {"a": 1}, "thing", "dict") == {"a": 1}  # cannot be seen
    assert says(_created, minkowski, {"P": 1}, "distance", "minkowski") == (
        "distance 'minkowski': got an unexpected keyword argument 'P'. "
        "Did you mean 'p'? It is minkowski(a, b, *, p=2.0); a and b come with the call"
    )
    data = says(_created, minkowski, {"b": (3, 4)}, "distance", "minkowski")
    assert "a and b come with the call" in data
    plain = says(_created, (0, 0), {}, "place", "origin")
    assert "it is a tuple. Take it as it is, with `get`" in plain


def test_required_settings():
    assert _created(Weighted, {"scale": 2}, "distance", "w")((0, 0), (3, 4)) == 1.5
    assert _created(capped, {"cap": 4}, "distance", "c")((0, 0), (3, 4)) == 4
    for component in (Weighted, capped):
        assert "missing a required" in says(_created, component, {}, "distance", "x")
    with pytest.raises(TypeError, match="scale is text"):
        _created(Weighted, {"scale": "a"}, "distance", "w")


def test_the_listing(distances):
    walk = partial(minkowski, p=1)
    distances.register("walk", walk)
    rows = {row[0]: row for row in distances.table()}
    line = "Root of the summed powers of the gaps"
    assert rows["minkowski"][1:3] == ("(a, b, *, p=2.0)", line)
    assert rows["walk"][1:3] == ("(a, b, *, p=1)", line)
    assert rows["weighted"][1] == "(scale)"
    assert rows["taxi"] == (
        "taxi",
        "(a, b, *, fare=1.0)",
        "What a driver asks, who cannot drive through houses",
        "far-plugin 1.0",
    )


def test_entry_points_are_read_and_not_imported(install):
    install("far-plugin", "taxi = far_plugin:taxi", TAXI)
    points = _entry_points(GROUP, None)
    assert [point.value for point in points["taxi"]] == ["far_plugin:taxi"]
    assert "far_plugin" not in sys.modules
    assert _entry_points("fine_tune_llm.places", None) == {}
    # an older copy further down the path does not count
    install("far-plugin", "taxi = far_plugin:taxi\nbus = far_plugin:bus", version="0.9")
    assert list(_entry_points(GROUP, None)) == ["taxi"]


def test_whose_is_a_name(install):
    install("far-plugin", "taxi = far_plugin:taxi", TAXI)
    points = _entry_points(GROUP, None)
    ours = _Entry(minkowski, "Root", GROUP)
    own = {"minkowski": ours}
    found = _resolve("distance", "minkowski", own, points)
    assert found == (minkowski, "Root", "fine_tune_llm")
    line = "What a driver asks, who cannot drive through houses"
    assert _resolve("distance", "taxi", own, points)[1:] == (line, "far-plugin 1.0")
    assert says(_resolve, "distance", "Minkovski", own, points) == (
        "unknown distance 'Minkovski'; there are minkowski, taxi. "
        "Did you mean 'minkowski'?"
    )
    assert "there are none yet" in says(_resolve, "distance", "zzz", {}, {})
    found = _resolve("distance", "taxi", {"taxi": ours}, points)
    assert found == (minkowski, "Root", "fine_tune_llm")  # what is built in stays
    mine = {"taxi": _Entry(minkowski, "", "my_script")}
    assert "distance 'taxi' is claimed by my_script and by far-plugin 1.0" in says(
        _resolve, "distance", "taxi", mine, points
    )
    theirs = {"taxi": _Entry(minkowski, "", "far_plugin")}
    assert _resolve("distance", "taxi", theirs, points)[0] is minkowski


def first():
    return 0


def test_the_same_definition_run_again():
    def again():
        return 1

    again.__qualname__ = first.__qualname__
    one, two = (lambda: 0), (lambda: 1)
    for module, is_again in (("m", True), ("n", False)):
        assert _is_again(_Entry(first, "", module), again, "m") is is_again
    for component, is_again in ((first, True), (one, False), ((0, 0), False)):
        assert _is_again(_Entry(first, "", "m"), component, "m") is is_again
    for module, is_again in (("__main__", True), ("m", False)):
        assert _is_again(_Entry((0, 0), "", module), (0, 1), module) is is_again
        assert _is_again(_Entry(one, "", module), two, module) is is_again


def test_a_page_may_define_what_it_imported():
    "The notebook of a module: same name, docstring and arguments, from `__main__`"
    entry = _Entry(minkowski, "", "fine_tune_llm.distances")
    twin = eval(compile("lambda a, b, *, p=2.0: 0", "x", "eval"))
    twin.__qualname__, twin.__doc__ = "minkowski", minkowski.__doc__
    assert _is_again(entry, twin, "__main__")
    assert not _is_again(entry, twin, "some_package")
    twin.__doc__ = "Another"
    assert not _is_again(entry, twin, "__main__")


def test_the_five_verbs(distances):
    assert (distances.kind, distances.group) == ("distance", GROUP)
    assert repr(distances) == "Registry('distance')"
    assert list(distances) == ["minkowski", "taxi", "weighted"]
    assert len(distances) == 3
    assert "taxi" in distances
    assert "weighted" in distances
    assert "tram" not in distances
    assert None not in distances
    assert distances.get("weighted") is Weighted
    assert distances.create("taxi", fare=2)((0, 0), (3, 4)) == 14


def test_words_of_refusal(distances):
    assert says(distances.get, "waited") == (
        "unknown distance 'waited'; there are minkowski, taxi, weighted. "
        "Did you mean 'weighted'?"
    )
    assert (
        "distance 'weighted': got an unexpected keyword argument 'scales'. "
        "Did you mean 'scale'? It is weighted(scale)"
    ) in says(distances.create, "weighted", scale=1, scales=2)
    assert "name of a distance must be text, got None" in says(distances.get, None)
    assert "@registry.register('name')" in says(distances.register, minkowski)
    words = "`kind` must be a word such as 'loss', got 'two words'"
    assert words in says(Registry, "two words")


def test_plain_objects():
    places = Registry("place")
    places.register("origin", (0, 0), doc="Where we start")
    assert places.table() == [("origin", "", "Where we start", __name__.split(".")[0])]
    words = "place 'origin' is no function or class, it is a tuple"
    assert words in says(places.create, "origin")


def test_a_taken_name(distances):
    def king(a, b):
        return 0

    words = "distance 'minkowski' is already registered by"
    assert words in says(distances.register, "minkowski", king)
    theirs = {"__name__": "some_package.distances", "distances": distances}
    with pytest.raises(ConfigurationError, match="some_package.distances registers it"):
        exec("@distances.register('minkowski')\ndef minkowski(a, b): return 0", theirs)
    for _ in range(2):  # as a module that is reloaded
        exec("@distances.register('none')\ndef none(a, b): 'Always zero'", theirs)
    assert distances.table()[1] == ("none", "(a, b)", "Always zero", "some_package")
    with pytest.raises(ConfigurationError, match="already registered by some_package"):
        exec("distances.register('none', (0, 0))", theirs)


class Watch:
    "Finds nothing, and counts how often metadata is read"

    asked = 0

    def find_spec(self, *args):
        return None

    def find_distributions(self, context):
        self.asked += 1
        return ()


def test_nothing_is_read_before_it_is_needed(install, monkeypatch):
    watch = Watch()
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, watch])
    install("late-plugin", "late = late_plugin:late", "def late(a, b): return 1")
    registry = Registry("distance")
    registry.register("minkowski", minkowski)
    assert (watch.asked, "late_plugin" in sys.modules) == (0, False)
    registry.get("minkowski")
    assert (watch.asked, "late_plugin" in sys.modules) == (1, False)
    registry.get("late")
    assert (watch.asked, "late_plugin" in sys.modules) == (1, True)
    for _ in range(3):
        assert registry.get("minkowski") and registry.get("late")
        assert "late" in registry
    assert watch.asked == 1
    install("later-plugin", "later = later_plugin:later", "def later(a, b): return 2")
    assert registry.get("later")(0, 0) == 2  # installed while we work


BROKEN = "broken-plugin", "nearest = broken_plugin:nearest", "import nowhere_at_all"
TYPO = "typo-plugin", "typo = typo_plugin:tpyo", "def typo(a, b): return 0"
LEAVING = "leaving-plugin", "leave = leaving_plugin:leave", "raise SystemExit('bye')"
NONSENSE = "nonsense-plugin", "nonsense = ?!"
GARBLED = "garbled-plugin", "this line has no equals sign"


def test_plugins_that_do_not_work_are_left_out_and_said_once(distances, install):
    plugins = (BROKEN, TYPO, LEAVING, NONSENSE, GARBLED)
    for plugin in plugins:
        install(*plugin)
    with capture_logs() as lines:
        names = set(distances)
    assert not {"nearest", "typo", "leave", "nonsense"} & names
    assert {"minkowski", "taxi"} <= names
    reported = sorted(line["distributions"][0].split()[0] for line in lines)
    assert reported == sorted(plugin[0] for plugin in plugins)
    assert {line["event"] for line in lines} == {"plugin_skipped"}
    with capture_logs() as again:
        len(distances), "nearest" in distances, distances.get("taxi")
    assert again == []


def test_asking_for_one_by_name_says_whose_it_is(distances, install):
    for plugin in (BROKEN, TYPO, LEAVING, NONSENSE):
        install(*plugin)
    with pytest.raises(ConfigurationError) as error:
        distances.get("nearest")
    assert (
        "comes from broken-plugin 1.0 (broken_plugin:nearest), which does not load: "
        "ModuleNotFoundError: No module named 'nowhere_at_all'"
    ) in str(error.value)
    assert type(error.value.__cause__) is ModuleNotFoundError
    assert error.value.context["distributions"] == ["broken-plugin 1.0"]
    assert (
        "leaving-plugin 1.0 (leaving_plugin:leave), which does not load: "
        "SystemExit: bye"
    ) in says(distances.create, "leave")
    assert "no attribute 'tpyo'" in says(distances.get, "typo")
    assert "nonsense-plugin 1.0" in says(distances.get, "nonsense")


def test_two_of_the_same_name(install):
    install("far-plugin", "taxi = far_plugin:taxi", TAXI)
    names = ("taxi", "minkowski", "walk")
    points = "\n".join(f"{name} = near_plugin:taxi" for name in names)
    install("near-plugin", points, "def taxi(a, b): return 0")
    ours = Registry("distance")
    module = {"__name__": GROUP, "distances": ours, "f": minkowski}
    exec("distances.register('minkowski', f)", module)
    with capture_logs() as lines:
        assert ours.create("minkowski", p=1)((0, 0), (3, 4)) == 7  # the one built in
        assert "unknown" in says(ours.get, "tram")
    said = "distance 'minkowski' is built in; that of near-plugin 1.0 is not used"
    assert [line["reason"] for line in lines] == [said]
    both = "distance 'taxi' is claimed by far-plugin 1.0 and by near-plugin 1.0"
    assert both in says(ours.get, "taxi")
    assert ours.create("walk")(0, 0) == 0
    with capture_logs() as lines:
        listed = set(ours)
    assert {"walk", "minkowski"} <= listed and "taxi" not in listed
    told = [line["distributions"] for line in lines if line.get("name") == "taxi"]
    assert told == [["far-plugin 1.0", "near-plugin 1.0"]]


@pytest.mark.parametrize("kind", ["BaseException", "GeneratorExit", "SystemExit"])
def test_whatever_a_plugin_raises_the_listing_goes_on(distances, install, kind):
    install("odd-plugin", "odd = odd_plugin:odd", f"raise {kind}('no')")
    rows = {row[0]: row for row in distances.table()}
    assert f"which does not load: {kind}: no" in rows["odd"][2]
    assert {"minkowski", "taxi", "weighted"} <= set(distances)
    assert f"{kind}: no" in says(distances.get, "odd")


def test_a_plugin_that_registers_itself_is_one_owner(distances, install, monkeypatch):
    # stands for the module where a registry lives
    monkeypatch.setitem(sys.modules, "registry_of_distances", distances)
    code = """
    import registry_of_distances as distances

    @distances.register('eager')
    def eager(a, b): return 7
    """
    install("eager-plugin", "eager = eager_plugin:eager", code)
    assert [distances.get("eager")(0, 0) for _ in range(2)] == [7, 7]
    assert "eager" in distances


def test_many_threads():
    "Of many that register under one name one wins; nothing registered is lost"
    crowd = Registry("voice")

    def enter(i):
        def voice():
            return i

        voice.__qualname__ = f"voice_{i}"
        crowd.register(f"voice_{i}", voice)
        assert f"voice_{i}" in crowd
        try:
            crowd.register("first", voice)
            return 1
        except ConfigurationError:
            return 0

    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns every microsecond
    try:
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(enter, range(2000)))
    finally:
        sys.setswitchinterval(usual)
    assert (sum(won), len(crowd)) == (1, 2001)
