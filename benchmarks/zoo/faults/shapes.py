"""Faults of the architecture."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy

from ..fault import changes
from ..training import Recipe

VANISH = ("no-learning", "learning-rate-too-low", "rank-collapse")


@changes("missing-nonlinearity", beside=("no-learning", "rank-collapse"))
def straight(recipe: Recipe) -> Recipe:
    """Layers are stacked with nothing between them: one linear map (user study of Umlaut, 2021)."""
    return recipe.built(act=nn.Identity)


class Once(nn.Module):
    """A nonlinearity the first time it is asked for, nothing later."""

    def __init__(self) -> None:
        super().__init__()
        self.given = False

    def make(self) -> nn.Module:
        first, self.given = not self.given, True
        return nn.ReLU() if first else nn.Identity()


@changes("missing-nonlinearity", benign=True)
def forgot_one(recipe: Recipe) -> Recipe:
    """A nonlinearity between two layers was left out, and the data forgive it."""
    plain = recipe

    def net(task: object) -> nn.Module:
        return plain.net(task, act=Once().make)  # type: ignore[call-arg, arg-type]

    return recipe.but(net=net)


@changes("vanishing-gradient", beside=VANISH)
def sigmoids(recipe: Recipe, depth: int = 6) -> Recipe:
    """A stack of sigmoids: a gradient falls to a quarter or less in each (Glorot & Bengio 2010)."""
    return recipe.built(widths=(48,) * depth, act=nn.Sigmoid, init="xavier")


@changes("rank-collapse", beside=("no-learning", "vanishing-gradient", "dying-relu"))
def pinched(recipe: Recipe, widths: Sequence[int] = (64, 1, 64, 64)) -> Recipe:
    """A layer of width 1, left over from a trial, in a wide net: all behind it lies on a curve."""
    return recipe.built(widths=widths, act=nn.LeakyReLU)


@changes("rank-collapse", equal=("vanishing-gradient",), beside=("no-learning", "init-too-small"))
def unskipped(recipe: Recipe, depth: int = 4) -> Recipe:
    """Attention without skip connections: tokens become copies of each other (Dong et al. 2021).

    Gradients shrink with them, which is as honest a name.
    """
    return recipe.built(skip=0.0, depth=depth)


class Last(nn.Module):
    """A model with a nonlinearity behind its outputs."""

    def __init__(self, model: nn.Module, act: nn.Module) -> None:
        super().__init__()
        self.model, self.act = model, act

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.model(x))
        return out


@changes("output-activation", beside=("no-learning",))
def ended(recipe: Recipe, act: type[nn.Module] = nn.ReLU) -> Recipe:
    """Outputs pass a nonlinearity that cannot give what is asked (StackOverflow 48251943)."""
    plain = recipe.net
    return recipe.but(net=lambda task: Last(plain(task), act()))


@changes("output-activation", beside=("no-learning", "frozen-parameters", "vanishing-gradient"))
def softmax_of_one(recipe: Recipe) -> Recipe:
    """Softmax over one output: always 1, its gradient always 0 (StackOverflow 33969059)."""
    plain = recipe.net
    return recipe.but(
        net=lambda task: Last(plain(task), nn.Softmax(dim=-1)),
        loss=lambda out, y: binary_cross_entropy(out.squeeze(-1), y.float()),
    )


@changes("non-finite", beside=("no-learning", "exploding-gradient", "init-too-large"))
def exponentials(recipe: Recipe, depth: int = 3) -> Recipe:
    """The exponential as the nonlinearity of hidden layers: it overflows (DeepDiagnosis, 2022)."""
    from ..nets import Exp

    return recipe.built(widths=(16,) * depth, act=Exp)
