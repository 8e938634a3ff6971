"""What `benchmark.py` measured, as lines of text and as the tables of README.md.

Each row of the result holds what was timed, and for every racer the median and the middle half of its times.
"""

OURS, THEIRS, PRODUCTS, MEMORY = "nanogpt_np", "transformers", "products alone", "memory alone"


def lines_of(row):
    """Return the lines of text that show a measured row, the first racer first."""
    ours, *others = row["results"].items()
    what = TITLES[row["row"]].format(n=row["tokens"])
    lines = [f"{what:44} {_shown(row, ours[1])}"]
    for name, result in others:
        ratio = result["median"] / ours[1]["median"]
        if name in (PRODUCTS, MEMORY):
            says = f"{ratio:.2f} of this floor reached"
        elif row["row"] == "trace":
            says = f"{ratio - 1:+.1%} time"
        else:
            says = f"{ratio:.2f} times as much"
        lines.append(f"  {name:42} {_shown(row, result)}  {says}")
    if "float32 parameters" in row:
        size = row["float32 parameters"]
        lines.append(
            f"  {'float32 parameters':42} {size / 1e6:9.0f} MB  {ours[1]['median'] / size:.2f} times this at the peak"
        )
    return lines


TITLES = {
    "prompt": "prompt of {n} tokens",
    "decode": "a token more, after {n}",
    "cold": "process from start to end, 1 token",
    "load": "loading",
    "memory": "peak memory, load to {n} new tokens",
    "trace": "prompt of {n} tokens, no trace",
    "train": "a training step of {n} tokens",
}


def _shown(row, result):
    if row["unit"] == "bytes":
        return f"{result['median'] / 1e6:9.0f} MB"
    middle = f"({1000 * result['low']:.4g} to {1000 * result['high']:.4g})"
    rate = {"prompt": row["tokens"], "train": row["tokens"], "decode": 1}.get(row["row"])
    speed = f"{rate / result['median']:8.1f} tokens/s" if rate else ""
    return f"{1000 * result['median']:9.1f} ms {middle:20} {speed:17}"


def markdown(result):
    """Return the tables of README.md."""
    rows = [row for row in result["rows"] if row["row"] != "trace"]
    names = [OURS, THEIRS, PRODUCTS, MEMORY]
    table = [
        "| | nanogpt_np | transformers | times faster | products alone | memory alone |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = {name: _cell(row, row["results"][name]) if name in row["results"] else "" for name in names}
        ours, theirs = (row["results"].get(name) for name in (OURS, THEIRS))
        ratio = f"{theirs['median'] / ours['median']:.2f}" if theirs else ""
        for floor in (PRODUCTS, MEMORY):
            if cells[floor]:
                share = row["results"][floor]["median"] / ours["median"]
                cells[floor] += f" ({share:.0%} reached)"
        title = TITLES[row["row"]].format(n=row["tokens"])
        table.append(f"| {title} | {cells[OURS]} | {cells[THEIRS]} | {ratio} | {cells[PRODUCTS]} | {cells[MEMORY]} |")
    versions = ", ".join(f"{name} {v}" for name, v in result["machine"].items() if name not in ("processor", "cores"))
    about = f"{result['machine']['processor']}, {result['machine']['cores']} cores; {versions}. "
    about += f"Weights: {result['model']}, {result['weights']}."
    return "\n".join([about, "", *table])


def _cell(row, result):
    if row["unit"] == "bytes":
        return f"{result['median'] / 1e6:.0f} MB"
    tokens = {"prompt": row["tokens"], "train": row["tokens"], "decode": 1}.get(row["row"])
    if tokens and row["row"] != "prompt":
        return f"{tokens / result['median']:.3g} tokens/s"
    return f"{result['median']:.3g} s" if result["median"] >= 0.1 else f"{1000 * result['median']:.3g} ms"
