"""PyTorch: tensors on the CPU, with gradients, and what models already call."""

import torch

from saccade._library import SaccadeError
from saccade._plan import plan_for


def _rows(x):
    """A tensor whose last axis is contiguous, the same where it is."""
    return x if x.shape[-1] <= 1 or x.stride(-1) == 1 else x.contiguous()


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, settings, attn_mask, q, k, v, *extras):
        plan = _plan_for(settings, attn_mask, q, k, v)
        keep = any(ctx.needs_input_grad)
        if not keep:
            return plan.forward(q, k, v, *extras, attn_mask=attn_mask)
        out, saved = plan.forward(q, k, v, *extras, attn_mask=attn_mask,
                                  keep=True)
        ctx.settings, ctx.saved = settings, saved
        ctx.save_for_backward(attn_mask, q, k, v, *extras, out)
        return out

    @staticmethod
    def backward(ctx, dout):
        attn_mask, *inputs, out = ctx.saved_tensors
        # Autograd may run on another thread, which has plans of its own.
        plan = _plan_for(ctx.settings, attn_mask, *inputs[:3])
        grads = plan.backward(*inputs, out=out, dout=_rows(dout),
                              saved=ctx.saved, attn_mask=attn_mask)
        return (None, None, *grads)


def _plan_for(settings, attn_mask, q, k, v):
    variant, causal, scale, window, softcap, threads = settings
    return plan_for(q, k, v, variant, causal, scale, window, attn_mask, softcap,
                    threads)


def _mask_for(attn_mask, q):
    """A mask as the library reads it."""
    if attn_mask is None:
        return None
    if attn_mask.device.type != "cpu":
        raise SaccadeError(2, "masks must be on the CPU, not "
                              f"{attn_mask.device}")
    if attn_mask.requires_grad and torch.is_grad_enabled():
        raise SaccadeError(2, "a mask gets no gradient here: detach it")
    # Of bfloat16 only with q of the same.
    return (attn_mask.float() if attn_mask.dtype == torch.bfloat16 != q.dtype
            else attn_mask)


def attention(q, k, v, *extras, variant="softmax.flash", causal=False,
              scale=None, window=0, attn_mask=None, softcap=0, threads=0):
    """As saccade.attention, of tensors; gradients flow to all but a mask."""
    inputs = [_rows(x) for x in (q, k, v, *extras)]
    for x in inputs:
        if x.device.type != "cpu":
            raise SaccadeError(2, f"tensors must be on the CPU, not {x.device}")
    return _Attention.apply((variant, causal, scale, window, softcap, threads),
                            _mask_for(attn_mask, q), *inputs)


def scaled_dot_product_attention(query, key, value, attn_mask=None,
                                 dropout_p=0.0, is_causal=False, scale=None,
                                 enable_gqa=False, *, variant="softmax.flash"):
    """What torch.nn.functional's of the same name computes, by a variant.

    is_causal aligns at the top left, as PyTorch does. Gradients flow to all but
    attn_mask; dropout is refused.
    """
    if dropout_p:
        raise SaccadeError(2, "dropout is not supported")
    if is_causal and attn_mask is not None:
        raise SaccadeError(1, "is_causal and attn_mask do not go together")
    if not enable_gqa and query.shape[-3] != key.shape[-3]:
        raise SaccadeError(1, f"{query.shape[-3]} query heads, "
                              f"{key.shape[-3]} key heads: enable_gqa?")
    lead = query.shape[:-3]
    four = [x.reshape(-1, *x.shape[-3:]) if x.dim() != 4 else x
            for x in (query, key, value)]
    if attn_mask is not None and attn_mask.dim() > 3 and len(lead) != 1:
        tail = attn_mask.shape[-3:]
        attn_mask = attn_mask.expand(*lead, *tail).reshape(-1, *tail)
    out = attention(*four, variant=variant, scale=scale, attn_mask=attn_mask,
                    causal="causal_top_left" if is_causal else False)
    return out.reshape(*lead, *out.shape[1:])
