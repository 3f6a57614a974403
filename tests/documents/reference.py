"""The pages of ``docs/reference`` that are made from the code: their names and what each says now."""

from collections.abc import Callable, Mapping

from tests.documents.commands_page import commands_page
from tests.documents.json_page import json_page
from tests.documents.pages import DOCS
from tests.documents.python_page import python_page
from tests.documents.settings_page import settings_page

FOLDER = DOCS / "reference"
PAGES: Mapping[str, Callable[[], str]] = {
    "commands.md": commands_page,
    "python.md": python_page,
    "json.md": json_page,
    "settings.md": settings_page,
}
