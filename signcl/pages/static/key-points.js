// Key points found in the browser: frames of a clip go to MediaPipe Holistic in a worker, and become a .pose file.
// keyPointFinder(about): about is `key_points` of /api/site.
"use strict";
globalThis.keyPointFinder = (about) => {
  const NUMBERS = 4; // of a point: x, y, depth, confidence
  const all = about.parts.at(-1)[1]; // points
  let worker = null;
  let turn = Promise.resolve(); // one clip at a time

  const end = () => { worker?.terminate(); worker = null; };
  const ask = (message, moved = []) => new Promise((answered, failed) => {
    worker.onmessage = ({ data }) => {
      if (data.error) failed(new Error(data.error));
      else if (data.ready || data.points) answered(data);
    };
    worker.onerror = (event) => failed(new Error(event.message || "worker"));
    worker.postMessage(message, moved);
  });
  const ready = async () => {
    if (worker) return ask({ reset: true });
    worker = new Worker(about.worker);
    return ask({ files: about.files, settings: about.settings });
  };

  const happens = (target, kind, signal) => new Promise((yes, no) => {
    target.addEventListener(kind, yes, { once: true, signal });
    target.addEventListener("error", () => no(new Error("cannot be played")), { once: true, signal });
  });
  const seek = async (player, time) => {
    const sought = happens(player, "seeked");
    player.currentTime = time;
    await sought;
    if (player.seeking) await happens(player, "seeked"); // that was the end of the seek before
  };
  // A recorder does not know the end when it writes the head: only having looked there does the browser know it
  const opened = async (player, source) => {
    const known = happens(player, "loadeddata");
    player.src = source;
    await known;
    if (!player.videoWidth) throw new Error("no picture");
    if (!Number.isFinite(player.duration)) {
      const measured = happens(player, "durationchange");
      player.currentTime = 1e7;
      await measured;
    }
    return player.duration;
  };

  // All frames of a part of a clip at the rate of the training.
  //   player: a <video>; told({ frame, count, points, width, height }) after each frame; signal: ends it at once
  const find = async ({ player, source, part, most, told, signal }) => {
    const before = turn;
    let done;
    turn = new Promise((yes) => { done = yes; });
    const stopped = new Promise((_, no) => signal.addEventListener("abort", () => no(signal.reason), { once: true }));
    stopped.catch(() => {}); // nobody may wait for it yet
    const unless = (work) => Promise.race([stopped, work]);
    try {
      await unless(before);
      let length;
      try {
        length = await unless(opened(player, source));
      } catch (error) {
        throw Object.assign(error, { unplayable: !signal.aborted });
      }
      const start = part?.start ?? 0;
      const count = Math.max(1, Math.round((Math.min(part?.stop ?? length, length) - start) * about.fps));
      if (count > most) throw Object.assign(new Error("too long"), { count });
      await unless(ready());
      const { videoWidth: width, videoHeight: height } = player;
      const points = new Float32Array(count * all * NUMBERS);
      for (let frame = 0; frame < count; frame += 1) {
        // a little into the frame: no rounding of times shows the one before it
        await unless(seek(player, Math.min(start + (frame + 0.25) / about.fps, length)));
        const picture = await createImageBitmap(player);
        const answer = await unless(ask({ picture }, [picture]));
        points.set(answer.points, frame * all * NUMBERS);
        told({ frame, count, points: answer.points, width, height });
      }
      return { points, count, width, height, start };
    } catch (error) {
      end(); // it may be in the middle of a picture
      throw error;
    } finally {
      done();
    }
  };

  // The file that `signcl pose` writes: its head is given, the size of the picture is put in.
  const file = ({ points, count, width, height }, name) => {
    const head = Uint8Array.from(atob(about.head), (letter) => letter.charCodeAt(0));
    const view = new DataView(head.buffer);
    view.setUint16(4, width, true);
    view.setUint16(6, height, true);
    const body = new DataView(new ArrayBuffer(10 + 4 * points.length));
    body.setFloat32(0, about.fps, true);
    body.setUint32(4, count, true);
    body.setUint16(8, 1, true); // people
    const total = count * all;
    for (let n = 0; n < total; n += 1) {
      for (let place = 0; place < 3; place += 1) body.setFloat32(10 + 4 * (3 * n + place), points[NUMBERS * n + place], true);
      body.setFloat32(10 + 4 * (3 * total + n), points[NUMBERS * n + 3], true);
    }
    return new File([head, body.buffer], name);
  };
  const somebody = ({ points, count }) => {
    const [first, last] = about.parts[0]; // the body
    for (let frame = 0; frame < count; frame += 1) {
      for (let n = first; n < last; n += 1) if (points[NUMBERS * (frame * all + n) + 3] > 0) return true;
    }
    return false;
  };

  const draw = (canvas, points, width, height) => {
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const pen = canvas.getContext("2d");
    const unit = Math.max(width, height) / 320;
    const at = (n) => [points[NUMBERS * n], points[NUMBERS * n + 1]];
    const seen = (n) => points[NUMBERS * n + 3] > 0;
    pen.clearRect(0, 0, width, height);
    pen.lineCap = "round";
    for (const { colour, lines, dots } of about.drawing) {
      Object.assign(pen, { strokeStyle: colour, fillStyle: colour, lineWidth: 1.5 * unit });
      for (const [a, b] of lines) {
        if (!seen(a) || !seen(b)) continue;
        pen.beginPath();
        pen.moveTo(...at(a));
        pen.lineTo(...at(b));
        pen.stroke();
      }
      const radius = (lines.length ? 1.6 : 0.8) * unit;
      for (const n of dots) {
        if (!seen(n)) continue;
        pen.beginPath();
        pen.arc(...at(n), radius, 0, 7);
        pen.fill();
      }
    }
  };
  const frameOf = ({ points }, frame) => points.subarray(frame * all * NUMBERS, (frame + 1) * all * NUMBERS);
  addEventListener("pagehide", end);
  return { find, file, somebody, draw, frameOf };
};
