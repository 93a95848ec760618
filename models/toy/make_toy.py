"""Makes the toy models: tiny ONNX graphs with random weights, each in a spelling of its own.

    python make_toy.py [--out FOLDER]

Needs numpy, onnx and onnxruntime (versions: ../digits-vit/requirements.txt). Weights are drawn with fixed
seeds. Inputs are a fixed pattern, one row per token, plus bounded uniform noise: random weights then still
give LayerNorm variances and PowerSoftmax denominators that stay clear of zero. For each model the first
seed is taken for which the ranges on the calibration set are within LIMITS.
"""

import argparse
import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

CALIBRATION, TEST = 64, 32
LIMITS = {"denominator": 40.0, "variance": 6.0, "activation": 4.0}  # max/min, max/min, magnitude


class Graph:
    """Collects nodes, weights, and the places where a range matters."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.nodes, self.initializers, self.sites = [], [], {}

    def op(self, kind, inputs, name, **attributes):
        """Adds a node with one output of the same name, or several when `outputs` is given."""
        outputs = attributes.pop("outputs", [name])
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=f"{name}.{kind}", **attributes))
        return outputs if len(outputs) > 1 else outputs[0]

    def const(self, name, value, dtype=np.float32):
        self.initializers.append(numpy_helper.from_array(np.array(value, dtype=dtype), name))
        return name

    def weight(self, name, rows, cols, gain=1.0):
        return self.const(name, self.random.normal(0.0, gain / np.sqrt(rows), (rows, cols)))

    def bias(self, name, cols, centre=0.0, spread=0.1):
        return self.const(name, centre + self.random.uniform(-spread, spread, cols))

    def linear(self, x, name, rows, cols, gain=1.0, centre=0.0):
        y = self.op("MatMul", [x, self.weight(f"{name}.weight", rows, cols, gain)], f"{name}.mm")
        return self.op("Add", [y, self.bias(f"{name}.bias", cols, centre)], name)

    def model(self, name, opset, x_shape, y_shape, outputs=("output",), ir_version=8):
        value = lambda n, s: helper.make_tensor_value_info(n, TensorProto.FLOAT, s)  # noqa: E731
        out = [value(o, y_shape if o == "output" else None) for o in outputs]
        graph = helper.make_graph(self.nodes, name, [value("x", x_shape)], out, self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="make_toy")
        model.ir_version = ir_version
        return model


def toy_head(seed):
    """One attention head on [4, 4], no batch axis, no biases, no epsilon: Pow, ReduceSum, Div."""
    g = Graph(seed)
    for name in ("Wq", "Wk", "Wv"):
        g.weight(name, 4, 4, 1.0)
    q, k, v = (g.op("MatMul", ["x", f"W{n}"], n) for n in "qkv")
    kt = g.op("Transpose", [k], "kt", perm=[1, 0])
    sc = g.op("Mul", [g.op("MatMul", [q, kt], "qk"), g.const("half", 0.5)], "sc")
    pw = g.op("Pow", [sc, g.const("four", 4.0)], "pw")
    sm = g.op("ReduceSum", [pw, g.const("last", [-1], np.int64)], "sm", keepdims=1)
    g.op("MatMul", [g.op("Div", [pw, sm], "p"), v], "output")
    g.sites = {sm: "denominator"}
    return g, dict(name="toy_head", opset=17, x_shape=[4, 4], y_shape=[4, 4])


def decomposed_norm(g, x, name, width):
    """LayerNorm in primitive operators; returns the scaled and shifted value."""
    mean = g.op("ReduceMean", [x], f"{name}.mean", axes=[-1], keepdims=1)
    centred = g.op("Sub", [x, mean], f"{name}.centred")
    square = g.op("Pow", [centred, g.const(f"{name}.two", 2.0)], f"{name}.square")
    variance = g.op("ReduceMean", [square], f"{name}.variance", axes=[-1], keepdims=1)
    with_eps = g.op("Add", [variance, g.const(f"{name}.eps", 1e-5)], f"{name}.with_eps")
    root = g.op("Sqrt", [with_eps], f"{name}.root")
    normal = g.op("Div", [centred, root], f"{name}.normal")
    g.sites[with_eps] = "variance"
    scaled = g.op("Mul", [normal, g.bias(f"{name}.gamma", width, 1.0, 0.2)], f"{name}.scaled")
    return g.op("Add", [scaled, g.bias(f"{name}.beta", width)], name)


def tanh_gelu(g, x, name):
    """0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))."""
    g.sites[x] = "activation"
    cube = g.op("Pow", [x, g.const(f"{name}.three", 3.0)], f"{name}.cube")
    inner = g.op("Mul", [cube, g.const(f"{name}.c", 0.044715)], f"{name}.cubic")
    inner = g.op("Add", [x, inner], f"{name}.sum")
    inner = g.op("Mul", [inner, g.const(f"{name}.k", np.sqrt(2 / np.pi))], f"{name}.inner")
    tanh = g.op("Tanh", [inner], f"{name}.tanh")
    plus = g.op("Add", [tanh, g.const(f"{name}.one", 1.0)], f"{name}.plus")
    return g.op("Mul", [g.op("Mul", [x, plus], f"{name}.twice"), g.const(f"{name}.half", 0.5)], name)


def toy_block(seed):
    """Pre-LN block, 8 tokens, width 8, 2 heads; p = 4 as |x| squared twice, divided by epsilon + mean (rows
    of P sum to nearly 8: the length-agnostic form), Reciprocal then Mul; tanh GELU; mean pool; Gemm."""
    g = Graph(seed)
    width, heads, tokens = 8, 2, 8
    split = g.const("split", [-1, tokens, heads, width // heads], np.int64)
    x = decomposed_norm(g, "x", "ln1", width)
    q = g.linear(x, "q", width, width, 0.5, centre=0.9)
    k = g.linear(x, "k", width, width, 0.5, centre=0.9)
    v = g.linear(x, "v", width, width, 1.0 / tokens)
    q, k, v = (g.op("Reshape", [t, split], f"{t}.split") for t in (q, k, v))
    q = g.op("Transpose", [q], "q.heads", perm=[0, 2, 1, 3])
    k = g.op("Transpose", [k], "k.heads", perm=[0, 2, 3, 1])
    v = g.op("Transpose", [v], "v.heads", perm=[0, 2, 1, 3])
    scores = g.op("Div", [g.op("MatMul", [q, k], "qk"), g.const("root_h", 2.0)], "scores")
    magnitude = g.op("Abs", [scores], "abs")
    square = g.op("Mul", [magnitude, magnitude], "square")
    fourth = g.op("Mul", [square, square], "fourth")
    mean = g.op("ReduceMean", [fourth], "mean", axes=[-1], keepdims=1)
    denominator = g.op("Add", [mean, g.const("epsilon", 1e-3)], "denominator")
    g.sites[denominator] = "denominator"
    p = g.op("Mul", [fourth, g.op("Reciprocal", [denominator], "inverse")], "p")
    mixed = g.op("Transpose", [g.op("MatMul", [p, v], "pv")], "mixed", perm=[0, 2, 1, 3])
    mixed = g.op("Reshape", [mixed, g.const("join", [-1, tokens, width], np.int64)], "joined")
    x = g.op("Add", ["x", g.linear(mixed, "dense", width, width)], "res1")
    y = decomposed_norm(g, x, "ln2", width)
    y = tanh_gelu(g, g.linear(y, "fc1", width, 2 * width, 0.8), "gelu")
    x = g.op("Add", [x, g.linear(y, "fc2", 2 * width, width)], "res2")
    pooled = g.op("ReduceMean", [x], "pooled", axes=[1], keepdims=0)
    g.weight("head.weight", 3, width, 1.5)
    g.op("Gemm", [pooled, "head.weight", g.bias("head.bias", 3)], "output", transB=1, alpha=1.0, beta=1.0)
    return g, dict(name="toy_block", opset=17, x_shape=["batch", tokens, width], y_shape=["batch", 3])


def single_norm(g, x, name, width):
    """LayerNorm in one node."""
    g.sites[x] = "variance"
    weights = [g.bias(f"{name}.gamma", width, 1.0, 0.2), g.bias(f"{name}.beta", width)]
    return g.op("LayerNormalization", [x, *weights], name, axis=-1, epsilon=1e-5)


def fused_qkv(g, x, layer, width, heads, tokens):
    """q, k, v [batch, heads, tokens, h] of one MatMul: by Split in layer 0, by Gather in layer 1."""
    name = f"l{layer}.qkv"
    bias = np.concatenate([np.full(2 * width, 0.7), np.zeros(width)])
    qkv = g.linear(x, name, width, 3 * width, 0.6, centre=bias)
    h = width // heads
    if layer == 0:
        parts = g.op("Split", [qkv], name, axis=-1, num_outputs=3, outputs=[f"l0.{n}.flat" for n in "qkv"])
        shape = g.const(f"{name}.shape", [-1, tokens, heads, h], np.int64)
        parts = [g.op("Reshape", [part, shape], f"{part}.split") for part in parts]
        return [g.op("Transpose", [part], f"l0.{n}", perm=[0, 2, 1, 3]) for part, n in zip(parts, "qkv")]
    shape = g.const(f"{name}.shape", [-1, tokens, 3, heads, h], np.int64)
    split = g.op("Reshape", [qkv, shape], f"{name}.split")
    moved = g.op("Transpose", [split], f"{name}.moved", perm=[2, 0, 3, 1, 4])
    return [g.op("Gather", [moved, g.const(f"l1.{n}.index", i, np.int64)], f"l1.{n}", axis=0) for i, n in enumerate("qkv")]


def toy_relu_cls(seed):
    """Two post-LN blocks, 7 tokens and a CLS token, width 8, 2 heads, p = 2, ReLU; the CLS row is cut out."""
    g = Graph(seed)
    width, heads, tokens = 8, 2, 8
    x = g.linear("x", "embed", width, width)
    g.const("cls", g.random.normal(0.0, 1.0, (1, 1, width)))
    batch = g.op("Gather", [g.op("Shape", ["x"], "x.shape"), g.const("zero", 0, np.int64)], "batch_size", axis=0)
    batch = g.op("Unsqueeze", [batch, g.const("axis0", [0], np.int64)], "batch_axis")
    shape = g.op("Concat", [batch, g.const("cls.shape", [1, width], np.int64)], "cls.full", axis=0)
    x = g.op("Concat", [g.op("Expand", ["cls", shape], "cls.rows"), x], "tokens", axis=1)
    x = g.op("Add", [x, g.const("position", g.random.normal(0.0, 0.4, (1, tokens, width)))], "embedded")
    join = g.const("join", [-1, tokens, width], np.int64)
    for layer in range(2):
        n = f"l{layer}"
        q, k, v = fused_qkv(g, x, layer, width, heads, tokens)
        q = g.op("Mul", [q, g.const(f"{n}.scale", 0.5)], f"{n}.q.scaled")
        scores = g.op("MatMul", [q, g.op("Transpose", [k], f"{n}.kt", perm=[0, 1, 3, 2])], f"{n}.scores")
        power = g.op("Pow", [scores, g.const(f"{n}.two", 2, np.int64)], f"{n}.power")
        total = g.op("ReduceSum", [power, g.const(f"{n}.axis", [3], np.int64)], f"{n}.sum", keepdims=1)
        total = g.op("Add", [g.const(f"{n}.epsilon", 1e-3), total], f"{n}.denominator")
        g.sites[total] = "denominator"
        mixed = g.op("MatMul", [g.op("Div", [power, total], f"{n}.p"), v], f"{n}.pv")
        mixed = g.op("Reshape", [g.op("Transpose", [mixed], f"{n}.mixed", perm=[0, 2, 1, 3]), join], f"{n}.joined")
        y = g.linear(mixed, f"{n}.dense", width, width)
        x = single_norm(g, g.op("Add", [y, x], f"{n}.res1"), f"{n}.ln1", width)
        y = g.linear(x, f"{n}.fc1", width, 2 * width)
        g.sites[y] = "activation"
        y = g.linear(g.op("Relu", [y], f"{n}.relu"), f"{n}.fc2", 2 * width, width)
        x = single_norm(g, g.op("Add", [x, y], f"{n}.res2"), f"{n}.ln2", width)
    limits = [g.const(f"slice.{n}", [i], np.int64) for n, i in (("start", 0), ("end", 1), ("axis", 1))]
    cls = g.op("Slice", [x, *limits], "cls.out")
    cls = g.op("Squeeze", [cls, g.const("squeeze.axis", [1], np.int64)], "cls.flat")
    g.weight("head.weight", width, 3, 1.5)
    g.op("Add", [g.op("MatMul", [cls, "head.weight"], "head.mm"), g.bias("head.bias", 3)], "output")
    return g, dict(name="toy_relu_cls", opset=18, x_shape=["batch", tokens - 1, width], y_shape=["batch", 3])


def inputs(seed, shape, pattern_scale, noise):
    """Calibration and test inputs in [-1, 1]: one fixed pattern of signs, half of each row positive, plus noise."""
    random = np.random.default_rng(seed)
    signs = np.tile(np.repeat([-1.0, 1.0], shape[-1] // 2), (shape[0], 1))
    pattern = pattern_scale * random.permuted(signs, axis=1)
    draw = lambda n: (pattern + random.uniform(-noise, noise, (n, *shape))).astype(np.float32)  # noqa: E731
    return draw(CALIBRATION), draw(TEST)


def run(model, x, batched, outputs=None):
    """Runs all inputs; a graph without a batch axis runs once per input."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    if batched:
        return session.run(outputs, {"x": x})
    runs = [session.run(outputs, {"x": one}) for one in x]
    return [np.stack(column) for column in zip(*runs)]


def ranges(g, facts, x, batched):
    """Per site: kind, smallest and largest value (variance and denominator with their epsilon)."""
    names = list(g.sites)
    result = {}
    for name, y in zip(names, run(g.model(**facts, outputs=names), x, batched, names)):
        kind = g.sites[name]
        if kind == "variance" and y.shape[-1] > 1:  # the input of a LayerNormalization node
            y = y.var(-1) + 1e-5
        result[name] = (kind, float(y.min()), float(y.max()))
    return result


def acceptable(found):
    def ok(kind, low, high):
        return max(-low, high) <= LIMITS[kind] if kind == "activation" else high <= LIMITS[kind] * low

    return all(ok(*f) for f in found.values())


def make(out, stem, build, pattern_scale, noise):
    for seed in range(1000):
        g, facts = build(seed)
        shape = [d for d in facts["x_shape"] if d != "batch"]
        batched = "batch" in facts["x_shape"]
        calibration, test = inputs(seed + 1000, shape, pattern_scale, noise)
        found = ranges(g, facts, calibration, batched)
        if acceptable(found):
            break
    else:
        raise SystemExit(f"{stem}: no seed gives acceptable ranges")
    model = g.model(**facts)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, out / f"{stem}.onnx")
    (output,) = run(model, test, batched)
    np.savez_compressed(out / f"{stem}.calibration.npz", in_x=calibration)
    np.savez_compressed(out / f"{stem}.test.npz", in_x=test, output=output)
    print(f"\n{stem}: seed {seed}, {len(g.nodes)} nodes, output {output.shape} standard deviation {output.std():.3f}")
    on_test = ranges(g, facts, test, batched)
    for name, (kind, low, high) in found.items():
        ratio = "" if kind == "activation" else f"{high / low:.2f}"
        print(f"| {name} | {kind} | {low:.4f} to {high:.4f} | {ratio} | {on_test[name][1]:.4f} to {on_test[name][2]:.4f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    make(out, "toy-head", toy_head, 0.8, 0.2)
    make(out, "toy-block", toy_block, 0.7, 0.3)
    make(out, "toy-relu-cls", toy_relu_cls, 0.7, 0.3)


if __name__ == "__main__":
    main()
