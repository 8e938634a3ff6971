"""Known mistakes in AdamW and a training step: what assignment a9 can call by its name.

As in `a8_backward.py`: ``{function: {words: edits of the package's source}}``.
"""

from ..assignments.a9_adamw import ASSIGNMENT

KEEP = "keep = 1 - lr * self.weight_decay if self.decayed(name, array) else 1.0"
RATE = "step, root = lr / (1 - b1**self.steps), math.sqrt(1 - b2**self.steps)"
MOVE = "p -= step * m / (np.sqrt(v) / root + self.eps)"
LOOP = "for name, array in self.params.items():"
M, V = "m += (1 - b1) * (g - m)", "v += (1 - b2) * (g * g - v)"
LENGTHS = "float(np.linalg.norm(g)) for g in grads.values()"
SQUARES = 'float(np.einsum("i,i", g.ravel(), g.ravel(), dtype=np.float64)) for g in grads.values()'
NORM = f"norm = math.sqrt(sum({SQUARES}))"
LONGER = "if limit < norm < math.inf:"
SCALE = "g *= np.float64(limit / norm)"
RISE = "return peak * (step + 1) / warmup"
DONE = "done = min(1.0, (step - warmup) / max(1, steps - warmup))"
FALL = "return final + 0.5 * (peak - final) * (1 + math.cos(math.pi * done))"
COUNTS = "counts = [int((targets != IGNORED).sum()) for _, targets in batches]"
SHARE = "share = count / sum(counts)"
ADD = "grads[name] += share * new[name]"
EACH = "    for name in grads:"
CLIP = "clip_by_global_norm(grads, limit)"

MISTAKES = {
    "AdamW.step": {
        "biases and LayerNorms decay too": ((KEEP, "keep = 1 - lr * self.weight_decay"),),
        "nothing decays": ((KEEP, "keep = 1.0"),),
        "matrices decay and others do not, whatever self.decayed says": (
            ("self.decayed(name, array)", "array.ndim > 1"),
        ),
        "the decay is not multiplied by lr": ((KEEP, KEEP.replace("1 - lr * ", "1 - ")),),
        "the decay is added to the gradient (that is Adam with L2, not AdamW)": (
            (KEEP, "keep, decay = 1.0, self.weight_decay if self.decayed(name, array) else 0.0"),
            (M, f"g = g + decay * p\n            {M}"),
        ),
        "the decay comes after the move, so it acts on what the step has already changed": (
            ("p *= keep", ""),
            (MOVE, f"{MOVE}\n            p *= keep"),
        ),
        "parameters grow by the decay": ((KEEP, KEEP.replace("1 - lr", "1 + lr")),),
        "the correction of the mean is missing": ((RATE, RATE.replace("lr / (1 - b1**self.steps)", "lr")),),
        "the correction of the square is missing": ((RATE, RATE.replace("math.sqrt(1 - b2**self.steps)", "1.0")),),
        "both corrections are missing": ((RATE, "step, root = lr, 1.0"),),
        "the correction of the square is not under the root": (
            (RATE, RATE.replace("math.sqrt(1 - b2**self.steps)", "(1 - b2**self.steps)")),
        ),
        "steps is still 0 when the averages are corrected: a division by 0": (("self.steps += 1", ""),),
        "steps is never raised: each step is corrected as the first": (
            ("self.steps += 1", ""),
            (RATE, RATE.replace("self.steps", "(self.steps + 1)")),
        ),
        "the corrections count the steps from 2, not from 1": ((RATE, RATE.replace("self.steps", "(self.steps + 1)")),),
        "epsilon is inside the root": ((MOVE, "p -= step * m / np.sqrt(v / root**2 + self.eps)"),),
        "epsilon is added before the correction of the square": (
            (MOVE, "p -= step * m / ((np.sqrt(v) + self.eps) / root)"),
        ),
        "epsilon is 1e-8, whatever self.eps says": ((MOVE, MOVE.replace("self.eps", "1e-8")),),
        "the betas are exchanged": (("b1, b2 = self.betas", "b2, b1 = self.betas"),),
        "the betas are 0.9 and 0.999, whatever self.betas says": (("b1, b2 = self.betas", "b1, b2 = 0.9, 0.999"),),
        "each average takes b of the new and 1 - b of the old": (
            (M, "m += b1 * (g - m)"),
            (V, "v += b2 * (g * g - v)"),
        ),
        "the new gradient is added to the mean whole, not 1 - b1 of it": ((M, "m += g - (1 - b1) * m"),),
        "the second average is of the gradient, not of its square": ((V, "v += (1 - b2) * (np.abs(g) - v)"),),
        "the root of the second average is forgotten": ((MOVE, "p -= step * m / (v / root**2 + self.eps)"),),
        "the parameter moves by the gradient of this step, not by the mean": (
            (MOVE, MOVE.replace("step * m", "lr * g")),
        ),
        "parameters move with the gradient, not against it": ((MOVE, MOVE.replace("p -= ", "p += ")),),
        "it loops over `grads`, not self.params: a gradient of a parameter that must not move breaks it": (
            (LOOP, "for name, array in ((name, self.params[name]) for name in grads):"),
        ),
        "parameters are new arrays: the model keeps the old ones": (
            (LOOP, "self.params = {name: array.copy() for name, array in self.params.items()}\n    " + LOOP),
        ),
    },
    "clip_by_global_norm": {
        "each gradient is clipped by itself, so that the direction changes": (
            (LONGER, "if True:"),
            (SCALE, "g *= min(1.0, limit / max(np.linalg.norm(g), 1e-30))"),
        ),
        "short gradients are made longer, up to the limit": ((LONGER, "if True:"),),
        "gradients a little longer than the limit are left as they are": ((LONGER, "if norm > 1.1 * limit:"),),
        "it returns the length after the clipping": (("return norm", "return min(norm, limit)"),),
        "it returns the gradients, not their length": (("return norm", "return grads"),),
        "it returns nothing": (("return norm", "return None"),),
        "new arrays are put into the dict, and whoever holds the old ones sees nothing": (
            ("for g in grads.values():", "for name, g in grads.items():"),
            (SCALE, "grads[name] = g * (limit / norm)"),
        ),
        "new arrays are made that nobody sees: nothing is clipped": ((SCALE, "g = g * (limit / norm)"),),
        "lengths are added, not their squares": ((NORM, f"norm = sum({LENGTHS})"),),
        "the root is forgotten": ((NORM, NORM.replace("math.sqrt", "")),),
        "it takes the largest of the lengths, not the joint one": ((NORM, f"norm = max({LENGTHS})"),),
        "it takes the mean of the squares, not their sum": (
            (NORM, f"{NORM} / math.sqrt(sum(g.size for g in grads.values()))"),
        ),
        "every number is cut to between -limit and limit": (
            (LONGER, "if True:"),
            (SCALE, "np.clip(g, -limit, limit, out=g)"),
        ),
        "gradients are divided by their length: limit is forgotten": ((SCALE, "g /= norm"),),
    },
    "learning_rate": {
        "the rise begins at 0: the first step does nothing": ((RISE, "return peak * step / warmup"),),
        "the rise is divided by warmup + 1, and does not reach peak": (
            (RISE, "return peak * (step + 1) / (warmup + 1)"),
        ),
        "the rise takes one step more: step <= warmup": (
            ("step < warmup", "step <= warmup"),
            (RISE, f"{RISE} if warmup else peak"),
        ),
        "there is no rise": (
            ("step < warmup", "False"),
            ("(step - warmup)", "max(0, step - warmup)"),
        ),
        "the rise begins at final, not near 0": ((RISE, "return final + (peak - final) * (step + 1) / warmup"),),
        "the fall ends at 0, not at final": ((FALL, "return 0.5 * peak * (1 + math.cos(math.pi * done))"),),
        "final is added to a fall from peak to 0": (
            (FALL, "return final + 0.5 * peak * (1 + math.cos(math.pi * done))"),
        ),
        "the fall is counted from step 0, not from the end of the rise": (
            (DONE, "done = min(1.0, step / max(1, steps))"),
        ),
        "the fall takes `steps` steps more after the rise": (
            (DONE, "done = min(1.0, (step - warmup) / max(1, steps))"),
        ),
        "the fall is one step ahead: step + 1": (
            (DONE, "done = min(1.0, (step + 1 - warmup) / max(1, steps - warmup))"),
        ),
        "the fall ends one step early, at steps - 1": (
            (DONE, "done = min(1.0, (step - warmup) / max(1, steps - 1 - warmup))"),
        ),
        "the fall is a line, not a cosine": ((FALL, "return final + (peak - final) * (1 - done)"),),
        "the cosine goes full circle: down, and up again": ((FALL, FALL.replace("math.pi", "2 * math.pi")),),
        "the half is forgotten: the fall begins at 2 peak": ((FALL, FALL.replace("0.5 * ", "")),),
        "the cosine is upside down: it rises from final to peak": ((FALL, FALL.replace("1 + math", "1 - math")),),
        "the cosine continues after the last step, and rises again": ((DONE, DONE.replace("min(1.0, ", "(")),),
        "the cosine is computed in degrees: it hardly falls": (
            (FALL, FALL.replace("math.pi", "math.radians(math.pi)")),
        ),
    },
    "train_step": {
        "all batches weigh the same, though they count different numbers of tokens": (
            (SHARE, "share = 1 / len(counts)"),
        ),
        "targets of -100 are counted as well": ((COUNTS, "counts = [targets.size for _, targets in batches]"),),
        "the batches' losses and gradients are added up, not averaged": ((SHARE, "share = 1.0"),),
        "each batch's gradient replaces the one before": ((ADD, "grads[name] = share * new[name]"),),
        "the last batch alone counts": (
            (ADD, "grads[name] = new[name]"),
            ("total += share * loss", "total = loss"),
        ),
        "the loss is that of the last batch": (("total += share * loss", "total = loss"),),
        "the loss is the sum of the batches' means": (("total += share * loss", "total += loss"),),
        "the gradient is not clipped, or only after the step, when it is too late": (
            (CLIP, ""),
            ("optimizer.step(grads, lr)", f"optimizer.step(grads, lr)\n    {CLIP}"),
        ),
        "each batch is clipped by itself, not their sum": (
            (CLIP, "pass"),
            (
                EACH,
                "    new = {name: new[name].copy() for name in grads}\n"
                f"        clip_by_global_norm(new, limit)\n    {EACH}",
            ),
        ),
        "the gradients of parameters that do not move count in the clipping": (
            ("{name: np.zeros_like(array) for name, array in optimizer.params.items()}", "{}"),
            ("for name in grads:", "for name in new:"),
            (ADD, "grads[name] = grads.get(name, 0) + share * new[name]"),
        ),
        "the limit is 1, whatever `limit` says": ((CLIP, "clip_by_global_norm(grads, 1.0)"),),
        "the optimizer takes a step for each batch": (
            (ADD, "grads[name] = new[name].copy()"),
            (f"    {CLIP}\n    optimizer.step(grads, lr)\n", ""),
            ("    return total", f"        {CLIP}\n        optimizer.step(grads, lr)\n    return total"),
        ),
        "the loss is taken after the step": (
            (
                "return total",
                "return sum(n * loss_and_grads(*batch)[0] for n, batch in zip(counts, batches)) / sum(counts)",
            ),
        ),
        "the step goes up the gradient": (("optimizer.step(grads, lr)", "optimizer.step(grads, -lr)"),),
    },
}

for function, mistakes in MISTAKES.items():
    for words, edits in mistakes.items():
        ASSIGNMENT.mistake(function, words, *edits)
