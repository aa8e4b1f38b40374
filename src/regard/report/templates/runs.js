/* The embedding map: show what is pointed at, on all maps at once. */
const planes = [...document.querySelectorAll(".plane")].map((figure) => {
  const svg = figure.querySelector("svg");
  const dots = [...svg.querySelectorAll("use")].map((element) => {
    element.querySelector("title").remove();
    const { e: x, f: y } = element.transform.baseVal[0].matrix;
    return { x, y, i: Number(element.dataset.i), camera: element.dataset.camera, person: element.parentNode.dataset.person };
  });
  return { figure, svg, dots, plot: figure.querySelector(".plot"), card: figure.querySelector(".card"), ring: svg.querySelector(".ring"), said: figure.querySelector(".said"), at: -1 };
});
const columns = Number(document.querySelector(".planes")?.style.getPropertyValue("--columns"));
function highlight(dot) {
  for (const plane of planes) {
    plane.svg.classList.toggle("picked", dot !== undefined);
    for (const group of plane.svg.querySelectorAll(".person")) group.classList.toggle("on", group.dataset.person === dot?.person);
    const same = plane.dots.find((other) => other.i === dot?.i);
    plane.ring.toggleAttribute("hidden", !same);
    if (same) { plane.ring.setAttribute("cx", same.x); plane.ring.setAttribute("cy", same.y); }
  }
}
function pick(plane, at) {
  for (const other of planes) {
    other.card.hidden = true;
    other.said.textContent = "";
    if (other !== plane) other.at = -1;
  }
  const dot = plane.dots[at];
  plane.at = dot ? at : -1;
  highlight(dot);
  if (!dot) return;
  const { width, height } = plane.svg.viewBox.baseVal;
  const family = plane.dots.filter((other) => other.person === dot.person);
  const style = plane.card.style;
  style.left = `${(100 * dot.x) / width}%`;
  style.top = `${(100 * dot.y) / height}%`;
  style.setProperty("--shift-x", dot.x > width / 2 ? "calc(-100% - 1rem)" : "1rem");
  style.setProperty("--shift-y", dot.y > height / 2 ? "-85%" : "-15%");
  style.setProperty("--c", dot.i % columns);
  style.setProperty("--r", Math.floor(dot.i / columns));
  plane.card.querySelector("b").textContent = `person ${dot.person}`;
  plane.card.querySelector("span").textContent = `camera ${dot.camera}`;
  plane.said.textContent = `person ${dot.person}, camera ${dot.camera}, picture ${family.indexOf(dot) + 1} of ${family.length}`;
  plane.card.hidden = false;
}
function nearest(plane, event) {
  const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(plane.svg.getScreenCTM().inverse());
  let best = -1, least = 45 ** 2;
  plane.dots.forEach((dot, at) => {
    const far = (dot.x - point.x) ** 2 + (dot.y - point.y) ** 2;
    if (far < least) { best = at; least = far; }
  });
  return best;
}
function moved(plane, key) {
  const { dots, at } = plane;
  const people = [...new Set(dots.map((dot) => dot.person))];
  const whose = people.indexOf(dots[at].person);
  const family = dots.flatMap((dot, place) => (dot.person === dots[at].person ? [place] : []));
  const within = family.indexOf(at);
  const first = (person) => dots.findIndex((dot) => dot.person === people[(person + people.length) % people.length]);
  switch (key) {
    case "ArrowRight": return family[(within + 1) % family.length];
    case "ArrowLeft": return family[(within - 1 + family.length) % family.length];
    case "ArrowDown": return first(whose + 1);
    case "ArrowUp": return first(whose - 1);
    case "Home": return 0;
    case "End": return first(people.length - 1);
    case "Escape": return -1;
    default: return undefined;
  }
}
for (const plane of planes) {
  plane.plot.tabIndex = 0;
  plane.plot.setAttribute("role", "application");
  plane.plot.setAttribute("aria-label", `${plane.svg.getAttribute("aria-label")}. Arrow keys move from picture to picture.`);
  const point = (event) => {
    const at = nearest(plane, event);
    if (at !== plane.at) pick(plane, at);
  };
  plane.plot.addEventListener("pointermove", point);
  plane.plot.addEventListener("pointerdown", point);
  plane.plot.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse" && document.activeElement !== plane.plot) pick(plane, -1); });
  plane.plot.addEventListener("focus", () => { if (plane.at < 0 && plane.plot.matches(":focus-visible")) pick(plane, 0); });
  plane.plot.addEventListener("blur", () => pick(plane, -1));
  plane.plot.addEventListener("keydown", (event) => press(plane, event));
}
function press(plane, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const at = plane.at < 0 && event.key.startsWith("Arrow") ? 0 : plane.at < 0 ? undefined : moved(plane, event.key);
  if (at === undefined) return;
  event.preventDefault();
  plane.plot.focus({ preventScroll: true });
  pick(plane, at);
}
/* Before a map has the focus: keys move from what is pointed at, or begin, left or right, at the map in view. */
function inView({ plot }) {
  const { top, bottom, height } = plot.getBoundingClientRect();
  return Math.min(bottom, innerHeight) - Math.max(top, 0) >= Math.min(height, innerHeight) / 2;
}
document.addEventListener("keydown", (event) => {
  if (!(document.activeElement ?? document.body).matches("body, a, button")) return;
  const sideways = event.key === "ArrowLeft" || event.key === "ArrowRight";
  const plane = planes.find(({ at }) => at >= 0) ?? (sideways ? planes.find(inView) : undefined);
  if (plane) press(plane, event);
});
