"""What is no plain training step, in PyTorch: a game of two networks, generation with a cache, images from files."""

import io
import itertools
import os
import zipfile
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F  # noqa: N812  (its usual name)

from jaxnets.bench import playing, writing
from jaxnets.bench.files import Made
from jaxnets.bench.jax_peers import Way
from jaxnets.bench.torch_peer import GPT, Params, channels_last, device, linear


def play(params: Params, *, compiled: bool) -> Way:
    """Return a loop over steps of both players, the discriminator's first."""
    with device():
        generator, discriminator = Generator(params["generator"]), Discriminator(params["discriminator"])
    options = {"lr": playing.LEARNING_RATE, "betas": (0.5, 0.999), "fused": True}
    optimizers = [torch.optim.Adam(network.parameters(), **options) for network in (generator, discriminator)]
    batches = list(torch.from_numpy(playing.images()).to(device()).permute(0, 1, 4, 2, 3))
    make, judge = (torch.compile(part) if compiled else part for part in (generator, discriminator))

    def step(real: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            fake = make(torch.randn(len(real), playing.CODE, device=device()))
        loss = F.softplus(-judge(real)).mean() + F.softplus(judge(fake)).mean()
        optimizers[1].zero_grad()
        loss.backward()
        optimizers[1].step()
        optimizers[0].zero_grad()
        # Gradients of the discriminator's weights are not asked for here.
        discriminator.requires_grad_(False)
        F.softplus(-judge(make(torch.randn(len(real), playing.CODE, device=device())))).mean().backward()
        discriminator.requires_grad_(True)
        optimizers[0].step()
        return loss.detach()

    def run() -> float:
        total = torch.zeros((), device=device())
        for batch in itertools.islice(itertools.cycle(batches), playing.STEPS):
            total += step(batch)
        return total.item() / playing.STEPS

    return run


def write(params: Params) -> Way:
    """Return a loop over tokens that keeps the keys and values of those before."""
    with device():
        model = GPT(params).eval()
    prompt = torch.from_numpy(writing.prompts()).long().to(device())

    @torch.inference_mode()
    def run() -> float:
        caches: list[Any] = [None] * len(model.blocks)
        tokens, written, start = prompt, [], 0
        for _ in range(writing.LENGTH):
            logits = model.remembering(tokens, start, caches)
            start += tokens.shape[1]
            tokens = logits[:, -1].argmax(-1, keepdim=True)
            written.append(tokens)
        return writing.digest(torch.cat(written, 1).cpu().numpy())

    return run


def read(file: Made) -> Way:
    """Return an epoch of a DataLoader with a worker for each core; of one core, in this process."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Forked from a process whose threads JAX has started, workers could wait for ever: they start anew, once.
    workers = {"num_workers": cores, "multiprocessing_context": "spawn", "persistent_workers": True}
    loader = torch.utils.data.DataLoader(_Images(file), 128, **(workers if cores > 1 else {}))

    def run() -> float:
        total, count = 0, 0
        for batch in loader:
            total, count = total + batch.sum(dtype=torch.int64).item(), count + batch.numel()
        return total / count

    return run


class _Images(torch.utils.data.Dataset[torch.Tensor]):
    def __init__(self, file: Made):
        self.path = file.path
        self.archive: zipfile.ZipFile | None = None
        with zipfile.ZipFile(self.path) as archive:
            self.names = [name for name in archive.namelist() if name.endswith(".png")]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> torch.Tensor:
        if self.archive is None:  # in the worker: an open file cannot be shared
            self.archive = zipfile.ZipFile(self.path)
        image = Image.open(io.BytesIO(self.archive.read(self.names[index]))).convert("RGB")
        return torch.from_numpy(np.array(image))


def _conv(params: Params) -> nn.Conv2d:
    kernel = params["kernel"]
    layer = nn.Conv2d(kernel.shape[2], kernel.shape[3], 4, 2, 1, bias="bias" in params)
    layer.weight.data = torch.tensor(kernel.transpose(3, 2, 0, 1).copy())
    if "bias" in params:
        layer.bias = nn.Parameter(torch.tensor(params["bias"].copy()))
    return layer


def _deconv(params: Params) -> nn.ConvTranspose2d:
    kernel = params["kernel"]
    layer = nn.ConvTranspose2d(kernel.shape[2], kernel.shape[3], 4, 2, 1, bias="bias" in params)
    layer.weight.data = torch.tensor(kernel[::-1, ::-1].transpose(2, 3, 0, 1).copy())
    if "bias" in params:
        layer.bias = nn.Parameter(torch.tensor(params["bias"].copy()))
    return layer


class Generator(nn.Module):
    """The network that makes images of codes, [B, D] -> [B, 1, 28, 28]."""

    def __init__(self, params: Params):
        super().__init__()
        first, *_ = features = playing.FEATURES[::-1]
        self.project = linear(params["project"])
        self.first = nn.BatchNorm2d(first, 1e-5, 0.01)
        blocks = [block["layer"] for _, block in sorted(params["deconvs"].items())]
        parts = [
            (_deconv(block), nn.BatchNorm2d(width, 1e-5, 0.01), nn.ReLU())
            for block, width in zip(blocks, features[1:], strict=True)
        ]
        self.deconvs = nn.Sequential(*itertools.chain(*parts), _deconv(params["out"]), nn.Tanh())
        channels_last(self)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Return the images."""
        x = self.project(codes).unflatten(1, (7, 7, -1)).permute(0, 3, 1, 2)
        return self.deconvs(F.relu(self.first(x)))


class Discriminator(nn.Module):
    """The network that scores images, [B, 1, 28, 28] -> [B]."""

    def __init__(self, params: Params):
        super().__init__()
        layers: list[nn.Module] = []
        for number, (_, block) in enumerate(sorted(params["convs"].items())):
            layers.append(_conv(block["layer"]))
            if number:
                layers.append(nn.BatchNorm2d(len(block["norm"]["scale"]), 1e-5, 0.01))
            layers.append(nn.LeakyReLU(0.2))
        self.convs = channels_last(nn.Sequential(*layers))
        self.out = linear(params["out"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the scores."""
        return self.out(self.convs(x).permute(0, 2, 3, 1).flatten(1))[:, 0]
