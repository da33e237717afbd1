/** Where market data comes from, and how these sources do. `take` only remembers; `render` draws. */

import { words } from "./format.js";
import { Children, Panel, chip, make, say } from "./dom.js";

const counted = (count, noun) => count && `${count} ${noun}${count === 1 ? "" : "s"}`;

const SOURCE_TONES = { CONNECTED: "good", OK: "good", RECONNECTING: "warn", SUSPECT: "warn", DEGRADED: "warn", DOWN: "bad" };

export class SourcesView extends Panel {
  constructor() {
    super("sources");
    /** @type {Map<string, any>} */
    this.sources = new Map();
    this.rows = new Children(this.section.querySelector(".sources"), () => {
      const name = make("strong");
      const state = make("span", "chip");
      const detail = make("span", "muted detail");
      return { node: make("li", "line", name, detail, state), name, state, detail };
    });
  }

  /** STATUS of a component and SOURCE_STATUS of a market-data source. */
  take({ channel, data, timestamp }) {
    const name = data.source ?? data.component;
    this.sources.set(`${channel} ${name}`, { ...data, name, at: timestamp });
    this.dirty = true;
  }

  render() {
    if (!this.dirty) return;
    this.dirty = false;
    const keys = [...this.sources.keys()].sort();
    let wrong = 0;
    this.rows.arrange(keys).forEach((row, index) => {
      const source = this.sources.get(keys[index]);
      const tone = SOURCE_TONES[source.state] ?? "muted";
      if (tone !== "good") wrong += 1;
      say(row.name, source.name);
      chip(row.state, words(source.state), tone);
      const counts = [counted(source.gap_count, "gap"), counted(source.reconnects, "reconnect")];
      say(row.detail, [source.reason ?? source.detail, ...counts].filter(Boolean).join(" · "));
    });
    this.summary(keys.length, wrong ? `${wrong} of ${keys.length} not well` : `${keys.length} well`);
  }
}
