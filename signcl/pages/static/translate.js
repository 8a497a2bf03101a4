// Upload a clip, show how far it is, then the sentence; one clip after another.
(async () => {
  "use strict";
  const $ = (id) => document.getElementById(id);
  const make = (name, kind, text) => {
    const element = document.createElement(name);
    if (kind) element.className = kind;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const problem = (text) => {
    $("problem").textContent = text;
    $("problem").hidden = !text;
  };
  let site;
  try {
    site = await (await fetch("/api/site")).json();
  } catch {
    return problem("The server does not answer. Is `signcl serve` still running?");
  }
  const most = (site.max_upload / 1e6).toLocaleString("en");
  if (!site.translates) {
    $("file").disabled = true;
    $("drop").hidden = true;
    return problem(`This server does not translate: ${site.why_not}.`);
  }
  $("kind").textContent = `signcl serve · ${site.run} · ${site.model.system} on ${site.model.corpus}`;
  $("limits").textContent = site.model.wants === "video"
    ? `mp4, mov, webm, mkv, avi or gif, up to ${most} MB` : `features as .npy or .npz, up to ${most} MB`;

  const STAGES = { starting: "starting the translator", reading: "reading the frames", translating: "translating" };
  const named = (said) => {
    if (said.stage === "waiting") return said.place === 1 ? "waiting: the next in the queue" : `waiting: ${said.place - 1} before it in the queue`;
    return STAGES[said.stage] + (said.frames ? `, ${said.frames} frames` : "");
  };

  const send = (file) => {
    problem("");
    if (file.size > site.max_upload) return problem(`${file.name} is ${(file.size / 1e6).toFixed(1)} MB; at most ${most} MB are taken. Cut it to one sentence.`);
    if (!file.size) return problem(`${file.name} is empty.`);
    const card = make("article", "result");
    const head = make("header");
    const stage = make("span", "", "uploading");
    head.append(make("b", "", file.name), stage);
    const track = make("div", "track");
    track.setAttribute("role", "progressbar");
    track.setAttribute("aria-label", `Translating ${file.name}`);
    const bar = make("i");
    track.append(bar);
    card.append(head, track);
    $("results").prepend(card);
    const fail = (text) => {
      track.remove();
      stage.textContent = "not translated";
      card.append(make("p", "problem", text));
    };
    let seen = 0;
    let ended = false;
    const request = new XMLHttpRequest();
    const read = () => {
      const lines = request.responseText.slice(seen).split("\n");
      seen += lines.slice(0, -1).join("\n").length + (lines.length > 1 ? 1 : 0);
      for (const line of lines.slice(0, -1)) {
        if (!line) continue;
        const said = JSON.parse(line);
        if (said.stage === "done") {
          ended = true;
          track.remove();
          stage.textContent = `${said.frames} frames, ${said.seconds.toFixed(2)} s`;
          const sentence = make("p", "says", said.text || "(the model says nothing)");
          card.insertBefore(sentence, head.nextSibling);
          if (said.confidence !== null) {
            stage.textContent += `, confidence ${said.confidence.toFixed(2)} (sentence chrF / 100 to be expected)`;
          }
          for (const warning of said.warnings) sentence.after(make("p", "problem", warning));
        } else if (said.stage === "failed") {
          ended = true;
          fail(said.error);
        } else {
          stage.textContent = named(said);
          if (said.strip) {
            const strip = make("img");
            strip.src = said.strip;
            strip.alt = `Frames of ${file.name}`;
            card.append(strip);
          }
        }
      }
    };
    request.upload.addEventListener("progress", (event) => {
      if (!event.lengthComputable) return;
      bar.style.width = `${(100 * event.loaded) / event.total}%`;
      if (event.loaded === event.total) track.classList.add("busy");
    });
    request.addEventListener("progress", () => { if (request.status === 200) read(); });
    request.addEventListener("load", () => {
      if (request.status === 200) {
        read();
        if (!ended) fail("The server stopped before it was done.");
        return;
      }
      let said = `The server answered ${request.status}.`;
      try { said = JSON.parse(request.responseText).error; } catch { /* not JSON: the status must do */ }
      fail(said);
    });
    request.addEventListener("error", () => { if (!ended) fail("The server does not answer. Is `signcl serve` still running?"); });
    const form = new FormData();
    form.append("clip", file);
    request.open("POST", "/api/translate?progress=true");
    request.send(form);
  };
  $("file").addEventListener("change", () => {
    for (const file of $("file").files) send(file);
    $("file").value = "";
  });
  for (const kind of ["dragenter", "dragover"]) $("drop").addEventListener(kind, (event) => { event.preventDefault(); $("drop").classList.add("over"); });
  for (const kind of ["dragleave", "drop"]) $("drop").addEventListener(kind, (event) => { event.preventDefault(); $("drop").classList.remove("over"); });
  $("drop").addEventListener("drop", (event) => { for (const file of event.dataTransfer.files) send(file); });
})();
