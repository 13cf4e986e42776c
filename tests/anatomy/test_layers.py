"""Layers, normalisations, pooling and moves between them: the right units, feeds and readers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from looking import Net, Unit, check, check_numbers, look, outputs_of, params

Linear = nn.Linear

SHAPES = {"2-D": (9, 7), "3-D": (9, 4, 7), "4-D": (9, 2, 3, 7), "one example": (1, 7)}


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("shape", [pytest.param(s, id=key) for key, s in SHAPES.items()])
def test_linear(shape, bias):
    model = nn.Sequential(Linear(7, 6, bias), nn.ReLU(), Linear(6, 2, bias))
    feeds, pulse = params("0", bias=bias), "exact" if bias else "sampled"
    x = torch.randn(shape)
    check(model, x, name="0", units=6, feeds=feeds, reads=["2.weight"], pulse=pulse)


def test_an_unbatched_input_is_one_example():
    model = nn.Sequential(Linear(7, 6), nn.ReLU(), Linear(6, 2))
    seen = look(model, torch.randn(7))
    assert seen.described() == {"0": ("relu", 6)}
    assert seen.vitals["0"].examples == 1


@pytest.mark.parametrize(("width", "batch"), [(1, 9), (6, 6), (9, 9), (1, 1)])
def test_sizes_that_could_be_mistaken_for_each_other(width, batch):
    """The number of units equals the batch, the positions, or 1."""
    model = nn.Sequential(Linear(width, width), nn.ReLU(), Linear(width, width))
    x = torch.randn(batch, width, width)
    check(model, x, name="0", units=width, feeds=params("0"), reads=["2.weight"])


def conv(kind: str, dims: int):
    return getattr(nn, f"Conv{kind}{dims}d")


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("kind", ["", "Transpose"], ids=["conv", "transposed"])
@pytest.mark.parametrize("dims", [1, 2, 3], ids="{}d".format)
def test_convolution(dims, kind, bias):
    layer = conv(kind, dims)
    model = nn.Sequential(layer(3, 4, 2, bias=bias), nn.ReLU(), layer(4, 2, 1))
    x = torch.randn(2, 3, *[5] * dims)
    feeds, pulse = params("0", bias=bias), "exact" if bias else "sampled"
    check(model, x, name="0", units=4, feeds=feeds, reads=["2.weight"], pulse=pulse, axis=1)


SPECIAL = {
    "grouped": {"groups": 2},
    "depthwise": {"groups": 4},
    "dilated and strided": {"dilation": 2, "stride": 2},
    "same padding": {"padding": "same"},
    "circular padding": {"padding": 1, "padding_mode": "circular"},
    "reflected padding": {"padding": 1, "padding_mode": "reflect"},
    "replicated padding": {"padding": 1, "padding_mode": "replicate"},
}


@pytest.mark.parametrize("options", [pytest.param(o, id=key) for key, o in SPECIAL.items()])
def test_convolution_with_options(options):
    model = nn.Sequential(nn.Conv2d(4, 8, 3, **options), nn.ReLU(), nn.Conv2d(8, 4, 1))
    x = torch.randn(2, 4, 9, 9)
    check(model, x, name="0", units=8, feeds=params("0"), reads=["2.weight"], axis=1)


@pytest.mark.parametrize("options", [pytest.param(o, id=key) for key, o in SPECIAL.items()])
def test_a_convolution_with_options_reads(options):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, **options))
    x = torch.randn(2, 3, 9, 9)
    check(model, x, name="0", units=4, feeds=params("0"), reads=["2.weight"], axis=1)


@pytest.mark.parametrize("groups", [2, 4])
def test_a_grouped_transposed_convolution(groups):
    """Its weight runs over the units of one group only: the bias is all there is to follow."""
    layer = nn.ConvTranspose2d(4, 8, 2, groups=groups)
    model = nn.Sequential(layer, nn.ReLU(), nn.Conv2d(8, 2, 1))
    x = torch.randn(2, 4, 5, 5)
    check(model, x, name="0", units=8, feeds=params("0"), reads=["2.weight"], axis=1)
    model[0].bias = None
    assert look(model, x).only().pulse == "none"


@pytest.mark.parametrize("head", ["flatten", "pool"])
def test_channels_last(head):
    pool = [nn.AdaptiveAvgPool2d(1)] if head == "pool" else []
    width = 4 if pool else 4 * 36
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), *pool, nn.Flatten(), Linear(width, 2)
    ).to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)
    feeds, reads = params("0") + params("1"), [f"{4 + len(pool)}.weight"]
    check(model, x, name="1", units=4, feeds=feeds, reads=reads, axis=1)


READERS = {
    "Linear": (Linear(7, 6), -1, Linear(6, 3), lambda w: w[:, 2]),
    "Conv2d": (nn.Conv2d(7, 6, 1), 1, nn.Conv2d(6, 3, 2), lambda w: w[:, 2]),
    "ConvTranspose2d": (nn.Conv2d(7, 6, 1), 1, nn.ConvTranspose2d(6, 3, 2), lambda w: w[2]),
    "grouped": (nn.Conv2d(7, 6, 1), 1, nn.Conv2d(6, 4, 1, groups=2), lambda w: w[:2, 2]),
    "flattened": (nn.Conv2d(7, 6, 1), 1, nn.Sequential(nn.Flatten(), Linear(24, 3)), None),
    "BatchNorm2d": (nn.Conv2d(7, 6, 1), 1, nn.BatchNorm2d(6), lambda w: w[2:3]),
}


@pytest.mark.parametrize("key", READERS)
def test_a_unit_is_ignored_when_every_weight_that_reads_it_is_zero(key):
    layer, axis, reader, cut = READERS[key]
    weight = next(reader.parameters()).data
    weight.uniform_(0.1, 1.0)
    if cut is None:
        weight[:, 8:12] = 0  # the four positions of channel 2
    else:
        cut(weight).zero_()
    model = nn.Sequential(layer, nn.ReLU(), reader)
    x = torch.randn(5, 7) if axis == -1 else torch.randn(5, 7, 2, 2)
    seen = look(model, x)
    assert seen.vitals["0"].ignored.nonzero()[0].tolist() == [2]


def test_a_unit_that_goes_elsewhere_is_not_ignored():
    model = Net(
        lambda m, x: (lambda h: m.b(h) + h.sum(1, keepdim=True))(F.relu(m.a(x))),
        a=Linear(7, 6),
        b=Linear(6, 3),
    )
    nn.init.zeros_(model.b.weight)
    assert not look(model, torch.randn(5, 7)).vitals["a"].ignored.any()


IMAGE = (2, 3, 8, 8)
BETWEEN = {
    "max pool": (nn.MaxPool2d(2), nn.Conv2d(4, 2, 1)),
    "average pool": (nn.AvgPool2d(2), nn.Conv2d(4, 2, 1)),
    "global pool and flatten": (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), Linear(4, 2)),
    "adaptive max pool": (nn.AdaptiveMaxPool2d(2), nn.Conv2d(4, 2, 1)),
    "flatten": (nn.Flatten(), Linear(4 * 49, 2)),
    "mean": (Net(lambda m, x: x.mean((2, 3))), Linear(4, 2)),
    "largest": (Net(lambda m, x: x.amax((2, 3))), Linear(4, 2)),
    "permute": (Net(lambda m, x: x.permute(0, 2, 3, 1)), Linear(4, 2)),
    "tokens": (Net(lambda m, x: x.flatten(2).transpose(1, 2)), Linear(4, 2)),
    "upsample": (nn.Upsample(scale_factor=2), nn.Conv2d(4, 2, 1)),
    "bilinear": (nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(4, 2, 1)),
    "pad": (nn.ZeroPad2d(1), nn.Conv2d(4, 2, 1)),
    "unfold": (Net(lambda m, x: F.unfold(x, 2).transpose(1, 2)), Linear(16, 2)),
    "windows": (Net(lambda m, x: x.unfold(2, 3, 1).mean(-1)), nn.Conv2d(4, 2, 1)),
    "crop": (Net(lambda m, x: x[:, :, 1:-1, ::2]), nn.Conv2d(4, 2, 1)),
    "roll": (Net(lambda m, x: torch.roll(x, (1, 1), (2, 3))), nn.Conv2d(4, 2, 1)),
    "flip": (Net(lambda m, x: x.flip(-1)), nn.Conv2d(4, 2, 1)),
    "one position": (Net(lambda m, x: x[:, :, 0, 0]), Linear(4, 2)),
    "some positions": (Net(lambda m, x: x[:, :, torch.tensor([0, 2])]), nn.Conv2d(4, 2, 1)),
    "some examples": (Net(lambda m, x: x[torch.tensor([1, 0, 1])]), nn.Conv2d(4, 2, 1)),
    "local response norm": (nn.LocalResponseNorm(2), nn.Conv2d(4, 2, 1)),
    "unit length": (Net(lambda m, x: F.normalize(x.mean((2, 3)), dim=-1)), Linear(4, 2)),
    "pixel shuffle": (nn.PixelShuffle(2), nn.Conv2d(1, 2, 1)),
    "channel shuffle": (nn.ChannelShuffle(2), nn.Conv2d(4, 2, 1)),
    "windows of Swin": (
        Net(
            lambda m, x: (
                x[..., :6, :6].reshape(2, 4, 2, 3, 2, 3).permute(0, 2, 4, 3, 5, 1).reshape(8, 9, 4)
            )
        ),
        Linear(4, 2),
    ),
    "identity": (nn.Identity(), nn.Conv2d(4, 2, 1)),
    "detached": (Net(lambda m, x: x.detach()), nn.Conv2d(4, 2, 1)),
    "scaled": (Net(lambda m, x: 2 * x - 1), nn.Conv2d(4, 2, 1)),
}


@pytest.mark.parametrize(
    ("move", "more"), [pytest.param(*row, id=key) for key, row in BETWEEN.items()]
)
def test_what_lies_between_an_activation_and_its_reader(move, more):
    model = nn.Sequential(nn.Conv2d(3, 4, 2), nn.ReLU(), move, more)
    x = torch.randn(IMAGE)
    check(model, x, name="0", units=4, feeds=params("0"), reads=["3.weight"], axis=1)


MOVED = {
    "permute": (nn.Conv2d(3, 4, 1), lambda z: z.permute(0, 2, 3, 1), Linear(4, 2), -1),
    "flatten": (nn.Conv2d(3, 4, 1), lambda z: z.flatten(1), Linear(100, 2), 1),
    "split units": (Linear(5, 4), lambda z: z.view(*z.shape[:-1], 2, 2), None, -1),
    "merged rows": (Linear(5, 4), lambda z: z.view(-1, 4), Linear(4, 2), -1),
    "pool": (nn.Conv2d(3, 4, 1), lambda z: F.max_pool2d(z, 5), nn.Conv2d(4, 2, 1), 1),
    "time first": (nn.Conv1d(3, 4, 1), lambda z: z.permute(2, 0, 1), Linear(4, 2), 1),
}


@pytest.mark.parametrize(
    ("layer", "move", "more", "axis"), [pytest.param(*r, id=k) for k, r in MOVED.items()]
)
def test_what_lies_between_a_layer_and_its_activation(layer, move, more, axis):
    def run(m, x):
        h = F.relu(move(m.a(x)))
        return m.b(h.flatten(-2) if more is None else h)

    model = Net(run, a=layer, b=more or Linear(4, 2))
    inputs = {Linear: (6, 3, 5), nn.Conv1d: (6, 3, 5), nn.Conv2d: (6, 3, 5, 5)}
    seen = look(model, torch.randn(inputs[type(layer)]))
    assert seen.described() == {"a": ("relu", 4)}
    assert seen.reads() == {"a": ["b.weight"]}
    plain = outputs_of(model, torch.zeros(inputs[type(layer)]))["a"]
    assert plain.shape[axis if isinstance(layer, Linear) else 1] == 4


SCATTERED = {
    "heads": lambda z: z.view(6, 2, 2).transpose(1, 2),
    "flipped units": lambda z: z.flip(-1),
    "rolled units": lambda z: z.roll(1, -1),
    "permuted units": lambda z: z[:, torch.tensor([2, 0, 3, 1])],
    "picked units": lambda z: z.index_select(1, torch.tensor([2, 0, 3, 1])),
    "sum over units by a view": lambda z: z.view(6, 2, 2).sum(1),
}


@pytest.mark.parametrize("move", [pytest.param(m, id=key) for key, m in SCATTERED.items()])
def test_units_that_cannot_be_followed_are_not_watched(move):
    model = Net(lambda m, x: F.relu(move(m.a(x))), a=Linear(5, 4))
    seen = look(model, torch.randn(6, 5))
    assert seen.sites == {}
    assert len(seen.unplaced) == 1


@pytest.mark.parametrize(
    "shuffle", [nn.PixelShuffle(2), nn.ChannelShuffle(2)], ids=["pixel", "channel"]
)
def test_shuffled_channels_are_not_watched(shuffle):
    model = nn.Sequential(nn.Conv2d(3, 8, 1), shuffle, nn.ReLU())
    seen = look(model, torch.randn(2, 3, 5, 5))
    assert seen.sites == {}
    assert seen.unplaced == {"0 (relu)": "its units are moved in a way that cannot be followed"}


def test_slices_of_a_layer_are_sites_of_their_own():
    def run(m, x):
        z = m.a(x)
        return m.b(F.relu(z[:, :4])) + m.c(torch.tanh(z[:, 4:])) + torch.sigmoid(z[:, 2])[:, None]

    model, x = Net(run, a=Linear(7, 6), b=Linear(4, 2), c=Linear(2, 2)), torch.randn(9, 7)
    seen = look(model, x)
    assert seen.described() == {"a": ("relu", 4), "a#2": ("tanh", 2), "a#3": ("sigmoid", 1)}
    parts = {
        "a": (torch.relu, slice(4)),
        "a#2": (torch.tanh, slice(4, 6)),
        "a#3": (torch.sigmoid, slice(2, 3)),
    }
    for name, (function, part) in parts.items():
        unit = Unit("a", function, part=part)
        check_numbers(
            seen.vitals[name], unit, outputs_of(model, x), seen.sites[name].activation.fires
        )


def test_every_second_unit():
    model, x = Net(lambda m, x: F.relu(m.a(x)[:, 1::2]), a=Linear(7, 6)), torch.randn(9, 7)
    seen = look(model, x)
    unit = Unit("a", part=slice(1, None, 2))
    check_numbers(seen.vitals["a"], unit, outputs_of(model, x), seen.only().activation.fires)


def test_a_write_into_the_pre_activation_ends_what_was_known():
    """Through a view, so that the tensor itself is not an argument."""

    def run(m, x):
        z = m.a(x)
        z[:, :2] = torch.relu(x[:, :2])
        return m.b(torch.tanh(z))

    seen = look(Net(run, a=Linear(7, 6), b=Linear(6, 2)), torch.randn(9, 7))
    assert seen.sites == {}
    assert [*seen.unplaced] == ["a (tanh)"]


def test_a_view_of_what_an_activation_overwrote_is_not_its_input():
    def run(m, x):
        z = m.a(x)
        flat = z.view(-1)
        F.relu_(z)
        return m.b(torch.tanh(flat).view(9, 6))

    seen = look(Net(run, a=Linear(7, 6), b=Linear(6, 2)), torch.randn(9, 7))
    assert seen.described() == {"a": ("relu", 6)}
    assert len(seen.unplaced) == 1
