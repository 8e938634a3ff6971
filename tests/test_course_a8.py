"""Assignment a8: other right ways to write each backward pass are not failed, and what is wrong is told in full."""

import pytest
from course_helpers import graded, graded_version, named, statuses, with_body

from nanogpt_np.course import seams, student
from nanogpt_np.course.assignment import get
from nanogpt_np.model import trace

pytestmark = pytest.mark.catalogue

OTHER_WAYS = {
    "cross_entropy": {
        "one-hot rows, log of the sum kept": """
            x = logits if offset is None else logits + offset
            counts = (targets != -100)[:, None]
            one_hot = (np.arange(x.shape[1]) == targets[:, None]).astype(x.dtype)
            log_p = x - x.max(axis=1, keepdims=True)
            log_p = log_p - np.log(np.exp(log_p).sum(axis=1, keepdims=True))
            return -(one_hot * log_p).sum(), counts * (np.exp(log_p) - one_hot)
        """,
        "loops, in floats of Python": """
            loss, d = 0, np.zeros_like(logits)
            for n, target in enumerate(targets):
                if target == -100:
                    continue
                row = [float(a) + (0 if offset is None else float(offset[v])) for v, a in enumerate(logits[n])]
                e = [math.exp(a - max(row)) for a in row]
                loss += math.log(sum(e)) + max(row) - row[target]
                for v in range(len(row)):
                    d[n, v] = e[v] / sum(e) - (v == target)
            return loss, d
        """,
        "logsumexp with the maximum put back, float32 inside": """
            x = (logits if offset is None else logits + offset).astype(np.float32)
            top = x.max(-1)
            total = top + np.log(np.exp(x - top[:, None]).sum(-1))
            rows = np.arange(len(x))[targets >= 0]
            d = np.exp(x - total[:, None])
            d[targets < 0] = 0
            d[rows, targets[rows]] -= 1
            return (total[rows] - x[rows, targets[rows]]).sum(), d
        """,
    },
    "LMHead.backward": {
        "einsum": """
            return np.einsum("nv,vc->nc", d_out, self.weight), {"weight": np.einsum("nv,nc->vc", d_out, x)}
        """,
        "loops over tokens, outer products": """
            d_x, d_weight = np.zeros_like(x), np.zeros_like(self.weight)
            for n in range(len(x)):
                d_x[n] = sum(d * row for d, row in zip(d_out[n], self.weight))
                d_weight += np.outer(d_out[n], x[n])
            return d_x, {"weight": d_weight}
        """,
        "float64 inside": """
            d, wide = d_out.astype(np.float64), self.weight.astype(np.float64)
            return (d @ wide).astype(x.dtype), {"weight": (x.T @ d).T.astype(x.dtype)}
        """,
    },
    "Linear.backward": {
        "einsum": """
            axes = tuple(range(x.ndim - 1))
            d_weight = np.tensordot(x, d_out, (axes, axes))
            return np.einsum("...o,io->...i", d_out, self.weight), {"bias": d_out.sum(axes), "weight": d_weight}
        """,
        "loops over tokens, outer products": """
            d_x, d_weight, d_bias = np.empty_like(x), np.zeros_like(self.weight), np.zeros_like(self.bias)
            for at in np.ndindex(x.shape[:-1]):
                d_x[at] = self.weight @ d_out[at]
                d_weight += np.outer(x[at], d_out[at])
                d_bias += d_out[at]
            return d_x, {"weight": d_weight, "bias": d_bias}
        """,
        "float64 inside": """
            rows, d = x.astype(np.float64).reshape(-1, len(self.weight)), d_out.astype(np.float64)
            d_rows = d.reshape(-1, len(self.bias))
            grads = {"weight": (d_rows.T @ rows).T, "bias": np.ones(len(rows)) @ d_rows}
            d_x = (d @ self.weight.T).astype(x.dtype)
            return d_x, {name: g.astype(x.dtype) for name, g in grads.items()}
        """,
    },
    "Embedding.backward": {
        "a product with zeros and ones": """
            C = d_out.shape[-1]
            d_pos, d_tok = trace("hook_pos_embed", d_out), trace("hook_embed", d_out)
            read = (np.arange(len(self.wte_weight))[:, None] == ids.reshape(-1)).astype(d_out.dtype)
            there = (np.arange(len(self.wpe_weight))[:, None] == positions.reshape(-1)).astype(d_out.dtype)
            return {"wte.weight": read @ d_tok.reshape(-1, C), "wpe.weight": there @ d_pos.reshape(-1, C)}
        """,
        "loops": """
            d_pos, d_tok = trace("hook_pos_embed", d_out), trace("hook_embed", d_out)
            d_wte, d_wpe = np.zeros_like(self.wte_weight), np.zeros_like(self.wpe_weight)
            for at in np.ndindex(ids.shape):
                d_wte[ids[at]] += d_tok[at]
                d_wpe[positions[at]] += d_pos[at]
            return {"wpe.weight": d_wpe, "wte.weight": d_wte}
        """,
        "bincount, column by column, float64 inside": """
            d_pos, d_tok = trace("hook_pos_embed", d_out), trace("hook_embed", d_out)

            def table(rows, d, size):
                columns = [np.bincount(rows.reshape(-1), column, size) for column in d.reshape(-1, d.shape[-1]).T]
                return np.stack(columns, axis=1).astype(d.dtype)

            return {
                "wte.weight": table(ids, d_tok, len(self.wte_weight)),
                "wpe.weight": table(positions, d_pos, len(self.wpe_weight)),
            }
        """,
    },
    "gelu_slope": {
        "through exp: x s(2u) with s' = s (1 - s), in float64": """
            wide = x.astype(np.float64)
            u2 = 2 * math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)
            with np.errstate(over="ignore"):
                s = 1 / (1 + np.exp(-u2))
            slope = s + wide * s * (1 - s) * 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * wide**2)
            return slope.astype(x.dtype)
        """,
        "loops, in floats of Python": """
            out, c = np.empty_like(x), (2 / math.pi) ** 0.5
            for at in np.ndindex(x.shape):
                a = float(x[at])
                t = math.tanh(c * (a + 0.044715 * a**3))
                out[at] = (1 + t) / 2 + a / 2 * (1 - t**2) * c * (1 + 0.134145 * a**2)
            return out
        """,
        "float32 whatever comes in": """
            x = x.astype(np.float32)
            c = np.float32(math.sqrt(2 / math.pi))
            t = np.tanh(c * (x + np.float32(0.044715) * x * x * x))
            return (1 + t) / 2 + x / 2 * (1 - t) * (1 + t) * c * (1 + np.float32(3 * 0.044715) * x * x)
        """,
    },
    "MLP.backward": {
        "its layers' own backward": """
            d_post, proj = self.c_proj.backward(d_out, tape("hook_post"))
            d_pre = trace("hook_pre", trace("hook_post", d_post) * gelu_slope(tape("hook_pre")))
            d_x, fc = self.c_fc.backward(d_pre, x, under(tape, "c_fc."), scoped(trace, "c_fc."))
            return d_x, {f"c_proj.{name}": g for name, g in proj.items()} | {f"c_fc.{name}": fc[name] for name in fc}
        """,
        "einsum": """
            d_post = trace("hook_post", np.einsum("...c,fc->...f", d_out, self.c_proj.weight))
            d_pre = trace("hook_pre", np.multiply(gelu_slope(tape("hook_pre")), d_post))
            axes = tuple(range(x.ndim - 1))
            return np.einsum("...f,cf->...c", d_pre, self.c_fc.weight), {
                "c_proj.bias": d_out.sum(axes),
                "c_proj.weight": np.tensordot(tape("hook_post"), d_out, (axes, axes)),
                "c_fc.bias": d_pre.sum(axes),
                "c_fc.weight": np.tensordot(x, d_pre, (axes, axes)),
            }
        """,
        "loops over tokens": """
            d_post = np.empty(tape("hook_pre").shape, x.dtype)
            for at in np.ndindex(x.shape[:-1]):
                d_post[at] = self.c_proj.weight @ d_out[at]
            d_post = trace("hook_post", d_post)
            d_pre = trace("hook_pre", d_post * gelu_slope(tape("hook_pre")))
            d_x, fields = np.empty_like(x), (self.c_fc.weight, self.c_fc.bias, self.c_proj.weight, self.c_proj.bias)
            fc, fc_bias, proj, proj_bias = (np.zeros_like(a) for a in fields)
            for at in np.ndindex(x.shape[:-1]):
                d_x[at] = self.c_fc.weight @ d_pre[at]
                fc += np.outer(x[at], d_pre[at])
                proj += np.outer(tape("hook_post")[at], d_out[at])
                fc_bias += d_pre[at]
                proj_bias += d_out[at]
            names = ("c_fc.weight", "c_fc.bias", "c_proj.weight", "c_proj.bias")
            return d_x, dict(zip(names, (fc, fc_bias, proj, proj_bias)))
        """,
        "float64 inside": """
            wide = lambda a: a.astype(np.float64)
            d_post = trace("hook_post", (wide(d_out) @ wide(self.c_proj.weight).T).astype(x.dtype))
            d_pre = trace("hook_pre", (wide(d_post) * wide(gelu_slope(tape("hook_pre")))).astype(x.dtype))
            C, F = self.c_fc.weight.shape
            a, b, c, d = (wide(z).reshape(-1, n) for z, n in ((x, C), (d_pre, F), (tape("hook_post"), F), (d_out, C)))
            grads = {"c_fc.weight": a.T @ b, "c_fc.bias": b.sum(0), "c_proj.weight": c.T @ d, "c_proj.bias": d.sum(0)}
            d_x = (b @ wide(self.c_fc.weight).T).reshape(x.shape)
            return d_x.astype(x.dtype), {name: g.astype(x.dtype) for name, g in grads.items()}
        """,
    },
    "LayerNorm.backward": {
        "einsum": """
            d_out = trace("hook_output", d_out)
            n, scale = tape("hook_normalized"), tape("hook_scale")
            d_n = trace("hook_normalized", np.einsum("...c,c->...c", d_out, self.weight))
            d_scale = trace("hook_scale", np.einsum("...c,...c->...", -d_n, n)[..., None] / scale)
            C = n.shape[-1]
            d_x = d_n / scale - np.einsum("...c->...", d_n)[..., None] / (C * scale) + n * d_scale / C
            rows, out = n.reshape(-1, C), d_out.reshape(-1, C)
            return d_x, {"weight": np.einsum("nc,nc->c", out, rows), "bias": np.einsum("nc->c", out)}
        """,
        "through centered: d_centred less its mean": """
            d_out = trace("hook_output", d_out)
            n, scale, C = tape("hook_normalized"), tape("hook_scale"), d_out.shape[-1]
            d_n = trace("hook_normalized", self.weight * d_out)
            d_scale = trace("hook_scale", -(d_n * n / scale).sum(-1, keepdims=True))
            d_variance = d_scale / (2 * scale)
            d_centred = d_n / scale + 2 * (n * scale) * d_variance / C
            rows = (d_out.reshape(-1, C), n.reshape(-1, C))
            return d_centred - d_centred.mean(-1, keepdims=True), {
                "weight": (rows[0] * rows[1]).sum(0), "bias": rows[0].sum(0)
            }
        """,
        "loops over rows, float64 inside": """
            d_out = trace("hook_output", d_out)
            n, scale, C = tape("hook_normalized"), tape("hook_scale"), d_out.shape[-1]
            d_n = trace("hook_normalized", d_out * self.weight)
            d_scale = np.empty_like(scale)
            for at in np.ndindex(d_out.shape[:-1]):
                d_scale[at] = -sum(float(a) * float(b) for a, b in zip(d_n[at], n[at])) / scale[at][0]
            d_scale, d_x = trace("hook_scale", d_scale), np.empty_like(d_out)
            weight, bias = np.zeros(C), np.zeros(C)
            for at in np.ndindex(d_out.shape[:-1]):
                s, mean = float(scale[at][0]), sum(map(float, d_n[at])) / C
                for c in range(C):
                    d_x[at][c] = (float(d_n[at][c]) - mean) / s + float(d_scale[at][0]) * float(n[at][c]) / C
                    weight[c] += float(d_out[at][c]) * float(n[at][c])
                    bias[c] += float(d_out[at][c])
            return d_x, {"weight": weight.astype(d_out.dtype), "bias": bias.astype(d_out.dtype)}
        """,
        "float32 whatever comes in": """
            d_out = trace("hook_output", d_out).astype(np.float32)
            n, scale = (tape(name).astype(np.float32) for name in ("hook_normalized", "hook_scale"))
            d_n = trace("hook_normalized", d_out * self.weight.astype(np.float32)).astype(np.float32)
            d_scale = trace("hook_scale", -(d_n * n).sum(-1, keepdims=True) / scale).astype(np.float32)
            d_x = (d_n - d_n.mean(-1, keepdims=True)) / scale + n * d_scale / np.float32(n.shape[-1])
            axes = tuple(range(n.ndim - 1))
            return d_x, {"weight": (d_out * n).sum(axes), "bias": d_out.sum(axes)}
        """,
    },
    "Attention.backward": {
        "einsum, no axes swapped": """
            q, k, v, p = (tape(f"hook_{name}") for name in ("q", "k", "v", "pattern"))
            d_merged = trace("hook_merged", np.einsum("...c,bc->...b", d_out, self.c_proj.weight))
            d_z = trace("hook_z", d_merged.reshape(v.shape))
            d_p = trace("hook_pattern", np.einsum("...thd,...shd->...hts", d_z, v))
            d_s = p * d_p - p * np.einsum("...hts,...hts->...ht", p, d_p)[..., None]
            d_s = trace("hook_attn_scores", d_s)
            d_v = trace("hook_v", np.einsum("...hts,...thd->...shd", p, d_z))
            d_k = trace("hook_k", np.einsum("...hts,...thd->...shd", d_s, q) * self.scale)
            d_q = trace("hook_q", np.einsum("...hts,...shd->...thd", d_s, k) * self.scale)
            d_qkv = np.concatenate([d.reshape(*x.shape[:-1], -1) for d in (d_q, d_k, d_v)], axis=-1)
            d_qkv = trace("hook_qkv", d_qkv)
            axes = tuple(range(x.ndim - 1))
            rows = [a.reshape(-1, a.shape[-1]) for a in (x, d_qkv, tape("hook_merged"), d_out)]
            return d_qkv @ self.c_attn.weight.T, {
                "c_attn.weight": np.einsum("nc,nd->cd", rows[0], rows[1]),
                "c_attn.bias": d_qkv.sum(axes),
                "c_proj.weight": np.einsum("nc,nd->cd", rows[2], rows[3]),
                "c_proj.bias": d_out.sum(axes),
            }
        """,
        "loops over heads and rows, the softmax's Jacobian": """
            C, H = x.shape[-1], self.n_head
            q, k, v, p = (tape(f"hook_{name}") for name in ("q", "k", "v", "pattern"))
            d_merged = trace("hook_merged", d_out @ self.c_proj.weight.transpose())
            D = v.shape[-1]
            d_z = trace("hook_z", np.stack([d_merged[..., h * D : (h + 1) * D] for h in range(H)], axis=-2))
            d_p = np.empty_like(p)
            for *b, h, t, s in np.ndindex(p.shape):
                d_p[(*b, h, t, s)] = d_z[(*b, t, h)] @ v[(*b, s, h)]
            d_p, d_s = trace("hook_pattern", d_p), np.empty_like(p)
            for at in np.ndindex(p.shape[:-1]):
                row = p[at]
                d_s[at] = (np.diag(row) - np.outer(row, row)) @ d_p[at]
            d_s = trace("hook_attn_scores", d_s)
            d_q, d_k, d_v = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
            for *b, h, t, s in np.ndindex(p.shape):
                d_v[(*b, s, h)] += p[(*b, h, t, s)] * d_z[(*b, t, h)]
                d_k[(*b, s, h)] += self.scale * d_s[(*b, h, t, s)] * q[(*b, t, h)]
                d_q[(*b, t, h)] += self.scale * d_s[(*b, h, t, s)] * k[(*b, s, h)]
            d_v, d_k, d_q = trace("hook_v", d_v), trace("hook_k", d_k), trace("hook_q", d_q)
            d_qkv, start = np.empty((*x.shape[:-1], len(self.c_attn.bias)), x.dtype), 0
            for d in (d_q, d_k, d_v):
                for h in range(H):
                    d_qkv[..., start : start + d.shape[-1]] = d[..., h, :]
                    start += d.shape[-1]
            d_qkv = trace("hook_qkv", d_qkv)
            rows, out = d_qkv.reshape(-1, d_qkv.shape[-1]), d_out.reshape(-1, C)
            return (rows @ self.c_attn.weight.T).reshape(x.shape), {
                "c_attn.weight": (rows.T @ x.reshape(-1, C)).T, "c_attn.bias": rows.sum(0),
                "c_proj.weight": sum(np.outer(m, d) for m, d in zip(tape("hook_merged").reshape(len(out), -1), out)),
                "c_proj.bias": out.sum(0),
            }
        """,
        "its layers' own backward, heads laid out by hand": """
            q, k, v, p = (tape(f"hook_{name}") for name in ("q", "k", "v", "pattern"))
            d_merged, of_proj = self.c_proj.backward(d_out, tape("hook_merged"))
            d_z = trace("hook_z", trace("hook_merged", d_merged).reshape(v.shape))
            d_p = trace("hook_pattern", np.moveaxis(d_z, -2, -3) @ np.moveaxis(v, -3, -1))
            d_s = trace("hook_attn_scores", p * (d_p - np.einsum("...s,...s->...", p, d_p)[..., None]))
            back = lambda table, a: np.moveaxis(table @ np.moveaxis(a, -2, -3), -3, -2)
            d_v = trace("hook_v", back(np.swapaxes(p, -1, -2), d_z))
            d_k = trace("hook_k", back(np.swapaxes(d_s, -1, -2), self.scale * q))
            d_q = trace("hook_q", back(d_s, self.scale * k))
            flat = [d.reshape(*x.shape[:-1], d.shape[-2] * d.shape[-1]) for d in (d_q, d_k, d_v)]
            d_x, of_attn = self.c_attn.backward(trace("hook_qkv", np.concatenate(flat, axis=-1)), x)
            return d_x, named({"c_attn": of_attn, "c_proj": of_proj})
        """,
        "float64 inside, the scale in the scores": """
            wide = lambda a: a.astype(np.float64)
            C, dtype = x.shape[-1], x.dtype
            q, k, v = (wide(tape(f"hook_{name}")).swapaxes(-2, -3) for name in "qkv")
            p = wide(tape("hook_pattern"))
            d_merged = trace("hook_merged", (wide(d_out) @ wide(self.c_proj.weight).T).astype(dtype))
            d_z = trace("hook_z", d_merged.reshape(*x.shape[:-1], self.n_head, -1))
            heads = wide(d_z).swapaxes(-2, -3)
            d_p = wide(trace("hook_pattern", (heads @ v.swapaxes(-1, -2)).astype(dtype)))
            d_s = p * (d_p - (d_p * p).sum(-1, keepdims=True))
            d_s = wide(trace("hook_attn_scores", d_s.astype(dtype))) * self.scale
            d_v = trace("hook_v", (p.swapaxes(-1, -2) @ heads).swapaxes(-2, -3).astype(dtype))
            d_k = trace("hook_k", (d_s.swapaxes(-1, -2) @ q).swapaxes(-2, -3).astype(dtype))
            d_q = trace("hook_q", (d_s @ k).swapaxes(-2, -3).astype(dtype))
            d_qkv = np.concatenate([d.reshape(*x.shape[:-1], -1) for d in (d_q, d_k, d_v)], axis=-1)
            d_qkv = wide(trace("hook_qkv", d_qkv))
            rows, out = d_qkv.reshape(-1, d_qkv.shape[-1]), wide(d_out).reshape(-1, C)
            grads = {"c_attn.weight": wide(x).reshape(-1, C).T @ rows, "c_attn.bias": rows.sum(0),
                     "c_proj.weight": wide(tape("hook_merged").reshape(len(out), -1)).T @ out}
            grads["c_proj.bias"] = out.sum(0)
            d_x = (d_qkv @ wide(self.c_attn.weight).T).astype(dtype)
            return d_x, {name: g.astype(dtype) for name, g in grads.items()}
        """,
    },
    "Block.backward": {
        "a line for each way": """
            part = lambda prefix: (under(tape, prefix), scoped(trace, prefix))
            stream = trace("hook_resid_post", d_out)
            through, of_mlp = self.mlp.backward(trace("hook_mlp_out", stream), tape("ln2.hook_output"), *part("mlp."))
            through, of_ln_2 = self.ln_2.backward(through, *part("ln2."))
            stream = trace("hook_resid_mid", stream + through)
            d = trace("hook_attn_out", stream)
            through, of_attn = self.attn.backward(d, tape("ln1.hook_output"), *part("attn."))
            through, of_ln_1 = self.ln_1.backward(through, *part("ln1."))
            grads = {f"mlp.{k}": v for k, v in of_mlp.items()} | {f"ln_2.{k}": v for k, v in of_ln_2.items()}
            grads |= {f"attn.{k}": v for k, v in of_attn.items()} | {f"ln_1.{k}": v for k, v in of_ln_1.items()}
            return trace("hook_resid_pre", stream + through), grads
        """,
        "a loop over both halves, tape and trace by hand": """
            d, grads = trace("hook_resid_post", d_out), {}
            halves = (("ln2", "ln_2", "mlp", "hook_mlp_out", "hook_resid_mid"),
                      ("ln1", "ln_1", "attn", "hook_attn_out", "hook_resid_pre"))
            for norm, field, layer, out, before in halves:
                inner, own = getattr(self, layer).backward(
                    trace(out, d), tape(f"{norm}.hook_output"),
                    lambda name, layer=layer: tape(f"{layer}.{name}"),
                    lambda name, a, layer=layer: trace(f"{layer}.{name}", a),
                )
                grads.update({f"{layer}.{name}": g for name, g in own.items()})
                inner, own = getattr(self, field).backward(
                    inner, lambda name, norm=norm: tape(f"{norm}.{name}"),
                    lambda name, a, norm=norm: trace(f"{norm}.{name}", a),
                )
                grads.update({f"{field}.{name}": g for name, g in own.items()})
                d = trace(before, inner + d)
            return d, grads
        """,
    },
    "GPT2.backward": {
        "counting down": """
            grads = {}
            d, found = self.ln_f.backward(
                d_out, lambda name: tape[f"ln_final.{name}"], lambda name, a: trace(f"ln_final.{name}", a)
            )
            grads.update({f"ln_f.{name}": g for name, g in found.items()})
            for i in range(len(self.h) - 1, -1, -1):
                d, found = self.h[i].backward(
                    d, lambda name, i=i: tape[f"blocks.{i}.{name}"], lambda name, a, i=i: trace(f"blocks.{i}.{name}", a)
                )
                grads.update({f"h.{i}.{name}": g for name, g in found.items()})
            grads.update(self.embedding.backward(d, tape["hook_tokens"], tape["hook_positions"], trace))
            return grads
        """,
        "recursion": """
            def below(i, d):
                if i < 0:
                    return self.embedding.backward(d, tape["hook_tokens"], tape["hook_positions"], trace)
                read = under(tape.__getitem__, f"blocks.{i}.")
                d, found = self.h[i].backward(d, read, scoped(trace, f"blocks.{i}."))
                return below(i - 1, d) | {f"h.{i}.{name}": g for name, g in found.items()}

            d, last = self.ln_f.backward(d_out, under(tape.__getitem__, "ln_final."), scoped(trace, "ln_final."))
            return {"ln_f.weight": last["weight"], "ln_f.bias": last["bias"]} | below(len(self.h) - 1, d)
        """,
    },
    "loss_and_grads": {
        "all at once": """
            tape = Tape()
            hidden = model.hidden(ids, trace=chain(trace, tape))
            x = hidden.reshape(-1, hidden.shape[-1])
            count = int(np.count_nonzero(targets != IGNORED))
            loss, d_logits = cross_entropy(model.lm_head(x), np.ravel(targets), offset)
            d_logits = grad_trace("hook_logits", (d_logits / count).reshape(*np.shape(targets), -1))
            d_x, head = model.lm_head.backward(d_logits.reshape(len(x), -1), x)
            grads = model.backward(d_x.reshape(hidden.shape), tape, grad_trace)
            name = "wte.weight" if model.tied else "lm_head.weight"
            grads[name] = grads.get(name, 0) + head["weight"]
            return loss / count, grads
        """,
        "the logits from a whole pass, a token at a time, float64 loss": """
            tape, total, count = Tape(), 0.0, sum(int(t) != IGNORED for t in np.asarray(targets).flat)
            logits = model(ids, trace=chain(trace, tape))
            hidden, d_logits = tape["ln_final.hook_output"], np.zeros_like(logits)
            for at in np.ndindex(targets.shape):
                loss, d = cross_entropy(logits[at][None], targets[at][None], offset)
                total += float(loss) / count
                d_logits[at] = d[0] / count
            d_logits = grad_trace("hook_logits", d_logits)
            d_head, d_hidden = np.zeros_like(model.lm_head.weight), np.zeros_like(hidden)
            for at in np.ndindex(targets.shape):
                d, grads = model.lm_head.backward(d_logits[at][None], hidden[at][None])
                d_hidden[at] = d[0]
                d_head += grads["weight"]
            grads = model.backward(d_hidden, tape, grad_trace)
            if model.tied:
                return total, {**grads, "wte.weight": grads["wte.weight"] + d_head}
            return total, {**grads, "lm_head.weight": d_head}
        """,
    },
}
WAYS = [(function, way) for function, ways in OTHER_WAYS.items() for way in ways]


def test_each_function_has_two_other_right_ways():
    short = {where.partition(":")[2] for where in get("a8").functions}
    assert OTHER_WAYS.keys() == short and all(len(ways) >= 2 for ways in OTHER_WAYS.values())


@pytest.mark.parametrize(("function", "way"), WAYS)
def test_another_right_way_passes(function, way, tmp_path):
    results = graded("a8", tmp_path, with_body("a8", function, OTHER_WAYS[function][way]), only=function)
    assert statuses(results) == {"CORRECT"}, {name: r for name, r in results.items() if r.status != "CORRECT"}


def test_what_the_stub_gives_is_as_the_packages(tmp_path):
    (tmp_path / "a8_backward.py").write_text(get("a8").stub.read_text("utf-8"), "utf-8")
    stub = student.load(tmp_path / "a8_backward.py")
    grads = {"attn": {"c_attn.weight": 1, "c_proj.bias": 2}, "ln_1": {"weight": 3}}
    assert stub.named(grads) == trace.named(grads) == {"attn.c_attn.weight": 1, "attn.c_proj.bias": 2, "ln_1.weight": 3}


def test_a_mistake_is_named_whether_values_may_be_wider_or_not(tmp_path):
    body = OTHER_WAYS["Attention.backward"]["einsum, no axes swapped"]
    for old, new in (
        ("d_z = trace(", "C, d_z = x.shape[-1], trace("),
        (".reshape(*x.shape[:-1], -1)", ".reshape(x.shape)"),
    ):
        assert body.count(old) == 1
        body = body.replace(old, new)
    assert statuses(graded("a8", tmp_path, with_body("a8", "Attention.backward", body))) == {"CORRECT", "INCORRECT"}
    wrong = with_body("a8", "Attention.backward", body.replace("d_s, q) * self.scale", "d_s, q)"))
    assert named("a8", tmp_path, wrong, "Attention.backward") == "the scale is forgotten in d_k"


WRONG = {  # what is no likely mistake, but must not pass either
    "the offset is cut to 3": ("train.loss:cross_entropy", "logits + offset", "logits + np.clip(offset, -3, 3)"),
    "the offset counts twice": (
        "train.loss:loss_and_grads",
        "[few], offset)",
        "[few], None if offset is None else 2 * offset)",
    ),
    "trace is asked for the embedding only": (
        "train.loss:loss_and_grads",
        "chain(trace, tape)",
        "chain(lambda name, x: trace(name, x) if name == 'hook_embed' else x, tape)",
    ),
    "a linear layer's gradient is rounded": (
        "model.linear:Linear.backward",
        "rows.T @ d_rows",
        "rows.T @ d_rows.astype('float16').astype(x.dtype)",
    ),
    "a linear layer sums the first 50 tokens": (
        "model.linear:Linear.backward",
        "d_rows.sum(axis=0)",
        "d_rows[:50].sum(axis=0)",
    ),
    "the LM head's gradient is rounded": (
        "model.lm_head:LMHead.backward",
        "d_out.T @ x",
        "d_out.T @ x.astype('float16').astype(x.dtype)",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_in_some_cases_only_does_not_pass(what):
    where, *edit = WRONG[what]
    results, _ = graded_version(get("a8"), where, seams.edited(where, [edit]), named=False)
    assert "INCORRECT" in statuses(results)
