"""Root-mean-square norms with their gradient written out: fewer passes over the activations, and less kept for the backward.

The forward is transformers' own, to the bit; without gradients nothing is changed at all. Autograd differentiates that forward
operation by operation; the closed form reads the activations fewer times. `benchmarks/written_out.py` measures it.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn


def hasten_norms(model: nn.Module) -> int:
    """Give every norm of `model` that computes what Llama's does the written-out gradient; how many there are.

    "What Llama's does" is read off its compiled code: transformers repeats one source in each family's file. Others
    (weight + 1, a gate, a kernel from elsewhere) stay as they are.
    """
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    wanted = _said(LlamaRMSNorm)
    norms = [one for one in model.modules() if type(one).__name__.endswith("RMSNorm") and _said(type(one)) == wanted]
    for norm in norms:
        norm.forward = MethodType(_forward, norm)
    return len(norms)


def _said(kind: type[nn.Module]) -> tuple[Any, ...]:
    code = getattr(kind.forward, "__code__", None)
    return (code.co_code, code.co_names, code.co_consts) if code is not None else (kind,)


def _forward(self: Any, hidden_states: Tensor) -> Tensor:
    if not torch.is_grad_enabled():
        return type(self).forward(self, hidden_states)
    return _Norm.apply(hidden_states, self.weight, self.variance_epsilon)


class _Norm(torch.autograd.Function):
    """y = w n, n = x r, r = 1 / sqrt(mean(x^2) + eps), over the last axis of x [..., H]; statistics in float32.

    dx = r (w g - n mean(w g n)); dw = sum of g n over all but the last axis.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = x.to(torch.float32)
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
        ctx.save_for_backward(x, weight, scale)
        return weight * (wide * scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:
        x, weight, scale = ctx.saved_tensors
        with torch.autocast(x.device.type, enabled=False):
            normed, wide = x.to(torch.float32) * scale, gradient.to(torch.float32)
            product = (wide * normed).reshape(-1, x.shape[-1])
            d_weight = product.sum(0).to(weight.dtype) if ctx.needs_input_grad[1] else None
            pull = torch.mv(product, weight.to(torch.float32)).div_(-weight.numel()).view_as(scale)
            d_x = torch.addcmul(wide * weight, normed, pull).mul_(scale).to(x.dtype)
        return d_x, d_weight, None
