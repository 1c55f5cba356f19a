"use strict";
// Asks for what is new every now and then, until the run has ended or the server has gone.
const BETWEEN = Number(document.body.dataset.between || 700), MOST_FAILURES = 4;
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
      document.title = `${state.name}: ${state.status} - coordfit`;
      shown.innerHTML = state.html;
      say(state.ended ? `${state.status}; this page keeps the last picture` : state.status);
      document.dispatchEvent(new CustomEvent("state", {detail: state}));
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
