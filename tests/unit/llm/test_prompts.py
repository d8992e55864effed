"""Prompts are files; rendering is strict and never reads a value as a template."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from options_agent.errors import DataError, SettingsError
from options_agent.llm.prompts import load_prompt, prompt_names, render


def test_every_prompt_folder_loads_and_its_schema_is_valid() -> None:
    from jsonschema import Draft202012Validator

    assert "decision" in prompt_names()
    for name in prompt_names():
        Draft202012Validator.check_schema(load_prompt(name).response_schema)


@given(st.text())
def test_a_value_is_never_read_as_a_template(value: str) -> None:
    prompt = load_prompt("decision")
    variables = dict.fromkeys(prompt.variables, "x") | {"state": "{{actions}}" + value}
    assert "{{actions}}" + value in render(prompt, variables)[1]["content"]


def test_missing_and_unknown_variables_are_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"missing \['actions'.*unknown \['colour'\]"):
        render(load_prompt("decision"), {"colour": "red"})


def test_an_unknown_prompt_names_those_there_are() -> None:
    with pytest.raises(SettingsError, match="decision"):
        load_prompt("haiku")
