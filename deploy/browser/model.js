// An exported model in the browser: onnxruntime-web, the film's preparation, the card's constants.

import * as ort from "onnxruntime-web/wasm";

import { decide, refused } from "./decide.js";
import { modelInput, pixelRefusal } from "./prepare.js";

/** Open an export, {card, answer(film)}: its bytes, its card, and the bytes of onnxruntime-web's .wasm file.
 *
 * Throws where the export is not the file that the card speaks of: thresholds belong to one file.
 */
export async function openModel(onnx, card, wasm) {
  if ((await sha256(onnx)) !== card.weights.sha256) {
    throw new Error("The model is not the file that its card speaks of: export it again.");
  }
  ort.env.wasm.wasmBinary = wasm;
  ort.env.wasm.numThreads = 1; // more need headers that a file from a folder does not have
  const session = await ort.InferenceSession.create(new Uint8Array(onnx));
  return { card, answer: (film) => answer(session, card, film) };
}

/** What decide() gives for one film, {levels, rows, columns}. */
async function answer(session, card, film) {
  const reason = pixelRefusal(film);
  if (reason) return refused(reason);
  const side = card.input.size_px;
  const films = new ort.Tensor("float32", modelInput(film, card.input), [1, 1, side, side]);
  const found = await session.run({ films });
  const [, rows, columns] = found.heat_map.dims;
  return decide(
    {
      probability: found.probability.data[0],
      heatMap: { levels: found.heat_map.data, rows, columns },
      guardScore: found.guard_score.data[0],
      notChestScore: found.not_chest_score.data[0],
    },
    card,
  );
}

async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
