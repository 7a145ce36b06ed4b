"""Encoding of a data file into example files, in several processes if it is large JSONL.

See ``training.data.sections`` for the processes. Each writes the examples of its section to a
directory of its own, so that the files of one process and of several hold the same examples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from training.data import sections
from training.data.encoding_key import compute_key, compute_tokenizer_hash
from training.data.example_files import ExampleFileInfo, ExampleWriter
from training.data.row_validation import (
    ValidRow,
    count_characters,
    get_row_fields,
    iter_chunks,
    to_row_error,
    validate_rows,
)
from training.data.scan import MAX_REPORTED_ERRORS
from training.data.sections import FileSection
from training.models import base_model
from training.progress import Report
from training.readers import rows
from training.readers.raw_rows import RowError, RowResult
from training.spec import TrainSpec
from training.tasks.base import AnyTask, Example, RowIssue

MIN_SECTION_BYTES = 4 << 20
"""Bytes per process, at least. A process takes seconds to import the tokenizer's library."""

EncodedRow = tuple[int | None, Sequence[Example]]
"""Line of a row and its examples: more than one if it is split."""


@dataclass(frozen=True)
class RowEncoder:
    """Task and tokenizer that encode the rows of a run."""

    task: AnyTask
    tokenizer: Any
    columns: Mapping[str, str]
    max_length: int

    @cached_property
    def tokenizer_hash(self) -> str:
        """Hash of the tokenizer, computed before it encodes anything."""
        return compute_tokenizer_hash(self.tokenizer)

    def compute_key(self, path: Path, report: Report) -> str:
        """Return the key of a file in the cache of encoded files."""
        return compute_key(path, self.columns, self.task, self.tokenizer_hash, self.max_length, report)

    def read_rows(self, path: Path) -> Iterator[RowResult]:
        return rows.read_rows(path, self.columns, get_row_fields(self.task), self.task.file_field)

    def encode(self, entries: Iterable[RowResult]) -> Iterator[RowError | EncodedRow]:
        """Yield the errors and the encoded rows of a chunk, each in order."""
        valid_rows: list[ValidRow] = []
        for result in validate_rows(self.task, entries):
            if isinstance(result, RowError):
                yield result
            else:
                valid_rows.append(result)
        if not valid_rows:
            return
        encoded = self.task.encode([row for _, row in valid_rows], self.tokenizer, self.max_length)
        for (raw_row, _), entry in zip(valid_rows, encoded, strict=True):
            if isinstance(entry, RowIssue):
                yield to_row_error(raw_row, entry)
            else:
                yield raw_row.line, entry if isinstance(entry, list) else [entry]


@dataclass
class EncodedSection:
    """Result of encoding a section of a file. Lines count from its start."""

    line_count: int
    """Lines of a section; 0 for a file encoded as a whole."""
    errors: list[RowError]
    """The first ``MAX_REPORTED_ERRORS``."""
    error_count: int
    files: ExampleFileInfo


_RESULT_ADAPTER = TypeAdapter(EncodedSection)


def encode_file(
    path: Path, encoder: RowEncoder, processes: int, get_directory: Callable[[int], Path], report: Report
) -> Iterator[EncodedSection]:
    """Encode the rows of a file, section ``n`` to ``get_directory(n)``, and yield the results.

    ``path`` lies in the run's folder, from whose spec the processes read the task and the base.
    """
    start, size = rows.find_jsonl_start(path), path.stat().st_size
    count = min(processes, sections.MAX_PROCESSES, size // MIN_SECTION_BYTES)
    if start is None or count <= 1:
        entries = encoder.read_rows(path)
        yield _encode_rows(entries, encoder, get_directory(0), lambda characters: report(characters, size))
        return
    yield from sections.run_sections(
        "training.data.encoding",
        path,
        sections.find_boundaries(path, start, count),
        lambda number: [str(encoder.max_length), str(get_directory(number)), encoder.tokenizer_hash],
        _RESULT_ADAPTER.validate_json,
        lambda start, end, report: _encode_section(path, start, end, encoder, get_directory(count - 1), report),
        report,
    )


def _encode_section(
    path: Path, start: int, end: int, encoder: RowEncoder, directory: Path, report: Report
) -> EncodedSection:
    with path.open("rb", buffering=0) as file:
        section = FileSection(file, start, end)
        entries = rows.read_jsonl(section.buffered(), encoder.columns)
        result = _encode_rows(entries, encoder, directory, lambda _: report(section.done, section.total))
    result.line_count = section.lines
    return result


def _encode_rows(
    entries: Iterator[RowResult], encoder: RowEncoder, directory: Path, report: Callable[[int], None]
) -> EncodedSection:
    """Encode rows. ``report`` receives the characters of the rows so far."""
    assert encoder.task.example_type
    errors: list[RowError] = []
    error_count = characters = 0
    with ExampleWriter(directory, encoder.task.example_type) as writer:
        for chunk in iter_chunks(entries):
            report(characters)
            characters += count_characters(chunk)
            for result in encoder.encode(chunk):
                if isinstance(result, RowError):
                    error_count += 1
                    errors += [result] * (len(errors) < MAX_REPORTED_ERRORS)
                else:
                    line, examples = result
                    for example in examples:
                        writer.append(example, line)
        return EncodedSection(0, errors, error_count, writer.close())


def _work(arguments: list[str], report: Report) -> bytes:
    import transformers

    path, start, end, max_length, directory, tokenizer_hash = arguments
    # A tokenizer warns of texts that are longer than the base's limit.
    transformers.logging.set_verbosity_error()
    spec = TrainSpec.read(Path(path).parent)
    task = spec.create_task()
    base = base_model.read_base_model_info(spec.base, spec.base_id, task, spec.chat_template)
    encoder = RowEncoder(task, base.processor, spec.columns, int(max_length))
    assert encoder.tokenizer_hash == tokenizer_hash, "every process must use the same tokenizer"
    section = _encode_section(Path(path), int(start), int(end), encoder, Path(directory), report)
    return _RESULT_ADAPTER.dump_json(section)


if __name__ == "__main__":
    sections.main(_work)
