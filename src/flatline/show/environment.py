"""How templates of pages are read, in whichever room they stand."""

from __future__ import annotations

from collections.abc import Callable

import jinja2


def environment(room: str, **filters: Callable[..., object]) -> jinja2.Environment:
    """Templates that escape what they are given and refuse a name that they were not given.

    Args:
        room: The package beside whose modules the folder of templates stands.
        filters: What they may apply, by name.
    """
    made = jinja2.Environment(
        loader=jinja2.PackageLoader(room),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters.update(filters)
    return made
