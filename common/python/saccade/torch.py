"""PyTorch: tensors on the CPU, with gradients, and what models already call."""

import torch
from torch.autograd.function import once_differentiable

from saccade._arrays import library_of
from saccade._library import SaccadeError
from saccade._plan import attention, plan_for

_TENSORS = library_of(torch.empty(0))


def _rows(x):
    """A tensor whose last axis is contiguous, the same where it is."""
    return (x if not isinstance(x, torch.Tensor) or x.dim() == 0 or
            x.stride(-1) == 1 or x.shape[-1] <= 1 else x.contiguous())


def _plan_for(settings, attn_mask, q, k, v, *extras):
    rest = extras if attn_mask is None else (*extras, attn_mask)
    return plan_for(_TENSORS, settings, q, k, v, extras, rest, attn_mask)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, settings, attn_mask, *inputs):
        plan = _plan_for(settings, attn_mask, *inputs)
        out, ctx.saved = plan.forward(*inputs, attn_mask=attn_mask, keep=True)
        ctx.settings = settings
        ctx.save_for_backward(attn_mask, *inputs, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, dout):
        attn_mask, *inputs, out = ctx.saved_tensors
        # Autograd may run on another thread, which has plans of its own.
        plan = _plan_for(ctx.settings, attn_mask, *inputs)
        grads = plan.backward(*inputs, out=out, dout=_rows(dout),
                              saved=ctx.saved, attn_mask=attn_mask)
        return (None, None, *grads)


def _mask_for(attn_mask, q):
    """A mask as the library reads it."""
    if attn_mask.requires_grad and torch.is_grad_enabled():
        raise SaccadeError(2, "a mask gets no gradient here: detach it, or let "
                              "the variant learn a bias (+t5, +kerple)")
    # Of bfloat16 only with q of the same.
    return (attn_mask.float() if attn_mask.dtype == torch.bfloat16 != q.dtype
            else attn_mask)


def run(q, k, v, extras, settings, attn_mask, out):
    """saccade.attention of tensors."""
    if attn_mask is not None:
        attn_mask = _mask_for(attn_mask, q)
    try:
        turned = q.stride(-1) != 1 or k.stride(-1) != 1 or v.stride(-1) != 1
        grows = q.requires_grad or k.requires_grad or v.requires_grad
    except (AttributeError, IndexError, TypeError):
        turned = grows = False  # no tensors of four axes: refused below
    if turned or extras:
        q, k, v, *extras = map(_rows, (q, k, v, *extras))
        grows = grows or any(x.requires_grad for x in extras)
    if grows and torch.is_grad_enabled():
        if out is not None:
            raise SaccadeError(2, "out= and gradients do not go together")
        return _Attention.apply(settings, attn_mask, q, k, v, *extras)
    rest = extras if attn_mask is None else (*extras, attn_mask)
    plan = plan_for(_TENSORS, settings, q, k, v, extras, rest, attn_mask)
    return plan.run(q, k, v, rest, out)


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
