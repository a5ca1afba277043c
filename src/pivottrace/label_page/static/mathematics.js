// Mathematics in a question: $…$, $$…$$, \(…\) and \[…\] are drawn, everything else stays text.
// A "$" opens only before a character that is no space, and closes only behind one and before no
// digit, so "$5 and $6" are amounts of money. What KaTeX cannot read stays text: the node that it
// would make for an error has a style of its own, which the content policy refuses.
const FORMULA =
  /\$\$([^$]+?)\$\$|\\\[([\s\S]+?)\\\]|\\\(([\s\S]+?)\\\)|(?<![\\$])\$(?!\s)([^$\n]*?[^$\s\\])\$(?!\d)/g;
const OPTIONS = { throwOnError: true, trust: false, strict: false, maxExpand: 200, maxSize: 20 };

function formulaNode(source, displayMode, whole) {
  const node = document.createElement(displayMode ? "div" : "span");
  node.className = "formula";
  node.dir = "ltr";
  try {
    katex.render(source, node, { ...OPTIONS, displayMode });
  } catch {
    node.textContent = whole;
  }
  return node;
}

// Fills an element with a text; returns whether it has a formula.
function showText(element, text, withMathematics = true) {
  element.replaceChildren();
  let shown = 0;
  const found = typeof katex === "undefined" ? [] : [...text.matchAll(FORMULA)];
  if (withMathematics) {
    for (const match of found) {
      const [whole, twice, display, inline, once] = match;
      element.append(text.slice(shown, match.index));
      const source = twice ?? display ?? inline ?? once;
      element.append(formulaNode(source, (twice ?? display) !== undefined, whole));
      shown = match.index + whole.length;
    }
  }
  element.append(text.slice(shown));
  return found.length > 0;
}
