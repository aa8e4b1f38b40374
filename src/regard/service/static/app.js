/* The page of regard serve. No library, nothing from elsewhere; text from outside is only ever set as text. */
const $ = (id) => document.getElementById(id);
const make = (tag, className = "", text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
const narrow = matchMedia("(max-width: 48rem)");
const state = { galleries: [], query: null, cameras: [], run: 0, said: 0, shelfAfter: null };

/* Talking to the service ------------------------------------------------------------------------------------------- */

let working = 0;
function busy(change, share = null) {
  working += change;
  $("progress").hidden = working === 0;
  $("progress").classList.toggle("busy", share === null);
  $("progress").firstElementChild.style.width = share === null ? "" : `${Math.round(100 * share)}%`;
}

function tell(text) {
  $("message").textContent = text;
  $("message").hidden = !text;
}

async function ask(path, body, method = body ? "POST" : "GET") {
  busy(1);
  try {
    const headers = body ? { "content-type": "application/json" } : {};
    const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
    const found = await answer.json().catch(() => ({ error: `the service answered ${answer.status}` }));
    if (!answer.ok) throw new Error(found.error);
    return found;
  } catch (error) {
    throw error instanceof TypeError ? new Error("the service does not answer; is regard serve still running?") : error;
  } finally {
    busy(-1);
  }
}

/* An upload shows how much of it has gone; only the older interface tells. */
function upload(files) {
  return new Promise((resolve, reject) => {
    const form = new FormData();
    for (const file of files) form.append("photos", file, file.name);
    const request = new XMLHttpRequest();
    request.open("POST", "api/queries");
    request.responseType = "json";
    busy(1);
    request.upload.onprogress = (event) => busy(0, event.lengthComputable && event.loaded < event.total ? event.loaded / event.total : null);
    request.onerror = () => reject(new Error("the service took no more of it; the photo may be too large"));
    request.onload = () => request.status === 201 ? resolve(request.response) : reject(new Error(request.response?.error ?? `the service answered ${request.status}`));
    request.onloadend = () => busy(-1);
    request.send(form);
  });
}

const pictures = (count) => `${count.toLocaleString("en")} picture${count === 1 ? "" : "s"}`;
const picture = (gallery, id) => `api/galleries/${encodeURIComponent(gallery)}/pictures/${id}/thumbnail`;

/* The query -------------------------------------------------------------------------------------------------------- */

function showQuery(sources) {
  const list = $("query-pictures");
  for (const image of list.querySelectorAll("img")) if (image.src.startsWith("blob:")) URL.revokeObjectURL(image.src);
  list.replaceChildren(...sources.map((source, number) => {
    const item = make("li");
    item.append(Object.assign(make("img"), { src: source, alt: `Query ${number + 1}` }));
    return item;
  }));
  $("query").hidden = false;
}

async function queryPhotos(files) {
  const images = [...files];
  if (!images.length) return;
  tell("");
  try {
    const made = await upload(images);
    state.query = made;
    showQuery(images.map((file) => URL.createObjectURL(file)));
    await search(true);
  } catch (error) {
    tell(error.message);
  }
}

async function queryPicture(gallery, id) {
  tell("");
  try {
    state.query = await ask("api/queries/pictures", { ids: [id], gallery });
    showQuery([picture(gallery, id)]);
    scrollTo({ top: 0 });
    await search(true);
  } catch (error) {
    tell(error.message);
  }
}

/* Searching -------------------------------------------------------------------------------------------------------- */

const time = (id) => $(id).value ? `${$(id).value}${$(id).value.length === 16 ? ":00" : ""}Z` : null;
const chosenGalleries = () => $("gallery").value === "*" ? state.galleries.map((g) => g.name) : [$("gallery").value || state.galleries[0].name];

function filters() {
  const cameras = [...$("cameras").querySelectorAll("input:checked")].map((box) => box.value);
  return {
    ...(cameras.length ? { cameras } : {}),
    ...(time("since") ? { since: time("since") } : {}),
    ...(time("until") ? { until: time("until") } : {}),
    ...($("other-cameras").checked ? { other_cameras: true } : {}),
  };
}

async function search(fresh = false) {
  const asked = filters();
  const count = Object.keys(asked).length;
  $("filter-count").textContent = count ? `${count} on` : "";
  if (!state.query) return;
  const run = ++state.run, said = state.said;
  const prior = Number($("people").value) >= 1 ? { prior: 1 / (Number($("people").value) + 1) } : {};
  const options = { ...prior, group: $("group").checked, rerank: $("rerank").checked, k: Number($("k").value) };
  try {
    const names = chosenGalleries();
    const answers = await Promise.all(names.map((gallery) => ask("api/search", { query: state.query.query, gallery, ...asked, ...options })));
    if (run !== state.run) return; /* a newer search overtook this one */
    if (said !== state.said) return await search(fresh); /* it may not know of a mark that was set or taken back since */
    tell(answers.find((answer) => answer.warning)?.warning ?? state.query.warning ?? "");
    show(names, answers);
    if (fresh && narrow.matches) $("status").scrollIntoView();
  } catch (error) {
    if (run === state.run) tell(error.message);
  }
}

function show(names, answers) {
  $("empty").hidden = true;
  $("keys").hidden = false;
  $("results").classList.toggle("many", names.length > 1);
  $("results").replaceChildren(...names.map((name, number) => column(name, answers[number], names.length > 1)));
  $("results").querySelector(".card")?.setAttribute("tabindex", "0");
  const found = answers.reduce((sum, answer) => sum + answer.matches.length, 0);
  const { searched, seconds, exact, recall, prior } = answers[0];
  const before = prior ? `; probabilities start from 1 in ${Math.round(1 / prior).toLocaleString("en")}` : "";
  const how = exact ? "exact" : `approximate${recall ? `, finds ${(100 * recall).toFixed(1)} %` : ""}`;
  $("status").textContent = found
    ? `${answers.map((answer) => answer.matches.length).join(" + ")} of ${pictures(searched)}, ${how}, ${Math.max(1, Math.round(1000 * seconds))} ms${before}`
    : "Nothing passes these filters.";
  const people = prior ? Math.round(1 / prior) - 1 : 0;
  $("prior").hidden = !prior || !found;
  $("prior").textContent = `Before looking, a match was as probable as 1 in ${(people + 1).toLocaleString("en")}: ${people.toLocaleString("en")} ${people === 1 ? "person it could be" : "people it could be"}, or none of them. The cosine says how alike two pictures are, the percentage how probable it is that they show one person.`;
}

function column(name, answer, titled) {
  const part = make("section");
  if (titled) {
    const gallery = state.galleries.find((each) => each.name === name);
    part.append(make("h2", "", name), make("p", "quiet", `${gallery.model.name}, ${gallery.model.height} × ${gallery.model.width}`));
  }
  const list = make("ul", "grid");
  list.append(...answer.matches.map((match) => card(name, match)));
  part.append(list);
  return part;
}

const stamp = (seconds) => seconds === null ? "" : new Date(1000 * seconds).toISOString().slice(0, 19).replace("T", " ");

function card(gallery, match) {
  const item = $("card").content.cloneNode(true).firstElementChild;
  const { record } = match;
  Object.assign(item.dataset, { id: record.id, gallery, score: match.score });
  const image = item.querySelector("img");
  image.src = picture(gallery, record.id);
  image.alt = `Match ${match.rank}${record.camera ? `, camera ${record.camera}` : ""}`;
  item.querySelector(".rank").textContent = match.rank;
  const likely = match.probability !== null;
  item.querySelector(".score b").textContent = likely ? `${(100 * match.probability).toFixed(1)} %` : match.score.toFixed(3);
  item.querySelector(".score b").title = likely ? "probability that it is the same person" : "cosine similarity";
  item.querySelector(".cosine").textContent = likely ? `cosine ${match.score.toFixed(3)}` : "cosine";
  item.querySelector(".same").hidden = !match.same_picture;
  item.querySelector(".score .bar i").style.width = `${100 * Math.max(0, likely ? match.probability : match.score)}%`;
  const more = match.track.length ? ` +${match.track.length}` : "";
  item.querySelector(".where").textContent = [record.camera && `Camera ${record.camera}`, record.track && `track ${record.track}${more}`].filter(Boolean).join(", ") || record.path.split(/[/!]/).pop();
  item.querySelector(".when").textContent = stamp(record.time);
  const said = match.marks.findIndex((mark) => mark !== null);
  setMark(item, match.marks[said] ?? null, match.mark_states?.[said]);
  return item;
}

/* Marks ------------------------------------------------------------------------------------------------------------ */

const STATES = { pending: "waits for a second person", disputed: "two people disagree", confirmed: "confirmed by two" };

function setMark(item, right, state) {
  item.querySelector(".state").textContent = STATES[state] ?? "";
  item.classList.toggle("open", state === "pending" || state === "disputed");
  item.classList.toggle("right", right === true);
  item.classList.toggle("wrong", right === false);
  item.querySelector("[data-act=right]").setAttribute("aria-pressed", right === true);
  item.querySelector("[data-act=wrong]").setAttribute("aria-pressed", right === false);
}

function showMarks({ right, wrong, pending = 0, damaged = 0 }) {
  $("marks-right").textContent = right;
  $("marks-wrong").textContent = wrong;
  $("marks-more").textContent = [pending && `${pending} waiting for a second person`, damaged && `${damaged} marks are damaged and left out`].filter(Boolean).join("; ");
  $("marks").hidden = right + wrong + pending + damaged === 0;
}

async function mark(item, right) {
  const { id: match, gallery } = item.dataset;
  try {
    const counts = await ask("api/marks", { query: state.query.query, match, gallery, right });
    state.said += 1;
    showMarks(counts);
    for (const card of $("results").querySelectorAll(".card")) /* a search may have drawn them anew */
      if (card.dataset.id === match && card.dataset.gallery === gallery) setMark(card, right, counts.state);
  } catch (error) {
    tell(error.message);
  }
}

/* Why these two ---------------------------------------------------------------------------------------------------- */

async function why(item) {
  const { id: match, gallery } = item.dataset;
  const button = item.querySelector("[data-act=why]");
  button.textContent = "Looking…"; // the first time the network has to be loaded
  try {
    const found = await ask("api/why", { query: state.query.query, match, gallery });
    $("why-facts").textContent = `Cosine ${found.similarity.toFixed(3)} between the two pictures. ${item.querySelector(".where").textContent}. ${item.querySelector(".when").textContent}`;
    const levels = make("div", "levels");
    levels.append(...found.levels.map(level));
    $("why-body").replaceChildren(levels, bands(found.bands));
    $("why").showModal();
  } catch (error) {
    tell(error.message);
  } finally {
    button.textContent = "Why";
  }
}

function level({ name, query, match, nothing }) {
  const part = make("div", "level");
  const two = make("div", "two");
  for (const [source, side] of [[query, "query"], [match, "match"]]) {
    const figure = make("figure");
    const text = nothing[side] ? `${side}: ${nothing[side]}` : side;
    figure.append(Object.assign(make("img"), { src: source, alt: `Heat of ${name} over the ${text}` }), make("span", "quiet", text));
    two.append(figure);
  }
  part.append(make("h3", "", `Attention, ${name}`), two);
  return part;
}

function bands(all) {
  const part = make("div");
  const table = make("div", "bands");
  const most = Math.max(0.02, ...all.map((band) => Math.abs(band.loss)));
  for (const { name, loss } of all) {
    const bar = make("span", loss < 0 ? "bar minus" : "bar");
    bar.append(make("i"));
    bar.firstElementChild.style.width = `${(100 * Math.abs(loss)) / most}%`;
    table.append(make("span", "", name), bar, make("output", "", (loss < 0 ? "−" : "+") + Math.abs(loss).toFixed(3)));
  }
  part.append(make("h3", "", "What the likeness hangs on"), table, make("p", "quiet", "How much the cosine falls when that part of the query is painted over. Less than zero: that part speaks against it."));
  return part;
}

/* A picture of the gallery as query -------------------------------------------------------------------------------- */

async function shelf(first) {
  const gallery = chosenGalleries()[0];
  if (first) {
    state.shelfAfter = null;
    $("shelf-pictures").replaceChildren();
  }
  try {
    const after = state.shelfAfter ? `&after=${state.shelfAfter}` : "";
    const records = await ask(`api/galleries/${encodeURIComponent(gallery)}/pictures?limit=60${after}`);
    state.shelfAfter = records.at(-1)?.id ?? state.shelfAfter;
    $("shelf-more").hidden = records.length < 60;
    $("shelf-pictures").append(...records.map((record) => {
      const item = make("li");
      const button = Object.assign(make("button"), { type: "button", title: record.path.split(/[/!]/).pop() });
      button.append(Object.assign(make("img"), { src: picture(gallery, record.id), alt: `Picture${record.camera ? `, camera ${record.camera}` : ""}`, loading: "lazy" }));
      button.addEventListener("click", () => { $("shelf").close(); queryPicture(gallery, record.id); });
      item.append(button);
      return item;
    }));
    if (first) $("shelf").showModal();
  } catch (error) {
    $("shelf").close();
    tell(error.message);
  }
}

/* Runs ------------------------------------------------------------------------------------------------------------- */

const percent = (value) => value === undefined ? "" : (100 * value).toFixed(1);

async function showRuns() {
  try {
    const runs = await ask("api/runs");
    $("runs-none").hidden = runs.length > 0;
    if (!runs.length) return $("runs-table").replaceChildren();
    const table = make("table");
    const head = table.createTHead().insertRow();
    const figures = [...new Set(runs.flatMap(Object.keys))].filter((key) => key !== "name" && key !== "epochs");
    for (const title of ["run", "epochs", ...figures]) head.append(make("th", "", title));
    const body = table.createTBody();
    for (const run of runs) {
      const row = body.insertRow();
      const button = Object.assign(make("button", "", run.name), { type: "button" });
      button.addEventListener("click", () => showRun(run.name));
      row.insertCell().append(button);
      row.insertCell().textContent = run.epochs || "";
      for (const figure of figures) row.insertCell().textContent = percent(run[figure]);
    }
    $("runs-table").replaceChildren(table);
    await showRun(runs[0].name);
  } catch (error) {
    $("runs-none").hidden = false;
    $("runs-none").textContent = error.message;
  }
}

async function showRun(name) {
  const run = await ask(`api/runs/${encodeURIComponent(name)}`);
  const part = make("div", "charts");
  const figures = Object.keys(run.figures).filter((figure) => run.figures[figure].length);
  part.append(
    chart(`${name}: loss`, "step", [["loss", run.loss]], digits),
    chart(`${name}: accuracy in %`, "epoch", figures.map((figure) => [figure, run.figures[figure].map(([x, y]) => [x, 100 * y])]), digits),
  );
  $("run").replaceChildren(part);
}

const digits = (value) => `${Number(value.toPrecision(3))}`;

function chart(title, unit, series, format) {
  const part = make("figure");
  part.style.margin = 0;
  part.append(make("h2", "", title));
  const points = series.flatMap(([, line]) => line);
  if (!points.length) {
    part.append(make("p", "quiet", "Nothing was logged yet."));
    return part;
  }
  const legend = make("p", "legend");
  legend.append(...series.map(([name], number) => make("span", `c${number}`, name)));
  const [width, height, left, bottom] = [Math.min(480, innerWidth - 40), 240, 44, 26];
  const xs = points.map(([x]) => x), ys = points.map(([, y]) => y);
  const [x0, x1, y1] = [Math.min(...xs), Math.max(...xs), Math.max(...ys, 1e-9)];
  const y0 = Math.min(0, ...ys);
  const at = (x, y) => [left + (x1 > x0 ? (x - x0) / (x1 - x0) : 0.5) * (width - left - 8), 8 + (1 - (y - y0) / (y1 - y0)) * (height - bottom - 8)];
  const draw = (tag, attributes, text = "") => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.textContent = text;
    return node;
  };
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}, last ${series.map(([name, line]) => `${name} ${format(line.at(-1)?.[1] ?? 0)}`).join(", ")}` });
  for (const share of [0, 0.5, 1]) {
    const value = y0 + share * (y1 - y0), [, y] = at(x0, value);
    svg.append(draw("line", { class: "axis", x1: left, x2: width - 8, y1: y, y2: y }), draw("text", { x: left - 6, y: y + 4, "text-anchor": "end" }, format(value)));
  }
  if (x1 > x0) svg.append(draw("text", { x: left, y: height - 6 }, `${x0}`));
  svg.append(draw("text", { x: width - 8, y: height - 6, "text-anchor": "end" }, `${unit} ${x1}`));
  series.forEach(([, line], number) => {
    const path = line.map(([x, y], index) => `${index ? "L" : "M"}${at(x, y).map((value) => value.toFixed(1)).join(" ")}`).join("");
    const [x, y] = line.length === 1 ? at(...line[0]) : [];
    svg.append(line.length === 1 ? draw("circle", { class: `c${number}`, cx: x, cy: y, r: 4 }) : draw("path", { class: `c${number}`, d: path }));
  });
  part.append(legend, svg);
  return part;
}

/* Hands ------------------------------------------------------------------------------------------------------------ */

function act(item, what) {
  const pressed = (name) => item.querySelector(`[data-act=${name}]`).getAttribute("aria-pressed") === "true";
  if (!["why", "search"].includes(what) && !may("mark")) return;
  if (what === "why") why(item);
  else if (what === "search") queryPicture(item.dataset.gallery, item.dataset.id);
  else if (what === "undo") mark(item, null);
  else mark(item, pressed(what) ? null : what === "right");
}

$("results").addEventListener("click", (event) => {
  const item = event.target.closest(".card");
  const button = event.target.closest("[data-act]");
  if (button) act(item, button.dataset.act);
  else if (event.target.closest(".shot")) why(item);
});

const KEYS = { Enter: "why", r: "right", w: "wrong", u: "undo", s: "search" };
$("results").addEventListener("keydown", (event) => {
  const item = event.target.closest(".card");
  if (!item || event.ctrlKey || event.metaKey || event.altKey) return;
  const cards = [...$("results").querySelectorAll(".card")];
  const across = getComputedStyle(item.parentElement).gridTemplateColumns.split(" ").length;
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across }[event.key];
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (step) {
    const next = cards[cards.indexOf(item) + step];
    if (next) {
      item.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    }
  } else if (KEYS[key] && !(key === "Enter" && event.target !== item)) act(item, KEYS[key]);
  else return;
  event.preventDefault();
});

/* Before a match has the focus, an arrow key gives it to one; the other keys mean nothing yet. */
document.addEventListener("keydown", (event) => {
  const taken = ".card, dialog, select, textarea, input:not([type=file], [type=checkbox])";
  if (event.defaultPrevented || document.activeElement?.closest(taken) || document.querySelector("dialog[open]")) return;
  if (!event.key.startsWith("Arrow") || event.ctrlKey || event.metaKey || event.altKey || $("page-search").hidden) return;
  const item = $("results").querySelector(".card[tabindex='0']") ?? $("results").querySelector(".card");
  if (!item) return;
  item.focus();
  event.preventDefault();
});

$("photos").addEventListener("change", (event) => { queryPhotos(event.target.files).finally(() => { event.target.value = ""; }); });
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") queryPhotos(event.dataTransfer.files);
  });
}
document.addEventListener("paste", (event) => queryPhotos([...event.clipboardData.files]));

let waiting = 0;
$("filter-form").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(search, 120, false); });
$("filter-form").addEventListener("reset", () => setTimeout(() => { showCameras(); search(); }));
$("filter-form").addEventListener("submit", (event) => event.preventDefault());
$("gallery").addEventListener("change", showCameras);
$("browse").addEventListener("click", () => shelf(true));
$("shelf-more").addEventListener("click", () => shelf(false));
for (const dialog of document.querySelectorAll("dialog")) dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

$("export").addEventListener("click", async (event) => {
  event.preventDefault();
  busy(1);
  try {
    const answer = await fetch("api/marks/export");
    if (!answer.ok) throw new Error((await answer.json()).error);
    const link = Object.assign(make("a"), { href: URL.createObjectURL(await answer.blob()), download: "marks.zip" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  } catch (error) {
    tell(error.message);
  } finally {
    busy(-1);
  }
});
$("forget").addEventListener("click", async () => {
  if (!confirm("Forget all marks and the photos kept with them?")) return;
  const counts = await ask("api/marks", null, "DELETE");
  state.said += 1;
  showMarks(counts);
  for (const item of $("results").querySelectorAll(".card")) setMark(item, null);
});

function turn() {
  const name = location.hash === "#runs" ? "runs" : "search";
  for (const page of document.querySelectorAll(".page")) page.hidden = page.id !== `page-${name}`;
  for (const link of document.querySelectorAll("nav a")) link.dataset.page === name ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  if (name === "runs") showRuns();
}
addEventListener("hashchange", turn);

function showCameras() {
  const counts = {};
  for (const gallery of state.galleries.filter((each) => chosenGalleries().includes(each.name)))
    for (const [name, count] of Object.entries(gallery.cameras)) counts[name] = Math.max(count, counts[name] ?? 0);
  $("cameras").replaceChildren(...Object.entries(counts).map(([name, count]) => {
    const label = Object.assign(make("label", "chip"), { title: pictures(count) });
    label.append(Object.assign(make("input"), { type: "checkbox", value: name }), make("span", "", name));
    return label;
  }));
  $("cameras").parentElement.hidden = !Object.keys(counts).length;
}

/* What a token's role may not do is not there. */
const ROLES = ["watch", "search", "mark", "administer"];
const may = (role) => ROLES.indexOf(state.role) >= ROLES.indexOf(role);
function showRole() {
  for (const root of [document, $("card").content]) for (const part of root.querySelectorAll("[data-needs]")) if (!may(part.dataset.needs)) part.hidden = true;
}

async function start() {
  if (narrow.matches) $("filters").open = false;
  try {
    state.role = (await ask("api/me")).role;
    showRole();
    state.galleries = await ask("api/galleries");
    const option = (value, text) => Object.assign(make("option", "", text), { value });
    $("gallery").replaceChildren(...state.galleries.map(({ name }) => option(name, name)));
    if (state.galleries.length > 1) $("gallery").append(option("*", "side by side"));
    $("gallery-row").hidden = state.galleries.length < 2;
    const priors = state.galleries.map(({ prior }) => prior).filter(Boolean);
    $("people-row").hidden = !priors.length;
    $("people").placeholder = priors.map((prior) => Math.round(1 / prior - 1)).join(", ");
    const first = state.galleries[0];
    $("about").textContent = `${first.name}: ${pictures(first.pictures)}${first.logged ? ", searches are logged" : ""}`;
    showCameras();
    showMarks(await ask("api/marks"));
  } catch (error) {
    tell(error.message);
  }
  turn();
}
start();
