"""Measures PyTorch: eager, as its users write it, in its own layout or channels_last.

Images are float tensors that were made before, and the optimizer is fused: both are in its favour.
"""

import os
import time
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from PIL import Image
from torch import nn  # pyright: ignore[reportMissingImports]

from benchmarks.peers import networks, worker
from benchmarks.peers.worker import Result, Run


class _Residual(nn.Module):
    def __init__(self, main: nn.Module, shortcut: nn.Module):
        super().__init__()
        self.main, self.shortcut = main, shortcut

    def forward(self, x: Any) -> Any:
        return self.main(x) + self.shortcut(x)


class _Bias(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Any) -> Any:
        return x + self.bias[:, None, None]


class _Function(nn.Module):
    def __init__(self, function: Any):
        super().__init__()
        self.forward = function


def _filters_first(kernel: np.ndarray) -> np.ndarray:
    return kernel.transpose(3, 2, 0, 1)


def _channels_first(channels: int, height: int, width: int) -> Any:
    """Returns a function that converts a dense kernel to torch's.

    The kernel follows a flattened feature map [height, width, channels].
    """

    def convert(kernel: np.ndarray) -> np.ndarray:
        blocks = kernel.reshape(height, width, channels, -1)
        return _filters_first(blocks).reshape(kernel.shape[1], -1)

    return convert


def build(layers: list[networks.Layer], x: Any, named: dict[str, Any]) -> tuple[nn.Sequential, Any]:
    """Returns the modules of layers, and their result for `x`, a batch of images.

    `named` receives each parameter by its path, with the function that converts an array of
    `cnn_jax.models` to torch's.
    """
    modules = []
    shape = None
    for layer in layers:
        channels, weight = x.shape[1], np.asarray
        path = layer[1] if len(layer) > 1 else ""
        match layer:
            case ("conv", _, filters, kernel, stride, padding, bias):
                module = nn.Conv2d(channels, filters, kernel, stride, padding, bias=bias)
                weight = _filters_first
            case ("bias", _):
                module = _Bias(channels)
            case ("bn", _, epsilon, scale):
                module = nn.BatchNorm2d(channels, eps=epsilon)
                module.weight.requires_grad_(scale)
            case ("dense", _, units, bias):
                module = nn.Linear(channels, units, bias=bias)
                weight = _channels_first(*shape or (channels, 1, 1))
                shape = None
            case ("pool", window):
                module = nn.MaxPool2d(window)
            case ("crop", kernel):
                height, width = networks.cropped(tuple(x.shape[2:]), kernel)
                module = _Function(lambda x, h=height, w=width: x[:, :, :h, :w])
            case ("residual", main, shortcut):
                module = _Residual(build(main, x, named)[0], build(shortcut, x, named)[0])
            case ("flatten",):
                module, shape = nn.Flatten(), x.shape[1:]
            case ("mean",):
                module = _Function(lambda x: x.mean((2, 3)))
            case ("scale", factor):
                module = _Function(lambda x, factor=factor: x * factor)
            case ("relu",):
                module = nn.ReLU(inplace=True)
            case ("gelu",):
                module = nn.GELU()
            case _:
                raise ValueError(f"unknown layer {layer}")
        for name, parameter in module.named_parameters(recurse=False):
            if name == "bias":
                named[f"{path}/bias"] = parameter, np.asarray
            elif parameter.requires_grad:
                ours = "scale" if layer[0] == "bn" else "kernel"
                named[f"{path}/{ours}"] = parameter, weight
        with torch.no_grad():
            x = module(x)
        modules.append(module)
    return nn.Sequential(*modules), x


def prepare(work: dict[str, Any]) -> Run:
    """Returns the function that runs a workload; see `worker`."""
    if work["kind"] == "jpeg":
        return _decode(work["photographs"], work["size"])
    mode = work["mode"]
    layout = torch.channels_last if mode.get("channels_last") else torch.contiguous_format
    images, labels, parameters = worker.load(work)
    # A transposed view would be channels_last already, in either mode.
    inputs = [
        torch.from_numpy(np.ascontiguousarray(one.transpose(0, 3, 1, 2)).astype(np.float32) / 255)
        for one in images
    ]
    inputs = [one.contiguous(memory_format=layout) for one in inputs]
    targets = [torch.from_numpy(one.astype(np.int64)) for one in labels]
    named: dict[str, Any] = {}
    layers = networks.network(work["model"], work["outputs"], work["variant"] == "reordered")
    model, _ = build(layers, torch.zeros_like(inputs[0][:2]), named)
    for path, (parameter, convert) in named.items():
        if parameters:
            array = convert(worker.take(parameters, path))
            parameter.data.copy_(torch.from_numpy(np.ascontiguousarray(array)))
        if worker.is_frozen(work, path):
            parameter.requires_grad_(False)
    worker.check_all_taken(parameters)
    model.to(memory_format=layout)
    model.train(work["kind"] == "train")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rate = work["learning_rate"]
    if work["optimizer"] == "adam":
        optimizer = torch.optim.Adam(trained, rate, eps=1e-8, fused=True)
    else:
        optimizer = torch.optim.SGD(trained, rate, momentum=0.9, nesterov=True, fused=True)
    half = mode.get("precision") == "bfloat16"
    position = 0

    def loss_of(inputs: Any, targets: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = model(inputs)
        return nn.functional.cross_entropy(logits.float(), targets)

    def run(steps: int, each: bool) -> Result:
        nonlocal position
        losses = []
        began = time.perf_counter()
        for _ in range(steps):
            batch = inputs[position % len(inputs)], targets[position % len(inputs)]
            position += 1
            if work["kind"] == "train":
                loss = loss_of(*batch)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            else:
                with torch.inference_mode():
                    loss = loss_of(*batch)
            losses += [loss.item()] if each else []
        return Result(time.perf_counter() - began, steps * work["batch"], losses)

    return run


class _Photographs(torch.utils.data.Dataset):
    """Decodes and resizes photographs with Pillow, as torchvision's transforms do."""

    def __init__(self, paths: list[str], size: int):
        self.paths, self.size = paths, (size, size)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        with Image.open(self.paths[index]) as image:
            pixels = image.convert("RGB").resize(self.size, Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(pixels))


def _decode(paths: list[str], size: int) -> Run:
    """Returns a run whose step decodes one photograph, by a DataLoader of worker processes."""
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()

    def run(steps: int, each: bool) -> Result:
        del each
        some = [paths[i % len(paths)] for i in range(steps)]
        loader = torch.utils.data.DataLoader(_Photographs(some, size), 32, num_workers=workers)
        began = time.perf_counter()
        count = sum(len(batch) for batch in loader)
        return Result(time.perf_counter() - began, count, [])

    return run


if __name__ == "__main__":
    worker.serve(prepare)
