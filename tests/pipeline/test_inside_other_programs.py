"""A model inside somebody else's program: adapters, hooks, training, global settings, copies."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

import hear_models
from hear_models.errors import InputError, UsageError
from hear_models.zoo import list_models, load_model

TRANSFORMERS = ("mwmae-nano", "mae-nano", "msm-mae-nano")
BUNDLED = (*TRANSFORMERS, "gise51-nano")
EVERY = (*BUNDLED, "logmel-stats", "random-projection")


def sound(clips: int = 2, n: int = 24_000, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(clips, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def same(found: Tensor, want: Tensor) -> None:
    """Equal but for the last bits: of convolutions they depend on where memory lies."""
    torch.testing.assert_close(found, want, rtol=1e-5, atol=1e-6)


def linears(model: nn.Module) -> dict[str, nn.Linear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}


class Adapter(nn.Module):
    """The outside of a LoRA layer: it hands on what it wraps."""

    weight = property(lambda self: self.base.weight)
    bias = property(lambda self: self.base.bias)

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.a = nn.Linear(base.in_features, 4, bias=False)
        self.b = nn.Linear(4, base.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.b(self.a(x))


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_adapters_change_the_embedding_and_learn(name):
    model = load_model(name)
    before = model.get_scene_embeddings(sound())
    wrapped = [path for path in linears(model) if path.startswith("blocks.")]
    for path in wrapped:
        parent, _, leaf = path.rpartition(".")
        setattr(model.get_submodule(parent), leaf, Adapter(model.get_submodule(path)))
    assert not torch.allclose(model.get_scene_embeddings(sound()), before, atol=1e-3)
    model(sound()).sum().backward()
    adapters = [p for n, p in model.named_parameters() if n.endswith((".a.weight", ".b.weight"))]
    assert len(adapters) == 2 * len(wrapped) and all(p.grad is not None and p.grad.any() for p in adapters)
    for path in wrapped:  # taken out again
        parent, _, leaf = path.rpartition(".")
        setattr(model.get_submodule(parent), leaf, model.get_submodule(path).base)
    assert torch.equal(model.get_scene_embeddings(sound()), before)


def forward_hook(layer: nn.Module, note) -> None:
    layer.register_forward_hook(lambda *_: note())


def pre_hook(layer: nn.Module, note) -> None:
    layer.register_forward_pre_hook(lambda *_: note())


def patched_forward(layer: nn.Module, note) -> None:
    forward = layer.forward
    layer.forward = lambda x: (note(), forward(x))[1]


@pytest.mark.parametrize("listen", [forward_hook, pre_hook, patched_forward])
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_whoever_listens_to_a_layer_hears_every_call(name, listen):
    model, fired = load_model(name), set()
    want = model.get_scene_embeddings(sound())
    inside = [path for path in linears(model) if path.startswith("blocks.")]
    for path in inside:
        listen(model.get_submodule(path), lambda path=path: fired.add(path))
    torch.testing.assert_close(model.get_scene_embeddings(sound()), want, rtol=1e-4, atol=1e-5)
    assert fired == set(inside)


def test_a_hook_on_all_modules_hears_the_layers_too():
    model, heard = load_model("mwmae-nano"), []
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: heard.append(type(module)))
    try:
        model.get_scene_embeddings(sound())
    finally:
        handle.remove()
    assert nn.Linear in heard


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def test_a_parametrised_weight_counts():
    model = load_model("mwmae-nano")
    before = model.get_scene_embeddings(sound())
    parametrize.register_parametrization(model.blocks[0].mlp.fc1, "weight", Doubled())
    assert not torch.allclose(model.get_scene_embeddings(sound()), before, atol=1e-3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_dynamic_quantisation_runs_and_stays_near():
    model = load_model("mwmae-nano")
    want = model.get_scene_embeddings(sound())
    found = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}).get_scene_embeddings(sound())
    assert 0 < (found - want).abs().max() < 0.5


# ---------------------------------------------------------------------------------------------------------- training
@pytest.mark.parametrize("name", EVERY)
def test_a_head_can_be_trained_on_whatever_embeds(name):
    model = load_model(name)
    clip = sound(1, 2 * model.sample_rate)
    steps, times = model.get_timestamp_embeddings(clip)
    found = [
        *model.embed_clips(list(clip)),
        *(part for pair in model.embed_clips(list(clip), "timestamps") for part in pair),
        hear_models.embed(clip[0], model),
        hear_models.embed([clip[0]], model)[0],
        model.get_scene_embeddings(clip)[0],
        steps[0],
        times[0],
    ]
    if name == "gise51-nano":
        found += model.logits(clip[0])
    assert not any(tensor.is_inference() or tensor.requires_grad for tensor in found)
    head = nn.Linear(model.scene_embedding_size, 2)
    head(found[0]).sum().backward()
    assert head.weight.grad is not None


@pytest.mark.filterwarnings("ignore:.*no trained weights")
@pytest.mark.parametrize("name", [entry.name for entry in list_models() if entry.default])
def test_a_silent_clip_does_not_spoil_the_gradients(name):
    model = load_model(name)
    audio = sound(3, model.sample_rate)
    audio[1] = 0
    audio.requires_grad_()
    model(audio).square().sum().backward()
    assert audio.grad is not None and torch.isfinite(audio.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", BUNDLED)
def test_the_callers_mode_comes_back(name):
    model = load_model(name).train()
    next(model.children()).eval()
    modes = [module.training for module in model.modules()]
    model.get_scene_embeddings(sound())
    model.get_timestamp_embeddings(sound())
    hear_models.embed([sound()[0], sound()[1]], model)
    assert [module.training for module in model.modules()] == modes
    with pytest.raises(InputError):
        model.get_scene_embeddings(torch.full((1, 16_000), torch.nan))
    assert [module.training for module in model.modules()] == modes


@pytest.mark.parametrize(
    ("audio", "said"),
    [
        (torch.zeros(16_000), r"HEAR functions take \[clips, samples\]"),
        (torch.zeros(1, 16_000, dtype=torch.int16), "Scale integers first"),
        (torch.full((1, 16_000), torch.inf), "NaN or infinity"),
        (torch.zeros(0, 16_000), "holds no clips"),
    ],
)
def test_calling_the_model_checks_as_the_hear_functions_do(audio, said):
    with pytest.raises(InputError, match=said):
        load_model("mwmae-nano")(audio)


# --------------------------------------------------------------------------------------------- somebody else's globals
@pytest.mark.filterwarnings("ignore:.*no trained weights")
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", [entry.name for entry in list_models() if entry.default])
def test_torchs_default_dtype_changes_nothing(name, dtype):
    reference = load_model(name)
    audio = sound(1, reference.sample_rate)
    want, (want_steps, want_times) = reference.get_scene_embeddings(audio), reference.get_timestamp_embeddings(audio)
    torch.set_default_dtype(dtype)
    try:
        for model in (reference, load_model(name)):
            steps, times = model.get_timestamp_embeddings(audio)
            same(model.get_scene_embeddings(audio), want)
            same(steps, want_steps)
            same(times, want_times)
            same(hear_models.embed(audio[0], model), want[0])
        assert torch.get_default_dtype() is dtype
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", EVERY)
def test_torchs_default_device_changes_nothing(name):
    reference = load_model(name)
    audio = sound(1, reference.sample_rate)
    want = reference.get_scene_embeddings(audio)
    with torch.device("meta"):
        model = load_model(name)
        same(model.get_scene_embeddings(audio), want)
        same(reference.get_timestamp_embeddings(audio)[0], model.get_timestamp_embeddings(audio)[0])


@pytest.mark.parametrize("name", EVERY)
def test_autocast_around_load_and_use_changes_nothing(name):
    reference = load_model(name)
    audio = sound(1, reference.sample_rate)
    want = reference.get_scene_embeddings(audio)
    with torch.autocast("cpu", torch.bfloat16):
        same(load_model(name).get_scene_embeddings(audio), want)


@pytest.mark.parametrize("change", [nn.Module.half, nn.Module.double, nn.Module.bfloat16], ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", BUNDLED)
def test_another_dtype_is_that_of_the_network_alone(name, change):
    model = load_model(name)
    audio = sound(2, model.sample_rate)
    want = model.get_scene_embeddings(audio)
    filters = [buffer.clone() for buffer in model.frontend.buffers()]
    found = change(model).get_scene_embeddings(audio)
    assert found.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(found, want).min() > 0.999
    assert all(torch.equal(a, b) for a, b in zip(filters, model.frontend.buffers(), strict=True))
    if change is nn.Module.double:
        torch.testing.assert_close(found, want, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(model.float().get_scene_embeddings(audio), want, rtol=1e-4, atol=1e-5)
    same(load_model(name).to(torch.float32).get_scene_embeddings(audio), want)


@pytest.mark.filterwarnings("ignore:.*no trained weights")
@pytest.mark.parametrize("name", [entry.name for entry in list_models() if entry.default])
def test_copies_and_pickles_are_models(name):
    model = load_model(name)
    audio = sound(1, model.sample_rate)
    want = model.get_scene_embeddings(audio)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        same(other.get_scene_embeddings(audio), want)
        for parameter in other.parameters():
            parameter.data.zero_()
    same(model.get_scene_embeddings(audio), want)


def test_a_compiled_model_is_copied_without_its_compiled_code(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda network, dynamic: lambda units: network(units) + 0)
    with pytest.warns(UserWarning, match="compile=True"):
        model = load_model("mwmae-nano", compile=True)
    want = model.get_scene_embeddings(sound())
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        other.blocks[0].mlp.fc1.weight.data.zero_()
        assert other.compiled and not torch.equal(other.get_scene_embeddings(sound()), want)
    assert torch.equal(model.get_scene_embeddings(sound()), want)


# ------------------------------------------------------------------------------------------- adapters of the real peft
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_adapters_of_peft_train_merge_and_unload(name, tmp_path):
    peft = pytest.importorskip("peft", reason="the package peft is not installed")
    reference = load_model(name)
    before = reference.get_scene_embeddings(sound())
    config = peft.LoraConfig(target_modules=r"blocks\..*(qkv|proj|fc1|fc2)", r=4, init_lora_weights=True)
    adapted = peft.get_peft_model(load_model(name), config)
    model = adapted.base_model.model
    torch.testing.assert_close(model.get_scene_embeddings(sound()), before, rtol=1e-4, atol=1e-5)  # B begins at 0
    optimiser = torch.optim.Adam([p for p in adapted.parameters() if p.requires_grad], lr=0.01)
    for _ in range(2):
        optimiser.zero_grad()
        adapted(sound()).square().mean().backward()
        optimiser.step()
    learned = {n: p for n, p in adapted.named_parameters() if "lora_" in n}
    assert len(learned) == 2 * 4 * len(reference.blocks) and all(p.grad.any() for p in learned.values())
    assert all(p.grad is None for n, p in adapted.named_parameters() if "lora_" not in n)
    trained = model.get_scene_embeddings(sound())
    assert not torch.allclose(trained, before, atol=1e-3)
    with adapted.disable_adapter():
        torch.testing.assert_close(model.get_scene_embeddings(sound()), before, rtol=1e-4, atol=1e-5)
    adapted.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(load_model(name), tmp_path)
    torch.testing.assert_close(again.base_model.model.get_scene_embeddings(sound()), trained, rtol=1e-4, atol=1e-5)
    merged = adapted.merge_and_unload()
    assert not any("lora" in key for key in merged.state_dict())
    torch.testing.assert_close(merged.get_scene_embeddings(sound()), trained, rtol=1e-3, atol=1e-4)
    unloaded = again.unload()
    torch.testing.assert_close(unloaded.get_scene_embeddings(sound()), before, rtol=1e-4, atol=1e-5)


# --------------------------------------------------------------------------------- wrappers and devices, every family
DEFAULTS = [entry.name for entry in list_models() if entry.default]


@pytest.fixture
def one_process():
    distributed = torch.distributed
    if not distributed.is_available() or not distributed.is_gloo_available():
        pytest.skip("this torch has no gloo")
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", DEFAULTS)
def test_every_family_trains_in_ddp(name, one_process):
    model = load_model(name).train()
    if not any(parameter.requires_grad for parameter in model.parameters()):
        pytest.skip("nothing is learned in it")
    parallel = nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)  # heads take no part
    audio = sound(2, model.sample_rate)
    for _ in range(2):
        parallel(audio).square().sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in model.parameters())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", DEFAULTS)
def test_a_trace_is_refused_in_one_sentence(name):
    model = load_model(name)
    with pytest.raises(UsageError, match="which a trace would freeze"):
        torch.jit.trace(model, sound(1, model.sample_rate))


def test_a_device_without_float64_is_refused_in_one_sentence():
    model = load_model("mwmae-nano")
    for place in ({"device": "mps"}, {"device": torch.device("mps:0"), "dtype": torch.float16}):
        with pytest.raises(UsageError, match="mps computes no float64"):
            model.to(**place)
    with pytest.raises(UsageError, match="mps computes no float64"):
        load_model("mwmae-nano", device="mps")


def test_float16_is_for_gpus():
    with pytest.raises(UsageError, match="is for GPUs"):
        load_model("mwmae-nano", dtype="float16")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("name", BUNDLED)
def test_float16_on_a_gpu_is_near(name):
    model = load_model(name, dtype="float16", device="cuda")
    found = model.get_scene_embeddings(sound(2, model.sample_rate).cuda())
    want = load_model(name).get_scene_embeddings(sound(2, model.sample_rate))
    assert found.dtype == torch.float32 and found.device.type == "cuda"
    assert nn.functional.cosine_similarity(found.cpu(), want).min() > 0.999
