"""Models of Transformers, built from tiny configurations: every feed-forward unit, nothing else."""

from __future__ import annotations

import os
import warnings

import pytest
import torch

from looking import look, outputs_of

os.environ.setdefault("HF_HUB_OFFLINE", "1")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip("transformers")

TOKENS = torch.randint(60, (2, 7), generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1])
SIZES = {
    "vocab_size": 60,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
TEXT = {"input_ids": TOKENS, "labels": TOKENS}
T = transformers


def blocks(pattern, activation, units=24, reader=None, count=2, feeds=()):
    """Sites of all blocks: name with ``{}`` for the block, reader likewise."""
    return {pattern.format(i): (activation, units, [reader.format(i)], feeds) for i in range(count)}


def case(make, inputs, expected, unplaced=(), **more):
    return make, inputs, {**expected, **more}, set(unplaced)


def gpt2():
    config = T.GPT2Config(vocab_size=60, n_embd=16, n_layer=2, n_head=2, n_positions=16)
    return T.GPT2LMHeadModel(config)


def opt():
    sizes = {"ffn_dim": 24, "max_position_embeddings": 32, "word_embed_proj_dim": 16}
    config = {**SIZES, **sizes}
    config.pop("intermediate_size")
    return T.OPTForCausalLM(T.OPTConfig(**config))


def t5(**options):
    sizes = {
        "vocab_size": 60,
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 24,
        "num_layers": 1,
        "num_heads": 2,
    }
    return T.T5ForConditionalGeneration(T.T5Config(**sizes, decoder_start_token_id=0, **options))


def vit():
    config = T.ViTConfig(**SIZES, image_size=16, patch_size=8)
    return T.ViTForImageClassification(config)


def resnet():
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
    return T.ResNetForImageClassification(T.ResNetConfig(**sizes, layer_type="basic"))


def bloom():
    sizes = {"vocab_size": 60, "hidden_size": 16, "n_layer": 2, "n_head": 2}
    return T.BloomForCausalLM(T.BloomConfig(**sizes))


def mixtral(implementation):
    sizes = {**SIZES, "num_hidden_layers": 1, "num_key_value_heads": 1, "num_local_experts": 4}
    model = T.MixtralForCausalLM(T.MixtralConfig(**sizes))
    model.set_experts_implementation(implementation)
    return model


ENCODER = "encoder.layers.{}.mlp."
MLP = "model.layers.{}.mlp."
IMAGES = {"pixel_values": torch.randn(2, 3, 16, 16), "labels": LABELS}
CASES = {
    "GPT-2": case(
        gpt2,
        TEXT,
        blocks("transformer.h.{}.mlp.c_fc", "gelu_tanh", 64, "transformer.h.{}.mlp.c_proj.weight"),
    ),
    "BERT": case(
        lambda: T.BertForSequenceClassification(T.BertConfig(**SIZES)),
        {"input_ids": TOKENS, "labels": LABELS},
        blocks(
            "bert.encoder.layer.{}.intermediate.dense",
            "gelu",
            reader="bert.encoder.layer.{}.output.dense.weight",
        ),
        **{"bert.pooler.dense": ("tanh", 16, ["classifier.weight"], ())},
    ),
    "OPT": case(
        opt,
        TEXT,
        blocks("model.decoder.layers.{}.fc1", "relu", reader="model.decoder.layers.{}.fc2.weight"),
    ),
    "LLaMA": case(
        lambda: T.LlamaForCausalLM(T.LlamaConfig(**SIZES)),
        TEXT,
        blocks(MLP + "gate_proj", "silu", reader=MLP + "down_proj.weight"),
    ),
    "Qwen2": case(
        lambda: T.Qwen2ForCausalLM(T.Qwen2Config(**SIZES, num_key_value_heads=1)),
        TEXT,
        blocks(MLP + "gate_proj", "silu", reader=MLP + "down_proj.weight"),
    ),
    "Phi-3": case(
        lambda: T.Phi3ForCausalLM(T.Phi3Config(**SIZES, pad_token_id=0)),
        TEXT,
        blocks(MLP + "gate_up_proj", "silu", reader=MLP + "down_proj.weight"),
    ),
    "BLOOM": case(
        bloom,
        TEXT,
        blocks(
            "transformer.h.{}.mlp.dense_h_to_4h",
            "gelu_tanh",
            64,
            "transformer.h.{}.mlp.dense_4h_to_h.weight",
        ),
    ),
    "CLIP": case(
        lambda: T.CLIPTextModel(T.CLIPTextConfig(**SIZES)),
        {"input_ids": TOKENS},
        blocks(ENCODER + "fc1", "quick_gelu", reader=ENCODER + "fc2.weight"),
    ),
    "T5": case(
        t5,
        TEXT,
        {
            f"{part}.wi": ("relu", 24, [f"{part}.wo.weight"], ())
            for part in (
                "encoder.block.0.layer.1.DenseReluDense",
                "decoder.block.0.layer.2.DenseReluDense",
            )
        },
    ),
    "T5 v1.1": case(
        lambda: t5(feed_forward_proj="gated-gelu"),
        TEXT,
        {
            f"{part}.wi_0": ("gelu_tanh", 24, [f"{part}.wo.weight"], (f"{part}.wi_1.weight",))
            for part in (
                "encoder.block.0.layer.1.DenseReluDense",
                "decoder.block.0.layer.2.DenseReluDense",
            )
        },
    ),
    "ViT": case(
        vit, IMAGES, blocks("vit.layers.{}.mlp.fc1", "gelu", reader="vit.layers.{}.mlp.fc2.weight")
    ),
    **{
        f"Mixtral, {implementation}": case(
            lambda implementation=implementation: mixtral(implementation),
            TEXT,
            {
                "model.layers.0.mlp.experts.gate_up_proj" + suffix: (
                    "silu", 24, ["model.layers.0.mlp.experts.down_proj"], ())
                for suffix in ("", "#2", "#3", "#4")
            },
            ["model.layers.0.mlp.gate (softmax)"],
        )
        for implementation in ("grouped_mm", "eager")
    },
}  # fmt: skip


@pytest.mark.parametrize("key", CASES)
def test_a_model_of_transformers(key):
    make, inputs, expected, unplaced = CASES[key]
    torch.manual_seed(0)
    model = make()
    loss = (lambda out: out.loss) if "labels" in inputs else (lambda out: out[0].sum())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seen = look(model, loss=loss, train=False, **inputs)  # dropout would move the numbers
        outputs = outputs_of(model, **inputs)
    assert seen.described() == {name: row[:2] for name, row in expected.items()}
    assert seen.reads() == {name: row[2] for name, row in expected.items()}
    assert {*seen.unplaced} == unplaced
    for name, site in seen.sites.items():
        own = {p for p in (f"{name}.weight", f"{name}.bias") if p in dict(model.named_parameters())}
        assert own | {*expected[name][3]} <= {*site.feeds}
        if name in outputs and site.units == outputs[name].shape[-1]:
            z = outputs[name].flatten(0, -2)
            assert torch.allclose(torch.from_numpy(seen.vitals[name].z_max), z.amax(0), atol=1e-4)


def test_a_residual_network_has_a_site_after_every_sum():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inputs = {"pixel_values": torch.randn(2, 3, 32, 32), "labels": LABELS}
        seen = look(resnet(), loss=lambda out: out.loss, **inputs)
    stage = "resnet.encoder.stages.{}.layers.0.layer.{}.normalization"
    sums = [stage.format(i, j) for i in range(2) for j in range(2)]
    assert [*seen.sites] == ["resnet.embedder.embedder.normalization", *sums]
    shortcut = "resnet.encoder.stages.1.layers.0.shortcut"
    last = seen.sites[sums[-1]]
    assert f"{shortcut}.normalization.bias" in last.feeds
    assert last.reads == ("classifier.1.weight",)
    assert f"{shortcut}.convolution.weight" in seen.sites[sums[1]].reads
    assert seen.unplaced == {}
