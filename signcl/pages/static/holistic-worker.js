// MediaPipe Holistic beside the page: pictures in, key points out. The page says where its files are and how it is set.
//   {files, settings}  -> {ready: true}
//   {reset: true}      -> {ready: true}: forget who was tracked
//   {picture}          -> {points}: x, y, depth in pixels and a confidence of 543 points, zero where not found
//   whatever fails     -> {error}
"use strict";
const PARTS = [["poseLandmarks", 33], ["faceLandmarks", 468], ["leftHandLandmarks", 21], ["rightHandLandmarks", 21]];
const PERIOD = 1000 / 30; // milliseconds: MediaPipe's Python counts so whatever the rate of a clip, and smooths by it
let holistic = null;
let found = null;
let frame = 0;
const canvas = new OffscreenCanvas(1, 1);

// The library's own branch for workers forgets its WebGL context. So it is given what its branch for pages asks of a
// page: a canvas, and scripts that are loaded.
const nothing = () => {};
const element = (name) => {
  if (name === "canvas") return Object.assign(new OffscreenCanvas(1, 1), { style: {} });
  const listeners = {};
  return { listeners, setAttribute(key, value) { this[key] = value; }, addEventListener: (kind, act) => { listeners[kind] = act; } };
};
const load = (script) => {
  if (!script.src) return;
  importScripts(script.src);
  queueMicrotask(script.listeners.load);
};
Object.assign(self, { window: self, document: { addEventListener: nothing, createElement: element, body: { appendChild: load } }, alert: (text) => { throw new Error(text); } });
console.warn = console.debug; // what it says of every start

const start = async ({ files, settings }) => {
  importScripts(`${files}holistic.js`);
  holistic = new Holistic({ locateFile: (name) => `${files}${name}` });
  holistic.setOptions({
    modelComplexity: settings.model_complexity,
    smoothLandmarks: settings.smooth_landmarks,
    refineFaceLandmarks: settings.refine_face_landmarks,
    minDetectionConfidence: settings.min_detection_confidence,
    minTrackingConfidence: settings.min_tracking_confidence,
    useCpuInference: settings.inference === "cpu",
    enableSegmentation: false,
    selfieMode: false,
  });
  holistic.onResults((results) => { found = results; });
  await holistic.initialize();
  return { ready: true };
};
const points = async (picture) => {
  const { width, height } = picture;
  Object.assign(canvas, { width, height });
  canvas.getContext("2d").drawImage(picture, 0, 0);
  picture.close();
  frame += 1;
  await holistic.send({ image: canvas }, frame * PERIOD);
  const made = new Float32Array(4 * PARTS.reduce((sum, [, count]) => sum + count, 0));
  let at = 0;
  for (const [part, count] of PARTS) {
    const landmarks = found[part];
    for (let n = 0; n < count; n += 1, at += 4) {
      if (!landmarks) continue;
      const { x, y, z, visibility } = landmarks[n];
      made.set([x * width, y * height, z * width, part === "poseLandmarks" ? visibility : 1], at);
    }
  }
  return { points: made };
};
addEventListener("message", async ({ data }) => {
  if (!data.files && !data.reset && !data.picture) return; // the library sends itself messages
  try {
    if (data.picture) {
      const answer = await points(data.picture);
      return postMessage(answer, [answer.points.buffer]);
    }
    postMessage(data.reset ? (await holistic.reset(), { ready: true }) : await start(data));
  } catch (error) {
    postMessage({ error: error.message || String(error) });
  }
});
