"""How many parameters and multiply-adds belong to one unit of a site."""

from __future__ import annotations

from flatline.anatomy.atlas import Feed, Place


def sizes(place: Place, positions: int, examples: int) -> dict[str, float]:
    """What one unit of a site is made with and read with.

    A convolution, a recurrent layer and a layer on tokens use their weights at every position of
    an example. What reads a unit by other means than a matrix counts nothing, so the numbers are
    lower bounds.

    Args:
        place: The site.
        positions: Positions of an example at which a unit is made.
        examples: Examples of the forward pass.

    Returns:
        ``fed``: parameters that make one unit. ``fed_adds``: multiply-adds per example that make
        it. ``read``: weights that read it. ``read_adds``: multiply-adds per example that read it.
    """
    fed = [(feed, per_unit(feed)) for feed in place.feeds]
    return {
        "fed": float(sum(number for _, number in fed)),
        "fed_adds": float(sum(n for feed, n in fed if feed.parameter.ndim > 1) * positions),
        "read": float(sum(each for each, _ in place.reads.values())),
        "read_adds": sum(each * rows for each, rows in place.reads.values()) / max(examples, 1),
    }


def per_unit(feed: Feed) -> int:
    """Entries of a feeding parameter that belong to one unit; 0 where that is not known."""
    parameter = feed.parameter
    if feed.axis is None or feed.axis >= parameter.ndim or not parameter.numel():
        return 0
    slices = parameter.shape[0] if feed.part is not None and feed.axis else 1
    return int(parameter.numel() // parameter.shape[feed.axis] // slices)
