// Plays the clips, and sorts the sentences; the page works without this script.
(() => {
  "use strict";
  const EVERY = 80; // milliseconds per frame: not the speed of the video, since only some of its frames are here
  for (const clip of document.querySelectorAll(".clip[data-count]")) {
    const [count, columns, rows] = ["count", "columns", "rows"].map((name) => Number(clip.dataset[name]));
    const picture = clip.querySelector("img");
    const button = clip.querySelector("button");
    const { name } = button.dataset;
    let frame = 0;
    let playing = 0;
    const show = () => {
      picture.style.transform = `translate(${(-100 * (frame % columns)) / columns}%, ${(-100 * Math.floor(frame / columns)) / rows}%)`;
      clip.dataset.frame = frame;
    };
    button.addEventListener("click", () => {
      if (playing) {
        clearInterval(playing);
        playing = 0;
      } else playing = setInterval(() => { frame = (frame + 1) % count; show(); }, EVERY);
      const act = playing ? "stop" : "play";
      button.textContent = say(`compare.js_${act}`);
      button.setAttribute("aria-label", say(`compare.js_${act}_name`, { name }));
    });
  }
  const cards = [...document.querySelectorAll(".sample")];
  document.getElementById("sort")?.addEventListener("change", (event) => {
    const way = { a: -1, b: 1 }[event.target.value];
    const difference = (card) => Number(card.dataset.difference);
    const shown = way ? cards.filter((card) => way * difference(card) > 0).sort((x, y) => way * (difference(y) - difference(x))) : cards;
    document.getElementById("cards").replaceChildren(...shown);
  });
})();
