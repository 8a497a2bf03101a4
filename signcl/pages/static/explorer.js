// The explorer: maps on canvas, the frames and neighbours of a sign, confusable pairs, the table of glosses.
(() => {
  "use strict";
  const all = JSON.parse(document.getElementById("explorer-data").textContent);
  const server = document.documentElement.dataset.server;
  const { sets, glosses, clips } = all;
  const whole = all.gloss.length;
  const $ = (id) => document.getElementById(id);
  const make = (name, kind, ...inside) => {
    const element = document.createElement(name);
    if (kind) element.className = kind;
    element.append(...inside.map((part) => (part instanceof Node ? part : String(part))));
    return element;
  };
  const point = (1.5).toLocaleString(document.documentElement.lang)[1];
  const decimals = (value, places = 1) => (value == null ? "–" : value.toFixed(places).replace("-", "−").replace(".", point));
  const percent = (value) => (value == null ? "–" : decimals(100 * value));
  const counts = new Array(glosses.length).fill(0);
  for (const gloss of all.gloss) counts[gloss]++;
  const key = (number, label) => make("span", `key r${number}`, make("i"), label);
  const MOST = 7; // colours that everybody can tell apart
  const MANY = 8000; // dots from which on they are written as pixels
  const VIRIDIS = [[253, 231, 37], [122, 209, 81], [34, 168, 132], [42, 120, 142], [65, 68, 135], [68, 1, 84]];
  const frameText = (sign) => say("frames", { first: all.start[sign], last: all.stop[sign] - 1 });

  let chosen = glosses.slice(0, MOST).map((_, i) => i); // glosses in colour, by place in this list
  let selected = null;
  let mode = "gloss";

  // -- pictures -----------------------------------------------------------------------------------------------------
  const asked = new Map();
  const strip = (sign, kind = "") => {
    const label = say("explorer.strip", { gloss: glosses[all.gloss[sign]], clip: clips[all.clip[sign]] });
    const picture = (source) => Object.assign(make("img", kind), { src: source, alt: label, loading: "lazy" });
    if (all.strips[sign]) return picture(all.strips[sign]);
    const box = make("span", "noframes", server ? "…" : say("explorer.no_strip"));
    if (!server) return box;
    if (!asked.has(sign)) {
      const wanted = new URLSearchParams({ clip: clips[all.clip[sign]], start: all.start[sign], stop: all.stop[sign] });
      asked.set(sign, fetch(`${server}strip?${wanted}`).then(async (answer) => {
        const content = await answer.json();
        if (!answer.ok) throw new Error(content.error);
        return content.strip;
      }));
    }
    asked.get(sign).then((source) => box.replaceWith(picture(source)), (error) => {
      asked.delete(sign);
      box.textContent = error instanceof TypeError ? say("no_server") : error.message;
    });
    return box;
  };

  // -- maps ---------------------------------------------------------------------------------------------------------
  const SIDE = 10000;
  const CELLS = 80;
  const style = () => getComputedStyle(document.documentElement);
  const shade = (share) => {
    const at = Math.min(0.9999, Math.max(0, share)) * (VIRIDIS.length - 1);
    const [a, b] = [VIRIDIS[Math.floor(at)], VIRIDIS[Math.floor(at) + 1]];
    return `rgb(${a.map((v, i) => Math.round(v + (b[i] - v) * (at % 1))).join(",")})`;
  };
  const packs = new Map();
  const packed = (colour) => { // a CSS colour as a number of little-endian RGBA, as every browser's pictures are
    if (!packs.has(colour)) {
      const one = make("canvas").getContext("2d");
      one.fillStyle = colour;
      one.fillRect(0, 0, 1, 1);
      packs.set(colour, new Uint32Array(one.getImageData(0, 0, 1, 1).data.buffer)[0]);
    }
    return packs.get(colour);
  };
  // scores of glosses that dots can be coloured by: the best is yellow, the worst violet
  const SCORES = { sdr: { name: "SDR", falling: false }, found: { name: "mAP", falling: true } };
  for (const [key, score] of Object.entries(SCORES)) {
    const values = sets.flatMap((set) => set[key].filter((v) => v != null)).sort((a, b) => a - b);
    score.range = [values[Math.floor(0.02 * values.length)] ?? 0, values[Math.floor(0.98 * (values.length - 1))] ?? 1];
    score.known = values.length > 0;
  }
  const signerMarks = all.signers.map((_, i) => i).slice(0, MOST);

  const planes = sets.map((set, number) => {
    const figure = make("figure", "space");
    const caption = make("figcaption", "", key(number, set.label));
    if (set.summary.sdr != null) caption.append(make("small", "", `SDR ${decimals(set.summary.sdr, 2)} %`));
    const plane = make("div", "plane");
    const base = make("canvas");
    const over = make("canvas", "over");
    over.tabIndex = 0;
    over.setAttribute("role", "application");
    over.setAttribute("aria-label", say("explorer.map_label", { count: whole, run: set.label }));
    const zoom = make("div", "zoom");
    for (const [sign, label, act] of [["+", "zoom_in", () => scale(1.5)], ["−", "zoom_out", () => scale(1 / 1.5)], ["⤢", "zoom_all", () => reset()]]) {
      const button = make("button", "", sign);
      button.type = "button";
      button.title = say(`explorer.${label}`);
      button.setAttribute("aria-label", button.title);
      button.addEventListener("click", act);
      zoom.append(button);
    }
    plane.append(base, over, zoom);
    figure.append(caption, plane);
    $("fields").append(figure);

    const view = { k: 1, x: 0, y: 0 };
    let side = 0; // CSS pixels
    const EDGE = 14;
    const px = (v) => (EDGE + (v / SIDE) * (side - 2 * EDGE)) * view.k + view.x;
    const py = (v) => (EDGE + (v / SIDE) * (side - 2 * EDGE)) * view.k + view.y;

    const buckets = new Map();
    for (let i = 0; i < whole; i++) {
      if (set.x[i] < 0) continue;
      const cell = Math.floor((set.x[i] / SIDE) * CELLS) * 1000 + Math.floor((set.y[i] / SIDE) * CELLS);
      if (!buckets.has(cell)) buckets.set(cell, []);
      buckets.get(cell).push(i);
    }
    const at = (x, y, reach = 12) => {
      const units = SIDE / ((side - 2 * EDGE) * view.k);
      const [ux, uy] = [((x - view.x) / view.k - EDGE) / (side - 2 * EDGE) * SIDE, ((y - view.y) / view.k - EDGE) / (side - 2 * EDGE) * SIDE];
      const r = reach * units;
      let [best, least] = [-1, r * r];
      const low = (v) => Math.floor(((v - r) / SIDE) * CELLS);
      const high = (v) => Math.floor(((v + r) / SIDE) * CELLS);
      for (let cx = Math.max(0, low(ux)); cx <= Math.min(CELLS, high(ux)); cx++) {
        for (let cy = Math.max(0, low(uy)); cy <= Math.min(CELLS, high(uy)); cy++) {
          for (const i of buckets.get(cx * 1000 + cy) ?? []) {
            const d = (set.x[i] - ux) ** 2 + (set.y[i] - uy) ** 2;
            if (d < least) [best, least] = [i, d];
          }
        }
      }
      return best;
    };

    const shades = Object.fromEntries(Object.entries(SCORES).map(([key, { range: [low, high], falling }]) => [key, set[key].map((value) => {
      if (value == null) return null;
      const share = Math.round(24 * (value - low) / (high - low || 1)) / 24;
      return shade(falling ? 1 - share : share);
    })]));
    const dot = whole > MANY ? 1.3 : whole > 1500 ? 2 : 3.2;
    const paint = () => {
      const context = base.getContext("2d");
      const ratio = devicePixelRatio;
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.clearRect(0, 0, side, side);
      const looks = style();
      const radius = dot * Math.min(2.2, Math.sqrt(view.k));
      const groups = new Map(); // colour -> signs; grey first, so that colours lie on top
      const dust = looks.getPropertyValue("--dust");
      groups.set(dust, []);
      const marks = (mode === "signer" ? signerMarks : chosen).map((_, i) => looks.getPropertyValue(`--m${i}`));
      const place = new Map(chosen.map((gloss, i) => [gloss, i]));
      for (let i = 0; i < whole; i++) {
        if (set.x[i] < 0) continue;
        const x = px(set.x[i]);
        const y = py(set.y[i]);
        if (x < -9 || y < -9 || x > side + 9 || y > side + 9) continue;
        let colour = dust;
        if (mode in SCORES) colour = shades[mode][all.gloss[i]] ?? dust;
        else if (mode === "signer") colour = marks[all.signer[i]] ?? dust;
        else if (place.has(all.gloss[i])) colour = marks[place.get(all.gloss[i])];
        if (!groups.has(colour)) groups.set(colour, []);
        groups.get(colour).push(x, y);
      }
      const sizeOf = (colour) => (colour === dust ? 0.8 : mode === "gloss" ? 1.35 : 1) * radius;
      if (whole > MANY) return pixels(context, groups, sizeOf);
      for (const [colour, places] of groups) {
        const size = sizeOf(colour);
        context.fillStyle = colour;
        context.beginPath();
        for (let i = 0; i < places.length; i += 2) {
          context.moveTo(places[i] + size, places[i + 1]);
          context.arc(places[i], places[i + 1], size, 0, 7);
        }
        context.fill();
      }
    };
    // Many dots: written straight into the picture's memory, several times faster than any call of the canvas.
    let memory = null;
    const pixels = (context, groups, sizeOf) => {
      const ratio = devicePixelRatio;
      const width = base.width;
      if (!memory || memory.width !== width) memory = context.createImageData(width, width);
      const into = new Uint32Array(memory.data.buffer);
      into.fill(0);
      for (const [colour, places] of groups) {
        const value = packed(colour);
        const r = sizeOf(colour) * ratio;
        const reach = Math.ceil(r);
        const disc = [];
        for (let dy = -reach; dy <= reach; dy++) {
          for (let dx = -reach; dx <= reach; dx++) if (dx * dx + dy * dy <= r * r + 0.3) disc.push([dx, dy]);
        }
        for (let i = 0; i < places.length; i += 2) {
          const x = Math.round(places[i] * ratio);
          const y = Math.round(places[i + 1] * ratio);
          if (x < reach || y < reach || x >= width - reach || y >= width - reach) continue;
          const start = y * width + x;
          for (const [dx, dy] of disc) into[start + dy * width + dx] = value;
        }
      }
      context.putImageData(memory, 0, 0);
    };
    const paintOver = (hover = -1) => {
      const context = over.getContext("2d");
      const ratio = devicePixelRatio;
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.clearRect(0, 0, side, side);
      const ink = style().getPropertyValue("--ink");
      const ring = (i, size, width) => {
        context.beginPath();
        context.arc(px(set.x[i]), py(set.y[i]), size, 0, 7);
        context.lineWidth = width;
        context.stroke();
      };
      context.strokeStyle = ink;
      if (selected !== null && set.x[selected] >= 0) {
        context.globalAlpha = 0.45;
        context.lineWidth = 1;
        for (const other of set.near[selected]) {
          context.beginPath();
          context.moveTo(px(set.x[selected]), py(set.y[selected]));
          context.lineTo(px(set.x[other]), py(set.y[other]));
          context.stroke();
        }
        context.globalAlpha = 1;
        for (const other of set.near[selected]) ring(other, dot + 2.5, 1.2);
        ring(selected, dot + 4.5, 2.4);
      }
      if (hover >= 0) ring(hover, dot + 3.5, 1.6);
    };
    let waiting = false;
    const redraw = () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        waiting = false;
        paint();
        paintOver();
      });
    };
    const scale = (by, x = side / 2, y = side / 2) => {
      const k = Math.min(60, Math.max(0.8, view.k * by));
      view.x = x - ((x - view.x) * k) / view.k;
      view.y = y - ((y - view.y) * k) / view.k;
      view.k = k;
      redraw();
    };
    const reset = () => {
      Object.assign(view, { k: 1, x: 0, y: 0 });
      redraw();
    };
    new ResizeObserver(() => {
      const before = side || plane.clientWidth;
      side = plane.clientWidth;
      view.x *= side / before;
      view.y *= side / before;
      for (const canvas of [base, over]) {
        canvas.width = side * devicePixelRatio;
        canvas.height = side * devicePixelRatio;
      }
      redraw();
    }).observe(plane);

    // -- by keyboard: a dot at a time
    let cursor = -1;
    const inView = (i) => set.x[i] >= 0 && px(set.x[i]) >= 0 && py(set.y[i]) >= 0 && px(set.x[i]) <= side && py(set.y[i]) <= side;
    const point = (i) => {
      cursor = i;
      if (i < 0) return;
      centre(i);
      paint();
      paintOver(i);
      const box = over.getBoundingClientRect();
      tip({ clientX: box.left + px(set.x[i]), clientY: box.top + py(set.y[i]) }, i, set);
    };
    // the nearest dot in a direction: what lies aside counts twice, so that the same key goes on in one line
    const next = (dx, dy) => {
      if (cursor < 0 || set.x[cursor] < 0) {
        const middle = (i) => (px(set.x[i]) - side / 2) ** 2 + (py(set.y[i]) - side / 2) ** 2;
        let best = -1;
        for (let i = 0; i < whole; i++) if (inView(i) && (best < 0 || middle(i) < middle(best))) best = i;
        return selected !== null && inView(selected) ? selected : best;
      }
      let [best, least] = [cursor, Infinity];
      for (let i = 0; i < whole; i++) {
        if (set.x[i] < 0 || i === cursor) continue;
        const [x, y] = [set.x[i] - set.x[cursor], set.y[i] - set.y[cursor]];
        const along = x * dx + y * dy;
        const aside = Math.abs(x * dy - y * dx);
        if (along > 0 && aside <= 2 * along && along + 2 * aside < least) [best, least] = [i, along + 2 * aside];
      }
      return best;
    };
    over.addEventListener("focus", () => { if (over.matches(":focus-visible")) point(cursor >= 0 ? cursor : next(0, 0)); });
    over.addEventListener("blur", () => { tip(null); paintOver(); });

    let drag = null;
    over.addEventListener("pointerdown", (event) => { drag = { x: event.offsetX, y: event.offsetY, moved: false }; });
    over.addEventListener("pointermove", (event) => {
      if (drag && event.buttons) {
        if (!drag.moved && Math.hypot(event.offsetX - drag.x, event.offsetY - drag.y) < 4) return;
        if (!drag.moved) over.setPointerCapture(event.pointerId);
        view.x += event.offsetX - drag.x;
        view.y += event.offsetY - drag.y;
        drag = { x: event.offsetX, y: event.offsetY, moved: true };
        tip(null);
        redraw();
        return;
      }
      const sign = at(event.offsetX, event.offsetY);
      paintOver(sign);
      tip(sign < 0 ? null : event, sign, set);
    });
    over.addEventListener("pointerup", (event) => {
      const clicked = drag && !drag.moved;
      drag = null;
      if (!clicked) return;
      const sign = at(event.offsetX, event.offsetY);
      if (sign >= 0) select(sign);
    });
    over.addEventListener("pointerleave", () => { tip(null); paintOver(); });
    over.addEventListener("wheel", (event) => { // the page scrolls until the map was clicked
      if (document.activeElement !== over && !event.ctrlKey) return;
      event.preventDefault();
      scale(Math.exp(-event.deltaY * 0.0015), event.offsetX, event.offsetY);
    }, { passive: false });
    over.addEventListener("dblclick", (event) => scale(2, event.offsetX, event.offsetY));
    over.addEventListener("keydown", (event) => {
      const step = side / 8;
      const keys = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key in keys && event.shiftKey) {
        view.x -= step * keys[event.key][0];
        view.y -= step * keys[event.key][1];
        tip(null);
        redraw();
      } else if (event.key in keys) {
        point(next(...keys[event.key]));
      } else if (event.key === "Enter" || event.key === " ") {
        if (cursor >= 0) {
          select(cursor);
          point(cursor);
        }
      } else if (event.key === "+" || event.key === "=") scale(1.5);
      else if (event.key === "-") scale(1 / 1.5);
      else if (event.key === "0") reset();
      else if (event.key === "Escape") return over.blur();
      else return;
      event.preventDefault();
    });
    const centre = (sign) => { // bring a sign into view that lies outside
      if (set.x[sign] < 0) return;
      const [x, y] = [px(set.x[sign]), py(set.y[sign])];
      if (x > 0 && y > 0 && x < side && y < side) return;
      view.x += side / 2 - x;
      view.y += side / 2 - y;
    };
    return { redraw, centre, paint, at, place: (sign) => [px(set.x[sign]), py(set.y[sign])] };
  });
  const redraw = () => planes.forEach((plane) => plane.redraw());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

  const tip = (event, sign, set) => {
    const box = $("tip");
    box.hidden = !event;
    if (!event) return;
    const sdr = set.sdr[all.gloss[sign]];
    box.replaceChildren(
      make("div", "", make("b", "", glosses[all.gloss[sign]]), make("span", "", sdr == null ? "" : `SDR ${percent(sdr)} %`)),
      make("div", "", make("span", "", clips[all.clip[sign]]), make("span", "", frameText(sign))),
    );
    const { width, height } = box.getBoundingClientRect();
    box.style.left = `${event.clientX + 16 + width > innerWidth ? Math.max(4, event.clientX - 16 - width) : event.clientX + 16}px`;
    box.style.top = `${Math.min(event.clientY + 14, innerHeight - height - 4)}px`;
  };

  // -- one sign -----------------------------------------------------------------------------------------------------
  const select = (sign) => {
    selected = sign;
    planes.forEach((plane) => plane.centre(sign));
    redraw();
    const gloss = all.gloss[sign];
    const own = make("div", "",
      make("h3", "", glosses[gloss]),
      make("p", "facts", `${clips[all.clip[sign]]}, ${frameText(sign)}${all.signer[sign] < 0 ? "" : `, ${say("explorer.signed_by", { name: all.signers[all.signer[sign]] })}`}`),
      strip(sign, "frames"),
    );
    const sentence = all.texts[all.clip[sign]];
    if (sentence) own.append(make("p", "facts", say("explorer.sentence", { text: sentence })));
    const parts = [own];
    sets.forEach((set, number) => {
      if (set.x[sign] < 0) return parts.push(make("div", "", make("h4", "", say("explorer.not_there", { run: set.label }))));
      const near = set.near[sign];
      const same = near.filter((other) => all.gloss[other] === gloss).length;
      const heading = make("h4", "", sets.length > 1 ? key(number, set.label) : say("explorer.neighbours"));
      heading.append(make("span", "share", ` ${say("explorer.same", { part: same, all: near.length, gloss: glosses[gloss] })}`));
      parts.push(make("div", "", heading, make("ul", "near", ...near.map((other) => {
        const button = make("button", all.gloss[other] === gloss ? "same" : "other", strip(other),
          make("span", "", make("b", "", glosses[all.gloss[other]]), make("small", "", `${clips[all.clip[other]]} · ${all.start[other]}–${all.stop[other] - 1}`)));
        button.type = "button";
        button.addEventListener("click", () => select(other));
        return make("li", "", button);
      }))));
    });
    $("sign").replaceChildren(...parts);
    $("sign").scrollTop = 0;
  };
  $("sign").parentElement.classList.toggle("two", sets.length > 1);
  $("sign").append(make("p", "hint", say("explorer.hint")));

  // -- colours ------------------------------------------------------------------------------------------------------
  const toggle = (gloss) => {
    chosen = chosen.includes(gloss) ? chosen.filter((other) => other !== gloss) : [...chosen.slice(chosen.length < MOST ? 0 : 1), gloss];
    mode = "gloss";
    $("colour").value = mode;
    coloured();
  };
  const coloured = () => {
    if (mode in SCORES) {
      const { name, range: [low, high], falling } = SCORES[mode];
      const ends = falling ? [high, low] : [low, high];
      $("chips").replaceChildren(make("span", "scale", `${name} ${percent(ends[0])} %`, make("i"), `${percent(ends[1])} %`));
    } else if (mode === "signer") {
      const rest = all.signers.length - signerMarks.length;
      $("chips").replaceChildren(...signerMarks.map((i) => make("span", `chip m${i}`, make("i"), `${all.signers[i]} ${all.signer.filter((s) => s === i).length}`)),
        ...(rest > 0 ? [make("span", "chip m-", make("i"), say("others", { count: rest }))] : []));
    } else {
      const rest = glosses.length - chosen.length;
      $("chips").replaceChildren(...chosen.map((gloss, i) => {
        const chip = make("button", `chip m${i}`, make("i"), `${glosses[gloss]} ${counts[gloss]}`);
        chip.type = "button";
        chip.title = say("explorer.uncolour", { gloss: glosses[gloss] });
        chip.addEventListener("click", () => toggle(gloss));
        return chip;
      }), make("span", "chip m-", make("i"), say("others", { count: rest })));
    }
    redraw();
    rows();
  };
  for (const option of [...$("colour").options]) {
    if (option.value === "signer" ? all.signers.length < 2 : option.value in SCORES && !SCORES[option.value].known) option.remove();
  }
  $("colour").addEventListener("change", () => { mode = $("colour").value; coloured(); });
  $("add").addEventListener("change", () => {
    const gloss = glosses.indexOf($("add").value.trim());
    if (gloss >= 0 && !chosen.includes(gloss)) toggle(gloss);
    if (gloss >= 0) $("add").value = "";
  });
  $("all-glosses").append(...glosses.slice(0, 3000).map((gloss) => Object.assign(make("option"), { value: gloss })));

  // -- pairs --------------------------------------------------------------------------------------------------------
  let pairSet = 0;
  let pairsShown = 8;
  const pairs = () => {
    const found = sets[pairSet].pairs;
    $("pair-list").replaceChildren(...found.slice(0, pairsShown).map(([a, b, distance, ratio]) => make("li", "",
      make("header", "", make("span", "", say("explorer.distance", { value: decimals(distance, 2) })), make("span", "", say("explorer.ratio", { value: decimals(ratio, 2) }))),
      make("div", "two", ...[a, b].map((gloss) => {
        const sign = sets[pairSet].medoid[gloss];
        const button = make("button", "", make("b", "", glosses[gloss]), ` ${counts[gloss]}`, strip(sign));
        button.type = "button";
        button.title = say("explorer.show_sign");
        button.addEventListener("click", () => {
          chosen = [a, b];
          mode = "gloss";
          $("colour").value = mode;
          coloured();
          select(sign);
          $("map").scrollIntoView();
        });
        return button;
      })))));
    if (!found.length) $("pair-list").append(make("li", "", say("explorer.no_pairs")));
    $("pair-more").hidden = found.length <= pairsShown;
    $("pair-more").textContent = say("explorer.more", { count: Math.min(found.length - pairsShown, 16) });
  };
  $("pair-more").addEventListener("click", () => { pairsShown += 16; pairs(); });
  if (sets.length > 1) {
    $("pair-sets").append(...sets.map((set, number) => {
      const button = make("button", "", key(number, set.label));
      button.type = "button";
      button.setAttribute("role", "tab");
      button.setAttribute("aria-selected", String(number === pairSet));
      button.addEventListener("click", () => {
        pairSet = number;
        [...$("pair-sets").children].forEach((other, i) => other.setAttribute("aria-selected", String(i === number)));
        pairs();
      });
      return button;
    }));
  } else $("pair-sets").hidden = true;

  // -- table --------------------------------------------------------------------------------------------------------
  const confused = sets.map((set) => { // the other gloss most often among the neighbours of a gloss's signs
    const tally = glosses.map(() => new Map());
    set.near.forEach((near, sign) => near.forEach((other) => {
      const [own, theirs] = [all.gloss[sign], all.gloss[other]];
      if (own !== theirs) tally[own].set(theirs, (tally[own].get(theirs) ?? 0) + 1);
    }));
    return tally.map((found) => [...found].sort((a, b) => b[1] - a[1])[0]?.[0] ?? null);
  });
  const columns = [
    { name: say("gloss"), of: (g) => glosses[g] },
    { name: say("explorer.signs"), of: (g) => counts[g], show: String },
    ...sets.flatMap((set, number) => [{ name: sets.length > 1 ? `SDR %, ${set.label}` : "SDR %", run: number, of: (g) => set.sdr[g], show: percent }]),
    ...sets.map((set, number) => ({ name: sets.length > 1 ? `mAP %, ${set.label}` : "mAP %", run: number, of: (g) => set.found[g], show: percent })),
    ...(sets.length > 1 ? [{ name: say("explorer.difference"), of: (g) => (sets[0].sdr[g] == null || sets[1].sdr[g] == null ? null : sets[1].sdr[g] - sets[0].sdr[g]),
      show: (v) => (v == null ? "–" : (v > 0 ? "+" : "") + percent(v)), kind: (v) => (v == null ? "" : v < 0 ? "better" : "worse") }] : []),
    ...(sets.length > 1 ? [] : [{ name: say("explorer.within"), of: (g) => sets[0].intra[g], show: (v) => decimals(v, 3) }, { name: say("explorer.to_others"), of: (g) => sets[0].inter[g], show: (v) => decimals(v, 3) }]),
    ...sets.map((set, number) => ({ name: sets.length > 1 ? say("explorer.taken_for", { run: set.label }) : say("explorer.beside"), of: (g) => (confused[number][g] === null ? null : glosses[confused[number][g]]), left: true })),
  ];
  let sorted = { column: 2, falling: true };
  let rowsShown = 40;
  const rows = () => {
    const head = make("tr", "", ...columns.map((column, i) => {
      const button = make("button", "", column.name);
      button.type = "button";
      button.addEventListener("click", () => {
        sorted = { column: i, falling: sorted.column === i ? !sorted.falling : i > 0 && !column.left };
        rows();
        $("table").tHead.querySelectorAll("button")[i].focus();
      });
      const cell = make("th", column.left ? "left" : "", button);
      cell.scope = "col";
      cell.setAttribute("aria-sort", sorted.column === i ? (sorted.falling ? "descending" : "ascending") : "none");
      return cell;
    }));
    $("table").tHead.replaceChildren(head);
    const wanted = $("find").value.trim().toLocaleLowerCase();
    const of = columns[sorted.column].of;
    const order = glosses.map((_, g) => g).filter((g) => glosses[g].toLocaleLowerCase().includes(wanted)).sort((a, b) => {
      const [x, y] = [of(a), of(b)];
      if (x == null || y == null) return (x == null) - (y == null); // without a value: last, either way
      const way = typeof x === "string" ? x.localeCompare(y) : x - y;
      return (sorted.falling ? -way : way) || a - b;
    });
    $("table").tBodies[0].replaceChildren(...order.slice(0, rowsShown).map((g) => make("tr", "", ...columns.map((column, i) => {
      const value = column.of(g);
      if (i > 0) return make("td", [column.left ? "left" : "", column.kind?.(value) ?? ""].join(" ").trim(), column.show ? column.show(value) : value ?? "–");
      const place = chosen.indexOf(g);
      const button = make("button", "", make("span", `swatch${place >= 0 && mode === "gloss" ? ` m${place}` : ""}`), value);
      button.type = "button";
      button.setAttribute("aria-pressed", String(place >= 0));
      button.addEventListener("click", () => toggle(g));
      const cell = make("th", "", button);
      cell.scope = "row";
      return cell;
    }))));
    $("table-more").hidden = order.length <= rowsShown;
    $("table-more").textContent = say("explorer.show_all", { count: order.length });
  };
  $("find").addEventListener("input", rows);
  $("table-more").addEventListener("click", () => { rowsShown = Infinity; rows(); });

  // -- head and foot ------------------------------------------------------------------------------------------------
  $("summary").append(...sets.map((set, number) => {
    const { sdr, interval, note, map, nearest } = set.summary;
    const parts = [sdr == null ? say("explorer.no_sdr", { why: note })
      : say("explorer.sdr", { sdr: decimals(sdr, 2), low: decimals(interval[0], 2), high: decimals(interval[1], 2) })];
    if (map != null) parts.push(say("explorer.retrieval", { nearest: decimals(nearest, 1), map: decimals(map, 1) }));
    parts.push(say("explorer.same_gloss", { share: percent(set.same), count: set.near.find((n) => n.length)?.length ?? 0 }));
    return make("p", "facts", key(number, set.label), ` ${parts.join("; ")}`);
  }));
  for (const set of sets) {
    const { signers, within, across, others } = set.summary;
    if (!signers) continue;
    const parts = [["within", within, 2], ["across", across, 2], ["others", others, 1]]
      .filter(([, value]) => value != null).map(([name, value, places]) => say(`explorer.signer_${name}`, { value: decimals(value, places) }));
    if (parts.length) $("summary").append(make("p", "facts", say("explorer.by_signer", { run: set.label, count: signers, what: parts.join("; ") })));
  }
  $("how").textContent = sets.map((set) => say("explorer.how_made", { run: set.label, rows: set.size[0], dims: set.size[1], made: set.made || "–", map: set.map })).join(" ");
  pairs();
  coloured();
  globalThis.explorer = { planes, select, redraw }; // for tests and the console
})();
