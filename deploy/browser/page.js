// The page around an exported model: a film dropped in, the answer beside it.

import { readFilm } from "./film.js";
import { openModel } from "./model.js";
import { resample, triangle } from "./prepare.js";

// In the words of worker/report/wording.py; a test holds them to it.
const REASONS = {
  "not-a-chest-radiograph": "the picture is unlike every frontal chest film the model knows",
  "outside-validated-population": "the patient's age, or the look of the film, lies outside what the model was validated on",
  "too-small": "the short side has fewer than 100 pixels",
  "blank-picture": "the picture has no contrast",
  "polarity-unsure": "the pixels look like a negative although the tags say otherwise; never flipped by guess",
};
const INT8_HEAT_MAP = "From an int8 file: cells may be off by half of the scale and more; see the float32 file";
const NO_ANSWER = "The model does not answer for this film. A human must read it.";

// Evidence from 0 to the top of the card's scale: [red, green, blue, alpha], as worker/report/overlay.py.
const RAMP = [
  [124, 29, 109, 0],
  [152, 39, 102, 0.071],
  [179, 50, 90, 0.145],
  [204, 66, 72, 0.216],
  [226, 87, 52, 0.29],
  [241, 115, 29, 0.361],
  [250, 146, 7, 0.435],
  [252, 180, 24, 0.506],
  [246, 215, 70, 0.58],
];
const OPACITY = 0.65;
const HEAT_PX = 112;

const get = (id) => document.getElementById(id);
const bytesOf = async (id) => (await fetch(get(id).href)).arrayBuffer();

let latest = 0; // an answer that another film has overtaken is never shown
let queue = start();

async function start() {
  const card = JSON.parse(new TextDecoder().decode(await bytesOf("card")));
  const model = await openModel(await bytesOf("onnx"), card, await bytesOf("wasm"));
  about(card);
  say("Drop a film, or choose one.");
  get("file").disabled = false;
  return model;
}

queue.catch((error) => say(`The model cannot be used. ${error.message}`));

for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());
addEventListener("drop", (event) => take([...event.dataTransfer.files]));
get("file").addEventListener("change", (event) => {
  take([...event.target.files]);
  event.target.value = ""; // the same film may be chosen again; it empties `files`
});

/** Clear what is shown, at once; then screen the film after those before it. */
function take(files) {
  if (get("file").disabled) return; // the model is not open yet, or never will be: the page says so
  const mine = ++latest;
  get("result").hidden = true;
  if (files.length !== 1) return say("One film at a time.");
  say("Screening…");
  const opened = queue;
  queue = opened.then(async (model) => {
    if (mine !== latest) return model;
    try {
      await new Promise(setTimeout); // let the page be drawn
      const film = await readFilm(files[0]);
      const answer = await model.answer(film);
      if (mine === latest) show(files[0].name, film, answer, model.card);
    } catch (error) {
      if (mine === latest) say(`No answer: ${error.message} A human must read it.`);
    }
    return model;
  });
}

function say(text) {
  get("status").textContent = text;
}

function show(name, film, answer, card) {
  const isRefused = answer.decision === "REFUSED";
  get("result").className = `is-${roleOf(answer.decision, card)}`;
  get("name").textContent = name;
  get("decision").textContent = answer.decision;
  get("number").hidden = get("heat").hidden = get("legend").hidden = isRefused;
  get("score").textContent = isRefused ? "" : score(answer.probability);
  get("why").textContent = isRefused ? refusal(answer.reason) : meaning(answer, card);
  for (const canvas of document.querySelectorAll(".film")) drawFilm(canvas, film);
  drawHeat(get("evidence"), isRefused ? null : answer.heatMap, card.heat_map.evidence_scale);
  say("");
  get("result").hidden = false;
}

function roleOf(decision, card) {
  const index = card.labels.indexOf(decision);
  return index < 0 ? decision.toLowerCase() : ["negative", "positive"][index];
}

/** Three digits that never round to a false certainty. */
function score(value) {
  if (value > 0 && value < 0.001) return "<0.001";
  return value > 0.999 && value < 1 ? ">0.999" : value.toFixed(3);
}

function refusal(reason) {
  const words = reason.replaceAll("-", " ");
  const sentence = REASONS[reason];
  return `${words[0].toUpperCase()}${words.slice(1)}: ${sentence}. ${NO_ANSWER}`;
}

function meaning({ decision, probability }, card) {
  const [low, high] = card.decision.indeterminate;
  const positive = card.labels[1];
  if (decision === "INDETERMINATE") {
    return `${score(probability)} lies between ${low} and ${high}, where the model does not answer. A human must decide.`;
  }
  const side = decision === positive ? "above" : "below";
  const other = decision === positive ? "" : ` The model looks for ${positive} only; other disease is not excluded.`;
  return `${score(probability)} lies ${side} the abstention band ${low}–${high}.${other}`;
}

function drawFilm(canvas, { levels, rows, columns }) {
  canvas.width = columns;
  canvas.height = rows;
  paint(canvas, (pixel) => [levels[pixel], levels[pixel], levels[pixel], 255]);
}

/** The evidence on the card's fixed scale; nothing for a film that the model does not answer for. */
function drawHeat(canvas, heatMap, scale) {
  canvas.width = canvas.height = HEAT_PX; // which also clears it
  if (!heatMap) return;
  const { levels, rows, columns } = heatMap;
  const grid = { rows, columns, levels: levels.map((cell) => Math.min(1, Math.max(0, cell / scale))) };
  const smooth = resample(grid, rows, columns, HEAT_PX, triangle);
  paint(canvas, (pixel) => colour(smooth[pixel]));
}

function colour(level) {
  const place = level * (RAMP.length - 1);
  const below = Math.min(Math.floor(place), RAMP.length - 2);
  const mixed = RAMP[below].map((part, index) => part + (RAMP[below + 1][index] - part) * (place - below));
  return [mixed[0], mixed[1], mixed[2], 255 * OPACITY * mixed[3]];
}

function paint(canvas, rgba) {
  const context = canvas.getContext("2d");
  const picture = context.createImageData(canvas.width, canvas.height);
  for (let pixel = 0; pixel < canvas.width * canvas.height; pixel++) picture.data.set(rgba(pixel), 4 * pixel);
  context.putImageData(picture, 0, 0);
}

/** What the card says, for people. */
function about(card) {
  const { description, min_age_years: youngest, max_age_years: oldest } = card.population;
  const positive = card.labels[1];
  const stops = RAMP.map(([red, green, blue, alpha]) => `rgb(${red} ${green} ${blue} / ${OPACITY * alpha})`);
  get("ramp").style.backgroundImage = `linear-gradient(to right, ${stops})`;
  get("heat-caveat").textContent = card.export.precision === "int8" ? `${INT8_HEAT_MAP}.` : "";
  get("scale-top").textContent = card.heat_map.evidence_scale;
  get("finding").textContent = get("heat-finding").textContent = positive;
  get("population").textContent = `Validated on ${description}, ${youngest} to ${oldest} years old, and on nobody else. A JPEG or PNG does not say the patient's age: check it yourself.`;
  get("use").textContent = card.intended_use;
  get("not-for").textContent = `Not for: ${card.not_for.join("; ")}.`;
  get("model").textContent = `${card.name} ${card.version}, SHA-256 ${card.weights.sha256}`;
}
