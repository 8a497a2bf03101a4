// The front page: what this server offers, and the command that makes what is missing.
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
  if (site.model) facts.push(`${site.model.system} · ${site.model.corpus}`);
  if (site.run) facts.push(say("home.split", { split: site.split }));
  if (site.scores?.bleu4 !== undefined) facts.push(`BLEU-4 ${inWords(site.scores.bleu4, 2)}`);
  if (site.scores?.wer !== undefined) facts.push(`WER ${inWords(site.scores.wer, 2)}`);
  if (site.sdr !== undefined) facts.push(`SDR ${inWords(site.sdr, 2)} %`);
  document.getElementById("kind").textContent = ["signcl serve", ...facts].join(" · ");
  const doors = [
    ["translate", site.translates ? say("home.translate") : say("home.not_here", { why: site.why_not }), site.translates],
    ["report", say(site.report ? "home.report" : "home.no_run"), site.report],
    ["explorer", say(site.explorer ? "home.explorer" : site.run ? "home.no_explorer" : "home.no_run"), !!site.run],
    ["annotate", say(site.annotates ? "home.annotate" : "home.no_annotate"), site.annotates],
    ["subtitles", say(site.subtitles ? "home.subtitles" : "home.no_subtitles"), site.subtitles],
  ];
  document.getElementById("doors").append(...doors.map(([name, what, open]) => {
    const door = document.createElement(open ? "a" : "div");
    door.className = "door";
    if (open) door.href = `/${name}`; else door.dataset.off = "";
    const title = document.createElement("h2");
    const text = document.createElement("p");
    title.textContent = say(`bar.${name}`);
    text.textContent = what;
    door.append(title, text);
    return door;
  }));
})();
