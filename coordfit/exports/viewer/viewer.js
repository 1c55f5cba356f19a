// -- moving about -----------------------------------------------------------------------------------------

const fitting = () => Math.min(canvas.clientWidth / facts.width, canvas.clientHeight / facts.height);
const limited = zoom => Math.min(MOST_ZOOM, Math.max(0.5 * Math.min(1, fitting()), zoom));
let fits = true;    // whether the whole picture is shown, however large the window

function changed() {
  view.zoom = limited(view.zoom);
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
  view.zoom = limited(view.zoom * factor);
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
  const [right, down] = pointed ?? [0, 0], x = view.x + right / view.zoom, y = view.y + down / view.zoom;
  const longer = Math.max(facts.width, facts.height);
  const digits = Math.max(4, Math.ceil(Math.log10(longer * view.zoom)));
  const inside = x >= 0 && y >= 0 && x < facts.width && y < facts.height;
  document.getElementById("zoom").textContent = `${view.zoom.toPrecision(view.zoom < 1000 ? 3 : 5)}×`;
  document.getElementById("place").textContent = inside
    ? `pixel ${Math.floor(x)}, ${Math.floor(y)} · ${(x / longer).toFixed(digits)}, ${(y / longer).toFixed(digits)}`
    : "";
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
    const unit = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1;      // lines, pages or pixels
    const turned = Math.max(-300, Math.min(300, event.deltaY * unit));
    zoom(Math.exp(-turned / (event.ctrlKey ? 100 : 400)), ...fromMiddle(event));
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
  ArrowLeft: () => move(-80, 0), ArrowRight: () => move(80, 0),
  ArrowUp: () => move(0, -80), ArrowDown: () => move(0, 80),
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

/** `?test=x,y,step,columns,rows`: the samples from a corner on, as bytes in the page, for tests. */
function test(asked) {
  const [x, y, step, columns, rows] = asked.split(",").map(Number);
  const bytes = renderer.model.read(x + step / 2, y + step / 2, step, columns, rows);
  const found = document.createElement("pre");
  found.className = "test";
  found.hidden = true;
  found.textContent = btoa(bytes.reduce((text, byte) => text + String.fromCharCode(byte), ""));
  document.body.append(found);
}

const asked = new URLSearchParams(location.search);
if (asked.has("test") && renderer) {
  asked.getAll("test").forEach(test);
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
