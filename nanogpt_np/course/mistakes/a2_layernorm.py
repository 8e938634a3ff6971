"""Known mistakes in layer norm: what assignment a2 can call by its name."""

from ..assignments.a2_layernorm import ASSIGNMENT

MEAN = "x.mean(axis=-1, keepdims=True)"
VARIANCE = "(centered * centered).mean(axis=-1, keepdims=True)"
ROOT = "np.sqrt(variance + self.eps)"
OUTPUT = "normalized * self.weight + self.bias"
RETURN = f'return trace("hook_output", {OUTPUT})'


def mistake(words, *edits):
    ASSIGNMENT.mistake("LayerNorm.__call__", words, *edits)


mistake(
    "the variance divides by C - 1, not by C: np.std and np.var with ddof=1, or torch's default",
    (VARIANCE, "(centered * centered).sum(axis=-1, keepdims=True) / max(1, x.shape[-1] - 1)"),
)
mistake("the epsilon is outside the root: sqrt(variance) + eps", (ROOT, "np.sqrt(variance) + self.eps"))
mistake("epsilon is 1e-6, whatever self.eps says", (ROOT, "np.sqrt(variance + 1e-6)"))
mistake("epsilon is 1e-5, whatever self.eps says", (ROOT, "np.sqrt(variance + 1e-5)"))
mistake("epsilon is forgotten: a quiet row is blown up", (ROOT, "np.sqrt(variance)"))
mistake("epsilon is squared", (ROOT, "np.sqrt(variance + self.eps**2)"))
mistake("the gain is forgotten: times weight", ("normalized * self.weight", "normalized"))
mistake("the bias is forgotten: plus bias", (" + self.bias", ""))
mistake("gain and bias are forgotten", (OUTPUT, "normalized"))
mistake("the gain is weight + 1", ("normalized * self.weight", "normalized * (self.weight + 1)"))
mistake("the bias is subtracted, not added", ("+ self.bias", "- self.bias"))
mistake(
    "the bias is added before the gain: (normalized + bias) * weight",
    (OUTPUT, "(normalized + self.bias) * self.weight"),
)
mistake(
    "the mean is subtracted for the variance only, not from x itself",
    ("centered / scale", "x / scale"),
)
mistake(
    "the mean is never subtracted (this is RMSNorm, which GPT-2 does not use)",
    (f"x - {MEAN}", "x"),
)
mistake(
    "the mean is subtracted, but the squares of x are averaged, not those of x - mean",
    (VARIANCE, "(x * x).mean(axis=-1, keepdims=True)"),
)
mistake(
    "the variance is mean(x^2) - mean(x)^2, and float32 has too few digits for two large numbers that nearly cancel",
    (VARIANCE, "(x * x).mean(axis=-1, keepdims=True) - x.mean(axis=-1, keepdims=True) ** 2"),
)
mistake("it divides by the variance, not by its root", (ROOT, "variance + self.eps"))
mistake(
    "the mean is over all numbers, not over each row",
    (MEAN, "x.mean()"),
    (VARIANCE, "(centered * centered).mean() + 0 * x[..., :1]"),
)
mistake(
    "means are over the first axis (the tokens), not over the last (the columns)",
    (MEAN, "x.mean(axis=0, keepdims=True)"),
    (VARIANCE, "(centered * centered).mean(axis=0, keepdims=True)"),
)
mistake("it divides by the sum of the squares' root, not their mean's", (VARIANCE, VARIANCE.replace("mean", "sum")))
mistake(
    "the normalized vector is returned: gain, bias and hook_output are forgotten",
    (RETURN, "return normalized"),
)
mistake("hook_output is not announced", (RETURN, f"return {OUTPUT}"))
mistake(
    "hook_scale is announced before the root is taken",
    (f'trace("hook_scale", {ROOT})', 'np.sqrt(trace("hook_scale", variance + self.eps))'),
)
mistake(
    "the trace gets the output before the bias is added",
    (RETURN, 'return trace("hook_output", normalized * self.weight) + self.bias'),
)
mistake(
    "what trace returns is not used: x = trace(name, x)",
    (
        'scale = trace("hook_scale", np.sqrt(variance + self.eps))',
        'trace("hook_scale", scale := np.sqrt(variance + self.eps))',
    ),
    (
        'normalized = trace("hook_normalized", centered / scale)',
        'trace("hook_normalized", normalized := centered / scale)',
    ),
    (RETURN, f'trace("hook_output", output := {OUTPUT})\n    return output'),
)
