/** The few things the views do to the page. Rule: a node is written only when what it shows has changed. */

/**
 * @param {string} tag
 * @param {string} [className]
 * @param {...(Node | string)} children
 * @returns {HTMLElement}
 */
export function make(tag, className = "", ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

/** @param {Element} node @param {string} text */
export function say(node, text) {
  if (node.$text === text) return;
  node.$text = text;
  node.textContent = text;
}

/** Set an attribute, or remove it with null. @param {Element} node @param {string} name @param {string | null} value */
export function mark(node, name, value) {
  const known = (node.$marks ??= {});
  if (known[name] === value) return;
  known[name] = value;
  if (value === null) node.removeAttribute(name);
  else node.setAttribute(name, value);
}

/** @param {HTMLElement} node @param {boolean} shown */
export function show(node, shown) {
  if (node.hidden === shown) node.hidden = !shown;
}

/** A word with a colour: the colour never stands alone. @param {Element} node @param {string} text @param {string} tone */
export function chip(node, text, tone) {
  say(node, text);
  mark(node, "data-tone", tone);
}

const SVG = "http://www.w3.org/2000/svg";

/** @param {string} tag @param {Record<string, string>} marks @param {...Node} children @returns {SVGElement} */
export function draw(tag, marks, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(marks)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** A line over time from zero up, for the eye: what it says stands beside it. As wide as its place. */
export class Spark {
  constructor() {
    this.area = draw("polygon", {});
    this.line = draw("polyline", { "vector-effect": "non-scaling-stroke" });
    this.node = draw("svg", { class: "spark", viewBox: "0 0 100 24", preserveAspectRatio: "none", "aria-hidden": "true" }, this.area, this.line);
  }

  /** @param {number[]} values  oldest first */
  draw(values) {
    const most = Math.max(...values, 0) || 1;
    const step = 100 / Math.max(1, values.length - 1);
    const points = values.map((value, index) => `${(index * step).toFixed(1)},${(23 - (22 * value) / most).toFixed(1)}`).join(" ");
    mark(this.line, "points", points);
    mark(this.area, "points", points && `0,24 ${points} 100,24`);
  }
}

/** A progress bar that a screen reader can read. @returns {HTMLProgressElement} */
export function bar(label) {
  const node = /** @type {HTMLProgressElement} */ (make("progress"));
  node.max = 1;
  node.value = 0;
  node.setAttribute("aria-label", label);
  return node;
}

/**
 * Keyed children of one parent: made once per key, moved only when their order changed.
 * @template T
 */
export class Children {
  /**
   * @param {Element} parent
   * @param {(key: string) => T & {node: Element}} create
   */
  constructor(parent, create) {
    this.parent = parent;
    this.create = create;
    /** @type {Map<string, T & {node: Element}>} */
    this.byKey = new Map();
    /** @type {string[]} */
    this.order = [];
  }

  /** Show exactly these keys in this order; returns their rows. @param {string[]} keys */
  arrange(keys) {
    const same = keys.length === this.order.length && keys.every((key, index) => key === this.order[index]);
    if (!same) {
      const wanted = new Set(keys);
      for (const [key, row] of this.byKey) {
        if (wanted.has(key)) continue;
        row.node.remove();
        this.byKey.delete(key);
      }
      let place = this.parent.firstElementChild;
      for (const key of keys) {
        let row = this.byKey.get(key);
        if (!row) this.byKey.set(key, (row = this.create(key)));
        if (row.node === place) place = place.nextElementSibling;
        else this.parent.insertBefore(row.node, place);
      }
      this.order = keys;
    }
    return keys.map((key) => this.byKey.get(key));
  }
}

/** A table row with so many cells. @param {string[]} classes @returns {{node: HTMLElement, cells: HTMLElement[]}} */
export function tableRow(classes) {
  const cells = classes.map((name, index) => {
    const cell = make(index === 0 ? "th" : "td", name);
    if (index === 0) cell.setAttribute("scope", "row");
    return cell;
  });
  return { node: make("tr", "", ...cells), cells };
}

/** The longest texts of some columns, as CSS custom properties: a number must never be cut off to fit its column. */
export class Widths {
  /** @param {HTMLElement} table */
  constructor(table) {
    this.table = table;
    this.known = new Map();
  }

  /** @param {string} name @param {string} text */
  fit(name, text) {
    if (text.length <= (this.known.get(name) ?? 0)) return;
    this.known.set(name, text.length);
    this.table.style.setProperty(`--${name}`, `${text.length}ch`);
  }
}

/** A cell with a number in a column that grows with it. @param {Widths} widths */
export function figure(cell, widths, name, text) {
  widths.fit(name, text);
  say(cell, text);
}

/** Fill a <select> with names that it lacks, and keep what is chosen. @param {HTMLSelectElement} select @param {string[]} names */
export function offer(select, names) {
  const known = new Set([...select.options].map(({ value }) => value));
  for (const name of names) if (!known.has(name)) select.append(new Option(name, name));
}

/** What every panel shares: a count in its title, a line for when there is nothing, and what the page tells it. */
export class Panel {
  /** @param {string} id */
  constructor(id) {
    this.section = document.getElementById(id);
    this.title = this.section.querySelector(".count");
    this.none = this.section.querySelector(".empty");
    this.dirty = true;
  }

  /** The connection is open, for the first time or again, or has got more rights. */
  opened() {}

  /** Channels that this account may read, each time they are listed. @param {string[]} channels */
  heard(channels) {}

  /** Draw what has changed; only while the panel can be seen. @param {{now_ms: number, live: boolean, ticking: boolean}} moment */
  render(moment) {}

  /** The view that the panel is in came up. */
  shown() {}

  /** @param {number} size @param {string} text */
  summary(size, text) {
    show(this.none, size === 0);
    say(this.title, size ? text : "");
  }
}
