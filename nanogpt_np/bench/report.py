"""What `measure.py` measured, as lines of text and as the tables of docs/performance.md.

Each row of the result holds what was timed, and for every racer the median and the middle half of its times.
"""

OURS, THEIRS, PRODUCTS, AS_LOADED = "nanogpt_np", "transformers", "products alone", "products as loaded"
READING = "keys and values"
BUSY = 0.2  # a spread (middle half over median) above this says that something else was running
NO_EVIDENCE = 0.3  # a figure of a wider spread is not published


def lines_of(row):
    """Return the lines of text that show a measured row, the first racer first."""
    ours, *others = row["results"].items()
    what = TITLES[row["row"]].format(n=row["tokens"])
    lines = [f"{what:44} {_shown(row, ours[1])}"]
    for name, result in others:
        ratio = result["median"] / ours[1]["median"]
        if name in (PRODUCTS, AS_LOADED):
            says = f"{ratio:.2f} of this speed reached"
        elif row["row"] == "trace":
            says = f"{ratio - 1:+.1%} time"
        elif name == READING:
            says = f"to read them once, on two threads: it takes {1 / ratio:.2f} times this"
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
    "context": "what each token of context adds to the next",
    "cold": "process from start to end, 1 token",
    "load": "loading",
    "memory": "peak memory, load to {n} new tokens",
    "trace": "prompt of {n} tokens, no trace",
    "train": "a training step of {n} tokens",
}


def _shown(row, result):
    if row["unit"] == "bytes":
        return f"{result['median'] / 1e6:9.0f} MB"
    scale, unit = (1e6, "us") if row["row"] == "context" else (1e3, "ms")
    middle = f"({scale * result['low']:.4g} to {scale * result['high']:.4g})"
    rate = {"prompt": row["tokens"], "train": row["tokens"], "decode": 1}.get(row["row"])
    speed = f"{rate / result['median']:8.1f} tokens/s" if rate else ""
    return f"{scale * result['median']:9.1f} {unit} {middle:20} {speed:17}"


def busy(result):
    """Return a sentence that says that the machine was busy while the times were taken, or ""."""
    spread = result["widest spread"]
    return f"The machine was busy: some times spread by {spread:.0%}." if spread > BUSY else ""


def spread(times):
    """Return the middle half of some times, as a part of their median; 0 for bytes, which are measured once."""
    return (times["high"] - times["low"]) / times["median"] if "high" in times else 0


def _steady(*several):
    return all(spread(times) <= NO_EVIDENCE for times in several)


def markdown(result):
    """Return the tables of docs/performance.md; a time that spread by more than `NO_EVIDENCE` is left out."""
    table = ["| | nanogpt_np | transformers | times faster | products alone |", "|---|---|---|---|---|"]
    for row in result["rows"]:
        results, title = row["results"], TITLES[row["row"]].format(n=row["tokens"])
        if row["row"] == "trace":
            first, *others = results.values()
            for name, watched in zip(results, [first, *others], strict=True):
                compared = watched is not first and _steady(first, watched)
                more = f", {watched['median'] / first['median'] - 1:+.1%}" if compared else ""
                table.append(f"| {title.replace('no trace', name)} | {_cell(row, watched)}{more} | | | |")
            continue
        ours, theirs, products = (results.get(name) for name in (OURS, THEIRS, PRODUCTS))
        cells = [title, *(_cell(row, cell) if cell else "" for cell in (ours, theirs))]
        cells.append(f"{theirs['median'] / ours['median']:.2f}" if theirs and _steady(ours, theirs) else "")
        cells.append(f"{_cell(row, products)}{_reached(results)}" if products else "")
        if row["row"] == "context":
            reading = results[READING]
            cells[-1] = f"to read its keys and values once, on two threads: {_cell(row, reading)}"
            if _steady(ours, reading):
                cells[-1] += f", {ours['median'] / reading['median']:.2f} times this"
        table.append(f"| {' | '.join(cells)} |")
    machine = {name: what for name, what in result["machine"].items() if what is not None}
    versions = ", ".join(f"{name} {what}" for name, what in machine.items() if name not in ("processor", "cores"))
    about = f"{machine['processor']}, {machine['cores']} cores; {versions}. "
    about += f"Weights: {result['model']}, {result['weights']}. Medians, with the middle half of all rounds."
    return "\n".join([about, "", *table])


def sizes(results):
    """Return the table of docs/performance.md that has a line for each of several models, as far as it was measured."""
    heads = ["", "tokens/s after 5", "of the products alone", "peak memory", "of the float32 parameters"]
    table = [f"| {' | '.join(heads)} |", "|---|---|---|---|---|"]
    for result in results:
        first = {row["row"]: row for row in reversed(result["rows"])}  # of each kind
        decode, memory = first["decode"], first["memory"]
        speed, peak = decode["results"][OURS], memory["results"][OURS]
        cells = [
            f"{result['model']}, {result['weights']}",
            _cell(decode, speed),
            _reached(decode["results"]).removeprefix(", ").removesuffix(" reached"),
            _cell(memory, peak),
            f"{peak['median'] / memory['float32 parameters']:.2f}",
        ]
        table.append(f"| {' | '.join(cells)} |")
    return "\n".join(table)


def _reached(results):
    """Return the share of the products' speed that was reached, and of the products' with the arrays as loaded."""
    found = [name for name in (PRODUCTS, AS_LOADED) if name in results and _steady(results[name], results[OURS])]
    parts = [f"{results[name]['median'] / results[OURS]['median']:.0%}" for name in found]
    parts[1:] = [f"({part} as loaded)" for part in parts[1:]]
    return f", {' '.join(parts)} reached" if found[:1] == [PRODUCTS] else ""


def _cell(row, result):
    """Return a median with its unit and, for a time, the middle half; or that it spread too widely."""
    median = result["median"]
    if row["unit"] == "bytes":
        return f"{median / 1e6:.0f} MB"
    if not _steady(result):
        return f"no figure (spread {spread(result):.0%})"
    low, high = result["low"], result["high"]
    tokens = {"train": row["tokens"], "decode": 1}.get(row["row"])
    if tokens:  # the longest times are the lowest speeds
        speeds = [_three_digits(tokens / seconds) for seconds in (median, high, low)]
        return "{} tokens/s ({} to {})".format(*speeds)
    scale, unit = (1, "s") if median >= 0.1 else (1e3, "ms") if median >= 1e-4 else (1e6, "us")
    return f"{scale * median:.3g} {unit} ({scale * low:.3g} to {scale * high:.3g})"


def _three_digits(x):
    return f"{x:.3g}" if x < 1000 else f"{x:,.0f}"
