/* Orders what the search finds: pages that say how to do something come before those that explain, and decisions come last. */
const weights = { tutorial: 12, "how-to": 12, reference: 6, explanation: 4, decisions: -30 };
var Scorer = {
  score: ([docname, , , , score]) => score + (weights[docname.split("/")[0]] ?? 0),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
