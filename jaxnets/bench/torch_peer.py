"""The workloads in PyTorch, as its users write them, eager and compiled; the weights are ours, copied over."""

import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  (its usual name)

from jaxnets.bench.jax_peers import Way
from jaxnets.bench.workloads import LEARNING_RATE, Workload

Params = Mapping[str, Any]
LossFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def train(workload: Workload, params: Params, *, compiled: bool = False) -> Way:
    """Return a loop over steps, with Adam's updates fused; a population is trained member by member."""
    torch.set_float32_matmul_precision("high")  # as JAX multiplies on GPUs; it changes nothing on a CPU
    build, loss_function = MODELS[workload.kind]
    steps = []
    for number in range(workload.members):
        own = params if workload.members == 1 else jax.tree.map(lambda leaf, i=number: leaf[i], params)
        with device():
            model = build(own)
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], LEARNING_RATE, fused=True)
        # The loss is compiled with the model, as PyTorch advises; its optimizer's one fused call gains nothing by it.
        forward = partial(_loss, model, loss_function)
        steps.append((torch.compile(forward) if compiled else forward, optimizer))
    batches = [_batch(*batch) for batch in zip(workload.inputs, workload.labels, strict=True)]

    def run() -> float:
        total = torch.zeros((), device=device())
        for forward, optimizer in steps:
            for batch in itertools.islice(itertools.cycle(batches), workload.steps):
                loss = forward(*batch)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.detach()
        return total.item() / (workload.steps * workload.members)

    return run


def device() -> torch.device:
    """Return the device that JAX computes on."""
    return torch.device("cuda" if jax.default_backend() == "gpu" else "cpu")


def _loss(model: nn.Module, loss_function: LossFunction, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return loss_function(model(inputs), labels)


def _batch(inputs: np.ndarray, labels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a batch as PyTorch has it: images channels first, in memory as they were (channels_last)."""
    tensors = []
    for array in (inputs, labels):
        tensor = torch.from_numpy(np.ascontiguousarray(array)).to(device())
        tensor = tensor.long() if array.dtype == np.int32 else tensor
        tensors.append(tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor)
    return tensors[0], tensors[1]


def _cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits.flatten(0, -2), labels.flatten())


def channels_last(module: Any) -> Any:
    """Return the module, its kernels in memory as those of images that are channels last."""
    return module.to(memory_format=torch.channels_last)


def linear(params: Params) -> nn.Linear:
    """Return a dense layer with these weights."""
    layer = nn.Linear(*params["kernel"].shape, bias="bias" in params)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(params["kernel"].T))
        if "bias" in params:
            layer.bias.copy_(torch.tensor(params["bias"]))
    return layer


def _mlp(params: Params) -> nn.Sequential:
    hidden = [linear(block["layer"]) for _, block in sorted(params["hidden"].items())]
    return nn.Sequential(*(part for layer in hidden for part in (layer, nn.ReLU())), linear(params["out"]))


class CNN(nn.Module):
    """Convolutions, each followed by a pooling, then dense layers, [B, C, H, W] -> [B, 10]."""

    def __init__(self, params: Params):
        super().__init__()
        blocks = []
        for _, block in sorted(params["convs"].items()):
            kernel = block["layer"]["kernel"]
            layer: Any = nn.Conv2d(kernel.shape[2], kernel.shape[3], 3, padding=1)
            layer.weight.data = torch.tensor(kernel.transpose(3, 2, 0, 1).copy())
            layer.bias.data = torch.tensor(block["layer"]["bias"].copy())
            blocks += [layer, nn.ReLU(), nn.MaxPool2d(2)]
        self.convs = channels_last(nn.Sequential(*blocks))
        self.head = _mlp(params["head"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        x = self.convs(x)
        return self.head(x.permute(0, 2, 3, 1).flatten(1))  # rows as ours, so that the weights are the same


class _Recurrent(nn.Module):
    def __init__(self, params: Params, kind: type[nn.LSTM] | type[nn.GRU]):
        super().__init__()
        weights = params["layers"][0][0]
        self.layer = kind(len(weights["kernel"]), len(weights["state_kernel"]), batch_first=True)
        self.layer.weight_ih_l0.data = torch.tensor(weights["kernel"].T.copy())
        self.layer.weight_hh_l0.data = torch.tensor(weights["state_kernel"].T.copy())
        self.layer.bias_ih_l0.data = torch.tensor(weights["bias"].copy())
        self.layer.bias_hh_l0.data = torch.tensor(weights.get("state_bias", np.zeros_like(weights["bias"])).copy())
        self.layer.flatten_parameters()  # cuDNN would gather them anew at each call
        # Where ours has one bias, PyTorch's second adds nothing: it stays as it is.
        self.layer.bias_hh_l0.requires_grad_("state_bias" in weights)
        self.out = linear(params["out"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs, _ = self.layer(x)
        return self.out(outputs[:, -1])


class _Block(nn.Module):
    def __init__(self, params: Params, num_heads: int = 4, *, causal: bool = True):
        super().__init__()
        attention, feed_forward = params["attention"], params["feed_forward"]
        self.num_heads, self.causal = num_heads, causal
        if (cross := params.get("cross")) is not None:
            self.cross_norm = _norm(params["cross_norm"])
            self.cross_q, self.cross_out = linear(cross["q"]), linear(cross["out"])
            self.cross_kv = linear({"kernel": np.concatenate([cross[name]["kernel"] for name in "kv"], 1)})
        self.norm, self.feed_forward_norm = (_norm(params[name]) for name in ("attention_norm", "feed_forward_norm"))
        self.qkv = linear({"kernel": np.concatenate([attention[name]["kernel"] for name in "qkv"], 1)})
        self.out, self.up, self.down = map(linear, (attention["out"], feed_forward["up"], feed_forward["down"]))

    def forward(self, x: torch.Tensor, memory: torch.Tensor | None = None) -> torch.Tensor:
        parts = self.qkv(self.norm(x)).chunk(3, -1)
        x = x + self.out(_attended(*parts, num_heads=self.num_heads, causal=self.causal))
        if memory is not None:
            k, v = self.cross_kv(memory).chunk(2, -1)
            x = x + self.cross_out(_attended(self.cross_q(self.cross_norm(x)), k, v, num_heads=self.num_heads))
        return x + self.down(F.gelu(self.up(self.feed_forward_norm(x)), approximate="tanh"))

    def remembering(self, x: torch.Tensor, cache: Any) -> tuple[torch.Tensor, Any]:
        q, *new = self.qkv(self.norm(x)).chunk(3, -1)
        k, v = new if cache is None else (torch.cat(pair, 1) for pair in zip(cache, new, strict=True))
        x = x + self.out(_attended(q, k, v, num_heads=self.num_heads, causal=cache is None))
        return x + self.down(F.gelu(self.up(self.feed_forward_norm(x)), approximate="tanh")), (k, v)


def _attended(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, num_heads: int, causal: bool = False
) -> torch.Tensor:
    q, k, v = (part.unflatten(-1, (num_heads, -1)).transpose(1, 2) for part in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2)


class GPT(nn.Module):
    """A GPT with learned positions and tied embedding, [B, T] -> [B, T, V]."""

    def __init__(self, params: Params):
        super().__init__()
        embedding, positions = params["embed"]["embedding"], params["position_embedding"]
        self.embed = nn.Embedding.from_pretrained(torch.tensor(embedding), freeze=False)
        self.positions = nn.Parameter(torch.tensor(positions))
        self.blocks = nn.ModuleList(_Block(block) for _, block in sorted(params["blocks"].items()))
        self.norm = _norm(params["norm"])

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        x = self.embed(tokens) + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.embed.weight)

    def remembering(self, tokens: torch.Tensor, start: int, caches: list[Any]) -> torch.Tensor:
        """Return the logits of tokens from ``start`` on, and put their keys and values to those before, in place."""
        x = self.embed(tokens) + self.positions[start : start + tokens.shape[1]]
        blocks: Any = self.blocks
        for number, block in enumerate(blocks):
            x, caches[number] = block.remembering(x, caches[number])
        return F.linear(self.norm(x), self.embed.weight)


class _EncoderDecoder(nn.Module):
    def __init__(self, params: Params, length: int = 512):
        super().__init__()
        encoder, decoder = params["model"]["encoder"], params["model"]["decoder"]
        self.embed = nn.Embedding.from_pretrained(torch.tensor(decoder["embed"]["embedding"]), freeze=False)
        self.encoder, self.decoder = (
            nn.ModuleList(_Block(block, causal=part is decoder) for _, block in sorted(part["blocks"].items()))
            for part in (encoder, decoder)
        )
        self.encoder_norm, self.norm = _norm(encoder["norm"]), _norm(decoder["norm"])
        width = self.embed.embedding_dim
        angles = torch.arange(length)[:, None] * 10000.0 ** (-torch.arange(0, width, 2) / width)
        self.positions: torch.Tensor
        self.register_buffer("positions", torch.stack([angles.sin(), angles.cos()], -1).flatten(1))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        source, target = (self._embedded(part) for part in tokens.chunk(2, 1))
        for block in self.encoder:
            source = block(source)
        memory = self.encoder_norm(source)
        for block in self.decoder:
            target = block(target, memory)
        return F.linear(self.norm(target), self.embed.weight)

    def _embedded(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.embed(tokens) * self.embed.embedding_dim**0.5 + self.positions[: tokens.shape[1]]


class _Residual(nn.Module):
    def __init__(self, params: Params):
        super().__init__()
        layers = []
        for _, block in sorted(params["block"]["layers"].items()):
            kernel = block["layer"]["kernel"]
            conv = nn.Conv2d(kernel.shape[2], kernel.shape[3], 3, padding=1, bias=False)
            conv.weight.data = torch.tensor(kernel.transpose(3, 2, 0, 1).copy())
            layers += [conv, nn.BatchNorm2d(kernel.shape[3])]
        self.conv, self.norm, self.last_conv, self.last_norm = layers
        self.out = linear(params["out"])
        channels_last(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.last_norm(self.last_conv(F.relu(self.norm(self.conv(x)))))
        return self.out(F.relu(x + y).mean((2, 3)))


def _norm(params: Params) -> nn.LayerNorm:
    layer = nn.LayerNorm(len(params["scale"]), 1e-5, bias=False)
    layer.weight.data = torch.tensor(params["scale"].copy())
    return layer


class _Upsampling(nn.Module):
    def __init__(self, params: Params):
        super().__init__()
        kernel = params["conv"]["kernel"]
        self.scale = nn.Parameter(torch.tensor(params["scale"]).reshape(1, -1, 1, 1))
        self.conv = nn.ConvTranspose2d(kernel.shape[2], kernel.shape[3], 4, 2, 1)
        # PyTorch's kernel is the gradient of a convolution's, turned round.
        self.conv.weight.data = torch.tensor(kernel[::-1, ::-1].transpose(2, 3, 0, 1).copy())
        assert self.conv.bias is not None
        self.conv.bias.data = torch.tensor(params["conv"]["bias"].copy())
        channels_last(self.conv)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x * self.scale)


MODELS: Mapping[str, tuple[Callable[[Params], nn.Module], LossFunction]] = {
    "mlp": (_mlp, _cross_entropy),
    "cnn": (CNN, _cross_entropy),
    "lstm": (partial(_Recurrent, kind=nn.LSTM), _cross_entropy),
    "gru": (partial(_Recurrent, kind=nn.GRU), _cross_entropy),
    "gpt": (GPT, _cross_entropy),
    "encoder-decoder": (_EncoderDecoder, _cross_entropy),
    "resnet": (_Residual, _cross_entropy),
    "autoencoder": (_mlp, F.mse_loss),
    "upsampling": (_Upsampling, F.mse_loss),
}
