const canvas = document.getElementById("drawn"), pixelCanvas = document.getElementById("pixels");
const ratio = () => Math.min(2, window.devicePixelRatio || 1);
const MOST_ZOOM = 1e5;      // screen pixels for a pixel of the picture

/** What is looked at: the picture's point in the middle, in its pixels, and screen pixels for each of them. */
const view = {x: facts.width / 2, y: facts.height / 2, zoom: 1};

function pictureOf(address) {
  const image = new Image();
  image.src = address;
  image.decode().then(paint, () => say("The picture in this page cannot be read."));
  return image;
}

function say(text) {
  const message = document.getElementById("message");
  message.textContent = text;
  message.hidden = !text;
}

// -- drawing the function, coarse first -------------------------------------------------------------------

/** The part of the screen that the picture covers, in pixels of the screen. */
function seen(of) {
  const zoom = view.zoom * ratio(), from = (c, screen) => Math.max(0, Math.floor(screen / 2 - c * zoom));
  const to = (c, length, screen) => Math.min(screen, Math.ceil(screen / 2 + (length - c) * zoom));
  const left = from(view.x, of.width), top = from(view.y, of.height);
  const right = to(view.x, facts.width, of.width), bottom = to(view.y, facts.height, of.height);
  return {left, top, width: Math.max(0, right - left), height: Math.max(0, bottom - top)};
}

/** A drawing of what is seen, on a canvas of its own, with `scale` pixels of the screen to a sample. */
class Pass {
  constructor(scale) {
    const zoom = view.zoom * ratio(), {left, top, width, height} = seen(canvas);
    this.scale = scale;
    this.step = scale / zoom;                               // pixels of the picture from sample to sample
    this.x = view.x + (left - canvas.width / 2) / zoom;     // its upper left corner, in pixels of the picture
    this.y = view.y + (top - canvas.height / 2) / zoom;
    this.canvas = document.createElement("canvas");
    this.columns = this.canvas.width = Math.ceil(width / scale);
    this.rows = this.canvas.height = Math.ceil(height / scale);
    this.drawing = this.canvas.getContext("2d");
    this.drawn = 0;         // rows
    this.key = viewKey();
  }
}

const viewKey = () => [view.x, view.y, view.zoom, canvas.width, canvas.height].join();

const BLOCK = 80;       // ms for a block of samples: more would delay what the user does next
const LEAST = 64;       // samples of a block
const OFTEN = 120;      // ms from painting to painting while a pass is drawn

class Renderer {
  constructor(model) {
    this.model = model;
    this.budget = 0;        // samples of a block, once the speed is known
    this.finished = [];
    this.current = null;
    this.runs = false;
  }

  /** Draws what is looked at, unless that is done already; a drawing of an older view is given up. */
  async update() {
    if (this.runs) return;
    this.runs = true;
    try {
      if (!this.budget) await this.measure();
      while (this.key !== viewKey()) {
        const key = viewKey();
        let scale = 1;
        const {width, height} = seen(canvas);
        // The pixels of the picture's own size are shown until then, so nothing coarser is worth drawing.
        while (2 * scale <= view.zoom * ratio() && width * height / scale ** 2 > this.budget) scale *= 2;
        for (;;) {
          if (!await this.run(new Pass(scale))) break;
          if (scale === 1) { this.key = key; break; }
          scale = Math.max(1, Math.floor(scale / 4));
        }
      }
    } finally {
      this.runs = false;
      this.current = null;
    }
    paint();
  }

  /** Measures the speed with a few samples, after some that compile the shader. */
  async measure() {
    for (const side of [4, 16, 64]) {
      const begin = performance.now();
      this.model.draw(0, 0, 1 / side, side, side);
      await this.model.done();
      const taken = performance.now() - begin;
      this.budget = side * side * BLOCK / Math.max(1, taken);
      if (side > 4 && taken > BLOCK / 4) break;
    }
    this.budget = Math.max(LEAST, this.budget);
  }

  /** Draws a pass in bands; true if it was drawn to its end, and the view is still the same. */
  async run(pass) {
    this.current = pass;
    // A short pass is always finished, or fast movements would never be drawn.
    const isShort = pass.columns * pass.rows <= 2 * this.budget;
    for (let top = 0, band; top < pass.rows; top += band) {
      const width = Math.min(SIDE, pass.columns, Math.floor(this.budget));
      band = Math.min(SIDE, pass.rows - top, Math.max(1, Math.floor(this.budget / width)));
      for (let left = 0; left < pass.columns; left += width) {
        if (!isShort && pass.key !== viewKey()) return false;
        await this.block(pass, left, top, Math.min(width, pass.columns - left), band);
      }
      pass.drawn = top + band;
      document.getElementById("progress").value = pass.scale === 1 ? pass.drawn / pass.rows : 0;
      if (performance.now() - painted > OFTEN) paint();
    }
    this.keep(pass);
    paint();
    return pass.key === viewKey();
  }

  async block(pass, left, top, columns, rows) {
    const begin = performance.now(), at = n => (n + 0.5) * pass.step;
    this.model.draw(pass.x + at(left), pass.y + at(top), pass.step, columns, rows);
    await this.model.done();
    if (this.model.gl.isContextLost()) throw new Error("The graphics driver gave up; reload the page.");
    pass.drawing.clearRect(left, top, columns, rows);
    pass.drawing.drawImage(this.model.canvas, 0, 0, columns, rows, left, top, columns, rows);
    // What a block costs besides its samples must not make the next one smaller and smaller.
    const wanted = Math.min(2, Math.max(0.5, BLOCK / (performance.now() - begin)));
    if (2 * columns * rows > this.budget || wanted < 1) this.budget = Math.max(LEAST, this.budget * wanted);
  }

  /** Keeps a finished pass; of the older ones the last that is finer, until this one is as fine as the screen. */
  keep(pass) {
    const finer = this.finished.filter(other => other.step < pass.step);
    this.finished = pass.scale === 1 ? [pass] : [...finer.slice(-1), pass];
  }

  paint(drawing) {
    place(drawing, own, 0, 0, 1);       // until the function is there
    const passes = [...this.finished, this.current].filter(Boolean);
    for (const pass of passes.sort((a, b) => b.step - a.step)) {
      if (pass.step > 1 && pass.key !== viewKey()) continue;        // it is coarser than the pixels
      drawing.imageSmoothingEnabled = Math.abs(pass.step * view.zoom * ratio() - 1) > 1e-6;
      place(drawing, pass.canvas, pass.x, pass.y, pass.step, pass.drawn);
    }
  }
}

// -- painting ---------------------------------------------------------------------------------------------

/** Draws a canvas or picture, or its first rows, with a corner at (x, y) and `step` from pixel to pixel. */
function place(drawing, source, x, y, step, rows = source.height) {
  if (!source.width || !source.height) return;
  const zoom = view.zoom * ratio(), {width, height} = drawing.canvas;
  let left = width / 2 + (x - view.x) * zoom, top = height / 2 + (y - view.y) * zoom;
  const each = step * zoom;
  if (Math.abs(each - 1) < 1e-6) [left, top] = [Math.round(left), Math.round(top)];
  // Only what is seen is drawn: far in, the rest would be larger than a canvas can be.
  const first = [Math.max(0, Math.floor(-left / each)), Math.max(0, Math.floor(-top / each))];
  const w = Math.min(source.width, Math.ceil((width - left) / each)) - first[0];
  const h = Math.min(rows, Math.ceil((height - top) / each)) - first[1];
  if (w <= 0 || h <= 0) return;
  const to = [left + first[0] * each, top + first[1] * each, w * each, h * each];
  if (isTransparent) drawing.clearRect(...to);      // what was there would shine through
  drawing.drawImage(source, ...first, w, h, ...to);
}

const isTransparent = facts.channels % 2 === 0;
document.body.classList.toggle("transparent", isTransparent);

/** Clears a canvas and limits what follows to the picture. */
function begin(of) {
  const drawing = of.getContext("2d"), {left, top, width, height} = seen(of);
  drawing.fillStyle = getComputedStyle(document.body).backgroundColor;
  drawing.fillRect(0, 0, of.width, of.height);
  drawing.clearRect(left, top, width, height);
  drawing.save();
  drawing.beginPath();
  drawing.rect(left, top, width, height);
  drawing.clip();
  drawing.imageSmoothingQuality = "high";
  return drawing;
}

let painted = 0;    // when it was painted last, in ms

function paint() {
  let drawing = begin(canvas);
  if (renderer) renderer.paint(drawing);
  else place(drawing, best, 0, 0, facts.width / (best.width || 1));
  drawing.restore();
  if (!document.getElementById("beside").hidden) {
    drawing = begin(pixelCanvas);
    drawing.imageSmoothingEnabled = view.zoom * ratio() < 1;
    place(drawing, own, 0, 0, 1);
    drawing.restore();
  }
  painted = performance.now();
}
