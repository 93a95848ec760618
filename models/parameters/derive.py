#!/usr/bin/env python3
"""Derives heron's modulus chains and writes them out: JSON for readers, a Rust table for the schedule crate.

usage: python3 models/parameters/derive.py        (from the repository root; Python 3.9+, standard library only)

Writes models/parameters/{paper,secure,deep}.json and compiler/schedule/src/params/tables.rs. Deterministic: fixed seed,
integers and decimals only where a value is written. README.md beside this file explains the chain;
`cargo test -p heron-schedule params` checks every claim again in Rust without this script.

The ladder ("period two"): A, B are the two smallest NTT primes. Even rows hold one terminal D_i, odd rows A and B:
    row 2i   = mains[0 .. 3i+1) + {D_i}
    row 2i+1 = mains[0 .. 3i+2) + {A, B}       one main enters:  log(main) = delta - log(AB) + log(D_i)
    row 2i+2 = mains[0 .. 3i+4) + {D_i+1}      two mains enter:  log sum   = delta + log(AB) - log(D_i+1)
so two levels of `delta` bits cost three limbs, and every D_i is live again in the CoeffsToSlots rows.
"""
import json, math, os, random
from decimal import Decimal, getcontext

def is_prime(n):
    """Miller-Rabin with bases that make it exact below 3.2e9."""
    if n < 2 or n % 2 == 0: return n == 2
    d, s = n - 1, 0
    while d % 2 == 0: d //= 2; s += 1
    for a in (2, 3, 5, 7):
        if n == a: return True
        x = pow(a, d, n)
        if x in (1, n - 1): continue
        for _ in range(s - 1):
            x = x * x % n
            if x == n - 1: break
        else: return False
    return True

PRIMES = [k * 2**17 + 1 for k in range(1, 2048) if is_prime(k * 2**17 + 1)]
LG = {p: math.log2(p) for p in PRIMES}
A, B, C = 786433, 1179649, 2752513          # the odd rows' terminals; with C they boost the scale of T2 in EvalMod
RESERVED_SPECIAL = 17                       # the largest primes are kept out of Q, whatever P takes of them
DELTA, STC, CTS = 40.0, 3, 3
EXCESS = 8.0                                # bits by which P exceeds every digit
EVALMOD_PAIR = 49.5                         # log2 of the two primes an EvalMod row divides out
lg = lambda xs: sum(LG[x] for x in xs)

def build(n, tol):
    """Rows bottom-up: q0, SlotsToCoeffs, n usable levels (odd), eight EvalMod rows, CtS."""
    big = [p for p in PRIMES if p > 2**26]
    special = sorted(big)[-RESERVED_SPECIAL:]
    free = set(big) - set(special)
    ab = LG[A] + LG[B]
    rows = n + STC
    npair = rows // 2
    fl = sorted(free)
    # (D, main) with main - D = delta - ab: the smallest D there are, since q0, EvalMod's first row and the CtS rows are made of them
    cand = [(abs(LG[m] - LG[D] - (DELTA - ab)), D, m) for D in fl if 26.0 < LG[D] < 27.25 for m in fl]
    cand = sorted((c for c in cand if c[0] < tol), key=lambda c: (LG[c[1]], c[0]))
    use, seen = [], set()
    for c in cand:
        if len(use) < npair and not set(c[1:]) & seen: use.append(c); seen |= set(c[1:])
    assert len(use) == npair, 'not enough exact pairs'
    Ds, singles = [u[1] for u in use], [u[2] for u in use]
    free -= seen

    def pair(target, pool):
        f = sorted(pool); best = (9, None); i, j = 0, len(f) - 1
        while i < j:
            s = LG[f[i]] + LG[f[j]] - target
            if abs(s) < best[0]: best = (abs(s), (f[i], f[j]))
            if s > 0: j -= 1
            else: i += 1
        pool.difference_update(best[1]); return list(best[1])

    m0 = min(free); free.discard(m0)
    top_d = min(free); free.discard(top_d); Ds.append(top_d)
    targets = [DELTA + ab - LG[D] for D in Ds[1:]]
    rnd, best, keep = random.Random(5), None, set(free)
    for _ in range(300):                    # the matching with the smallest worst error among 300 restarts
        pool = {p for p in sorted(keep) if rnd.random() < 0.85}
        order = list(range(npair)); rnd.shuffle(order); mids = [None] * npair
        for i in order: mids[i] = pair(targets[i], pool)
        worst = max(abs(lg(mids[i]) - targets[i]) for i in order)
        if best is None or worst < best[0]: best = (worst, mids)
    mids = best[1]

    table, mains = [], [m0]
    row = lambda kind, terms: table.append((kind, list(terms) + list(mains)))
    kind = lambda l: 'base' if l == 0 else 'stc' if l <= STC else 'level'
    for i in range(npair):
        row(kind(2 * i), [Ds[i]]); mains.append(singles[i])
        row(kind(2 * i + 1), [A, B]); mains += mids[i]
    t = [Ds[npair]]; row(kind(rows), t)
    # EvalMod, bottom up: five rows of two primes near 2^25; A·B·C and two of the D_i where noise counts most, at T2 and u; y
    small = {p for p in PRIMES if 2**24 < p < 2**26}
    for _ in range(5): mains += pair(EVALMOD_PAIR, small); row('evalmod', t)
    t = t + [A, B, C]; row('evalmod', t)
    rest = sorted(Ds[:-1], key=lambda d: LG[d])
    while len(rest) < 2 * CTS + 2:
        x = max(p for p in small if p < 2**25.5); small.discard(x); rest.append(x)
    def two():
        for x in (rest.pop(0), rest.pop()): (t if x in Ds else mains).append(x)
    t = list(t); two(); row('evalmod', t)
    if len(rest) > 2 * CTS:                 # one D_i too many for the CtS rows: it serves y, with a small prime
        d = rest.pop(len(rest) // 2); used = {p for _, limbs in table for p in limbs} | set(rest)
        t = t + [d]
        mains.append(min((p for p in PRIMES if 2**22 < p < 2**24.5 and p not in used), key=lambda p: abs(LG[d] + LG[p] - EVALMOD_PAIR)))
    else: mains += pair(EVALMOD_PAIR, small)
    row('evalmod', t)
    for _ in range(CTS):
        t = list(t); two(); row('cts', t)
    assert not rest
    return table, special

def scale_top(table, n):
    """40 fractional bits of D of the highest usable row n, such that D_0 = 2^40 under D_{l-1} = D_l^2 Q_{l-1}/Q_l."""
    getcontext().prec = 120
    log2 = lambda x: Decimal(x).ln() / Decimal(2).ln()
    x = Decimal(int(DELTA))
    for l in range(1, n + 1):
        x = (x + sum(map(log2, table[l][1])) - sum(map(log2, table[l - 1][1]))) / 2
    return int(((x + 40) * Decimal(2).ln()).exp().to_integral_value())

def digits(table, most):
    """Chunks of at most `most` bits in order of first use from the bottom row, so that dead digits vanish at low rows."""
    out, seen = [[]], set()
    for _, limbs in table:
        for p in sorted(set(limbs) - seen):
            if lg(out[-1]) + LG[p] > most: out.append([])
            out[-1].append(p); seen.add(p)
    return out

def chain(name, n, special_limbs, tol):
    table, special = build(n, tol)
    P = special[-special_limbs:]
    dg = digits(table, lg(P) - EXCESS)
    enc = special[-2:]                       # also the two largest primes of P; the ephemeral key uses them alone
    return dict(name=name, levels=n, rows=[dict(kind=k, limbs=sorted(l, key=sum(dg, []).index), log2_q=round(lg(l), 6)) for k, l in table],
                digits=dg, special=P, encapsulation=enc, scale_top_times_2_40=str(scale_top(table, n + STC)),
                log2_q=round(lg(table[-1][1]), 6), log2_p=round(lg(P), 6), log2_qp=round(lg(table[-1][1]) + lg(P), 6),
                log2_encapsulation=round(lg(table[0][1]) + lg(enc), 6))

def rust(chains):
    out = ['//! Generated by `models/parameters/derive.py`; do not edit. See `models/parameters/README.md`.', '',
           'use super::chain::Chain;', 'use super::RowKind::{Base, CoeffsToSlots, EvalMod, SlotsToCoeffs, Usable};', '']
    kinds = dict(base='Base', level='Usable', stc='SlotsToCoeffs', evalmod='EvalMod', cts='CoeffsToSlots')
    for c in chains:
        primes = sum(c['digits'], []) + c['special']
        idx = lambda xs: '&[' + ', '.join(str(primes.index(x)) for x in xs) + ']'
        num = lambda xs: '&[' + ', '.join(map(str, xs)) + ']'
        title = f"The `{c['name']}` chain: {c['levels']} levels between bootstraps, log2 QP = {c['log2_qp']:.1f}."
        out += [f'/// {title}', '#[rustfmt::skip]', f"pub(super) static {c['name'].upper()}: Chain<'static> = Chain {{",
                f'    primes: {num(primes)},', f"    digit_sizes: {num([len(d) for d in c['digits']])},",
                f"    special: {idx(c['special'])},", f"    encapsulation: {idx(c['encapsulation'])},",
                f"    scale_top_times_2_40: {c['scale_top_times_2_40']},", f"    top_usable: {c['levels'] + STC},", '    rows: &[']
        out += [f"        ({kinds[r['kind']]}, {idx(r['limbs'])})," for r in c['rows']]
        out += ['    ],', '};', '']
    return '\n'.join(out[:-1]) + '\n'

def main():
    here = os.path.dirname(os.path.abspath(__file__))
    chains = [chain('paper', 9, 14, 3.4e-4), chain('secure', 13, 12, 1e-3), chain('deep', 15, 9, 1e-3)]
    for c in chains:
        with open(os.path.join(here, c['name'] + '.json'), 'w') as f:
            parts = []
            for k, v in c.items():
                if k in ('rows', 'digits'): v = '[\n' + ',\n'.join('  ' + json.dumps(x) for x in v) + '\n ]'
                else: v = json.dumps(v)
                parts.append(f' {json.dumps(k)}: {v}')
            f.write('{\n' + ',\n'.join(parts) + '\n}\n')
    with open(os.path.join(here, '../../compiler/schedule/src/params/tables.rs'), 'w') as f: f.write(rust(chains))

if __name__ == '__main__': main()
