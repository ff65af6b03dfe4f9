// What the page reckons itself: costs by a price list, intervals by the bootstrap, and hulls of points.
// Means and areas agree with flarekit's own; intervals come from fewer resamples.
"use strict";

const RESAMPLES = 1000;

const priceOf = (parts, prices) => parts.reduce((sum, part, place) => sum + part * prices[place], 0);
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

// Intervals

function generator(seed) { // mulberry32: small, fast, and the same on every machine
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const draws = new Map(); // places to draw, by the number of values

function drawn(n) {
  if (!draws.has(n)) {
    const random = generator(0);
    draws.set(n, Uint32Array.from({ length: RESAMPLES * n }, () => Math.floor(random() * n)));
  }
  return draws.get(n);
}

// The bounds of the mean by the percentile bootstrap, 95%; null where one value leaves them unknown.
function bounds(values) {
  const n = values.length;
  if (n < 2) return null;
  const places = drawn(n);
  const means = new Float64Array(RESAMPLES);
  for (let round = 0, at = 0; round < RESAMPLES; round++) {
    let sum = 0;
    for (let i = 0; i < n; i++) sum += values[places[at++]];
    means[round] = sum / n;
  }
  means.sort();
  return [0.025, 0.975].map((part) => {
    const place = part * (RESAMPLES - 1);
    const low = Math.floor(place);
    return means[low] + (place - low) * (means[Math.min(low + 1, RESAMPLES - 1)] - means[low]);
  });
}

// Hulls: points are [cost, score], from the cheapest to the dearest

const rises = ([x0, y0], [x1, y1]) => (y1 - y0) / (x1 - x0);

// The least concave line above the points that never falls.
function hullOf(points) {
  const hull = [];
  for (const point of [...points].sort((a, b) => a[0] - b[0] || b[1] - a[1])) {
    if (hull.length && point[1] <= hull.at(-1)[1]) continue; // dearer and no better
    while (hull.length > 1 && rises(hull.at(-2), hull.at(-1)) <= rises(hull.at(-1), point)) hull.pop();
    hull.push(point);
  }
  return hull;
}

// The area under a hull from `low` to `high`, divided by that range; beyond its last point it stays level.
function meanUnder(hull, low, high) {
  if (!(high > low)) return null;
  const at = (x) => {
    const next = hull.findIndex((point) => point[0] >= x);
    if (next < 0) return hull.at(-1)[1];
    if (next === 0) return hull[0][1];
    return hull[next - 1][1] + (x - hull[next - 1][0]) * rises(hull[next - 1], hull[next]);
  };
  const stops = [low, ...hull.map((point) => point[0]).filter((x) => x > low && x < high), high];
  const pieces = stops.slice(1).map((x, i) => ((x - stops[i]) * (at(x) + at(stops[i]))) / 2);
  return pieces.reduce((sum, piece) => sum + piece, 0) / (high - low);
}

// The points of every family, with the arm that never acts; the oracle, which no rule can know, is no family.
function families(rows, unhelped) {
  const start = rows.filter((row) => row.kind === "run" && row.policy === unhelped);
  const found = new Map();
  for (const row of rows) {
    if (row.kind !== "run" && row.kind !== "derived") continue;
    if (!found.has(row.family)) found.set(row.family, { own: [], all: [...start] });
    const family = found.get(row.family);
    family.own.push(row);
    if (!start.includes(row)) family.all.push(row);
  }
  return found;
}
