"""Rows on disk that survive a kill: each is written as soon as it is known, and found again at the next start."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from scratchnet.files import locked, write_whole

Row = dict[str, Any]


class Table:
    """A CSV file that only grows. Two processes may add to it, as long as they add other rows.

    Args:
        path: of the file; its folder must exist.
        columns: of every row, in this order.
        key: the columns that tell one row from another.

    Raises:
        ValueError: the file is there with other columns, or with a row that is longer or shorter.
    """

    def __init__(self, path: Path, columns: Sequence[str], key: Sequence[str]) -> None:
        self.path, self.columns, self.key = path, tuple(columns), tuple(key)
        self.read()

    def read(self) -> None:
        """Take over what is in the file by now."""
        self.rows: list[Row] = list(self._read())
        self._keys = {self._key_of(row) for row in self.rows}

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __contains__(self, row: Row) -> bool:
        """Whether there is a row with the key of this one; its other columns are not looked at."""
        return self._key_of(row) in self._keys

    def add(self, row: Row) -> None:
        """Write a row, unless one with its key is there."""
        if row in self:
            return
        text = io.StringIO()
        csv.DictWriter(text, self.columns, lineterminator="\n").writerow(row)
        with locked(self.path.parent, wait=True), open(self.path, "a", newline="") as file:  # or two write the header
            if file.tell() == 0:
                file.write(",".join(self.columns) + "\n")
            file.write(text.getvalue())
        self.rows.append(row)
        self._keys.add(self._key_of(row))

    def _key_of(self, row: Row) -> tuple[str, ...]:
        return tuple(str(row[name]) for name in self.key)

    def _read(self) -> Iterator[Row]:
        if not self.path.exists():
            return
        text = self.path.read_text()
        if not text.endswith("\n"):  # killed while it wrote
            text = text[: text.rfind("\n") + 1]
            write_whole(self.path, text)
        reader = csv.DictReader(io.StringIO(text))
        found = tuple(reader.fieldnames or ())
        if text and found != self.columns:
            raise ValueError(
                f"{self.path}: expected the columns {', '.join(self.columns)}, got {', '.join(found)}; "
                "choose another --out, or remove the file"
            )
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(
                    f"{self.path}, line {reader.line_num}: expected {len(self.columns)} cells; mend or remove the file"
                )
            yield {name: _number(value) for name, value in row.items()}


def _number(text: str) -> Any:
    """What the text says as an integer, a float, or itself."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
