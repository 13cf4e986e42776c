"""What a command hands over: JSON for all of them, and a page for most."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flatline.show.plain import encode, write


class Document:
    """Something with a JSON document, which it can write to a file."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON document; only ``None``, ``bool``, numbers, text, lists and dictionaries."""
        raise NotImplementedError

    def to_json(self, path: str | Path | None = None) -> str:
        """The JSON document as text, which is strict JSON in ASCII.

        Args:
            path: A file to write it to as well.

        Raises:
            UsageError: When the file cannot be written.
        """
        return _kept(encode(self.to_dict()), path)


class Page(Document):
    """A document that is also a page, which needs nothing but itself."""

    def to_html(self, path: str | Path | None = None) -> str:
        """The page as text.

        Args:
            path: A file to write it to as well.

        Raises:
            UsageError: When the file cannot be written.
        """
        return _kept(self._page(), path)

    def _page(self) -> str:
        raise NotImplementedError


def _kept(text: str, path: str | Path | None) -> str:
    if path is not None:
        write(path, text)
    return text
