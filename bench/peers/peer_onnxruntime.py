"""ONNX Runtime; "contrib", "attention" or "linear" as argument.

contrib: its own MultiHeadAttention for full attention, GroupQueryAttention for
causal attention and decoding. attention: the Attention operator of ONNX.
linear: its own LinearAttention, with the features of linear.elu made before it,
and a column of ones beside the values, whose result is what to divide by.
Models are made in memory.
"""
import sys

import protocol

try:
    import numpy as np
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto, helper
except ImportError as error:
    protocol.missing(error)


EPSILON = 1e-6  # of linear.elu


def model_of(nodes, inputs, outputs, constants=()):
    def info(name, kind, shape):
        return helper.make_tensor_value_info(name, kind, shape)

    graph = helper.make_graph(nodes, "attention",
                              [info(*i) for i in inputs],
                              [info(*o) for o in outputs],
                              [helper.make_tensor(*c) for c in constants])
    model = helper.make_model(graph, opset_imports=[
        helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)])
    model.ir_version = 11
    return model.SerializeToString()


def token_major(array):
    """[B, H, T, D] as [B, T, H D], which the operators read."""
    batch, heads, length, dim = array.shape
    return np.ascontiguousarray(array.transpose(0, 2, 1, 3)).reshape(
        batch, length, heads * dim)


class OnnxRuntime:
    version = ort.__version__

    def __init__(self, which):
        self.standard = which == "attention"
        self.linear = which == "linear"
        if self.linear:
            self.computes = "linear.elu"
            self.score_bytes = {}
            return
        # Attention holds scores and weights, GroupQueryAttention weights;
        # MultiHeadAttention works in blocks.
        held = 8 if self.standard else 4
        self.score_bytes = {"forward": held, "decode": held}

    def setup(self, p):
        self.problem = p
        if p.backward:
            raise protocol.Unsupported("its operators have no backward pass")
        if p.bf16:
            raise protocol.Unsupported("its attention on CPUs has no bf16")
        if p.qk_dim != p.v_dim:
            raise protocol.Unsupported("its heads have one width")
        if self.linear:
            operator, model, feeds = self.linear_attention(p)
        elif self.standard:
            operator, model, feeds = self.attention(p)
        elif p.causal:
            operator, model, feeds = self.grouped(p)
        elif p.q_heads == p.kv_heads:
            operator, model, feeds = self.multi_head(p)
        else:
            raise protocol.Unsupported(
                "MultiHeadAttention has no grouped heads, and "
                "GroupQueryAttention is causal")
        options = ort.SessionOptions()
        options.intra_op_num_threads = p.threads
        options.inter_op_num_threads = 1
        # Threads that wait in a loop after a run would disturb others.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self.session = ort.InferenceSession(
            model, options, providers=["CPUExecutionProvider"])
        self.binding = self.session.io_binding()
        for name, array in feeds.items():
            self.binding.bind_cpu_input(name, array)
        self.feeds = feeds  # bound, not copied
        shape = (p.batch, p.q_len, p.q_heads * p.v_dim)
        if self.standard:
            shape = p.arrays["out"].shape
        elif self.linear:
            shape = (p.batch, p.q_len, p.q_heads, p.v_dim)
        self.out = np.empty(shape, np.float32)
        self.binding.bind_output("out", "cpu", 0, np.float32, self.out.shape,
                                 self.out.ctypes.data)
        if self.linear:
            self.binding.bind_output("state", "cpu")
        grouped = p.causal and not self.standard and not self.linear
        for name in ("k", "v") if grouped else ():
            past = feeds["past_" + name]
            if p.q_len < p.kv_len:  # appends in place
                self.binding.bind_output("present_" + name, "cpu", 0,
                                         np.float32, past.shape,
                                         past.ctypes.data)
            else:
                self.binding.bind_output("present_" + name, "cpu")
        return (f"{operator}, in its own process; intra_op_num_threads "
                f"{p.threads}")

    @staticmethod
    def attention(p):
        # One query at the end of its keys sees all of them.
        node = helper.make_node(
            "Attention", ["q", "k", "v"], ["out"], scale=p.scale,
            is_causal=int(p.causal and p.q_len > 1))
        feeds = {n: p.arrays[n].copy() for n in ("q", "k", "v")}
        kind = TensorProto.FLOAT
        return "Attention", model_of(
            [node], [(n, kind, a.shape) for n, a in feeds.items()],
            [("out", kind, None)]), feeds

    @staticmethod
    def multi_head(p):
        node = helper.make_node(
            "MultiHeadAttention", ["q", "k", "v"], ["out"],
            domain="com.microsoft", num_heads=p.q_heads, scale=p.scale)
        feeds = {n: token_major(p.arrays[n]) for n in ("q", "k", "v")}
        kind = TensorProto.FLOAT
        return "MultiHeadAttention", model_of(
            [node], [(n, kind, a.shape) for n, a in feeds.items()],
            [("out", kind, None)]), feeds

    @staticmethod
    def grouped(p):
        # What is held before the queries' own tokens: nothing, or when decoding
        # all keys but the last, in a buffer that has room for it.
        past = p.kv_len - p.q_len
        room = p.kv_len if past > 0 else 0
        node = helper.make_node(
            "GroupQueryAttention",
            ["q", "k", "v", "past_k", "past_v", "last", "total"],
            ["out", "present_k", "present_v"], domain="com.microsoft",
            num_heads=p.q_heads, kv_num_heads=p.kv_heads, scale=p.scale)
        feeds = {"q": token_major(p.arrays["q"])}
        for n in ("k", "v"):
            array = p.arrays[n]
            feeds[n] = token_major(array[:, :, past:])
            feeds["past_" + n] = np.ascontiguousarray(array[:, :, :room])
        feeds["last"] = np.full((p.batch,), p.kv_len - 1, np.int32)
        feeds["total"] = np.array([p.kv_len], np.int32)
        kinds = {np.dtype(np.float32): TensorProto.FLOAT,
                 np.dtype(np.int32): TensorProto.INT32}
        return "GroupQueryAttention", model_of(
            [node], [(n, kinds[a.dtype], a.shape) for n, a in feeds.items()],
            [(n, TensorProto.FLOAT, None)
             for n in ("out", "present_k", "present_v")]), feeds

    @staticmethod
    def linear_attention(p):
        if not p.causal:
            raise protocol.Unsupported("its LinearAttention is causal")
        if p.q_heads != p.kv_heads:
            raise protocol.Unsupported(
                "its LinearAttention on CPUs has no grouped heads")
        # Of the keys and values before the queries' own, their sum.
        past = p.kv_len - p.q_len
        keys, values = p.arrays["k"], p.arrays["v"]
        values = np.concatenate(
            [values, np.ones_like(values[..., :1])], axis=3)
        old = keys[:, :, :past]
        features = np.where(old > 0, old + 1, np.exp(np.minimum(old, 0)))
        feeds = {"q": token_major(p.arrays["q"]),
                 "k": token_major(keys[:, :, past:]),
                 "v": token_major(values[:, :, past:]),
                 "past": np.ascontiguousarray(
                     features.transpose(0, 1, 3, 2) @ values[:, :, :past])}
        kind = TensorProto.FLOAT
        nodes = [helper.make_node(*n) for n in (
            ("Elu", ["q"], ["q_elu"]), ("Add", ["q_elu", "one"], ["q_feature"]),
            ("Elu", ["k"], ["k_elu"]), ("Add", ["k_elu", "one"], ["k_feature"]),
            ("Reshape", ["sums", "shape"], ["heads"]),
            ("Add", ["weight", "epsilon"], ["divisor"]),
            ("Div", ["weighted", "divisor"], ["out"]))]
        nodes.insert(4, helper.make_node(
            "LinearAttention", ["q_feature", "k_feature", "v", "past"],
            ["sums", "state"], domain="com.microsoft", update_rule="linear",
            q_num_heads=p.q_heads, kv_num_heads=p.kv_heads, scale=p.scale))
        nodes.insert(6, helper.make_node(
            "Split", ["heads", "widths"], ["weighted", "weight"], axis=3))
        return "Elu, LinearAttention, Div", model_of(
            nodes, [(n, kind, a.shape) for n, a in feeds.items()],
            [("out", kind, None), ("state", kind, None)],
            [("one", kind, [1], [1.0]), ("epsilon", kind, [1], [EPSILON]),
             ("shape", TensorProto.INT64, [4],
              [p.batch, p.q_len, p.q_heads, p.v_dim + 1]),
             ("widths", TensorProto.INT64, [2], [p.v_dim, 1])]), feeds

    def run(self):
        self.session.run_with_iobinding(self.binding)

    def result(self):
        p = self.problem
        if self.standard:
            return {"out": self.out}
        # Token by token.
        return {"out": self.out.reshape(
            p.batch, p.q_len, p.q_heads, p.v_dim).transpose(0, 2, 1, 3)}

    def drop(self):
        for name in ("binding", "session", "feeds", "out", "problem"):
            if hasattr(self, name):
                delattr(self, name)


protocol.serve(OnnxRuntime(sys.argv[1]))
