"""One run of one system on one model, as a JSON line: seconds of the prediction on ciphertexts, seconds in all, peak memory, error.

usage: compare.py helayers seal|openfhe|lattigo MODEL.onnx
       compare.py heron HERON_BINARY MODEL.onnx
       compare.py table LINES.jsonl
MODEL.input.npy and MODEL.output.npy lie beside the model. Needs numpy, and pyhelayers for helayers.
"""
import json, os, resource, subprocess, sys, tempfile, time


def helayers(context, model):
    import numpy as np
    import pyhelayers as ph
    start = time.time()
    ctx = {"openfhe": lambda: ph.OpenFheCkksContext(), "lattigo": lambda: ph.LattigoContext(),
           "seal": lambda: ph.HeContext.create(["SEAL_CKKS"])}[context]()
    requirements = ph.HeRunRequirements()
    requirements.set_he_context_options([ctx])
    requirements.set_model_encrypted(False)
    plain = ph.NeuralNetPlain()
    plain.init_from_files(ph.PlainModelHyperParams(), [model])
    profile = ph.HeModel.compile(plain, requirements)
    he = ph.HeModel.create_context(profile)
    net = ph.NeuralNet(he)
    net.encode(plain, profile)
    io = net.create_model_io_encoder()
    x = np.load(model.replace(".onnx", ".input.npy")).astype(np.float64)
    want = np.load(model.replace(".onnx", ".output.npy"))
    encrypted, result = ph.EncryptedData(he), ph.EncryptedData(he)
    io.encode_encrypt(encrypted, [x])
    before = time.time()
    net.predict(result, encrypted)
    seconds = time.time() - before
    found = np.asarray(io.decrypt_decode_output(result)).reshape(-1)[:want.size].reshape(want.shape)
    return dict(system="helayers " + context, seconds=seconds, all_seconds=time.time() - start,
                peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                error=float(abs(found - want).max() / want.std()), security=he.get_security_level(), slots=he.slot_count())


def heron(binary, model):
    import numpy as np
    x = np.load(model.replace(".onnx", ".input.npy"))
    want = model.replace(".onnx", ".output.npy")
    # Calibration inputs of the kind the model is fed: uniform in [-1, 1], none of them the one that is run.
    draws = np.random.default_rng(99).uniform(-1, 1, (32,) + x.shape[1:]).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        calibration = os.path.join(folder, "calibration.npz")
        name = input_name(model)
        np.savez(calibration, **{name: draws})
        start = time.time()
        run = subprocess.run([binary, "infer", model, "--input", model.replace(".onnx", ".input.npy"), "--expect", want,
                              "--calibration", calibration, "--optimize", "latency", "--format", "json", "--quiet"],
                             stdout=subprocess.PIPE, check=True)
        seconds = time.time() - start
    found = json.loads(run.stdout)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return dict(system="heron", seconds=found["seconds"]["run"], all_seconds=seconds, peak_mib=peak, error=found["error"]["relative"],
                parts=found["seconds"])


def input_name(model):
    import onnx
    return onnx.load(model).graph.input[0].name


def table(path):
    rows = {}
    for line in open(path):
        row = json.loads(line)
        rows.setdefault(row["system"], []).append(row)
    middle = lambda values: sorted(values)[len(values) // 2]
    print(f"{'system':<18} {'runs':>4} {'prediction s (median)':>22} {'all s':>8} {'peak MiB':>9} {'error':>9}")
    for system, found in rows.items():
        print(f"{system:<18} {len(found):>4} {middle([r['seconds'] for r in found]):>22.2f} {middle([r['all_seconds'] for r in found]):>8.1f} "
              f"{max(r['peak_mib'] for r in found):>9.0f} {max(r['error'] for r in found):>9.1e}")
    peers = {s: r for s, r in rows.items() if s != "heron"}
    if peers and "heron" in rows:
        fastest = min(peers, key=lambda s: middle([r["seconds"] for r in peers[s]]))
        leanest = min(max(r["peak_mib"] for r in r) for r in peers.values())
        ours = rows["heron"]
        print(f"heron: {middle([r['seconds'] for r in peers[fastest]]) / middle([r['seconds'] for r in ours]):.1f} times as fast as {fastest}, "
              f"{max(r['peak_mib'] for r in ours) / max(r['peak_mib'] for r in peers[fastest]):.2f} of its memory "
              f"({max(r['peak_mib'] for r in ours) / leanest:.2f} of the leanest peer's)")


if __name__ == "__main__":
    if sys.argv[1] == "table":
        table(sys.argv[2])
    else:
        # HElayers writes to stdout itself: the line goes last, to the file named by LINES where given.
        row = helayers(*sys.argv[2:4]) if sys.argv[1] == "helayers" else heron(*sys.argv[2:4])
        line = json.dumps(row)
        print(line)
        if os.environ.get("LINES"):
            with open(os.environ["LINES"], "a") as f:
                f.write(line + "\n")
