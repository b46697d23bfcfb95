"""Arrays of NumPy and of PyTorch, as the C library reads them."""

import ctypes
import sys

import numpy as np

from saccade._library import SaccadeError

F32, BF16 = 0, 1


def _pointer_function():
    """What tells where an array's elements begin, in a tenth of a microsecond.

    An array's first field says it, which NumPy's binary interface fixes; where
    that does not prove true, NumPy is asked, which takes ten times as long.
    """
    def asked(x):
        return x.__array_interface__["data"][0]

    if sys.implementation.name != "cpython":
        return asked
    at, head = ctypes.c_void_p.from_address, object.__basicsize__

    def read(x):
        return at(id(x) + head).value

    probes = np.empty(8, np.float32)[3:], np.empty((2, 3), np.uint8)[:, ::-1]
    return read if all(read(x) == asked(x) for x in probes) else asked


class NumPy:
    """How NumPy's arrays are read and made."""
    dtypes = {np.dtype(np.float32): F32}
    elements = {np.dtype(np.bool_): 0, np.dtype(np.float32): 1}
    kinds = "float32"
    mask_kinds = "booleans or float32"
    pointer = staticmethod(_pointer_function())
    empty = staticmethod(np.empty)

    @staticmethod
    def like(q, k, v, rest):
        """Equal for arrays that differ only in where they lie."""
        return (q.shape, q.strides, q.dtype, k.shape, k.strides, k.dtype,
                v.shape, v.strides, v.dtype,
                *[(x.shape, x.strides, x.dtype) for x in rest])

    @staticmethod
    def like_one(x):
        return x.shape, x.strides, x.dtype, x.flags.writeable

    @staticmethod
    def strides(x):
        return tuple(s // x.itemsize for s in x.strides)

    @staticmethod
    def check(x, writes):
        if any(s % x.itemsize for s in x.strides):
            raise SaccadeError(2, "strides must be whole elements")
        if writes and not x.flags.writeable:
            raise SaccadeError(1, "out may not be written")


class Torch:
    """How PyTorch's tensors are read and made."""

    def __init__(self, torch):
        self.torch = torch
        self.dtypes = {torch.float32: F32, torch.bfloat16: BF16}
        self.elements = {torch.bool: 0, torch.float32: 1, torch.bfloat16: 2}
        self.kinds = "float32 or bfloat16"
        self.mask_kinds = "booleans, float32 or bfloat16"
        self.pointer = torch.Tensor.data_ptr
        self.strides = torch.Tensor.stride

    def empty(self, shape, dtype):
        return self.torch.empty(shape, dtype=dtype)

    @staticmethod
    def like(q, k, v, rest):
        return (q.shape, q.stride(), q.dtype, q.is_cpu, k.shape, k.stride(),
                k.dtype, k.is_cpu, v.shape, v.stride(), v.dtype, v.is_cpu,
                *[(x.shape, x.stride(), x.dtype, x.is_cpu) for x in rest])

    @staticmethod
    def like_one(x):
        return x.shape, x.stride(), x.dtype, x.is_cpu

    @staticmethod
    def check(x, writes):
        if not x.is_cpu:
            raise SaccadeError(2, f"tensors must be on the CPU, not {x.device}")


_torch = None


def library_of(x):
    """What reads an array; None where it must first be made one of NumPy's."""
    if type(x) is np.ndarray:
        return NumPy
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, torch.Tensor):
        global _torch
        _torch = _torch or Torch(torch)
        return _torch
    return None


def like(library, q, k, v, rest):
    """What tells whether arrays were seen before, places apart."""
    try:
        return library.like(q, k, v, rest)
    except (AttributeError, TypeError):
        raise SaccadeError(2, "q, k, v and what comes with them must be "
                              f"{'NumPy' if library is NumPy else 'PyTorch'}'s"
                              " as q is") from None


def describe(x, library, to, writes=False):
    """Writes what an array is into a Tensor."""
    dtype = library.dtypes.get(x.dtype)
    if dtype is None:
        raise SaccadeError(2, f"arrays of {x.dtype} are not supported: "
                              f"{library.kinds}")
    library.check(x, writes)
    if len(x.shape) != 4:
        raise SaccadeError(1, "arrays are [batch, heads, tokens, width], not "
                              f"{list(x.shape)}")
    strides = library.strides(x)
    if x.shape[3] > 1 and strides[3] != 1:
        raise SaccadeError(1, "the last axis must be contiguous")
    to.dtype = dtype
    to.batch, to.heads, to.len, to.dim = x.shape
    to.batch_stride, to.head_stride, to.row_stride = strides[:3]
    to.data = library.pointer(x)


def element_of(mask, library):
    """How a mask's elements are stored."""
    element = library.elements.get(mask.dtype)
    if element is None:
        raise SaccadeError(2, f"masks of {mask.dtype} are not supported: "
                              f"{library.mask_kinds}")
    return element


def kind_of(mask, library):
    """What a problem says of a mask that comes with each pass."""
    if mask is None:
        return "none"
    return "additive" if element_of(mask, library) else "boolean"


def describe_mask(mask, library, to):
    """Writes what a mask is that spreads to [batch, q_heads, q_len, kv_len]
    into a MaskView."""
    if not 1 <= len(mask.shape) <= 4:
        raise SaccadeError(1, "masks spread to [batch, heads, queries, keys], "
                              f"not {list(mask.shape)}")
    library.check(mask, False)
    fill = 4 - len(mask.shape)
    to.element = element_of(mask, library)
    to.batch, to.heads, to.q_len, to.kv_len = (1,) * fill + tuple(mask.shape)
    (to.batch_stride, to.head_stride, to.row_stride,
     to.key_stride) = (0,) * fill + tuple(library.strides(mask))
    to.data = library.pointer(mask)
