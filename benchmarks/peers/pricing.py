"""Runs other libraries' pricing on request of `bench_pricing.py`, in their own environment: standard library, numpy and they.

Lines of JSON in, one line of JSON out for each: {"load": path of an .npz} -> {"tasks": {task: [peer, ...]}, "missing": {peer: why}};
{"run": [task, peer]} -> {"seconds": CPU time of a call over the batch, or null where it raised, "error": why};
{"save": [task, peer], "path": .npy} -> {"saved": true}. What an interface wants in other units or types is made ready at load
and not charged to it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
import warnings

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[threads] = "1"

import numpy as np  # noqa: E402

GREEKS, IMPLIED = "price and four greeks", "implied volatility"


class Batch:
    """The options, and what some interfaces want of them instead."""

    def __init__(self, path: str) -> None:
        with np.load(path) as file:
            self.f, self.k, self.t, self.vol, self.call, self.price = (
                file[c] for c in ("forward", "strike", "years", "vol", "is_call", "price")
            )
        self.flag = np.where(self.call, "c", "p")
        self.sign = np.where(self.call, 1.0, -1.0)
        self.usd = self.price * self.f
        self.total = self.vol * np.sqrt(self.t)
        self.rows = list(zip(*(column.tolist() for column in (self.flag, self.f, self.k, self.t, self.vol, self.usd)), strict=True))
        # the same option as a call out of the money on a forward of 1
        self.out = -np.abs(np.log(self.f / self.k))
        intrinsic = np.maximum(self.sign * (self.f - self.k), 0.0) / self.f
        self.normal = ((self.price - intrinsic) * np.sqrt(self.f / self.k) * np.exp(-0.5 * self.out)).tolist()
        self.out_list = self.out.tolist()


def coin(batch, usd, delta, gamma, vega, theta):
    """Five arrays in the project's units: price in coin, vega per point, theta per day."""
    return np.array([np.asarray(usd) / batch.f, delta, gamma, vega, theta], dtype=float)


def by_flag(batch, call):
    """An interface that takes one side at a time, over both."""
    out = np.empty(batch.f.size)
    for side, is_side in (("c", batch.call), ("p", ~batch.call)):
        if is_side.any():
            out[is_side] = call(side, is_side)
    return out


def fast_vollib(batch, backend):
    module = importlib.import_module("fast_vollib")
    if backend == "numba":
        importlib.import_module("numba")
    arguments = (batch.flag, batch.f, batch.k, batch.t, 0.0, batch.vol)

    def prices():
        usd = module.fast_black(*arguments, return_as="numpy", backend=backend)
        greeks = module.get_all_greeks(*arguments, model="black", return_as="dict", backend=backend)
        return usd, *(greeks[name] for name in ("delta", "gamma", "vega", "theta"))

    def implied():
        return module.fast_implied_volatility_black(
            batch.usd, batch.f, batch.k, 0.0, batch.t, batch.flag, on_error="ignore", return_as="numpy", backend=backend
        )

    return {GREEKS: (prices, lambda got: coin(batch, *got)), IMPLIED: (implied, np.asarray)}


def opengreeks(batch):
    module = importlib.import_module("opengreeks.black76")
    names = ("black", "delta", "gamma", "vega", "theta")
    sides = [(side, *(np.ascontiguousarray(c[which]) for c in (batch.f, batch.k, batch.t, batch.vol, batch.usd)), which)
             for side, which in (("c", batch.call), ("p", ~batch.call)) if which.any()]  # fmt: skip

    def prices():
        return [[getattr(module, f"{name}_array")(side, f, k, t, 0.0, vol) for name in names] for side, f, k, t, vol, _, _ in sides]

    def implied():
        return [module.implied_volatility_array(usd, f, k, 0.0, t, side) for side, f, k, t, _, usd, _ in sides]

    def whole(parts):
        out = np.empty(batch.f.size)
        for part, side in zip(parts, sides, strict=True):
            out[side[-1]] = part
        return out

    return {
        GREEKS: (prices, lambda got: coin(batch, *(whole([part[i] for part in got]) for i in range(5)))),
        IMPLIED: (implied, whole),
    }


def quantlib(batch):
    ql = importlib.import_module("QuantLib")
    kinds = {"c": ql.Option.Call, "p": ql.Option.Put}
    rows = [(kinds[flag], *rest) for flag, *rest in batch.rows]
    totals = batch.total.tolist()

    def prices():
        out = []
        for (kind, f, k, t, _, _), total in zip(rows, totals, strict=True):
            c = ql.BlackCalculator(ql.PlainVanillaPayoff(kind, k), f, total, 1.0)
            out.append((c.value(), c.deltaForward(), c.gammaForward(), c.vega(t) * 0.01, c.theta(f, t) / 365))
        return out

    def implied():
        out = []
        for kind, f, k, t, _, usd in rows:
            try:
                out.append(ql.blackFormulaImpliedStdDevLiRS(kind, k, f, usd) / t**0.5)
            except RuntimeError:
                out.append(float("nan"))
        return out

    return {GREEKS: (prices, lambda got: coin(batch, *np.array(got).T)), IMPLIED: (implied, np.array)}


def vollib(batch):
    black = importlib.import_module("vollib.black").black
    greeks = importlib.import_module("vollib.black.greeks.analytical")
    solve = importlib.import_module("vollib.black.implied_volatility").implied_volatility
    functions = (greeks.delta, greeks.gamma, greeks.vega, greeks.theta)

    def prices():
        return [(black(flag, f, k, t, 0.0, vol), *(g(flag, f, k, t, 0.0, vol) for g in functions)) for flag, f, k, t, vol, _ in batch.rows]

    def implied():
        out = []
        for flag, f, k, t, _, usd in batch.rows:
            try:
                out.append(solve(usd, f, k, 0.0, t, flag))
            except Exception:  # noqa: BLE001 - its several exceptions all mean: no volatility found
                out.append(float("nan"))
        return out

    return {GREEKS: (prices, lambda got: coin(batch, *np.array(got).T)), IMPLIED: (implied, np.array)}


def lets_be_precise(batch):
    solve = importlib.import_module("lbp").black_iv
    return {IMPLIED: (lambda: list(map(solve, batch.normal, batch.out_list)), lambda got: np.array(got) / np.sqrt(batch.t))}


def iv_engine(batch):
    solve = importlib.import_module("iv_engine").implied_volatilities
    sides = [(flag == "c", *(np.ascontiguousarray(c[which]) for c in (batch.usd, batch.f, batch.k, batch.t)), which)
             for flag, which in (("c", batch.call), ("p", ~batch.call)) if which.any()]  # fmt: skip

    def whole(parts):
        out = np.empty(batch.f.size)
        for part, side in zip(parts, sides, strict=True):
            out[side[-1]] = part
        return out

    return {IMPLIED: (lambda: [solve(usd, f, k, t, side, False) for side, usd, f, k, t, _ in sides], whole)}


def lbriv(batch):
    solve = importlib.import_module("lbriv").vectorized_implied_vol_strikes
    normal, strikes = np.array(batch.normal), np.exp(-batch.out)
    return {IMPLIED: (lambda: solve(normal, 1.0, strikes, 1), lambda got: got / np.sqrt(batch.t))}


PEERS = {
    "fast-vollib (numba)": lambda batch: fast_vollib(batch, "numba"),
    "fast-vollib (numpy)": lambda batch: fast_vollib(batch, "numpy"),
    "opengreeks": opengreeks,
    "QuantLib, a loop": quantlib,
    "vollib, a loop": vollib,
    "lets-be-precise, a loop": lets_be_precise,
    "iv-engine": iv_engine,
    "lbriv": lbriv,
}


def load(path):
    batch = Batch(path)
    calls, missing = {}, {}
    for peer, make in PEERS.items():
        try:
            for task, call in make(batch).items():
                calls[task, peer] = call
        except Exception as error:  # noqa: BLE001 - whatever keeps a library from importing, its name is what matters
            missing[peer] = f"{type(error).__name__}: {error}"
    return calls, missing


def shortest(call):
    """CPU seconds of the quickest of some calls in a row, so that a cache left cold by others is not charged."""
    best, spent = float("inf"), 0.0
    while spent < 0.02:
        start = time.process_time()
        call()
        seconds = time.process_time() - start
        best, spent = min(best, seconds), spent + seconds
    return best


def main() -> None:
    warnings.simplefilter("ignore")
    replies = sys.stdout
    calls = {}
    for line in sys.stdin:
        asked = json.loads(line)
        with contextlib.redirect_stdout(sys.stderr):
            if "load" in asked:
                calls, missing = load(asked["load"])
                tasks = {task: [peer for t, peer in calls if t == task] for task in (GREEKS, IMPLIED)}
                answer = {"tasks": tasks, "missing": missing}
            else:
                call, arrange = calls[tuple(asked.get("run") or asked["save"])]
                try:
                    answer = {"seconds": shortest(call)}
                    if "save" in asked:
                        np.save(asked["path"], arrange(call()))
                except Exception as error:  # noqa: BLE001 - reported as the peer's failure
                    answer = {"seconds": None, "error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(answer) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
