"Template cases that cannot be run are refused with file, line and key"

import pytest

from fine_tune_llm.core.errors import ConfigurationError
from fine_tune_llm.evaluation import Cases

CASE = """one:
  template: "I have {x}"
  fill: {x: [pain]}
  expect: emergency
"""


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("  expect: emergency", "", "line 1: `one` needs `change`"),
        ("expect", "expects", "line 4: `one.expects` is not known"),
        ("emergency", "yes", "`one.expect` must be a text, got True"),
        ("{x}", "{y}", "line 2: `one.template` has {y}, and `fill` has x"),
        ("[pain]", "pain", "line 3: `one.fill.x` must be a list of texts"),
        ("[pain]", "[5]", "`one.fill.x` must hold texts, got 5"),
        ("[pain]", "[]", "`one.fill.x` must be a list of texts, got []"),
        (
            "expect: emergency",
            "change: a\n  class: b",
            "`one` needs `rises` or `falls`",
        ),
        ("expect: emergency", "change: a\n  rises: 2\n  class: b", "in [0, 1), got 2"),
        ("expect: emergency", "change: a\n  rises: 0\n  falls: 0", "rise and fall"),
        ("expect: emergency", "expect: a\n  kind: inv", "its keys make it 'mft'"),
        ("expect: emergency", "expect: a\n  change: b", "make two cases of it"),
        ("expect: emergency", "expect: a\n  texts: [b]", "and not both"),
        ("expect: emergency", "expect: a\n  allow: 1", "in [0, 1), got 1"),
    ],
)
def test_a_case_that_does_not_fit(tmp_path, old, new, why):
    file = tmp_path / "mine.yaml"
    file.write_text(CASE.replace(old, new))
    with pytest.raises(ConfigurationError) as e:
        Cases.load(file)
    assert why in str(e.value) and "mine.yaml" in str(e.value)


def test_too_many_texts_are_refused_before_they_are_made():
    many = {str(k): [str(i) for i in range(100)] for k in range(9)}
    case = {"template": "{0}{1}", "fill": many, "expect": "x"}
    with pytest.raises(ConfigurationError, match="1,000 is the most"):
        Cases.of({"all": case})
