"use strict";

const facts = JSON.parse(document.getElementById("facts").textContent);
const textOf = id => document.getElementById(id).textContent;

const INSTEAD = "these are its pixels.";
// One triangle that covers the block.
const CORNERS = `#version 300 es
void main() { gl_Position = vec4(gl_VertexID == 1 ? 3 : -1, gl_VertexID == 2 ? 3 : -1, 0, 1); }`;
const SIDE = 512;   // of the canvas on which blocks are drawn, in samples

function bytesOf(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** The number of 16 bits: sign, exponent and fraction. */
function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = bits >> 10 & 31, fraction = bits & 1023;
  return sign * (exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction);
}

/** The numbers of the model: parts of 32 or of 16 bits each, and zeros behind them to the end of a row. */
function numbersOf({parts, across, down}) {
  const bytes = bytesOf(textOf("numbers").trim()).buffer, numbers = new Float32Array(4 * across * down);
  let from = 0, to = 0;
  for (const [size, count] of parts) {
    const part = bytes.slice(from, from += size * count);
    numbers.set(size === 4 ? new Float32Array(part) : Float32Array.from(new Uint16Array(part), half), to);
    to += count;
  }
  return numbers;
}

/** The model as a function on the graphics card: it draws blocks of samples on a canvas of its own. */
class ModelFunction {
  constructor() {
    this.canvas = document.createElement("canvas");
    this.canvas.width = this.canvas.height = SIDE;
    const options = {preserveDrawingBuffer: true, premultipliedAlpha: false, antialias: false, depth: false};
    const gl = this.gl = this.canvas.getContext("webgl2", options);
    if (!gl) throw new Error(`This browser has no WebGL 2, so the function cannot be drawn; ${INSTEAD}`);
    const {across, down} = facts.model;
    const most = gl.getParameter(gl.MAX_TEXTURE_SIZE);
    if (Math.max(across, down) > most)
      throw new Error(`The model has ${down} rows of numbers, and this graphics card takes ${most}; ${INSTEAD}`);
    this.program = this.makeProgram();
    gl.useProgram(this.program);
    gl.bindVertexArray(gl.createVertexArray());
    this.texture(0, across, down, numbersOf(facts.model));
    gl.uniform1i(this.place("uData"), 0);
    gl.uniform1i(this.place("uTurns"), 1);
    this.turns = new Float32Array(facts.model.frequencies.length * 4);
    if (this.turns.length) this.texture(1, facts.model.frequencies.length, 1, this.turns);
  }

  makeProgram() {
    const gl = this.gl, program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, CORNERS], [gl.FRAGMENT_SHADER, textOf("shader").trim()]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS) && !gl.isContextLost())
        console.error(gl.getShaderInfoLog(shader));
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) {
      console.error(gl.getProgramInfoLog(program));
      throw new Error(`The graphics driver does not take this function; ${INSTEAD}`);
    }
    return program;
  }

  place(name) { return this.gl.getUniformLocation(this.program, name); }

  texture(unit, width, height, numbers) {
    const gl = this.gl;
    gl.activeTexture(gl.TEXTURE0 + unit);
    if (!this[`made${unit}`]) {
      gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
      for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER])
        gl.texParameteri(gl.TEXTURE_2D, name, gl.NEAREST);
      this[`made${unit}`] = true;
    }
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA32F, width, height, 0, gl.RGBA, gl.FLOAT, numbers);
  }

  /** Draws samples `step` pixels apart, the first at (x, y) in pixels, to the upper left of the canvas. */
  draw(x, y, step, columns, rows) {
    const gl = this.gl, whole = [Math.floor(x), Math.floor(y)];
    gl.viewport(0, SIDE - rows, columns, rows);
    gl.uniform1f(this.place("uTop"), SIDE);
    gl.uniform1f(this.place("uStep"), step);
    gl.uniform2i(this.place("uWhole"), ...whole);
    gl.uniform2f(this.place("uPart"), x - whole[0], y - whole[1]);
    this.setReference(x, y);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  /** What belongs to the block's first sample alone is computed here, in twice the digits of the shader. */
  setReference(x, y) {
    const gl = this.gl, longer = Math.max(facts.width, facts.height), {frequencies, nodes} = facts.model;
    if (frequencies.length) {
      frequencies.flat().forEach(([bx, by], i) => {
        const turns = (bx * x + by * y) / longer;
        this.turns[i] = turns - Math.round(turns);
      });
      this.texture(1, frequencies.length, 1, this.turns);
    }
    if (nodes.length) {
      const places = nodes.flatMap(([start, step]) => [(x - start) / step, (y - start) / step]);
      gl.uniform2iv(this.place("uCell"), places.map(Math.floor));
      gl.uniform2fv(this.place("uInCell"), places.map(p => p - Math.floor(p)));
    }
  }

  /** Resolves when the card has done all that it was told. */
  async done() {
    const gl = this.gl, fence = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
    gl.flush();
    while (!gl.isContextLost() && gl.clientWaitSync(fence, 0, 0) === gl.TIMEOUT_EXPIRED)
      await new Promise(resolve => setTimeout(resolve, 1));
    gl.deleteSync(fence);
  }

  /** The colours of rows x columns samples, four bytes each, at once. */
  read(x, y, step, columns, rows) {
    const gl = this.gl, all = new Uint8Array(4 * columns * rows);
    for (let top = 0; top < rows; top += SIDE)
      for (let left = 0; left < columns; left += SIDE) {
        const w = Math.min(SIDE, columns - left), h = Math.min(SIDE, rows - top);
        const part = new Uint8Array(4 * w * h);
        this.draw(x + left * step, y + top * step, step, w, h);
        gl.readPixels(0, SIDE - h, w, h, gl.RGBA, gl.UNSIGNED_BYTE, part);
        for (let row = 0; row < h; row++)
          all.set(part.subarray(4 * w * row, 4 * w * (row + 1)), 4 * ((top + h - 1 - row) * columns + left));
      }
    return all;
  }
}
