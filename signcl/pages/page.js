// Numbers under the pointer for the curves and the maps; the page works without this script.
(() => {
  "use strict";
  const tip = document.getElementById("tip");
  const content = (id) => JSON.parse(document.getElementById(`${id}-data`)?.textContent ?? "null");
  const create = (name, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  const line = (...cells) => {
    const row = document.createElement("div");
    row.append(...cells.map((cell) => {
      const span = document.createElement("span");
      span.textContent = cell.text ?? cell;
      if (cell.kind) span.className = cell.kind;
      if (cell.key) span.prepend(document.createElement("i"));
      return span;
    }));
    return row;
  };
  const show = (event, rows) => {
    tip.replaceChildren(...rows);
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    const left = event.clientX + 16 + width > innerWidth ? event.clientX - 16 - width : event.clientX + 16;
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = `${Math.min(Math.max(4, event.clientY + 14), innerHeight - height - 4)}px`;
  };
  // position of the pointer in units of an SVG's viewBox
  const inside = (svg, event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  const point = (1.5).toLocaleString(document.documentElement.lang)[1];
  const number = (value) => (Math.abs(value) >= 0.001 || value === 0 ? String(+value.toPrecision(4)) : value.toExponential(2)).replace(".", point);

  const curves = content("curves");
  for (const figure of document.querySelectorAll("[data-panel]")) {
    const panel = curves.panels[figure.dataset.panel];
    const svg = figure.querySelector("svg");
    const [left, top, width, height] = panel.box;
    const cross = create("line", { class: "cross", y1: top, y2: top + height, visibility: "hidden" });
    svg.append(cross);
    const across = (step) => left + ((step - panel.x[0]) / (panel.x[1] - panel.x[0])) * width;
    const read = (wanted, place) => { // the numbers at the step nearest to the wanted one
      const near = panel.series.map((s) => s.steps.reduce((best, step, i) =>
        Math.abs(step - wanted) < Math.abs(s.steps[best] - wanted) ? i : best, 0));
      const steps = panel.series.map((s, i) => s.steps[near[i]]);
      const at = steps.reduce((a, b) => (Math.abs(b - wanted) < Math.abs(a - wanted) ? b : a));
      const x = across(at);
      cross.setAttribute("x1", x);
      cross.setAttribute("x2", x);
      cross.setAttribute("visibility", "visible");
      show(place, panel.series.map((s, i) => line(
        { text: say("page.point", { run: curves.runs[s.run], kind: s.kind, step: steps[i] }), kind: `key r${s.run}`, key: true },
        number(s.values[near[i]]))));
    };
    const leave = () => {
      tip.hidden = true;
      cross.setAttribute("visibility", "hidden");
    };
    svg.addEventListener("pointermove", (event) => {
      const share = Math.min(1, Math.max(0, (inside(svg, event).x - left) / width));
      read(panel.x[0] + share * (panel.x[1] - panel.x[0]), event);
    });
    svg.addEventListener("pointerleave", leave);
    // by keyboard: one step further, or to the ends
    const steps = [...new Set(panel.series.flatMap((s) => s.steps))].sort((a, b) => a - b);
    let place = steps.length - 1;
    svg.tabIndex = 0;
    svg.addEventListener("keydown", (event) => {
      const to = { ArrowLeft: place - 1, ArrowRight: place + 1, Home: 0, End: steps.length - 1 }[event.key];
      if (event.key === "Escape") leave();
      if (to === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
      place = Math.min(steps.length - 1, Math.max(0, to));
      const corner = new DOMPoint(across(steps[place]), top).matrixTransform(svg.getScreenCTM());
      read(steps[place], { clientX: corner.x, clientY: corner.y });
      event.preventDefault();
    });
    svg.addEventListener("blur", leave);
  }

  const all = content("maps");
  const figures = [...document.querySelectorAll("[data-map]")];
  const chips = [...document.querySelectorAll("button.chip")];
  let chosen = null; // gloss of the selected chip
  const light = (gloss) => figures.forEach((figure) => {
    const { xy, gloss: glosses } = all.maps[figure.dataset.map];
    let path = "";
    if (gloss !== null) glosses.forEach((g, i) => { if (g === gloss) path += `M${xy[2 * i]} ${xy[2 * i + 1]}h0`; });
    const lit = figure.querySelector(".lit");
    const colour = chips.findIndex((chip) => Number(chip.dataset.gloss) === gloss);
    lit.setAttribute("d", path);
    lit.style.stroke = colour < 0 ? "var(--ink)" : `var(--m${colour})`;
    figure.classList.toggle("dim", gloss !== null);
  });
  chips.forEach((chip) => chip.addEventListener("click", () => {
    const gloss = Number(chip.dataset.gloss);
    chosen = chosen === gloss ? null : gloss;
    chips.forEach((other) => other.setAttribute("aria-pressed", String(Number(other.dataset.gloss) === chosen)));
    light(chosen);
  }));
  for (const figure of figures) {
    const { xy, gloss, clip, frames, sdr } = all.maps[figure.dataset.map];
    const svg = figure.querySelector("svg");
    const ring = figure.querySelector(".at");
    const leave = () => {
      tip.hidden = true;
      ring.style.visibility = "hidden";
      light(chosen);
    };
    svg.addEventListener("pointermove", (event) => {
      const { x, y } = inside(svg, event);
      let best = -1;
      let least = 14 * 14;
      for (let i = 0; i < gloss.length; i++) {
        const distance = (xy[2 * i] - x) ** 2 + (xy[2 * i + 1] - y) ** 2;
        if (distance < least) [best, least] = [i, distance];
      }
      if (best < 0) return leave();
      const name = all.glosses[gloss[best]];
      ring.setAttribute("cx", xy[2 * best]);
      ring.setAttribute("cy", xy[2 * best + 1]);
      ring.style.visibility = "visible";
      light(gloss[best]);
      show(event, [
        line({ text: name, kind: "key" }, name in sdr ? `SDR ${number(sdr[name])} %` : ""),
        line(all.clips[clip[best]], say("page.frames", { frames: frames[best] })),
      ]);
    });
    svg.addEventListener("pointerleave", leave);
  }
})();
