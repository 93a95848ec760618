"""Checks that weights given as a state dict end up where random ones were: python check_given.py

Makes a small model of each family with random weights, writes these as a state dict under the names of the transformers library (.npz, and
.safetensors in F32 and BF16), makes the model again from it and compares the results. Then asserts that missing weights, wrong shapes, and
random weights with easy ranges are refused, and that models of two layers with a symbolic axis are valid."""
import json
import os
import struct
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from onnx import numpy_helper

from given import Given

HERE = os.path.dirname(os.path.abspath(__file__))
SMALL = ["--layers", "2", "--width", "32", "--heads", "2", "--inner", "64", "--vocabulary", "40", "--positions", "64", "--tokens", "8"]


def make(*args):
    """Calls make.py; its exit code and what it said."""
    found = subprocess.run([sys.executable, os.path.join(HERE, "make.py"), *args], capture_output=True, text=True)
    return found.returncode, found.stdout + found.stderr


def state_dict(path, family):
    """The weights of a model made here under the names of the file."""
    names = Given.__new__(Given)
    names.family = family
    tensors = {i.name: numpy_helper.to_array(i) for i in onnx.load(path).graph.initializer}
    state, parts = {}, ("query", "key", "value")
    for name, array in tensors.items():
        end = name.rpartition(".")[2]
        if end not in ("weight", "bias") or name in ("cos.weight",):
            continue
        table = name in ("embed_in.weight", "positions.weight")
        if name == "token_type.weight":
            array = np.stack([array, array])
        elif name == "positions.weight" and array.ndim == 3:
            array = array[0]
        elif array.ndim == 2 and not table:
            array = array.T
        state[names.name(name)] = np.ascontiguousarray(array, np.float32)
    assert any(p in n for n in state for p in parts + ("query_key_value",))
    return state


def save_safetensors(path, state, brain):
    header, data = {}, b""
    for name, array in state.items():
        raw = (array.view(np.uint32) >> 16).astype(np.uint16).tobytes() if brain else array.tobytes()
        header[name] = {"dtype": "BF16" if brain else "F32", "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    head = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(head)) + head + data)


def main():
    for model, family in (("pythia-70m", "gpt_neox"), ("bert-base", "bert"), ("roberta-base", "roberta")):
        with tempfile.TemporaryDirectory() as folder:
            at = lambda name: os.path.join(folder, name)
            code, said = make(model, folder, "--name", "random", "--seed", "3", *SMALL)
            assert code == 0, said
            expected = np.load(at("random.test.npz"))["logits"]
            state = state_dict(at("random.onnx"), family)
            np.savez(at("state.npz"), **state)
            save_safetensors(at("state.safetensors"), state, False)
            save_safetensors(at("brain.safetensors"), state, True)
            for file, most in (("state.npz", 1e-6), ("state.safetensors", 1e-6), ("brain.safetensors", 0.2)):
                code, said = make(model, folder, "--name", "given", "--seed", "3", "--weights", at(file), *SMALL)
                assert code == 0, said
                found = np.load(at("given.test.npz"))["logits"]
                differs = np.abs(found - expected).max() / expected.std()
                print(f"{model} from {file}: differs by {differs:.1e} standard deviations, at most {most:.0e}")
                assert differs <= most
                assert "brain" not in file or differs > 1e-6
            for change in ("missing", "shape"):
                broken = dict(state)
                name = next(n for n in broken if "dense" in n and n.endswith("weight"))
                array = broken.pop(name)
                if change == "shape":
                    broken[name] = array[:, 1:]
                np.savez(at("broken.npz"), **broken)
                code, said = make(model, folder, "--name", "broken", "--weights", at("broken.npz"), *SMALL)
                assert code == 2 and name in said, said
                assert not any(f.startswith("broken.") and f != "broken.npz" for f in os.listdir(folder)), os.listdir(folder)
            code, said = make(model, folder, "--name", "symbolic", *SMALL, "--tokens", "symbolic", "--length", "8")
            assert code == 0, said
            onnx.checker.check_model(at("symbolic.onnx"), full_check=True)
    # So few tokens differ too little.
    with tempfile.TemporaryDirectory() as folder:
        code, said = make("pythia-70m", folder, *SMALL, "--layers", "1", "--vocabulary", "3", "--tokens", "2", "--inputs", "1")
        assert code == 1 and "at least" in said and not os.listdir(folder), (code, said)
    print("refusals as expected")


if __name__ == "__main__":
    main()
