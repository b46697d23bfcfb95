"""Attention variants on CPUs, chosen by name.

    import numpy as np, saccade
    q = k = v = np.random.rand(1, 8, 1000, 64).astype(np.float32)
    out = saccade.attention(q, k, v, variant="softmax.window:size=256+rope",
                            causal=True)

Arrays are NumPy's, or PyTorch's on the CPU, which are read where they lie and
get gradients. A call lets other Python threads run.
"""

from saccade._plan import (Plan, SaccadeError, attention, clear_cache,
                           explain)
from saccade._library import load_plugin, variants, version

__version__ = version()
__all__ = ["Plan", "SaccadeError", "attention", "clear_cache", "explain",
           "load_plugin", "variants"]
