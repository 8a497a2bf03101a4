// Subtitles on a time line: blocks to drag, and fields to type into. They are saved as a whole to their file.
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
  const tell = (text, bad = false) => {
    $("said").textContent = text;
    $("said").classList.toggle("bad", bad);
  };
  const SHORTEST = 0.1; // seconds
  const round = (seconds) => Math.round(1000 * seconds) / 1000;
  const clock = (seconds) => {
    const ms = Math.round(1000 * seconds);
    const two = (value) => String(value).padStart(2, "0");
    const hours = Math.floor(ms / 3_600_000);
    return `${hours ? `${hours}:` : ""}${two(Math.floor(ms / 60_000) % 60)}:${two(Math.floor(ms / 1000) % 60)}.${String(ms % 1000).padStart(3, "0")}`;
  };
  const parsed = (text) => { // 75.5, 1:15.5 or 0:01:15,500 as seconds; NaN if it is not a time
    const parts = text.trim().replace(",", ".").split(":");
    if (parts.length > 3 || !parts.every((part) => /^\d+(\.\d+)?$/.test(part))) return NaN;
    return round(parts.reduce((sum, part) => 60 * sum + Number(part), 0));
  };

  let cues = []; // {start, stop, text, confidence}, in order of time
  let version = "";
  let kept = ""; // what the file holds
  const past = []; // states before each change
  let chosen = -1;
  let zoom = 60; // pixels per second
  const film = $("film");

  const get = async (path, options) => {
    const answer = await fetch(path, options);
    const content = await answer.json();
    if (!answer.ok) throw new Error(content.error);
    return content;
  };
  const packed = () => JSON.stringify(cues.map(({ start, stop, text }) => ({ start, stop, text })));
  const taken = (state) => {
    cues = state.cues;
    version = state.version;
    kept = packed();
  };
  let state;
  try {
    state = await get("/api/subtitles");
  } catch (error) {
    return problem(error instanceof TypeError ? say("no_server") : error.message);
  }
  taken(state);
  $("work").hidden = false;
  $("name").textContent = state.file;
  document.title = `${state.file} · signcl`;
  if (state.film) film.src = "/film";
  else film.parentElement.hidden = true;
  const unplayable = (key) => {
    film.parentElement.hidden = true;
    $("no-film").textContent = say(key, { name: state.film ?? "" });
    $("no-film").hidden = false;
  };
  if (!state.film) unplayable("subtitles.no_film");
  film.addEventListener("error", () => unplayable("subtitles.not_played"));

  // -- changes ------------------------------------------------------------------------------------------------------
  const isChanged = () => packed() !== kept;
  const counted = () => {
    $("count").textContent = say("subtitles.count", { count: inWords(cues.length) }) + (isChanged() ? ` · ${say("subtitles.unsaved")}` : "");
    $("undo").disabled = !past.length;
    $("save").disabled = !isChanged();
  };
  const remember = () => {
    past.push(JSON.stringify(cues));
    if (past.length > 300) past.shift();
  };
  const order = () => {
    const one = cues[chosen];
    cues.sort((a, b) => a.start - b.start || a.stop - b.stop);
    chosen = cues.indexOf(one);
  };
  const touched = (cue) => { cue.confidence = null; };
  // change several cues at once: `change` edits the list and returns the cue to select
  const edit = (change) => {
    remember();
    const one = change();
    if (one) chosen = cues.indexOf(one);
    order();
    draw();
  };
  const undo = () => {
    if (!past.length) return;
    cues = JSON.parse(past.pop());
    chosen = Math.min(chosen, cues.length - 1);
    draw();
    tell(say("subtitles.undone"));
  };
  const save = async () => {
    if (!isChanged()) return;
    const sent = packed();
    tell(say("subtitles.saving"));
    try {
      const body = `{"version":${JSON.stringify(version)},"cues":${sent}}`;
      const answer = await get("/api/subtitles", { method: "POST", headers: { "content-type": "application/json" }, body });
      version = answer.version;
      if (packed() === sent) taken(answer); // nothing was changed meanwhile
      else kept = sent;
      draw();
      tell(say("subtitles.saved", { file: answer.file }));
    } catch (error) {
      tell(say("subtitles.not_saved", { why: error instanceof TypeError ? say("no_server") : error.message }), true);
    }
  };
  const now = () => round(film.currentTime || 0);
  const seek = (seconds) => { if (state.film) film.currentTime = seconds; };
  const length = () => Math.max(film.duration || 0, cues.at(-1)?.stop ?? 0, 10);

  // -- the time line ------------------------------------------------------------------------------------------------
  const blocks = () => {
    const track = $("track");
    track.style.width = `${length() * zoom}px`;
    const every = [1, 2, 5, 10, 30, 60, 300].find((step) => step * zoom >= 70) ?? 600;
    const parts = [];
    for (let second = 0; second < length(); second += every) {
      const tick = make("span", "tick", clock(second).replace(/\.000$/, ""));
      tick.style.left = `${second * zoom}px`;
      parts.push(tick);
    }
    cues.forEach((cue, number) => {
      const block = make("button", `block${number === chosen ? " at" : ""}${cue.text ? "" : " empty"}`);
      block.type = "button";
      block.dataset.number = number;
      block.append(make("span", "", cue.text || say("subtitles.no_text")));
      block.title = `${clock(cue.start)}–${clock(cue.stop)} ${cue.text}`;
      block.setAttribute("aria-label", say("subtitles.block", { number: number + 1, start: clock(cue.start), stop: clock(cue.stop), text: cue.text }));
      if (number === chosen) block.setAttribute("aria-current", "true");
      block.tabIndex = number === Math.max(0, chosen) ? 0 : -1; // one Tab stop; arrow keys move on
      placed(block, cue);
      parts.push(block);
    });
    parts.push(Object.assign(make("i", "head"), { id: "head" }));
    track.replaceChildren(...parts);
    at();
  };
  const placed = (block, cue) => {
    block.style.left = `${cue.start * zoom}px`;
    block.style.width = `${Math.max(6, (cue.stop - cue.start) * zoom)}px`;
  };
  const at = () => {
    const seconds = now();
    if ($("head")) $("head").style.left = `${seconds * zoom}px`;
    const spoken = cues.find((cue) => cue.start <= seconds && seconds < cue.stop && cue.text);
    $("spoken").textContent = spoken?.text ?? "";
    $("spoken").hidden = !spoken;
  };
  film.addEventListener("timeupdate", () => {
    at();
    const [left, width] = [$("line").scrollLeft, $("line").clientWidth];
    const x = now() * zoom;
    if (!film.paused && (x < left || x > left + width)) $("line").scrollLeft = x - 40;
  });
  film.addEventListener("loadedmetadata", () => blocks());

  let drag = null;
  const EDGE = 8; // pixels at either end of a block that move only that end
  $("track").addEventListener("pointerdown", (event) => {
    const block = event.target.closest(".block");
    if (!block) {
      seek(Math.max(0, (event.clientX - $("track").getBoundingClientRect().left) / zoom));
      return;
    }
    const box = block.getBoundingClientRect();
    const cue = cues[Number(block.dataset.number)];
    const side = event.clientX - box.left < EDGE ? "start" : box.right - event.clientX < EDGE ? "stop" : "both";
    drag = { block, cue, side, x: event.clientX, start: cue.start, stop: cue.stop, moved: false };
    block.setPointerCapture(event.pointerId);
  });
  $("track").addEventListener("pointermove", (event) => {
    if (!drag) return;
    const by = (event.clientX - drag.x) / zoom;
    if (!drag.moved && Math.abs(event.clientX - drag.x) < 3) return;
    if (!drag.moved) remember();
    drag.moved = true;
    moved(drag.cue, drag.side, drag.start, drag.stop, by);
    placed(drag.block, drag.cue);
  });
  $("track").addEventListener("pointerup", () => {
    if (!drag) return;
    const { cue, moved: far } = drag;
    drag = null;
    chosen = cues.indexOf(cue);
    order();
    draw();
    shown();
    if (!far) seek(cue.start);
  });
  $("track").addEventListener("pointercancel", () => { drag = null; draw(); });
  // move one end, or both, by some seconds, without changing the order
  const moved = (cue, side, start, stop, by) => {
    const step = side === "stop" ? by : Math.max(by, -start);
    if (side !== "stop") cue.start = round(side === "both" ? start + step : Math.min(start + step, stop - SHORTEST));
    if (side !== "start") cue.stop = round(side === "both" ? stop + step : Math.max(stop + step, start + SHORTEST));
    touched(cue);
  };
  $("track").addEventListener("keydown", (event) => {
    const block = event.target.closest(".block");
    if (!block || event.ctrlKey || event.metaKey) return;
    const number = Number(block.dataset.number);
    const cue = cues[number];
    const to = { ArrowUp: number - 1, ArrowDown: number + 1, Home: 0, End: cues.length - 1 }[event.key];
    const by = { ArrowLeft: -0.1, ArrowRight: 0.1 }[event.key];
    if (to !== undefined) {
      chosen = Math.min(cues.length - 1, Math.max(0, to));
      draw();
      shown();
      seek(cues[chosen].start);
    } else if (by) {
      edit(() => { moved(cue, event.shiftKey ? "start" : event.altKey ? "stop" : "both", cue.start, cue.stop, by); return cue; });
    } else if (event.key === "Enter") {
      chosen = number;
      draw();
      $("cues").children[number].querySelector("textarea").focus();
      return event.preventDefault();
    } else if (event.key === "Delete") {
      remove(cue);
    } else return;
    event.preventDefault();
    $("track").querySelector(`[data-number="${chosen}"]`)?.focus();
  });

  // -- the list -----------------------------------------------------------------------------------------------------
  const remove = (cue) => edit(() => {
    const number = cues.indexOf(cue);
    cues.splice(number, 1);
    return cues[Math.min(number, cues.length - 1)];
  });
  const rows = () => $("cues").replaceChildren(...cues.map((cue, number) => {
    const row = make("li", number === chosen ? "at" : "");
    const field = (key, kind, value) => {
      const input = make(kind, kind === "input" ? "time" : "");
      input.value = value;
      input.setAttribute("aria-label", say(key, { number: number + 1 }));
      if (kind === "input") input.inputMode = "decimal";
      input.addEventListener("focus", () => {
        if (chosen === number) return;
        chosen = number;
        for (const other of $("cues").children) other.classList.toggle("at", other === row);
        blocks();
        shown(false);
      });
      return input;
    };
    const times = ["start", "stop"].map((side) => {
      const input = field(`subtitles.${side}`, "input", clock(cue[side]));
      input.type = "text";
      input.addEventListener("change", () => {
        const seconds = parsed(input.value);
        const right = side === "start" ? seconds < cue.stop : seconds > cue.start;
        if (!right) {
          input.value = clock(cue[side]);
          return tell(say("subtitles.wrong_time", { start: clock(cue.start), stop: clock(cue.stop) }), true);
        }
        edit(() => { cue[side] = seconds; touched(cue); return cue; });
      });
      return input;
    });
    const text = field("subtitles.text", "textarea", cue.text);
    text.rows = 1;
    text.maxLength = 1000;
    text.addEventListener("change", () => edit(() => { cue.text = text.value.trim().replace(/\s+/g, " "); touched(cue); return cue; }));
    const act = (key, does) => {
      const button = make("button", "", say(key));
      button.type = "button";
      button.setAttribute("aria-label", `${say(key)}: ${say("subtitles.number", { number: number + 1 })}`);
      button.addEventListener("click", does);
      return button;
    };
    const acts = make("div", "acts");
    if (state.film) acts.append(act("subtitles.play", () => play(cue)));
    acts.append(
      act("subtitles.split", () => edit(() => {
        const inside = cue.start + SHORTEST < now() && now() < cue.stop - SHORTEST;
        const middle = inside ? now() : round((cue.start + cue.stop) / 2);
        const words = cue.text.split(" ");
        const half = Math.ceil(words.length * (middle - cue.start) / (cue.stop - cue.start));
        cues.push({ start: middle, stop: cue.stop, text: words.slice(half).join(" "), confidence: null });
        Object.assign(cue, { stop: middle, text: words.slice(0, half).join(" "), confidence: null });
        return cue;
      })),
    );
    if (number + 1 < cues.length) {
      acts.append(act("subtitles.join", () => edit(() => {
        const [next] = cues.splice(number + 1, 1);
        Object.assign(cue, { stop: Math.max(cue.stop, next.stop), text: `${cue.text} ${next.text}`.trim(), confidence: null });
        return cue;
      })));
    }
    acts.append(act("subtitles.remove", () => remove(cue)));
    const head = make("div", "times");
    head.append(make("b", "", String(number + 1)), ...times);
    if (cue.confidence !== null) head.append(make("small", "", say("translate.confidence", { value: inWords(cue.confidence, 2) })));
    row.append(head, text, acts);
    return row;
  }));
  const play = (cue) => {
    seek(cue.start);
    film.play();
    const until = () => {
      if (film.currentTime < cue.stop && !film.paused) return;
      film.pause();
      film.removeEventListener("timeupdate", until);
    };
    film.addEventListener("timeupdate", until);
  };
  const shown = (both = true) => { // scroll the selected cue into view
    const block = $("track").querySelector(".block.at");
    if (block) {
      const [left, width] = [block.offsetLeft, $("line").clientWidth];
      if (left < $("line").scrollLeft || left + block.offsetWidth > $("line").scrollLeft + width) $("line").scrollLeft = left - width / 3;
    }
    if (both) $("cues").children[chosen]?.scrollIntoView({ block: "nearest" });
  };
  const draw = () => {
    // keep the focus in the field that the user has just moved to
    const active = document.activeElement;
    const row = active?.closest?.("#cues > li");
    const place = row ? [[...$("cues").children].indexOf(row), [...row.querySelectorAll("input, textarea, button")].indexOf(active)] : null;
    blocks();
    rows();
    counted();
    if (place) $("cues").children[place[0]]?.querySelectorAll("input, textarea, button")[place[1]]?.focus({ preventScroll: true });
  };

  $("save").addEventListener("click", save);
  $("undo").addEventListener("click", undo);
  $("add").addEventListener("click", () => {
    const start = now();
    const next = cues.find((cue) => cue.start >= start);
    const stop = round(Math.max(start + 0.5, Math.min(start + 2, next?.start ?? Infinity)));
    edit(() => { const cue = { start, stop, text: "", confidence: null }; cues.push(cue); return cue; });
    $("cues").children[chosen].querySelector("textarea").focus();
  });
  const zoomed = (by) => {
    const middle = ($("line").scrollLeft + $("line").clientWidth / 2) / zoom;
    zoom = Math.min(400, Math.max(2, zoom * by));
    blocks();
    $("line").scrollLeft = middle * zoom - $("line").clientWidth / 2;
  };
  $("in").addEventListener("click", () => zoomed(1.5));
  $("out").addEventListener("click", () => zoomed(1 / 1.5));
  addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.altKey) return;
    const key = event.key.toLowerCase();
    if (key === "s") {
      event.preventDefault();
      document.activeElement?.blur?.(); // include the text being typed
      save();
    } else if (key === "z" && !/^(INPUT|TEXTAREA)$/.test(document.activeElement?.tagName)) {
      event.preventDefault();
      undo();
    }
  });
  addEventListener("beforeunload", (event) => { if (isChanged()) event.preventDefault(); });
  draw();
})();
