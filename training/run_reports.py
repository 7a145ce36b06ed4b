"""Reports of a training process that the API shows as they are: row errors, plans, encoded rows."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class _DescribedModel(BaseModel):
    """Base of models that are part of the API too: attribute docstrings become OpenAPI
    descriptions."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class DatasetError(_DescribedModel):
    """One error of one row."""

    model_config = ConfigDict(extra="forbid")

    code: str
    line: int | None
    """Physical line in the file, from 1; the first line of a row that spans several."""
    field: str | None
    """Path in the row, such as ``messages[2].content``."""
    message: str
    """Description of the error and how to fix it."""
    file: Literal["training_file", "validation_file", "general_file"] = "training_file"


class Range(_DescribedModel):
    """Estimate with bounds."""

    low: float
    expected: float
    high: float


class FileReport(_DescribedModel):
    """Statistics of one data file."""

    rows: int
    """Valid rows."""
    tokens: int
    """Tokens of all valid rows, after truncation."""
    longest_row_tokens: int
    cut_rows: int
    """Rows truncated to ``max_length``."""
    split_rows: int
    """Rows split into parts of at most ``max_length`` tokens."""
    split_parts: int
    """Parts of these rows together."""
    fault_count: int


class Problem(_DescribedModel):
    """Error that a job would fail with."""

    code: str
    message: str
    param: str | None


class Plan(_DescribedModel):
    """Estimate of a training run."""

    total_steps: int
    total_tokens: int
    """Tokens trained on, summed over all steps."""
    hyperparameters: dict[str, Any]
    """Resolved, without ``auto``."""
    trainable_parameters: int | None
    """None for a base that takes too long to load just to count them."""
    total_parameters: int
    tokens_per_second: float
    """Estimated by ``training/estimate.py``, without earlier runs."""
    start_seconds: float
    peak_memory_bytes: Range


class Token(_DescribedModel):
    """One token of a row."""

    token: int
    text: str
    trained: bool
    """True if the token is a target of the loss."""
    weight: float
    """Weight in the loss; 0 for an input token."""


class TokenSequence(_DescribedModel):
    """One token sequence of a row, such as the input or the output."""

    name: str
    """``input``, or the task's own name: ``preferred_output``, ``source``, …"""
    rendered: str
    """Decoded text, special tokens included: a chat as its template renders it."""
    length: int
    """Number of tokens. For a very long row, ``tokens`` holds only the first."""
    tokens: list[Token]
