"""PyTorch: tensors on the CPU, with gradients, and what models already call."""

import torch

from saccade._library import SaccadeError
from saccade._plan import plan_for


def _rows(x):
    """A tensor whose last axis is contiguous, the same where it is."""
    return x if x.shape[-1] <= 1 or x.stride(-1) == 1 else x.contiguous()


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, settings, q, k, v, *extras):
        variant, causal, scale, window, threads = settings
        plan = plan_for(q, k, v, variant, causal, scale, window, threads)
        keep = any(ctx.needs_input_grad)
        if not keep:
            return plan.forward(q, k, v, *extras)
        out, saved = plan.forward(q, k, v, *extras, keep=True)
        ctx.settings, ctx.saved = settings, saved
        ctx.save_for_backward(q, k, v, *extras, out)
        return out

    @staticmethod
    def backward(ctx, dout):
        *inputs, out = ctx.saved_tensors
        variant, causal, scale, window, threads = ctx.settings
        # Autograd may run on another thread, which has plans of its own.
        plan = plan_for(*inputs[:3], variant, causal, scale, window, threads)
        grads = plan.backward(*inputs, out=out, dout=_rows(dout),
                              saved=ctx.saved)
        return (None, *grads)


def attention(q, k, v, *extras, variant="softmax.flash", causal=False,
              scale=None, window=0, threads=0):
    """As saccade.attention, of tensors; gradients flow."""
    inputs = [_rows(x) for x in (q, k, v, *extras)]
    for x in inputs:
        if x.device.type != "cpu":
            raise SaccadeError(2, f"tensors must be on the CPU, not {x.device}")
    return _Attention.apply((variant, causal, scale, window, threads), *inputs)


def scaled_dot_product_attention(query, key, value, attn_mask=None,
                                 dropout_p=0.0, is_causal=False, scale=None,
                                 enable_gqa=False, *, variant="softmax.flash"):
    """What torch.nn.functional's of the same name computes, by a variant.

    is_causal aligns at the top left, as PyTorch does. Masks of the caller and
    dropout are refused.
    """
    if attn_mask is not None:
        raise SaccadeError(2, "attn_mask is not supported here")
    if dropout_p:
        raise SaccadeError(2, "dropout is not supported")
    if not enable_gqa and query.shape[-3] != key.shape[-3]:
        raise SaccadeError(1, f"{query.shape[-3]} query heads, "
                              f"{key.shape[-3]} key heads: enable_gqa?")
    lead = query.shape[:-3]
    four = [x.reshape(-1, *x.shape[-3:]) if x.dim() != 4 else x
            for x in (query, key, value)]
    out = attention(*four, variant=variant, scale=scale,
                    causal="causal_top_left" if is_causal else False)
    return out.reshape(*lead, *out.shape[1:])
