// Uploads one clip after another, shows its stages, then the sentence next to the clip.
(async () => {
  "use strict";
  const $ = (id) => document.getElementById(id);
  const make = (name, kind, text) => {
    const element = document.createElement(name);
    if (kind) element.className = kind;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const button = (text, act, kind = "") => {
    const made = make("button", kind, text);
    made.type = "button";
    made.addEventListener("click", act);
    return made;
  };
  const problem = (text) => {
    $("problem").textContent = text;
    $("problem").hidden = !text;
  };
  let site;
  try {
    site = await (await fetch("/api/site")).json();
  } catch {
    return problem(say("no_server"));
  }
  const megabytes = (bytes, places = 0) => inWords(bytes / 1e6, places);
  const most = megabytes(site.max_upload);
  if (!site.translates) return problem(say("translate.cannot", { why: site.why_not }));
  const takes = { video: "translate.takes_video", "key points": "translate.takes_key_points", features: "translate.takes_features" };
  const video = site.model.wants !== "features";
  $("kind").textContent = `signcl serve · ${site.run} · ${site.model.system} · ${site.model.corpus}`;
  $("about").textContent = say(site.keeps ? "translate.about_keeping" : "translate.about");
  $("limits").textContent = say(takes[site.model.wants], { most });
  $("camera").hidden = !video;
  const local = onDevice({ about: site.key_points, most: site.most_frames, make, button });

  const named = (said) => {
    if (said.stage === "waiting") return said.place === 1 ? say("translate.next") : say("translate.waiting", { count: said.place - 1 });
    return say(`translate.${said.stage}`, { count: said.frames });
  };
  const form = (file, part, texts = {}) => {
    const fields = new FormData();
    fields.append("clip", file);
    for (const [name, value] of Object.entries({ ...part, ...texts })) fields.append(name, value);
    return fields;
  };
  const reason = (status, text) => {
    try { return JSON.parse(text).error; } catch { return say("translate.status", { status }); } // not JSON: show the status
  };

  // -- one result ---------------------------------------------------------------------------------------------------
  let number = 0;
  const card = (file, part) => {
    number += 1;
    const whole = make("article", "result");
    const head = make("header");
    const stage = make("span", "", say("translate.uploading"));
    const track = make("div", "track");
    const bar = make("i");
    track.setAttribute("role", "progressbar");
    track.setAttribute("aria-label", say("translate.progress", { name: file.name }));
    track.append(bar);
    head.append(make("b", "", file.name), stage);
    const body = make("div", "pair");
    const left = make("div");
    const right = make("div");
    body.append(left, right);
    whole.append(head, track, body);
    $("results").prepend(whole);
    return { whole, stage, track, bar, left, right, file, part, number };
  };
  const playback = (shown, picture) => {
    const { file, part, left } = shown;
    const cut = button(say("translate.cut"), () => { problem(""); camera.review(file); }, "quiet");
    if (shown.note) return left.append(cut); // the clip is there already, with its skeleton
    const strip = () => {
      if (!picture) return left.remove();
      left.replaceChildren(Object.assign(make("img"), { src: picture, alt: say("translate.strip", { name: file.name }) }));
    };
    if (!video || !file.size) return strip();
    const player = make("video");
    const source = URL.createObjectURL(file);
    Object.assign(player, { controls: true, muted: true, playsInline: true, loop: !part, preload: "auto" });
    player.setAttribute("aria-label", say("translate.playback", { name: file.name }));
    player.addEventListener("error", () => { URL.revokeObjectURL(source); strip(); }); // a format that the browser cannot play
    player.src = part ? `${source}#t=${part.start},${part.stop}` : source;
    left.replaceChildren(player, cut);
  };
  const sure = (said) => {
    if (said.confidence === null) return make("p", "note", say("translate.no_confidence", { why: said.why_no_confidence ?? "–" }));
    const box = make("div", "sure");
    const meter = make("div", "track");
    const label = say("translate.confidence", { value: inWords(said.confidence, 2) });
    meter.setAttribute("role", "meter");
    for (const [name, value] of Object.entries({ label, valuemin: 0, valuemax: 1, valuenow: said.confidence })) meter.setAttribute(`aria-${name}`, value);
    meter.append(make("i"));
    meter.firstChild.style.width = `${100 * said.confidence}%`;
    box.append(meter, make("b", "", label), make("span", "note", say("translate.confidence_about")));
    return box;
  };
  const told = (shown, said) => {
    const { right, stage, track } = shown;
    track.remove();
    stage.textContent = say("translate.done", { frames: inWords(said.frames), seconds: inWords(said.seconds, 2) });
    right.replaceChildren(make("p", "says", said.text || say("translate.says_nothing")));
    if (said.out_of_domain) {
      right.append(make("p", "problem", say("translate.outside", { times: inWords(said.distance, 2) })));
    } else for (const warning of said.warnings) right.append(make("p", "problem", warning));
    right.append(sure(said));
    if (said.nearest) right.append(make("p", "note", say("translate.nearest", { text: said.nearest })));
    for (const note of said.notes ?? []) right.append(make("p", "note", note));
    if (shown.note) right.append(make("p", "note", shown.note));
    const keepable = site.keeps && video && !shown.note;
    const text = keepable && !site.kept_full ? keeping(shown, said.text) : null;
    if (said.alternatives.length) {
      const list = make("ol", "others");
      list.append(...said.alternatives.map(({ text: other, probability }) => {
        const line = make("li");
        line.append(make("span", "", other), " ", make("small", "", probability === null ? "" : say("translate.probability", { value: inWords(probability, 2) })));
        if (text) line.append(" ", button(say("translate.use"), () => { text.value = other; text.focus(); }, "quiet"));
        return line;
      }));
      const part = make("details");
      part.append(make("summary", "", say("translate.alternatives")), list);
      right.append(part);
    }
    if (text) right.append(text.closest("details"));
    else if (keepable) right.append(make("p", "note", say("translate.keep_full")));
  };

  // -- keeping a clip, if its signer agrees -------------------------------------------------------------------------
  const keeping = (shown, sentence) => {
    const box = make("details", "keep");
    const fields = make("form");
    const field = (key, type, value) => {
      const label = make("label", type === "checkbox" ? "consent" : "");
      const input = Object.assign(make("input"), { type, value, maxLength: 1000, autocomplete: "off" });
      label.append(...(type === "checkbox" ? [input, make("span", "", say(key))] : [make("span", "", say(key)), input]));
      fields.append(label);
      return input;
    };
    const text = field("translate.keep_text", "text", sentence);
    const signer = field("translate.keep_signer", "text", "");
    signer.maxLength = 80;
    const consent = field("translate.keep_consent", "checkbox", "yes");
    const send = make("button", "main", say("translate.keep_button"));
    const said = make("p", "said");
    said.setAttribute("role", "status");
    fields.append(send, said);
    fields.addEventListener("submit", async (event) => {
      event.preventDefault();
      said.classList.toggle("bad", true);
      if (!text.value.trim()) return Object.assign(said, { textContent: say("translate.needs_text") }) && text.focus();
      if (!consent.checked) return Object.assign(said, { textContent: say("translate.needs_consent") }) && consent.focus();
      said.classList.toggle("bad", false);
      said.textContent = say("translate.keeping");
      send.disabled = true;
      try {
        const texts = { text: text.value, signer: signer.value, consent: "yes" };
        const answer = await fetch("/api/keep", { method: "POST", body: form(shown.file, shown.part, texts) });
        const content = await answer.text();
        if (!answer.ok) throw new Error(reason(answer.status, content));
        fields.replaceChildren(said);
        said.textContent = say("translate.kept", { name: JSON.parse(content).name });
      } catch (error) {
        said.classList.toggle("bad", true);
        said.textContent = say("translate.not_kept", { why: error instanceof TypeError ? say("no_server") : error.message });
        send.disabled = false;
      }
    });
    box.append(make("summary", "", say("translate.keep")), fields);
    return text;
  };

  // -- sending ------------------------------------------------------------------------------------------------------
  const send = (file, part = null) => {
    problem("");
    const here = local.takes(file);
    if (!here && file.size > site.max_upload) return problem(say("translate.too_large", { name: file.name, size: megabytes(file.size, 1), most }));
    if (!file.size) return problem(say("translate.empty", { name: file.name }));
    const shown = card(file, part);
    if (!here) return upload(shown, form(file, part));
    local.find(shown).then((found) => { if (found) upload(shown, form(found.file, null, found.texts)); });
  };
  const upload = (shown, fields) => {
    shown.stage.textContent = say("translate.uploading");
    const fail = (text) => {
      shown.track.remove();
      shown.stage.textContent = say("translate.failed");
      shown.right.append(make("p", "problem", text));
    };
    let seen = 0;
    let ended = false;
    let picture = null;
    const request = new XMLHttpRequest();
    const read = () => {
      const lines = request.responseText.slice(seen).split("\n");
      seen += lines.slice(0, -1).join("\n").length + (lines.length > 1 ? 1 : 0);
      for (const line of lines.slice(0, -1)) {
        if (!line) continue;
        const said = JSON.parse(line);
        if (said.stage === "done") {
          ended = true;
          told(shown, said);
        } else if (said.stage === "failed") {
          ended = true;
          fail(said.error);
        } else {
          shown.stage.textContent = named(said);
          if (said.strip) {
            picture = said.strip;
            playback(shown, picture);
          }
        }
      }
    };
    request.upload.addEventListener("progress", (event) => {
      if (!event.lengthComputable) return;
      shown.bar.style.width = `${(100 * event.loaded) / event.total}%`;
      if (event.loaded === event.total) shown.track.classList.add("busy");
    });
    request.addEventListener("progress", () => { if (request.status === 200) read(); });
    request.addEventListener("load", () => {
      if (request.status !== 200) return fail(reason(request.status, request.responseText));
      read();
      if (!ended) fail(say("translate.stopped"));
    });
    request.addEventListener("error", () => { if (!ended) fail(say("no_server")); });
    request.open("POST", "/api/translate?progress=true");
    request.send(fields);
  };
  const camera = recording({ done: send, problem });
  $("file").addEventListener("change", () => {
    for (const file of $("file").files) send(file);
    $("file").value = "";
  });
  for (const kind of ["dragenter", "dragover"]) $("drop").addEventListener(kind, (event) => { event.preventDefault(); $("drop").classList.add("over"); });
  for (const kind of ["dragleave", "drop"]) $("drop").addEventListener(kind, (event) => { event.preventDefault(); $("drop").classList.remove("over"); });
  $("drop").addEventListener("drop", (event) => { for (const file of event.dataTransfer.files) send(file); });
  $("ways").hidden = false; // only now: what is clicked earlier would be lost
})();
