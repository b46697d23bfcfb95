"""ggml's flash attention, through the libraries that libggml-python ships."""
import ctypes
import os

import protocol

try:
    import numpy as np
    import libggml
except ImportError as error:
    protocol.missing(error)

F32, F16, BF16 = 0, 1, 30  # enum ggml_type


class InitParams(ctypes.Structure):
    _fields_ = [("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p),
                ("no_alloc", ctypes.c_bool)]


class Plan(ctypes.Structure):
    _fields_ = [("work_size", ctypes.c_size_t), ("work_data", ctypes.c_void_p),
                ("n_threads", ctypes.c_int), ("threadpool", ctypes.c_void_p),
                ("abort_callback", ctypes.c_void_p),
                ("abort_callback_data", ctypes.c_void_p),
                ("use_ref", ctypes.c_bool)]


def load():
    folder = os.path.join(os.path.dirname(libggml.__file__), "lib64")
    base = ctypes.CDLL(os.path.join(folder, "libggml-base.so"),
                       ctypes.RTLD_GLOBAL)
    cpu = ctypes.CDLL(os.path.join(folder, "libggml-cpu.so"))
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    long = ctypes.c_int64
    for library, name, result, arguments in (
            (base, "ggml_version", ctypes.c_char_p, []),
            (base, "ggml_init", pointer, [InitParams]),
            (base, "ggml_free", None, [pointer]),
            (base, "ggml_new_tensor_4d", pointer, [pointer, number] + [long] * 4),
            (base, "ggml_get_data", pointer, [pointer]),
            (base, "ggml_flash_attn_ext", pointer,
             [pointer] * 5 + [ctypes.c_float] * 3),
            (base, "ggml_new_graph", pointer, [pointer]),
            (base, "ggml_threadpool_params_init", None, [pointer, number]),
            (cpu, "ggml_build_forward_expand", None, [pointer, pointer]),
            (cpu, "ggml_threadpool_new", pointer, [pointer]),
            (cpu, "ggml_threadpool_free", None, [pointer]),
            (cpu, "ggml_graph_plan", Plan, [pointer, number, pointer]),
            (cpu, "ggml_graph_compute", number, [pointer, pointer]),
            (cpu, "ggml_cpu_has_avx512", number, [])):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return base, cpu


base, cpu = load()


def to_f32(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def to_bf16(array):
    """To nearest, ties to even."""
    bits = np.ascontiguousarray(array).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


class Ggml:
    version = base.ggml_version().decode()
    # The mask, in f16, which all heads share.
    score_bytes = {"forward": 0.5}

    def __init__(self):
        self.context = self.pool = None

    def tensor(self, kind, array):
        """Of a [B, H, T, D] array: ggml counts from the innermost."""
        tensor = base.ggml_new_tensor_4d(self.context, kind,
                                         *reversed(array.shape))
        array = np.ascontiguousarray(array)
        ctypes.memmove(base.ggml_get_data(tensor), array.ctypes.data,
                       array.nbytes)
        return tensor

    def setup(self, p):
        if p.backward:
            raise protocol.Unsupported(
                "its flash attention has no backward pass")
        self.problem = p
        masked = p.causal and p.q_len > 1
        arrays = [p.arrays[n] for n in ("q", "k", "v")]
        room = (sum(2 * a.nbytes for a in arrays) + p.arrays["out"].nbytes * 2
                + (2 * p.q_len * p.kv_len if masked else 0) + (16 << 20))
        self.context = base.ggml_init(InitParams(room, None, False))
        kind = BF16 if p.bf16 else F32
        q = self.tensor(F32, to_f32(arrays[0]) if p.bf16 else arrays[0])
        k, v = (self.tensor(kind, a) for a in arrays[1:])
        mask = None
        if masked:
            hidden = np.full((1, 1, p.q_len, p.kv_len), -np.inf, np.float16)
            mask = self.tensor(F16, np.triu(hidden[0, 0],
                                            p.kv_len - p.q_len + 1)
                               .reshape(hidden.shape))
        self.out = base.ggml_flash_attn_ext(self.context, q, k, v, mask,
                                            p.scale, 0, 0)
        self.graph = base.ggml_new_graph(self.context)
        cpu.ggml_build_forward_expand(self.graph, self.out)
        if p.threads > 1:
            # More than the parameters take.
            settings = ctypes.create_string_buffer(4096)
            base.ggml_threadpool_params_init(settings, p.threads)
            self.pool = cpu.ggml_threadpool_new(settings)
        self.plan = cpu.ggml_graph_plan(self.graph, p.threads, self.pool)
        self.work = np.empty(self.plan.work_size + 64, np.uint8)
        data = self.work.ctypes.data
        self.plan.work_data = data + -data % 64
        build = "AVX-512" if cpu.ggml_cpu_has_avx512() else "AVX2"
        return (f"ggml_flash_attn_ext, a build for {build} (libggml-python), "
                f"{'queries in f32, keys and values in bf16, ' * p.bf16}"
                f"in its own process; a pool of {p.threads} "
                f"thread{'s' * (p.threads > 1)}")

    def run(self):
        status = cpu.ggml_graph_compute(self.graph, ctypes.byref(self.plan))
        if status != 0:
            raise RuntimeError(f"ggml_graph_compute returned {status}")

    def result(self):
        p = self.problem
        shape = (p.batch, p.q_len, p.q_heads, p.v_dim)
        count = int(np.prod(shape))
        floats = (ctypes.c_float * count).from_address(
            base.ggml_get_data(self.out))
        out = np.frombuffer(floats, np.float32).reshape(shape)
        out = out.transpose(0, 2, 1, 3)
        return {"out": to_bf16(out) if p.bf16 else out}

    def drop(self):
        if self.pool:
            cpu.ggml_threadpool_free(self.pool)
        if self.context:
            base.ggml_free(self.context)
        self.context = self.pool = None


protocol.serve(Ggml())
