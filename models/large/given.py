"""Weights from a state dict: .npz, or .safetensors with F32, F64, F16 or BF16. Names are those of the transformers library.

Matrices are stored (out x in) there, as torch's Linear holds them, and (in x out) in the graph."""
import json
import struct

import numpy as np

# What a name in the graph is called in the file, by family; {i} is the number of a layer.
NAMES = {
    "gpt_neox": {
        "embed_in": "gpt_neox.embed_in",
        "embed_out": "embed_out",
        "final_layer_norm": "gpt_neox.final_layer_norm",
        "layers.": "gpt_neox.layers.",
    },
    "bert": {
        "embed_in": "bert.embeddings.word_embeddings",
        "positions": "bert.embeddings.position_embeddings",
        "token_type": "bert.embeddings.token_type_embeddings",
        "embeddings.LayerNorm": "bert.embeddings.LayerNorm",
        "classifier.dense": "bert.pooler.dense",
        "classifier.out_proj": "classifier",
        "layers.": "bert.encoder.layer.",
    },
    "roberta": {
        "embed_in": "roberta.embeddings.word_embeddings",
        "positions": "roberta.embeddings.position_embeddings",
        "token_type": "roberta.embeddings.token_type_embeddings",
        "embeddings.LayerNorm": "roberta.embeddings.LayerNorm",
        "classifier.dense": "classifier.dense",
        "classifier.out_proj": "classifier.out_proj",
        "layers.": "roberta.encoder.layer.",
    },
}
# Inside a layer of BERT and RoBERTa, longest first.
INSIDE = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.output": "attention.output.dense",
    "attention.LayerNorm": "attention.output.LayerNorm",
    "intermediate": "intermediate.dense",
    "output.LayerNorm": "output.LayerNorm",
    "output": "output.dense",
}


class GivenError(ValueError):
    """A weight is missing or has another shape."""


def safetensors(path):
    """Arrays of a .safetensors file, mapped: 8 bytes of length, a JSON header, the data."""
    with open(path, "rb") as file:
        head = file.read(8)
        if len(head) < 8:
            raise ValueError("too short for a .safetensors file")
        (length,) = struct.unpack("<Q", head)
        if length > 1 << 28:
            raise ValueError("a header this long is no .safetensors file")
        header = json.loads(file.read(length))
    data = np.memmap(path, np.uint8, "r", offset=8 + length)
    types = {"F32": np.float32, "F64": np.float64, "F16": np.float16, "BF16": np.uint16}
    arrays = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] not in types:
            continue
        begin, end = entry["data_offsets"]
        array = data[begin:end].view(types[entry["dtype"]]).reshape(entry["shape"])
        arrays[name] = (array, entry["dtype"] == "BF16")
    return arrays


class Given:
    """The weights of a file, by the names of the graph, in f32."""

    def __init__(self, path, family):
        self.family = family
        if path.endswith(".safetensors"):
            self.arrays = safetensors(path)
        elif path.endswith(".npz"):
            with np.load(path) as file:
                self.arrays = {name: (file[name], False) for name in file.files}
        else:
            raise ValueError("a .npz or .safetensors file is expected")

    def name(self, name):
        """The name in the file."""
        stem, dot, end = name.rpartition(".")
        if stem.startswith("layers.") and self.family != "gpt_neox":
            layer, number, inside = stem.split(".", 2)
            stem = f"{layer}.{number}.{INSIDE[inside]}"
        for ours, theirs in NAMES[self.family].items():
            if stem == ours or (ours == "layers." and stem.startswith(ours)):
                return theirs + stem[len(ours):] + dot + end
        raise GivenError(f"no name is known for {name}")

    def array(self, name):
        theirs = self.name(name)
        # Models without a head are saved without the family's prefix.
        short = theirs.split(".", 1)[-1]
        for known in (theirs, short):
            if known in self.arrays:
                array, brain = self.arrays[known]
                if brain:
                    array = (array.astype(np.uint32) << 16).view(np.float32)
                array = np.asarray(array, np.float32)
                if not np.isfinite(array).all():
                    raise GivenError(f"{known} holds a number that is not finite")
                return known, array
        raise GivenError(f"{theirs} is missing; {len(self.arrays)} arrays are there, such as {', '.join(sorted(self.arrays)[:3])}")

    def of_shape(self, name, *shape):
        known, array = self.array(name)
        if array.shape != shape:
            raise GivenError(f"{known} has shape {list(array.shape)}, expected {list(shape)}; see --layers, --width, --inner")
        return array

    def vector(self, name, size):
        return self.of_shape(name, size).copy()

    def matrix(self, name, rows, out):
        return np.ascontiguousarray(self.of_shape(name, out, rows).T)

    def rows(self, name, count, width):
        """The first rows of a table."""
        known, array = self.array(name)
        if array.ndim != 2 or array.shape[0] < count or array.shape[1] != width:
            raise GivenError(f"{known} has shape {list(array.shape)}, expected {count} rows or more of {width}; see --vocabulary")
        return np.ascontiguousarray(array[:count])

    def projections(self, name, d, heads):
        """Weights of q, k and v, then their biases, heads side by side."""
        if self.family != "gpt_neox":
            parts = [f"{name}.{part}" for part in ("query", "key", "value")]
            return tuple(self.matrix(p + ".weight", d, d) for p in parts), [self.vector(p + ".bias", d) for p in parts]
        # Head by head, each with its q, k and v.
        joined = self.matrix(name + ".query_key_value.weight", d, 3 * d).reshape(d, heads, 3, d // heads)
        bias = self.vector(name + ".query_key_value.bias", 3 * d).reshape(heads, 3, d // heads)
        return tuple(joined[:, :, i].reshape(d, d) for i in range(3)), [bias[:, i].reshape(d) for i in range(3)]
