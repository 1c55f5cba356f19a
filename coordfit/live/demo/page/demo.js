"use strict";
// Sends a picture with the choices of the form; live.js asks for what is new and shows it.
const form = document.getElementById("form"), message = document.getElementById("message");
const display = document.getElementById("display"), results = document.getElementById("results");
const stop_ = document.getElementById("stop");
let mostBytes = Infinity, shownResults = "";

function tell(text) {
  message.textContent = text;
}

async function post(address, body) {
  tell("");
  try {
    const answer = await fetch(address, {method: "POST", body});
    if (!answer.ok) tell(await answer.text());
    else if (display.getBoundingClientRect().top > innerHeight / 2) display.scrollIntoView();
  } catch {
    tell("nothing could be sent: is it a file, and does the program still run?");
  }
}

function fit(picture, file) {
  if (file && file.size > mostBytes) {
    tell(`${file.name} has more than ${mostBytes / 2 ** 20} MiB: make the picture smaller first`);
    return;
  }
  const asked = new URLSearchParams(new FormData(form));
  asked.set("picture", picture);
  if (file) asked.set("name", file.name);
  post(`fit?${asked}`, file);
}

function take(files) {
  if (files.length) fit("file", files[0]);
  else tell("there is no file in it: save the picture first, then drop the file");
}

form.addEventListener("submit", event => {
  event.preventDefault();
  fit("same");
});
document.getElementById("bundled").addEventListener("click", () => fit("bundled"));
stop_.addEventListener("click", () => post("stop"));
document.getElementById("file").addEventListener("change", event => {
  if (event.target.files.length) take(event.target.files);
  event.target.value = "";   // so that the same file can be chosen again
});
document.getElementById("sigma").addEventListener("change", () => {
  document.getElementById("gaussian").checked = true;
});

document.addEventListener("dragover", event => {
  event.preventDefault();
  document.body.classList.add("over");
});
for (const name of ["dragleave", "drop"])
  document.addEventListener(name, event => {
    if (name === "drop" || !event.relatedTarget) document.body.classList.remove("over");
  });
document.addEventListener("drop", event => {
  event.preventDefault();
  take(event.dataTransfer.files);
});
document.addEventListener("paste", event => {
  if (event.clipboardData.files.length) take(event.clipboardData.files);
});

document.addEventListener("state", ({detail: state}) => {
  mostBytes = state.most_bytes;
  stop_.setAttribute("aria-disabled", String(!state.is_training));
  if (state.error) tell(state.error);
  if (state.results === shownResults) return;
  results.innerHTML = shownResults = state.results;
  document.getElementById("compared").hidden = !state.results;
});
