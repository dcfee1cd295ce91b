// The page at `/`: asks this server alone. Everything that was sent is put in as text, never as markup.

const $ = (id) => document.getElementById(id);
const percent = (value, digits = 1) => `${(100 * value).toFixed(digits)}%`;
const MOST_PICTURES = 64; // in one request, as the server has it unless told otherwise
const MOST_BYTES = 32 * 2 ** 20; // of one request
const PART_BYTES = 1024; // of a form around a picture, and its name
let token = "";
let model = null;
let round = 0; // of pictures that were given together

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function say(text, wrong = false) {
  $("status").textContent = text;
  $("status").classList.toggle("wrong", wrong);
}

async function ask(path, options = {}) {
  const headers = { ...(options.headers || {}) };
  if (token) headers.authorization = `Bearer ${token}`;
  const response = await fetch(path, { ...options, headers });
  const content = await response.json();
  if (response.status === 401) $("token-form").hidden = false;
  if (!response.ok && !content.images) throw Object.assign(new Error(content.error.message), { status: response.status });
  return content;
}

// ---- pictures ----

async function send(files) {
  const pictures = [...files].filter((file) => file.size > 0);
  if (!pictures.length || !model) return;
  round += 1;
  const own = round;
  const path = `/v1/predict?model=${encodeURIComponent(model.name)}`;
  $("results").replaceChildren();
  say(pictures.length === 1 ? "Looking at the picture …" : `Looking at ${pictures.length} pictures …`);
  const answers = [];
  const start = performance.now();
  try {
    for (const group of groups(pictures)) {
      const images = await answersTo(group, path);
      if (own !== round) return; // others were given meanwhile
      images.forEach((image, place) => $("results").append(result(image, group[place])));
      answers.push(...images);
      if (answers.length < pictures.length) say(`Looked at ${answers.length} of ${pictures.length} pictures …`);
    }
    const took = Math.round(performance.now() - start);
    say(`${summary(answers)} Answered in ${took} ms, the way there and back included.`);
  } catch (error) {
    if (own === round) say(error.message, true);
  }
}

function groups(pictures) {
  const made = [[]];
  let bytes = 0;
  for (const file of pictures) {
    const size = file.size + 3 * file.name.length + PART_BYTES;
    if (made.at(-1).length === MOST_PICTURES || (made.at(-1).length && bytes + size > MOST_BYTES)) {
      made.push([]);
      bytes = 0;
    }
    made.at(-1).push(file);
    bytes += size;
  }
  return made;
}

async function answersTo(group, path) {
  const form = new FormData();
  for (const file of group) form.append("images", file, file.name || "picture");
  try {
    return (await ask(path, { method: "POST", body: form })).images;
  } catch (error) {
    if (error.status !== 413) throw error; // else too large, for this server
    if (group.length === 1) return [{ name: group[0].name || "picture", error: { message: error.message } }];
    const half = group.length >> 1;
    return [...await answersTo(group.slice(0, half), path), ...await answersTo(group.slice(half), path)];
  }
}

function summary(images) {
  if (images.length > 1) return `${images.length} pictures.`;
  const [image] = images;
  if (image.error) return `${image.name} has no answer.`;
  const [best] = image.predictions;
  return best ? `Most probable: ${best.label}, ${percent(best.probability)}.` : "None of the classes is above its threshold.";
}

function result(image, file) {
  const article = make("article", "result card");
  const left = make("figure", "seen");
  const picture = make("img");
  picture.alt = `The picture ${image.name}`;
  picture.src = URL.createObjectURL(file);
  picture.addEventListener("error", () => { picture.hidden = true; }); // a format that browsers don't show
  left.append(picture);
  const right = make("div");
  right.append(make("h3", "", image.error ? "No answer" : image.predictions[0]?.label ?? "No label"), make("p", "name", image.name));
  if (image.error) {
    right.append(make("p", "problem", image.error.message));
  } else {
    right.append(bars(image.predictions), heatButton(file, left));
  }
  article.append(left, right);
  return article;
}

function bars(predictions) {
  const list = make("ol", "bars");
  for (const { label, probability } of predictions) {
    const item = make("li");
    const line = make("div", "line");
    line.append(make("span", "label", label), make("span", "value", percent(probability)));
    const track = make("div", "track");
    const bar = make("i");
    bar.style.width = percent(probability);
    track.setAttribute("aria-hidden", "true");
    track.append(bar);
    item.append(line, track);
    list.append(item);
  }
  return list;
}

function heatButton(file, figure) {
  const button = make("button", "plain", "Show what it looked at");
  button.type = "button";
  button.addEventListener("click", async () => {
    button.disabled = true;
    say("Covering one part of the picture after another …");
    try {
      const form = new FormData();
      form.append("images", file, file.name || "picture");
      const found = await ask(`/v1/explain?model=${encodeURIComponent(model.name)}`, { method: "POST", body: form });
      const picture = figure.querySelector("img");
      if (picture.hidden) showSeen(figure, found);
      else layHeat(figure, picture, found);
      button.remove();
      say(`The heat map for ${found.label} lies over the picture.`);
    } catch (error) {
      button.disabled = false;
      say(error.message, true);
    }
  });
  return button;
}

function layHeat(figure, picture, found) {
  const { left, top, width, height } = found.window;
  const frame = make("div", "frame");
  const heat = make("canvas", "heat");
  const side = found.grid.length;
  [heat.width, heat.height] = [side, side];
  const pixels = heat.getContext("2d").createImageData(side, side);
  const hottest = Math.max(0, ...found.grid.flat()) || 1;
  found.grid.flat().forEach((loss, place) => {
    const strength = Math.max(0, loss) / hottest;
    pixels.data.set([255, 90 + 150 * strength, 0, 190 * strength ** 0.8], 4 * place);
  });
  heat.getContext("2d").putImageData(pixels, 0, 0);
  Object.assign(heat.style, { left: percent(left, 2), top: percent(top, 2), width: percent(width, 2), height: percent(height, 2) });
  heat.setAttribute("role", "img");
  heat.setAttribute("aria-label", `Heat map: the parts that speak most for ${found.label} are yellow`);
  picture.replaceWith(frame);
  frame.append(picture, heat);
  figure.append(make("figcaption", "", `Orange to yellow: parts that speak for ${found.label}, found by covering them. The dashed line bounds what the network sees.`));
}

function showSeen(figure, found) {
  const seen = make("img");
  seen.src = found.overlay;
  seen.alt = `What the network saw; the parts that speak most for ${found.label} are yellow`;
  figure.replaceChildren(seen, make("figcaption", "", `What the network saw. Orange to yellow: parts that speak for ${found.label}.`));
}

$("file").addEventListener("change", (event) => { send(event.target.files); event.target.value = ""; });
$("capture").addEventListener("change", (event) => { send(event.target.files); event.target.value = ""; });
document.addEventListener("paste", (event) => send(event.clipboardData.files));
document.addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  send(event.dataTransfer.files);
});

// ---- camera ----

$("camera").addEventListener("click", async () => {
  if (!navigator.mediaDevices) { $("capture").click(); return; } // phones over plain HTTP have their own camera button
  try {
    $("video").srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    await $("video").play();
    $("viewfinder").showModal();
  } catch {
    say("No camera can be used here. Choose or paste a picture instead.", true);
  }
});
$("shoot").addEventListener("click", () => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [$("video").videoWidth, $("video").videoHeight];
  canvas.getContext("2d").drawImage($("video"), 0, 0);
  canvas.toBlob((blob) => send([new File([blob], "camera.jpg", { type: "image/jpeg" })]), "image/jpeg", 0.95);
  $("viewfinder").close();
});
$("cancel").addEventListener("click", () => $("viewfinder").close());
$("viewfinder").addEventListener("close", () => $("video").srcObject?.getTracks().forEach((track) => track.stop()));

// ---- the model's card ----

async function open() {
  try {
    const { models } = await ask("/v1/models");
    $("token-form").hidden = true;
    $("choose-model").hidden = models.length < 2;
    $("model").replaceChildren(...models.map(({ name }) => new Option(name, name)));
    await show(models[0].name);
    say("");
  } catch (error) {
    say(error.message, true);
  }
}

async function show(name) {
  model = await ask(`/v1/models/${encodeURIComponent(name)}`);
  document.title = `${model.name} · Sightline`;
  $("title").textContent = model.name;
  $("subtitle").textContent = `${model.architecture}, ${model.num_classes} classes`;
  const facts = {
    Network: model.architecture,
    Sees: `${model.preprocess.image_size} × ${model.preprocess.image_size} pixels`,
    "Computed by": model.engine,
    "Trained on": model.provenance.data.location ?? "not stated",
    Calibrated: `temperature ${model.calibration.temperature.toFixed(2)}, fitted on ${model.calibration.fitted_on}`,
    Fingerprint: model.fingerprint.slice(0, 12),
  };
  $("facts").replaceChildren(...Object.entries(facts).flatMap(([key, value]) => [make("dt", "", key), make("dd", "", String(value))]));
  const splits = Object.entries(model.figures).sort(([first], [second]) => first.localeCompare(second));
  $("figures").replaceChildren(...splits.flatMap(([split, figures]) => measured(split, figures)));
  if (!splits.length) $("figures").append(make("p", "muted", "Nothing was measured yet."));
  $("num-classes").textContent = model.num_classes;
  $("classes").replaceChildren(...model.classes.map((label) => make("li", "", label)));
  const { calibration, preprocess, thresholds, provenance, artefact, weights_sha256 } = model;
  const trail = { "served since": model.loaded, fingerprint: model.fingerprint, provenance, artefact, preprocess, calibration, thresholds, weights_sha256 };
  $("trail").replaceChildren(tree(trail));
}

const SPLITS = { val: "On the validation split", test: "On the test split" };
const SHARES = new Set(["macro_f1", "micro_f1", "calibration_error", "hamming_loss", "exact_match"]);

function measured(split, figures) {
  const count = figures.num_images ? `, ${figures.num_images.toLocaleString("en")} images` : "";
  const list = make("dl", "figures");
  for (const [key, value] of Object.entries(figures)) {
    if (key === "num_images" || value === null) continue;
    const tile = make("div");
    const shown = make("dd");
    if (typeof value === "object" && "low" in value) {
      shown.append(percent(value.value), make("small", "", `95% interval ${percent(value.low)} to ${percent(value.high)}`));
    } else if (typeof value === "number") {
      shown.append(SHARES.has(key) ? percent(value, 2) : String(Number(value.toPrecision(3))));
    } else {
      shown.append(typeof value === "object" ? JSON.stringify(value) : String(value));
    }
    tile.append(make("dt", "", words(key)), shown);
    list.append(tile);
  }
  return [make("h4", "muted", `${SPLITS[split] ?? words(split)}${count}`), list];
}

const words = (key) => { const text = key.replaceAll("_", " ").replace("f1", "F1"); return text[0].toUpperCase() + text.slice(1); };

function tree(value) {
  const list = make("dl");
  for (const [key, part] of Object.entries(value)) {
    if (part === null || part === "") continue;
    const nested = typeof part === "object" && !(Array.isArray(part) && part.every((item) => typeof item !== "object"));
    const shown = make("dd", "", nested ? undefined : Array.isArray(part) ? part.join(", ") : String(part));
    if (nested) shown.append(tree(part));
    list.append(make("dt", "", key.replaceAll("_", " ")), shown);
  }
  return list;
}

$("model").addEventListener("change", async (event) => { $("results").replaceChildren(); await show(event.target.value); });
$("token-form").addEventListener("submit", (event) => { event.preventDefault(); token = $("token").value; open(); });
open();
