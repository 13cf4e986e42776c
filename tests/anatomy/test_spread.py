"""Where units lie, against a tensor that says at each element whose it is."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flatline.anatomy.spread import Spread, moved, of_axis, selected, sliced

sizes = st.lists(st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=5)


def owners(spread, shape):
    """The unit of each element, by the definition."""
    i = torch.arange(math.prod(shape))
    return (spread.start + spread.step * (i // spread.inner % spread.count)).reshape(list(shape))


@st.composite
def factorings(draw, number):
    """A shape with so many elements."""
    shape = []
    while number > 1 and draw(st.booleans()):
        factor = draw(st.sampled_from([n for n in range(1, number + 1) if number % n == 0]))
        shape.append(factor)
        number //= factor
    return [*shape, number]


@st.composite
def steps(draw, spread, tensor):
    """One move of a tensor, and what is claimed about its units."""
    kind = draw(st.sampled_from(["permute", "view", "slice", "select", "expand"]))
    ndim, shape = tensor.ndim, tensor.shape
    if kind == "view":
        return spread, tensor.reshape(draw(factorings(tensor.numel())))
    if kind == "permute":
        order = draw(st.permutations(range(ndim)))
        new = tensor.permute(order)
        return moved(spread, shape, new.shape, order), new
    if kind == "expand":
        new = tensor.expand(draw(st.integers(1, 3)), *shape)
        return moved(spread, shape, new.shape, [-1, *range(ndim)]), new
    dim = draw(st.integers(0, ndim - 1))
    start = draw(st.integers(0, shape[dim] - 1))
    if kind == "select" and ndim > 1:
        return selected(spread, shape, dim, start), tensor.select(dim, start)
    step = draw(st.integers(1, 2))
    new = tensor[(slice(None),) * dim + (slice(start, None, step),)]
    return sliced(spread, shape, dim, start, new.shape[dim], step), new


@given(st.data(), sizes)
@settings(max_examples=400, deadline=None)
def test_after_any_moves_the_units_are_where_they_are_said_to_be(data, shape):
    spread = of_axis(shape, data.draw(st.integers(0, len(shape) - 1)))
    tensor = owners(spread, shape)
    for _ in range(5):
        spread, tensor = data.draw(steps(spread, tensor))
        if spread is None:
            return  # it was lost, which is always allowed
        assert torch.equal(owners(spread, tensor.shape), tensor)


@given(sizes, st.data())
def test_the_axis_of_a_fresh_layer_is_known(shape, data):
    axis = data.draw(st.integers(0, len(shape) - 1))
    found = of_axis(shape, axis).axis(shape)
    assert found is not None
    # Dimensions of size 1 may stand in for each other.
    assert found == axis or shape[axis] == 1 == shape[found]


def test_moves_that_everyday_models_make_are_followed():
    image = of_axis((8, 64, 7, 7), 1)
    assert moved(image, (8, 64, 7, 7), (8, 7, 7, 64), (0, 2, 3, 1)) == Spread(64, 1)
    assert moved(image, (8, 64, 7, 7), (8, 64, 3, 3), range(4)) == Spread(64, 9)
    assert moved(image, (8, 64, 7, 7), (8, 64), (0, 1)) == Spread(64, 1)
    heads = Spread(64, 1)  # after a view to (8, 5, 4, 16)
    assert moved(heads, (8, 5, 4, 16), (8, 4, 16, 5), (0, 2, 3, 1)) == Spread(64, 5)
    assert moved(heads, (8, 5, 4, 16), (8, 4, 5, 16), (0, 2, 1, 3)) is None
    assert sliced(heads, (8, 5, 64), 2, 32, 32) == Spread(32, 1, 32)
    assert sliced(heads, (8, 5, 64), 2, 64, 0) is None
    assert selected(heads, (8, 5, 64), 2, -1) == Spread(1, 1, 63)
    assert selected(heads, (8, 5, 64), 1, 0) == heads
