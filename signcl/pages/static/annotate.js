// Choosing frames by keyboard. A choice counts once the server has answered that it is on disk. Until then the page stays
// on the same sign and tries again, so that nothing is lost when the server is stopped between two choices.
(async () => {
  "use strict";
  const $ = (id) => document.getElementById(id);
  const make = (name, kind, text) => {
    const element = document.createElement(name);
    if (kind) element.className = kind;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const SVG = "http://www.w3.org/2000/svg";
  const draw = (name, attributes) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  const get = async (path) => {
    const answer = await fetch(path);
    const content = await answer.json();
    if (!answer.ok) throw new Error(content.error);
    return content;
  };
  const problem = (text) => {
    $("problem").textContent = text;
    $("problem").hidden = !text;
  };
  const remember = (name) => { try { localStorage.setItem("signcl-annotator", name); } catch { /* private window */ } };
  const remembered = () => { try { return localStorage.getItem("signcl-annotator") ?? ""; } catch { return ""; } };
  const percent = (share) => `${(100 * share).toFixed(0)} %`;

  let task;
  let me = "";
  let role = "annotator";
  let state; // my decisions as the server knows them: decided {span index: frame or null}, last
  let place = 0; // index of the span that is shown
  let cursor = 0; // the frame of the clip that is shown large
  let view = null; // its frames, or null if the clip cannot be read
  let picture = null;
  let sending = false;
  let playing = null;
  const views = new Map();

  try {
    task = await get("/api/annotate/task");
  } catch (error) {
    return problem(error instanceof TypeError ? say("no_server")
      : say("annotate.nothing"));
  }

  // -- who ----------------------------------------------------------------------------------------------------------
  const ask = async () => {
    stop();
    $("work").hidden = true;
    $("who").hidden = false;
    $("name").value = remembered();
    $("name").focus();
    const { annotators } = await get("/api/annotate/summary");
    $("names").replaceChildren(...annotators.map(({ name, choose = 0, skip = 0 }) => {
      const button = make("button", "", `${name} · ${say("of", { part: choose + skip, all: task.spans.length })}`);
      button.type = "button";
      button.addEventListener("click", () => join(name));
      return button;
    }));
  };
  const join = async (name) => {
    me = name.trim();
    if (!me) return;
    remember(me);
    role = "annotator";
    $("who").hidden = true;
    $("work").hidden = false;
    $("me").textContent = me;
    await start();
  };
  const load = async () => { state = await get(`/api/annotate/state?annotator=${encodeURIComponent(me)}&role=${role}`); };
  const start = async () => {
    await load();
    tab("choose");
    const next = undecided(-1);
    if (next < 0) return finished();
    await show(next);
  };
  $("join").addEventListener("submit", (event) => { event.preventDefault(); join($("name").value); });
  $("leave").addEventListener("click", (event) => { event.preventDefault(); ask(); });

  // -- which span ---------------------------------------------------------------------------------------------------
  const queue = () => (role === "judge" ? state.queue : task.spans.map((_, i) => i));
  const isDecided = (p) => String(p) in state.decided;
  const undecided = (after) => {
    const open = queue().filter((p) => !isDecided(p));
    return open.find((p) => p > after) ?? open[0] ?? -1;
  };
  const fetched = (p) => {
    if (!views.has(p)) {
      if (views.size > 40) views.delete(views.keys().next().value);
      views.set(p, get(`/api/annotate/span/${p}`).catch((error) => {
        views.delete(p);
        throw error;
      }));
    }
    return views.get(p);
  };
  const show = async (p, at = null) => {
    stop();
    place = p;
    const [clip, gloss, first, end] = task.spans[p];
    $("done").hidden = true;
    $("choose").hidden = false;
    $("gloss").textContent = gloss;
    const nth = queue().indexOf(p) + 1;
    $("where").textContent = `${clip} · ${say("frames", { first, last: end - 1 })} · ${say(role === "judge" ? "annotate.difference" : "annotate.sign", { part: nth, all: queue().length })}`;
    $("sentence").textContent = task.texts[clip] ?? "";
    count();
    tell(standing());
    view = null;
    // until its frames have loaded, those of the previous sign must not appear under this sign's name
    $("strip").replaceChildren();
    $("act-choose").disabled = true;
    let found;
    try {
      found = await fetched(p);
    } catch (error) {
      if (place !== p) return;
      if (error instanceof TypeError) return unreachable(() => show(p, at));
      $("strip").replaceChildren(make("p", "problem", say("annotate.unshown", { why: error.message })));
      $("look").parentElement.hidden = true;
      $("act-choose").disabled = true;
      return;
    }
    if (place !== p) return; // the user has moved on
    view = found;
    const own = state.decided[p];
    const theirs = role === "judge" ? (state.others[p] ?? []).map(([, frame]) => frame).filter((frame) => frame !== null) : [];
    cursor = at ?? own ?? theirs[0] ?? view.start; // start at the first frame, so that nobody is biased towards the middle
    $("act-choose").disabled = false;
    $("look").parentElement.hidden = view.kind !== "pictures";
    await (view.kind === "pictures" ? film() : plot());
    move(cursor);
    const next = undecided(p);
    if (next >= 0 && next !== p) fetched(next).catch(() => {}); // prefetch; an error is shown when its turn comes
  };
  const standing = () => {
    const passed = role === "judge" ? (state.others[place] ?? []).filter(([, frame]) => frame === null).map(([name]) => name) : [];
    if (!isDecided(place)) return passed.length ? say("annotate.skipped_by", { names: passed.join(", ") }) : "";
    const frame = state.decided[place];
    return frame === null ? say("annotate.you_skipped") : say("annotate.you_chose", { frame });
  };

  // -- the frames ---------------------------------------------------------------------------------------------------
  const film = async () => {
    picture = new Image();
    picture.src = view.sheet;
    await picture.decode();
    const rows = Math.ceil(view.count / view.columns);
    const cells = [];
    for (let i = 0; i < view.count; i++) {
      const frame = view.first + i;
      const inside = frame >= view.start && frame < view.stop;
      const cell = make("button", `cell${inside ? "" : " around"}`);
      cell.type = "button";
      cell.tabIndex = -1;
      cell.dataset.frame = frame;
      cell.setAttribute("role", "option");
      cell.setAttribute("aria-label", say(inside ? "annotate.frame" : "annotate.outside", { frame }));
      const part = make("i");
      const [column, row] = [i % view.columns, Math.floor(i / view.columns)];
      part.style.cssText = `aspect-ratio:${view.width}/${view.height};background-image:url("${view.sheet}");` +
        `background-size:${100 * view.columns}% ${100 * rows}%;` +
        `background-position:${view.columns > 1 ? (100 * column) / (view.columns - 1) : 0}% ${rows > 1 ? (100 * row) / (rows - 1) : 0}%`;
      cell.append(part, make("b", "", frame));
      if (inside) {
        cell.addEventListener("click", () => { stop(); move(frame); });
        cell.addEventListener("dblclick", () => decide("choose", frame));
      } else cell.disabled = true;
      cells.push(cell);
    }
    $("strip").className = "strip";
    $("strip").replaceChildren(...cells);
    mark();
  };
  const plot = () => {
    const svg = draw("svg", { class: "plot", viewBox: `0 0 ${view.count} 100`, preserveAspectRatio: "none", role: "img", height: 300,
      "aria-label": say("annotate.readings", { readings: view.dims, count: view.count }) });
    svg.append(draw("rect", { class: "in", x: view.start - view.first, width: view.stop - view.start, y: 0, height: 100 }));
    const line = (values, low, high) => values.map((v, i) => `${i + 0.5},${(low + (high - low) * (1 - v)).toFixed(2)}`).join(" ");
    view.curves.forEach((values, i) => svg.append(draw("polyline", { class: "c", points: line(values, 4, 78), style: `stroke:var(--m${i % 6})` })));
    svg.append(draw("polyline", { class: "speed", points: line(view.speed, 82, 98) }));
    for (const kind of ["was", "now"]) svg.append(draw("line", { class: kind, y1: 0, y2: 100, x1: -9, x2: -9 }));
    svg.addEventListener("click", (event) => {
      const box = svg.getBoundingClientRect();
      move(view.first + Math.floor(((event.clientX - box.left) / box.width) * view.count));
    });
    $("strip").className = "";
    $("strip").replaceChildren(svg, make("p", "note", say("annotate.curves", { shown: view.curves.length, readings: view.dims })));
    mark();
  };
  const mark = () => {
    const own = state.decided[place];
    if (view.kind === "curves") {
      const was = $("strip").querySelector(".was");
      const x = own == null ? -9 : own - view.first + 0.5;
      was.setAttribute("x1", x);
      was.setAttribute("x2", x);
      return;
    }
    const others = role === "judge" ? (state.others[place] ?? []) : [];
    for (const cell of $("strip").children) {
      cell.querySelectorAll(".ok, .by").forEach((old) => old.remove());
      const frame = Number(cell.dataset.frame);
      if (frame === own) {
        const ok = make("span", "ok", "✓");
        ok.title = say("annotate.yours");
        cell.append(ok);
      }
      const by = others.filter(([, theirs]) => theirs === frame);
      if (by.length) {
        const names = make("span", "by");
        names.append(...by.map(([name]) => Object.assign(make("span", "", name.slice(0, 3)), { title: name })));
        cell.append(names);
      }
    }
  };
  const move = (frame) => {
    if (!view) return;
    cursor = Math.min(view.stop - 1, Math.max(view.start, frame));
    if (view.kind === "curves") {
      const now = $("strip").querySelector(".now");
      now.setAttribute("x1", cursor - view.first + 0.5);
      now.setAttribute("x2", cursor - view.first + 0.5);
      tell(`${say("annotate.frame", { frame: cursor })}. ${standing()}`);
      return;
    }
    for (const cell of $("strip").children) {
      const here = Number(cell.dataset.frame) === cursor;
      cell.classList.toggle("at", here);
      cell.setAttribute("aria-selected", String(here));
    }
    const i = cursor - view.first;
    const look = $("look");
    look.width = view.width;
    look.height = view.height;
    look.getContext("2d").drawImage(picture, (i % view.columns) * view.width, Math.floor(i / view.columns) * view.height,
      view.width, view.height, 0, 0, view.width, view.height);
    $("number").textContent = say("annotate.frame", { frame: cursor });
  };
  const stop = () => {
    clearInterval(playing);
    playing = null;
    $("act-play").firstChild.textContent = `${say("annotate.play")} `;
  };
  const play = () => {
    if (playing) return stop();
    if (!view) return;
    $("act-play").firstChild.textContent = `${say("annotate.stop")} `;
    playing = setInterval(() => move(cursor + 1 < view.stop ? cursor + 1 : view.start), 80);
  };

  // -- deciding -----------------------------------------------------------------------------------------------------
  const tell = (text, bad = false) => {
    $("said").textContent = text;
    $("said").classList.toggle("bad", bad);
  };
  const count = () => {
    const all = queue();
    const done = all.filter(isDecided).length;
    $("bar").style.width = all.length ? `${(100 * done) / all.length}%` : "100%";
    $("count").textContent = say(role === "judge" ? "annotate.settled" : "annotate.decided", { part: done, all: all.length });
  };
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  const unreachable = async (again) => {
    tell(say("annotate.trying"), true);
    await wait(1500);
    await again();
  };
  const decide = async (action, frame = null, where = place) => {
    if (sending || $("work").hidden) return;
    stop();
    sending = true;
    const id = crypto.randomUUID ? crypto.randomUUID() : `${Date.now()}-${Math.random()}`;
    const body = JSON.stringify({ place: where, annotator: me, role, action, frame, id });
    try {
      for (;;) {
        let answer;
        try {
          answer = await fetch("/api/annotate/decision", { method: "POST", headers: { "content-type": "application/json" }, body });
        } catch {
          tell(say("annotate.not_yet"), true);
          await wait(1500);
          continue;
        }
        const content = await answer.json();
        if (!answer.ok) return tell(say("annotate.not_saved", { why: content.error }), true);
        state = content;
        break;
      }
    } finally {
      sending = false;
    }
    $("done").hidden = true;
    if (action === "undo") {
      await show(where, frame);
      return tell(say("annotate.taken_back"));
    }
    const next = undecided(where);
    if (next < 0) return finished();
    const what = say(action === "skip" ? "annotate.was_skipped" : "annotate.was_saved", { gloss: task.spans[where][1], frame });
    await show(next);
    tell(`${what} ${$("said").textContent}`);
  };
  const choose = () => { if (view && !$("choose").hidden) decide("choose", cursor); };
  const skip = () => { if (!$("choose").hidden) decide("skip"); };
  const undo = () => {
    if (state.last === null) return tell(say("annotate.nothing_back"));
    decide("undo", null, state.last);
  };
  const finished = () => {
    stop();
    view = null;
    count();
    $("choose").hidden = true;
    $("done").hidden = false;
    $("done-title").textContent = say(role === "judge" ? "annotate.all_settled" : "annotate.all_done");
    $("done-text").textContent = say("annotate.thanks", { file: task.file });
  };
  const step = (by) => {
    const all = queue();
    const at = all.indexOf(place) + by;
    if (at >= 0 && at < all.length) show(all[at]);
  };
  $("act-choose").addEventListener("click", choose);
  $("act-skip").addEventListener("click", skip);
  $("act-undo").addEventListener("click", undo);
  $("act-play").addEventListener("click", play);
  $("done-undo").addEventListener("click", undo);
  $("done-agree").addEventListener("click", () => agree());

  // A clicked button loses the focus, so that Enter then chooses
  addEventListener("click", (event) => { if (event.detail) event.target.closest?.("button")?.blur(); });
  addEventListener("keydown", (event) => {
    if ($("work").hidden || $("agree").hidden === false || event.altKey || event.metaKey || event.target.tagName === "INPUT") return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.ctrlKey && key !== "z") return;
    const keys = {
      ArrowLeft: () => { stop(); move(cursor - (event.shiftKey ? 5 : 1)); },
      ArrowRight: () => { stop(); move(cursor + (event.shiftKey ? 5 : 1)); },
      Home: () => { stop(); move(view?.start); },
      End: () => { stop(); move(view?.stop - 1); },
      Enter: choose, s: skip, u: undo, z: undo, Backspace: undo, " ": play,
      n: () => step(1), p: () => step(-1),
    };
    if (!(key in keys) || (event.repeat && !key.startsWith("Arrow"))) return;
    // If Tab has moved the focus to a button or a link, the keys go to it
    if ((key === "Enter" || key === " ") && document.activeElement?.matches("button, a")) return;
    event.preventDefault();
    keys[key]();
  });

  // -- agreement and settling differences ---------------------------------------------------------------------------
  const tab = (name) => {
    for (const other of ["choose", "agree"]) $(`tab-${other}`).setAttribute("aria-selected", String(other === name));
    $("agree").hidden = name !== "agree";
    $("choose").hidden = name !== "choose";
    if (name === "agree") $("done").hidden = true;
  };
  const table = (header, rows) => {
    const whole = make("div", "scroll");
    const body = make("table", "list");
    const line = (cells, kind) => {
      const row = make("tr");
      row.append(...cells.map((cell, i) => {
        return make(kind, /^[\d.]+( %)?$/.test(rows[0]?.[i]) ? "n" : "", String(cell));
      }));
      return row;
    };
    const head = make("thead");
    const lines = make("tbody");
    head.append(line(header, "th"));
    lines.append(...rows.map((cells) => line(cells, "td")));
    body.append(head, lines);
    whole.append(body);
    return whole;
  };
  const agree = async () => {
    stop();
    let found;
    try {
      found = await get("/api/annotate/summary");
    } catch (error) {
      return problem(say("annotate.no_agreement", { why: error.message }));
    }
    problem("");
    tab("agree");
    const { agreement } = found;
    const number = (value, name) => {
      const box = make("div");
      box.append(make("b", "", value), make("span", "", name));
      return box;
    };
    $("figures").replaceChildren(
      number(agreement.distance === null ? "–" : agreement.distance.toFixed(2), say("annotate.apart_mean")),
      number(agreement.near === null ? "–" : percent(agreement.near), say("annotate.within", { by: agreement.tolerance })),
      number(agreement.by_chance === null ? "–" : percent(agreement.by_chance), say("annotate.within_chance", { by: agreement.tolerance })),
      number(String(agreement.spans), say("annotate.by_two")),
      number(String(found.unsettled.length), say("annotate.to_settle")),
    );
    $("agree-note").textContent = agreement.spans
      ? say("annotate.explained")
      : say("annotate.needs_two");
    const parts = [make("h3", "", say("annotate.people")), table(["name", "chosen", "skipped", "left"].map((key) => say(`annotate.head_${key}`)),
      found.annotators.map(({ name, choose = 0, skip: passed = 0 }) => [name, choose, passed, found.spans - choose - passed]))];
    if (agreement.pairs.length) {
      parts.push(make("h3", "", say("annotate.pairs")), table(["pair", "signs", "apart", "within", "same", "chance"].map((key) => say(`annotate.head_${key}`, { by: agreement.tolerance })),
        agreement.pairs.map((p) => [`${p.a}, ${p.b}`, p.spans, Number(p.distance.toFixed(2)), percent(p.near), percent(p.same), percent(p.by_chance)])));
    }
    if (found.unsettled.length || found.settled) {
      const button = make("button", "main", found.unsettled.length ? say("annotate.settle", { count: found.unsettled.length, name: me }) : say("annotate.look_settled"));
      button.id = "settle";
      button.addEventListener("click", async () => {
        role = "judge";
        await load();
        tab("choose");
        const next = undecided(-1);
        $("me").textContent = say("annotate.judge", { name: me });
        if (next >= 0) await show(next);
        else if (state.queue.length) await show(state.queue[0]);
        else finished();
      });
      const row = make("div", "acts");
      row.append(button);
      parts.push(row, table(["sign", "clip", "frames"].map((key) => say(`annotate.head_${key}`)), found.unsettled.slice(0, 200).map((p) => [task.spans[p][1], task.spans[p][0], `${task.spans[p][2]}–${task.spans[p][3] - 1}`])));
    }
    if (found.foreign) parts.push(make("p", "note", say("annotate.foreign", { count: found.foreign })));
    $("tables").replaceChildren(...parts);
  };
  $("tab-agree").addEventListener("click", agree);
  $("tab-choose").addEventListener("click", async () => {
    role = "annotator";
    $("me").textContent = me;
    await start();
  });

  const named = new URLSearchParams(location.search).get("annotator") || remembered();
  if (named) await join(named);
  else await ask();
})();
