// The numbers of a run as columns: fetched decimated, and grown by the lines that are written
// since.

import { get, query } from "./api.js";

const POINTS = 2000;
/** Rows that may come in before the whole is fetched decimated again. */
const GROWN = 3000;

const TABLES = { step: "steps", evaluation: "evaluations", system: "systems" };

/** A line's numbers by column, those by MTP depth and by rank among them. */
function flat(line) {
  const numbers = {};
  for (const [key, value] of Object.entries(line)) {
    if (typeof value === "number" || value === null) numbers[key] = value;
    else if (Array.isArray(value) && (key.endsWith("mtp_losses") || key.startsWith("rank_")))
      value.forEach((each, at) => {
        numbers[`${key}_${at + 1}`] = each;
      });
  }
  return numbers;
}

/** Adds a row to columns; what one of them lacks is null. */
function push(columns, numbers) {
  const length = columns.step?.length ?? 0;
  for (const key of Object.keys(numbers)) columns[key] ??= Array(length).fill(null);
  for (const [key, column] of Object.entries(columns)) column.push(numbers[key] ?? null);
}

/** The columns of one run. */
export class Series {
  constructor(id) {
    this.id = id;
    this.offset = ""; // opaque: where the stream of lines goes on
    this.tables = { steps: {}, evaluations: {}, systems: {} };
    this.decimated = false;
    this.grown = 0;
  }

  /** Fetches all of the run, decimated where it is long. */
  async load() {
    const answer = await get(query(`runs/${this.id}/series`, { points: POINTS }));
    this.tables = {
      steps: answer.steps,
      evaluations: answer.evaluations,
      systems: answer.systems,
    };
    this.offset = answer.offset;
    this.decimated = answer.rows_are === "decimated";
    this.total = answer.total_steps;
    this.grown = 0;
  }

  /**
   * The steps of a range, as close as the server has them; null where nothing closer is to be had.
   */
  async closer(from, to, signal) {
    if (!this.decimated) return null;
    return (
      await get(
        query(`runs/${this.id}/series`, { points: POINTS, from_step: from, to_step: to }),
        signal,
      )
    ).steps;
  }

  /** Fetches what was added from a step on. */
  async more(from) {
    const answer = await get(query(`runs/${this.id}/series`, { points: POINTS, from_step: from }));
    for (const [name, table] of Object.entries(this.tables)) {
      const rows = answer[name];
      for (let at = 0; at < (rows.step?.length ?? 0); at += 1) {
        if (rows.step[at] <= (table.step?.at(-1) ?? 0)) continue;
        push(
          table,
          Object.fromEntries(Object.entries(rows).map(([key, values]) => [key, values[at]])),
        );
      }
    }
    this.grown += answer.steps.step?.length ?? 0;
    if (this.grown > GROWN) await this.load();
  }

  /** Adds lines as they were written; whether it is time to load again. */
  append(lines, offset) {
    for (const line of lines) {
      const table = this.tables[TABLES[line.kind]];
      if (!table) continue;
      const last = table.step?.at(-1) ?? 0;
      if (line.step > last) push(table, flat(line));
      if (line.kind === "step") this.total = (this.total ?? 0) + 1;
    }
    this.offset = offset;
    this.grown += lines.length;
    return this.grown > GROWN;
  }

  /** A column of steps, evaluations or systems; undefined where no row has a number in it. */
  column(table, key) {
    const column = this.tables[table][key];
    return column?.some((value) => value !== null) ? column : undefined;
  }
}
