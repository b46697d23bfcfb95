"""Hugging Face models: attention by name.

    import saccade.huggingface
    name = saccade.huggingface.register("softmax.window:size=256")
    model = AutoModelForCausalLM.from_pretrained(..., attn_implementation=name)

or model.set_attn_implementation(name) of a model that is there. Models keep
their own positions, caches and generate(). Padding and other masks reach the
variants that take masks of a caller; the others say so.
"""

import re

import torch

from saccade._library import SaccadeError
from saccade._plan import attention

# What some models hand over that would change the result.
_REFUSED = {"s_aux": "learned sinks", "sinks": "learned sinks",
            "position_bias": "a position bias of the model's own",
            "head_mask": "masks of heads", "indices": "chosen keys",
            "block_indices": "chosen keys", "cache": "a paged cache",
            "output_attentions": "attention weights as an output"}


def _check(dropout, others):
    if dropout:
        raise SaccadeError(2, "dropout is not supported: set the model's "
                              "attention dropout to 0, or call model.eval()")
    for name, meaning in _REFUSED.items():
        if others.get(name) is not None and others[name] is not False:
            raise SaccadeError(2, f"the model passes {name}: {meaning} are not "
                                  "supported")


def _trimmed(key, value, mask, queries):
    """Keys and their mask, without those of a cache that are not there yet: the
    last key left is the last query's own, as the bottom right is."""
    mask = mask[..., :key.shape[2]]
    if mask.dtype != torch.bool or key.shape[2] == queries:
        return key, value, mask
    seen = mask.any(dim=(0, 1, 2)).nonzero()
    n = int(seen[-1]) + 1 if len(seen) else key.shape[2]
    mask = mask[..., :n]
    # One query that sees all of them needs no mask.
    mask = None if queries == 1 and bool(mask.all()) else mask
    return key[:, :, :n], value[:, :, :n], mask


def _forward(variant):
    def saccade_attention(module, query, key, value, attention_mask,
                          scaling=None, dropout=0.0, is_causal=None,
                          softcap=None, **others):
        _check(dropout, others)
        queries, causal = query.shape[2], False
        if attention_mask is not None:  # it says what is causal
            if attention_mask.dim() != 4:
                raise SaccadeError(2, "masks are [batch, heads, queries, keys],"
                                      f" not {list(attention_mask.shape)}")
            key, value, attention_mask = _trimmed(key, value, attention_mask,
                                                  queries)
        elif queries > 1:  # one token sees all that came before
            causal = (getattr(module, "is_causal", True) if is_causal is None
                      else is_causal)
            if causal:  # the rest of a static cache is empty yet
                key, value = key[:, :, :queries], value[:, :, :queries]
        out = attention(query, key, value, variant=variant, causal=causal,
                        attn_mask=attention_mask, scale=scaling,
                        softcap=softcap or 0)
        return out.transpose(1, 2), None

    return saccade_attention


def _name_of(variant):
    if variant == "softmax.flash":
        return "saccade"
    # "flash" in a name stands for something else in that library.
    return "saccade_" + re.sub(r"\W+", "_", variant).replace("flash", "exact")


def register(variant="softmax.flash", name=None):
    """Makes a variant known as an attention implementation; returns its name:
    "saccade" for softmax.flash, else of the kind of saccade_softmax_alibi.

    ImportError where the transformers library is missing or too old.
    """
    from transformers import AttentionInterface
    name = name or _name_of(variant)
    if "flash" in name:
        raise SaccadeError(1, f"transformers takes {name!r} for a package of "
                              "GPU kernels: choose a name without \"flash\"")
    AttentionInterface.register(name, _forward(variant))
    try:  # since 4.53 models ask by this name for their masks, too
        from transformers import AttentionMaskInterface
        from transformers.masking_utils import sdpa_mask
    except ImportError:
        return name
    AttentionMaskInterface.register(name, sdpa_mask)
    return name
