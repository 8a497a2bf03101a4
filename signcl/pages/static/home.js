// The front page: what this server has, and the command that makes what it has not.
(async () => {
  "use strict";
  const site = await (await fetch("/api/site")).json();
  const command = document.getElementById("command");
  if (command) {
    const split = site.split === "test" ? "" : ` --split ${site.split}`;
    command.textContent = site.run_folder ? `signcl explore ${site.run_folder}${split}` : "signcl serve RUN";
    return;
  }
  const facts = [];
  if (site.model) facts.push(`${site.model.system} on ${site.model.corpus}`);
  if (site.run) facts.push(`${site.split} split`);
  if (site.scores?.bleu4 !== undefined) facts.push(`BLEU-4 ${site.scores.bleu4.toFixed(2)}`);
  if (site.scores?.wer !== undefined) facts.push(`WER ${site.scores.wer.toFixed(2)}`);
  if (site.sdr !== undefined) facts.push(`SDR ${site.sdr.toFixed(2)} %`);
  document.getElementById("kind").textContent = ["signcl serve", ...facts].join(" · ");
  const doors = [
    ["/translate", "Translate", site.translates ? "A clip in, a sentence out." : `Not here: ${site.why_not}.`, site.translates],
    ["/report", "Report", site.report ? "Curves, scores, density and sample translations." : "Not here: no run is served.", site.report],
    ["/explorer", "Explorer", site.explorer ? "Every sign on a map, with its frames and neighbours." : site.run ? "Not made yet: one command makes it." : "Not here: no run is served.", !!site.run],
    ["/annotate", "Choose frames", site.annotates ? "The frame that shows each sign best, by keyboard." : "Start with --annotate SPANS.tsv to choose frames.", site.annotates],
  ];
  document.getElementById("doors").append(...doors.map(([to, name, what, open]) => {
    const door = document.createElement(open ? "a" : "div");
    door.className = "door";
    if (open) door.href = to; else door.dataset.off = "";
    const title = document.createElement("h2");
    const text = document.createElement("p");
    title.textContent = name;
    text.textContent = what;
    door.append(title, text);
    return door;
  }));
})();
