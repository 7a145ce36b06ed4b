"""The pages in ``docs/`` that are made here."""

from __future__ import annotations

from codegen.openai_moves import moving_page
from codegen.reference import command_page, reference

PAGES = {"sdk/reference.md": reference, "sdk/command.md": command_page, "moving-from-openai.md": moving_page}
"""Path under ``docs`` -> its text, today."""
