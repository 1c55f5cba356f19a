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
    this.key = viewKey();
  }
}

const viewKey = () => [view.x, view.y, view.zoom, canvas.width, canvas.height].join();

class Renderer {
  constructor(model) {
    this.model = model;
    this.speed = 0;         // samples for each ms, once it is measured
    this.finished = [];
    this.current = null;
    this.runs = false;
  }

  /** Draws what is looked at, unless that is done already; a drawing of an older view is given up. */
  async update() {
    if (this.runs) return;
    this.runs = true;
    try {
      if (!this.speed) await this.measure();
      while (this.key !== viewKey()) {
        const key = viewKey();
        let scale = 1;
        const {width, height} = seen(canvas);
        while (scale < 64 && width * height / scale ** 2 / this.speed > 50) scale *= 2;
        for (let first = true; ; first = false) {
          if (!await this.run(new Pass(scale), first)) break;
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
      this.speed = side * side / Math.max(1, taken);
      if (side > 4 && taken > 20) return;
    }
  }

  /** Draws a pass in bands; true if it was drawn to its end, and the view is still the same. */
  async run(pass, isFirst) {
    this.current = pass;
    for (let top = 0, band; top < pass.rows; top += band) {
      band = Math.min(SIDE, pass.rows - top, Math.max(1, Math.floor(this.speed * 30 / pass.columns)));
      const width = Math.min(SIDE, pass.columns, band > 1 ? SIDE : Math.max(16, Math.floor(this.speed * 30)));
      for (let left = 0; left < pass.columns; left += width) {
        // The first, coarse pass is always finished, or fast movements would never be drawn.
        if (!isFirst && pass.key !== viewKey()) return false;
        await this.block(pass, left, top, Math.min(width, pass.columns - left), band);
      }
      document.getElementById("progress").value = pass.scale === 1 ? (top + band) / pass.rows : 0;
      paint();
    }
    this.keep(pass);
    return pass.key === viewKey();
  }

  async block(pass, left, top, columns, rows) {
    const begin = performance.now(), at = n => (n + 0.5) * pass.step;
    this.model.draw(pass.x + at(left), pass.y + at(top), pass.step, columns, rows);
    await this.model.done();
    if (this.model.gl.isContextLost()) throw new Error("The graphics driver gave up; reload the page.");
    pass.drawing.clearRect(left, top, columns, rows);
    pass.drawing.drawImage(this.model.canvas, 0, 0, columns, rows, left, top, columns, rows);
    const measured = columns * rows / Math.max(1, performance.now() - begin);
    this.speed = Math.max(0.01, 0.5 * this.speed + 0.5 * measured);
  }

  /** Keeps a finished pass, and of the older ones the last that has more samples for a pixel. */
  keep(pass) {
    this.finished = [...this.finished.filter(other => other.step < 0.99 * pass.step).slice(-1), pass];
    this.finished.sort((a, b) => b.step - a.step);
  }

  paint(drawing) {
    for (const pass of [...this.finished, this.current].filter(Boolean)) {
      drawing.imageSmoothingEnabled = Math.abs(pass.step * view.zoom * ratio() - 1) > 1e-6;
      place(drawing, pass.canvas, pass.x, pass.y, pass.step);
    }
  }
}

// -- painting ---------------------------------------------------------------------------------------------

/** Draws a canvas or picture whose corner is at (x, y), and whose pixels are `step` pixels of the picture. */
function place(drawing, source, x, y, step) {
  if (!source.width || !source.height) return;
  const zoom = view.zoom * ratio(), {width, height} = drawing.canvas;
  let left = width / 2 + (x - view.x) * zoom, top = height / 2 + (y - view.y) * zoom;
  const each = step * zoom;
  if (Math.abs(each - 1) < 1e-6) [left, top] = [Math.round(left), Math.round(top)];
  // Only what is seen is drawn: far in, the rest would be larger than a canvas can be.
  const first = [Math.max(0, Math.floor(-left / each)), Math.max(0, Math.floor(-top / each))];
  const end = [Math.min(source.width, Math.ceil((width - left) / each)), Math.min(source.height, Math.ceil((height - top) / each))];
  const [w, h] = [end[0] - first[0], end[1] - first[1]];
  if (w > 0 && h > 0)
    drawing.drawImage(source, ...first, w, h, left + first[0] * each, top + first[1] * each, w * each, h * each);
}

/** Clears a canvas and limits what follows to the picture, over squares where it may be transparent. */
function begin(of) {
  const drawing = of.getContext("2d"), {left, top, width, height} = seen(of);
  drawing.clearRect(0, 0, of.width, of.height);
  drawing.save();
  drawing.beginPath();
  drawing.rect(left, top, width, height);
  drawing.clip();
  drawing.imageSmoothingQuality = "high";
  if (facts.channels % 2 === 0) {
    drawing.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--square");
    const side = 12 * ratio();
    for (let row = 0; row * side < of.height; row++)
      for (let column = row % 2; column * side < of.width; column += 2)
        drawing.fillRect(column * side, row * side, side, side);
  }
  return drawing;
}

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
}

// -- moving about -----------------------------------------------------------------------------------------

const fitting = () => Math.min(canvas.clientWidth / facts.width, canvas.clientHeight / facts.height);
let fits = true;    // whether the whole picture is shown, however large the window

function changed() {
  const least = 0.5 * Math.min(1, fitting());
  view.zoom = Math.min(MOST_ZOOM, Math.max(least, view.zoom));
  view.x = Math.min(facts.width, Math.max(0, view.x));
  view.y = Math.min(facts.height, Math.max(0, view.y));
  paint();
  tell();
  if (renderer) renderer.update().catch(stop);
}

function stop(error) {
  say(error.message);
  renderer = null;
  paint();
}

function whole() {
  fits = true;
  Object.assign(view, {x: facts.width / 2, y: facts.height / 2, zoom: fitting()});
  changed();
}

function move(right, down) {
  fits = false;
  view.x += right / view.zoom;
  view.y += down / view.zoom;
  changed();
}

/** Zooms and keeps the point at (x, y), from the middle in screen pixels, where it is. */
function zoom(factor, x = 0, y = 0) {
  fits = false;
  const before = view.zoom;
  view.zoom = Math.min(MOST_ZOOM, Math.max(0.5 * Math.min(1, fitting()), view.zoom * factor));
  view.x += x / before - x / view.zoom;
  view.y += y / before - y / view.zoom;
  changed();
}

let pointed = null;     // where the pointer is, in pixels of the picture

function fromMiddle(event) {
  const box = event.currentTarget.getBoundingClientRect();
  return [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2];
}

function tell() {
  const x = pointed ? view.x + pointed[0] / view.zoom : view.x, y = pointed ? view.y + pointed[1] / view.zoom : view.y;
  const longer = Math.max(facts.width, facts.height), digits = Math.max(4, Math.ceil(Math.log10(longer * view.zoom)));
  const inside = x >= 0 && y >= 0 && x < facts.width && y < facts.height;
  document.getElementById("zoom").textContent = `${view.zoom.toPrecision(view.zoom < 1000 ? 3 : 5)}×`;
  document.getElementById("place").textContent = inside
    ? `pixel ${Math.floor(x)}, ${Math.floor(y)}  ·  ${(x / longer).toFixed(digits)}, ${(y / longer).toFixed(digits)}` : "";
}

function listen(of) {
  const fingers = new Map();
  const middle = () => [0, 1].map(k => [...fingers.values()].reduce((sum, p) => sum + p[k], 0) / fingers.size);
  const spread = () => { const [a, b] = fingers.values(); return Math.hypot(a[0] - b[0], a[1] - b[1]); };
  of.addEventListener("pointerdown", event => {
    of.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, fromMiddle(event));
  });
  of.addEventListener("pointermove", event => {
    pointed = fromMiddle(event);
    if (!fingers.has(event.pointerId) || fingers.size > 2) return tell();
    const [x, y] = middle(), apart = fingers.size === 2 ? spread() : 1;
    fingers.set(event.pointerId, pointed);
    const [right, down] = middle();
    move(x - right, y - down);
    if (fingers.size === 2) zoom(spread() / Math.max(1, apart), right, down);
  });
  for (const name of ["pointerup", "pointercancel"])
    of.addEventListener(name, event => fingers.delete(event.pointerId));
  of.addEventListener("pointerleave", () => { pointed = null; tell(); });
  of.addEventListener("wheel", event => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1;
    zoom(Math.exp(-Math.max(-300, Math.min(300, event.deltaY * lines)) / (event.ctrlKey ? 100 : 400)), ...fromMiddle(event));
  }, {passive: false});
  of.addEventListener("dblclick", event => zoom(event.shiftKey ? 0.5 : 2, ...fromMiddle(event)));
}

function compare() {
  const beside = document.getElementById("beside"), button = document.getElementById("compare");
  beside.hidden = document.getElementById("caption").hidden = !beside.hidden;
  button.setAttribute("aria-pressed", String(!beside.hidden));
  resize();
}

function fullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else document.documentElement.requestFullscreen?.().catch(() => say("This browser gives no full screen."));
}

const actions = {
  ArrowLeft: () => move(-80, 0), ArrowRight: () => move(80, 0), ArrowUp: () => move(0, -80), ArrowDown: () => move(0, 80),
  "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), _: () => zoom(1 / 1.5),
  0: whole, f: fullScreen, F: fullScreen, c: compare, C: compare,
};

function resize() {
  for (const of of [canvas, pixelCanvas]) {
    of.width = Math.max(1, Math.round(of.clientWidth * ratio()));
    of.height = Math.max(1, Math.round(of.clientHeight * ratio()));
  }
  if (fits) whole(); else changed();
}

// -- the beginning ----------------------------------------------------------------------------------------

const own = pictureOf(facts.picture), best = facts.enlarged ? pictureOf(facts.enlarged) : own;
let renderer = null;
try {
  if (facts.model) renderer = new Renderer(new ModelFunction());
} catch (error) {
  say(error.message);
}

/** `?test`, or `?test=x,y,step,columns,rows`: the samples from a corner on, as bytes in the page, for tests. */
function test(asked) {
  const [x, y, step, columns, rows] = asked ? asked.split(",").map(Number) : [0, 0, 1, facts.width, facts.height];
  const bytes = renderer.model.read(x + step / 2, y + step / 2, step, columns, rows);
  const found = document.createElement("pre");
  found.id = "test";
  found.hidden = true;
  found.textContent = btoa(bytes.reduce((text, byte) => text + String.fromCharCode(byte), ""));
  document.body.append(found);
}

const asked = new URLSearchParams(location.search);
if (asked.has("test") && renderer) {
  test(asked.get("test"));
  renderer = null;
}

listen(canvas);
listen(pixelCanvas);
window.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || !actions[event.key]) return;
  event.preventDefault();
  actions[event.key]();
});
document.getElementById("in").onclick = () => zoom(1.5);
document.getElementById("out").onclick = () => zoom(1 / 1.5);
document.getElementById("reset").onclick = whole;
document.getElementById("compare").onclick = compare;
document.getElementById("full").onclick = fullScreen;
document.getElementById("full").hidden = !document.fullscreenEnabled;
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
new ResizeObserver(resize).observe(document.getElementById("panes"));
resize();

// An address may name a place: #x,y,zoom in pixels, and #...,compare.
const [x, y, factor, beside] = location.hash.slice(1).split(",");
if (beside) compare();
if (Number(factor) > 0) {
  fits = false;
  Object.assign(view, {x: Number(x), y: Number(y), zoom: Number(factor)});
  changed();
}
