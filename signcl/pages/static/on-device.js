// The choice to find the key points of a clip on this device: shown with progress, a skeleton and a way to stop.
// onDevice({ about, most, make, button }): takes(file) says whether a clip is for it; find(shown) does it.
"use strict";
globalThis.onDevice = ({ about, most, make, button }) => {
  const $ = (id) => document.getElementById(id);
  const ARRAYS = /\.(npy|npz|pose)$/i; // nothing is to be found in these
  const SHOWN = 30; // milliseconds between two looks at the player
  if (!about) return { takes: () => false };
  const lacks = () => {
    if (!globalThis.Worker || !globalThis.OffscreenCanvas || !globalThis.createImageBitmap) return say("translate.local_old_browser");
    return new OffscreenCanvas(1, 1).getContext("webgl2") ? "" : say("translate.local_no_webgl");
  };
  const why = about.why_not ?? (about.install ? "" : lacks());
  $("local").hidden = false;
  $("local-choice").hidden = Boolean(about.install || why);
  if (about.install) {
    const [before, after] = say("translate.local_not_installed").split("{command}");
    $("local-note").append(before, make("code", "", about.install), after);
  } else $("local-note").textContent = why ? say("translate.local_not", { why }) : say("translate.local_about");
  if (about.install || why) return { takes: () => false };
  const finder = keyPointFinder(about);

  const megabytes = (file) => inWords(file.size / 1e6, 1);
  const refusal = (error, file, found) => {
    if (error.unplayable) return say("translate.local_unplayable", { name: file.name });
    if (error.count) return say("translate.local_too_long", { name: file.name, count: inWords(error.count), fps: inWords(about.fps), most: inWords(most) });
    return say(found ? "translate.local_nobody" : "translate.local_failed", { count: inWords(found?.count ?? 0), why: error.message });
  };
  // While the clip plays, its skeleton goes with it
  const follow = (player, canvas, found) => {
    let last = -1;
    const look = () => {
      if (!player.isConnected) return clearInterval(ticking);
      const frame = Math.floor((player.currentTime - found.start) * about.fps);
      if (frame === last) return;
      last = frame;
      if (frame >= 0 && frame < found.count) finder.draw(canvas, finder.frameOf(found, frame), found.width, found.height);
      else canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
    };
    const ticking = setInterval(look, SHOWN);
  };

  // The .pose file of a clip, or null where there is none: then the card says why.
  const find = async (shown) => {
    const { file, part, left, right, bar, stage, track } = shown;
    const stop = new AbortController();
    const screen = make("div", "screen");
    const player = make("video");
    const canvas = make("canvas");
    Object.assign(player, { muted: true, playsInline: true, preload: "auto" });
    player.setAttribute("aria-label", say("translate.local_preview", { name: file.name }));
    canvas.setAttribute("aria-hidden", "true");
    screen.append(player, canvas);
    const cancel = button(say("translate.local_cancel"), () => stop.abort(), "quiet");
    left.replaceChildren(screen, cancel);
    const source = URL.createObjectURL(file);
    stage.textContent = say("translate.local_loading");
    track.classList.add("busy");
    const told = ({ frame, count, points, width, height }) => {
      track.classList.remove("busy");
      bar.style.width = `${(100 * (frame + 1)) / count}%`;
      stage.textContent = say("translate.local_finding", { frame: inWords(frame + 1), count: inWords(count) });
      finder.draw(canvas, points, width, height);
    };
    let found = null;
    try {
      found = await finder.find({ player, source, part, most, told, signal: stop.signal });
      if (!finder.somebody(found)) throw new Error("nobody");
    } catch (error) {
      cancel.remove();
      track.remove();
      stage.textContent = say(stop.signal.aborted ? "translate.local_cancelled" : "translate.failed");
      right.append(make("p", stop.signal.aborted ? "note" : "problem", stop.signal.aborted ? say("translate.local_nothing_sent") : refusal(error, file, found)));
      if (error.unplayable) left.remove();
      return null;
    }
    cancel.remove();
    Object.assign(player, { controls: true, loop: !part, currentTime: found.start });
    follow(player, canvas, found);
    const made = finder.file(found, `${file.name.replace(/\.\w+$/, "")}.pose`);
    shown.note = say("translate.local_sent", { count: inWords(found.count), size: megabytes(made) });
    return { file: made, texts: { extractor: about.extractor } };
  };
  return { takes: (file) => $("on-device").checked && !ARRAYS.test(file.name), find };
};
