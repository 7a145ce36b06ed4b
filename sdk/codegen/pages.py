"""Documentation pages that ``make sdk`` writes."""

from __future__ import annotations

from codegen.http_reference import build_pages
from codegen.migration_page import render_migration_page
from codegen.reference import render_command_page, render_reference_page

PAGES = {
    "sdk/reference.md": render_reference_page,
    "sdk/command.md": render_command_page,
    "moving-from-openai.md": render_migration_page,
    **build_pages(),
}
"""Path under ``docs`` -> function that renders the page."""
