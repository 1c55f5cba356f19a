"use strict";
// Asks for what is new about once a second, until the run has ended or the server has gone.
const BETWEEN = 700, MOST_FAILURES = 4;
const name = document.getElementById("name"), status_ = document.getElementById("status");
const shown = document.getElementById("shown");
let version = -1, failures = 0;

function say(text) {
  if (status_.textContent !== text) status_.textContent = text;
}

async function look() {
  try {
    const answer = await fetch(`state?after=${version}`);
    failures = 0;
    if (answer.status === 200) {
      const state = await answer.json();
      version = state.version;
      name.textContent = state.name;
      document.title = `${state.name}: ${state.ended || "training"} - coordfit`;
      shown.innerHTML = state.html;
      say(state.ended ? `${state.ended}; this page keeps the last picture` : "training");
      if (state.ended) return;
    }
  } catch {
    failures += 1;
    if (failures >= MOST_FAILURES) {
      say("the program has ended; this page keeps the last picture");
      return;
    }
  }
  setTimeout(look, BETWEEN);
}

look();
