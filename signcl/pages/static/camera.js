// Recording with the camera and trimming the recording; translate.js decides what happens with it.
// recording({ done, problem }): offers the camera; done(clip, part) is called with a File and {start, stop} or null.
"use strict";
globalThis.recording = ({ done, problem }) => {
  const $ = (id) => document.getElementById(id);
  const KINDS = ["video/webm;codecs=vp9", "video/webm;codecs=vp8", "video/webm", "video/mp4"];
  const COUNTDOWN = 3; // seconds, to get ready
  const LONGEST = 60; // seconds
  let stream = null;
  let recorder = null;
  let ticking = 0;
  let clip = null; // the recording under review
  let length = 0; // its length in seconds
  let source = "";

  // -- the camera ---------------------------------------------------------------------------------------------------
  const open = async () => {
    problem("");
    if (!navigator.mediaDevices?.getUserMedia) return problem(say(isSecureContext ? "translate.no_camera" : "translate.camera_insecure"));
    if (!globalThis.MediaRecorder) return problem(say("translate.no_recorder"));
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: false, video: { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } } });
    } catch (error) {
      if (error.name === "NotAllowedError") return problem(say("translate.camera_denied"));
      if (error.name === "NotFoundError") return problem(say("translate.no_camera"));
      return problem(say("translate.camera_busy", { why: error.name }));
    }
    $("live").srcObject = stream;
    stream.getVideoTracks()[0].addEventListener("ended", off); // camera unplugged
    forget();
    $("ways").hidden = true; // one thing at a time
    $("recorder").hidden = false;
    idle();
    $("record").focus();
  };
  const off = () => {
    clearInterval(ticking);
    if (recorder?.state === "recording") {
      recorder.onstop = null;
      recorder.stop();
    }
    recorder = null;
    for (const track of stream?.getTracks() ?? []) track.stop();
    stream = null;
    $("live").srcObject = null;
    $("recorder").hidden = true;
    $("ways").hidden = false;
  };
  const idle = () => {
    clearInterval(ticking);
    $("record").textContent = say("translate.start");
    $("clock").textContent = "";
    $("recorder").classList.remove("on");
    recorder = null;
  };
  // once per second: seconds until the start, then seconds recorded
  const count = (from, by, until, then) => {
    let seconds = from;
    const show = () => { $("clock").textContent = say("translate.seconds", { seconds }); };
    clearInterval(ticking);
    show();
    ticking = setInterval(() => {
      seconds += by;
      if (seconds === until) return then();
      show();
    }, 1000);
  };
  const record = () => {
    if (recorder?.state === "recording") return recorder.stop();
    if ($("recorder").classList.contains("on")) return start(); // during the countdown
    $("recorder").classList.add("on");
    $("record").textContent = say("translate.now");
    count(COUNTDOWN, -1, 0, start);
  };
  const start = () => {
    const kind = KINDS.find((name) => MediaRecorder.isTypeSupported(name));
    if (!kind) return problem(say("translate.no_recorder"));
    const parts = [];
    recorder = new MediaRecorder(stream, { mimeType: kind });
    recorder.ondataavailable = (event) => { if (event.data.size) parts.push(event.data); };
    recorder.onstop = () => {
      const made = new Blob(parts, { type: kind.split(";")[0] });
      off();
      if (!made.size) return problem(say("translate.nothing_recorded"));
      review(new File([made], `camera.${made.type.split("/")[1]}`, { type: made.type }));
    };
    recorder.start();
    $("record").textContent = say("translate.stop");
    count(0, 1, LONGEST, () => recorder.stop());
  };
  $("camera").addEventListener("click", open);
  $("record").addEventListener("click", record);
  $("leave").addEventListener("click", () => { off(); $("camera").focus(); });
  addEventListener("pagehide", off);

  // -- what was recorded --------------------------------------------------------------------------------------------
  const player = $("player");
  const forget = () => {
    player.pause();
    if (source) URL.revokeObjectURL(source);
    source = "";
    clip = null;
    $("review").hidden = true;
    $("ways").hidden = false;
  };
  // A recorder writes the header before it knows the length: the browser learns it only by seeking to the end
  const measured = () => new Promise((known) => {
    const found = () => { if (Number.isFinite(player.duration)) { player.ondurationchange = null; known(player.duration); } };
    player.ondurationchange = found;
    player.onerror = () => known(0);
    player.onloadedmetadata = () => { if (!Number.isFinite(player.duration)) player.currentTime = 1e7; else found(); };
  });
  const review = async (file) => {
    forget();
    clip = file;
    source = URL.createObjectURL(file);
    const known = measured();
    player.src = source;
    length = Math.floor(100 * await known) / 100; // rounded down, so that no player goes beyond the end
    if (clip !== file) return;
    if (!length) return done(file, null); // it cannot be played here, so it cannot be trimmed
    for (const id of ["from", "to"]) $(id).max = length;
    $("from").value = 0;
    $("to").value = length;
    player.currentTime = 0;
    marks();
    $("review").hidden = false;
    $("ways").hidden = true;
    $("send").focus();
  };
  const marks = () => {
    for (const id of ["from", "to"]) {
      const seconds = say("translate.seconds", { seconds: inWords(Number($(id).value), 2) });
      $(`${id}-said`).textContent = seconds;
      $(id).setAttribute("aria-valuetext", seconds);
    }
  };
  const SHORTEST = 0.1; // seconds
  const cut = (id) => {
    if (id === "from") $("from").value = Math.min(Number($("from").value), Number($("to").value) - SHORTEST);
    else $("to").value = Math.max(Number($("to").value), Number($("from").value) + SHORTEST);
    player.pause();
    player.currentTime = Number($(id).value);
    marks();
  };
  for (const id of ["from", "to"]) $(id).addEventListener("input", () => cut(id));
  player.addEventListener("timeupdate", () => { // plays the selected part in a loop
    if (!player.paused && player.currentTime >= Number($("to").value)) player.currentTime = Number($("from").value);
  });
  player.addEventListener("ended", () => { player.currentTime = Number($("from").value); player.play(); });
  const playing = () => { $("play").textContent = say(player.paused ? "translate.play" : "translate.pause"); };
  player.addEventListener("play", playing);
  player.addEventListener("pause", playing);
  $("play").addEventListener("click", () => {
    if (!player.paused) return player.pause();
    if (player.currentTime < Number($("from").value) || player.currentTime >= Number($("to").value)) player.currentTime = Number($("from").value);
    player.play();
  });
  $("send").addEventListener("click", () => {
    const [start, stop] = [Number($("from").value), Number($("to").value)];
    const file = clip;
    forget();
    done(file, start > 0 || stop < length ? { start, stop } : null);
  });
  $("again").addEventListener("click", open);
  $("discard").addEventListener("click", () => { forget(); $("camera").focus(); });
  return { review };
};
