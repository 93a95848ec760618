"""Exports six families of transformers with tiny random weights, and for each a PowerSoftmax twin.

Usage: python export.py FOLDER [--only TEXT] [--inputs 24]

Families bert, roberta, gpt_neox, gpt2, llama, vit; attention eager and sdpa; exporters torchscript and dynamo:
24 files FAMILY.ATTENTION.EXPORTER.onnx, and beside each a twin FAMILY.ATTENTION.EXPORTER.power.onnx in which every
Softmax is rewritten into Pow, ReduceSum, Add, Div. An additive mask (0 or hugely negative) before the Softmax becomes a
multiplicative 0/1 mask in the twin: an even power of a hugely negative number would select what the mask removes.
Per file also NAME.calibration.npz (in_<input>) and NAME.test.npz (in_<input>, outputs by onnxruntime).
Needs torch, transformers, onnx, onnxscript, onnxruntime, numpy; downloads nothing. Weights are random, not trained."""
import argparse
import os
import warnings

warnings.filterwarnings("ignore")
import numpy as np
import onnx
import onnxruntime
import torch
import transformers as tf
from onnx import TensorProto, helper, numpy_helper

TOKENS, VOCABULARY, PADDING_ID = 8, 100, 1
# Larger than the libraries' 0.02: with it, random attention scores and activations have a size worth approximating.
SPREAD = 0.1
SIZES = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, initializer_range=SPREAD)
TEXT = dict(**SIZES, vocab_size=VOCABULARY)
FAMILIES = {
    "bert": lambda a: tf.BertForSequenceClassification(
        tf.BertConfig(**TEXT, max_position_embeddings=64, attn_implementation=a)),
    "roberta": lambda a: tf.RobertaForSequenceClassification(
        tf.RobertaConfig(**TEXT, max_position_embeddings=64, pad_token_id=PADDING_ID, attn_implementation=a)),
    "gpt_neox": lambda a: tf.GPTNeoXForCausalLM(
        tf.GPTNeoXConfig(**TEXT, max_position_embeddings=64, attn_implementation=a)),
    "gpt2": lambda a: tf.GPT2LMHeadModel(
        tf.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=VOCABULARY, n_positions=64,
                      initializer_range=SPREAD, attn_implementation=a)),
    "llama": lambda a: tf.LlamaForCausalLM(
        tf.LlamaConfig(**TEXT, num_key_value_heads=2, max_position_embeddings=64, attn_implementation=a)),
    "vit": lambda a: tf.ViTForImageClassification(
        tf.ViTConfig(**SIZES, image_size=32, patch_size=8, attn_implementation=a)),
}


class Logits(torch.nn.Module):
    """A model whose only result is its logits."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, mask=None):
        more = {} if mask is None else {"attention_mask": mask}
        if "use_cache" in self.model.config.to_dict():
            more["use_cache"] = False
        return self.model(x, **more).logits


def export(model, family, exporter, path):
    if family == "vit":
        arguments, names = (torch.rand(1, 3, 32, 32),), ["pixel_values"]
    else:
        ids = torch.randint(2, VOCABULARY, (1, TOKENS))
        mask = torch.ones(1, TOKENS, dtype=torch.long)
        arguments, names = (ids, mask), ["input_ids", "attention_mask"]
    common = dict(input_names=names, output_names=["logits"])
    with torch.no_grad():
        if exporter == "torchscript":
            torch.onnx.export(model, arguments, path, opset_version=17, dynamo=False, **common)
        else:
            torch.onnx.export(model, arguments, path, dynamo=True, verbose=False, external_data=False, **common)
    anonymous(path)
    return names


def anonymous(path):
    """Takes out what the dynamo exporter notes about the machine: stack traces with paths."""
    model = onnx.load(path)
    for item in [model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output,
                 *model.graph.initializer]:
        for field in ("metadata_props", "doc_string"):
            if field in item.DESCRIPTOR.fields_by_name:
                item.ClearField(field)
    onnx.save(model, path)


def from_inputs(graph):
    """Names of values that depend on integer inputs and constants alone, without any weight matrix in between."""
    integer = {i.name for i in graph.input if i.type.tensor_type.elem_type in (TensorProto.INT64, TensorProto.BOOL)}
    floating = {i.name for i in graph.input} - integer
    encrypted, dynamic = set(floating), set(integer)
    tables = {t.name for t in graph.initializer if t.data_type == TensorProto.FLOAT and len(t.dims) == 2}
    for node in graph.node:
        given = [n for n in node.input if n]
        looked_up = node.op_type == "Gather" and given[0] in tables
        if any(n in encrypted for n in given) or (looked_up and any(n in dynamic for n in given)):
            encrypted.update(node.output)
        elif any(n in dynamic for n in given):
            dynamic.update(node.output)
    return dynamic, encrypted


def power_twin(model, power, epsilon):
    """Softmax(x) -> x^p / (sum x^p + epsilon), masks made multiplicative."""
    graph = model.graph
    makers = {o: n for n in graph.node for o in n.output}
    _, encrypted = from_inputs(graph)
    shapes = {v.name: v for v in onnx.shape_inference.infer_shapes(model).graph.value_info}
    constants = {
        "twin_power": np.array(power, np.float32),
        "twin_epsilon": np.array(epsilon, np.float32),
        "twin_threshold": np.array(-1e4, np.float32),
        "twin_axis": np.array([-1], np.int64),
    }
    graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in constants.items())
    nodes, sites = [], 0
    for node in graph.node:
        if node.op_type != "Softmax":
            nodes.append(node)
            continue
        axis = next((a.i for a in node.attribute if a.name == "axis"), -1)
        value = shapes.get(node.input[0])
        rank = len(value.type.tensor_type.shape.dim) if value is not None else 4
        assert axis in (-1, rank - 1), f"softmax over axis {axis} of {rank}"
        base, scores = f"{node.name or node.output[0]}_power", node.input[0]

        def add(op, inputs, tail, **attributes):
            nodes.append(helper.make_node(op, inputs, [f"{base}_{tail}"], name=f"{base}/{op}_{tail}", **attributes))
            return f"{base}_{tail}"

        made_by = makers.get(scores)
        if made_by is not None and made_by.op_type == "Add":
            plain = [n for n in made_by.input if n not in encrypted]
            if plain:  # an additive mask
                scores = next(n for n in made_by.input if n in encrypted)
                kept = add("Greater", [plain[0], "twin_threshold"], "kept")
                scores = add("Mul", [scores, add("Cast", [kept], "keep", to=TensorProto.FLOAT)], "masked")
        elif made_by is not None and made_by.op_type == "Where" and made_by.input[0] not in encrypted:
            keep = add("Cast", [made_by.input[0]], "keep", to=TensorProto.FLOAT)
            scores = add("Mul", [made_by.input[1], keep], "masked")
        powers = add("Pow", [scores, "twin_power"], "powers")
        total = add("ReduceSum", [powers, "twin_axis"], "sum", keepdims=1)
        total = add("Add", [total, "twin_epsilon"], "total")
        nodes.append(helper.make_node("Div", [powers, total], list(node.output), name=f"{base}/Div"))
        sites += 1
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return sites


def inputs_for(family, count, generator):
    count = max(8, count // 4) if family == "vit" else count
    if family == "vit":
        return {"pixel_values": generator.standard_normal((count, 3, 32, 32)).astype(np.float32)}
    ids = generator.integers(2, VOCABULARY, (count, TOKENS))
    length = generator.integers(TOKENS // 2, TOKENS + 1, (count, 1))
    mask = (np.arange(TOKENS)[None, :] < length).astype(np.int64)
    return {"input_ids": np.where(mask == 1, ids, PADDING_ID).astype(np.int64), "attention_mask": mask}


def record(path, family, count, generator):
    """Calibration and test inputs beside the model; returns the test outputs."""
    stem = path[: -len(".onnx")]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    wanted = {i.name for i in session.get_inputs()}
    calibration = inputs_for(family, count, generator)
    np.savez_compressed(stem + ".calibration.npz", **{"in_" + k: v for k, v in calibration.items()})
    test = inputs_for(family, 8, generator)
    results = []
    for i in range(8):
        feed = {k: v[i : i + 1] for k, v in test.items() if k in wanted}
        results.append(session.run(None, feed)[0][0])
    results = np.stack(results)
    assert np.isfinite(results).all() and results.std() > 0
    name = session.get_outputs()[0].name
    np.savez_compressed(stem + ".test.npz", **{"in_" + k: v for k, v in test.items()}, **{name: results})
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--only", default="", help="only files whose name contains this")
    parser.add_argument("--inputs", type=int, default=256, help="calibration inputs (a quarter of it for images)")
    parser.add_argument("--power", type=int, default=4)
    parser.add_argument("--epsilon", type=float, default=0.05)
    args = parser.parse_args()
    os.makedirs(args.folder, exist_ok=True)
    print("torch", torch.__version__, "transformers", tf.__version__, "onnx", onnx.__version__, "onnxruntime", onnxruntime.__version__)
    for family, make in FAMILIES.items():
        for attention in ("eager", "sdpa"):
            for exporter in ("torchscript", "dynamo"):
                name = f"{family}.{attention}.{exporter}"
                if args.only not in name:
                    continue
                torch.manual_seed(0)
                model = Logits(make(attention).eval())
                path = os.path.join(args.folder, name + ".onnx")
                export(model, family, exporter, path)
                plain = record(path, family, args.inputs, np.random.default_rng(1))
                twin = onnx.load(path)
                sites = power_twin(twin, args.power, args.epsilon)
                assert sites == 2, f"{name}: {sites} softmax rewritten"
                twin_path = os.path.join(args.folder, name + ".power.onnx")
                onnx.save(twin, twin_path)
                power = record(twin_path, family, args.inputs, np.random.default_rng(1))
                opset = next(o.version for o in twin.opset_import if o.domain in ("", "ai.onnx"))
                print(f"{name}: opset {opset}, {len(twin.graph.node)} nodes, twin differs by "
                      f"{np.abs(plain - power).max() / plain.std():.2f} standard deviations", flush=True)


if __name__ == "__main__":
    main()
