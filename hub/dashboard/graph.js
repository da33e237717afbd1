/** Where the tasks of a project stand on paper. Pure: tasks in, places out. */

const FINISHED = new Set(["COMPLETED", "CANCELED", "FAILED", "REJECTED"]);
const SWEEPS = 4;

/**
 * The tasks to draw: those that are not finished and all that hang together with them; where all is finished, the
 * newest such heap. At most so many, the unfinished first.
 * @template {{task_id: string, depends_on?: string[], state?: string, at?: number}} Task
 * @param {Task[]} tasks @param {number} most
 * @returns {Task[]}
 */
export function relevant(tasks, most) {
  const heap = new Map(tasks.map(({ task_id }) => [task_id, task_id])); // task -> another one of its heap, or itself
  const root = (id) => {
    while (heap.get(id) !== id) {
      heap.set(id, heap.get(heap.get(id)));
      id = heap.get(id);
    }
    return id;
  };
  for (const { task_id, depends_on = [] } of tasks) {
    for (const before of depends_on) if (heap.has(before)) heap.set(root(before), root(task_id));
  }
  const open = tasks.filter(({ state }) => !FINISHED.has(state));
  const newest = tasks.reduce((last, task) => (!last || (task.at ?? 0) > (last.at ?? 0) ? task : last), null);
  const roots = new Set((open.length || !newest ? open : [newest]).map(({ task_id }) => root(task_id)));
  const found = tasks.filter(({ task_id }) => roots.has(root(task_id)));
  if (found.length <= most) return found;
  return found.sort((a, b) => FINISHED.has(a.state) - FINISHED.has(b.state) || (b.at ?? 0) - (a.at ?? 0)).slice(0, most);
}

/**
 * Layers from left to right: a task stands right of all it waits for, and near the middle of these.
 * @param {{task_id: string, depends_on?: string[]}[]} tasks
 * @returns {{places: Map<string, {layer: number, row: number}>, edges: [string, string][], layers: number, rows: number}}
 *   rows may be fractions: a layer with fewer tasks is centred. A circle, which the hub would refuse, ends in one layer.
 */
export function layered(tasks) {
  const before = new Map(tasks.map(({ task_id }) => [task_id, []]));
  const after = new Map(tasks.map(({ task_id }) => [task_id, []]));
  const edges = [];
  for (const { task_id, depends_on = [] } of tasks) {
    for (const each of new Set(depends_on)) {
      if (!before.has(each) || each === task_id) continue;
      before.get(task_id).push(each);
      after.get(each).push(task_id);
      edges.push([each, task_id]);
    }
  }
  const layers = layersOf(before, after);
  const row = new Map();
  const place = (layer) => layer.forEach((id, index) => row.set(id, index - (layer.length - 1) / 2));
  layers.forEach(place);
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const neighbours = sweep % 2 ? after : before;
    for (const layer of sweep % 2 ? layers.toReversed() : layers) {
      const wanted = new Map(layer.map((id) => [id, mean(neighbours.get(id).map((each) => row.get(each)), row.get(id))]));
      layer.sort((a, b) => wanted.get(a) - wanted.get(b));
      place(layer);
    }
  }
  const rows = Math.max(0, ...layers.map((layer) => layer.length));
  const places = new Map();
  layers.forEach((layer, number) => layer.forEach((id) => places.set(id, { layer: number, row: row.get(id) + (rows - 1) / 2 })));
  return { places, edges, layers: layers.length, rows };
}

/** By the longest way from a beginning. @returns {string[][]} */
function layersOf(before, after) {
  const missing = new Map([...before].map(([id, all]) => [id, all.length]));
  const layers = [];
  let layer = [...missing.keys()].filter((id) => !missing.get(id));
  while (layer.length) {
    layers.push(layer);
    const next = [];
    for (const id of layer) {
      missing.delete(id);
      for (const each of after.get(id)) {
        missing.set(each, missing.get(each) - 1);
        if (!missing.get(each)) next.push(each);
      }
    }
    layer = next;
  }
  if (missing.size) layers.push([...missing.keys()]);
  return layers;
}

const mean = (values, otherwise) => (values.length ? values.reduce((sum, each) => sum + each, 0) / values.length : otherwise);
