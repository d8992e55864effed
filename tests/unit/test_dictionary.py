"""The data dictionary in docs is the schemas'."""

from __future__ import annotations

from options_agent.dictionary import data_dictionary
from tests.conftest import REPOSITORY


def test_the_dictionary_in_docs_is_made_from_the_schemas() -> None:
    assert (REPOSITORY / "docs" / "data-dictionary.md").read_text() == data_dictionary(), "run: python -m options_agent.dictionary"
