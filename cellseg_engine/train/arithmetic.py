"""In which arithmetic a network is trained, and by which optimiser."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal

import torch

from cellseg_engine.nets.unet import ResidualUNet
from cellseg_engine.train.recipes import Recipe

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def make_optimizer(net: ResidualUNet, recipe: Recipe) -> torch.optim.Optimizer:
    """Give the optimiser of a recipe, for all parameters that are trained."""
    parameters = [value for value in net.parameters() if value.requires_grad]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(
            parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
    return torch.optim.SGD(
        parameters,
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )


def fast_precision(device: torch.device) -> Literal["fp32", "bf16"]:
    """Give the precision that is the faster one for training on a device."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return "fp32"  # an old torch, or a device without bf16
    abilities = torch.cpu.get_capabilities()
    has_bf16 = abilities.get("amx_bf16", False) or abilities.get("avx512_bf16", False)
    return "bf16" if has_bf16 else "fp32"


@contextlib.contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Let the CPU calculate the same in every run; GPUs make no such promise."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(before or device.type == "cpu")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def arithmetic(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """Give the block in which a network calculates in ``fp32``, ``bf16`` or ``fp16``."""
    if precision != "fp32":
        return torch.autocast(device.type, dtype=_DTYPES[precision])
    if device.type == "cuda":
        return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    return contextlib.nullcontext()
