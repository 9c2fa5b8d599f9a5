// The network's outputs → a decision, in the order of worker/inference/decide.py.

/** {decision, probability, heatMap} or, for what the guard refuses, {decision: "REFUSED", reason}.
 *
 * `outputs` are the export's four for one film, `card` its card. A refused film has no probability
 * and no heat map here: nobody can show what is not handed on. Throws where an output is no number,
 * since NaN lies below every threshold.
 */
export function decide({ probability, heatMap, guardScore, notChestScore }, card) {
  if (![probability, guardScore, notChestScore, ...heatMap.levels].every(Number.isFinite)) {
    throw new Error("The network's answer is not a finite number.");
  }
  if (guardScore > card.guard.threshold) {
    return refused(notChestScore > 0.5 ? "not-a-chest-radiograph" : "outside-validated-population");
  }
  const [low, high] = card.decision.indeterminate;
  const [negative, positive] = card.labels;
  let decision = probability >= card.decision.threshold ? positive : negative;
  if (low < probability && probability < high) decision = "INDETERMINATE";
  return { decision, probability, heatMap };
}

export function refused(reason) {
  return { decision: "REFUSED", reason };
}
