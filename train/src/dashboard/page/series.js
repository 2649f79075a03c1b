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

/**
 * Adds a row to columns, unless its step is there; what one of them lacks is null. Whether it was
 * added.
 */
function push(columns, numbers) {
  if (!(numbers.step > (columns.step?.at(-1) ?? 0))) return false;
  const length = columns.step?.length ?? 0;
  for (const key of Object.keys(numbers)) columns[key] ??= Array(length).fill(null);
  for (const [key, column] of Object.entries(columns)) column.push(numbers[key] ?? null);
  return true;
}

/**
 * Those of some lines of a kind that are not known yet: what was fetched comes by the stream, too,
 * if it was written just then.
 */
export function unknown(lines, kind, known) {
  const fresh = lines.filter((line) => line.kind === kind);
  if (!fresh.length) return fresh;
  const text = (line) => JSON.stringify(Object.entries(line).sort());
  const before = new Set(known.map(text));
  return fresh.filter((line) => !before.has(text(line)));
}

/** The columns of one run. */
export class Series {
  constructor(id) {
    this.id = id;
    this.offset = ""; // opaque: where the stream of lines goes on
    this.tables = { steps: {}, evaluations: {}, systems: {} };
    this.decimated = false;
    this.grown = 0;
    this.since = null; // lines that were added while all of the run is being fetched
  }

  /** Fetches all of the run, decimated where it is long. */
  async load() {
    const answer = await this.thin();
    if (answer) this.offset = answer.offset;
  }

  /**
   * Fetches all of it anew, decimated, while the stream goes on where it is: lines that come in the
   * meantime are kept. Gives the answer, or null where a later call has overtaken this one.
   */
  async thin() {
    const since = [];
    this.since = since;
    try {
      const answer = await get(query(`runs/${this.id}/series`, { points: POINTS }));
      if (this.since !== since) return null;
      this.tables = {
        steps: answer.steps,
        evaluations: answer.evaluations,
        systems: answer.systems,
      };
      this.decimated = answer.rows_are === "decimated";
      this.total = answer.total_steps;
      this.grown = 0;
      for (const line of since) this.take(line);
      return answer;
    } finally {
      if (this.since === since) this.since = null;
    }
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

  /** Fetches what was added from a step on, that step's own lines among it. */
  async more(from) {
    const answer = await get(query(`runs/${this.id}/series`, { points: POINTS, from_step: from }));
    for (const [name, table] of Object.entries(this.tables)) {
      const rows = answer[name];
      for (let at = 0; at < (rows.step?.length ?? 0); at += 1) {
        const row = Object.entries(rows).map(([key, values]) => [key, values[at]]);
        if (push(table, Object.fromEntries(row))) this.grown += 1;
      }
    }
    if (this.grown > GROWN) await this.load();
  }

  /** Adds lines as they were written; whether it is time to thin them out. */
  append(lines, offset) {
    for (const line of lines) this.take(line);
    this.since?.push(...lines);
    this.offset = offset;
    return !this.since && this.grown > GROWN;
  }

  /** Adds a line, unless it is there or no row of a table. */
  take(line) {
    const table = this.tables[TABLES[line.kind]];
    if (!table || !push(table, flat(line))) return;
    this.grown += 1;
    if (line.kind === "step") this.total = (this.total ?? 0) + 1;
  }

  /** A column of steps, evaluations or systems; undefined where no row has a number in it. */
  column(table, key) {
    const column = this.tables[table][key];
    return column?.some((value) => value !== null) ? column : undefined;
  }
}
