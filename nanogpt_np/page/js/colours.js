// Numbers as colours: cells as pixels, small pictures of tensors, and what is drawn again when the screen changes.

let colours = null; // those of the style in force, read when needed

function readColours() {
  const style = getComputedStyle(document.documentElement);
  const rgb = (name) => {
    const hex = style.getPropertyValue(name).trim().slice(1);
    return [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16));
  };
  colours = { negative: rgb("--heat-negative"), zero: rgb("--heat-zero"), positive: rgb("--heat-positive") };
  colours.attention = rgb("--heat-attention");
  colours.ink = style.getPropertyValue("--ink").trim();
  colours.paper = style.getPropertyValue("--paper").trim();
  colours.groups = ["--query", "--key", "--value"].map((name) => style.getPropertyValue(name).trim());
}

/** The colour of a number: red above 0, blue below, as strong as it is large beside `range`. */
function heatColour(x, range, positive = "positive") {
  if (!colours) readColours();
  if (Number.isNaN(x)) return [128, 128, 128];
  const bend = positive === "attention" ? 0.55 : 0.8; // below 1, so that small numbers can be told from none
  const strength = Math.min(1, Math.abs(x) / range) ** bend;
  const far = x < 0 ? colours.negative : colours[positive];
  return colours.zero.map((near, i) => Math.round(near + (far[i] - near) * strength));
}

function css([r, g, b]) {
  return `rgb(${r}, ${g}, ${b})`;
}

/** The text that can be read on a colour: at 0.179 black and white have the same contrast, 4.58. */
function inkOn(rgb) {
  const [r, g, b] = rgb.map((c) => (c / 255 <= 0.04045 ? c / 3294.6 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "dark-ink" : "light-ink";
}

/** All cells of a table as an image, a pixel for each. */
function cellImage(table, range, positive) {
  const image = new ImageData(table.columns, table.rows);
  const [T, S] = table.letters.join(" ") === "H T S" ? table.shape.slice(1) : [1, Infinity];
  for (let i = 0; i < table.rows * table.columns; i++) {
    if ((i % S) - S + T > Math.floor(i / S) % T) continue; // a key that comes after the query: left transparent
    const rgb = heatColour(table.values[i], range, positive);
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = rgb[c];
    image.data[4 * i + 3] = 255;
  }
  const canvas = el("canvas", { width: table.columns, height: table.rows });
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

/** A canvas of so many CSS pixels, sharp on any screen; its context counts in CSS pixels. */
function sized(canvas, width, height) {
  const ratio = Math.min(3, window.devicePixelRatio || 1);
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.imageSmoothingEnabled = false;
  return context;
}

/** A small picture of a tensor, at most `width` x `height` pixels; heads of a pattern side by side. */
function thumbnail(table, width, height) {
  const canvas = el("canvas.thumbnail", { "aria-hidden": "true" });
  const isPattern = table.letters.join(" ") === "H T S";
  const range = colourRange(table.values);
  const image = cellImage(table, range, isPattern ? "attention" : "positive");
  if (isPattern) return headPictures(canvas, image, table.shape, width, height);
  const w = Math.max(3, Math.min(width, table.columns * 7));
  const h = Math.max(3, Math.min(height, table.rows * 7));
  const context = sized(canvas, w, h);
  context.imageSmoothingEnabled = table.columns > 2 * w;
  context.drawImage(image, 0, 0, table.columns, table.rows, 0, 0, w, h);
  return canvas;
}

/** The heads of a pattern side by side, in as many columns as make them largest. */
function headPictures(canvas, image, [heads, T, S], width, height) {
  const sideOf = (n) => Math.min(Math.floor(width / n) - 3, Math.floor(height / Math.ceil(heads / n)) - 3, 34);
  const across = Array.from({ length: heads }, (_, i) => i + 1).reduce(
    (best, n) => (sideOf(n) >= sideOf(best) ? n : best),
    1,
  );
  const side = Math.max(3, sideOf(across));
  const context = sized(canvas, across * (side + 3) - 3, Math.ceil(heads / across) * (side + 3) - 3);
  for (let head = 0; head < heads; head++) {
    const [x, y] = [(head % across) * (side + 3), Math.floor(head / across) * (side + 3)];
    context.drawImage(image, 0, head * T, S, T, x, y, side, side);
  }
  return canvas;
}

/** The colours from one number to another, with both numbers or what stands for them. */
function colourScale(from, to, range, positive, ends = [digits(from, 3), digits(to, 3)]) {
  const bar = el("span.scale", { "aria-hidden": "true" });
  const stops = Array.from({ length: 13 }, (_, i) => css(heatColour(from + ((to - from) * i) / 12, range, positive)));
  bar.style.background = `linear-gradient(90deg, ${stops.join(", ")})`;
  return [el("span.tick", ends[0]), bar, el("span.tick", ends[1])];
}

// ---- what must be drawn again ----

const watcher = new ResizeObserver((changes) => {
  for (const { target } of changes) {
    const told = target.resized;
    if (!told || target.clientWidth === told.width || !target.isConnected) continue;
    told.width = target.clientWidth;
    told.draw();
  }
});

function onResize(host, draw) {
  host.resized = { width: null, draw };
  watcher.observe(host);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  readColours();
  drawPage();
});
