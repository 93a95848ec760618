"""Checks heron's key and ciphertext files against docs/formats.md, with numpy only and no code of heron's.
python verify.py client.key [--server-keys server.keys] [--values FILE.ct VALUES.npz]... [--twice A.ct B.ct] [--other-key other.key]"""
import argparse, os, struct
import numpy as np
class Fields:
    def __init__(self, path, kind):
        with open(path, "rb") as f: prefix = f.read(64); magic, version, found, size, start, length = struct.unpack("<8sIIQQQ", prefix[:40]); self.b = f.read(size)
        assert magic == b"HERONFHE" and version == 1 and found in kind, f"{path}: not a file of kind {kind}"
        assert start + length == os.path.getsize(path) and start == -(-(96 + size) // 4096) * 4096, f"{path}: bytes beyond the payload"
        self.i, self.length, self.payload = 0, length, np.memmap(path, np.uint8, "r", start, (length,))
        self.params, self.key, self.profile, self.log_n, _ = self("32s"), self("32s"), self.text(), self("I"), self("I")
        self.primes = [(self("I"), self("I")) for _ in range(self("I"))]
    def __call__(self, code):
        self.i += struct.calcsize("<" + code); return struct.unpack_from("<" + code, self.b, self.i - struct.calcsize("<" + code))[0]
    def list(self, code): return [self(code) for _ in range(self("I"))]
    def text(self): return bytes(self.list("B")).decode()
    def polys(self, offset, length, shape): return self.payload[offset:offset + length].view("<u4").reshape(shape)
    def end(self, used): assert self.i == len(self.b) and used == self.length, "the file holds more than its header lists"
class Ring:
    def __init__(self, fields):
        self.n, self.primes, self.twiddles, self.cache = 1 << fields.log_n, fields.primes, {}, {}
        self.rev = np.array([int(format(i, f"0{fields.log_n}b")[::-1], 2) for i in range(self.n)])
    def tables(self, limb):
        if limb not in self.twiddles:
            q, psi = self.primes[limb]; p = np.ones(1, np.uint64); assert pow(psi, self.n, q) == q - 1, "psi is no primitive 2N-th root"
            while len(p) < self.n: p = np.concatenate([p, p * np.uint64(pow(psi, len(p), q)) % np.uint64(q)])
            self.twiddles[limb] = p[self.rev]
        return np.uint64(self.primes[limb][0]), self.twiddles[limb]
    def forward(self, a, limb):
        q, w = self.tables(limb); a = np.mod(a, int(q)).astype(np.uint64); m = 1
        while m < self.n:
            a = a.reshape(m, 2, -1); y = a[:, 1] * w[m:2 * m, None] % q
            a, m = np.stack([(a[:, 0] + y) % q, (a[:, 0] + q - y) % q], 1), m * 2
        return a.reshape(-1)
    def inverse(self, a, limb):
        q, w = self.tables(limb); m = self.n // 2
        while m:
            a = a.reshape(m, 2, -1); d = (a[:, 1] + q - a[:, 0]) % q * w[m:2 * m][::-1, None] % q
            a, m = np.stack([(a[:, 0] + a[:, 1]) % q, d], 1), m // 2
        a = (a.reshape(-1) * np.uint64(pow(self.n, -1, int(q))) % q).astype(np.int64)
        return np.where(a > int(q) // 2, a - int(q), a)
    def evaluated(self, name, coefficients, limb):
        return self.cache[name, limb] if (name, limb) in self.cache else self.cache.setdefault((name, limb), self.forward(coefficients, limb))
def secrets(path):
    assert os.stat(path).st_mode & 0o077 == 0, f"{path} is readable by others"
    f = Fields(path, [1]); weights = f("I"), f("I"); f("32s"); f.end(2 << f.log_n)
    s, t = f.payload.view(np.int8).astype(np.int64).reshape(2, -1)
    for x, weight in ((s, weights[0]), (t, weights[1])):
        assert np.abs(x).max() <= 1 and (weight == 2**32 - 1 or np.count_nonzero(x) == weight), "a secret of another weight"
    return f, s, t
def check_server_keys(path, client, ring, s, t):
    f = Fields(path, [2]); assert f.key == client.key and f.params == client.params, "keys of another client"
    used, worst, squares, count, n, kinds = 0, 0, 0.0, 0, ring.n, []
    for _ in range(f("I")):
        what, g, limbs, special = f("I"), f("I"), f.list("H"), f.list("H")
        digits = [f.list("H") for _ in range(f("I"))]; offset, length, _ = f("Q"), f("Q"), f("32s")
        assert sorted(sum(digits, [])) == sorted(limbs) and not set(limbs) & set(special) and offset == used
        used, order = used + length, limbs + special; p = np.prod([ring.primes[l][0] for l in special], dtype=object)
        words = f.polys(offset, length, (len(digits), 2, len(order), n)); kinds.append((what, g))
        at = np.arange(n) * pow(g, -1, 2 * n) % (2 * n); moved = np.zeros(n, np.int64); moved[at % n] = np.where(at < n, s, -s)
        for j, digit in enumerate(digits):
            for k, limb in enumerate(order):
                q = np.uint64(ring.primes[limb][0]); main = ring.evaluated("s", s, limb); sparse = ring.evaluated("t", t, limb)
                source = main * main % q if what == 0 else sparse if what == 3 else main
                to = sparse if what == 2 else ring.evaluated(("moved", len(kinds)), moved, limb) if what == 1 else main
                b, a = words[j, 0, k].astype(np.uint64), words[j, 1, k].astype(np.uint64); assert max(b.max(), a.max()) < q
                e = (b + a * to) % q
                if limb in digit: e = (e + q - source * np.uint64(p % int(q)) % q) % q
                e = ring.inverse(e, limb); first = e if k == 0 else first
                assert np.array_equal(e, first), f"key {what}/{g}, digit {j}, limb {limb}: not an encryption of its source"
            worst = max(worst, np.abs(first).max()); squares += float((first**2).sum()); count += n
        for limb in order: ring.cache.pop((("moved", len(kinds)), limb), None)
    f.end(used); assert len(set(kinds)) == len(kinds) and worst <= 40 and 3.0 < (squares / count) ** 0.5 < 3.4
    print(f"{path}: {len(kinds)} key-switching keys, errors of deviation {(squares / count)**0.5:.3f}, largest {worst}; nothing else")
def ciphertexts(path, client):
    f = Fields(path, [3, 4]); assert f.key == client.key and f.params == client.params, "ciphertexts of another client"
    used, found, _ = 0, [], f("32s")
    for _ in range(f("I")):
        group = dict(port=f.text(), run=f("Q"), batch=f("I"), count=f("I"), shape=f.list("I"), unit=f("d"), parts=[])
        for _ in range(f("I")):
            _, scale, exponent, _, polys, limbs, elements = f("I"), int.from_bytes(f("16s"), "little"), f("i"), f("I"), f("I"), f.list("H"), np.array(f.list("i"))
            offset, length, _ = f("Q"), f("Q"), f("32s"); assert offset == used; used += length
            group["parts"].append((limbs, scale * 2.0**exponent, elements, f.polys(offset, length, (polys, len(limbs), 1 << f.log_n))))
        found.append(group)
    f.end(used); return found
def slots(part, ring, s, changed=0):
    limbs, scale, _, words = part; m = []                      # the two largest limbs hold any message
    two = sorted(range(len(limbs)), key=lambda k: ring.primes[limbs[k]][0])[-2:]; q = [ring.primes[limbs[k]][0] for k in two]
    for k in two:
        c0, c1 = words[0, k].astype(np.uint64), words[1, k].astype(np.uint64); c0[0] = (int(c0[0]) + changed) % ring.primes[limbs[k]][0]
        m.append(ring.inverse((c0 + c1 * ring.evaluated(("s", id(s)), s, limbs[k])) % np.uint64(ring.primes[limbs[k]][0]), limbs[k])); changed = 0
    high = (m[1] - m[0]) % q[1] * pow(q[0], -1, q[1]) % q[1]; high = np.where(high > q[1] // 2, high - q[1], high)
    powers = np.array([pow(5, j, 2 * ring.n) // 2 for j in range(ring.n // 2)])
    return (np.fft.ifft((m[0] + q[0] * high) * np.exp(1j * np.pi * np.arange(ring.n) / ring.n)) * ring.n)[powers] / scale
if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__); a.add_argument("client_key"); a.add_argument("--server-keys"); a.add_argument("--other-key"); a.add_argument("--tolerance", type=float, default=1e-3)
    a.add_argument("--values", nargs=2, action="append", default=[]); a.add_argument("--twice", nargs=2); a = a.parse_args()
    client, s, t = secrets(a.client_key); ring = Ring(client)
    if a.server_keys: check_server_keys(a.server_keys, client, ring, s, t)
    for path, values in a.values:
        groups, out = ciphertexts(path, client), {}
        for g in sorted(groups, key=lambda g: g["run"]):
            lanes = np.full((g["count"], int(np.prod(g["shape"]))), np.nan)
            for part in g["parts"]:
                x = slots(part, ring, s).real.reshape(-1, g["batch"])[part[2] >= 0, :g["count"]] * g["unit"]
                if part[2].max() < lanes.shape[1]: lanes[:, part[2][part[2] >= 0]] = x.T
            out.setdefault(g["port"], []).append(lanes.reshape(-1, *g["shape"]))
        for port in out:
            known = np.load(values); mine = np.concatenate(out[port]); theirs = known[port if port in known else "in_" + port][:len(mine)]
            error = np.abs(mine - theirs).max(); print(f"{path}: {port}{list(mine.shape)} decrypts to {values}, largest difference {error:.2e}"); assert error <= a.tolerance
        part = groups[0]["parts"][0]; good = slots(part, ring, s); broken = np.median(np.abs(slots(part, ring, s, 1) - good)); assert broken > 1, "one changed coefficient went unnoticed"
        for k, limb in enumerate(part[0]):
            q = ring.primes[limb][0]; bins = np.bincount((part[3][:, k].astype(np.uint64).reshape(-1) * np.uint64(64) // np.uint64(q)).astype(int), minlength=64); e = 2 * ring.n / 64
            assert abs(((bins - e)**2 / e).sum() - 63) < 6 * 126**0.5, "residues are not uniform"
        print(f"{path}: residues uniform (chi squared); one changed residue moves slots by {broken:.1e} (median)")
        if a.other_key: wrong = np.median(np.abs(slots(part, ring, secrets(a.other_key)[1]))); assert wrong > 100; print(f"{path}: another key reads noise of size {wrong:.1e}")
    if a.twice:
        pairs = [(x[3], y[3]) for g, h in zip(*(ciphertexts(p, client) for p in a.twice)) for x, y in zip(g["parts"], h["parts"])]
        same = sum(int((x == y).sum()) for x, y in pairs); assert same < 20 + sum(x.size for x, _ in pairs) / 2**18, "two encryptions share residues"; print(f"encrypted twice: {same} of {sum(x.size for x, _ in pairs)} residues agree, as chance has it")
    print("all checks passed")
