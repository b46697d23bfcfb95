"""Hugging Face models: attention by name.

    import saccade.huggingface
    name = saccade.huggingface.register("softmax.window:size=256")
    model = AutoModelForCausalLM.from_pretrained(..., attn_implementation=name)
"""

from saccade._library import SaccadeError
from saccade.torch import attention


def _forward(variant):
    def saccade_attention(module, query, key, value, attention_mask,
                          scaling=None, dropout=0.0, is_causal=None, **unused):
        if dropout:
            raise SaccadeError(2, "dropout is not supported")
        if attention_mask is not None:
            if attention_mask.dim() != 4:
                raise SaccadeError(2, "masks are [batch, heads, queries, keys],"
                                      f" not {list(attention_mask.shape)}")
            attention_mask = attention_mask[..., :key.shape[2]]
            causal = False  # the mask says what is
        else:
            causal = (getattr(module, "is_causal", True) if is_causal is None
                      else is_causal)
            # One token sees all that came before.
            causal = causal and query.shape[2] > 1
        out = attention(query, key, value, variant=variant, causal=causal,
                        attn_mask=attention_mask, scale=scaling)
        return out.transpose(1, 2), None

    return saccade_attention


def register(variant="softmax.flash", name=None):
    """Makes a variant known as an attention implementation; returns its name.

    ImportError where the transformers library is missing or too old.
    """
    from transformers import AttentionInterface
    name = name or "saccade_" + variant.replace(".", "_")
    AttentionInterface.register(name, _forward(variant))
    return name
