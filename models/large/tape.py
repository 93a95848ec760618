"""A graph and its values on a few inputs, made together: each call adds an ONNX node and computes it with numpy in f32.

Weights can so be scaled by what the layers before them really give. Weights go to the external file one by one, and values are
forgotten once a layer is done, so that memory does not grow with the model."""
import os
import zlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

INSIDE = 64 << 20
OPSET = 18


def erf(x):
    """The error function of an f32 array, by the rational approximation 7.1.26 of Abramowitz and Stegun in f64 (error below 1.5e-7)."""
    a = np.abs(x.astype(np.float64))
    t = 1 / (1 + 0.3275911 * a)
    tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return (np.sign(x) * (1 - tail * np.exp(-a * a))).astype(np.float32)


class Tape:
    """Nodes and weights of a model, and the values on `ids`, the first `calibrating` of which are calibration inputs."""

    def __init__(self, stem, seed, ids, calibrating, tokens):
        self.stem, self.seed, self.calibrating, self.tokens = stem, seed, calibrating, tokens
        self.nodes, self.made, self.initializers, self.parameters = [], set(), [], 0
        self.values, self.constants = {"input_ids": ids.astype(np.int64)}, {}
        self.weights = open(stem + ".weights.bin", "wb")

    def random(self, name):
        """A generator that depends on the seed and the name alone."""
        return np.random.default_rng([self.seed, zlib.crc32(name.encode())])

    def value(self, name):
        return self.values[name] if name in self.values else self.constants[name]

    def calibration(self, name):
        return self.value(name)[: self.calibrating]

    def forget(self, *keep):
        self.values = {k: v for k, v in self.values.items() if k in keep or k == "input_ids" or k.startswith("length/")}
        self.constants = {k: v for k, v in self.constants.items() if v.nbytes < 1 << 20}

    def weight(self, name, data):
        """A constant; the same name again is the same constant."""
        if any(t.name == name for t in self.initializers):
            self.constants.setdefault(name, np.asarray(data))
            return name
        # Scalars stay scalars: operators insist on it for axes.
        data = np.asarray(data, order="C")
        tensor = TensorProto(name=name, dims=data.shape)
        if data.nbytes < 1024:
            tensor = numpy_helper.from_array(data, name)
        else:
            tensor.data_type = helper.np_dtype_to_tensor_dtype(data.dtype)
            tensor.data_location = TensorProto.EXTERNAL
            self.weights.write(b"\0" * (-self.weights.tell() % 64))
            place = {"location": os.path.basename(self.stem) + ".weights.bin", "offset": self.weights.tell(), "length": data.nbytes}
            for key, v in place.items():
                tensor.external_data.add(key=key, value=str(v))
            self.weights.write(data.tobytes())
        if data.dtype == np.float32:
            self.parameters += data.size
        self.initializers.append(tensor)
        self.constants[name] = data
        return name

    def number(self, name, x):
        return self.weight(name, np.array(x, np.float32))

    def ints(self, name, values):
        return self.weight(name, np.array(values, np.int64))

    def node(self, op, inputs, name, value, **attributes):
        # What layers share is computed again once it was forgotten, but is one node.
        if name not in self.made:
            self.made.add(name)
            self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        self.values[name] = value
        return name

    def op(self, op, inputs, name, only=None, **attributes):
        """A node; `only` chooses positions to compute of a result that is too large to keep whole."""
        x = [self.value(i) for i in inputs]
        if only is not None:
            x[0] = x[0][:, only]
        return self.node(op, inputs, name, self.compute(op, x, attributes), **attributes)

    def compute(self, op, x, attributes):
        batch = len(self.values["input_ids"])
        simple = {
            "Add": np.add, "Mul": np.multiply, "Div": np.divide, "MatMul": np.matmul, "Neg": np.negative, "Pow": np.power, "Tanh": np.tanh,
            "Not": np.logical_not, "Equal": np.equal, "Erf": erf, "Identity": np.array, "CumSum": lambda a, axis: np.cumsum(a, int(axis.item())),
        }
        if op in simple:
            return simple[op](*x)
        if op == "Reshape":
            return x[0].reshape([batch] + [int(d) for d in x[1][1:]])
        if op == "Transpose":
            return x[0].transpose(attributes["perm"])
        if op == "Concat":
            return np.concatenate(x, attributes["axis"])
        if op == "ReduceSum":
            return x[0].sum(tuple(int(a) for a in x[1]), keepdims=True)
        if op == "Cast":
            return x[0].astype(helper.tensor_dtype_to_np_dtype(attributes["to"]))
        if op == "Gather":
            return np.take(x[0], x[1], attributes["axis"])
        if op == "Shape":
            return np.array((1,) + x[0].shape[1:], np.int64)
        raise ValueError(f"no rule for {op}")

    def slice(self, x, start, stop, axis, name):
        at = [self.ints(f"at_{v}", [v]) for v in (start, stop, axis)]
        cut = [slice(None)] * axis + [slice(start, stop)]
        return self.node("Slice", [x, *at, self.ints("at_1", [1])], name, self.value(x)[tuple(cut)])

    def cut(self, x, length, axis, name):
        """The first `length` elements, a computed number, along an axis."""
        inputs = [x, self.ints("at_0", [0]), length, self.ints(f"at_{axis}", [axis]), self.ints("at_1", [1])]
        cut = [slice(None)] * axis + [slice(0, int(self.value(length)[0]))]
        return self.node("Slice", inputs, name, self.value(x)[tuple(cut)])

    def layer_norm(self, x, gamma, beta, epsilon):
        a = self.value(x)
        centred = a - a.mean(-1, keepdims=True)
        made = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + np.float32(epsilon))
        made = made * self.value(gamma) + self.value(beta)
        name = gamma.removesuffix(".weight") + "/LayerNormalization"
        return self.node("LayerNormalization", [x, gamma, beta], name, made, axis=-1, epsilon=epsilon)

    def discard(self):
        """Removes what was written so far."""
        self.weights.close()
        os.remove(self.stem + ".weights.bin")

    def save(self, output, name):
        """Writes the graph; small models hold their weights inside."""
        self.weights.close()
        ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, self.tokens])
        shape = list(self.value(output).shape)
        shape[0] = 1
        if len(shape) == 3:
            shape[1] = self.tokens
        out = helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, name, [ids], [out], self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
        onnx.save(model, self.stem + ".onnx")
        large = os.path.getsize(self.stem + ".weights.bin") > INSIDE
        if not large:
            whole = onnx.load(self.stem + ".onnx")
            onnx.save(whole, self.stem + ".onnx")
            os.remove(self.stem + ".weights.bin")
