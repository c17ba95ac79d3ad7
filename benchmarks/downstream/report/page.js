"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const VIEWS = { original: "original", jpeg: "JPEG", restored: "restored" };
  const PAIRS = [["jpeg", "restored"], ["original", "restored"], ["original", "jpeg"]];

  /** A new element with attributes and children; texts are never read as HTML. */
  function make(name, attributes = {}, ...children) {
    const element = SVGS.has(name) ? document.createElementNS(SVG, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }
  const SVGS = new Set(["svg", "g", "image", "rect", "text"]);

  // ---- tabs: arrow keys, Home and End move and select; only the selected one is a stop of the Tab key
  const list = document.querySelector("[role=tablist]");
  const tabs = [...list.querySelectorAll("[role=tab]")];
  const panels = tabs.map((tab) => document.getElementById(tab.getAttribute("aria-controls")));
  function select(chosen, focus) {
    tabs.forEach((tab, index) => {
      tab.setAttribute("aria-selected", String(index === chosen));
      tab.tabIndex = index === chosen ? 0 : -1;
      panels[index].hidden = index !== chosen;
    });
    if (focus) tabs[chosen].focus();
    panels[chosen].querySelectorAll(".gallery").forEach(openGallery);
  }
  tabs.forEach((tab, index) => {
    tab.addEventListener("click", () => select(index, false));
    tab.addEventListener("keydown", (event) => {
      const last = tabs.length - 1;
      const goal = { ArrowRight: index < last ? index + 1 : 0, ArrowLeft: index ? index - 1 : last, Home: 0, End: last }[event.key];
      if (goal === undefined) return;
      event.preventDefault();
      select(goal, true);
    });
  });

  // ---- tooltips of charts: pointer, touch, and arrow keys on a focused chart
  const tip = document.getElementById("tip");
  let current = null;
  function show(point) {
    if (current) current.classList.remove("current");
    current = point;
    tip.hidden = !point;
    if (!point) return;
    point.classList.add("current");
    tip.textContent = point.dataset.tip;
    const mark = (point.querySelector(".mark") || point).getBoundingClientRect();
    const own = tip.getBoundingClientRect();
    const left = Math.max(4, Math.min(mark.left + mark.width / 2 - own.width / 2, document.documentElement.clientWidth - own.width - 4));
    tip.style.left = `${left}px`;
    tip.style.top = `${mark.top - own.height - 8 > 0 ? mark.top - own.height - 8 : mark.bottom + 8}px`;
  }
  document.querySelectorAll(".chart").forEach((chart) => {
    const points = [...chart.querySelectorAll(".point")];
    points.forEach((point) => {
      point.querySelectorAll("title").forEach((title) => title.remove()); // else the browser shows a second tooltip
      point.addEventListener("pointerenter", () => show(point));
      point.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && show(null));
    });
    chart.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (event.key === "Escape") show(null);
      if (!step || !points.length) return;
      event.preventDefault();
      const at = points.indexOf(current);
      show(points[at < 0 ? (step > 0 ? 0 : points.length - 1) : (at + step + points.length) % points.length]);
    });
    chart.addEventListener("blur", () => show(null));
  });
  // A tip of the keyboard moves along, since focusing a chart may scroll; the pointer's is left behind.
  const follow = () => show(current && current.closest(".chart") === document.activeElement ? current : null);
  window.addEventListener("scroll", follow, { passive: true });

  // ---- tables of classes: a click on a heading sorts
  document.querySelectorAll(".sortable").forEach((table) => {
    const heads = [...table.tHead.rows[0].querySelectorAll("th")];
    heads.forEach((head, column) => {
      const button = make("button", { type: "button" }, head.textContent);
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") !== "descending" : column > 0;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const value = (row) => {
          const text = row.cells[column].textContent.trim();
          const figure = text === "–" ? -Infinity : Number(text.replace("−", "-"));
          return column ? figure : text;
        };
        const order = (a, b) => (column ? value(a) - value(b) : value(a).localeCompare(value(b)));
        const rows = [...table.tBodies[0].rows].sort((a, b) => (down ? -order(a, b) : order(a, b)));
        table.tBodies[0].append(...rows);
      });
    });
  });

  // ---- gallery
  const source = document.getElementById("gallery-data");
  const data = source ? JSON.parse(source.textContent) : null;

  /** One view of an entry, whole or cut to `crop`, with what is to be drawn over it. */
  function picture(entry, view, crop, over, label) {
    const [width, height] = entry.size;
    const [x, y, wide, high] = crop || [0, 0, width, height];
    const svg = make("svg", { viewBox: `${x} ${y} ${wide} ${high}`, role: "img", "aria-label": label });
    svg.append(make("image", { href: data.pictures[entry.shown[view]], x: 0, y: 0, width, height }));
    if (!entry.predictions) {
      const mask = over.truth ? "mask truth" : over.predictions ? `mask ${view}` : null;
      if (mask) svg.append(make("image", { href: data.pictures[entry.shown[mask]], x: 0, y: 0, width, height, class: "mask" }));
      return svg;
    }
    const size = crop ? wide / 12 : Math.max(wide / 34, 4); // crops are shown a third as wide
    const boxes = over.truth ? entry.truth.map((box) => [box, "truth", box.label]) : [];
    if (over.predictions) {
      for (const box of entry.predictions[view]) {
        boxes.push([box, box.right ? "right" : "wrong", `${box.label} ${Math.round(100 * box.score)}`]);
      }
    }
    for (const [{ box: [left, top, right, bottom] }, kind, text] of boxes) {
      const place = { x: left, y: top, width: Math.max(0, right - left), height: Math.max(0, bottom - top) };
      const within = Math.max(left, x) < Math.min(right, x + wide) && Math.max(top, y) < Math.min(bottom, y + high);
      if (!within) continue;
      svg.append(make("rect", { ...place, class: "box halo" }), make("rect", { ...place, class: `box ${kind}` }));
      const line = kind === "truth" ? Math.min(bottom - size * 0.3, y + high - size * 0.3) : Math.max(top + size, y + size);
      svg.append(make("text", { x: Math.max(left, x) + size * 0.25, y: line, "font-size": size, class: `tag ${kind}` }, text));
    }
    return svg;
  }

  function scoreText(score) {
    return score === null ? "no score" : score.toFixed(1);
  }

  function card(entry, pair, over) {
    const [left, right] = pair;
    const describe = (view) => `${VIEWS[view]} of ${entry.image}`;
    const stage = make("div", { class: "stage" }, picture(entry, right, null, over, describe(right)));
    const before = picture(entry, left, null, over, describe(left));
    before.classList.add("before");
    stage.append(before, make("span", { class: "side left" }, VIEWS[left]), make("span", { class: "side right" }, VIEWS[right]));
    stage.append(make("div", { class: "divider" }));
    const slider = make("input", {
      type: "range", min: 0, max: 100, value: 50, step: 1, class: "slider",
      "aria-label": `Divider between ${VIEWS[left]} on the left and ${VIEWS[right]} on the right, ${entry.image}`,
    });
    const move = () => {
      stage.style.setProperty("--at", `${slider.value}%`);
      slider.setAttribute("aria-valuetext", `${slider.value} % ${VIEWS[left]}`);
    };
    slider.addEventListener("input", move);
    move();
    const follow = (event) => {
      const area = stage.getBoundingClientRect();
      slider.value = Math.round((100 * (event.clientX - area.left)) / area.width);
      move();
    };
    stage.addEventListener("pointerdown", (event) => {
      stage.setPointerCapture(event.pointerId);
      follow(event);
    });
    stage.addEventListener("pointermove", (event) => event.buttons && follow(event));
    const crops = make("div", { class: "crops" });
    for (const view of Object.keys(VIEWS)) {
      const caption = make("figcaption", {}, make("b", {}, VIEWS[view]), `image score ${scoreText(entry.scores[view])}`);
      crops.append(make("figure", {}, picture(entry, view, entry.crop, over, `Detail: ${describe(view)}`), caption));
    }
    const { jpeg, restored } = entry.scores;
    const change = jpeg === null || restored === null ? "" : `, ${restored - jpeg >= 0 ? "+" : "−"}${Math.abs(restored - jpeg).toFixed(1)}`;
    return make("article", { class: "card" }, make("h5", {}, `${entry.image}${change}`), stage, slider, crops);
  }

  function chooser(name, label, options, changed) {
    const box = make("select", { name });
    options.forEach(([value, text]) => box.append(make("option", { value }, text)));
    box.addEventListener("change", changed);
    return [make("label", {}, label, box), box];
  }

  function ticker(name, label, on, changed) {
    const box = make("input", { type: "checkbox", name });
    box.checked = on;
    box.addEventListener("change", changed);
    return [make("label", {}, box, label), box];
  }

  function key(entry) {
    if (entry.predictions) {
      const swatch = (kind) => make("svg", { viewBox: "0 0 22 12", "aria-hidden": "true" }, make("rect", { x: 3, y: 2, width: 16, height: 8, class: `box ${kind}` }));
      return make("p", { class: "key" },
        make("span", {}, swatch("right"), "agrees with the truth (same class, IoU 0.5 or more)"),
        make("span", {}, swatch("wrong"), "agrees with none"), make("span", {}, swatch("truth"), "truth"));
    }
    const names = Object.entries(entry.classes).map(([name, colour]) => {
      const patch = make("rect", { width: 22, height: 12, fill: `rgb(${colour.join(",")})` });
      return make("span", {}, make("svg", { viewBox: "0 0 22 12", "aria-hidden": "true" }, patch), name);
    });
    return make("p", { class: "key" }, ...names);
  }

  function openGallery(gallery) {
    if (gallery.dataset.open) return;
    gallery.dataset.open = "yes";
    const entries = data.panels[gallery.dataset.panel].entries;
    const different = (of) => [...new Set(entries.map(of))];
    const cards = make("div", { class: "cards" });
    const draw = () => {
      const over = { truth: truth.checked, predictions: predictions.checked };
      const wanted = entries.filter((one) => one.restorer === restorer.value && String(one.qf) === quality.value && one.kind === kind.value);
      const positions = [...cards.querySelectorAll(".slider")].map((slider) => slider.value);
      cards.replaceChildren(...wanted.map((one) => card(one, PAIRS[pair.value], over)));
      if (kept === wanted.map((one) => one.image).join()) {
        cards.querySelectorAll(".slider").forEach((slider, index) => {
          slider.value = positions[index];
          slider.dispatchEvent(new Event("input"));
        });
      }
      kept = wanted.map((one) => one.image).join();
      if (!wanted.length) cards.append(make("p", { class: "note" }, "No image of this kind."));
    };
    let kept = null;
    const [kindLabel, kind] = chooser("kind", "Show", [["gain", "largest gain"], ["harm", "largest harm"]], draw);
    const [restorerLabel, restorer] = chooser("restorer", "Restorer", different((one) => one.restorer).map((name) => [name, name]), draw);
    const [qualityLabel, quality] = chooser("qf", "QF", different((one) => one.qf).sort((a, b) => a - b).map((qf) => [qf, qf]), draw);
    const [pairLabel, pair] = chooser("pair", "Compare", PAIRS.map(([a, b], index) => [index, `${VIEWS[a]} | ${VIEWS[b]}`]), draw);
    const masks = entries.length && !entries[0].predictions;
    const [predictionsLabel, predictions] = ticker("predictions", masks ? "Predicted masks" : "Detections", true, draw);
    const [truthLabel, truth] = ticker("truth", masks ? "Truth instead" : "Truth", false, draw);
    gallery.replaceChildren(
      make("div", { class: "controls" }, kindLabel, qualityLabel, restorerLabel, pairLabel, predictionsLabel, truthLabel),
      ...(entries.length ? [key(entries[0])] : []), cards);
    draw();
  }

  document.documentElement.classList.add("scripted");
  list.hidden = false;
  select(0, false);
})();
