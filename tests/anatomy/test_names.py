"""Names are those of ``named_modules()`` on the user's own model, whatever is wrapped around it."""

from __future__ import annotations

import gc
import tempfile
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from flatline.anatomy.roots import Names, inner, parameters_of, roots
from looking import Net, look
from watching import watched

Linear = nn.Linear


def small() -> nn.Sequential:
    return nn.Sequential(Linear(5, 6), nn.ReLU(), Linear(6, 2))


@pytest.fixture
def group():
    """A process group of one."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "store").as_uri()
        dist.init_process_group("gloo", init_method=store, rank=0, world_size=1)
        yield
        dist.destroy_process_group()


def train_once(model: nn.Module, optimizer: torch.optim.Optimizer, *inputs: torch.Tensor) -> None:
    optimizer.zero_grad()
    model(*inputs).sum().backward()
    optimizer.step()


def found(make, *inputs: torch.Tensor) -> dict[str, tuple[str, ...]]:
    """Sites and their readers of a model that nobody handed over, as under ``flatline run``."""
    with watched() as (memory, _):
        model, parameters = make()
        train_once(model, torch.optim.SGD(parameters, 0.1), *inputs)
    assert memory.losses == []
    return {name: site.reads for name, site in memory.sites.items()}


X = torch.randn(9, 5)
PLAIN = {"0": ("2.weight",)}


class Wrapper(nn.Module):
    """A user's own module around another: no wrapper, its name counts."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.module(x)


WRAPPED = {
    "nothing": (lambda m: m, PLAIN),
    "DataParallel": (nn.DataParallel, PLAIN),
    "torch.compile": (lambda m: torch.compile(m, backend="eager"), PLAIN),
    "compile twice wrapped": (lambda m: torch.compile(nn.DataParallel(m), backend="eager"), PLAIN),
    "checkpoint wrapper": (checkpoint_wrapper, PLAIN),
    "AveragedModel beside it": (lambda m: (torch.optim.swa_utils.AveragedModel(m), m)[1], PLAIN),
    "the user's own": (Wrapper, {"module.0": ("module.2.weight",)}),
}


@pytest.mark.parametrize("key", WRAPPED)
def test_a_wrapper_leaves_no_trace(key):
    wrap, names = WRAPPED[key]

    def make():
        model = wrap(small())
        return model, model.parameters()

    assert found(make, X) == names


def test_distributed_data_parallel_leaves_no_trace(group):
    def make():
        model = nn.parallel.DistributedDataParallel(small())
        return model, model.parameters()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gloo speaks of devices
        assert found(make, X) == PLAIN


def test_wrappers_inside_the_model_leave_no_trace():
    def make():
        body = nn.Sequential(
            *(checkpoint_wrapper(nn.Sequential(Linear(5, 5), nn.ReLU())) for _ in range(2))
        )
        model = nn.Sequential(torch.compile(body, backend="eager"), Linear(5, 2))
        return model, model.parameters()

    assert found(make, X) == {"0.0.0": ("0.1.0.weight",), "0.1.0": ("1.weight",)}


def test_a_model_compiled_in_place_keeps_its_names():
    def make():
        model = small()
        model.compile(backend="eager")
        return model, model.parameters()

    assert found(make, X) == PLAIN


def test_a_model_that_a_function_built_is_found_by_the_parameters_of_one_layer():
    def make():
        class Local(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.net = small()

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.net(x)

        model = Local()
        return model, model.net[0].parameters()

    assert found(make, X) == {"net.0": ("net.2.weight",)}


class Generator(nn.Sequential):
    pass


class Critic(nn.Sequential):
    pass


def test_several_models_are_told_apart_by_their_class():
    with watched() as (memory, _):
        make = Generator(Linear(3, 6), nn.ReLU(), Linear(6, 5))
        judges = [Critic(Linear(5, 4), nn.LeakyReLU(), Linear(4, 1)) for _ in range(2)]
        first = torch.optim.SGD(make.parameters(), 0.1)
        second = torch.optim.SGD([p for judge in judges for p in judge.parameters()], 0.1)
        fake = make(torch.randn(9, 3))
        sum(judge(fake).mean() for judge in judges).backward()
        first.step()
        second.step()
    assert memory.losses == []
    assert {name: site.reads for name, site in memory.sites.items()} == {
        "Generator.0": ("Generator.2.weight",),
        "Critic.0": ("Critic.2.weight",),
        "Critic#2.0": ("Critic#2.2.weight",),
    }


def test_a_lazy_model_is_named_once_it_knows_its_sizes():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.LazyConv1d(6, 2), nn.LazyBatchNorm1d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        seen = look(model, torch.randn(9, 3, 5), steps=2)
    site = seen.only()
    assert (site.name, site.units, site.pulse) == ("1", 6, "exact")
    assert site.feeds == ("0.weight", "0.bias", "1.weight", "1.bias")
    assert site.reads == ("4.weight",)


def test_an_activation_made_inside_the_forward_pass_has_no_name_to_give():
    model = Net(lambda m, x: m.b(nn.ReLU()(m.a(x))), a=Linear(5, 6), b=Linear(6, 2))
    assert look(model, X).reads() == {"a": ["b.weight"]}


def test_a_layer_that_is_the_model_itself():
    seen = look(Linear(5, 6), X, loss=lambda out: torch.relu(out).sum())
    assert seen.sites == {}
    root = Net(lambda m, x: torch.relu(m.a(x)), a=Linear(5, 6))
    assert [*look(root, X).sites] == ["a"]


def test_what_is_not_watched_in_the_model_itself_is_named_after_its_class():
    model = Net(lambda m, x: torch.relu((m.a(x) @ m.a(x).t()).sin()), a=Linear(5, 6))
    assert [*look(model, X).unplaced] == ["Net (relu)"]


def test_names_are_those_of_named_modules_and_named_parameters():
    model = nn.ModuleDict(
        {"a": small(), "b": nn.ModuleList([small(), nn.MultiheadAttention(4, 2)])}
    )
    names = Names([model])
    assert all(names.module(module) == name for name, module in model.named_modules())
    assert all(names.parameter(p) == name for name, p in model.named_parameters())
    assert names.module(small()) is None
    assert names.parameter(torch.zeros(3)) is None


def test_a_shared_module_has_the_first_of_its_names():
    shared = Linear(5, 5)
    model = nn.ModuleDict({"a": shared, "b": shared})
    assert Names([model]).module(shared) == "a"


def test_a_copy_of_a_parameters_memory_is_that_parameter():
    model = small()
    names = Names([model])
    assert names.parameter(model[0].weight.detach()) == "0.weight"
    assert names.parameter(model[0].weight[:3]) is None
    assert names.parameter(model[0].weight.clone()) is None


def test_names_do_not_keep_a_model_alive():
    model = small()
    names, parameter = Names([model]), model[0].weight.detach()
    del model
    gc.collect()
    assert names.parameter(parameter) is None


def test_roots_are_outermost_unwrapped_and_in_the_order_of_the_parameters():
    first, second = small(), Critic(Linear(5, 2))
    outer = nn.DataParallel(Wrapper(first))
    optimizers = [
        torch.optim.SGD(second.parameters(), 0.1),
        torch.optim.SGD(first.parameters(), 0.1),
    ]
    assert roots(parameters_of(optimizers)) == [second, outer.module]
    assert inner(outer) is outer.module
    assert inner(outer.module) is None
    assert roots([nn.Parameter(torch.zeros(2))]) == []


def test_idle_modules_are_named_from_the_outside():
    model = nn.ModuleDict({"used": small(), "unused": small(), "partly": small()})
    names = Names([model])
    shown = {"used.0.weight", "partly.2.bias"}
    assert names.idle({""}, shown) == ["used.2", "unused", "partly.0"]
    assert names.idle({"", "used.2", "partly.0", "unused.0", "unused.2"}, shown) == []
    assert names.idle(set(), set()) == ["used", "unused", "partly"]
