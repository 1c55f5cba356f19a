// The function, for one sample of a block. The constants before this text are the model's own.
// Positions are in pixels of the picture, as the sum of a whole pixel, of the part of it at the block's first
// sample, and of the distance from there: so that no digits are lost however far one zooms in.
uniform sampler2D uData;    // all numbers of the model
uniform ivec2 uWhole;       // the pixel of the block's first sample
uniform vec2 uPart;         // its place in that pixel
uniform float uStep;        // pixels from sample to sample
uniform float uTop;         // the block's upper edge on the canvas
out vec4 result;

vec4 units[WIDEST], outputs[WIDEST];    // four units each

vec4 data(int i) {
  return texelFetch(uData, ivec2(i & (ACROSS - 1), i >> ACROSS_BITS), 0);
}

// The colours of the network at texel `at`, from its features in `units`.
vec4 network(int at) {
  for (int layer = 0; layer < LAYERS; layer++) {
    bool last = layer == LAYERS - 1;
    for (int o = 0; o < SIZES[layer + 1]; o++) {
      vec4 z = data(at++);
      for (int i = 0; i < SIZES[layer]; i++, at += 4) {
        vec4 x = units[i];
        z += x.x * data(at) + x.y * data(at + 1) + x.z * data(at + 2) + x.w * data(at + 3);
      }
      outputs[o] = last ? output_activation(z) : activation(z);
    }
    for (int o = 0; o < SIZES[layer + 1]; o++) units[o] = outputs[o];
  }
  return units[0];
}

#ifdef FOURIER
// cos and sin of 2 pi B v; `turns` are the whole and broken turns of four frequencies.
void wave(int group, vec4 turns) {
  vec4 phase = 6.283185307179586 * (turns - round(turns));
  units[group] = cos(phase);
  units[FREQUENCIES + group] = sin(phase);
}
#endif

#ifdef TILED
void features(vec2 v) {
#ifdef FOURIER
  for (int g = 0; g < FREQUENCIES; g++) wave(g, data(2 * g) * v.x + data(2 * g + 1) * v.y);
#else
  units[0] = vec4(v, 0.0, 0.0);
#endif
}

// The tiles at half of a pixel: the starts of two, the border between them, and the number of the first.
vec4 along(int table, int length, int whole, float part) {
  return data(table + clamp(2 * whole + int(floor(2.0 * part)), 0, 2 * length - 1));
}

// The share of the second tile there.
float rise(vec4 tiles, int whole, float part) {
  float t = clamp((float(whole) - tiles.z + part) / OVERLAP + 0.5, 0.0, 1.0);
  return 0.5 - 0.5 * cos(3.141592653589793 * t);
}

vec4 colours(vec2 from_first) {
  vec2 part = uPart + from_first;
  vec4 columns = along(COLUMNS_AT, WIDTH, uWhole.x, part.x), rows = along(ROWS_AT, HEIGHT, uWhole.y, part.y);
  vec2 second = vec2(rise(columns, uWhole.x, part.x), rise(rows, uWhole.y, part.y));
  vec4 sum = vec4(0.0);
  for (int k = 0; k < 4; k++) {
    ivec2 which = ivec2(k % 2, k / 2);
    vec2 shares = mix(1.0 - second, second, vec2(which));
    float share = shares.x * shares.y;
    if (share <= 0.0) continue;
    vec2 start = vec2(columns[which.x], rows[which.y]);
    features((vec2(uWhole) - start + part) / SIDE);
    int tile = (int(rows.w) + which.y) * COLUMNS + int(columns.w) + which.x;
    sum += share * network(NETWORKS_AT + tile * STRIDE);
  }
  return sum;
}
#endif

#ifdef ONE
#ifdef FOURIER
uniform sampler2D uTurns;   // B v of the block's first sample, without whole turns

void features(vec2 from_first) {
  vec2 v = from_first / LONGER;
  for (int g = 0; g < FREQUENCIES; g++)
    wave(g, texelFetch(uTurns, ivec2(g, 0), 0) + data(2 * g) * v.x + data(2 * g + 1) * v.y);
}
#endif

#ifdef LEVELS
uniform ivec2 uCell[LEVELS];    // of each level, the node before the block's first sample
uniform vec2 uInCell[LEVELS];   // and the place behind it, in distances of nodes

// The first node, counted from -TAPS / 2 + 1, and the place behind it, kept inside of the nodes.
float kept(inout int cell, float place, int count) {
  int margin = TAPS / 2 - 1, most = count - 2 + 2 * margin;
  float t = place - floor(place);
  cell += int(floor(place)) + margin;
  if (cell < 0) t = 0.0;
  if (cell > most) t = 1.0;
  cell = clamp(cell, 0, most);
  return t;
}

vec4 weights(float t) {
  vec4 sum = KERNEL[TAPS - 1];
  for (int k = TAPS - 2; k >= 0; k--) sum = sum * t + KERNEL[k];
  return sum;
}

void features(vec2 from_first) {
  int at = 0;
  for (int l = 0; l < LEVELS; l++) {
    ivec4 level = LEVEL[l];     // first texel, rows, columns, texels of a node
    vec2 place = uInCell[l] + from_first / NODE[l];
    ivec2 cell = uCell[l];
    float x = kept(cell.x, place.x, level.z), y = kept(cell.y, place.y, level.y);
    vec4 across = weights(x), down = weights(y);
    for (int g = 0; g < level.w; g++) units[at + g] = vec4(0.0);
    for (int k = 0; k < TAPS * TAPS; k++) {
      ivec2 tap = ivec2(k % TAPS, k / TAPS);
      ivec2 node = clamp(cell + tap - TAPS + 2, ivec2(0), level.zy - 1);
      int texel = level.x + (node.y * level.z + node.x) * level.w;
      for (int g = 0; g < level.w; g++) units[at + g] += across[tap.x] * down[tap.y] * data(texel + g);
    }
    at += level.w;
  }
}
#endif

#ifdef IDENTITY
void features(vec2 from_first) {
  units[0] = vec4((vec2(uWhole) + uPart + from_first) / LONGER, 0.0, 0.0);
}
#endif

vec4 colours(vec2 from_first) {
  features(from_first);
  return network(NETWORKS_AT);
}
#endif

void main() {
  vec2 sample_number = vec2(gl_FragCoord.x, uTop - gl_FragCoord.y) - 0.5;
  vec4 y = clamp(colours(uStep * sample_number), 0.0, 1.0);
  result = CHANNELS == 1 ? vec4(y.xxx, 1.0) : CHANNELS == 2 ? y.xxxy : CHANNELS == 3 ? vec4(y.xyz, 1.0) : y;
}
