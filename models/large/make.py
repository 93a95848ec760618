"""Makes transformers of full size with PowerSoftmax attention and random or given weights, as ONNX files, with calibration and test inputs.

Usage: python make.py MODEL FOLDER [--weights STATE.npz|STATE.safetensors] [--layers N] [--tokens N|symbolic] [--seed N] [--inputs N]
                      [--tests N] [--output lm|classifier|hidden]

MODEL is pythia-70m, pythia-1.4b, bert-base or roberta-base. Writes NAME.onnx, NAME.weights.bin (external data, for models above
64 MiB), NAME.calibration.npz (in_input_ids) and NAME.test.npz (in_input_ids and the output in f32; of a language model the last
position only, and hidden_logits, what its head reads there). Needs numpy and onnx; with onnxruntime installed, --verify compares its results with those in the test file.

Random weights are not harmless: see tape.py and README.md for how ranges are made as wide as those of trained models; the script fails
where they are not. Weights of a state dict are taken as they are (given.py)."""
import argparse
import os
import sys
from dataclasses import dataclass

import numpy as np

from given import Given, GivenError
from tape import Tape

POWER, EPSILON = 4, 1e-3
# Largest denominator of a head, drawn log-uniformly per head. Under a causal mask the smallest is about epsilon; without one it is
# about a tenth of the largest, so that heads have to differ more.
LARGEST_DENOMINATOR = {"gpt_neox": (0.1, 0.4), "bert": (0.05, 2.0), "roberta": (0.05, 2.0)}
# Variance of the embedding of a token, drawn log-uniformly per token id: a ratio of 64.
TOKEN_VARIANCE = (0.1, 6.4)
# What all branches together add to the variance of a pre-LN residual stream: leaves a ratio of at least 8 at its end.
STREAM_VARIANCE = 0.6
# Ratio of variances that post-LN branches are tuned to.
VARIANCE_RATIO = 10.0
# What random weights must reach over the calibration inputs, at every site.
LEAST_RATIO = {"denominator": 64.0, "variance": 8.0}
PADDING = 1


@dataclass
class Shape:
    """Sizes of a model."""

    family: str
    layers: int
    width: int
    heads: int
    inner: int
    vocabulary: int
    positions: int
    epsilon: float = 1e-5


MODELS = {
    "pythia-70m": Shape("gpt_neox", 6, 512, 8, 2048, 50304, 2048),
    "pythia-1.4b": Shape("gpt_neox", 24, 2048, 16, 8192, 50304, 2048),
    "bert-base": Shape("bert", 12, 768, 12, 3072, 30522, 512, 1e-12),
    "roberta-base": Shape("roberta", 12, 768, 12, 3072, 50265, 514),
}
ROTARY_SHARE = 0.25


class Builder:
    """One model on a tape."""

    def __init__(self, tape, shape, tokens, given=None):
        """`given`: weights to take instead of random ones."""
        self.t, self.s, self.tokens, self.given = tape, shape, tokens, given
        self.head = shape.width // shape.heads
        self.report = {"denominator": [], "variance": []}

    def normal(self, name, *dims, scale):
        return scale * self.t.random(name).standard_normal(dims, dtype=np.float32)

    def log_uniform(self, name, low, high, count):
        return np.exp(self.t.random(name).uniform(np.log(low), np.log(high), count)).astype(np.float32)

    def norm(self, x, name):
        d = self.s.width
        if self.given:
            gamma, beta = self.given.vector(name + ".weight", d), self.given.vector(name + ".bias", d)
        else:
            gamma = 1 + self.normal(name + ".weight", d, scale=0.1)
            beta = self.normal(name + ".bias", d, scale=0.05)
        variance = self.t.calibration(x).var(-1) + self.s.epsilon
        self.report["variance"].append(float(variance.max() / variance.min()))
        return self.t.layer_norm(x, self.t.weight(name + ".weight", gamma), self.t.weight(name + ".bias", beta), self.s.epsilon)

    def dense(self, x, name, weight):
        out = weight.shape[1]
        bias = self.given.vector(name + ".bias", out) if self.given else self.normal(name + ".bias", out, scale=0.02)
        product = self.t.op("MatMul", [x, self.t.weight(name + ".weight", weight)], name + "/MatMul")
        return self.t.op("Add", [product, self.t.weight(name + ".bias", bias)], name + "/Add")

    def plain(self, x, name, out):
        """A projection that keeps the variance of its operand at about 1."""
        rows = self.t.value(x).shape[-1]
        if self.given:
            return self.dense(x, name, self.given.matrix(name + ".weight", rows, out))
        return self.dense(x, name, self.normal(name + ".weight", rows, out, scale=rows**-0.5))

    def branch(self, x, stream, name):
        """What is added to the residual stream, scaled by what calibration inputs give."""
        rows, d = self.t.value(x).shape[-1], self.s.width
        if self.given:
            return self.dense(x, name, self.given.matrix(name + ".weight", rows, d))
        weight = self.normal(name + ".weight", rows, d, scale=rows**-0.5)
        made = self.t.calibration(x) @ weight
        if self.s.family == "gpt_neox":
            share = STREAM_VARIANCE / (2 * self.s.layers)
            weight *= np.sqrt(share / made.var(-1).mean())
            return self.dense(x, name, weight)
        # Post-LN: the stream has variance 1 everywhere; one direction of the branch grows until variances differ as in trained models.
        weight *= 0.5 * np.sqrt(self.t.calibration(stream).var() / made.var())
        into = self.normal(name + ".into", rows, scale=rows**-0.5)
        out = self.normal(name + ".out", d, scale=1.0)
        base = self.t.calibration(stream) + self.t.calibration(x) @ weight
        along = self.t.calibration(x) @ into
        along /= along.std()
        size = 0.25
        while True:
            variance = (base + size * along[..., None] * out).var(-1)
            if variance.max() / variance.min() >= VARIANCE_RATIO or size > 64:
                break
            size *= 1.1
        into /= (self.t.calibration(x) @ into).std()
        return self.dense(x, name, weight + size * into[:, None] * out[None, :])

    def split_heads(self, x, name):
        """[1, tokens, width] as [1, heads, tokens, width / heads]."""
        view = self.t.op("Reshape", [x, self.t.ints(name + ".shape", [1, -1, self.s.heads, self.head])], name + "/Reshape")
        return self.t.op("Transpose", [view], name + "/Transpose", perm=[0, 2, 1, 3])

    def projections(self, x, name):
        """Weights of q, k and v; q and k of each head scaled so that its largest denominator is the one drawn for it."""
        d, heads, h = self.s.width, self.s.heads, self.head
        if self.given:
            return self.given.projections(name, d, heads)
        q, k, v = (self.normal(f"{name}.{part}.weight", d, d, scale=d**-0.5) for part in "qkv")
        biases = [self.normal(f"{name}.{part}.bias", d, scale=0.02) for part in "qkv"]
        given = self.t.calibration(x)
        n, tokens = given.shape[:2]

        def heads_of(weight, bias):
            return (given @ weight + bias).reshape(n, tokens, heads, h).transpose(0, 2, 1, 3)

        a, b = heads_of(q, biases[0]), heads_of(k, biases[1])
        if self.s.family == "gpt_neox":
            a, b = rotated(a, *self.angles(tokens)), rotated(b, *self.angles(tokens))
        scores = a @ b.transpose(0, 1, 3, 2) / np.sqrt(h)
        if self.s.family == "gpt_neox":
            scores = scores * np.tril(np.ones((tokens, tokens), np.float32))
        largest = (scores**POWER).mean(-1).max((0, 2))
        wanted = self.log_uniform(f"{name}.denominators", *LARGEST_DENOMINATOR[self.s.family], heads)
        factor = np.repeat((wanted / largest) ** (0.5 / POWER), h)
        for weight, bias in ((q, biases[0]), (k, biases[1])):
            weight *= factor
            bias *= factor
        return (q, k, v), biases

    def angles(self, tokens):
        """Cosines and sines of a rotary embedding of part of each head."""
        part = int(self.head * ROTARY_SHARE)
        frequencies = 10000.0 ** (-np.arange(0, part, 2) / part)
        angle = np.arange(tokens)[:, None] * np.concatenate([frequencies, frequencies])[None, :]
        return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)

    def rotary(self, x, name):
        t, part = self.t, int(self.head * ROTARY_SHARE)
        cos, sin = (self.of_length(which, table[None, None], [2])
                    for which, table in zip(("cos", "sin"), self.angles(self.tokens or self.s.positions)))
        turned = t.slice(x, 0, part, 3, name + "/turned")
        rest = t.slice(x, part, self.head, 3, name + "/rest")
        low = t.slice(turned, 0, part // 2, 3, name + "/low")
        high = t.slice(turned, part // 2, part, 3, name + "/high")
        swapped = t.op("Concat", [t.op("Neg", [high], name + "/Neg"), low], name + "/Concat", axis=-1)
        total = t.op("Add", [t.op("Mul", [turned, cos], name + "/Mul"), t.op("Mul", [swapped, sin], name + "/Mul_1")], name + "/Add")
        return t.op("Concat", [total, rest], name + "/Concat_1", axis=-1)

    def of_length(self, name, table, axes):
        """A table over all positions, cut to the number of tokens where that is symbolic."""
        table = self.t.weight(name, table)
        if self.tokens is None:
            for axis in axes:
                table = self.t.cut(table, self.length(), axis, f"{name}/Slice_{axis}")
        return table

    def length(self):
        """The number of tokens, as a vector of one integer."""
        shape = self.t.op("Shape", ["input_ids"], "length/Shape")
        return self.t.slice(shape, 1, 2, 0, "length/Slice")

    def attention(self, x, name):
        """Queries, keys and values of x; P = s^4 / (epsilon + sum s^4) with s divided by tokens^(1/4)."""
        t, d, h = self.t, self.s.width, self.head
        weights, biases = self.projections(x, name)
        if self.s.family == "gpt_neox":
            cut = lambda a: a.reshape(a.shape[:-1] + (self.s.heads, h))
            joined = np.concatenate([cut(w) for w in weights], -1).reshape(d, 3 * d)
            bias = np.concatenate([cut(b) for b in biases], -1).reshape(3 * d)
            all_three = t.op("MatMul", [x, t.weight(name + ".query_key_value.weight", joined)], name + "/query_key_value/MatMul")
            all_three = t.op("Add", [all_three, t.weight(name + ".query_key_value.bias", bias)], name + "/query_key_value/Add")
            view = t.op("Reshape", [all_three, t.ints("heads.shape", [1, -1, self.s.heads, 3 * h])], name + "/Reshape")
            turned = t.op("Transpose", [view], name + "/Transpose", perm=[0, 2, 1, 3])
            q, k, v = (t.slice(turned, i * h, (i + 1) * h, 3, f"{name}/{part}") for i, part in enumerate("qkv"))
            q, k = self.rotary(q, name + "/rotary_q"), self.rotary(k, name + "/rotary_k")
        else:
            parts = []
            for part, weight, bias in zip(("query", "key", "value"), weights, biases):
                made = t.op("MatMul", [x, t.weight(f"{name}.{part}.weight", weight)], f"{name}/{part}/MatMul")
                made = t.op("Add", [made, t.weight(f"{name}.{part}.bias", bias)], f"{name}/{part}/Add")
                parts.append(self.split_heads(made, f"{name}/{part}"))
            q, k, v = parts
        turned = t.op("Transpose", [k], name + "/Transpose_keys", perm=[0, 1, 3, 2])
        s = t.op("MatMul", [q, turned], name + "/scores")
        s = t.op("Div", [s, t.number("root_of_head", np.sqrt(h))], name + "/Div")
        if self.s.family == "gpt_neox":
            limit = self.tokens or self.s.positions
            s = t.op("Mul", [s, self.of_length("mask", np.tril(np.ones((1, 1, limit, limit), np.float32)), [2, 3])], name + "/Mul_mask")
        s = t.op("Div", [s, self.root_of_length()], name + "/Div_length")
        powers = t.op("Pow", [s, t.number("power", POWER)], name + "/Pow")
        total = t.op("ReduceSum", [powers, t.ints("last_axis", [-1])], name + "/ReduceSum", keepdims=1)
        total = t.op("Add", [total, t.number("power_epsilon", EPSILON)], name + "/Add_epsilon")
        seen = t.calibration(total)
        self.report["denominator"].append(float(seen.max() / seen.min()))
        p = t.op("Div", [powers, total], name + "/Div_total")
        out = t.op("Transpose", [t.op("MatMul", [p, v], name + "/values")], name + "/Transpose_out", perm=[0, 2, 1, 3])
        return t.op("Reshape", [out, t.ints("joined.shape", [1, -1, d])], name + "/Reshape_out")

    def root_of_length(self):
        if self.tokens is not None:
            return self.t.number("root_of_length", self.tokens**0.25)
        length = self.t.op("Cast", [self.length()], "length/Cast", to=1)
        return self.t.op("Pow", [length, self.t.number("quarter", 0.25)], "length/Pow")

    def gelu(self, x, name):
        t = self.t
        erf = t.op("Erf", [t.op("Div", [x, t.number("root_of_two", np.sqrt(2))], name + "/Div")], name + "/Erf")
        half = t.op("Mul", [t.number("half", 0.5), t.op("Add", [erf, t.number("one", 1)], name + "/Add")], name + "/Mul")
        return t.op("Mul", [x, half], name + "/Mul_1")

    def table(self, name, rows, variance):
        if self.given:
            return self.t.weight(name, self.given.rows(name, rows, self.s.width))
        table = self.normal(name, rows, self.s.width, scale=1.0)
        table *= np.sqrt(np.broadcast_to(variance, rows))[:, None]
        return self.t.weight(name, table)

    def embedding(self):
        t, s = self.t, self.s
        variance = self.log_uniform("token_variance", *TOKEN_VARIANCE, s.vocabulary)
        x = t.op("Gather", [self.table("embed_in.weight", s.vocabulary, variance), "input_ids"], "embed_in/Gather", axis=0)
        if s.family == "gpt_neox":
            return x
        if s.family == "roberta":
            # Positions count the tokens that are no padding, as exporters write it.
            real = t.op("Not", [t.op("Equal", ["input_ids", t.ints("padding", PADDING)], "positions/Equal")], "positions/Not")
            real = t.op("Cast", [real], "positions/Cast", to=7)
            counted = t.op("CumSum", [real, t.ints("one_axis", 1)], "positions/CumSum")
            places = t.op("Add", [t.op("Mul", [counted, real], "positions/Mul"), t.ints("padding", PADDING)], "positions/Add")
            position = t.op("Gather", [self.table("positions.weight", s.positions, 0.05), places], "positions/Gather", axis=0)
        else:
            count = self.tokens or s.positions
            if self.given:
                table = self.given.rows("positions.weight", count, s.width)[None]
            else:
                table = self.normal("positions", 1, count, s.width, scale=0.05**0.5)
            position = self.of_length("positions.weight", table, [1])
        if self.given:
            first = self.given.rows("token_type.weight", 1, s.width)[0]
        else:
            first = self.normal("token_type", s.width, scale=0.1)
        kind = t.weight("token_type.weight", first)
        x = t.op("Add", [t.op("Add", [x, position], "embeddings/Add"), kind], "embeddings/Add_1")
        return self.norm(x, "embeddings.LayerNorm")

    def layer(self, x, i):
        t, inner, name = self.t, self.s.inner, f"layers.{i}"
        if self.s.family == "gpt_neox":
            a = self.attention(self.norm(x, name + ".input_layernorm"), name + ".attention")
            a = self.branch(a, x, name + ".attention.dense")
            m = self.norm(x, name + ".post_attention_layernorm")
            m = self.gelu(self.plain(m, name + ".mlp.dense_h_to_4h", inner), name + "/mlp/gelu")
            m = self.branch(m, x, name + ".mlp.dense_4h_to_h")
            return t.op("Add", [t.op("Add", [m, a], name + "/Add"), x], name + "/Add_1")
        a = self.branch(self.attention(x, name + ".attention"), x, name + ".attention.output")
        x = self.norm(t.op("Add", [a, x], name + "/Add"), name + ".attention.LayerNorm")
        m = self.gelu(self.plain(x, name + ".intermediate", inner), name + "/gelu")
        m = self.branch(m, x, name + ".output")
        return self.norm(t.op("Add", [m, x], name + "/Add_1"), name + ".output.LayerNorm")

    def finish(self, x, output):
        """The head; the names of the output and, for a language model, of what its head reads."""
        t, s = self.t, self.s
        if s.family == "gpt_neox":
            x = self.norm(x, "final_layer_norm")
        if output == "hidden":
            return t.op("Identity", [x], "hidden"), None
        if output == "lm":
            if self.given:
                weight = self.given.rows("embed_out.weight", s.vocabulary, s.width).T
            else:
                weight = self.normal("embed_out.weight", s.width, s.vocabulary, scale=s.width**-0.5)
            return t.op("MatMul", [x, t.weight("embed_out.weight", weight)], "logits", only=slice(-1, None)), x
        first = t.op("Gather", [x, t.ints("first", 0)], "classifier/Gather", axis=1)
        pooled = t.op("Tanh", [self.plain(first, "classifier.dense", s.width)], "classifier/Tanh")
        made = self.plain(pooled, "classifier.out_proj", 2)
        return t.op("Identity", [made], "logits"), None


def rotated(x, cos, sin):
    """What `Builder.rotary` does, on arrays."""
    part = cos.shape[-1]
    turned, rest = x[..., :part], x[..., part:]
    swapped = np.concatenate([-turned[..., part // 2:], turned[..., :part // 2]], -1)
    return np.concatenate([turned * cos + swapped * sin, rest], -1)


def too_easy(report):
    """The sites whose ratio is below what random weights must reach, in words."""
    return [f"{kind} of site {site}: {ratio:.1f}, at least {LEAST_RATIO[kind]:.0f} expected"
            for kind, ratios in report.items() for site, ratio in enumerate(ratios) if not ratio >= LEAST_RATIO[kind]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("folder")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--tokens", default="128", help="a number, or `symbolic`")
    parser.add_argument("--length", type=int, default=128, help="tokens of the inputs where --tokens is symbolic")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--inputs", type=int, default=8, help="calibration inputs")
    parser.add_argument("--tests", type=int, default=3)
    parser.add_argument("--weights", help="a state dict (.npz or .safetensors, names as transformers gives them) instead of random weights")
    for size in ("vocabulary", "width", "heads", "inner", "positions"):
        parser.add_argument("--" + size, type=int, help="another size, for small trials")
    parser.add_argument("--output", choices=["lm", "classifier", "hidden"])
    parser.add_argument("--name", help="of the files; default MODEL")
    parser.add_argument("--verify", action="store_true", help="run onnxruntime on the test inputs too")
    args = parser.parse_args()
    shape = MODELS[args.model]
    shape.layers = shape.layers if args.layers is None else args.layers
    for size in ("vocabulary", "width", "heads", "inner", "positions"):
        setattr(shape, size, getattr(args, size) or getattr(shape, size))
    if shape.width % shape.heads:
        parser.error(f"--width {shape.width} is no multiple of --heads {shape.heads}")
    output = args.output or ("lm" if shape.family == "gpt_neox" else "classifier")
    tokens = None if args.tokens == "symbolic" else int(args.tokens)
    if tokens is not None and tokens > shape.positions:
        parser.error(f"--tokens {tokens}: the model has {shape.positions} positions")
    try:
        given = Given(args.weights, shape.family) if args.weights else None
    except (OSError, ValueError) as e:
        parser.error(f"--weights {args.weights}: {e}")
    generator = np.random.default_rng([args.seed, 1])
    ids = generator.integers(2, shape.vocabulary, (args.inputs + args.tests, tokens or args.length))
    os.makedirs(args.folder, exist_ok=True)
    stem = os.path.join(args.folder, args.name or args.model)
    tape = Tape(stem, args.seed, ids, args.inputs, "tokens" if tokens is None else tokens)
    builder = Builder(tape, shape, tokens, given)
    try:
        x = builder.embedding()
        for i in range(shape.layers):
            x = builder.layer(x, i)
            tape.forget(x)
        name, hidden = builder.finish(x, output)
    except GivenError as e:
        tape.discard()
        parser.error(f"--weights {args.weights}: {e}")
    easy = [] if given else too_easy(builder.report)
    if easy:
        tape.discard()
        sys.exit("ranges are easier than those of trained models, nothing was written:\n" + "\n".join(easy))
    result = tape.value(name)[args.inputs:]
    tape.save(name, args.model)
    np.savez_compressed(stem + ".calibration.npz", in_input_ids=ids[: args.inputs])
    expected = {name: result}
    if hidden is not None:
        expected["hidden_" + name] = tape.value(hidden)[args.inputs:, -1:]
    expected = {key: value.astype(np.float32) for key, value in expected.items()}
    np.savez_compressed(stem + ".test.npz", in_input_ids=ids[args.inputs:], **expected)
    ratios = {k: (round(min(v), 1), round(max(v), 1)) for k, v in builder.report.items() if v}
    print(f"{stem}.onnx: {tape.parameters:,} parameters, ratios over the calibration inputs (smallest, largest site): {ratios}")
    if args.verify:
        import onnxruntime

        session = onnxruntime.InferenceSession(stem + ".onnx", providers=["CPUExecutionProvider"])
        found = np.concatenate([session.run(None, {"input_ids": row[None]})[0] for row in ids[args.inputs:]])
        found = found[:, -1:] if output == "lm" else found
        print(f"onnxruntime differs by {np.abs(found - result).max() / result.std():.1e} standard deviations")


if __name__ == "__main__":
    main()
