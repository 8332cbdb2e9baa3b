"The report says how each file was read, and what was noticed in it"

from fine_tune_llm.evaluation.pages import templates

CALL = "{% from 'macros.j2' import how_read %}{{ how_read(source) }}"


def said(**source):
    return templates(strict=False).from_string(CALL).render(source=source)


def test_what_was_recognised_and_noticed():
    read = {"format": "csv", "encoding": "cp1252", "separator": "\t"}
    notes = ["column `Text <b>` is taken for `text`"]
    assert said(read=read, notes=notes) == (
        "Read as format csv, encoding cp1252, separator tab. "
        "column `Text &lt;b&gt;` is taken for `text`."
    )


def test_runs_that_say_nothing_of_it():
    assert said(name="old.csv") == ""
