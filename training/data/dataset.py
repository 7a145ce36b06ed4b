"""From a data file to encoded examples, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from training.data.row_validation import Checked, bad, checked, chunks, fields_of
from training.data.scan import FAULTS_KEPT, Sample, Survey, surveys
from training.errors import InvalidDataset
from training.readers import rows
from training.readers.rows import Bad, Entry, Record
from training.run_events import Fault
from training.tasks.base import AnyTask, Flaw, State

FileRole = Literal["training_file", "validation_file", "general_file"]


@dataclass
class Dataset:
    """Examples in the file's order: of a sampled file those of the sample, which stand for the others."""

    examples: list[Any] = field(default_factory=list)
    lines: list[int | None] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    fault_count: int = 0
    unencoded: int = 0
    """Good rows that are not among the examples."""
    longest_unencoded: int = 0
    """Tokens of the longest of them."""

    @property
    def rows(self) -> int:
        return len(self.examples) + self.unencoded

    @property
    def tokens(self) -> int:
        """Of a sampled file an estimate, as is ``cut``."""
        return self._of_all(sum(example.size for example in self.examples))

    @property
    def longest(self) -> int:
        encoded: Iterator[int] = (example.size for example in self.examples)
        return max(self.longest_unencoded, max(encoded, default=0))

    @property
    def cut(self) -> int:
        return self._of_all(sum(example.cut for example in self.examples))

    def _of_all(self, of_examples: int) -> int:
        return round(of_examples * self.rows / len(self.examples)) if self.examples else 0

    def only(self, rows: Sequence[int]) -> Dataset:
        """Some of the rows, in the order given."""
        return Dataset([self.examples[row] for row in rows], [self.lines[row] for row in rows])

    def raise_faults(self) -> None:
        if self.faults:
            raise InvalidDataset(self.faults, self.fault_count)


@dataclass(frozen=True)
class Reader:
    """How files of one run are read."""

    task: AnyTask
    tokenizer: Any
    columns: Mapping[str, str]
    max_length: int
    heed: Callable[[], None]
    """Called between chunks; raises where the run was asked to leave."""
    sample: Sample | None = None
    """None: all is encoded, as it also is where the task must see every example."""

    def read(self, path: Path, role: FileRole) -> Dataset:
        """All of it; faults are collected, not raised."""
        data = Dataset()
        if self.sample and path.stat().st_size > self.sample.over and not self.task.collects:
            for before, found in surveys(path, self.columns, self.task, self.sample, self.heed):
                self._add_survey(found, before, data, role)
        else:
            for chunk in chunks(rows.read(path, self.columns, fields_of(self.task), self.task.file_field)):
                self.heed()
                self._encode(chunk, data, role)
        if not data.rows and not data.faults:
            _add(data, role, Bad(None, "empty_file", "The file has no rows."))
        return data

    def refuse_unknown(self, data: Dataset, state: State, role: FileRole) -> None:
        """Rows that a model of ``state`` could never get right are faults."""
        for example, line in zip(data.examples, data.lines, strict=True):
            flaw = self.task.fits(example, state)
            if flaw:
                _add(data, role, Bad(line, flaw.code, flaw.message, flaw.field))

    def _encode(self, entries: Iterable[Entry], data: Dataset, role: FileRole) -> None:
        good: list[Checked] = []
        for outcome in checked(self.task, entries):
            if isinstance(outcome, Bad):
                _add(data, role, outcome)
            else:
                good.append(outcome)
        if not good:
            return
        encoded = self.task.encode([row for _, row in good], self.tokenizer, self.max_length)
        for (record, _), one in zip(good, encoded, strict=True):
            if isinstance(one, Flaw):
                _add(data, role, bad(record, one))
            else:
                data.examples.append(one)
                data.lines.append(record.line)

    def _add_survey(self, found: Survey, before: int, data: Dataset, role: FileRole) -> None:
        """``before``: lines of the file that stand before the part."""
        for one in found.bad:
            _add(data, role, replace(one, line=one.line and one.line + before))
        data.fault_count += found.bad_count - len(found.bad)
        for chunk in chunks(_moved(found.sampled, before)):
            self.heed()
            self._encode(chunk, data, role)
        data.unencoded += found.good - len(found.sampled)
        longest = Dataset()
        self._encode(_moved(found.longest, before), longest, role)
        data.longest_unencoded = max(data.longest_unencoded, longest.longest)
        data.unencoded -= longest.fault_count
        data.faults = [*data.faults, *longest.faults][:FAULTS_KEPT]
        data.fault_count += longest.fault_count


def _moved(records: Iterable[Record], lines: int) -> Iterator[Entry]:
    return (replace(record, line=record.line and record.line + lines) for record in records)


def _add(data: Dataset, role: FileRole, bad: Bad) -> None:
    data.fault_count += 1
    if len(data.faults) < FAULTS_KEPT:
        data.faults.append(Fault(code=bad.code, line=bad.line, field=bad.field, message=bad.message, file=role))
