// The page of polyface serve. Nothing here comes from elsewhere, and nothing goes elsewhere.

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const shown = []; // what was found, each with its article
let models = [];
let token = "";

async function ask(path, options = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch {
    throw new Error("The server does not answer.");
  }
  if (answer.ok) return answer;
  const { error } = await answer.json().catch(() => ({ error: { what: `Status ${answer.status}.`, why: [], fix: {} } }));
  if (answer.status === 401) $("token-form").hidden = false;
  throw new Error(explain(error));
}

function explain({ what, why, fix }) {
  const words = [fix, ...(fix.alternatives ?? [])].map((one) => {
    const settings = Object.entries(one.settings ?? {}).map(([name, value]) => `${name}=${value}`);
    return [one.words, [...(one.names ?? []), ...settings].join(", "), one.command].filter(Boolean).join(" ");
  }).filter(Boolean);
  return [what, ...why, words.length ? `To fix it: ${words.join("; or: ")}` : ""].filter(Boolean).join(" · ");
}

function complain(name, error) {
  const line = document.createElement("p");
  line.textContent = name ? `${name}: ${error.message}` : error.message;
  $("errors").append(line);
}

async function loadModels() {
  try {
    ({ models } = await (await ask("v1/models")).json());
  } catch (error) {
    complain("", error);
    return;
  }
  $("model").replaceChildren(...models.map(({ name, summary }) => {
    const option = new Option(name, name);
    option.title = summary;
    return option;
  }));
  setRange();
}

const leastOf = (model) => models.find(({ name }) => name === model).score_threshold;

function setRange() {
  const least = leastOf($("model").value);
  $("threshold").min = least;
  $("threshold").value = least;
  redraw();
}

const threshold = () => Number($("threshold").value);

function redraw() {
  $("least").value = threshold().toFixed(2);
  shown.forEach(draw);
}

async function examine(files) {
  $("errors").replaceChildren();
  const model = $("model").value;
  let done = 0;
  let faces = 0;
  for (const file of files) {
    $("status").textContent = `Looking at ${file.name}, ${done + 1} of ${files.length}.`;
    try {
      const body = new FormData();
      body.append("image", file, file.name);
      const answer = await ask(`v1/detect?model=${encodeURIComponent(model)}`, { method: "POST", body });
      const { results: [line], landmarks } = await answer.json();
      faces += line.faces.length;
      done += 1;
      show(file, { ...line, image: file.name }, landmarks, model);
    } catch (error) {
      complain(file.name, error);
    }
  }
  $("status").textContent = `${count(faces, "face")} in ${count(done, "image")}.`;
}

const count = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;

function show(file, line, landmarks, model) {
  const article = $("result").content.cloneNode(true).querySelector("article");
  const one = { file, line, landmarks, model, article };
  const image = article.querySelector("img");
  image.addEventListener("error", () => {
    image.hidden = true; // a format that the browser does not show
    article.querySelector(".image").classList.add("unseen");
  });
  image.width = line.width;
  image.height = line.height;
  image.src = URL.createObjectURL(file);
  article.querySelector("h2").textContent = file.name;
  const button = article.querySelector(".anonymize");
  button.setAttribute("aria-label", `Download ${file.name} without the faces`);
  button.addEventListener("click", () => download(one, button));
  article.querySelector("pre").setAttribute("aria-label", `JSON of ${file.name}`);
  shown.unshift(one);
  $("results").prepend(article);
  draw(one);
}

function draw({ line, landmarks, article }) {
  const faces = line.faces.filter(({ score }) => score >= threshold());
  const svg = article.querySelector("svg");
  // A line's width, in pixels of the image; where that is shown small, as on a telephone, a score must still be read.
  const thin = Math.max(Math.max(line.width, line.height) / 300, (2 * line.width) / svg.clientWidth);
  svg.setAttribute("viewBox", `0 0 ${line.width} ${line.height}`);
  svg.setAttribute("aria-label", faces.length ? faces.map(describe).join("; ") : "No faces");
  // The best face last, so that it lies on top.
  svg.replaceChildren(...faces.toReversed().map((face) => drawFace(face, landmarks, line.width, thin)));
  article.querySelector("figcaption").textContent = `${count(faces.length, "face")}, ${line.width}x${line.height} pixels`;
  article.querySelector("pre").textContent = write({ ...line, faces });
}

// Indented JSON, with the numbers of a box or a landmark in one line.
const write = (value) =>
  JSON.stringify(value, null, 1).replace(/\[[\s\d.,-]+\]/g, (numbers) => numbers.replace(/\s+/g, " ").replace(/^\[ | \]$/g, (end) => end.trim()));

const describe = ({ score, box }, index) =>
  `Face ${index + 1}: score ${score.toFixed(2)}, from ${box.slice(0, 2).map(Math.round)} to ${box.slice(2).map(Math.round)}`;

function drawFace({ box: [left, top, right, bottom], score, landmarks: marks = [] }, names, width, thin) {
  const group = element("g", {});
  const label = score.toFixed(2);
  const size = 6 * thin;
  const x = Math.max(0, Math.min(left, width - 2.5 * size));
  const y = Math.max(0, top - 1.3 * size); // a label above the image's edge moves inside
  group.append(
    element("rect", { class: "box", x: left, y: top, width: right - left, height: bottom - top, "stroke-width": thin }),
    element("rect", { class: "label", x, y, width: 2.5 * size, height: 1.3 * size }),
    element("text", { x: x + 0.2 * size, y: y + size, "font-size": size }, label),
    ...marks.map(([cx, cy], index) => element("circle", { class: "mark", cx, cy, r: Math.min(1.6 * thin, (right - left) / 16) }, "", names[index])),
  );
  return group;
}

function element(name, attributes, text = "", title = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  if (title) made.append(element("title", {}, title.replaceAll("_", " ")));
  return made;
}

async function download({ file, model }, button) {
  button.disabled = true;
  try {
    const body = new FormData();
    body.append("image", file, file.name);
    // The slider may stand lower, for another model that has been chosen since.
    const query = new URLSearchParams({ model, score_threshold: Math.max(threshold(), leastOf(model)) });
    const answer = await ask(`v1/anonymize?${query}`, { method: "POST", body });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await answer.blob());
    const ending = /filename="anonymized(\.\w+)"/.exec(answer.headers.get("Content-Disposition"))[1];
    link.download = file.name.replace(/\.[^.]*$/, "") + "-anonymized" + ending;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    $("status").textContent = `${link.download} has ${count(Number(answer.headers.get("Polyface-Faces")), "face")} covered.`;
  } catch (error) {
    complain(file.name, error);
  }
  button.disabled = false;
}

async function toggleCamera() {
  const video = $("video");
  const on = video.srcObject === null;
  if (on) {
    try {
      if (!navigator.mediaDevices) throw new Error("browsers give it to pages by https or on this machine alone");
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: true });
      await video.play();
    } catch (error) {
      video.srcObject = null;
      complain("", new Error(`The camera cannot be used: ${error.message}`));
      return;
    }
  } else {
    video.srcObject.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
  }
  $("viewfinder").hidden = !on;
  $("camera").setAttribute("aria-expanded", String(on));
  $("camera").textContent = on ? "Stop the camera" : "Use the camera";
}

let pictures = 0;

function takePicture() {
  const video = $("video");
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  pictures += 1;
  const name = `camera-${pictures}.jpg`;
  canvas.toBlob((blob) => examine([new File([blob], name, { type: "image/jpeg" })]), "image/jpeg", 0.95);
}

$("files").addEventListener("change", () => {
  const files = [...$("files").files];
  $("files").value = ""; // the same file may be chosen again
  if (files.length) examine(files);
});
$("model").addEventListener("change", setRange);
$("threshold").addEventListener("input", redraw);
window.addEventListener("resize", redraw);
$("camera").addEventListener("click", toggleCamera);
$("take").addEventListener("click", takePicture);
$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value;
  $("token-form").hidden = true;
  $("errors").replaceChildren();
  loadModels();
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) document.body.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  const files = [...event.dataTransfer.files];
  if (files.length) examine(files);
});

loadModels();
