// The page's words in the reader's language: say("of", { part: 1, all: 2 }).
globalThis.say = (() => {
  "use strict";
  const table = JSON.parse(document.getElementById("words-data").textContent);
  return (key, values = {}) => {
    if (!(key in table)) throw new Error(`no words for ${key}`);
    const numbered = table[key].replace(/\{(\w+)\?(.*?)\|(.*?)\}/g, (_, name, one, many) => (String(values[name]) === "1" ? one : many));
    return numbered.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
  };
})();
// A number in the format of the reader's language.
globalThis.inWords = (value, places = 0) => value.toLocaleString(document.documentElement.lang, { minimumFractionDigits: places, maximumFractionDigits: places });
