"The frame of a decision: what its schema admits is what is read, and nothing else"

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fine_tune_llm.core.errors import DataValidationError
from fine_tune_llm.data import Frame, frame_schema, read_frame

LABELS = ("kitchen", 'say "no"', "Zoë", "null", "1")
few = settings(max_examples=400, deadline=None, derandomize=True)
PARTS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 1),
    st.sampled_from(LABELS),
    st.text(max_size=5),
    st.just([]),
    st.just({}),
)
OBJECTS = st.fixed_dictionaries(
    {},
    optional={
        "decision": st.one_of(st.sampled_from([*LABELS, None]), PARTS),
        "rationale": st.one_of(st.text(max_size=5), PARTS),
        "abstain": st.one_of(st.booleans(), PARTS),
        "label": PARTS,
    },
)


def is_read(answer):
    try:
        read_frame(answer, LABELS)
    except DataValidationError:
        return False
    return True


@few
@given(OBJECTS)
def test_what_the_schema_admits_is_what_is_read(said):
    "Against a validator that knows nothing of us"
    jsonschema = pytest.importorskip("jsonschema")
    valid = jsonschema.Draft202012Validator(frame_schema(LABELS)).is_valid(said)
    assert is_read(json.dumps(said)) == valid


@few
@given(st.one_of(st.none(), st.sampled_from(LABELS)), st.text(max_size=40))
def test_what_is_written_is_read(decision, rationale):
    jsonschema = pytest.importorskip("jsonschema")
    frame = Frame(decision, rationale)
    assert read_frame(frame.to_json(), LABELS) == frame
    said = json.loads(frame.to_json())
    assert list(said) == ["decision", "rationale", "abstain"]
    jsonschema.validate(said, frame_schema(LABELS))
    closed = jsonschema.Draft202012Validator(frame_schema(LABELS, abstain=False))
    assert closed.is_valid(said) == (decision is not None)


@few
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(answer):
    is_read(answer)


WRONG = {
    "": "no JSON object",
    "null": "got None",
    '["kitchen"]': "no JSON object",
    'Sure! {"decision": "kitchen", "rationale": "", "abstain": false}': "no JSON",
    '{"decision": "kitchen", "rationale": "", "abstain": false} ok': "no JSON",
    '{"decision": "kitchen", "rationale": "", "abstain": false,}': "no JSON",
    '{"decision": "kitchen", "decision": "1", "rationale": "", "abstain": false}': (
        "a field stands twice"
    ),
    '{"decision": NaN, "rationale": "", "abstain": false}': "NaN is no JSON",
    '{"decision": "kitchn", "rationale": "", "abstain": false}': "mean 'kitchen'",
    '{"decision": "Kitchen", "rationale": "", "abstain": false}': "`decision` must be",
    '{"decision": 1, "rationale": "", "abstain": false}': "`decision` must be",
    '{"decision": ["kitchen"], "rationale": "", "abstain": false}': "`decision` must",
    '{"decision": "kitchen", "rationale": null, "abstain": false}': "`rationale` must",
    '{"decision": "kitchen", "rationale": "", "abstain": 0}': "`abstain` must be",
    '{"decision": null, "rationale": "", "abstain": false}': "decides null",
    '{"decision": "kitchen", "rationale": "", "abstain": true}': "decides null",
    '{"decision": "kitchen", "rationale": ""}': "lacks `abstain`",
    '{"decision": "1", "rationale": "", "abstain": false, "conf": 1}': "has `conf`",
    "[" * 100_000: "no JSON object",
}


@pytest.mark.parametrize("answer", WRONG, ids=lambda answer: answer[:60])
def test_what_is_wrong_is_said(answer):
    with pytest.raises(DataValidationError, match=WRONG[answer]):
        read_frame(answer, LABELS)


@pytest.mark.parametrize("answer", [None, 5, ["a"], {"decision": None}])
def test_an_answer_that_is_no_text_is_refused(answer):
    with pytest.raises(DataValidationError, match="the answer is no JSON object"):
        read_frame(answer, LABELS)
