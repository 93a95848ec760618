"""Joins the JSON lines of heron and of the peers and prints the ratios: peers.py LINES.jsonl THREADS. Standard library only."""
import json
import statistics
import sys

# Name in the table, heron's lines that are added up, the peers' lines that are added up (spellings of a peer after each other).
OPS = [
    ("add", ["add"], [["add_ct"]]),
    ("multiply by plaintext", ["multiply_plain"], [["mul_pt"]]),
    ("multiply, relinearise, rescale", ["multiply"], [["mul_ct_relin"], ["rescale"]]),
    ("rescale", ["rescale"], [["rescale"]]),
    ("rotate", ["rotate"], [["rotate"]]),
    ("rotate, each of 8 hoisted", ["rotate_hoisted"], [["rotate_hoisted_k8_each"]]),
    ("encode", ["encode"], [["encode", "encode (float32 copy in)"]]),
    ("decrypt and decode", ["decrypt"], [["decrypt_decode"]]),
]
# log2 of the peers' modulus by their level: 45 bits a level above a prime of 60.
PEER_LOG_Q = {24: 1140, 9: 465}
MATRIX = "matrix 128x128 by 128x256"

# Figures of an idle machine with two cores, Intel server CPU with AVX-512 IFMA: cpu-ckks.md of the project's design notes, section 3
# (operations, milliseconds at level 24 and level 9; the product of matrices there says 2.8 to 3.2 s, here the middle) and section 4
# (bootstraps of 32768 slots at N = 2^16, seconds, by threads). OpenFHE 1.6.1, Lattigo v6, poulpy-ckks 0.10.0.
RECORDED_OPS = {
    "openfhe": {
        1: {"encode": (28.2, 11.9), "decrypt_decode": (216, 85), "add_ct": (6.8, 1.7), "mul_pt": (12.3, 3.3), "mul_ct_relin": (322, 123),
            "rescale": (45.8, 18.2), "rotate": (300, 117), "rotate_hoisted_k8_each": (192, 79), MATRIX: (None, 3000)},
        2: {"encode": (17.9, 8.0), "decrypt_decode": (117, 52), "add_ct": (3.5, 1.3), "mul_pt": (5.1, 2.1), "mul_ct_relin": (158, 61),
            "rescale": (23.8, 10.3), "rotate": (155, 54), "rotate_hoisted_k8_each": (93, 37)},
    },
    "lattigo": {
        1: {"encode": (52, 29), "decrypt_decode": (327, 99), "add_ct": (33, 4.5), "mul_pt": (45, 7.0), "mul_ct_relin": (343, 110),
            "rescale": (45.0, 16.8), "rotate": (310, 100)},
    },
}
# Seconds and levels left times bits.
RECORDED_BOOT = {
    "openfhe": {1: (24.7, 312), 2: (13.8, 312)},
    "lattigo": {1: (22.7, 360)},
    "poulpy-ckks": {1: (16.9, 595), 2: (8.4, 595)},
}


def median(lines, field):
    """The median over rounds of a round's median, None if no line has it."""
    values = [line[field] for line in lines if line.get(field) is not None]
    return statistics.median(values) if values else None


def heron_ops(lines, log_q):
    """Heron's lines of the chain without bootstrapping whose modulus is nearest to the peers'."""
    found = [l for l in lines if l.get("bench") == "ops" and l.get("chain") == "levelled"]
    if not found:
        return []
    nearest = min({l["log_q"] for l in found}, key=lambda q: abs(q - log_q))
    return [l for l in found if l["log_q"] == nearest]


def heron_ms(lines, ops):
    """Milliseconds of heron: wall time, and processor time; hoisted rotations each."""
    sums = [0.0, 0.0]
    for op in ops:
        chosen = [l for l in lines if l["op"] == op]
        per = 8 if op == "rotate_hoisted" else 1
        for i, field in enumerate(["median_s", "cpu_s"]):
            value = median(chosen, field)
            sums[i] = None if value is None or sums[i] is None else sums[i] + value * 1e3 / per
    return sums


def peer_ms(lines, ops):
    """The same of a peer's lines at one level."""
    sums = [0.0, 0.0]
    for spellings in ops:
        chosen = [l for l in lines if l.get("op") in spellings]
        for i, field in enumerate(["median_ms", "cpu_ms"]):
            value = median(chosen, field)
            sums[i] = None if value is None or sums[i] is None else sums[i] + value
    return sums


def recorded(peer, threads, ops, level):
    column = 0 if level == 24 else 1
    table = RECORDED_OPS[peer].get(threads, {})
    values = [next((table[s][column] for s in spellings if s in table), None) for spellings in ops]
    return None if None in values else sum(values)


def number(value, digits=2):
    return "-" if value is None else f"{value:.{digits}f}"


def ratio(a, b):
    return "-" if not a or not b else f"{b / a:.2f}"


def row(*cells):
    print("{:<31} {:<19} {:<12} {:>10} {:>10} {:>8} {:>10}  {}".format(*cells))


def operations(lines, threads):
    row("op", "log Q heron / peer", "peer", "heron ms", "peer ms", "ratio", "cpu ratio", "")
    for level, log_q in PEER_LOG_Q.items():
        ours = heron_ops(lines, log_q)
        if not ours:
            print("no lines of heron")
            return
        moduli = f"{ours[0]['log_q']:.0f} / {log_q}"
        for peer in RECORDED_OPS:
            if peer == "lattigo" and threads > 1 and level == 24:
                print("(Lattigo's evaluator has one thread: its times are those of one)")
            theirs = [l for l in lines if l.get("bench") == "ckks_op" and l.get("peer") == peer and l.get("level") == level]
            for name, heron, peers in OPS:
                mine, my_cpu = heron_ms(ours, heron)
                wall, cpu = peer_ms(theirs, peers)
                note = ""
                if wall is None:
                    wall, note = recorded(peer, 1 if peer == "lattigo" else threads, peers, level), "recorded"
                if wall is not None:
                    show(name, moduli, peer, (mine, my_cpu), (wall, cpu), note, threads)
        if level == 9:
            theirs = [l for l in lines if l.get("bench") == "ckks_matmul" and l.get("peer") == "openfhe"]
            wall, cpu, note = median(theirs, "median_ms"), median(theirs, "cpu_ms"), ""
            if wall is None:
                wall, note = recorded("openfhe", threads, [[MATRIX]], level), "recorded"
            show(MATRIX, moduli, "openfhe", heron_ms(ours, ["matrix_128"]), (wall, cpu), note, threads)
            note = (note + " diagonals encoded: heron meanwhile, peer beforehand").strip()
            show(MATRIX, moduli, "openfhe", heron_ms(ours, ["matrix_128_encode"]), (wall, cpu), note, threads)


def show(name, moduli, peer, mine, theirs, note, threads):
    # Waiting threads of OpenMP spin: processor time says something for one thread only.
    cpu = ratio(mine[1], theirs[1]) if threads == 1 else "-"
    row(name, moduli, peer, number(mine[0]), number(theirs[0]), ratio(mine[0], theirs[0]), cpu, note)


def bootstraps(lines, threads):
    ours = [l for l in lines if l.get("bench") == "bootstrap" and l.get("kind") == "full"]
    if not ours:
        return
    mine, bits = median(ours, "median_s"), median(ours, "usable_bits")
    print(f"\nbootstrap of 32768 slots: heron {mine:.2f} s, {bits:.0f} bits left, {1e3 * mine / bits:.2f} ms a bit")
    for peer, table in RECORDED_BOOT.items():
        theirs = [l for l in lines if l.get("bench") == "ckks_bootstrap" and l.get("peer") == peer and "median_s" in l]
        seconds, note = median(theirs, "median_s"), ""
        left = theirs[0]["levels_left"] * theirs[0]["scale_bits"] if theirs else None
        if seconds is None:
            threads_of = 1 if peer == "lattigo" else threads
            seconds, left = table.get(threads_of, (None, None))
            note = "recorded"
        if seconds is None:
            print(f"  {peer:<12} neither ran nor has a record for {threads} threads")
            continue
        print(f"  {peer:<12} {seconds:.2f} s, {left} bits left: {seconds / mine:.2f} times the time,"
              f" {seconds / left / (mine / bits):.2f} times the time for each bit  {note}")


def main():
    path, threads = sys.argv[1], int(sys.argv[2])
    lines = []
    with open(path) as file:
        for text in file:
            try:
                lines.append(json.loads(text))
            except ValueError:
                print(f"not JSON: {text[:80]!r}", file=sys.stderr)
    print(f"{threads} thread{'s' if threads > 1 else ''}; ms are medians over rounds of medians; ratio = peer / heron;"
          " cpu ratio: of the least processor times\n")
    operations(lines, threads)
    bootstraps(lines, threads)


if __name__ == "__main__":
    main()
