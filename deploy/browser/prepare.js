// A picture's grey levels → the model's input, step by step as worker/imaging/prepare.py has it, and
// what the pixels alone forbid, as worker/imaging/decode.py has it. Pure functions of arrays: a film
// is {levels, rows, columns}, levels from 0 to 255, 255 brightest.

const SMALLEST_SIDE_PX = 100;
const LEAST_CONTRAST = 0.02 * 255; // between percentiles 0.5 and 99.5
const GLANCE_PX = 128;
const SPARE = 4; // times the model's side: films of more are halved first
const INVERTED_BELOW = -0.3, TURNED_MARGIN = 0.2;

// Left half of the mean chest film in standard deviations: see worker/imaging/polarity.py.
const LEFT_HALF = [
  [-1.8, -1.3, -0.6, 0.5],
  [-0.9, 0.0, -0.2, 0.3],
  [-0.7, 0.2, -0.6, 0.4],
  [-0.9, 0.1, -0.6, 0.8],
  [-1.1, -0.1, -0.1, 1.2],
  [-1.3, -0.1, 0.4, 1.4],
  [-1.5, 0.4, 1.2, 1.7],
  [-1.4, 0.9, 1.7, 2.0],
];

/** Float32Array of size × size in [0, 1]: squash, then stretch. `input` is the card's. */
export function modelInput(film, input) {
  return stretch(square(film, input.size_px), input.low_percentile, input.high_percentile);
}

/** Why no model should be asked: too-small, blank-picture, polarity-unsure; or null. */
export function pixelRefusal(film) {
  if (Math.min(film.rows, film.columns) < SMALLEST_SIDE_PX) return "too-small";
  while (Math.min(film.rows, film.columns) >= GLANCE_PX) film = halve(film);
  const ordered = Float32Array.from(film.levels).sort();
  if (percentile(ordered, 99.5) - percentile(ordered, 0.5) < LEAST_CONTRAST) return "blank-picture";
  return looksInverted(film) ? "polarity-unsure" : null;
}

/** Squash to size × size, whatever the shape; large films are halved first. */
function square(film, size) {
  let { rows: height, columns: width } = film; // of halved films less than their pixels, by half a line
  while (Math.min(film.rows, film.columns) >= SPARE * size) {
    film = halve(film);
    height /= 2;
    width /= 2;
  }
  return resample(film, height, width, size, triangle).map((level) => level / 255);
}

/** Map the film's own percentiles to 0 and 1 and clip. */
function stretch(pixels, lowPercentile, highPercentile) {
  const ordered = pixels.slice().sort();
  const low = percentile(ordered, lowPercentile);
  const high = percentile(ordered, highPercentile);
  if (high - low < 1e-6) return new Float32Array(pixels.length);
  return pixels.map((pixel) => Math.min(1, Math.max(0, (pixel - low) / (high - low))));
}

/** Linear between two of the ordered pixels. */
function percentile(ordered, percent) {
  const place = ((ordered.length - 1) * percent) / 100;
  const below = Math.floor(place);
  const above = Math.min(below + 1, ordered.length - 1);
  return ordered[below] + (ordered[above] - ordered[below]) * (place - below);
}

/** The rounded mean of each 2 × 2 block; an odd last line counts twice. */
function halve({ levels, rows, columns }) {
  const half = { rows: (rows + 1) >> 1, columns: (columns + 1) >> 1 };
  half.levels = new Uint8Array(half.rows * half.columns);
  for (let row = 0; row < half.rows; row++) {
    const upper = 2 * row * columns;
    const lower = Math.min(2 * row + 1, rows - 1) * columns;
    for (let column = 0; column < half.columns; column++) {
      const left = 2 * column;
      const right = Math.min(left + 1, columns - 1);
      const sum = levels[upper + left] + levels[upper + right] + levels[lower + left] + levels[lower + right];
      half.levels[row * half.columns + column] = (sum + 2) >> 2;
    }
  }
  return half;
}

/** `height` × `width` of a film → Float32Array of size × size: along the rows first, then down. */
export function resample({ levels, rows, columns }, height, width, size, kernel) {
  const across = kernel(columns, width, size);
  const narrow = new Float32Array(rows * size);
  for (let row = 0; row < rows; row++) {
    for (let to = 0; to < size; to++) {
      const { first, weights } = across[to];
      let sum = 0;
      for (let k = 0; k < weights.length; k++) sum += weights[k] * levels[row * columns + first + k];
      narrow[row * size + to] = sum;
    }
  }
  const down = kernel(rows, height, size);
  const small = new Float32Array(size * size);
  for (let to = 0; to < size; to++) {
    const { first, weights } = down[to];
    for (let column = 0; column < size; column++) {
      let sum = 0;
      for (let k = 0; k < weights.length; k++) sum += weights[k] * narrow[(first + k) * size + column];
      small[to * size + column] = sum;
    }
  }
  return small;
}

/** Pillow's antialiased BILINEAR: a triangle as wide as two steps of the result, one pixel at least. */
export function triangle(pixels, span, size) {
  const scale = span / size, reach = Math.max(scale, 1);
  return window(size, pixels, (to) => {
    const centre = (to + 0.5) * scale;
    const from = Math.trunc(centre - reach + 0.5), end = Math.trunc(centre + reach + 0.5);
    return [from, end, (pixel) => 1 - Math.abs(pixel + 0.5 - centre) / reach];
  });
}

/** The mean over each part of the film, as OpenCV's INTER_AREA. */
function area(pixels, span, size) {
  const scale = span / size;
  return window(size, pixels, (to) => {
    const start = to * scale, end = start + scale;
    return [Math.floor(start), Math.ceil(end), (pixel) => Math.min(end, pixel + 1) - Math.max(start, pixel)];
  });
}

/** For each pixel of the result: the first pixel it takes from, and weights that add up to 1. */
function window(size, pixels, at) {
  return Array.from({ length: size }, (_, to) => {
    const [from, end, weigh] = at(to);
    const first = Math.max(0, from);
    const weights = [];
    for (let pixel = first; pixel < Math.min(pixels, end); pixel++) weights.push(Math.max(0, weigh(pixel)));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
}

/** Whether a chest film is surely shown as its negative, upright or upside down. */
function looksInverted(film) {
  const small = Array.from(resample(film, film.rows, film.columns, 8, area));
  const chest = LEFT_HALF.flatMap((half) => [...half, ...half.toReversed()]);
  const upright = correlation(small, chest), turned = correlation(small, chest.toReversed());
  return upright < INVERTED_BELOW || (turned < INVERTED_BELOW && -turned > upright + TURNED_MARGIN);
}

function correlation(one, other) {
  const [a, b] = [one, other].map((values) => {
    const mean = values.reduce((total, value) => total + value, 0) / values.length;
    return values.map((value) => value - mean);
  });
  const product = (x, y) => x.reduce((total, value, index) => total + value * y[index], 0);
  const norm = Math.sqrt(product(a, a) * product(b, b));
  return norm < 1e-6 ? 0 : product(a, b) / norm;
}
